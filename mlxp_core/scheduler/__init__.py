"""The schedulers, by name. A new one is a file, and a name in this tuple."""

from mlxp_core.scheduler._base import Scheduler
from mlxp_core.scheduler.local import LOCAL
from mlxp_core.scheduler.slurm import SLURM

__all__ = ["SCHEDULERS", "Scheduler"]

SCHEDULERS: dict[str, Scheduler] = {scheduler.name: scheduler for scheduler in (LOCAL, SLURM)}

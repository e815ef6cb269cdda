"""The schedulers, by name. A new one is a file, a name in this tuple, and its recorded answers (tests/recorded)."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

from mlxp_core.errors import ConfigurationError

if TYPE_CHECKING:
    from mlxp_core.scheduler.base import Scheduler

# names only: every Hydra program of the environment imports this to register the launchers, few submit anything
SCHEDULERS = ("local", "slurm", "oar", "torque", "pbs", "sge", "mwm", "lsf", "flux")


@cache
def load_scheduler(name: str) -> Scheduler:
    """Give the scheduler of a name. Raises ConfigurationError for one that is not known."""
    if name not in SCHEDULERS:
        raise ConfigurationError(f"there is no scheduler {name!r}: the known ones are {', '.join(SCHEDULERS)}")
    scheduler: Scheduler = getattr(import_module(f"{__name__}.dialects.{name}"), name.upper())
    return scheduler

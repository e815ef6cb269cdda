"""The launchers ``hydra/launcher=mlxp_*``: one door for all schedulers, behind which others do the work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from hydra.errors import CompactHydraException
from hydra.plugins.launcher import Launcher
from omegaconf import OmegaConf

from hydra_plugins.mlxp.config import LauncherConf
from mlxp_core.errors import MlxpError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hydra.core.utils import JobReturn
    from hydra.types import HydraContext, TaskFunction
    from omegaconf import DictConfig

    from mlxp_core.snapshot import Code


class MlxpLauncher(Launcher):
    """Turns each job of a multirun into a job of the user's scheduler."""

    config: DictConfig
    hydra_context: HydraContext
    task_function: TaskFunction

    def __init__(self, **options: Any) -> None:
        """Take the fields of LauncherConf. Raises OmegaConf's ValidationError for a value of another type."""
        checked = OmegaConf.merge(OmegaConf.structured(LauncherConf), options)
        self.options = cast("LauncherConf", OmegaConf.to_object(checked))
        self.code: Code | None = None  # taken once: all batches of a sweep run the same

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what Hydra gives."""
        self.config = config
        self.hydra_context = hydra_context
        self.task_function = task_function

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Submit a batch."""
        from . import _launch  # noqa: PLC0415

        try:
            return _launch.launch(self, job_overrides, initial_job_idx)
        except (MlxpError, OSError) as error:
            # Hydra shows the message of its own exceptions, and a stack trace of any other
            raise CompactHydraException(f"{type(error).__name__}: {error}") from error

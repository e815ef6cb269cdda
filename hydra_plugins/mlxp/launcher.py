"""The launchers ``hydra/launcher=mlxp_*``: one door for all schedulers, behind which others do the work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hydra.errors import CompactHydraException
from hydra.plugins.launcher import Launcher

from mlxp_core.errors import MlxpError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hydra.core.utils import JobReturn
    from hydra.types import HydraContext, TaskFunction
    from omegaconf import DictConfig

    from hydra_plugins.mlxp._context import LaunchContext


class MlxpLauncher(Launcher):
    """Turns each job of a multirun into a job of the user's scheduler."""

    context: LaunchContext
    mains = 0  # main functions of this program that have come to a launch

    def __init__(self, **options: Any) -> None:
        """Take the fields of LauncherConf; their types are checked at the launch."""
        self._given = options

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what Hydra gives."""
        from ._composer import CachingLoader, Composer  # noqa: PLC0415
        from ._context import LaunchContext  # noqa: PLC0415
        from ._mlxpsub_state import is_job_variable  # noqa: PLC0415
        from ._omegaconf import restore_deferred  # noqa: PLC0415

        restore_deferred(config, "hydra.launcher")
        loader = hydra_context.config_loader
        if isinstance(loader, CachingLoader):
            loader = loader.original
        composer = Composer(loader, config, is_job_variable)
        # sweepers compose every job before it is launched, by this very object
        hydra_context.config_loader = CachingLoader(loader, composer, config)  # type: ignore[assignment]
        MlxpLauncher.mains += 1
        self.context = LaunchContext(config, hydra_context, task_function, composer, MlxpLauncher.mains, self._given)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Submit a batch."""
        from . import _launch  # noqa: PLC0415

        try:
            return _launch.launch(self.context, job_overrides, initial_job_idx)
        except (MlxpError, OSError) as error:
            # Hydra shows the message of its own exceptions, and a stack trace of any other
            raise CompactHydraException(f"{type(error).__name__}: {error}") from error

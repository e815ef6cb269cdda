"""The sweeper ``hydra/sweeper=mlxp``: a door, behind which others do the work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hydra.errors import CompactHydraException
from hydra.plugins.sweeper import Sweeper

from hydra_plugins.mlxp.config import SweeperConf
from mlxp_core.errors import MlxpError

if TYPE_CHECKING:
    from hydra.plugins.launcher import Launcher
    from hydra.types import HydraContext, TaskFunction
    from omegaconf import DictConfig


class MlxpSweeper(Sweeper):
    """Multiplies, walks together, samples and completes what is swept."""

    config: DictConfig
    hydra_context: HydraContext
    task_function: TaskFunction
    launcher: Launcher

    def __init__(self, **options: Any) -> None:
        """Take the fields of SweeperConf; their types are checked at the sweep."""
        self._given = options

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what Hydra gives, and make the launcher."""
        from hydra.core.plugins import Plugins  # noqa: PLC0415

        self.config = config
        self.hydra_context = hydra_context
        self.task_function = task_function
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Run the jobs of a command line."""
        from ._options import checked  # noqa: PLC0415
        from ._sweep import sweep  # noqa: PLC0415

        try:
            options = checked(SweeperConf, self._given, "hydra.sweeper")
            return sweep(
                self.config,
                options,
                self.launcher,
                hydra_context=self.hydra_context,
                task_function=self.task_function,
                arguments=arguments,
            )
        except (MlxpError, OSError) as error:
            if isinstance(error, CompactHydraException):
                raise
            # Hydra shows the message of its own exceptions, and a stack trace of any other
            raise CompactHydraException(f"{type(error).__name__}: {error}") from error

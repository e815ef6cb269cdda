"""The sweeper ``hydra/sweeper=mlxp``: a door, behind which others do the work."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from hydra.errors import CompactHydraException
from hydra.plugins.sweeper import Sweeper
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hydra_plugins.mlxp.config import SweeperConf
from mlxp_core.errors import ConfigurationError, MlxpError

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

    @cached_property
    def options(self) -> SweeperConf:
        """The options. Raises ConfigurationError for a value of another type than its field's."""
        try:
            checked = OmegaConf.merge(OmegaConf.structured(SweeperConf), self._given)
            return cast("SweeperConf", OmegaConf.to_object(checked))
        except OmegaConfBaseException as error:
            key = (error.full_key or "?").split(".", 1)[0]
            raise ConfigurationError(
                f"hydra.sweeper.{key}={self._given.get(key)}: {str(error.msg).splitlines()[0]}"
            ) from error

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
        from . import _sweep  # noqa: PLC0415

        try:
            return _sweep.sweep(self, arguments)
        except (MlxpError, OSError) as error:
            if isinstance(error, CompactHydraException):
                raise
            # Hydra shows the message of its own exceptions, and a stack trace of any other
            raise CompactHydraException(f"{type(error).__name__}: {error}") from error

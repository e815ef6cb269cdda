"""The launchers ``hydra/launcher=mlxp_*``: one door for all schedulers, behind which others do the work."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from hydra.errors import CompactHydraException
from hydra.plugins.launcher import Launcher
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hydra_plugins.mlxp.config import LauncherConf
from mlxp_core.errors import ConfigurationError, MlxpError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hydra.core.utils import JobReturn
    from hydra.types import HydraContext, TaskFunction
    from omegaconf import DictConfig

    from hydra_plugins.mlxp._command_line import Program
    from hydra_plugins.mlxp._composer import Composer
    from hydra_plugins.mlxp._payload import PickledTask
    from mlxp_core.versioning.snapshot import CodeVersion, FrozenCode


class MlxpLauncher(Launcher):
    """Turns each job of a multirun into a job of the user's scheduler."""

    config: DictConfig
    hydra_context: HydraContext
    task_function: TaskFunction
    composer: Composer
    mains = 0  # main functions of this program that have come to a launch
    main: int  # which of them this is

    def __init__(self, **options: Any) -> None:
        """Take the fields of LauncherConf; their types are checked at the launch."""
        self._given = options
        self.code: FrozenCode | None = None  # taken once: all batches of a sweep run the same
        self.version: CodeVersion | None = None
        self.program: Program | PickledTask | None = None

    @cached_property
    def options(self) -> LauncherConf:
        """The options. Raises ConfigurationError for a value of another type than its field's."""
        try:
            checked = OmegaConf.merge(OmegaConf.structured(LauncherConf), self._given)
        except OmegaConfBaseException as error:
            key = error.full_key or "?"
            raise ConfigurationError(f"hydra.launcher.{key}={self._given.get(key)}: {error.msg}") from error
        return cast("LauncherConf", OmegaConf.to_object(checked))

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what Hydra gives."""
        from ._composer import CachingLoader, Composer  # noqa: PLC0415
        from ._omegaconf import restore_deferred  # noqa: PLC0415

        restore_deferred(config, "hydra.launcher")
        loader = hydra_context.config_loader
        if isinstance(loader, CachingLoader):
            loader = loader.hydras
        self.composer = Composer(loader, config)
        # sweepers compose every job before it is launched, by this very object
        hydra_context.config_loader = CachingLoader(loader, self.composer, config)  # type: ignore[assignment]
        self.config = config
        self.hydra_context = hydra_context
        self.task_function = task_function
        MlxpLauncher.mains += 1
        self.main = MlxpLauncher.mains

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Submit a batch."""
        from . import _launch  # noqa: PLC0415

        try:
            return _launch.launch(self, job_overrides, initial_job_idx)
        except (MlxpError, OSError) as error:
            # Hydra shows the message of its own exceptions, and a stack trace of any other
            raise CompactHydraException(f"{type(error).__name__}: {error}") from error

"""The facts that the parts of a launch share: the options, the program, and the code that its jobs run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from hydra_plugins.mlxp import _omegaconf
from hydra_plugins.mlxp._command_line import Program, find_program, is_console_script
from hydra_plugins.mlxp._composer import Composer
from hydra_plugins.mlxp._options import checked
from hydra_plugins.mlxp._payload import PickledTask
from hydra_plugins.mlxp._task_function import program_file
from hydra_plugins.mlxp.config import LauncherConf
from mlxp_core.runs.code_version import CodeVersion
from mlxp_core.versioning.snapshot import FrozenCode, WorkTreeVersion


@dataclass(frozen=True)
class JobCode:
    """The code that jobs run."""

    copy: FrozenCode | None  # None: they run the files in place
    version: WorkTreeVersion | None  # None: not known
    source: Path | None = None  # folder of the copy whose packages are to be imported, and not those that are installed

    @property
    def commit(self) -> str | None:
        """The commit that jobs run for certain; None where files may change before they start."""
        return self.copy.version.commit if self.copy else None

    def map_path(self, path: Path) -> Path:
        """The place of a path of the work tree in the code that the jobs run."""
        return self.copy.map_path(path) if self.copy else path

    @property
    def recorded(self) -> CodeVersion:
        """The version as info.yaml records it."""
        known = self.copy or self.version
        return known.recorded if known else CodeVersion()


@dataclass
class LaunchContext:
    """All that the launches of one multirun have in common. What is costly is made when it is first asked for."""

    config: DictConfig
    hydra_context: HydraContext
    task_function: TaskFunction
    composer: Composer
    main: int  # which of this program's main functions it is, from 1
    given: Mapping[str, Any]  # the options as Hydra gives them
    code: JobCode | None = None  # frozen once: all batches of a sweep run the same

    @cached_property
    def options(self) -> LauncherConf:
        """The options of the launcher. Raises ConfigurationError for a value of another type than its field's."""
        return checked(LauncherConf, self.given, "hydra.launcher")

    @cached_property
    def program(self) -> Program | PickledTask:
        """The program that jobs run: the command line of this one, or its task function."""
        given = [*_omegaconf.overrides(self.config, "hydra"), *_omegaconf.overrides(self.config, "task")]
        program = find_program(given)
        if program is None:
            return PickledTask(self.task_function, self.hydra_context, self.launch_dir)
        if program.module is None and is_console_script(program.file):
            return replace(program, main_file=program_file(self.task_function, self.launch_dir))
        return program

    @property
    def launch_dir(self) -> Path:
        """The directory of the launch."""
        return Path(self.config.hydra.runtime.cwd)

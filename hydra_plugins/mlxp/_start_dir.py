"""The directory in which jobs start, and the command by which they find their code from there."""

from __future__ import annotations

import enum
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from hydra_plugins.mlxp._command_line import Program
from hydra_plugins.mlxp._context import JobCode
from hydra_plugins.mlxp._payload import PickledTask
from hydra_plugins.mlxp.config import LauncherConf
from mlxp_core.errors import ConfigurationError, SnapshotError
from mlxp_core.runs.code_version import SnapshotMode
from mlxp_core.runs.layout import RunDir
from mlxp_core.versioning.work_folder import WorkFolderTemplate, empty_folders, publish_template

_SAFE_PATH = (3, 11)  # the first Python with -P


class WorkDir(str, enum.Enum):
    """Where jobs start."""

    RUN = "run"  # a folder of the run's own, with what the code has
    COPY = "copy"  # the copy of the code
    LAUNCH = "launch"  # the launch directory

    def __str__(self) -> str:
        """Give the bare value, on every Python version."""
        return self.value


@dataclass(frozen=True)
class StartDir:
    """The directory of the jobs of a launch."""

    directory: Path  # of all jobs; for a working folder of the run's own, the part of it in which the job starts
    template: WorkFolderTemplate | None = None

    def path(self, run: RunDir) -> Path:
        """The directory of this run's job."""
        return self.directory if self.template is None else run.work / self.directory


def work_dir(options: LauncherConf) -> WorkDir:
    """The option. Raises ConfigurationError for a value that means nothing, or nothing without a copy of the code."""
    is_in_place = options.snapshot == SnapshotMode.NONE
    if options.work_dir == "auto":
        return WorkDir.LAUNCH if is_in_place else WorkDir.RUN
    try:
        chosen = WorkDir(options.work_dir)
    except ValueError:
        known = ", ".join(["auto", *map(str, WorkDir)])
        raise ConfigurationError(f"hydra.launcher.work_dir={options.work_dir} is not one of {known}") from None
    if is_in_place and chosen is not WorkDir.LAUNCH:
        raise ConfigurationError(
            f"hydra.launcher.work_dir={chosen} needs a copy of the code, and hydra.launcher.snapshot=none makes none: "
            "leave one of them out"
        )
    return chosen


def start_dir(options: LauncherConf, code: JobCode, launch_dir: Path) -> StartDir:
    """The directory of jobs that run this code. Raises SnapshotError where a template cannot be written."""
    chosen, copied = work_dir(options), code.map_path(launch_dir)
    if code.copy is None or chosen is WorkDir.LAUNCH:
        return StartDir(launch_dir)
    if chosen is WorkDir.COPY:
        return StartDir(copied if copied.is_dir() else launch_dir)  # else a folder that git does not know
    copy = code.copy.copy
    part = copied.relative_to(copy) if copied.is_relative_to(copy) else Path()
    try:
        template = publish_template(copy, part)
    except OSError as error:
        raise SnapshotError(
            f"the template of the jobs' working folders cannot be written: {error}\n"
            "Put that right, or let them start in the launch directory, with hydra.launcher.work_dir=launch."
        ) from error
    empty = empty_folders(code.copy.version.repo, template)
    # the launch directory itself, where git does not know it
    missing = () if (template / part).is_dir() else (str(part),)
    return StartDir(part, WorkFolderTemplate(copy, template, tuple(dict.fromkeys([*missing, *empty]))))


def job_interpreter(options: LauncherConf) -> str:
    """The Python of the jobs."""
    return options.python or sys.executable


def job_words(program: Program | PickledTask, options: LauncherConf, code: JobCode) -> list[str]:
    """The command of the jobs up to the overrides.

    ``python -m`` looks for modules where it starts first, which is not the copy: -P keeps it from that, and PYTHONPATH
    leads to the copy. Without -P they are found by the links of the working folder.
    """
    python, *words = program.words(job_interpreter(options), code.map_path)
    if program.module is None or code.copy is None or work_dir(options) is WorkDir.COPY:
        return [python, *words]
    if options.python is None and sys.version_info >= _SAFE_PATH:
        return [python, "-P", *words]
    if work_dir(options) is WorkDir.LAUNCH:
        raise ConfigurationError(
            f"with hydra.launcher.work_dir=launch, `python -m {program.module}` would run the launch directory's files "
            "and not the copy's: start a file (python main.py), or let the jobs start in their runs (work_dir=run)"
        )
    return [python, *words]


def module_folder(program: Program | PickledTask, options: LauncherConf, code: JobCode, launch_dir: Path) -> list[str]:
    """The folder of PYTHONPATH that stands for the one in which ``python -m`` is started here."""
    copied = code.map_path(launch_dir)
    is_elsewhere = program.module is not None and code.copy is not None and work_dir(options) is not WorkDir.COPY
    return [os.fspath(copied)] if is_elsewhere and copied.is_dir() else []

"""The code that the jobs of a launch run: asked for, frozen, and checked to compose what was composed here."""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hydra._internal.config_loader_impl import ConfigLoaderImpl

from hydra_plugins.mlxp import _mlxpsub_state, _omegaconf
from hydra_plugins.mlxp._command_line import Program
from hydra_plugins.mlxp._composer import Composer
from hydra_plugins.mlxp._context import JobCode, LaunchContext
from hydra_plugins.mlxp._job import Job
from hydra_plugins.mlxp._payload import PickledTask
from hydra_plugins.mlxp.config import LauncherConf
from mlxp_core import terminal
from mlxp_core.errors import ConfigurationError, SnapshotError
from mlxp_core.recording.packages import SITES, installed_distributions, installed_package
from mlxp_core.runs.code_version import SnapshotMode
from mlxp_core.runs.layout import LogDir
from mlxp_core.versioning import prompt
from mlxp_core.versioning.git import Repository, run_git
from mlxp_core.versioning.installed import source_root
from mlxp_core.versioning.snapshot import (
    OPT_OUT,
    DecisionPrompt,
    FrozenCode,
    SnapshotOptions,
    WorkTreeVersion,
    describe_version,
    freeze_code,
)

log = logging.getLogger(__name__)


def snapshot_options(options: LauncherConf) -> SnapshotOptions:
    """The options that say which code is to run. Raises ConfigurationError."""
    return SnapshotOptions.parse(
        "hydra.launcher",
        snapshot=options.snapshot,
        on_changes=options.on_changes,
        files=options.commit_files,
        message=options.commit_message,
    )


def job_code(context: LaunchContext, jobs: Sequence[Job], log_dir: LogDir) -> JobCode:
    """The code that the jobs run, frozen when it is first asked for: all batches of a sweep run the same."""
    if context.code is None:
        context.code = freeze(context, jobs, log_dir)
    return context.code


def freeze(context: LaunchContext, jobs: Sequence[Job], log_dir: LogDir) -> JobCode:
    """Freeze the code as the options say. Raises ConfigurationError where it composes other jobs than these."""
    options, program = context.options, context.program
    if options.snapshot == SnapshotMode.NONE:
        return JobCode(None, _in_place(code_place(program), log_dir))
    ask: DecisionPrompt | None = prompt.prompt_for_decision if terminal.can_answer() else None
    if ask is not None and (mlxpsub := _mlxpsub_state.current()) is not None:
        ask = mlxpsub.ask_once(ask)
    place = Path(context.launch_dir, os.path.expanduser(options.code_dir)) if options.code_dir else None  # noqa: PTH111
    code = freeze_code(
        code_place(program), log_dir, snapshot_options(options), place=place, ask=ask, launch_dir=context.launch_dir
    )
    _warn_of_changes(code, is_automatic=options.snapshot == SnapshotMode.AUTO and ask is None)
    _check_configuration(context, jobs, code)
    return JobCode(code, code.version, _source_folder(program, code))


def _warn_of_changes(code: FrozenCode, *, is_automatic: bool) -> None:
    version = code.version
    if version.committed:
        log.info(
            "committed to %s of %s as %s, which the jobs run:\n  %s",
            version.branch or "the detached HEAD",
            version.repo,
            code.copy.name[:10],
            "\n  ".join(version.committed),
        )
    changes = "\n  ".join(str(change) for change in version.changes)
    if not version.changes:
        return
    if version.snapshot is SnapshotMode.WORKTREE and is_automatic:
        log.warning(
            "the jobs run the work tree %s as it is now, with these changes, which are not committed (git keeps it as "
            "%s under refs/mlxp; hydra.launcher.snapshot=commit runs the last commit):\n  %s",
            version.repo,
            code.copy.name[:10],
            changes,
        )
    elif version.excluded_changes:
        log.warning(
            "the jobs run commit %s of %s, without these changes, which are not committed:\n  %s",
            code.copy.name[:10],
            version.repo,
            changes,
        )


def code_place(program: Program | PickledTask) -> Path:
    """The file of the program, or the folder that it was installed from, by which its repository is found."""
    source = installed_distributions().local_modules.get(installed_package(program.code_file))
    return program.code_file if source is None else Path(source)


def _source_folder(program: Program | PickledTask, code: FrozenCode) -> Path | None:
    """The folder of the copy that has an installed program's package; None for any other program.

    Raises SnapshotError where what is installed is not what the copy has.
    """
    package = installed_package(program.code_file)
    if not package or code_place(program) == program.code_file:
        return None
    file = program.code_file
    folder = next(place for place in (file, *file.parents) if place.parent.name in SITES)
    try:
        repository = Repository(code.version.repo, run_git)
        return code.copy / source_root(repository, str(code.version.commit), folder)
    except SnapshotError as error:
        raise SnapshotError(f"{error}, {OPT_OUT}.") from error


def _in_place(program: Path, log_dir: LogDir) -> WorkTreeVersion | None:
    """Describe the files that jobs will find without a copy, as far as they are known; they may change till then."""
    try:
        known = describe_version(program / "-" if program.is_dir() else program, log_dir, SnapshotMode.COMMIT)
        return known and replace(known, snapshot=SnapshotMode.NONE)
    except SnapshotError as error:
        log.debug("which code the jobs will find is not known: %s", error)
        return None


def _check_configuration(context: LaunchContext, jobs: Sequence[Job], code: FrozenCode) -> None:
    """Refuse what every job would refuse hours later: a configuration that the frozen code does not compose."""
    repo, version = code.version.repo, code.version
    search_path = copy.deepcopy(context.hydra_context.config_loader.get_search_path())
    changed = [repo / change.path for change in version.excluded_changes]
    changed += [repo / change.path for change in version.ignored if change.path.endswith((".yaml", ".yml"))]
    is_concerned = False
    for element in search_path.get_path():
        folder = Path(element.path.removeprefix("file://"))
        if folder.is_absolute():
            is_concerned |= any(path.is_relative_to(folder) or folder.is_relative_to(path) for path in changed)
            element.path = f"file://{code.map_path(folder)}"
    if not is_concerned:
        return
    composer = Composer(
        ConfigLoaderImpl(config_search_path=search_path), context.config, _mlxpsub_state.is_job_variable
    )
    for job in jobs:
        try:
            different = _omegaconf.differences(job.unresolved, composer.compose(job.overrides).unresolved)
        except Exception as error:  # noqa: BLE001  (whatever Hydra finds wrong with it)
            different = [str(error)]
        if different:
            raise ConfigurationError(
                f"the configuration of version {code.copy.name[:10]}, which the jobs would run, is not the one that "
                f"{' '.join(job.overrides) or 'the job'} has here. Commit the changed files (none that git is told to "
                "ignore), or use hydra.launcher.snapshot=worktree.\nhere -> in the version\n  " + "\n  ".join(different)
            )

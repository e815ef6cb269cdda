"""Which code the jobs of a launch run: asked for, frozen, and checked to compose what was composed here."""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hydra._internal.config_loader_impl import ConfigLoaderImpl

from hydra_plugins.mlxp import _mlxpsub_program, _omegaconf
from hydra_plugins.mlxp._composer import Composer, Job
from hydra_plugins.mlxp._payload import PickledTask, program_of
from mlxp_core import terminal
from mlxp_core.errors import ConfigurationError, SnapshotError
from mlxp_core.runs.layout import LogDir
from mlxp_core.versioning import prompt
from mlxp_core.versioning.snapshot import (
    AUTO,
    COMMIT,
    NONE,
    WORKTREE,
    CodeVersion,
    FrozenCode,
    SnapshotOptions,
    describe_version,
    freeze_code,
)

if TYPE_CHECKING:
    from hydra_plugins.mlxp._command_line import Program
    from hydra_plugins.mlxp.config import LauncherConf
    from hydra_plugins.mlxp.launcher import MlxpLauncher

log = logging.getLogger(__name__)


def snapshot_options(options: LauncherConf) -> SnapshotOptions:
    """The options that say which code is to run."""
    return SnapshotOptions(
        options.snapshot, options.on_changes, tuple(options.commit_files), options.commit_message or ""
    )


def freeze(launcher: MlxpLauncher, jobs: Sequence[Job], log_dir: LogDir) -> None:
    """Settle the launcher's code and version, once: all batches of a sweep run the same."""
    if launcher.code is not None or launcher.version is not None:
        return
    config, options = launcher.config, launcher.options
    program = program_of(launcher)
    if options.snapshot == NONE:
        launcher.version = _in_place(program, log_dir)
        return
    ask = _mlxpsub_program.once(prompt.prompt_for_decision) if terminal.can_answer() else None
    place = Path(config.hydra.runtime.cwd, os.path.expanduser(options.code_dir)) if options.code_dir else None  # noqa: PTH111
    code = freeze_code(program.file, log_dir, snapshot_options(options), place=place, ask=ask)
    version = code.version
    changes = "\n  ".join(str(change) for change in version.changes)
    if version.snapshot == WORKTREE and options.snapshot == AUTO and ask is None:
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
    _check_configuration(launcher, jobs, code)
    launcher.code, launcher.version = code, version


def _in_place(program: Program | PickledTask, log_dir: LogDir) -> CodeVersion | None:
    """What is known of the files that jobs will find without a copy; they may be others when a job starts."""
    try:
        known = describe_version(program.file, log_dir, COMMIT)
        return known and replace(known, snapshot=NONE)
    except SnapshotError as error:
        log.debug("which code the jobs will find is not known: %s", error)
        return None


def _check_configuration(launcher: MlxpLauncher, jobs: Sequence[Job], code: FrozenCode) -> None:
    """Refuse what every job would refuse hours later: a configuration that the frozen code does not compose."""
    repo, version = code.version.repo, code.version
    search_path = copy.deepcopy(launcher.hydra_context.config_loader.get_search_path())
    changed = [repo / change.path for change in version.excluded_changes]
    changed += [repo / change.path for change in version.ignored if change.path.endswith((".yaml", ".yml"))]
    concerned = False
    for element in search_path.get_path():
        folder = Path(element.path.removeprefix("file://"))
        if folder.is_absolute():
            concerned |= any(path.is_relative_to(folder) or folder.is_relative_to(path) for path in changed)
            element.path = f"file://{code.map_path(folder)}"
    if not concerned:
        return
    composer = Composer(ConfigLoaderImpl(config_search_path=search_path), launcher.config)
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

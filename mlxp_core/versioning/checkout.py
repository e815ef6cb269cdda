"""Recreate the code of a run in a folder of the user's own: whole or absent, and writable."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mlxp_core.errors import SnapshotError, StoreError
from mlxp_core.runs.code_version import CodeVersion
from mlxp_core.runs.layout import LogDir, RunDir
from mlxp_core.runs.state import RunState
from mlxp_core.versioning.availability import locate_commit
from mlxp_core.versioning.export import export_commit, remove_tree
from mlxp_core.versioning.git import find_repository
from mlxp_core.versioning.run_output import BYTE_CODE
from mlxp_core.versioning.work_folder import recorded_work

# what a launcher adds for the folder of the run; the same command elsewhere would write into it
_OF_THE_JOB = (
    "hydra.mode=",
    "hydra.run.dir=",
    "hydra.sweep.dir=",
    "hydra.sweep.subdir=",
    "hydra.job.num=",
    "hydra.job.id=",
)


@dataclass(frozen=True)
class Checkout:
    """The code of a run, recreated in a folder."""

    folder: Path
    commit: str
    not_from_git: str  # why it was taken from the copy that the jobs run; empty: it is from git
    lost_changes: tuple[str, ...]  # that the run had and that nobody kept
    directory: Path  # where to start it
    command: str  # how; empty where that is not recorded


def checkout_run(run: RunDir, folder: Path, *, repository: Path | None = None, commit_only: bool = False) -> Checkout:
    """Write the code that a run has run into ``folder``, which must be new or empty.

    ``repository`` is where the repository is now, if not where it was. ``commit_only``: the commit, even where the run
    had changes that were not kept. Raises SnapshotError, and StoreError for the folder.
    """
    state = RunState.load(run)
    version = CodeVersion.from_info(state.info)
    if version.commit is None:
        because = f": {state.problem}" if state.problem else ", as outside of a git repository"
        raise SnapshotError(f"run {run.path.name} has recorded no version of its code{because}")
    if version.lost_changes and not commit_only:
        raise SnapshotError(
            f"run {run.path.name} ran commit {version.commit} with changes that were not kept, so its code cannot be "
            "recreated:\n  " + "\n  ".join(version.lost_changes) + "\n"
            "With --commit-only you get the commit without them."
        )
    if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        raise StoreError(f"{folder} is there already, and not an empty folder: name another one")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.{os.urandom(4).hex()}")
    try:
        not_from_git = _write_files(version, temporary, repository, LogDir(run.path.parent))
        _hide(folder)
        temporary.rename(folder)
    finally:
        remove_tree(temporary)
    return Checkout(
        folder=folder,
        commit=version.commit,
        not_from_git=not_from_git,
        lost_changes=version.lost_changes,
        directory=_directory(state, version, folder),
        command=_command(state, version, folder),
    )


def _hide(folder: Path) -> None:
    """Keep git from seeing the checkout, where it lies in a repository: it is no change of the code there.

    Not by a .gitignore in it: that is a file of the run's code, which tools that build or search it go by.
    """
    with suppress(SnapshotError, OSError):  # none around it, or one that only another user may write
        find_repository(folder.parent).exclude(folder)


def _write_files(version: CodeVersion, folder: Path, repository: Path | None, log_dir: LogDir) -> str:
    """Write the files of a version; returns why they are not from git, where they are not."""
    commit = str(version.commit)
    try:
        export_commit(locate_commit(version, repository, log_dir=log_dir), commit, folder)
    except SnapshotError as error:
        if version.copy is None or not version.copy.is_dir():
            raise SnapshotError(
                f"commit {commit} cannot be recreated: {error}\n"
                "Where the repository has been moved, name its new place with --repo."
            ) from error
        remove_tree(folder)
        # jobs leave byte code in a copy
        shutil.copytree(version.copy, folder, symlinks=True, ignore=shutil.ignore_patterns(BYTE_CODE))
        _make_writable(folder)
        return str(error)
    return ""


def _make_writable(top: Path) -> None:
    for folder, _, names in os.walk(top):
        for path in (folder, *(f"{folder}/{name}" for name in names)):
            if not os.path.islink(path):  # noqa: PTH114  (thousands)
                os.chmod(path, os.lstat(path).st_mode | 0o200)  # noqa: PTH101


def _directory(state: RunState, version: CodeVersion, folder: Path) -> Path:
    work_dir = Path(str(state.info.get("work_dir")))
    for location in (*version.locations, recorded_work(state)):
        if work_dir.is_relative_to(location) and (directory := folder / work_dir.relative_to(location)).is_dir():
            return directory
    return folder


def _command(state: RunState, version: CodeVersion, folder: Path) -> str:
    """The run's command in the new folder, without what led its output into the run's own."""
    recorded = state.info.get("command")
    if not isinstance(recorded, list):
        return ""
    is_launched = version.copy is not None
    words = [str(word) for word in recorded if not (is_launched and str(word).startswith(_OF_THE_JOB))]
    command = shlex.join(_relocate(word, version, folder) for word in words)
    # else a package that is installed with `pip install -e` would come from the work tree
    entries = os.pathsep.join(_relocate(entry, version, folder) for entry in _python_path(state.run))
    return f"PYTHONPATH={shlex.quote(entries)} {command}" if entries else command


def _relocate(word: str, version: CodeVersion, folder: Path) -> str:
    """A path of the code, as it is in the new folder; any other word as it is."""
    path = Path(word)
    for location in version.locations:
        if path.is_relative_to(location):
            relocated = folder / path.relative_to(location)
            return str(relocated) if relocated.exists() else word
    return word


def _python_path(run: RunDir) -> list[str]:
    """Entries of the PYTHONPATH that script.sh sets, if a launch has written it."""
    try:
        text = run.script.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return []
    for line in reversed(re.findall(r"^export PYTHONPATH=(.*)$", text, re.MULTILINE)):
        try:
            value = "".join(shlex.split(line))
        except ValueError:  # of several lines
            continue
        if shlex.quote(value) == line:  # a line of the user's may hold variables
            return value.split(os.pathsep)
    return []

"""Recreate the code of a run in a folder of the user's own: whole or absent, and writable."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Sequence
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
from mlxp_core.versioning.origin import write_checkout_marker
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


_OF_HYDRA = re.compile(r"[+~]*hydra[./]")
# what a sweep needs, and one of its jobs does not
_OF_THE_SWEEP = re.compile(r"[+~]*hydra[./](launcher|sweeper|sweep|mode|job\.num|job\.id)(?=[.=@/]|$)")
_MULTIRUN = re.compile(r"\+*hydra\.mode=(MULTIRUN|multirun)")
# options whose value is the next word: Hydra's, and Python's
_WITH_A_VALUE = {"--config-name", "-cn", "--config-path", "-cp", "--config-dir", "-cd", "--package", "-p"}
_INTERPRETER_WITH_A_VALUE = {"-W", "-X", "--check-hash-based-pycs"}


@dataclass(frozen=True)
class Checkout:
    """The code of a run, recreated in a folder."""

    folder: Path
    commit: str
    not_from_git: str  # why it was taken from the copy that the jobs run; empty: it is from git
    lost_changes: tuple[str, ...]  # that the run had and that nobody kept
    directory: Path  # where to start it
    command: str  # how; empty where that is not recorded
    elsewhere: dict[str, Path]  # files outside of the code that it loaded: where they were, and where they are kept


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
    lost = (*version.lost_changes, *_not_kept(run, version))
    if lost and not commit_only:
        raise SnapshotError(
            f"run {run.path.name} ran commit {version.commit} with changes that were not kept, so its code cannot be "
            "recreated:\n  " + "\n  ".join(lost) + "\n"
            "With --commit-only you get the commit without them."
        )
    if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        raise StoreError(f"{folder} is there already, and not an empty folder: name another one")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.{os.urandom(4).hex()}")
    try:
        not_from_git = _write_files(version, temporary, repository, LogDir(run.path.parent))
        elsewhere = _write_kept(run, version, temporary)
        write_checkout_marker(temporary, version)
        _hide(folder)
        temporary.rename(folder)
    finally:
        remove_tree(temporary)
    return Checkout(
        folder=folder,
        commit=version.commit,
        not_from_git=not_from_git,
        lost_changes=lost,
        elsewhere=elsewhere,
        directory=_directory(state, version, folder),
        command=_command(state, version, folder),
    )


def _hide(folder: Path) -> None:
    """Keep git from seeing the checkout, where it lies in a repository: it is no change of the code there.

    Not by a .gitignore in it: that is a file of the run's code, which tools that build or search it go by.
    """
    with suppress(SnapshotError, OSError):  # none around it, or one that only another user may write
        find_repository(folder.parent).exclude(folder)


def _not_kept(run: RunDir, version: CodeVersion) -> list[str]:
    """Files that it loaded and that are neither in the commit nor in its folder, for they were too large, say."""
    files = (version.files or {}).items()
    return [f"?? {path} ({oid[:10]}, not kept)" for path, oid in files if oid and not (run.code / oid).is_file()]


def _write_kept(run: RunDir, version: CodeVersion, folder: Path) -> dict[str, Path]:
    """Put the files that the commit does not hold into their places; returns those that have none in the code."""
    elsewhere = {}
    for path, oid in (version.files or {}).items():
        kept = run.code / str(oid)
        place = Path(os.path.normpath(folder / path))
        if oid is None or not kept.is_file():
            continue
        parent = place.parent
        if place.is_relative_to(folder) and not any(above.is_file() for above in (parent, *parent.parents)):
            parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(kept, place)
        else:
            elsewhere[path] = kept
    return elsewhere


def _write_files(version: CodeVersion, folder: Path, repository: Path | None, log_dir: LogDir) -> str:
    """Write the files of a version; returns why they are not from git, where they are not."""
    commit = str(version.commit)
    try:
        export_commit(locate_commit(version, repository, log_dir=log_dir), commit, folder)
    except SnapshotError as error:
        # the log directory may have been moved
        copies = (version.copy, log_dir.code / commit)
        copy = next((path for path in copies if path is not None and path.is_dir()), None)
        if copy is None:
            raise SnapshotError(
                f"commit {commit} cannot be recreated: {error}\n"
                "Where the repository has been moved, name its new place with --repo."
            ) from error
        remove_tree(folder)
        # jobs leave byte code in a copy
        shutil.copytree(copy, folder, symlinks=True, ignore=shutil.ignore_patterns(BYTE_CODE))
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
    words = [str(word) for word in recorded]
    if version.copy is not None:  # launched
        words = [word for word in words if not word.startswith(_OF_THE_JOB)]
    elif isinstance(state.info.get("hydra"), dict):
        words = command_of_job(words, state.overrides)
    command = shlex.join(_relocate(word, version, folder) for word in words)
    # else a package that is installed with `pip install -e` would come from the work tree
    entries = os.pathsep.join(_relocate(entry, version, folder) for entry in _python_path(state.run))
    return f"PYTHONPATH={shlex.quote(entries)} {command}" if entries else command


def command_of_job(words: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """The command of one job of a multirun, by that of the multirun and the job's own overrides; any other as it is."""
    head, arguments = _split_command(words)
    kept: list[str] = []
    is_multirun = False
    given = iter(arguments)
    for word in given:
        if word in {"-m", "--multirun"} or _MULTIRUN.fullmatch(word):
            is_multirun = True
        elif word.startswith("-"):
            kept.append(word)
            if word in _WITH_A_VALUE:
                kept += [value for value in (next(given, None),) if value is not None]
        elif _OF_HYDRA.match(word) and not _OF_THE_SWEEP.match(word):
            kept.append(word)
    if not is_multirun and set(overrides) <= set(arguments):
        return list(words)
    # the program may be one that its own configuration makes a multirun
    return [*head, *kept, *overrides, *(() if is_multirun else ("hydra.mode=RUN",))]


def _split_command(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The interpreter with its program, and the program's arguments."""
    index = 1
    while index < len(words) and words[index].startswith("-"):
        if words[index] in {"-m", "-c"}:  # the next word is the program
            return list(words[: index + 2]), list(words[index + 2 :])
        index += 2 if words[index] in _INTERPRETER_WITH_A_VALUE else 1
    return list(words[: index + 1]), list(words[index + 1 :])


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

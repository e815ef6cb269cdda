"""Recreates the code of a run in a folder of the user's own: whole or absent, and writable."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlxp_core.errors import SnapshotError, StoreError
from mlxp_core.runs.layout import RunDir
from mlxp_core.runs.state import RunState
from mlxp_core.versioning.availability import code_of, locate_commit
from mlxp_core.versioning.export import export_commit, remove_tree
from mlxp_core.versioning.git import BYTE_CODE
from mlxp_core.versioning.snapshot import NONE

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
    """The code of a run, as it lies there again."""

    folder: Path
    commit: str
    not_from_git: str  # why it was taken from the copy that the jobs run; empty: it is from git
    left_out: tuple[str, ...]  # changes that the run had and that nobody kept
    directory: Path  # where to start it
    command: str  # how; empty where that is not recorded


def checkout_run(run: RunDir, folder: Path, *, repository: Path | None = None, commit_only: bool = False) -> Checkout:
    """Write the code that a run has run into ``folder``, which must be new or empty.

    ``repository`` is where the repository is now, if not where it was. ``commit_only``: the commit, even where the run
    had changes that were not kept. Raises SnapshotError, and StoreError for the folder.
    """
    one = RunState.load(run)
    facts = code_of(one)
    commit = facts.get("commit_hash")
    if not isinstance(commit, str):
        raise SnapshotError(f"run {run.path.name} has recorded no version of its code" + _because(one))
    left_out = _left_out(facts)
    if left_out and not commit_only:
        raise SnapshotError(
            f"run {run.path.name} ran commit {commit} with changes that were not kept, so its code cannot be recreated:"
            "\n  " + "\n  ".join(left_out) + "\nWith --commit-only you get the commit without them."
        )
    if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        raise StoreError(f"{folder} is there already, and not an empty folder: name another one")
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.{os.urandom(4).hex()}")
    try:
        why = _write(facts, repository, commit, aside)
        aside.rename(folder)
    finally:
        remove_tree(aside)
    return Checkout(folder, commit, why, left_out, _directory(one, facts, folder), _command(one, facts, folder))


def _write(facts: Mapping[str, Any], repository: Path | None, commit: str, folder: Path) -> str:
    """Write the files; gives why they are not from git, where they are not."""
    try:
        export_commit(locate_commit(facts, repository), commit, folder)
    except SnapshotError as error:
        copy = facts.get("copy")
        if not isinstance(copy, str) or not Path(copy).is_dir():
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


def _left_out(facts: Mapping[str, Any]) -> tuple[str, ...]:
    """What differed from the commit in what ran; a copy has no more than its commit."""
    if facts.get("snapshot") not in {NONE, None} or facts.get("copy"):
        return ()
    changes = facts.get("uncommitted")
    if isinstance(changes, list) and changes:
        return tuple(str(change) for change in changes)
    return ("changes that are not listed",) if facts.get("dirty") else ()


def _because(one: RunState) -> str:
    return f": {one.problem}" if one.problem else ", as outside of a git repository"


def _places(facts: Mapping[str, Any]) -> list[Path]:
    """Where the code lay when it ran."""
    return [Path(str(facts[key])) for key in ("copy", "repo_path") if facts.get(key)]


def _directory(one: RunState, facts: Mapping[str, Any], folder: Path) -> Path:
    work_dir = Path(str(one.info.get("work_dir") or "/"))
    for place in _places(facts):
        if work_dir.is_relative_to(place) and (inside := folder / work_dir.relative_to(place)).is_dir():
            return inside
    return folder


def _command(one: RunState, facts: Mapping[str, Any], folder: Path) -> str:
    """The run's command in the new place, without what led its output into the run's folder."""
    recorded = one.info.get("command")
    if not isinstance(recorded, list):
        return ""
    words = [str(word) for word in recorded if not (facts.get("copy") and str(word).startswith(_OF_THE_JOB))]
    command = shlex.join(_moved(word, facts, folder) for word in words)
    # else a package that is installed with `pip install -e` would come from the work tree
    entries = os.pathsep.join(_moved(entry, facts, folder) for entry in _python_path(one))
    return f"PYTHONPATH={shlex.quote(entries)} {command}" if entries else command


def _moved(word: str, facts: Mapping[str, Any], folder: Path) -> str:
    """A path of the code where it lies now; any other word as it is."""
    path = Path(word)
    for place in _places(facts):
        if path.is_absolute() and path.is_relative_to(place):
            new = folder / path.relative_to(place)
            return str(new) if new.exists() else word
    return word


def _python_path(one: RunState) -> list[str]:
    """What script.sh sets as PYTHONPATH, if a launch has written it."""
    try:
        text = one.run.script.read_text(encoding="utf-8", errors="surrogateescape")
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

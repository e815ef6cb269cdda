"""List the copies of the code that a log directory has: which runs use them, and if git can make them again."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mlxp_core.errors import MlxpError
from mlxp_core.runs.code_version import CodeVersion, SnapshotMode
from mlxp_core.runs.layout import CodeDir, LogDir, RunDir, SubmissionDir
from mlxp_core.runs.listing import list_runs
from mlxp_core.runs.state import RunState
from mlxp_core.runs.submission_record import read_manifest
from mlxp_core.versioning.availability import (
    find_version,
    foreign_files_reason,
    missing_objects_reason,
    unreferenced_reason,
)

COMMIT_NAME = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")  # of a copy's folder

_RunVersion = tuple[RunState, CodeVersion]


@dataclass(frozen=True)
class CodeCopy:
    """A copy of one version."""

    path: Path
    own: bool  # in the log directory; else where hydra.launcher.code_dir said, and others may use it, too
    snapshot: str | None  # a SnapshotMode; None where no run says so
    made: datetime
    used: datetime  # when a launch last chose it
    size: int  # bytes on disk
    runs: tuple[RunDir, ...]  # that use it
    needed: tuple[RunDir, ...]  # of these, those that have not ended, as far as that is known
    problem: str  # why git cannot make it again; empty where it can

    @property
    def commit(self) -> str:
        """The version."""
        return self.path.name


@dataclass(frozen=True)
class Inventory:
    """The copies of a log directory."""

    copies: tuple[CodeCopy, ...]  # the oldest first
    named: frozenset[str]  # versions whose copy a run names, there or not


def list_copies(log_dir: LogDir, states: Iterable[RunState]) -> Inventory:
    """Look at all copies of a log directory; ``states`` are those of ``all_runs``, as their schedulers know them."""
    versions = [(state, CodeVersion.from_info(state.info)) for state in states]
    repositories = dict.fromkeys(version.repo_path for _, version in versions if version.repo_path)
    copies = []
    for path, own in _paths(log_dir, versions):
        try:
            copies.append(_inspect(path, versions, repositories, own=own))
        except FileNotFoundError:
            continue  # another prune
    named = frozenset(version.copy.name for _, version in versions if version.copy)
    return Inventory(tuple(sorted(copies, key=lambda copy: (copy.made, copy.commit))), named)


def all_runs(log_dir: LogDir) -> list[RunDir]:
    """Runs that are listed, and those deeper in the log directory, which only its submissions know of.

    Raises StoreError where the directory cannot be read.
    """
    runs = dict.fromkeys(list_runs(log_dir))
    if log_dir.submissions.is_dir():
        for folder in sorted(log_dir.submissions.iterdir()):
            runs.update(dict.fromkeys(run for run in read_manifest(SubmissionDir(folder)) if run.info.exists()))
    return list(runs)


def _paths(log_dir: LogDir, versions: Sequence[_RunVersion]) -> Iterator[tuple[Path, bool]]:
    """The folder of each copy; True for one in the log directory."""
    seen = set()
    if log_dir.code.is_dir():
        for path in log_dir.code.iterdir():
            if _is_copy(path):
                seen.add(path.resolve())
                yield path, True
    for path in dict.fromkeys(version.copy for _, version in versions if version.copy):
        if _is_copy(path) and path.resolve() not in seen:
            seen.add(path.resolve())
            yield path, False


def _is_copy(path: Path) -> bool:
    return bool(COMMIT_NAME.fullmatch(path.name)) and path.is_dir() and not path.is_symlink()


def _inspect(path: Path, versions: Sequence[_RunVersion], repositories: Iterable[Path], *, own: bool) -> CodeCopy:
    using = [(state, version) for state, version in versions if uses_copy(state, version, path)]
    same = [version for _, version in using if version.commit == path.name]
    snapshots = [str(version.snapshot) for version in same if version.snapshot]
    captured = CodeDir(path.parent).diff(path.name).exists()
    size, made, used = _measure(path)
    return CodeCopy(
        path=path,
        own=own,
        snapshot=next(iter(snapshots), SnapshotMode.WORKTREE.value if captured else None),
        made=datetime.fromtimestamp(made).astimezone(),
        used=datetime.fromtimestamp(used).astimezone(),
        size=size,
        runs=tuple(state.run for state, _ in using),
        needed=tuple(state.run for state, _ in using if _may_still_run(state)),
        problem=_lost_reason(path, [version.repo_path for version in same if version.repo_path] or repositories),
    )


def uses_copy(state: RunState, version: CodeVersion, path: Path) -> bool:
    """Tell whether a run uses a copy, or may."""
    if version.copy is None:
        # one whose folder cannot be read may use any, until it is known to have ended
        return (not state.info or bool(state.newer_format)) and _may_still_run(state)
    # the log directory may have been moved
    return os.path.realpath(version.copy) == os.path.realpath(path) or (
        version.copy.name == path.name and not version.copy.exists()
    )


def _may_still_run(state: RunState) -> bool:
    """A run that has not ended, or may not have, or may start again: one that gave way and is still in the queue.

    Also one of a later version of this package, of which this one does not know what it needs.
    """
    if state.newer_format:
        return True
    may_start = state.may_change or bool(state.submission.stuck)
    return not state.has_ended or not state.is_current or state.submission_unresolved or may_start


def _lost_reason(path: Path, repositories: Iterable[Path]) -> str:
    """Say why git cannot make a copy again from any of the repositories that it may be of; empty where it can."""
    reason = "no run says which repository it is of"
    for folder in dict.fromkeys(repositories):
        try:
            repository = find_version(folder, path.name, path.parent)
            reason = (
                missing_objects_reason(repository, path.name, path)
                or unreferenced_reason(repository, path.name)
                or foreign_files_reason(repository, path.name, path)
            )
        except (MlxpError, OSError) as error:
            reason = str(error)
        if not reason:
            return ""
    return reason


def _measure(path: Path) -> tuple[int, float, float]:
    """Bytes on disk, and when a copy was made and last chosen."""
    used = path.lstat().st_mtime
    blocks, made = 0, used
    for folder, _, names in os.walk(path):
        blocks += os.lstat(folder).st_blocks
        for name in names:
            try:
                file = os.lstat(f"{folder}/{name}")
            except FileNotFoundError:
                continue
            blocks += file.st_blocks
            made = min(made, file.st_mtime)
    return blocks * 512, made, used

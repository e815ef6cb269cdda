"""Remove the copies of the code that nothing needs, and what killed launches and prunes have left beside them.

A copy is removed only while nothing waits or runs that needs it, and only where git has the same again. Its ref in the
user's repository stays: that is what it is made again from.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlxp_core.errors import SnapshotError
from mlxp_core.runs.code_version import CodeVersion
from mlxp_core.runs.layout import CodeDir, LogDir
from mlxp_core.runs.state import RunState
from mlxp_core.runs.times import parse_time
from mlxp_core.versioning.availability import find_version
from mlxp_core.versioning.copies import COMMIT_NAME, CodeCopy, Inventory, list_copies, uses_copy
from mlxp_core.versioning.export import remove_tree
from mlxp_core.versioning.kept_objects import keep_objects

# seconds for which a copy is left alone that a launch has chosen: the launch composes and checks its jobs before it
# records the copy in their folders. Also for what looks like the leftover of a launch that was killed: its process may
# live on another host.
_YOUNG = 3600.0
_OLD = 24 * 3600.0  # seconds after which a launch that has not finished its copy will never do so
_TEMPORARY = re.compile(rf"\.({COMMIT_NAME.pattern})\.(\d+)\.[0-9a-f]{{8}}(?:\.index|\.index\.lock|\.diff|\.work)?")
_PRUNED = re.compile(rf"\.({COMMIT_NAME.pattern})\.pruned\.\d+\.[0-9a-f]{{8}}")


@dataclass(frozen=True)
class PruneResult:
    """What was removed, and what was kept."""

    removed: tuple[CodeCopy, ...]
    kept: dict[str, tuple[CodeCopy, str]]  # by path, with the reason
    failed: dict[str, str]  # by path: what should have been removed and could not be
    leftovers: tuple[Path, ...]  # of launches and prunes that were killed


def prune(
    log_dir: LogDir, states: Iterable[RunState], *, elsewhere: bool = False, dry_run: bool = False
) -> PruneResult:
    """Remove the copies that nothing needs and that git can make again, and what killed launches have left.

    ``elsewhere``: those outside of the log directory, too; which runs of other log directories need them is not known.
    The caller holds the lock of the log directory, so that no run is submitted again meanwhile.
    """
    states = list(states)
    inventory = list_copies(log_dir, states)
    removed: list[CodeCopy] = []
    kept: dict[str, tuple[CodeCopy, str]] = {}
    failed: dict[str, str] = {}
    for copy in inventory.copies:
        if reason := _keep_reason(copy, elsewhere=elsewhere):
            kept[str(copy.path)] = copy, reason
            continue
        try:
            if not dry_run:
                _keep_objects(copy, states)
            is_gone = dry_run or _remove(copy.path, keep_links=copy.commit in inventory.named)
        except OSError as error:
            failed[str(copy.path)] = str(error)
            continue
        if is_gone:
            removed.append(copy)
        elif copy.path.exists():
            kept[str(copy.path)] = copy, "a launch has just chosen it"
        else:
            failed[str(copy.path)] = "not all of it could be removed; the next prune tries again"
    leftovers = list(_all_leftovers(log_dir, inventory, elsewhere=elsewhere))
    if not dry_run:
        failed |= _remove_leftovers(leftovers)
    cleared = tuple(path for path in leftovers if str(path) not in failed)
    return PruneResult(tuple(removed), kept, failed, cleared)


def remove_unused(log_dir: LogDir, removed: Sequence[RunState], others: Sequence[RunState]) -> tuple[Path, ...]:
    """Remove the copies of the log directory that only removed runs have used; git need not have them again.

    One that a launch has chosen after these runs were written stays: its own runs may not be there yet. The caller
    holds the lock of the log directory.
    """
    versions = [(state, CodeVersion.from_info(state.info)) for state in others]
    chosen: dict[Path, float] = {}  # by copy: when the last of the removed runs was written
    for state in removed:
        copy = CodeVersion.from_info(state.info).copy
        if copy is not None and COMMIT_NAME.fullmatch(copy.name):
            place = log_dir.code / copy.name
            chosen[place] = max(chosen.get(place, 0.0), _written(state))
    gone = []
    for path, time_written in chosen.items():
        is_used = any(uses_copy(state, version, path) for state, version in versions)
        if is_used or not path.is_dir() or path.is_symlink() or _foreign_owner(path):
            continue
        named = any(version.copy is not None and version.copy.name == path.name for _, version in versions)
        with contextlib.suppress(OSError):
            if _remove(path, keep_links=named, chosen_after=max(time_written, time.time() - _YOUNG)):
                gone.append(path)
    return tuple(gone)


def _written(state: RunState) -> float:
    """When a launch had written the script of a run, which it does after it has chosen the code."""
    submitted = state.info.get("submit_time")
    try:
        return parse_time(submitted).timestamp() if isinstance(submitted, str) else 0.0
    except ValueError:
        return 0.0


def _keep_objects(copy: CodeCopy, states: Iterable[RunState]) -> None:
    """Keep what a copy is made of, should its repository go; as far as that can be done: the user asked for room."""
    versions = (CodeVersion.from_info(state.info) for state in states)
    folders = {version.repo_path for version in versions if version.commit == copy.commit and version.repo_path}
    for folder in folders:
        with contextlib.suppress(SnapshotError, OSError):
            keep_objects(find_version(folder, copy.commit), copy.commit, copy.path.parent)
            return


def _keep_reason(copy: CodeCopy, *, elsewhere: bool) -> str:
    if copy.needed:
        return "needed"
    if copy.problem:
        return copy.problem
    if not copy.own and not elsewhere:
        return "outside of the log directory, so runs of another may need it (--elsewhere)"
    if _is_young(copy.path):
        return "a launch has chosen it within the last hour"
    return _foreign_owner(copy.path)


def _is_young(path: Path) -> bool:
    return time.time() - path.lstat().st_mtime < _YOUNG


def _foreign_owner(path: Path) -> str:
    """Name the owner, where only the owner can remove it all; anybody else would half remove it."""
    owner = path.lstat().st_uid
    return f"it belongs to user {owner}, who alone can remove it" if os.geteuid() not in {0, owner} else ""


def _remove(path: Path, *, keep_links: bool, chosen_after: float | None = None) -> bool:
    """Remove a copy; False where not all of it is gone, or where a launch has chosen it meanwhile.

    ``chosen_after``: a launch that has chosen it since then counts, by default one within the last hour.

    ``keep_links``: a run may be submitted again that needs the links into it; they lead there again once it is made
    again.

    It is renamed first: killed at any moment, this leaves nothing that would be taken for a whole copy.
    """
    aside = path.with_name(f".{path.name}.pruned.{os.getpid()}.{os.urandom(4).hex()}")
    try:
        path.rename(aside)
    except FileNotFoundError:
        return True  # somebody else was quicker
    if _is_young(aside) if chosen_after is None else aside.lstat().st_mtime > chosen_after:
        try:
            aside.rename(path)
        except OSError:  # the launch has made it again
            _discard(aside)
        return False
    for beside in (CodeDir(path.parent).diff(path.name), CodeDir(path.parent).marker(path.name)):
        beside.unlink(missing_ok=True)
    _discard(CodeDir(path.parent).templates(path.name))
    if not keep_links:
        _discard(CodeDir(path.parent).links(path.name))
    _discard(aside)
    return not aside.exists()


def _all_leftovers(log_dir: LogDir, inventory: Inventory, *, elsewhere: bool) -> Iterator[Path]:
    folders = {log_dir.code, *(copy.path.parent for copy in inventory.copies if elsewhere)}
    for folder in sorted(folders):
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            try:
                if _is_leftover(path, inventory.named, own=folder == log_dir.code):
                    yield path
            except FileNotFoundError:
                continue


def _is_leftover(path: Path, named: Collection[str], *, own: bool) -> bool:
    """What a killed launch or prune has left in a folder of copies.

    ``named``: versions whose links are kept. ``own``: the log directory's, where one prune goes on at a time.
    """
    stat, now = path.lstat(), time.time()
    age = now - stat.st_mtime
    if temporary := _TEMPORARY.fullmatch(path.name):
        return age > _OLD or (age > _YOUNG and not Path(f"/proc/{temporary[2]}").exists())
    if _PRUNED.fullmatch(path.name):
        # elsewhere the prune of another log directory may be at it: a rename changes the folder's ctime
        return own or now - stat.st_ctime > _YOUNG
    folder, commit = CodeDir(path.parent), path.stem
    beside = {folder.diff(commit), folder.marker(commit), folder.links(commit), folder.templates(commit)}
    if path in beside and COMMIT_NAME.fullmatch(commit) and age > _YOUNG:
        is_needed = path == folder.links(commit) and commit in named
        return not is_needed and not folder.copy(commit).exists()
    return False


def _remove_leftovers(leftovers: Iterable[Path]) -> dict[str, str]:
    """Remove them; returns those that could not be, with the reason."""
    failed = {}
    for path in leftovers:
        _discard(path)
        if os.path.lexists(path):
            failed[str(path)] = _foreign_owner(path) or "it could not be removed"
    return failed


def _discard(path: Path) -> None:
    """Remove a folder or a file, as far as that is possible."""
    if path.is_dir() and not path.is_symlink():
        remove_tree(path)
    else:
        with contextlib.suppress(OSError):
            path.unlink()

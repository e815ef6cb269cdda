"""The copies of the code that a log directory has: which runs use them, whether git can make them again; and pruning.

A copy is removed only while nothing waits or runs that needs it, and only where git has the same again. Its ref in the
user's repository stays: that is what it is made again from.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from mlxp_core.errors import MlxpError
from mlxp_core.runs.layout import LogDir, RunDir
from mlxp_core.runs.listing import list_runs
from mlxp_core.runs.state import RunState, is_open
from mlxp_core.runs.submission_record import read_manifest
from mlxp_core.versioning.availability import code_of, find_version, missing_objects_reason, unreferenced_reason
from mlxp_core.versioning.export import remove_tree
from mlxp_core.versioning.snapshot import WORKTREE

# seconds for which a copy is left alone that a launch has chosen: the launch composes and checks its jobs before it
# notes the copy in their folders. Also for what looks like the rest of a launch that was killed: its process may live
# on another host.
YOUNG = 3600.0
_OLD = 24 * 3600.0  # seconds after which a launch that has not ended its copy will never do so
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_REST = re.compile(rf"\.({_COMMIT.pattern})\.(\d+)\.[0-9a-f]{{8}}(?:\.index|\.index\.lock|\.diff)?")
_ASIDE = re.compile(rf"\.({_COMMIT.pattern})\.pruned\.\d+\.[0-9a-f]{{8}}")


@dataclass(frozen=True)
class CodeCopy:
    """A copy of one version."""

    path: Path
    own: bool  # in the log directory; else where hydra.launcher.code_dir said, and others may use it, too
    snapshot: str | None  # commit, worktree; None where no run says so
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


@dataclass(frozen=True)
class PruneResult:
    """What was removed, and what was kept."""

    removed: tuple[CodeCopy, ...]
    kept: dict[str, tuple[CodeCopy, str]]  # by path, with the reason
    failed: dict[str, str]  # by path: what should have been removed and could not be
    leftovers: tuple[Path, ...]  # of launches and prunes that were killed


def list_copies(log_dir: LogDir, standings: Iterable[RunState]) -> Inventory:
    """Look at all copies of a log directory; ``standings`` are those of ``all_runs``, as their schedulers know them."""
    uses = [(one, code_of(one)) for one in standings]
    repositories = dict.fromkeys(str(facts["repo_path"]) for _, facts in uses if facts.get("repo_path"))
    copies = []
    for path, own in _paths(log_dir, uses):
        try:
            copies.append(_look(path, uses, repositories, own=own))
        except FileNotFoundError:
            continue  # another prune
    named = frozenset(Path(str(facts["copy"])).name for _, facts in uses if facts.get("copy"))
    return Inventory(tuple(sorted(copies, key=lambda copy: (copy.made, copy.commit))), named)


def prune(
    log_dir: LogDir, standings: Iterable[RunState], *, elsewhere: bool = False, dry_run: bool = False
) -> PruneResult:
    """Remove the copies that nothing needs and that git can make again, and what killed launches have left.

    ``elsewhere``: those outside of the log directory, too; which runs of other log directories need them is not known.
    The caller holds the lock of the log directory, so that no run is submitted again meanwhile.
    """
    inventory = list_copies(log_dir, standings)
    removed: list[CodeCopy] = []
    kept: dict[str, tuple[CodeCopy, str]] = {}
    failed: dict[str, str] = {}
    for copy in inventory.copies:
        why = _why_kept(copy, elsewhere=elsewhere)
        if why:
            kept[str(copy.path)] = copy, why
            continue
        try:
            gone = dry_run or _remove(copy.path, rerun=copy.commit in inventory.named)
        except OSError as error:
            failed[str(copy.path)] = str(error)
            continue
        if gone:
            removed.append(copy)
        elif copy.path.exists():
            kept[str(copy.path)] = copy, "a launch has just chosen it"
        else:
            failed[str(copy.path)] = "not all of it could be removed; the next prune tries again"
    places = {log_dir.code, *(copy.path.parent for copy in inventory.copies if elsewhere)}
    rests = [rest for place in sorted(places) for rest in _rests(place, inventory.named, own=place == log_dir.code)]
    if not dry_run:
        for rest in rests:
            _discard(rest)
            if os.path.lexists(rest):
                failed[str(rest)] = _owner(rest) or "it could not be removed"
    cleared = tuple(rest for rest in rests if str(rest) not in failed)
    return PruneResult(tuple(removed), kept, failed, cleared)


def all_runs(log_dir: LogDir) -> list[RunDir]:
    """Runs that are listed, and those deeper in the log directory, which only its submissions know of.

    Raises StoreError where the directory cannot be read.
    """
    runs = dict.fromkeys(list_runs(log_dir))
    if log_dir.submissions.is_dir():
        for folder in sorted(log_dir.submissions.iterdir()):
            runs.update(dict.fromkeys(run for run in read_manifest(folder) if run.info.exists()))
    return list(runs)


def _paths(log_dir: LogDir, uses: Sequence[tuple[RunState, Mapping[str, Any]]]) -> Iterator[tuple[Path, bool]]:
    """Each copy's folder, and whether it lies in the log directory."""
    seen = set()
    if log_dir.code.is_dir():
        for path in sorted(log_dir.code.iterdir()):
            if _is_copy(path):
                seen.add(path.resolve())
                yield path, True
    for path in dict.fromkeys(Path(str(facts["copy"])) for _, facts in uses if facts.get("copy")):
        if _is_copy(path) and path.resolve() not in seen:
            seen.add(path.resolve())
            yield path, False


def _is_copy(path: Path) -> bool:
    return bool(_COMMIT.fullmatch(path.name)) and path.is_dir() and not path.is_symlink()


def _look(
    path: Path, uses: Sequence[tuple[RunState, Mapping[str, Any]]], repositories: Iterable[str], *, own: bool
) -> CodeCopy:
    using = [(one, facts) for one, facts in uses if _uses(one, facts, path)]
    recorded = [facts for _, facts in using if facts.get("commit_hash") == path.name]
    snapshots = [str(facts["snapshot"]) for facts in recorded if facts.get("snapshot")]
    captured = path.with_name(f"{path.name}.diff").exists()
    size, made, used = _measure(path)
    return CodeCopy(
        path=path,
        own=own,
        snapshot=next(iter(snapshots), WORKTREE if captured else None),
        made=datetime.fromtimestamp(made).astimezone(),
        used=datetime.fromtimestamp(used).astimezone(),
        size=size,
        runs=tuple(one.run for one, _ in using),
        needed=tuple(one.run for one, _ in using if _needs(one)),
        problem=_why_not_again(
            path, [str(facts["repo_path"]) for facts in recorded if facts.get("repo_path")] or repositories
        ),
    )


def _uses(one: RunState, facts: Mapping[str, Any], path: Path) -> bool:
    copy = facts.get("copy")
    if copy is None:
        # one whose folder cannot be read may use any, until it is known to have ended
        return bool(one.problem) and not one.info and _needs(one)
    # the log directory may have been moved
    return os.path.realpath(copy) == os.path.realpath(path) or (
        Path(copy).name == path.name and not Path(copy).exists()
    )


def _needs(one: RunState) -> bool:
    """Whether a run has not ended, or may not have, or may start again: one that gave way and is still in the queue."""
    may_start = is_open(one) or bool(one.submission.get("stuck"))
    return not one.has_ended or not one.is_current or one.submission_unresolved or may_start


def _why_not_again(path: Path, repositories: Iterable[str]) -> str:
    """Why git cannot make a copy again, by the repositories that it may be of."""
    why = "no run says which repository it is of"
    for folder in dict.fromkeys(repositories):
        try:
            repository = find_version(Path(folder), path.name)
            why = missing_objects_reason(repository, path.name, path) or unreferenced_reason(repository, path.name)
        except (MlxpError, OSError) as error:
            why = str(error)
        if not why:
            return ""
    return why


def _measure(path: Path) -> tuple[int, float, float]:
    """Bytes on disk, and when a copy was made and last chosen."""
    used = path.lstat().st_mtime
    total, made = 0, used
    for folder, _, names in os.walk(path):
        total += os.lstat(folder).st_blocks
        for name in names:
            try:
                facts = os.lstat(f"{folder}/{name}")
            except FileNotFoundError:
                continue
            total += facts.st_blocks
            made = min(made, facts.st_mtime)
    return total * 512, made, used


def _why_kept(copy: CodeCopy, *, elsewhere: bool) -> str:
    if copy.needed:
        return "needed"
    if copy.problem:
        return copy.problem
    if not copy.own and not elsewhere:
        return "outside of the log directory, so runs of another may need it (--elsewhere)"
    if _is_young(copy.path):
        return "a launch has chosen it within the last hour"
    return _owner(copy.path)


def _is_young(path: Path) -> bool:
    return time.time() - path.lstat().st_mtime < YOUNG


def _owner(path: Path) -> str:
    """Whose it is, where that keeps it from being removed; it would be half removed."""
    owner = path.lstat().st_uid
    return f"it belongs to user {owner}, who alone can remove it" if os.geteuid() not in {0, owner} else ""


def _remove(path: Path, *, rerun: bool) -> bool:
    """Remove a copy; False where not all of it is gone, or where a launch has chosen it meanwhile.

    ``rerun``: a run may be submitted again that needs the links into it; they lead there again once it is made again.

    It is renamed first: killed at any moment, this leaves nothing that would be taken for a whole copy.
    """
    aside = path.with_name(f".{path.name}.pruned.{os.getpid()}.{os.urandom(4).hex()}")
    try:
        path.rename(aside)
    except FileNotFoundError:
        return True  # somebody else was quicker
    if _is_young(aside):
        try:
            aside.rename(path)
        except OSError:  # the launch has made it again
            _discard(aside)
        return False
    path.with_name(f"{path.name}.diff").unlink(missing_ok=True)
    if not rerun:
        _discard(path.with_name(f"{path.name}.path"))
    _discard(aside)
    return not aside.exists()


def _rests(place: Path, named: Collection[str], *, own: bool) -> Iterator[Path]:
    """What killed launches and prunes have left in a folder of copies.

    ``named``: versions of which links are kept. ``own``: the log directory's, where one prune goes on at a time.
    """
    if not place.is_dir():
        return
    for path in sorted(place.iterdir()):
        try:
            facts = path.lstat()
        except FileNotFoundError:
            continue
        age = time.time() - facts.st_mtime
        found = _REST.fullmatch(path.name)
        if found:
            if age > _OLD or (age > YOUNG and not Path(f"/proc/{found[2]}").exists()):
                yield path
        elif _ASIDE.fullmatch(path.name):
            # elsewhere the prune of another log directory may be at it: a rename is a change of the folder's facts
            if own or time.time() - facts.st_ctime > YOUNG:
                yield path
        elif path.suffix in {".diff", ".path"} and _COMMIT.fullmatch(path.stem) and age > YOUNG:
            needed = path.suffix == ".path" and path.stem in named
            if not needed and not path.with_suffix("").exists():
                yield path


def _discard(path: Path) -> None:
    """Remove a folder or a file, as far as that is possible."""
    if path.is_dir() and not path.is_symlink():
        remove_tree(path)
    else:
        try:
            path.unlink(missing_ok=True)
        except OSError:
            return

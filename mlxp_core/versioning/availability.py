"""Find out if git can still give a version of the code as it was, and if it will keep it. Changes nothing."""

from __future__ import annotations

import filecmp
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from mlxp_core.errors import SnapshotError
from mlxp_core.runs.code_version import CodeVersion
from mlxp_core.runs.layout import LogDir
from mlxp_core.versioning.export import export_commit, remove_tree
from mlxp_core.versioning.git import Entry, Repository, find_repository
from mlxp_core.versioning.kept_objects import find_kept
from mlxp_core.versioning.run_output import BYTE_CODE


def find_version(folder: Path, commit: str, *places: Path) -> Repository:
    """Find the repository that a folder lies in, and this commit in it. Raises SnapshotError.

    ``places`` are folders of copies, beside which the version may be kept: it was in no repository, or that has gone.
    """
    try:
        return _find_users_version(folder, commit)
    except SnapshotError:
        if (kept := _find_kept(commit, places)) is not None:
            return kept
        raise


def locate_version(version: CodeVersion, *places: Path) -> Repository:
    """Find the repository that has the commit of a version, the user's or one of ours. Raises SnapshotError."""
    folder, commit = _recorded(version, None)
    return find_version(folder, commit, *places, *_beside(version))


def locate_commit(version: CodeVersion, moved_to: Path | None = None, *, log_dir: LogDir | None = None) -> Repository:
    """Find the repository that has all of a version; ``moved_to`` is where it is now. Raises SnapshotError.

    Where that has not, it is what the log directory has kept of it; ``log_dir`` is that of the run, wherever it is now.
    """
    folder, commit = _recorded(version, moved_to)
    try:
        return _find_users_whole(folder, commit, version.copy)
    except SnapshotError:
        kept = _find_kept(commit, [*([log_dir.code] if log_dir else []), *_beside(version)])
        if kept is None:
            raise
        return kept


def _find_users_whole(folder: Path, commit: str, copy: Path | None) -> Repository:
    repository = _find_users_version(folder, commit)
    if reason := missing_objects_reason(repository, commit, copy if copy is not None and copy.is_dir() else None):
        raise SnapshotError(reason)
    return repository


def _recorded(version: CodeVersion, moved_to: Path | None) -> tuple[Path, str]:
    folder = moved_to or version.repo_path
    if folder is None or version.commit is None:
        raise SnapshotError("it is not recorded which commit of which repository it is")
    return folder, version.commit


def _find_users_version(folder: Path, commit: str) -> Repository:
    if not folder.is_dir():
        raise SnapshotError(f"{folder}, where its repository was, is not there")
    repository = find_repository(folder)
    if not repository.has_commit(commit):
        raise SnapshotError(f"{repository.top} does not have commit {commit[:10]}")
    return repository


def _beside(version: CodeVersion) -> list[Path]:
    return [version.copy.parent] if version.copy else []


def _find_kept(commit: str, places: Iterable[Path]) -> Repository | None:
    found = (find_kept(place, commit) for place in dict.fromkeys(places))
    return next((repository for repository in found if repository is not None), None)


def missing_objects_reason(repository: Repository, commit: str, copy: Path | None = None) -> str:
    """Say why git cannot give all files of a version; empty where it can.

    ``copy`` is the version as it was given before, where there is one: what a filter such as LFS makes of the files is
    no part of git, so these are made again and compared.
    """
    if not repository.has_commit(commit):
        return f"{repository.top} does not have commit {commit[:10]}"
    try:
        # without asking a server for what a partial clone left there
        listed = repository.git("rev-list", "--objects", "--no-walk", "--missing=print", commit)
    except SnapshotError as error:
        return f"{repository.top} has lost part of commit {commit[:10]}: {error}"
    if any(line.startswith("?") for line in listed.splitlines()):
        return f"{repository.top} has lost files of commit {commit[:10]} (git fsck)"
    filtered = False
    for entry in repository.tree_entries(commit):
        if entry.is_submodule:
            if reason := _missing_submodule_reason(repository, entry, copy / entry.path if copy else None):
                return reason
        elif os.path.basename(entry.path) == ".gitattributes":  # noqa: PTH119
            filtered |= "filter=" in repository.git("cat-file", "blob", entry.oid)
    return _filter_reason(repository, commit, copy) if filtered and copy is not None else ""


def unreferenced_reason(repository: Repository, commit: str) -> str:
    """Say why git may throw a version away; empty where a ref holds it, and those of its submodules."""
    if not repository.git("for-each-ref", "--count=1", f"--contains={commit}"):
        return f"no branch, tag or other ref of {repository.top} has commit {commit[:10]}, so git may throw it away"
    for entry in repository.tree_entries(commit):
        submodule = repository.submodule(entry.path) if entry.is_submodule else None
        if submodule is not None and (reason := unreferenced_reason(submodule, entry.oid)):
            return reason
    return ""


def foreign_files_reason(repository: Repository, commit: str, copy: Path) -> str:
    """Name what a copy holds that is not of its version: what a job has written there; empty where there is none."""
    with tempfile.TemporaryDirectory(prefix="hydra-mlxp-") as folder:
        index = Path(folder, "index")
        repository.git("read-tree", commit, index=index)
        there = ("-c", "core.fileMode=false", f"--work-tree={copy}")
        # by content, as git's filters have it; what git ignores, too
        changed = repository.git(
            *there, "diff", "--name-only", "--no-ext-diff", "--ignore-submodules=all", "-z", index=index
        )
        added = repository.git(*there, "ls-files", "--others", "-z", index=index)
    foreign = [path for path in f"{added}{changed}".split("\0") if path and BYTE_CODE not in Path(path).parts]
    for entry in repository.tree_entries(commit):
        submodule = repository.submodule(entry.path) if entry.is_submodule else None
        foreign = [path for path in foreign if submodule is None or not Path(path).is_relative_to(entry.path)]
        if submodule is not None and (reason := foreign_files_reason(submodule, entry.oid, copy / entry.path)):
            return reason
    if not foreign:
        return ""
    more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
    return f"a job has written into it, and git does not have that: {copy / foreign[0]}{more}: move it away"


def _missing_submodule_reason(repository: Repository, entry: Entry, copy: Path | None) -> str:
    submodule = repository.submodule(entry.path)
    if submodule is not None:
        return missing_objects_reason(submodule, entry.oid, copy)
    # one that was not there when the copy was made is an empty folder in it
    if copy is not None and copy.is_dir() and any(copy.iterdir()):
        return (
            f"the submodule {entry.path} of {repository.top} is not checked out any more (git submodule update --init "
            "--recursive)"
        )
    return ""


def _filter_reason(repository: Repository, commit: str, copy: Path) -> str:
    with tempfile.TemporaryDirectory(prefix="hydra-mlxp-") as folder:
        again = Path(folder, "again")
        try:
            export_commit(repository, commit, again)
            different = _difference(again, copy)
        except SnapshotError as error:
            return str(error)
        finally:
            remove_tree(again)
    return f"a filter of git, such as LFS, makes something else of {different} now" if different else ""


def _difference(first: Path, second: Path) -> str:
    """The first path that two folders do not have alike; byte code and the right to write do not count."""
    for folder, folders, files in os.walk(first):
        here = Path(folder).relative_to(first)
        if {*folders, *files} - {BYTE_CODE} != _names(second / here) - {BYTE_CODE}:
            return str(here)
        for name in files:
            if not _is_same_file(first / here / name, second / here / name):
                return str(here / name)
    return ""


def _names(folder: Path) -> set[str]:
    return set(os.listdir(folder)) if folder.is_dir() else set()  # noqa: PTH208


def _is_same_file(first: Path, second: Path) -> bool:
    if first.is_symlink() or second.is_symlink():
        return first.is_symlink() and second.is_symlink() and first.readlink() == second.readlink()
    return filecmp.cmp(first, second, shallow=False) and _is_executable(first) == _is_executable(second)


def _is_executable(path: Path) -> bool:
    return bool(path.stat().st_mode & 0o100)

"""Whether git can still give a version of the code as it was, and whether git will keep it. Changes nothing."""

from __future__ import annotations

import filecmp
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlxp_core.errors import SnapshotError
from mlxp_core.runs.state import RunState
from mlxp_core.versioning.export import export_commit, remove_tree
from mlxp_core.versioning.git import BYTE_CODE, Repository, find_repository

_LINK = "160000"  # the mode of a submodule's entry


def code_of(one: RunState) -> Mapping[str, Any]:
    """The version_manager fields of a run; none where it has recorded none."""
    facts = one.info.get("version_manager")
    return facts if isinstance(facts, Mapping) else {}


def find_version(folder: Path, commit: str) -> Repository:
    """The repository that a folder lies in, which has this commit. Raises SnapshotError."""
    if not folder.is_dir():
        raise SnapshotError(f"{folder}, where its repository was, is not there")
    repository = find_repository(folder)
    if not _has(repository, commit):
        raise SnapshotError(f"{repository.top} does not have commit {commit[:10]}")
    return repository


def locate_commit(facts: Mapping[str, Any], place: Path | None = None) -> Repository:
    """The repository that has the version of these facts whole; ``place`` is where it is now. Raises SnapshotError."""
    place = place or (Path(str(facts["repo_path"])) if facts.get("repo_path") else None)
    if place is None or not facts.get("commit_hash"):
        raise SnapshotError("it is not recorded which commit of which repository it is")
    commit, copy = str(facts["commit_hash"]), facts.get("copy")
    repository = find_version(place, commit)
    before = Path(copy) if isinstance(copy, str) and Path(copy).is_dir() else None
    if why := missing_objects_reason(repository, commit, before):
        raise SnapshotError(why)
    return repository


def missing_objects_reason(repository: Repository, commit: str, copy: Path | None = None) -> str:
    """Why git cannot give all files of a version; empty where it can.

    ``copy`` is the version as it was given before, where there is one: what a filter such as LFS makes of the files is
    no part of git, so these are made again and compared.
    """
    if not _has(repository, commit):
        return f"{repository.top} does not have commit {commit[:10]}"
    try:
        # without asking a server for what a partial clone left there
        listed = repository.git("rev-list", "--objects", "--no-walk", "--missing=print", commit)
    except SnapshotError as error:
        return f"{repository.top} has lost part of commit {commit[:10]}: {error}"
    if any(line.startswith("?") for line in listed.splitlines()):
        return f"{repository.top} has lost files of commit {commit[:10]} (git fsck)"
    filtered = False
    for mode, oid, path in _entries(repository, commit):
        if mode == _LINK:
            if why := _why_not_submodule(repository, path, oid, copy / path if copy else None):
                return why
        elif os.path.basename(path) == ".gitattributes":  # noqa: PTH119
            filtered |= "filter=" in repository.git("cat-file", "blob", oid)
    return _why_different(repository, commit, copy) if filtered and copy is not None else ""


def unreferenced_reason(repository: Repository, commit: str) -> str:
    """Why git may throw a version away; empty where a ref holds it, and those of its submodules."""
    if not repository.git("for-each-ref", "--count=1", f"--contains={commit}"):
        return f"no branch, tag or other ref of {repository.top} has commit {commit[:10]}, so git may throw it away"
    for mode, oid, path in _entries(repository, commit):
        inside = repository.submodule(path) if mode == _LINK else None
        if inside is not None and (why := unreferenced_reason(inside, oid)):
            return why
    return ""


def _has(repository: Repository, commit: str) -> bool:
    try:
        repository.git("cat-file", "-e", f"{commit}^{{commit}}")
    except SnapshotError:
        return False
    return True


def _why_not_submodule(repository: Repository, path: str, commit: str, copy: Path | None) -> str:
    inside = repository.submodule(path)
    if inside is not None:
        return missing_objects_reason(inside, commit, copy)
    # one that was not there when the copy was made is an empty folder in it
    if copy is not None and copy.is_dir() and any(copy.iterdir()):
        return (
            f"the submodule {path} of {repository.top} is not checked out any more (git submodule update --init "
            "--recursive)"
        )
    return ""


def _why_different(repository: Repository, commit: str, copy: Path) -> str:
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


def _difference(one: Path, other: Path) -> str:
    """The first path that two folders do not have alike; byte code and the right to write do not count."""
    for folder, folders, files in os.walk(one):
        here = Path(folder)
        there = other / here.relative_to(one)
        if sorted({*folders, *files} - {BYTE_CODE}) != sorted(
            {entry.name for entry in os.scandir(there)} - {BYTE_CODE} if there.is_dir() else ()
        ):
            return str(here.relative_to(one))
        for name in files:
            mine, theirs = here / name, there / name
            if mine.is_symlink() or theirs.is_symlink():
                same = mine.is_symlink() and theirs.is_symlink() and mine.readlink() == theirs.readlink()
            else:
                same = filecmp.cmp(mine, theirs, shallow=False) and _runs(mine) == _runs(theirs)
            if not same:
                return str(mine.relative_to(one))
    return ""


def _runs(path: Path) -> bool:
    return bool(path.stat().st_mode & 0o100)


def _entries(repository: Repository, commit: str) -> list[tuple[str, str, str]]:
    """Mode, object and path of each file and submodule of a commit. Source: git-ls-tree(1)."""
    entries = []
    for line in repository.git("ls-tree", "-r", "-z", "--full-tree", commit).split("\0"):
        if line:
            facts, _, path = line.partition("\t")
            mode, _, oid = facts.split(" ")
            entries.append((mode, oid, path))
    return entries

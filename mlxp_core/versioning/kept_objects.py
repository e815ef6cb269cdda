"""Keep the objects of a version beside the copies, so that it can be made again where its repository is gone.

While there is a copy, that is enough. The objects are kept when it is pruned: compressed, and what versions have in
common once; so they cost next to nothing of what is freed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from mlxp_core.errors import SnapshotError
from mlxp_core.runs.layout import CodeDir
from mlxp_core.versioning.capture import REFS
from mlxp_core.versioning.export import remove_tree
from mlxp_core.versioning.git import Repository, run_git

# a commit that is no branch's, and that only a ref of ours has, or none
_ANY_COMMIT = "--upload-pack=git -c uploadpack.allowAnySHA1InWant=true upload-pack"


def keep_objects(repository: Repository, commit: str, place: Path) -> None:
    """Fetch a version, without its history, into the repository beside the copies. Raises SnapshotError."""
    if find_kept(place, commit) is not None:
        return
    git_dir = CodeDir(place).repository
    if not git_dir.is_dir():
        create_repository(git_dir)
    for entry in repository.tree_entries(commit):
        submodule = repository.submodule(entry.path) if entry.is_submodule else None
        if submodule is not None:
            keep_objects(submodule, entry.oid, place)
    words = ("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--depth=1", _ANY_COMMIT, str(repository.top))
    _open(git_dir).git("-c", "gc.auto=0", *words, f"{commit}:{REFS}/{commit}")


def find_kept(place: Path, commit: str) -> Repository | None:
    """The repository beside the copies in ``place`` where it has all of a version; None where it does not."""
    git_dir = CodeDir(place).repository
    if not git_dir.is_dir():
        return None
    repository = _open(git_dir)
    return repository if repository.has_commit(commit) else None


def _open(git_dir: Path) -> Repository:
    # git needs a work tree for some commands
    variables = {"GIT_DIR": str(git_dir), "GIT_WORK_TREE": str(git_dir)}

    def run(words: Sequence[str], folder: Path, environment: Mapping[str, str], stdin: bytes) -> bytes:
        return run_git(words, folder, {**variables, **environment}, stdin)

    return Repository(git_dir, run, holds_submodules=True)


def create_repository(git_dir: Path) -> None:
    """Make a repository, unless another process is quicker. Raises SnapshotError."""
    git_dir.parent.mkdir(parents=True, exist_ok=True)
    temporary = git_dir.with_name(f".{git_dir.name}.{os.getpid()}.{os.urandom(4).hex()}")
    try:
        run_git(("git", "init", "--quiet", "--bare", "--template=", str(temporary)), git_dir.parent, {}, b"")
        try:
            temporary.rename(git_dir)
        except OSError as error:
            if not git_dir.is_dir():  # else another process was quicker
                raise SnapshotError(f"{git_dir} cannot be made: {error}") from error
    finally:
        remove_tree(temporary)

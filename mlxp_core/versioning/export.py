"""Write the files of a commit: into any folder, or as a copy for jobs, made aside and published under its name."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import stat
from pathlib import Path

from mlxp_core.errors import SnapshotError
from mlxp_core.versioning.capture import submodules
from mlxp_core.versioning.git import Repository

log = logging.getLogger(__name__)


def publish_copy(repository: Repository, commit: str, place: Path) -> Path:
    """Put the files of a commit into ``place/<commit>``, unless they are there already. Raises SnapshotError."""
    target = place / commit
    if target.is_dir():
        with contextlib.suppress(PermissionError, FileNotFoundError):  # of another user, who alone may remove it
            os.utime(target)  # in use: see prune.py
        if target.is_dir():  # else `mlxp snapshots prune` was quicker
            return target
    place.mkdir(parents=True, exist_ok=True)
    temporary = place / f".{commit}.{os.getpid()}.{os.urandom(4).hex()}"
    try:
        export_commit(repository, commit, temporary)
        _make_read_only(temporary)
        try:
            temporary.rename(target)
        except OSError:
            if not target.is_dir():  # else another launch was quicker, with the same files
                raise
    finally:
        remove_tree(temporary)
    return target


def export_commit(repository: Repository, commit: str, folder: Path) -> None:
    """Write the files of a commit, and of its submodules at theirs, into a new folder. Raises SnapshotError."""
    index = folder.with_name(f"{folder.name}.index")
    try:
        # an index of its own, so that what is staged stays; not `git archive`, which leaves out what is export-ignore
        repository.git("read-tree", commit, index=index)
        nested = submodules(repository, index)
        # side by side, since git 2.32
        workers = ("-c", f"checkout.workers={min(4, os.cpu_count() or 1)}")
        repository.git(*workers, "checkout-index", "--all", f"--prefix={folder}/", index=index)
    finally:
        index.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)  # an empty commit
    for path, submodule_commit in nested:
        _write_submodule(repository, path, submodule_commit, folder / path)


def _write_submodule(repository: Repository, path: str, commit: str, folder: Path) -> None:
    submodule = repository.submodule(path)
    if submodule is None:
        log.warning("the submodule %s of %s is not checked out, so its folder is empty", path, repository.top)
        folder.mkdir(parents=True, exist_ok=True)
        return
    if not submodule.has_commit(commit):
        raise SnapshotError(
            f"the submodule {path} of {repository.top} does not have its commit {commit[:10]}: "
            "git submodule update --init --recursive"
        )
    shutil.rmtree(folder, ignore_errors=True)
    export_commit(submodule, commit, folder)


def _make_read_only(top: Path) -> None:
    """Take the right to write files away, and leave Python a place for its byte code in each folder.

    Folders stay writable for their owner, whose `rm -rf` and `git clean -fdx` would fail in others (copy_guard.py).
    """
    for folder, _, names in os.walk(top, topdown=False):
        for name in names:
            path = f"{folder}/{name}"
            mode = os.lstat(path).st_mode
            if stat.S_ISREG(mode):
                os.chmod(path, mode & ~0o222)  # noqa: PTH101  (thousands)
        if any(name.endswith(".py") for name in names):
            os.makedirs(f"{folder}/__pycache__", exist_ok=True)  # noqa: PTH103
        if os.path.basename(folder) != "__pycache__":  # noqa: PTH119
            os.chmod(folder, os.lstat(folder).st_mode & ~0o022)  # noqa: PTH101


def remove_tree(folder: Path) -> None:
    """Remove a copy, which is read-only, or what is left of one."""
    for name, _, _ in os.walk(folder):
        with contextlib.suppress(OSError):
            os.chmod(name, 0o700)  # noqa: PTH101
    shutil.rmtree(folder, ignore_errors=True)

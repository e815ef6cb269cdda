"""Commit a work tree as it is: with what is not committed and not ignored, and with that of its submodules.

Branch, index and work tree stay as they are: the files are added to a copy of the index, the commit hangs on a ref of
its own, refs/mlxp/<commit>, so that git keeps it. The same files on the same commit give the same commit again.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from mlxp_core.errors import SnapshotError
from mlxp_core.versioning.git import Entry, FileChange, Repository
from mlxp_core.versioning.run_output import BYTE_CODE, RunOutput

REFS = "refs/mlxp"
_NOBODY = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "hydra-mlxp"), ("EMAIL", "hydra-mlxp@localhost"))
}


def commit_work_tree(repository: Repository, head: str | None, leave_out: Sequence[Path] = ()) -> str:
    """Return the commit whose files are those of the work tree: ``head`` where nothing differs, else a new one.

    ``head`` is the commit that is checked out, None before the first. ``leave_out``: folders that are no part of it.
    Raises SnapshotError.
    """
    with tempfile.TemporaryDirectory(prefix="hydra-mlxp-") as folder:
        index = Path(folder, "index")
        users_index = repository.git_dir / "index"
        if users_index.exists():
            shutil.copy2(users_index, index)  # with its time, by which git tells what may have changed since
        _show_hidden(repository, index)
        _add(repository, index, leave_out)
        for path, commit in submodules(repository, index):
            submodule = repository.submodule(path)
            if submodule is None:
                continue
            captured = commit_work_tree(submodule, commit)
            if captured != commit:
                repository.set_submodule(index, path, captured)
        tree = repository.git("write-tree", index=index)
    if head is None:
        return _commit(repository, tree, None, "0")
    before, _, time = repository.git("log", "--max-count=1", "--format=%T %ct", head).partition(" ")
    return head if tree == before else _commit(repository, tree, head, time)


def commit_folder(
    repository: Repository, commit: str, folder: Path, output: RunOutput, leave_out: Sequence[str] = ()
) -> str:
    """Return the commit whose files are those of a folder that began as ``commit``; that one where nothing differs.

    Submodules, which are plain files there, count as unchanged. ``leave_out``: paths that are no part of it, as what
    running has left there, by ``output``, is not. Raises SnapshotError.
    """
    elsewhere = repository.with_work_tree(folder)
    with tempfile.TemporaryDirectory(prefix="hydra-mlxp-") as temporary:
        index = Path(temporary, "index")
        elsewhere.git("read-tree", commit, index=index)
        left = left_by_running(elsewhere, output, index)
        excluded = [*leave_out, *left, *(path for path, _ in submodules(elsewhere, index))]
        elsewhere.git(
            *("add", "--all", "--", "."),
            *(f":(exclude,top,literal){path}" for path in excluded),
            f":(exclude,top,glob)**/{BYTE_CODE}/**",
            index=index,
        )
        tree = elsewhere.git("write-tree", index=index)
    before, _, time = repository.git("log", "--max-count=1", "--format=%T %ct", commit).partition(" ")
    return commit if tree == before else _commit(repository, tree, commit, time)


def left_by_running(repository: Repository, output: RunOutput, index: Path | None = None) -> list[str]:
    """What running has left among the files that an index does not have, as paths from the top."""
    listed = repository.git("ls-files", "--others", "--exclude-standard", "--directory", "-z", index=index)
    return [left for path in listed.split("\0") if path for left in output.split(path)[1]]


def hidden_changes(repository: Repository) -> tuple[FileChange, ...]:
    """Files that differ and that `git status` is told not to look at (update-index --assume-unchanged)."""
    hidden = {entry.path: entry.oid for entry in _hidden(repository)}
    if not hidden:
        return ()
    paths = [path for path in hidden if "\n" not in path]
    answer = repository.git("hash-object", "--stdin-paths", stdin=os.fsencode("".join(f"{path}\n" for path in paths)))
    return tuple(FileChange(" M", path) for path, now in zip(paths, answer.split(), strict=True) if hidden[path] != now)


@contextmanager
def unhidden(repository: Repository, paths: Collection[str]) -> Iterator[None]:
    """Have git look at hidden files among these paths, to commit them; afterwards it is told again not to."""
    hidden = [entry for entry in _hidden(repository) if entry.path in paths]
    flags = {
        "--assume-unchanged": [entry.path for entry in hidden if entry.tag.islower()],
        "--skip-worktree": [entry.path for entry in hidden if entry.tag in "Ss"],
    }
    _flag(repository, {flag.replace("--", "--no-"): names for flag, names in flags.items()})
    try:
        yield
    finally:
        _flag(repository, flags)


def _flag(repository: Repository, flags: Mapping[str, Sequence[str]]) -> None:
    for flag, names in flags.items():
        if names:
            stdin = os.fsencode("".join(f"{name}\0" for name in names))
            repository.git("update-index", flag, "-z", "--stdin", stdin=stdin)


def submodules(repository: Repository, index: Path) -> list[tuple[str, str]]:
    """Path and commit of each submodule in an index, and of each clone that was added to it."""
    return [(entry.path, entry.oid) for entry in repository.index_entries(index) if entry.is_submodule]


def _add(repository: Repository, index: Path, leave_out: Sequence[Path]) -> None:
    top = repository.top.resolve()
    # a link is left out itself, and where it leads to
    places = {place for path in leave_out for place in (path.parent.resolve() / path.name, path.resolve())}
    excluded = sorted(place.relative_to(top) for place in places if place.is_relative_to(top))
    if not any(repository.top.iterdir()):
        return
    try:
        repository.git(
            *("add", "--all", "--", "."),
            *(f":(exclude,top,literal){path}" for path in excluded if path.parts),
            f":(exclude,top,glob)**/{BYTE_CODE}/**",
            index=index,
        )
    except SnapshotError as error:
        if "does not have a commit checked out" in str(error):
            raise SnapshotError(
                f"a repository within {repository.top} has no commit yet, and git cannot add it: {error}\n"
                "Commit there, or name it in .gitignore."
            ) from error
        raise


def _show_hidden(repository: Repository, index: Path) -> None:
    hidden = _hidden(repository, index)
    if hidden:
        names = os.fsencode("".join(f"{entry.path}\0" for entry in hidden))
        repository.git(
            "update-index", "--no-assume-unchanged", "--no-skip-worktree", "-z", "--stdin", index=index, stdin=names
        )


def _hidden(repository: Repository, index: Path | None = None) -> list[Entry]:
    """Files that git is told not to look at, and that are there nevertheless."""
    return [
        entry
        for entry in repository.index_entries(index)
        # a lower-case tag: --assume-unchanged; S: --skip-worktree, also for what a sparse checkout leaves out
        if (entry.tag.islower() or entry.tag == "S") and (repository.top / entry.path).is_file()
    ]


def _commit(repository: Repository, tree: str, parent: str | None, time: str) -> str:
    """Make a commit and its ref. By its own author, and at its parent's time: it is the same each time."""
    date = f"@{time} +0000"
    environment = {**_NOBODY, "GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date}
    message = f"work tree on {parent or 'no commit'}"
    parents = [] if parent is None else ["-p", parent]
    commit = repository.git("commit-tree", *parents, "-m", message, tree, environment=environment)
    # ten launches at once make the same one, and git waits 0.1 s for another's lock
    repository.git("-c", "core.filesRefLockTimeout=20000", "update-ref", f"{REFS}/{commit}", commit)
    return commit

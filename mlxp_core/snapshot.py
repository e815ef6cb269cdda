"""The code that jobs run: a copy of the repository's commit, at most one for each commit, complete or absent.

The only module that speaks to git. The user's branch, index and work tree are read, never written.
"""

from __future__ import annotations

import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mlxp_core.errors import SnapshotError
from mlxp_core.layout import LogDir

if TYPE_CHECKING:
    import git

log = logging.getLogger(__name__)

_OPT_OUT = "or let the jobs run the files as they are when they start, with hydra.launcher.snapshot=none"


class Change(NamedTuple):
    """What `git status` says of one path."""

    state: str  # two letters
    path: str  # relative to the top

    def __str__(self) -> str:
        """As git prints it."""
        return f"{self.state} {self.path}"


@dataclass(frozen=True)
class Code:
    """Which code a batch of jobs runs, and where."""

    repo: Path  # top of the repository's work tree
    commit: str  # its full hash
    copy: Path  # the commit's files
    uncommitted: tuple[Change, ...]  # what the copy does not have
    ignored: tuple[Change, ...]  # what git is told to ignore; the copy does not have it either

    def place(self, path: Path) -> Path:
        """Where a path of the work tree lies in the copy; a path outside of the repository stays."""
        path = Path(os.path.abspath(path))  # noqa: PTH100
        # a home is often a link to somewhere else; the last part may be a link that is committed as such, and stays
        for place in (path, path.parent.resolve() / path.name):
            for top in (self.repo, self.repo.resolve()):
                if place.is_relative_to(top):
                    return self.copy / place.relative_to(top)
        return path


def take_snapshot(program: Path, log_dir: LogDir) -> Code:
    """Publish the commit that is checked out where ``program`` lies, under the log directory.

    Raises SnapshotError where there is no repository, no commit, or git fails; then nothing is left behind.
    """
    try:
        import git  # noqa: PLC0415  (an import that only a launch should pay for)
    except ImportError as error:  # which is what GitPython raises where there is no program git
        raise SnapshotError(f"the code cannot be frozen without git: install it, {_OPT_OUT}.\n{error}") from error
    try:
        repo = git.Repo(program if program.is_dir() else program.parent, search_parent_directories=True)
    except (git.InvalidGitRepositoryError, git.NoSuchPathError):
        raise SnapshotError(
            f"{program} is in no git repository, so its code cannot be frozen for the jobs. "
            f"Make one (git init, git add, git commit), {_OPT_OUT}."
        ) from None
    with repo:
        if repo.working_tree_dir is None:
            raise SnapshotError(f"{repo.git_dir} is a bare repository: launch from a checkout, {_OPT_OUT}.")
        top = Path(repo.working_tree_dir)
        # `git status` would refresh the user's index, and read-tree run the user's hooks
        repo.git.update_environment(GIT_OPTIONAL_LOCKS="0")
        repo.git.set_persistent_git_options(c="core.hooksPath=/dev/null")
        try:
            commit = repo.git.rev_parse("--verify", "HEAD")
            changes = _changes(repo, top, log_dir)
            copy = _publish(repo, commit, log_dir)
        except (git.GitCommandError, OSError) as error:
            if "Needed a single revision" in str(error):
                raise SnapshotError(f"the repository {top} has no commit yet: commit, {_OPT_OUT}.") from error
            raise SnapshotError(f"the code of {top} could not be copied, {_OPT_OUT}: {error}") from error
        ignored = tuple(change for change in changes if change.state == "!!")
        code = Code(top, commit, copy, tuple(change for change in changes if change.state != "!!"), ignored)
        if not code.place(program).exists():
            raise SnapshotError(
                f"{program} is not in the commit {commit[:10]} that the jobs would run: commit it, {_OPT_OUT}."
            )
        return code


def _changes(repo: git.Repo, top: Path, log_dir: LogDir) -> list[Change]:
    entries = iter(repo.git.status("--porcelain", "-z", "--untracked-files=normal", "--ignored").split("\0"))
    own = log_dir.path.resolve()  # what the runs wrote is no change of the code
    changes = []
    for entry in entries:
        if not entry:
            continue
        state, name = entry[:2], entry[3:]
        if "R" in state or "C" in state:
            next(entries, None)  # the old name of what was renamed or copied
        if not (top / name).resolve().is_relative_to(own):
            changes.append(Change(state, name))
    return changes


def _publish(repo: git.Repo, commit: str, log_dir: LogDir) -> Path:
    target = log_dir.code / commit
    if target.is_dir():
        return target
    log_dir.code.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{commit}.{os.getpid()}.{os.urandom(4).hex()}")
    index = temporary.with_name(temporary.name + ".index")
    try:
        # an index of its own, so that what is staged stays; not `git archive`, which leaves out what is export-ignore
        with repo.git.custom_environment(GIT_INDEX_FILE=str(index)):
            repo.git.read_tree(commit)
            _warn_of_submodules(repo)
            repo.git.checkout_index("--all", f"--prefix={temporary}/")
        temporary.mkdir(exist_ok=True)  # an empty commit
        try:
            temporary.rename(target)
        except OSError:
            if not target.is_dir():  # else another launch was quicker, with the same files
                raise
    finally:
        index.unlink(missing_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _warn_of_submodules(repo: git.Repo) -> None:
    links = [line.split("\t", 1)[1] for line in repo.git.ls_files("--stage").splitlines() if line.startswith("160000")]
    if links:
        log.warning("submodules are not copied yet, the jobs will find these folders empty: %s", ", ".join(links))

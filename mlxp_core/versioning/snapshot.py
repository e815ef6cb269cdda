"""The code that jobs run: which version, and a copy of it, at most one for each version, complete or absent."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mlxp_core.atomic_files import write_atomic
from mlxp_core.errors import ConfigurationError, NoRepositoryError, SnapshotError
from mlxp_core.runs.layout import LogDir, RunDir
from mlxp_core.versioning.capture import commit_work_tree, hidden_changes
from mlxp_core.versioning.export import publish_copy
from mlxp_core.versioning.git import FileChange, Repository, WorkTreeStatus, commit_files, find_repository, run_git

log = logging.getLogger(__name__)

AUTO, COMMIT, WORKTREE, NONE = SNAPSHOTS = ("auto", "commit", "worktree", "none")
ASK, CAPTURE, ADD, IGNORE, STOP = ON_CHANGES = ("ask", "capture", "commit", "ignore", "stop")

_OPT_OUT = "or let the jobs run the files as they are when they start, with hydra.launcher.snapshot=none"
# of untracked files, in `auto`: a dataset that nobody has told git to ignore is not code
_MOST_UNTRACKED = 200 << 20
# of the diff kept with each run; all of it is in git
_MOST_DIFF = 1 << 20


@dataclass(frozen=True)
class Decision:
    """What to do about changes that are not committed: one of ON_CHANGES, but for ASK."""

    what: str
    files: tuple[str, ...] = ()  # to commit, paths from the top; none named: all
    message: str = ""


@dataclass(frozen=True)
class SnapshotOptions:
    """Which code is to run: the options of the launcher that say so."""

    snapshot: str = AUTO
    on_changes: str = ASK  # in AUTO
    files: tuple[str, ...] = ()
    message: str = ""

    def check(self, key: str) -> None:
        """Raise ConfigurationError for a value that means nothing; ``key`` is where the options stand."""
        for name, value, known in (("snapshot", self.snapshot, SNAPSHOTS), ("on_changes", self.on_changes, ON_CHANGES)):
            if value not in known:
                raise ConfigurationError(f"{key}.{name}={value} is not one of {', '.join(known)}")
        if self.on_changes == ADD and not self.message:
            raise ConfigurationError(f"{key}.on_changes={ADD} needs {key}.commit_message='…'")


DecisionPrompt = Callable[[Repository, WorkTreeStatus], Decision]


@dataclass(frozen=True)
class CodeVersion:
    """A version of the user's code."""

    repo: Path  # top of the repository's work tree
    commit: str | None  # full hash; None before the first commit of code that runs in place
    snapshot: str  # COMMIT, WORKTREE (captured: the commit has the changes), NONE (what ran was in place)
    head: str | None  # what was checked out
    branch: str | None
    changes: tuple[FileChange, ...]  # of the work tree, against HEAD; in the version only where it is a WORKTREE
    ignored: tuple[FileChange, ...] = ()  # what git is told to ignore; no version has it
    diff: str = ""  # of a WORKTREE against HEAD

    @property
    def excluded_changes(self) -> tuple[FileChange, ...]:
        """Changes of the work tree that the version does not have."""
        return () if self.snapshot == WORKTREE else self.changes

    @property
    def as_info(self) -> dict[str, Any]:
        """The version_manager fields of info.yaml."""
        return {
            "repo_path": str(self.repo),
            "commit_hash": self.commit,
            "snapshot": self.snapshot,
            "head": self.head,
            "branch": self.branch,
            "dirty": bool(self.changes),
            "uncommitted": [str(change) for change in self.changes],
        }


@dataclass(frozen=True)
class FrozenCode:
    """Which code a batch of jobs runs, and where."""

    version: CodeVersion
    copy: Path  # the version's files
    diff: Path | None = field(default=None)  # against HEAD, as text; None where there is none

    @property
    def links(self) -> Path:
        """A folder beside the copy for links into it, to packages whose folder has another name than they."""
        return self.copy.with_name(f"{self.copy.name}.path")

    def map_path(self, path: Path) -> Path:
        """Where a path of the work tree lies in the copy; a path outside of the repository stays."""
        path = Path(os.path.abspath(path))  # noqa: PTH100
        # a home is often a link to somewhere else; the last part may be a link that is committed as such, and stays
        for place in (path, path.parent.resolve() / path.name):
            for top in (self.version.repo, self.version.repo.resolve()):
                if place.is_relative_to(top):
                    return self.copy / place.relative_to(top)
        return path

    @property
    def as_info(self) -> dict[str, Any]:
        """The version_manager fields of info.yaml."""
        return {**self.version.as_info, "copy": str(self.copy)}

    def keep_diff(self, run: RunDir) -> None:
        """Have a run's metadata show the diff; a thousand runs share one file."""
        if self.diff is not None:
            try:
                os.link(self.diff, run.diff)
            except OSError:  # another file system, or one without links
                write_atomic(run.diff, self.diff.read_bytes())


def freeze_code(
    program: Path,
    log_dir: LogDir,
    wish: SnapshotOptions | None = None,
    *,
    place: Path | None = None,
    ask: DecisionPrompt | None = None,
) -> FrozenCode:
    """Publish a version of the code that ``program`` is part of, under the log directory or at ``place``.

    ``ask`` is called where there are changes and ``wish`` does not say what to do about them; without it they are
    captured. Raises SnapshotError where there is no repository, nothing to run, or git fails; then nothing is left.
    """
    wish = wish or SnapshotOptions()
    try:
        repository = find_repository(program if program.is_dir() else program.parent)
        version = _choose(repository, log_dir, wish, ask)
        copy = publish_copy(repository, _commit_of(version), place or log_dir.code)
        diff = _publish_diff(version, copy)
    except NoRepositoryError:
        raise _without_repository(program) from None
    except SnapshotError as error:
        raise SnapshotError(f"the code of {program} cannot be frozen: {error}\nPut that right, {_OPT_OUT}.") from error
    except OSError as error:
        raise SnapshotError(f"the code of {program} could not be copied, {_OPT_OUT}: {error}") from error
    code = FrozenCode(version, copy, diff)
    if not code.map_path(program).exists():
        raise SnapshotError(
            f"{program} is not in the version {copy.name[:10]} that the jobs would run: commit it, or use "
            f"hydra.launcher.snapshot=worktree (it must not be ignored by git), {_OPT_OUT}."
        )
    return code


def check_repository(program: Path) -> None:
    """Raise SnapshotError where there is no repository to take a version from; nothing is written."""
    try:
        find_repository(program if program.is_dir() else program.parent)
    except NoRepositoryError:
        raise _without_repository(program) from None


def _without_repository(program: Path) -> SnapshotError:
    return SnapshotError(
        f"{program} is in no git repository, so its code cannot be frozen for the jobs. "
        f"Make one (git init, git add, git commit), {_OPT_OUT}."
    )


def describe_version(program: Path, log_dir: LogDir, snapshot: str) -> CodeVersion | None:
    """Say which version a program runs that runs in place; None outside of a repository, or for NONE.

    Changes are captured unless ``snapshot`` is COMMIT. Raises SnapshotError.
    """
    top = next((folder for folder in program.parents if (folder / ".git").exists()), None)
    if snapshot == NONE or top is None:
        return None
    repository = Repository(top, run_git)
    status = repository.status(log_dir.path)
    if snapshot == COMMIT or not status.changes:
        return _version(repository, status, status.head, COMMIT if not status.changes else NONE)
    if snapshot == AUTO:
        _check_size(repository, status)
    return _captured(repository, status, log_dir)


def _choose(repository: Repository, log_dir: LogDir, wish: SnapshotOptions, ask: DecisionPrompt | None) -> CodeVersion:
    status = repository.status(log_dir.path)
    status = WorkTreeStatus(status.head, status.branch, (*status.changes, *hidden_changes(repository)), status.ignored)
    answer = _answer(repository, status, wish, ask)
    if answer.what == STOP:
        raise SnapshotError("stopped: there are changes that are not committed\n  " + _listed(status.changes))
    if answer.what == CAPTURE:
        if wish.snapshot == AUTO:
            _check_size(repository, status)
        return _captured(repository, status, log_dir)
    if answer.what == ADD:
        commit_files(repository, answer.files or (".",), answer.message)
        status = repository.status(log_dir.path)
    if status.head is None:
        raise SnapshotError(f"the repository {repository.top} has no commit yet")
    return _version(repository, status, status.head, COMMIT)


def _answer(
    repository: Repository, status: WorkTreeStatus, wish: SnapshotOptions, ask: DecisionPrompt | None
) -> Decision:
    if wish.snapshot == COMMIT or (wish.snapshot == AUTO and not status.changes):
        return Decision(IGNORE)
    if wish.snapshot == WORKTREE:
        return Decision(CAPTURE)
    if wish.on_changes != ASK:
        return Decision(wish.on_changes, wish.files, wish.message)
    if ask is not None:
        return ask(repository, status)
    return Decision(CAPTURE)


def _captured(repository: Repository, status: WorkTreeStatus, log_dir: LogDir) -> CodeVersion:
    commit = commit_work_tree(repository, status.head, _written_by_runs(repository, status, log_dir))
    if commit == status.head:
        return _version(repository, status, commit, COMMIT)
    return replace(_version(repository, status, commit, WORKTREE), diff=_diff(repository, status.head, commit))


def _version(repository: Repository, status: WorkTreeStatus, commit: str | None, snapshot: str) -> CodeVersion:
    return CodeVersion(repository.top, commit, snapshot, status.head, status.branch, status.changes, status.ignored)


def _commit_of(version: CodeVersion) -> str:
    if version.commit is None:
        raise SnapshotError(f"the repository {version.repo} has no commit yet")
    return version.commit


def _written_by_runs(repository: Repository, status: WorkTreeStatus, log_dir: LogDir) -> list[Path]:
    """What is no part of the code; but for what git ignores anyway, which `git add` does not want to hear of."""
    own = log_dir.path.resolve()
    written = [own]
    if own == repository.top.resolve():
        written = [log_dir.internal, *(folder for folder in own.iterdir() if RunDir(folder).info.exists())]
    ignored = [(repository.top / change.path).resolve() for change in status.ignored]
    return [path for path in written if not any(path.is_relative_to(one) for one in ignored)]


def _check_size(repository: Repository, status: WorkTreeStatus) -> None:
    """Raise SnapshotError for more untracked files than anybody calls code."""
    sizes = {
        change.path: _size(repository.top / change.path, _MOST_UNTRACKED)
        for change in status.changes
        if change.state == "??"
    }
    if sum(sizes.values()) > _MOST_UNTRACKED:
        largest = sorted(sizes, key=lambda path: -sizes[path])[:5]
        raise SnapshotError(
            f"there are more than {_MOST_UNTRACKED >> 20} MiB of untracked files in {repository.top}, which would be "
            f"copied: {', '.join(largest)}. Name them in .gitignore, or say which code to run: snapshot=worktree "
            "copies them all the same, snapshot=commit runs the last commit without them"
        )


def _size(path: Path, enough: int) -> int:
    """Bytes of a file, or of all files below a folder; no exact number above ``enough``."""
    if not path.is_dir() or path.is_symlink():
        return path.lstat().st_size
    total = 0
    for folder, _, names in os.walk(path):
        total += sum(os.lstat(f"{folder}/{name}").st_size for name in names)
        if total > enough:
            break
    return total


def _publish_diff(version: CodeVersion, copy: Path) -> Path | None:
    if not version.diff:
        return None
    path = copy.with_name(f"{copy.name}.diff")
    if not path.exists():
        write_atomic(path, version.diff)
    return path


def _diff(repository: Repository, head: str | None, commit: str) -> str:
    """What a captured version changes of the commit that it was made on; cut where it is very long."""
    # git knows the empty tree in every repository
    before = head or repository.git("hash-object", "-t", "tree", os.devnull)
    words = ("diff-tree", "-p", before, commit)
    text = repository.git("-c", "core.bigFileThreshold=10m", *words)
    if len(text) > _MOST_DIFF:
        return f"{text[:_MOST_DIFF]}\n… {len(text) - _MOST_DIFF} more characters: git {' '.join(words)}\n"
    return f"{text}\n"


def _listed(changes: Sequence[FileChange]) -> str:
    return "\n  ".join(str(change) for change in changes)

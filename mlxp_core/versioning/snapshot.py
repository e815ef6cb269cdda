"""Choose the version of the code that jobs run, and freeze it: one copy for each version, complete or absent."""

from __future__ import annotations

import enum
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from mlxp_core.atomic_files import write_atomic
from mlxp_core.errors import ConfigurationError, NoRepositoryError, SnapshotError
from mlxp_core.runs.code_version import CodeVersion, SnapshotMode
from mlxp_core.runs.git_exclusion import hide_folder
from mlxp_core.runs.layout import CodeDir, LogDir, RunDir
from mlxp_core.versioning.availability import locate_version
from mlxp_core.versioning.capture import commit_folder, commit_work_tree, hidden_changes, unhidden
from mlxp_core.versioning.export import publish_copy
from mlxp_core.versioning.git import FileChange, Repository, WorkTreeStatus, commit_files, find_repository, run_git
from mlxp_core.versioning.origin import CHECKOUT_MARKER, CodeOrigin, find_origin, write_copy_marker
from mlxp_core.versioning.own_repository import freeze_folder, program_folder
from mlxp_core.versioning.run_output import RunOutput, is_copy

OPT_OUT = "or let the jobs run the files as they are when they start, with hydra.launcher.snapshot=none"
# of untracked files, in `auto`: a dataset that nobody has told git to ignore is not code
_MOST_UNTRACKED = 200 << 20
# of the diff kept with each run; all of it is in git
_MOST_DIFF = 1 << 20

_Member = TypeVar("_Member", bound=enum.Enum)


class OnChanges(str, enum.Enum):
    """What to do where SnapshotMode.AUTO finds changes that are not committed."""

    ASK = "ask"  # whoever sits at the terminal; capture where nobody does
    CAPTURE = "capture"  # run the work tree, from a commit that no branch has
    COMMIT = "commit"  # add and commit them as the user does, and run that commit
    IGNORE = "ignore"  # run HEAD
    STOP = "stop"  # run nothing

    def __str__(self) -> str:
        """Give the bare value, on every Python version."""
        return self.value


@dataclass(frozen=True)
class Decision:
    """What to do about changes that are not committed."""

    action: OnChanges  # but for ASK
    files: tuple[str, ...] = ()  # to commit, paths from the top; none named: all
    message: str = ""


@dataclass(frozen=True)
class SnapshotOptions:
    """Options of a launcher that say which code is to run."""

    snapshot: SnapshotMode = SnapshotMode.AUTO
    on_changes: OnChanges = OnChanges.ASK  # in AUTO
    files: tuple[str, ...] = ()
    message: str = ""

    @classmethod
    def parse(
        cls, key: str, *, snapshot: str, on_changes: str, files: Iterable[str] = (), message: str | None = None
    ) -> SnapshotOptions:
        """Check options that the user gave under ``key``. Raises ConfigurationError for a value that means nothing."""
        options = cls(
            _member(SnapshotMode, snapshot, f"{key}.snapshot"),
            _member(OnChanges, on_changes, f"{key}.on_changes"),
            tuple(files),
            message or "",
        )
        if options.on_changes == OnChanges.COMMIT and not options.message:
            raise ConfigurationError(f"{key}.on_changes={on_changes} needs {key}.commit_message='…'")
        return options


def _member(kind: type[_Member], value: str, key: str) -> _Member:
    try:
        return kind(value)
    except ValueError:
        known = ", ".join(str(member) for member in kind)
        raise ConfigurationError(f"{key}={value} is not one of {known}") from None


DecisionPrompt = Callable[[Repository, WorkTreeStatus], Decision]


@dataclass(frozen=True)
class WorkTreeVersion:
    """A version of the user's code, with what the work tree has besides."""

    repo: Path  # top of the repository's work tree
    commit: str | None  # full hash; None before the first commit of code that runs in place
    snapshot: SnapshotMode  # not AUTO
    head: str | None  # what was checked out
    branch: str | None
    changes: tuple[FileChange, ...]  # of the work tree, against HEAD; in the version only where it is a WORKTREE
    ignored: tuple[FileChange, ...] = ()  # what git is told to ignore; no version has it
    diff: str = ""  # of a WORKTREE against HEAD
    committed: tuple[str, ...] = ()  # what the launch has just committed for the user, as `git show --name-status`

    @property
    def excluded_changes(self) -> tuple[FileChange, ...]:
        """Changes of the work tree that the version does not have."""
        return () if self.snapshot is SnapshotMode.WORKTREE else self.changes

    @property
    def recorded(self) -> CodeVersion:
        """What info.yaml has of it."""
        return CodeVersion.of_work_tree(
            self.repo,
            commit=self.commit,
            snapshot=self.snapshot,
            head=self.head,
            branch=self.branch,
            uncommitted=tuple(map(str, self.changes)),
        )


@dataclass(frozen=True)
class FrozenCode:
    """The code that a batch of jobs runs."""

    version: WorkTreeVersion
    copy: Path  # the version's files
    diff: Path | None = None  # against HEAD, as text; None where there is none
    origin: Path | None = None  # where the program lies, if not in the work tree: another copy, a checkout

    @property
    def links(self) -> Path:
        """A folder beside the copy for links into it, to packages whose folder has another name than they."""
        return CodeDir(self.copy.parent).links(self.copy.name)

    def map_path(self, path: Path) -> Path:
        """Translate a path of the work tree to the copy; a path outside of the repository stays as it is."""
        path = Path(os.path.abspath(path))  # noqa: PTH100
        # a home is often a link to somewhere else; the last part may be a link that is committed as such, and stays
        for candidate in (path, path.parent.resolve() / path.name):
            for top in (self.origin, self.version.repo, self.version.repo.resolve()):
                if top is not None and candidate.is_relative_to(top):
                    return self.copy / candidate.relative_to(top)
        return path

    @property
    def recorded(self) -> CodeVersion:
        """What info.yaml has of it."""
        return replace(self.version.recorded, copy=self.copy)

    def keep_diff(self, run: RunDir) -> None:
        """Link the diff into a run's metadata; a thousand runs share one file."""
        if self.diff is not None:
            try:
                os.link(self.diff, run.diff)
            except OSError:  # another file system, or one without links
                write_atomic(run.diff, self.diff.read_bytes())


def freeze_code(
    program: Path,
    log_dir: LogDir,
    options: SnapshotOptions | None = None,
    *,
    place: Path | None = None,
    ask: DecisionPrompt | None = None,
    launch_dir: Path | None = None,
) -> FrozenCode:
    """Publish a version of the code that ``program`` is part of, under the log directory or at ``place``.

    A program that runs from a copy or from a checkout itself, a step of a pipeline, gives its jobs the same version.
    ``ask`` is called where there are changes and ``options`` do not say what to do about them; without it they are
    captured. Outside of a repository it is the program's folder as it is (own_repository.py), for which ``launch_dir``
    counts. Raises SnapshotError where there is nothing to run, or git fails; then nothing is left.
    """
    options = options or SnapshotOptions()
    origin = find_origin(program / "-" if program.is_dir() else program)
    tree = None if origin is None or origin.version is None else origin.tree
    if tree is not None and origin is not None and _is_of_no_repository(origin):
        tree = None
    try:
        if origin is not None and tree is not None:
            version, copy = _publish_again(origin, log_dir, place or log_dir.code)
        else:
            repository, version = _find_and_choose(program, log_dir, options, place, ask=ask, launch_dir=launch_dir)
            copy = publish_copy(repository, _commit_of(version), place or log_dir.code)
        diff = _publish_diff(version, copy)
        with suppress(PermissionError):  # in a folder of another user
            write_copy_marker(copy, version.recorded)
        if place is not None:
            with suppress(OSError):  # another user's, who shares it
                hide_folder(place, lambda entry: is_copy(entry.name))
    except SnapshotError as error:
        raise SnapshotError(f"the code of {program} cannot be frozen: {error}\nPut that right, {OPT_OUT}.") from error
    except OSError as error:
        raise SnapshotError(f"the code of {program} could not be copied, {OPT_OUT}: {error}") from error
    code = FrozenCode(version, copy, diff, tree)
    if not code.map_path(program).exists():
        raise SnapshotError(
            f"{program} is not in the version {copy.name[:10]} that the jobs would run: commit it, or use "
            f"hydra.launcher.snapshot=worktree (it must not be ignored by git), {OPT_OUT}."
        )
    return code


def check_repository(program: Path, launch_dir: Path | None = None) -> None:
    """Raise SnapshotError where there is nothing to take a version from; nothing is written."""
    try:
        find_repository(program if program.is_dir() else program.parent)
    except NoRepositoryError:
        program_folder(program, launch_dir)


def _find_and_choose(
    program: Path,
    log_dir: LogDir,
    options: SnapshotOptions,
    place: Path | None,
    *,
    ask: DecisionPrompt | None,
    launch_dir: Path | None,
) -> tuple[Repository, WorkTreeVersion]:
    """Find the repository of a program, or make one of ours for it; choose the version that is to run."""
    try:
        repository = find_repository(program if program.is_dir() else program.parent)
    except NoRepositoryError:
        return _without_repository(program, log_dir, options, place or log_dir.code, launch_dir)
    return repository, _choose(repository, log_dir, options, ask, program)


def _without_repository(
    program: Path, log_dir: LogDir, options: SnapshotOptions, place: Path, launch_dir: Path | None
) -> tuple[Repository, WorkTreeVersion]:
    """Freeze the program's folder in a repository of ours: all of it as it is, so that nothing is a change."""
    if options.snapshot is SnapshotMode.COMMIT:
        raise SnapshotError(
            f"it is in no git repository, and hydra.launcher.snapshot={options.snapshot} runs a commit: make one (git "
            "init, git add, git commit), or leave the option out"
        )
    frozen = freeze_folder(program_folder(program, launch_dir), place, log_dir)
    version = WorkTreeVersion(frozen.repository.top, frozen.commit, SnapshotMode.WORKTREE, None, None, ())
    return frozen.repository, version


def describe_version(program: Path, log_dir: LogDir, snapshot: str) -> WorkTreeVersion | None:
    """Describe the code of a program that runs in place; None outside of a repository, or for SnapshotMode.NONE.

    Changes are captured unless ``snapshot`` is SnapshotMode.COMMIT. Raises SnapshotError.
    """
    top = next((folder for folder in program.parents if (folder / ".git").exists()), None)
    if snapshot == SnapshotMode.NONE or top is None:
        return None
    repository = Repository(top, run_git)
    status = repository.status(log_dir.path, program)
    if snapshot == SnapshotMode.COMMIT or not status.changes:
        mode = SnapshotMode.NONE if status.changes else SnapshotMode.COMMIT
        return _version(repository, status, status.head, mode)
    if snapshot == SnapshotMode.AUTO:
        _check_size(repository, status)
    return _captured(repository, status)


def describe_origin(origin: CodeOrigin, log_dir: LogDir, snapshot: str) -> tuple[CodeVersion, str]:
    """Describe the code of a program that runs in place, in a tree of any kind; and its diff. Raises SnapshotError.

    A copy is what its marker says. So is a checkout, unless it was edited: then it is captured, in its repository.
    """
    version, diff = origin.version, ""
    if version is None:
        in_place = describe_version(origin.tree / "-", log_dir, snapshot)
        return (CodeVersion(), "") if in_place is None else (in_place.recorded, in_place.diff)
    commit = version.commit
    if not origin.is_copy and commit is not None and (repository := _repository_of(version)) is not None:
        output = RunOutput(origin.tree, log_dir.path)
        edited = commit_folder(repository, commit, origin.tree, output, leave_out=(CHECKOUT_MARKER,))
        if edited != commit:
            changes = tuple(map(str, repository.changes_between(commit, edited)))
            version = replace(
                version, commit=edited, head=commit, snapshot=SnapshotMode.WORKTREE, dirty=True, uncommitted=changes
            )
            diff = _diff(repository, commit, edited)
    return version, diff


def _repository_of(version: CodeVersion) -> Repository | None:
    try:
        return locate_version(version)
    except SnapshotError:  # it has gone
        return None


def _is_of_no_repository(origin: CodeOrigin) -> bool:
    """Tell a checkout of code that was in no repository, or whose repository has gone: a folder like any other."""
    if origin.is_copy or origin.version is None or _repository_of(origin.version) is not None:
        return False
    try:
        find_repository(origin.tree)
    except NoRepositoryError:
        return True
    return False


def _publish_again(origin: CodeOrigin, log_dir: LogDir, place: Path) -> tuple[WorkTreeVersion, Path]:
    """Publish the version of a copy or a checkout; where its repository cannot be reached from here, use the copy."""
    recorded, diff = describe_origin(origin, log_dir, SnapshotMode.AUTO)
    changes = tuple(FileChange(text[:2], text[3:]) for text in recorded.uncommitted or ())
    mode = SnapshotMode.WORKTREE if changes else SnapshotMode.COMMIT
    repo = recorded.repo_path or origin.tree
    version = WorkTreeVersion(repo, recorded.commit, mode, recorded.head, recorded.branch, changes, diff=diff)
    commit = _commit_of(version)
    if origin.is_copy and origin.tree == (place / commit).resolve():
        return version, place / commit
    try:
        return version, publish_copy(locate_version(recorded, place), commit, place)
    except (SnapshotError, OSError):
        if not origin.is_copy:
            raise
        return version, origin.tree


def _choose(
    repository: Repository,
    log_dir: LogDir,
    options: SnapshotOptions,
    ask: DecisionPrompt | None,
    program: Path | None = None,
) -> WorkTreeVersion:
    status = repository.status(log_dir.path, program)
    status = replace(status, changes=(*status.changes, *hidden_changes(repository)))
    decision = _decide(repository, status, options, ask)
    committed: tuple[str, ...] = ()
    if decision.action is OnChanges.STOP:
        listed = "\n  ".join(map(str, status.changes))
        raise SnapshotError(f"stopped: there are changes that are not committed\n  {listed}")
    if decision.action is OnChanges.CAPTURE:
        if options.snapshot is SnapshotMode.AUTO:
            _check_size(repository, status)
        return _captured(repository, status)
    if decision.action is OnChanges.COMMIT:
        files = () if decision.files == (".",) else decision.files
        with unhidden(repository, files or [change.path for change in status.changes]):
            committed = commit_files(repository, status, files, decision.message)
        status = repository.status(log_dir.path, program)  # a hook of the user's may have changed anything
        status = replace(status, changes=(*status.changes, *hidden_changes(repository)))
    if status.head is None:
        raise SnapshotError(f"the repository {repository.top} has no commit yet")
    return replace(_version(repository, status, status.head, SnapshotMode.COMMIT), committed=committed)


def _decide(
    repository: Repository, status: WorkTreeStatus, options: SnapshotOptions, ask: DecisionPrompt | None
) -> Decision:
    if options.snapshot is SnapshotMode.COMMIT or (options.snapshot is SnapshotMode.AUTO and not status.changes):
        return Decision(OnChanges.IGNORE)
    if options.snapshot is SnapshotMode.WORKTREE:
        return Decision(OnChanges.CAPTURE)
    if options.on_changes is not OnChanges.ASK:
        return Decision(options.on_changes, options.files, options.message)
    if ask is not None:
        return ask(repository, status)
    return Decision(OnChanges.CAPTURE)


def _captured(repository: Repository, status: WorkTreeStatus) -> WorkTreeVersion:
    commit = commit_work_tree(repository, status.head, status.output)
    if commit == status.head:
        return _version(repository, status, commit, SnapshotMode.COMMIT)
    version = _version(repository, status, commit, SnapshotMode.WORKTREE)
    return replace(version, diff=_diff(repository, status.head, commit))


def _version(
    repository: Repository, status: WorkTreeStatus, commit: str | None, snapshot: SnapshotMode
) -> WorkTreeVersion:
    return WorkTreeVersion(repository.top, commit, snapshot, status.head, status.branch, status.changes, status.ignored)


def _commit_of(version: WorkTreeVersion) -> str:
    if version.commit is None:
        raise SnapshotError(f"the repository {version.repo} has no commit yet")
    return version.commit


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


def _publish_diff(version: WorkTreeVersion, copy: Path) -> Path | None:
    if not version.diff:
        return None
    path = CodeDir(copy.parent).diff(copy.name)
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

"""Run git, which no other module does. The user's branch, index and work tree are written with a yes alone.

Launches and commands run it by GitPython. A plain run, of which the start must cost next to nothing, does without:
importing GitPython takes 55 ms of CPU, `git status` takes 5.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import NamedTuple

from mlxp_core.errors import NoRepositoryError, SnapshotError

# what `git rev-parse --local-env-vars` lists: with these, as in a hook, git would speak of another repository
_LOCAL = (
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_CONFIG",
    "GIT_CONFIG_PARAMETERS",
    "GIT_CONFIG_COUNT",
    "GIT_OBJECT_DIRECTORY",
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_GRAFT_FILE",
    "GIT_INDEX_FILE",
    "GIT_NO_REPLACE_OBJECTS",
    "GIT_REPLACE_REF_BASE",
    "GIT_PREFIX",
    "GIT_SHALLOW_FILE",
    "GIT_COMMON_DIR",
)
# what Python makes of the code as it imports it, the launch itself too: no change of the code, .gitignore or not
BYTE_CODE = "__pycache__"
# no optional lock: `git status` would refresh the user's index; no hook: read-tree runs post-index-change
_ALWAYS = {"GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C", "LANGUAGE": "C"}
_OPTIONS = ("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "advice.addEmbeddedRepo=false")

_SUBMODULE = "160000"  # the mode of a submodule's entry, in a tree and in an index

Runner = Callable[[Sequence[str], Path, Mapping[str, str], bytes], bytes]


class FileChange(NamedTuple):
    """A path that differs, as `git status` lists it."""

    state: str  # two letters
    path: str  # relative to the top

    def __str__(self) -> str:
        """As git prints it."""
        return f"{self.state} {self.path}"


class Entry(NamedTuple):
    """A file or a submodule, in a commit or in an index."""

    mode: str
    oid: str  # the object's full hash; of a submodule its commit
    path: str  # relative to the top
    tag: str = ""  # in an index: the letter of `git ls-files -v`

    @property
    def is_submodule(self) -> bool:
        """A submodule, or a clone that was added as one."""
        return self.mode == _SUBMODULE


@dataclass(frozen=True)
class WorkTreeStatus:
    """What is checked out, and what differs from it."""

    head: str | None  # the commit's full hash; None before the first
    branch: str | None  # None for a detached HEAD
    changes: tuple[FileChange, ...]
    ignored: tuple[FileChange, ...]  # what git is told to ignore


@dataclass(frozen=True)
class Repository:
    """A work tree and its repository."""

    top: Path
    run: Runner

    @property
    def git_dir(self) -> Path:
        """The folder of its index; a linked work tree has one of its own."""
        return Path(self.git("rev-parse", "--absolute-git-dir"))

    def git(
        self,
        *words: str,
        index: Path | None = None,
        stdin: bytes = b"",
        environment: Mapping[str, str] | None = None,
    ) -> str:
        """Run git in the top folder and return its output, without the last line's end.

        File names that are no UTF-8 come with surrogate escapes. Raises SnapshotError with the command and git's words.
        """
        variables = {**_ALWAYS, **(environment or {})}
        if index is not None:
            variables["GIT_INDEX_FILE"] = str(index)
        return os.fsdecode(self.run(("git", *_OPTIONS, *words), self.top, variables, stdin)).removesuffix("\n")

    def status(self, log_dir: Path | None = None) -> WorkTreeStatus:
        """Ask `git status`; what lies in ``log_dir``, which the runs wrote, is no change of the code."""
        # of a submodule, whatever the user's configuration says to ignore of it
        return read_status(
            self.git(
                *("status", "--porcelain=v2", "--branch", "-z"),
                *("--untracked-files=normal", "--ignored", "--ignore-submodules=none"),
            ),
            self.top,
            log_dir,
        )

    def has_commit(self, commit: str) -> bool:
        """Ask for the commit itself; files of it may be missing all the same."""
        try:
            self.git("cat-file", "-e", f"{commit}^{{commit}}")
        except SnapshotError:
            return False
        return True

    def tree_entries(self, commit: str) -> list[Entry]:
        """Files and submodules of a commit. Source: git-ls-tree(1)."""
        entries = []
        for fields, path in _records(self.git("ls-tree", "-r", "-z", "--full-tree", commit)):
            mode, _, oid = fields
            entries.append(Entry(mode, oid, path))
        return entries

    def index_entries(self, index: Path | None = None) -> list[Entry]:
        """Files and submodules of an index, the user's own unless another one is given. Source: git-ls-files(1)."""
        entries = []
        for fields, path in _records(self.git("ls-files", "--stage", "-v", "-z", index=index)):
            tag, mode, oid, _ = fields
            entries.append(Entry(mode, oid, path, tag))
        return entries

    def set_submodule(self, index: Path, path: str, commit: str) -> None:
        """Have an index name this commit for a submodule."""
        self.git("update-index", "--add", "--cacheinfo", f"{_SUBMODULE},{commit},{path}", index=index)

    def submodule(self, path: str) -> Repository | None:
        """The repository of a submodule, or of a clone within the work tree; None where there is none."""
        folder = self.top / path
        if not (folder / ".git").exists():  # not initialised: git would find the repository around it
            return None
        return find_repository(folder, self.run)


def find_repository(folder: Path, run: Runner | None = None) -> Repository:
    """Find the repository that a folder lies in. ``run`` is how to run git; by GitPython unless it is given.

    Raises SnapshotError where there is none, none with a work tree, or no git.
    """
    run = run or _gitpython()
    try:
        answer = os.fsdecode(run(("git", "rev-parse", "--show-toplevel"), folder, _ALWAYS, b""))
    except SnapshotError as error:
        if "not a git repository" in str(error):
            raise NoRepositoryError(f"{folder} is in no git repository") from None
        if "must be run in a work tree" in str(error):
            raise SnapshotError(f"{folder} is in a bare repository, without a work tree") from None
        raise
    return Repository(Path(answer.removesuffix("\n")), run)


def read_status(text: str, top: Path, log_dir: Path | None) -> WorkTreeStatus:
    """Read what `git status --porcelain=v2 --branch -z` prints. Source: git-status(1), Porcelain Format Version 2."""
    head, branch = None, None
    changes: list[FileChange] = []
    entries = iter(text.split("\0"))
    for entry in entries:
        kind, _, rest = entry.partition(" ")
        if kind == "#":
            name, _, value = rest.partition(" ")
            if not value.startswith("("):  # (initial), (detached)
                head = value if name == "branch.oid" else head
                branch = value if name == "branch.head" else branch
        elif kind in _FIELDS_BEFORE_PATH:
            *fields, path = rest.split(" ", _FIELDS_BEFORE_PATH[kind])
            changes.append(FileChange(fields[0].replace(".", " "), path))
            if kind == "2":
                next(entries, None)  # the old name of what was renamed or copied
        elif kind == "!" or (kind == "?" and not _is_byte_code(top, rest)):
            changes.append(FileChange(kind * 2, rest))
    ignored = tuple(change for change in changes if change.state == "!!")
    changes = [change for change in changes if change.state != "!!"]
    if log_dir is not None:
        resolved = log_dir.resolve()
        changes = [change for change in changes if not (top / change.path).resolve().is_relative_to(resolved)]
    return WorkTreeStatus(head, branch, tuple(changes), ignored)


def _is_byte_code(top: Path, path: str) -> bool:
    """Tell whether an untracked path is Python's, or a folder with nothing else: of a package that was removed, say."""
    if BYTE_CODE in Path(path).parts:
        return True
    has_files = False
    for folder, _, files in os.walk(top / path):
        if files and BYTE_CODE not in Path(folder).parts:
            return False
        has_files |= bool(files)
    return has_files


_FIELDS_BEFORE_PATH = {"1": 7, "2": 8, "u": 9}


def _records(text: str) -> Iterator[tuple[list[str], str]]:
    """Fields and path of each record that git ends with a NUL; its paths may hold all other characters."""
    for record in text.split("\0"):
        if record:
            fields, _, path = record.partition("\t")
            yield fields.split(" "), path


def run_git(words: Sequence[str], folder: Path, environment: Mapping[str, str], stdin: bytes) -> bytes:
    """Run git by itself: what GitPython does, without its import. Raises SnapshotError."""
    inherited = {name: value for name, value in os.environ.items() if name not in _LOCAL}
    try:
        completed = subprocess.run(  # noqa: S603  (git, with words of ours)
            words, cwd=folder, env={**inherited, **environment}, input=stdin, capture_output=True, check=False
        )
    except FileNotFoundError as error:
        raise SnapshotError("there is no program git: install it") from error
    if completed.returncode:
        raise _failed(words, completed.returncode, os.fsdecode(completed.stderr))
    return completed.stdout


def _gitpython() -> Runner:
    try:
        import git  # noqa: PLC0415  (an import that only a launch should pay for)
    except ImportError as error:  # which is what GitPython raises where there is no program git
        raise SnapshotError("there is no program git: install it") from error

    def run(words: Sequence[str], folder: Path, environment: Mapping[str, str], stdin: bytes) -> bytes:
        with _without_local_variables(), TemporaryFile() as stdin_file:
            stdin_file.write(stdin)
            stdin_file.seek(0)
            try:
                code, out, err = git.Git(folder).execute(
                    words,
                    env=environment,
                    istream=stdin_file,
                    with_extended_output=True,
                    with_exceptions=False,
                    stdout_as_string=False,
                    strip_newline_in_stdout=False,
                )
            except git.GitCommandNotFound as error:
                raise SnapshotError("there is no program git: install it") from error
        if code:
            raise _failed(words, code, err)
        return out

    return run


def commit_files(repository: Repository, files: Sequence[str], message: str) -> None:
    """Add files to the user's own index and commit it on the user's branch, as the user does: with hooks, as the user.

    Only ever after the user's yes. Raises SnapshotError with what git, or a hook, has said.
    """
    repository.run(("git", "add", "--", *files), repository.top, {}, b"")
    repository.run(("git", "commit", "--quiet", "--message", message), repository.top, {}, b"")


@contextmanager
def _without_local_variables() -> Iterator[None]:
    """Unset what would have git speak of another repository: GitPython can only add to the environment."""
    saved = {name: os.environ.pop(name) for name in _LOCAL if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(saved)


def _failed(words: Sequence[str], code: int, stderr: str) -> SnapshotError:
    shown = " ".join(word for word in words if word not in _OPTIONS)
    return SnapshotError(f"`{shown}` failed with exit code {code}: {stderr.strip()}")

"""Run git, which no other module does. The user's branch, index and work tree are written with a yes alone.

Launches and commands run it by GitPython. A plain run, of which the start must cost next to nothing, does without:
importing GitPython takes 55 ms of CPU, `git status` takes 5.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import NamedTuple

from mlxp_core.atomic_files import append_line
from mlxp_core.errors import NoRepositoryError, SnapshotError
from mlxp_core.versioning.run_output import BYTE_CODE, RunOutput

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
# no optional lock: `git status` would refresh the user's index; no hook: read-tree runs post-index-change
_ALWAYS = {"GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C", "LANGUAGE": "C"}
_OPTIONS = ("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "advice.addEmbeddedRepo=false")

_MOST_WORDS = 1000  # paths on a command line
_SUBMODULE = "160000"  # the mode of a submodule's entry, in a tree and in an index

Runner = Callable[[Sequence[str], Path, Mapping[str, str], bytes], bytes]


class FileChange(NamedTuple):
    """A path that differs, as `git status` lists it."""

    state: str  # two letters
    path: str  # relative to the top
    before: str = ""  # the path of what was renamed or copied

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
    output: tuple[Path, ...] = ()  # untracked files and folders that running has left: no part of the code


@dataclass(frozen=True)
class Repository:
    """A work tree and its repository."""

    top: Path
    run: Runner
    holds_submodules: bool = False  # the objects of its submodules are its own

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

    def with_work_tree(self, folder: Path) -> Repository:
        """The same repository with another work tree, which need not know of it."""
        variables = {"GIT_DIR": str(self.git_dir), "GIT_WORK_TREE": str(folder)}
        return Repository(folder, lambda words, top, given, stdin: self.run(words, top, {**variables, **given}, stdin))

    def status(self, log_dir: Path | None = None, program: Path | None = None) -> WorkTreeStatus:
        """Ask `git status`; what running has left, in ``log_dir`` and elsewhere, is no change of the code."""
        # of a submodule, whatever the user's configuration says to ignore of it
        return read_status(
            self.git(
                *("status", "--porcelain=v2", "--branch", "-z"),
                *("--untracked-files=normal", "--ignored", "--ignore-submodules=none"),
            ),
            self.top,
            log_dir,
            program,
            is_clean=self._is_clean,
        )

    def _is_clean(self, path: str) -> bool:
        """Tell whether a submodule with untracked files has none but those that running has left there."""
        submodule = self.submodule(path)
        return submodule is not None and not submodule.status().changes

    def exclude(self, folder: Path) -> None:
        """Have git not see a folder below the top, in this clone alone (.git/info/exclude); one that it knows stays."""
        path = folder.resolve().relative_to(self.top.resolve())
        escaped = re.sub(r"([\\*?\[ ])", r"\\\1", path.as_posix())
        line = f"/{escaped}/"
        if "\n" in line:
            return
        file = self.top / self.git("rev-parse", "--git-path", "info/exclude")
        text = file.read_bytes() if file.exists() else b""
        if os.fsencode(line) not in text.splitlines():
            file.parent.mkdir(exist_ok=True)
            separator = b"" if not text or text.endswith(b"\n") else b"\n"
            append_line(file, separator + os.fsencode(f"{line}\n"))

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

    def oids(self, commit: str, paths: Sequence[str]) -> dict[str, str]:
        """The hashes that a commit has of paths from the top, as far as it has them; of a submodule its commit."""
        named = paths if len(paths) <= _MOST_WORDS else ()
        literal = {"GIT_LITERAL_PATHSPECS": "1"}
        text = self.git("ls-tree", "-r", "-z", "--full-tree", commit, "--", *named, environment=literal)
        wanted = set(paths)
        return {path: fields[2] for fields, path in _records(text) if path in wanted}

    def changes_between(self, before: str, after: str) -> tuple[FileChange, ...]:
        """The files that differ between two commits, as `git status` would list them."""
        fields = self.git("diff-tree", "-r", "-z", "--name-status", "--no-renames", before, after).split("\0")
        return tuple(FileChange(f" {state}", path) for state, path in zip(fields[::2], fields[1::2], strict=False))

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
        if self.holds_submodules:
            return self
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


def read_status(
    text: str,
    top: Path,
    log_dir: Path | None,
    program: Path | None = None,
    *,
    is_clean: Callable[[str], bool] = lambda _: False,
) -> WorkTreeStatus:
    """Read what `git status --porcelain=v2 --branch -z` prints. Source: git-status(1), Porcelain Format Version 2.

    ``is_clean`` is asked of a submodule that differs by untracked files alone.
    """
    head, branch = None, None
    tracked: list[tuple[str, FileChange]] = []
    ignored: list[FileChange] = []
    untracked: list[str] = []
    entries = iter(text.split("\0"))
    for entry in entries:
        kind, _, rest = entry.partition(" ")
        if kind == "#":
            name, _, value = rest.partition(" ")
            if not value.startswith("("):  # (initial), (detached)
                head = value if name == "branch.oid" else head
                branch = value if name == "branch.head" else branch
        elif kind in _FIELDS_BEFORE_PATH:
            state, submodule, *_, path = rest.split(" ", _FIELDS_BEFORE_PATH[kind])
            before = next(entries, "") if kind == "2" else ""
            tracked.append((submodule, FileChange(state.replace(".", " "), path, before)))
        elif kind == "!":
            ignored.append(FileChange("!!", rest))
        elif kind == "?":
            untracked.append(rest)
    output = RunOutput(top, log_dir, program, [change.path for _, change in tracked])
    changes = [
        change
        for submodule, change in tracked
        if not output.includes_tracked(change.path)
        and not (submodule == "S..U" and change.state == " M" and is_clean(change.path))
    ]
    hidden = {change.path for change in ignored}
    code, left = _split(untracked, output, hidden)
    folders = [top / path for path in left]
    # other launches may be filling it, where nothing was in it yet when git was asked
    if log_dir is not None and output.all_of_log_dir and not _is_within(log_dir, top, hidden):
        folders.append(log_dir)
    return WorkTreeStatus(head, branch, (*changes, *code), tuple(ignored), tuple(folders))


def _is_within(folder: Path, top: Path, paths: Collection[str]) -> bool:
    real = folder.resolve()
    return any(real.is_relative_to((top / path).resolve()) for path in paths)


def _split(untracked: Sequence[str], output: RunOutput, ignored: Collection[str]) -> tuple[list[FileChange], list[str]]:
    """Split untracked paths into changes of the code and what running has left; but for what git ignores of them."""
    code: list[FileChange] = []
    left: list[str] = []
    for path in untracked:
        parts, others = output.split(path)
        code += (FileChange("??", part) for part in parts if part not in ignored)
        left += (other for other in others if other not in ignored)
    return code, left


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


def commit_files(repository: Repository, status: WorkTreeStatus, files: Sequence[str], message: str) -> tuple[str, ...]:
    """Commit changes on the user's branch, as the user does: with the user's own index and hooks, as the user.

    ``files``: paths that ``status`` lists, or other pathspecs from the top; none: all that it lists, and no more than
    that. Returns what was committed, as ``git show --name-status`` has it. Only ever after the user's yes. Raises
    SnapshotError with what git, or a hook, has said.
    """
    listed = {change.path: change for change in status.changes}
    chosen = [listed[name] for name in (files or listed) if name in listed]
    others = [name for name in files if name not in listed]
    leave_out = [f":(exclude,top,glob)**/{BYTE_CODE}/**"]
    if others:
        top = repository.top.resolve()
        left = (path.resolve() for path in status.output)
        leave_out += [_literal(str(path.relative_to(top)), "exclude,") for path in left if path.is_relative_to(top)]
    unstaged = [change for change in chosen if change.state[1:] != " "]
    to_add = [path for change in unstaged for path in (change.path, change.before if change.state[1] == "R" else "")]
    specs = [*(_literal(path) for path in to_add if path), *others]
    if specs:
        _as_user(repository, "add", "--", *specs, *leave_out)
    # no more than these, whatever else is staged; a merge can only be committed as a whole
    only = [_literal(path) for change in chosen for path in (change.path, change.before) if path]
    is_merge = not files and (repository.git_dir / "MERGE_HEAD").exists()
    paths = () if is_merge else ("--only", "--", *only, *others, *leave_out)
    _as_user(repository, "commit", "--quiet", "--message", message, *paths)
    shown = repository.git("-c", "core.quotePath=false", "show", "--format=", "--name-status", "-m", "--first-parent")
    return tuple(line.replace("\t", " ") for line in shown.splitlines())


def _as_user(repository: Repository, *words: str) -> None:
    repository.run(("git", *words), repository.top, {}, b"")


def _literal(path: str, magic: str = "") -> str:
    """A pathspec for one path from the top, whatever characters it holds."""
    return f":({magic}top,literal){path}"


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

"""Versions of code that is in no git repository: the files of the program's folder, in a repository beside the copies.

It is `git add` and a commit under refs/mlxp/, as for changes that are not committed, so copies, checkouts and `skip`
are the same. The program's folder gets no `.git`. Never the home directory or `/`, and no more than one calls code.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mlxp_core.errors import SnapshotError
from mlxp_core.runs.layout import CodeDir, LogDir
from mlxp_core.versioning.capture import commit_work_tree, left_by_running
from mlxp_core.versioning.git import Repository, run_git
from mlxp_core.versioning.kept_objects import create_repository
from mlxp_core.versioning.origin import CHECKOUT_MARKER
from mlxp_core.versioning.run_output import RunOutput

log = logging.getLogger(__name__)

# what is never the code of an experiment, in .gitignore's words: environments, caches, what trackers and Hydra write
_LEFT_OUT = (
    *("__pycache__/", "*.py[cod]", ".env", ".venv/", "node_modules/", ".*_cache/", ".ipynb_checkpoints/"),
    *(".tox/", ".nox/", ".eggs/", "*.egg-info/", ".git/", ".hg/", ".svn/", ".idea/", ".vscode/", ".DS_Store"),
    *("wandb/", "mlruns/", "lightning_logs/", "outputs/", "multirun/", ".mlxp/", CHECKOUT_MARKER),
)
_FOLDERS_LEFT_OUT = {name.rstrip("/") for name in _LEFT_OUT if name.endswith("/")}
_MOST_LOOKED_AT = 50_000  # files and folders, before git is asked
_MOST_FILES = 5_000
_MOST_BYTES = 200 << 20
_LARGE = 10 << 20  # bytes of a file that is data
_MOST_NAMED = 5

_WHAT_TO_DO = (
    "Put the program into a folder of its own, name what is no code in a .gitignore there, or make a repository of it "
    "(git init, git add, git commit)"
)


@dataclass(frozen=True)
class FolderVersion:
    """The files of a folder, as they are."""

    repository: Repository  # of ours, whose work tree the folder is
    commit: str


def program_folder(program: Path, launch_dir: Path | None = None) -> Path:
    """The folder that is frozen for a program: the launch directory where that holds it, or else its own.

    Of a module the one that has the top package. Raises SnapshotError for a home directory and the like.
    """
    folder = program if program.is_dir() else program.parent
    while (folder / "__init__.py").exists() and folder.parent != folder:
        folder = folder.parent
    if launch_dir is not None and folder.is_relative_to(launch_dir) and not _is_shared(launch_dir):
        try:
            _check_extent(launch_dir)
        except SnapshotError:
            pass  # a folder of many projects
        else:
            return launch_dir
    if _is_shared(folder):
        raise SnapshotError(
            f"{folder}, where the program lies, is a home or a folder of the system, which is not copied. {_WHAT_TO_DO}"
        )
    return folder


def freeze_folder(folder: Path, place: Path, log_dir: LogDir) -> FolderVersion:
    """Commit the files of a folder to the repository beside the copies in ``place``. Raises SnapshotError, OSError.

    Left out are environments, caches and the like, what a .gitignore names, and files of more than 10 MiB.
    """
    _check_extent(folder)
    output = RunOutput(folder, log_dir.path)
    places = [place, *([log_dir.path] if output.all_of_log_dir else [])]
    with _exclusions([*_LEFT_OUT, *_within(folder, places), *_environments(folder)]) as excludes:
        repository = open_repository(place, folder, {"core.excludesFile": excludes}, create=True)
        with excludes.open("a", encoding="utf-8", errors="surrogateescape") as file:
            file.writelines(f"/{_escaped(path)}\n" for path in left_by_running(repository, output))
        names = repository.git("ls-files", "--others", "--exclude-standard", "-z").split("\0")
        sizes = {name: os.lstat(folder / name).st_size for name in names if name and not name.endswith("/")}
        large = {name: size for name, size in sizes.items() if size > _LARGE}
        _check_size(folder, {name: size for name, size in sizes.items() if name not in large})
        with excludes.open("a", encoding="utf-8", errors="surrogateescape") as file:
            file.writelines(f"/{_escaped(name)}\n" for name in large)
        commit = commit_work_tree(repository, None)
    _say(folder, place, len(sizes) - len(large), large)
    return FolderVersion(open_repository(place, folder), commit)


def open_repository(
    place: Path, work_tree: Path, options: Mapping[str, object] | None = None, *, create: bool = False
) -> Repository:
    """Open the repository beside the copies in ``place``, with a work tree that need not know of it.

    ``options`` are git's. Raises SnapshotError where there is none and none is to be made.
    """
    git_dir = CodeDir(place).repository
    if create and not git_dir.is_dir():
        create_repository(git_dir)
    if not git_dir.is_dir():
        raise SnapshotError(f"{git_dir} is not there")
    words = [word for key, value in (options or {}).items() for word in ("-c", f"{key}={value}")]
    variables = {"GIT_DIR": str(git_dir), "GIT_WORK_TREE": str(work_tree)}

    def run(command: Sequence[str], folder: Path, environment: Mapping[str, str], stdin: bytes) -> bytes:
        if folder != work_tree:  # a repository within
            return run_git(command, folder, environment, stdin)
        git, *rest = command
        return run_git([git, *words, *rest], folder, {**variables, **environment}, stdin)

    return Repository(work_tree, run)


def _is_shared(folder: Path) -> bool:
    """Tell whether a folder is a home, holds homes or all there is, or is one of the system's."""
    real = folder.resolve()
    homes = [Path(os.path.expanduser("~")).resolve(), Path("/root"), Path(tempfile.gettempdir()).resolve()]  # noqa: PTH111
    system = [Path("/usr/bin"), Path("/usr/local/bin"), Path("/opt")]
    return any(home.is_relative_to(real) for home in homes) or real in system or real.parent == Path("/home")


def _check_extent(folder: Path) -> None:
    """Raise SnapshotError for a folder of more entries than git should be asked to look at."""
    count = 0
    for _, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in _FOLDERS_LEFT_OUT]
        count += len(folders) + len(files)
        if count > _MOST_LOOKED_AT:
            raise SnapshotError(f"{folder} holds more than {_MOST_LOOKED_AT:,} files. {_WHAT_TO_DO}")


def _check_size(folder: Path, sizes: Mapping[str, int]) -> None:
    total = sum(sizes.values())
    if len(sizes) <= _MOST_FILES and total <= _MOST_BYTES:
        return
    parts: dict[str, int] = {}
    for name, size in sizes.items():
        part = name.split("/", 1)[0]
        parts[part] = parts.get(part, 0) + (size if total > _MOST_BYTES else 1)
    most = sorted(parts, key=lambda part: -parts[part])[:_MOST_NAMED]
    raise SnapshotError(
        f"{folder} holds {len(sizes):,} files of {total >> 20} MiB, and at most {_MOST_FILES:,} of "
        f"{_MOST_BYTES >> 20} MiB are copied. Most of it is in {', '.join(most)}. {_WHAT_TO_DO}"
    )


def _within(folder: Path, places: Sequence[Path]) -> Iterator[str]:
    """Those of these folders that lie within another one, as lines of a .gitignore."""
    top = folder.resolve()
    real = (place.resolve() for place in places)
    return (f"/{_escaped(str(path.relative_to(top)))}" for path in real if path != top and path.is_relative_to(top))


def _environments(folder: Path) -> Iterator[str]:
    """Environments of Python and conda under any name, as lines of a .gitignore."""
    for top, folders, _ in os.walk(folder):
        folders[:] = [name for name in folders if name not in _FOLDERS_LEFT_OUT]
        for name in list(folders):
            path = Path(top, name)
            if (path / "pyvenv.cfg").exists() or (path / "conda-meta").is_dir():
                folders.remove(name)
                yield f"/{_escaped(str(path.relative_to(folder)))}"


def _escaped(path: str) -> str:
    for character in "\\*?[ ":
        path = path.replace(character, f"\\{character}")
    return path


@contextmanager
def _exclusions(lines: Sequence[str]) -> Iterator[Path]:
    """A file of lines of a .gitignore, which takes the place of the user's own, so that the same files are the same."""
    with tempfile.TemporaryDirectory(prefix="hydra-mlxp-") as folder:
        path = Path(folder, "exclude")
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", errors="surrogateescape")
        yield path


def _say(folder: Path, place: Path, count: int, large: Mapping[str, int]) -> None:
    log.info(
        "%s is in no git repository: the jobs run a copy of its %d files, which %s keeps (without environments, "
        "caches, and what a .gitignore there names)",
        folder,
        count,
        CodeDir(place).repository,
    )
    if large:
        named = ", ".join(f"{name} ({size >> 20} MiB)" for name, size in sorted(large.items())[:_MOST_NAMED])
        more = f" and {len(large) - _MOST_NAMED} more" if len(large) > _MOST_NAMED else ""
        log.warning(
            "not in that copy, because it is larger than %d MiB: %s%s; open it by run.original_path(…)",
            _LARGE >> 20,
            named,
            more,
        )

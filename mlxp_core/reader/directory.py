"""Find log directories, and list their runs, anew at every call."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mlxp_core.errors import StoreError
from mlxp_core.reader.cache import run_cache
from mlxp_core.reader.cache.run_table import JoinedTable, RunTable, Table
from mlxp_core.reader.load.run import INFO, read_run
from mlxp_core.runs.layout import RunDir
from mlxp_core.runs.listing import explain_no_runs

OnePath = str | os.PathLike[str]
_MAX_CACHED = 4
_joined: list[JoinedTable] = []  # the latest first


def find_log_dirs(log_dir: OnePath | Iterable[OnePath]) -> tuple[str, ...]:
    """Give the absolute paths of the log directories that a user means, each once.

    ``log_dir`` is one, or several: paths, in which ``~`` is the user's home, or patterns such as ``runs/*/logs``, of
    which the folders count that hold runs now. Raises StoreError (an OSError) for one that cannot be read, a pattern
    without such a folder, and for a folder that holds no runs where its subfolders do, or that is a run itself.
    """
    if isinstance(log_dir, (str, bytes, os.PathLike)):
        log_dir = [log_dir]
    if not isinstance(log_dir, Iterable):
        raise TypeError(f"give the path of a log directory, a pattern, or a list of these, and not {log_dir!r}")
    found: dict[str, str] = {}
    for given in log_dir:
        for path in _expand(given):
            found.setdefault(os.path.realpath(path), path)  # by two names its runs would count twice
    if not found:
        raise StoreError("no log directory is given: the list is empty")
    return tuple(found.values())


def _expand(given: OnePath) -> list[str]:
    """Give the log directories that one path or pattern stands for."""
    text = os.fsdecode(given)
    if text.startswith("~") and not os.path.lexists(text):
        text = os.path.expanduser(text)  # noqa: PTH111
    path = os.path.abspath(text)  # noqa: PTH100  (a Path would resolve nothing more)
    if not glob.has_magic(path) or os.path.lexists(path):
        if not _has_runs(path) and (reason := explain_no_runs(Path(path))):
            raise StoreError(reason)
        return [path]
    matches = [match for match in sorted(glob.glob(path, recursive=True)) if os.path.isdir(match)]  # noqa: PTH112, PTH207
    runs = [match for match in matches if RunDir(Path(match)).info.exists()]
    # what lies in a run is its own: earlier attempts look like runs
    outside = [match for match in matches if not any(f"{match}/".startswith(f"{run.rstrip('/')}/") for run in runs)]
    if chosen := [match.rstrip("/") for match in outside if _has_runs(match)]:
        return chosen
    if runs:
        raise StoreError(
            f"{text} matches runs, {runs[0]} first: give the folder that they lie in, {Path(runs[0]).parent}"
        )
    reasons = filter(None, (explain_no_runs(Path(match)) for match in outside))
    raise StoreError(next(reasons, f"no folder that holds runs matches {text}"))


def scan_directories(log_dirs: str | Sequence[str]) -> Table:
    """Read every run there is now in one, or in several; the same object as before where nothing has changed.

    Raises StoreError where one cannot be read.
    """
    if isinstance(log_dirs, str) or len(log_dirs) == 1:
        return scan_directory(log_dirs if isinstance(log_dirs, str) else log_dirs[0])
    tables = list(map(scan_directory, log_dirs))
    for joined in _joined:
        if len(joined.tables) == len(tables) and all(map(_is_same, joined.tables, tables)):
            return joined
    _joined.insert(0, JoinedTable(tables))
    del _joined[_MAX_CACHED:]
    return _joined[0]


def _is_same(one: RunTable, other: RunTable) -> bool:
    return one is other


def scan_directory(log_dir: str) -> RunTable:
    """Read every run there is now; the same object as before where nothing has changed.

    A run is a direct subfolder that holds metadata/info.yaml and whose name does not start with a dot. One whose YAML
    is corrupt is there, too, without the fields of that file and with a problem.

    Raises StoreError where the log directory cannot be read.
    """
    with open_directory(log_dir) as folder:
        return run_cache.cache_of(log_dir).scan(_names(folder), folder, read_run)


def count_runs(log_dir: str) -> int:
    """Count the runs without reading them. Raises StoreError where the directory cannot be read."""
    with open_directory(log_dir) as folder:
        return sum(_is_run(name, folder) for name in _names(folder))


def _has_runs(log_dir: str) -> bool:
    with open_directory(log_dir) as folder:
        return any(_is_run(name, folder) for name in _names(folder))


def _is_run(name: str, folder: int) -> bool:
    try:
        os.stat(f"{name}/{INFO}", dir_fd=folder)
    except OSError as error:
        return error.errno not in run_cache.NO_RUN  # what cannot be read is a run with a problem
    return True


@contextmanager
def open_directory(log_dir: str) -> Iterator[int]:
    """Open a log directory and give its descriptor. Raises StoreError, also for an OSError inside the ``with``."""
    try:
        folder = os.open(log_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield folder
        finally:
            os.close(folder)
    except OSError as error:
        raise StoreError(
            f"cannot read the log directory {log_dir}: {error.strerror}; "
            "give the folder that holds the runs (1, 2, 3, …), hydra.sweep.dir of the launches"
        ) from error


def _names(folder: int) -> list[str]:
    # what is no folder has no metadata, which is looked for next
    return [name for name in os.listdir(folder) if not name.startswith(".")]

"""The runs of a log directory in order, and runs named in few words."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from mlxp_core.errors import StoreError
from mlxp_core.runs.layout import LogDir, RunDir, is_run_id

# where runs are looked for below a folder that has none: Hydra's own are at multirun/<day>/<time>/<number>
_LEVELS = 5
_MOST_FOLDERS = 500  # of a level
_NAMED = 3


def list_runs(log_dir: LogDir) -> list[RunDir]:
    """The runs of a log directory: those with an id first, in order, then the folders that the user named.

    Raises StoreError where it cannot be read.
    """
    try:
        with os.scandir(log_dir.path) as entries:
            names = [entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir()]
    except OSError as error:
        raise StoreError(
            f"cannot read the log directory {log_dir.path}: {error.strerror}. Give the folder that holds the runs "
            "(1, 2, 3, …) with --log-dir or MLXP_LOG_DIR."
        ) from error
    inside = os.fspath(RunDir(Path()).info)
    names = [name for name in names if os.path.exists(f"{log_dir.path}/{name}/{inside}")]  # noqa: PTH110  (a thousand)
    return [RunDir(log_dir.path / name) for name in sorted(names, key=sort_key)]


def explain_no_runs(folder: Path) -> str:
    """Say why a folder that holds no runs is no log directory: it is a run, or some below it are; or nothing."""
    if RunDir(folder).info.exists():
        return f"{folder} is a run and no log directory: give the folder that it lies in, {folder.parent}"
    found = [str(path) for path in islice(_log_dirs_below(folder), _NAMED + 1)]
    if not found:
        return ""
    more = " and others" if len(found) > _NAMED else ""
    levels = len(Path(found[0]).relative_to(folder).parts)
    pattern = Path(glob.escape(str(folder)), *["*"] * levels)  # a sweep over lists has folders as x=[1,2]
    return (
        f"{folder} holds no runs, but {', '.join(found[:_NAMED])}{more} below it: give one of these; the reader also "
        f"takes a list, or a pattern such as '{pattern}'"
    )


def _log_dirs_below(folder: Path) -> Iterator[Path]:
    """Go through the folders below one that hold runs, the nearest first."""
    level = [folder]
    for _ in range(_LEVELS):
        below = [child for parent in islice(level, _MOST_FOLDERS) for child in _subfolders(parent)]
        runs = {child for child in below if RunDir(child).info.exists()}
        yield from dict.fromkeys(run.parent for run in below if run in runs)
        level = [child for child in below if child not in runs]


def _subfolders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir()]
    except OSError:
        return []
    return [folder / name for name in sorted(names, key=sort_key)]


def sort_key(name: str) -> tuple[bool, int, str]:
    """The order of runs by the names of their folders: by id, then the others by name."""
    is_id = is_run_id(name)
    return not is_id, int(name) if is_id else 0, name


def format_runs(runs: Iterable[RunDir]) -> str:
    """Runs as a user would name them: ``1-3, 7, baseline``."""
    names = sorted({run.path.name for run in runs}, key=sort_key)
    ids = [int(name) for name in names if is_run_id(name)]
    return ", ".join([*_ranges(ids), *names[len(ids) :]]) or "none"


def pluralize(number: int, what: str) -> str:
    """Number and noun: ``1 job``, ``2 jobs``."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _ranges(ids: Sequence[int]) -> Iterator[str]:
    start = 0
    for stop, number in enumerate(ids, start=1):
        if stop == len(ids) or ids[stop] != number + 1:
            first = ids[start]
            yield str(first) if first == number else f"{first}-{number}"
            start = stop

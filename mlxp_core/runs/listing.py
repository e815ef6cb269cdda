"""The runs of a log directory in order, and runs named in few words."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from mlxp_core.errors import StoreError
from mlxp_core.runs.layout import LogDir, RunDir, is_run_id


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

"""List the runs of a log directory, anew at every call."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from mlxp_core.errors import StoreError
from mlxp_core.reader.cache import run_cache
from mlxp_core.reader.cache.run_table import RunTable
from mlxp_core.reader.load.run import INFO, read_run


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

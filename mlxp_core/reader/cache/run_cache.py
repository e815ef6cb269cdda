"""A cache of runs: each is read again only when ``stat`` says that it has changed.

A run is cacheable once its job has said in info.yaml that it has ended, as the last thing that it writes, or before it
has started. It is read again when its signature changes: that of the folders metadata, metrics and artifacts, and of
the files info.yaml and config.yaml. Their ctime counts, which no program can set. Whatever happens to a cached run,
this package and script.sh put files into ``metadata`` by renaming them into place, which that folder shows: a start, an
end, a submission, a later attempt, an exit code. The two files show edits in place, the other folders what arrives late
with a copy, and what this package adds to them after the end, which touches them (runs/digest.py ``announce``). So an
unchanged run costs five ``stat`` calls, and none of its files is opened.

What no signature shows: what was put there by hand where only an inner file or folder shows it. A submission.yaml that
was edited in place, a new key in a metric file that was there, an artifact in a folder of its type that was there.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl

from mlxp_core.reader.cache.index import load_index, save_index
from mlxp_core.reader.cache.run_columns import CachedRun, RunColumns, fingerprint
from mlxp_core.reader.cache.run_table import RunTable
from mlxp_core.reader.load import file_cache
from mlxp_core.reader.load.record import RunRecord, Signature
from mlxp_core.runs.layout import RunDir

_HOME = RunDir(Path())
COMPARED_PATHS = [f"/{path}" for path in (_HOME.info, _HOME.config, _HOME.metadata, _HOME.metrics, _HOME.artifacts)]
# Runs become columns, and an index, when so many of them, and so large a part, are new: reading fewer takes less time.
_MIN_NEW = 32
_MIN_NEW_SHARE = 0.05
_MAX_DIRECTORIES = 16
NO_RUN = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}  # a link that leads round in a circle is none, either

# gives a run as its folder has it now, None for a folder that is no run; arguments: its path, its name, its signature,
# and the descriptor of the log directory
ReadRun = Callable[[str, str, Signature, int], RunRecord | None]


def signature_of(run: str, folder: int | None = None) -> Signature:
    """Take the signature of a run folder: zeros for what is not there, -1 for what is out of reach.

    ``run`` is a path, relative to the directory that is open as ``folder``.
    """
    numbers: Signature = ()
    stat = os.stat
    for name in COMPARED_PATHS:
        try:
            status = stat(run + name, dir_fd=folder)
        except OSError as error:
            numbers += (0, 0, 0) if error.errno in NO_RUN else (-1, error.errno or 0, 0)
        else:
            numbers += (status.st_ctime_ns, status.st_size, status.st_ino)
    return numbers


class RunCache:
    """Runs of one log directory that are not read again until their folders change. Safe in threads.

    A signature is taken before the files are read: if they change in between, the new content is cached with the old
    signature, and the next scan reads again.
    """

    def __init__(self, log_dir: str) -> None:
        """Begin with the runs in the index."""
        self._log_dir = log_dir
        self._lock = threading.Lock()
        self._columns = load_index(log_dir)
        self._records: dict[str, CachedRun] = {}  # by name; those that are not among the columns yet
        self._new_count = 0  # of these, those since the columns were last made
        self._table: RunTable | None = None

    def scan(self, names: Sequence[str], folder: int, read_run: ReadRun) -> RunTable:
        """Give the runs among these folders of the log directory, which is open as ``folder``.

        The same object as before where nothing has changed.
        """
        with self._lock:
            rows: list[int] = []
            runs: list[RunRecord] = []
            row_of = {} if self._columns is None else self._columns.row_of
            racy_since = time.time_ns() - file_cache.RACY_NS
            for name in names:
                signature = signature_of(name, folder)
                row = row_of.get((name, fingerprint(signature))) if row_of else None
                if row is not None:
                    rows.append(row)
                elif any(signature):  # or else it is no run
                    run = self._cached_run(name, signature)
                    if run is None:
                        run = read_run(f"{self._log_dir}/{name}", name, signature, folder)
                        if run is None:
                            continue
                        if run.cacheable and max(signature[::3]) < racy_since:
                            self._records[name] = CachedRun(signature, run)
                            self._new_count += 1
                    runs.append(run)
            if self._new_count >= max(_MIN_NEW, _MIN_NEW_SHARE * (len(rows) + len(runs))):
                rows, runs = self._add_to_columns(rows, runs)
            return self._table_of(rows, sorted(runs, key=lambda run: run.order))

    def _cached_run(self, name: str, signature: Signature) -> RunRecord | None:
        cached = self._records.get(name)
        if cached is None:
            return None
        if cached.signature == signature:
            return cached.run
        del self._records[name]
        self._new_count -= 1
        return None

    def _add_to_columns(self, rows: list[int], runs: list[RunRecord]) -> tuple[list[int], list[RunRecord]]:
        """Move the cached records into the columns, and write the index; give rows and other runs as they are then."""
        present = {run.name for run in runs}
        self._records = {name: cached for name, cached in self._records.items() if name in present}
        self._new_count = 0  # if it does not work out, it is tried again when as many are new
        try:
            added = RunColumns.from_runs(self._records.values())
            columns = added if self._columns is None or not rows else self._columns.merged(sorted(rows), added)
        except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError):  # a name that is no UTF-8, perhaps
            return rows, runs
        self._columns = columns
        save_index(self._log_dir, columns)
        moved, self._records = self._records, {}
        return list(range(len(columns))), [run for run in runs if run.name not in moved]

    def _table_of(self, rows: list[int], runs: list[RunRecord]) -> RunTable:
        columns = self._columns
        rows_or_all = None if columns is None or len(rows) == len(columns) else sorted(rows)
        last = self._table
        if last is not None and (last.cached, last.rows, last.runs) == (columns, rows_or_all, runs):
            return last
        self._table = RunTable(self._log_dir, columns, rows_or_all, runs)
        return self._table


_caches: dict[str, RunCache] = {}  # by log directory


def cache_of(log_dir: str) -> RunCache:
    """Give the cache of a log directory, the same for as long as this process lives."""
    cache = _caches.get(log_dir)
    if cache is None:
        if len(_caches) >= _MAX_DIRECTORIES:
            _caches.clear()
        cache = _caches[log_dir] = RunCache(log_dir)
    return cache

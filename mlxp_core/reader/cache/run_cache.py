"""Which runs must be read, and which stay as they were. The only module that decides so, by what ``stat`` says.

A run is settled once its job has said in info.yaml that it has ended, as the last thing that it writes, or before it
has started. It is read again when any of five things changes: the folders metadata, metrics and artifacts, and the
files info.yaml and config.yaml. Their ctime counts, which no program can set. Whatever happens to a settled run, this
package and script.sh put files into ``metadata`` by renaming them into place, which that folder shows: a start, an end,
a submission, a later attempt, an exit code. The two files show edits in place, the other folders what arrives late with
a copy. So a look is five ``stat`` calls for a settled run, and none of its files is opened.

What none of them shows: a submission.yaml that was edited in place by hand, a key that is first logged after the run
has said its end (by hand, or by another process of the job), and an artifact that was put by hand into a folder of its
type that was there already.
"""

from __future__ import annotations

import errno
import gc
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from mlxp_core.reader.cache.index import load_index, save_index
from mlxp_core.reader.cache.run_columns import CachedRun, RunColumns, fingerprint
from mlxp_core.reader.cache.run_table import RunTable
from mlxp_core.reader.load.record import RunRecord, Signature
from mlxp_core.runs.layout import RunDir

_HOME = RunDir(Path())
_COMPARED = [f"/{path}" for path in (_HOME.info, _HOME.config, _HOME.metadata, _HOME.metrics, _HOME.artifacts)]
# as in load/file_cache.py: what was read sooner than this after the last change is not kept
_UNSETTLED_NS = 2_000_000_000
# Runs become columns, and an index, when so many of them, and so large a part, are new: reading fewer takes less time.
_FEWEST_NEW = 32
_SMALLEST_PART = 0.05
_MOST_DIRECTORIES = 16
NO_RUN = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}  # a link that leads round in a circle is none, either

# gives a run as its folder has it now, None for a folder that is none; arguments: its path, its name, its signature,
# and the log directory as it is open
Read = Callable[[str, str, Signature, int], RunRecord | None]


def signature_of(run: str, folder: int | None = None) -> Signature:
    """Say how a run folder stands: see ``load.record.Signature``; zeros for what is not there, -1 for what is out of reach.

    ``run`` is a path, relative to the directory that is open as ``folder``.
    """
    numbers: Signature = ()
    stat = os.stat
    for name in _COMPARED:
        try:
            status = stat(run + name, dir_fd=folder)
        except OSError as error:
            numbers += (0, 0, 0) if error.errno in NO_RUN else (-1, error.errno or 0, 0)
        else:
            numbers += (status.st_ctime_ns, status.st_size, status.st_ino)
    return numbers


@contextmanager
def _without_collections() -> Iterator[None]:
    """Keep Python's cycle collector from looking through all runs again and again, which are no garbage."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class RunCache:
    """What is known of one log directory: runs that are not read again until their folders change.

    How a folder stands is taken before its files are read: if they change in between, the new content is kept with the
    old signature, and the next look reads again. Safe in threads.
    """

    def __init__(self, log_dir: str) -> None:
        """Begin with what the index has."""
        self._log_dir = log_dir
        self._lock = threading.Lock()
        self._kept: dict[str, CachedRun] = {}
        self._new = 0
        self._block = load_index(log_dir)
        self._census: RunTable | None = None

    def look(self, names: Sequence[str], folder: int, read: Read) -> RunTable:
        """Give the runs among these folders of the log directory, which is open as ``folder``.

        The same object as before where nothing has changed.
        """
        with self._lock, _without_collections():
            rows: list[int] = []
            runs: list[RunRecord] = []
            known = {} if self._block is None else self._block.fingerprints
            settled_before = time.time_ns() - _UNSETTLED_NS
            for name in names:
                signature = signature_of(name, folder)
                place = known.get((name, fingerprint(signature))) if known else None
                if place is not None:
                    rows.append(place)
                elif any(signature):  # or else what lies there is no run
                    run = self._kept_run(name, signature)
                    if run is None:
                        run = read(f"{self._log_dir}/{name}", name, signature, folder)
                        if run is None:
                            continue
                        if run.settled and max(signature[::3]) < settled_before:
                            self._kept[name] = CachedRun(signature, run)
                            self._new += 1
                    runs.append(run)
            if self._new >= max(_FEWEST_NEW, _SMALLEST_PART * (len(rows) + len(runs))):
                rows, runs = self._absorb(rows, runs)
            return self._as_before(rows, sorted(runs, key=lambda run: run.order))

    def _kept_run(self, name: str, signature: Signature) -> RunRecord | None:
        kept = self._kept.get(name)
        if kept is None:
            return None
        if kept.signature == signature:
            return kept.run
        del self._kept[name]
        self._new -= 1
        return None

    def _absorb(self, rows: list[int], runs: list[RunRecord]) -> tuple[list[int], list[RunRecord]]:
        """Make columns of the kept runs and those in the block, and an index; give rows and runs as they are then."""
        there = {run.name for run in runs}
        settled = [one for name, one in self._kept.items() if name in there]
        self._kept = {one.run.name: one for one in settled}
        self._new = 0  # if it does not work out, it is tried again when as many are new
        try:
            added = RunColumns.of(settled)
            block = added if self._block is None or not rows else self._block.joined(sorted(rows), added)
        except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError):  # a name that is no UTF-8, perhaps
            return rows, runs
        self._block = block
        save_index(self._log_dir, block)
        absorbed, self._kept = self._kept, {}
        return list(range(len(block))), [run for run in runs if run.name not in absorbed]

    def _as_before(self, rows: list[int], runs: list[RunRecord]) -> RunTable:
        block = self._block
        places = None if block is None or len(rows) == len(block) else sorted(rows)
        before = self._census
        if before is not None and (before.block, before.rows, before.runs) == (block, places, runs):
            return before
        self._census = RunTable(self._log_dir, block, places, runs)
        return self._census


_directories: dict[str, RunCache] = {}


def runs_of(log_dir: str) -> RunCache:
    """The settled runs of a log directory, for as long as this process lives."""
    kept = _directories.get(log_dir)
    if kept is None:
        if len(_directories) >= _MOST_DIRECTORIES:
            _directories.clear()
        kept = _directories[log_dir] = RunCache(log_dir)
    return kept

"""Closes the runs of a launcher's worker processes that Ctrl-C killed before they could do so themselves.

Ctrl-C reaches a multirun and its workers at once; joblib's then kills its workers, now and then while one of them is
about to write how its run ended.
"""

from __future__ import annotations

import atexit
import itertools
import os
import sys
from pathlib import Path

from mlxp_core.recording.lifecycle import close_for_dead_child
from mlxp_core.runs.allocation import RunAllocator
from mlxp_core.runs.layout import LogDir


def watch_workers(log_dir: Path) -> None:
    """Close the runs that dead children have opened from now on, when this process ends by Ctrl-C."""
    with RunAllocator(log_dir) as allocator:
        first = allocator.last_id + 1
    atexit.register(_close, os.getpid(), LogDir(log_dir), first)


def _close(pid: int, log_dir: LogDir, first: int) -> None:
    interrupt = getattr(sys, "last_value", None)  # what ended the program, where it was an exception
    if os.getpid() != pid or not isinstance(interrupt, KeyboardInterrupt):
        return
    for run in map(log_dir.run, itertools.count(first)):
        if not run.path.exists():
            return
        close_for_dead_child(run, interrupt)

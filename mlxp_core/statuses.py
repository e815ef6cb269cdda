"""The statuses of a run: one vocabulary for the run folder, the schedulers and the reader."""

from __future__ import annotations

import enum


class Status(str, enum.Enum):
    """Where a run stands."""

    PENDING = "PENDING"  # submitted, not started
    RUNNING = "RUNNING"
    COMPLETE = "COMPLETE"  # the task function returned, or the program exited with 0
    FAILED = "FAILED"  # an exception, or an exit code other than 0
    CANCELLED = "CANCELLED"  # stopped on request: Ctrl-C, SIGTERM, a cancelled job
    TIMEOUT = "TIMEOUT"  # the scheduler's time limit
    PREEMPTED = "PREEMPTED"  # gave way to another job
    LOST = "LOST"  # gone without a word: killed, or its machine died

    def __str__(self) -> str:
        """Give the bare name, on every Python version."""
        return self.value


ENDED = frozenset(Status) - {Status.PENDING, Status.RUNNING}

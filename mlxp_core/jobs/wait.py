"""Wait until submitted runs have ended. Their folders are read often, the scheduler is asked seldom."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from mlxp_core.jobs.refresh import refresh_runs
from mlxp_core.runs.layout import RunDir
from mlxp_core.runs.state import load_status
from mlxp_core.runs.status import ENDED, Status, read_exit_code
from mlxp_core.runs.submission_record import QueuedJob, SubmissionRecord
from mlxp_core.scheduler import load_scheduler

log = logging.getLogger(__name__)


def wait_for_runs(
    submitted: Sequence[QueuedJob],
    on_end: Callable[[RunDir, Status], None],
    on_look: Callable[[Sequence[RunDir]], None] = lambda _: None,
    ended: dict[RunDir, Status] | None = None,
) -> list[Status]:
    """Give the statuses of runs once all have ended, in order; ``on_end`` is called for each when it has.

    ``on_look`` gets those that have not, each time that they were looked at. ``ended`` is filled with those that have:
    given again, after an interruption, these are not looked at again.

    The scheduler is asked for jobs that may have ended without a word: cancelled while queued, killed with their node.
    """
    ended = {} if ended is None else ended
    every = max(load_scheduler(job.scheduler).min_query_interval for job in submitted)
    asked, pause = time.monotonic(), 0.05
    while True:
        for run in (job.run for job in submitted if job.run not in ended):
            if read_exit_code(run) is not None and (status := load_status(run)) in ENDED:
                ended[run] = status
                on_end(run, status)
        if len(ended) == len(submitted):
            return [ended[job.run] for job in submitted]
        if time.monotonic() - asked >= every:
            waiting = [job.run for job in submitted if job.run not in ended]
            for scheduler in refresh_runs(waiting):
                log.warning("%s", scheduler.why)
            for run in waiting:
                # by the scheduler's word: a job that its folder takes for preempted may be about to start again
                if SubmissionRecord.load(run).state in ENDED and (status := load_status(run)) in ENDED:
                    ended[run] = status
                    on_end(run, status)
            asked = time.monotonic()
        on_look([job.run for job in submitted if job.run not in ended])
        time.sleep(pause)
        pause = min(1.0, pause * 1.5)

"""Stays until submitted runs have ended. Looks at their folders often, at the scheduler seldom."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from mlxp_core.jobs.refresh import refresh_runs
from mlxp_core.runs.layout import RunDir
from mlxp_core.runs.state import load_status
from mlxp_core.runs.status import ENDED, Status, read_exit_code
from mlxp_core.runs.submission_record import QueuedJob, load_submission
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
    every = max(load_scheduler(one.scheduler).min_query_interval for one in submitted)
    asked, pause = time.monotonic(), 0.05
    while True:
        for run in (one.run for one in submitted if one.run not in ended):
            if read_exit_code(run) is not None and (status := load_status(run)) in ENDED:
                ended[run] = status
                on_end(run, status)
        if len(ended) == len(submitted):
            return [ended[one.run] for one in submitted]
        if time.monotonic() - asked >= every:
            waiting = [one.run for one in submitted if one.run not in ended]
            for silence in refresh_runs(waiting):
                log.warning("%s", silence.why)
            for run in waiting:
                # by the scheduler's word: a job that its folder takes for preempted may be about to start again
                said = load_submission(run).get("state")
                if said in ENDED and (status := load_status(run)) in ENDED:
                    ended[run] = status
                    on_end(run, status)
            asked = time.monotonic()
        on_look([one.run for one in submitted if one.run not in ended])
        time.sleep(pause)
        pause = min(1.0, pause * 1.5)

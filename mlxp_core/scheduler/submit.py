"""Submit a script once, and only once: try again what is refused for now, look first for what is unclear."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from mlxp_core.errors import CommandError, SubmissionBusyError, SubmissionUnclearError
from mlxp_core.scheduler import client
from mlxp_core.scheduler.base import NativeJob, QueueQuery, Scheduler

log = logging.getLogger(__name__)

_LONGEST_PAUSE = 60.0  # seconds between two tries


@dataclass(frozen=True)
class SubmitCall:
    """One submission to be made."""

    scheduler: Scheduler
    script: Path
    extra: tuple[str, ...]  # arguments of the submit command
    directory: Path  # where the command is run
    user: str  # who submits, and whose queue it is looked for in
    name: str  # of the job, which no other has; empty where it cannot be told from others in the queue
    find_started: Callable[[], str | None]  # the id of the job that has started one of its runs
    command_timeout: float  # seconds for each command
    submit_timeout: float  # seconds of trying


def submit_once(call: SubmitCall) -> str:
    """Submit, and give the job's id.

    Raises SubmissionRefusedError when nothing was submitted, SubmissionUnclearError when it is not known even after
    ``submit_timeout``.
    """
    end = time.monotonic() + call.submit_timeout
    pauses = (min(_LONGEST_PAUSE, 2.0**number) for number in itertools.count())
    while True:
        try:
            return client.submit(
                call.scheduler, call.script, extra=call.extra, directory=call.directory, limit=call.command_timeout
            )
        except SubmissionBusyError as error:
            pause = next(pauses)
            if time.monotonic() + pause > end:
                raise type(error)(
                    f"{error}\nIt was tried for hydra.launcher.submit_timeout={call.submit_timeout:g} seconds."
                ) from error
            log.warning("%s\nnext try in %g s", error, pause)
            time.sleep(pause)
        except SubmissionUnclearError as error:
            log.warning("%s\nlooking for the job in the queue", error)
            job_id = _search(call, error, end)
            if job_id is not None:
                return job_id
            log.warning("%s has not got it: submitting it again", call.scheduler.name)


def find_job(jobs: Iterable[NativeJob], script: Path, name: str) -> str | None:
    """The id of the job with this script or this name."""
    for job in jobs:
        # by its end: a scheduler may show the command line whose last word is the path
        if (job.script and job.script.rstrip("'\"").endswith(str(script))) or (name and job.name == name):
            return job.job_id
    return None


def _search(call: SubmitCall, error: SubmissionUnclearError, end: float) -> str | None:
    """Look for a job whose submission was unclear; None where the queue has twice answered without it.

    Raises SubmissionUnclearError where the queue could not be asked until the end.
    """
    answers_without = 0
    while True:
        reason = "Its queue does not show the job yet."
        try:
            jobs = client.query(
                call.scheduler, call.scheduler.status, QueueQuery(call.user), limit=call.command_timeout
            )
        except CommandError as silence:
            reason = f"Its queue could not be asked:\n{silence}"
        else:
            # a short one may have come and gone before the queue was asked
            job_id = find_job(jobs, call.script, call.name) or call.find_started()
            answers_without += 1
            if job_id is None and not call.name:
                reason = "It cannot be told from others in the queue, for your header gives it a name of its own."
            elif job_id is not None or answers_without > 1:
                return job_id
        if time.monotonic() + call.scheduler.min_query_interval > end:
            raise SubmissionUnclearError(
                f"{error}\n{reason}\nThe job may be there or not. The same command again, or `mlxp rerun`, looks for "
                "it before anything is submitted."
            ) from error
        time.sleep(call.scheduler.min_query_interval)

"""Resolve submissions whose outcome is unknown: they were cut short, or had no clear answer. Nothing is submitted here.

Three know it: the submission's folder, which has the job's id once the scheduler has given it; the queue, by the
script's path or the job's name; and the runs themselves, once one of them has started.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from mlxp_core.errors import CommandError, SubmissionUnclearError
from mlxp_core.runs.layout import RunDir, SubmissionDir
from mlxp_core.runs.listing import format_runs
from mlxp_core.runs.process import current_user
from mlxp_core.runs.status import started_job_id
from mlxp_core.runs.submission_record import QueuedJob, SubmissionRecord, read_manifest
from mlxp_core.scheduler import SCHEDULERS, client, load_scheduler
from mlxp_core.scheduler.base import NativeJob, QueueQuery
from mlxp_core.scheduler.submit import find_job

log = logging.getLogger(__name__)


def find_queued(runs: Sequence[RunDir], *, limit: float) -> dict[RunDir, QueuedJob]:
    """Find those of the runs that are in a queue, or have been; what is unclear is looked for.

    A submit command may outlive the launch that was killed, for ``limit`` seconds: until then a job that is not in the
    queue may still come. Raises SubmissionUnclearError where a queue that has to be asked does not answer.
    """
    by_scheduler: dict[str, list[RunDir]] = {}
    for run, record in _unresolved(runs).items():
        by_scheduler.setdefault(str(record.scheduler), []).append(run)
    for name, unclear in by_scheduler.items():
        _look_for(unclear, name, limit)
    queued = (QueuedJob.from_record(run, SubmissionRecord.load(run)) for run in runs)
    return {job.run: job for job in queued if job is not None}


def _look_for(runs: Sequence[RunDir], name: str, limit: float) -> None:
    """Have runs of one scheduler know their job, waiting for one that may still arrive."""
    scheduler = load_scheduler(name)
    reconcile(runs)  # by what the folders know
    while unclear := _unresolved(runs):
        begun = max(record.submitted_at.timestamp() for record in unclear.values() if record.submitted_at)
        is_late = time.time() > begun + limit
        names = format_runs(unclear)
        try:
            reconcile([*unclear], client.query(scheduler, scheduler.status, QueueQuery(current_user()), limit=limit))
        except CommandError as error:
            raise SubmissionUnclearError(
                f"it is not known whether run {names} is in the queue, so nothing is submitted:\n{error}"
            ) from error
        if is_late:
            _check_found([*unclear])
            return
        if missing := _unresolved(unclear):
            log.warning(
                "run %s was being submitted when its launch ended: looking whether it still arrives",
                format_runs(missing),
            )
            time.sleep(min(scheduler.min_query_interval, limit))


def _unresolved(runs: Iterable[RunDir]) -> dict[RunDir, SubmissionRecord]:
    records = {run: SubmissionRecord.load(run) for run in runs}
    return {run: record for run, record in records.items() if record.is_unresolved}


def _check_found(runs: Sequence[RunDir]) -> None:
    """Raise SubmissionUnclearError for runs that may be in the queue, where nothing tells them from others."""
    hidden = [run for run, record in _unresolved(runs).items() if record.name is None]
    if hidden:
        raise SubmissionUnclearError(
            f"it is not known whether run {', '.join(run.path.name for run in hidden)} is in the queue: your header "
            "gives the job a name of its own, and the queue shows nothing else. Look for it there. If it is not there, "
            f"remove {' '.join(str(run.submission) for run in hidden)} and try again."
        )


def reconcile(runs: Sequence[RunDir], jobs: Sequence[NativeJob] = ()) -> None:
    """Have runs whose submission was cut short know their job, where its folder, the queue or a started run does.

    ``jobs`` is what the scheduler showed. A run that is in none of them stays as it is.
    """
    for run, record in _unresolved(runs).items():
        folder = SubmissionDir.of_script(str(record.script))
        job_id = _read_job_id(folder) or find_job(jobs, Path(str(record.script)), record.name or "")
        job_id = job_id or find_started_job(read_manifest(folder))
        if job_id:
            record.updated(job_id=job_id, state=None, error=None).save(run)


def find_started_job(runs: Iterable[RunDir]) -> str | None:
    """Find the id of the job that has started one of the runs of a submission.

    A queue may have forgotten a short job before it is asked. Of an array it may be the id of one of its tasks.
    """
    for run in runs:
        record = SubmissionRecord.load(run)
        recorded, scheduler = started_job_id(run, record.attempt or 0), record.scheduler
        job_id = load_scheduler(scheduler).find_job_id(recorded) if recorded and scheduler in SCHEDULERS else None
        if job_id is not None:
            return job_id
    return None


def _read_job_id(folder: SubmissionDir) -> str | None:
    try:
        return folder.job_id.read_text(encoding="utf-8").strip() or None
    except OSError:
        return None

"""What became of submissions that were cut short, or had no clear answer. Nothing is submitted here.

Three know it: the submission's folder, which has the job's id once the scheduler has given it; the queue, by the
script's path or the job's name; and the runs themselves, once one of them has started.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path

from mlxp_core.errors import CommandError, SubmissionUnclearError
from mlxp_core.runs.layout import RunDir
from mlxp_core.runs.listing import format_runs
from mlxp_core.runs.process import current_user
from mlxp_core.runs.status import started_job_id
from mlxp_core.runs.submission_record import QueuedJob, is_unresolved, load_submission, queued_job, read_manifest
from mlxp_core.scheduler import SCHEDULERS, client, load_scheduler
from mlxp_core.scheduler.base import NativeJob, QueueQuery
from mlxp_core.scheduler.submit import find_job
from mlxp_core.yaml_io import write_yaml

log = logging.getLogger(__name__)


def find_queued(runs: Sequence[RunDir], *, limit: float) -> dict[RunDir, QueuedJob]:
    """Which of these runs are in a queue, or have been; what is unclear is looked for.

    A submit command may outlive the launch that was killed, for ``limit`` seconds: until then a job that is not in the
    queue may still come. Raises SubmissionUnclearError where a queue that has to be asked does not answer.
    """
    by_scheduler: dict[str, list[RunDir]] = {}
    for run in runs:
        note = load_submission(run)
        if is_unresolved(note):
            by_scheduler.setdefault(note["scheduler"], []).append(run)
    for name, unclear in by_scheduler.items():
        scheduler = load_scheduler(name)
        reconcile(unclear)  # by what the folders know
        while left := [run for run in unclear if is_unresolved(load_submission(run))]:
            begun = max(datetime.fromisoformat(load_submission(run)["time"]).timestamp() for run in left)
            over = time.time() > begun + limit
            names = format_runs(left)
            try:
                reconcile(left, client.query(scheduler, scheduler.status, QueueQuery(current_user()), limit=limit))
            except CommandError as error:
                raise SubmissionUnclearError(
                    f"it is not known whether run {names} is in the queue, so nothing is submitted:\n{error}"
                ) from error
            if over:
                _check_found(left)
                break
            log.warning("run %s was being submitted when its launch ended: looking whether it still arrives", names)
            time.sleep(min(scheduler.min_query_interval, limit))
    found = (queued_job(run, load_submission(run)) for run in runs)
    return {one.run: one for one in found if one is not None}


def _check_found(runs: Sequence[RunDir]) -> None:
    """Raise SubmissionUnclearError for runs that may be in the queue, where nothing tells them from others."""
    hidden = [
        run for run in runs if is_unresolved(note := load_submission(run)) and "name" in note and not note["name"]
    ]
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
    for run in runs:
        note = load_submission(run)
        if not is_unresolved(note):
            continue
        path = Path(note["script"])
        job_id = _read_job_id(path.parent) or find_job(jobs, path, note.get("name") or "")
        job_id = job_id or find_started_job(read_manifest(path.parent))
        if job_id:
            cleared = {key: value for key, value in note.items() if key != "error"}
            write_yaml(run.submission, {**cleared, "job_id": job_id, "state": None})


def find_started_job(runs: Iterable[RunDir]) -> str | None:
    """The id of the job that has started one of the runs of a submission.

    A queue may have forgotten a short job before it is asked. Of an array it may be the id of one of its tasks.
    """
    for run in runs:
        submission = load_submission(run)
        told, scheduler = started_job_id(run, submission.get("attempt") or 0), submission.get("scheduler")
        job_id = load_scheduler(scheduler).find_job_id(told) if told and scheduler in SCHEDULERS else None
        if job_id is not None:
            return job_id
    return None


def _read_job_id(folder: Path) -> str | None:
    try:
        return (folder / "job_id").read_text(encoding="utf-8").strip() or None
    except OSError:
        return None

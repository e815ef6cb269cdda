"""Submit runs whose folders are written: make submissions of them, and bring these into a scheduler's queue.

The folders know the outcome before and after every step: nothing is submitted that no folder knows of, and nothing is
submitted again whose outcome is unknown.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mlxp_core.atomic_files import write_atomic
from mlxp_core.errors import (
    CommandError,
    SubmissionRefusedError,
    SubmissionUnclearError,
)
from mlxp_core.jobs import array_script, directives
from mlxp_core.jobs.reconcile import find_started_job
from mlxp_core.jobs.safe_path import shell_safe_alias
from mlxp_core.jobs.spec import SubmitSpec, load_specs
from mlxp_core.runs import info
from mlxp_core.runs.allocation import allocate_numbered_dir
from mlxp_core.runs.layout import LogDir, RunDir, SubmissionDir
from mlxp_core.runs.listing import format_runs, pluralize
from mlxp_core.runs.process import current_user
from mlxp_core.runs.status import Status, count_starts
from mlxp_core.runs.submission_record import QueuedJob, SubmissionRecord
from mlxp_core.scheduler import client, load_scheduler
from mlxp_core.scheduler.base import Scheduler, plain_path
from mlxp_core.scheduler.submit import SubmitCall, submit_once

log = logging.getLogger(__name__)


def mark_not_submitted(runs: Sequence[RunDir], error: BaseException) -> None:
    """Have the folders of runs that were not submitted say so, after an error or an interrupt in between."""
    unclear = None
    submitted = 0
    for run in runs:
        record = SubmissionRecord.load(run)
        submitted += record.is_submitted
        if run.info.exists() and record.is_empty:
            with contextlib.suppress(OSError):  # a full disk, perhaps, which was the error
                SubmissionRecord().updated(job_id=None, time=info.now(), **_not_submitted(error)).save(run)
        elif isinstance(error, KeyboardInterrupt) and record.is_unresolved:
            unclear = record.script
    if unclear:
        log.warning("interrupted while %s was being submitted: the same command again finds out", unclear)
    elif isinstance(error, KeyboardInterrupt):
        log.warning(
            "interrupted: %d of %s are submitted; the same command again submits the rest",
            submitted,
            pluralize(len(runs), "job"),
        )


def _not_submitted(error: BaseException) -> dict[str, str]:
    """Fields of the record of a run of which nothing has been sent."""
    if isinstance(error, KeyboardInterrupt):
        return {"state": str(Status.CANCELLED), "error": "interrupted before it was submitted"}
    return {"state": str(Status.FAILED), "error": f"not submitted: {error}"}


def submit(runs: Sequence[RunDir], log_dir: LogDir) -> list[QueuedJob]:
    """Submit runs whose folders are written; those with the same spec go together, as arrays where there are such.

    Raises the error of the first submission that fails; the folders say which runs are submitted and which are not.
    """
    groups: dict[SubmitSpec, list[RunDir]] = {}
    for run, spec in zip(runs, load_specs(runs), strict=True):
        groups.setdefault(spec, []).append(run)
    submitted: list[QueuedJob] = []
    tried: set[RunDir] = set()
    try:
        for spec, group in groups.items():
            tasks = [group[start : start + spec.pack] for start in range(0, len(group), spec.pack)]
            alike = sum(len(runs) for other, runs in groups.items() if other.max_parallel == spec.max_parallel)
            share = None if spec.max_parallel is None else spec.max_parallel * len(group) // alike
            for jobs in _submit_group(tasks, spec, log_dir, share, tried):
                submitted += jobs
    except CommandError as error:
        done = {job.run for job in submitted}
        failed, untried = [run for run in runs if run in tried - done], [run for run in runs if run not in tried]
        for run in untried:
            SubmissionRecord().updated(
                job_id=None,
                time=info.now(),
                state=str(Status.FAILED),
                attempt=count_starts(run) + 1,
                error="not submitted, after another submission had failed",
            ).save(run)
        if untried or done:
            raise type(error)(f"{error}\n{_outcome_text(submitted, failed, untried)}") from error
        raise
    job_of = {job.run: job for job in submitted}
    return [job_of[run] for run in runs]


def _submit_group(
    tasks: list[list[RunDir]], spec: SubmitSpec, log_dir: LogDir, share: int | None, tried: set[RunDir]
) -> Iterator[list[QueuedJob]]:
    """Submit tasks (each the runs of one job) of one spec."""
    scheduler = load_scheduler(spec.scheduler)
    remaining = list(tasks)
    size = _array_size(scheduler, spec, len(tasks))
    while remaining:
        part = remaining[:size]
        if len(part) < scheduler.min_array_size:
            part = part[:1]
        throttle = None if share is None else max(1, share * len(part) // (len(tasks) * spec.pack))
        tried.update(run for task in part for run in task)
        try:
            yield _submit_tasks(part, spec, scheduler, log_dir, throttle)
        except SubmissionRefusedError as error:
            if len(part) == 1 or not (scheduler.array_too_large and scheduler.array_too_large.search(str(error))):
                raise
            limit = client.array_limit(scheduler, limit=spec.command_timeout)
            size = limit if limit and limit < len(part) else len(part) // 2
            log.warning("%s takes no array of %d jobs: trying with %d", scheduler.name, len(part), size)
            if size == 1 and spec.max_parallel is not None:
                raise SubmissionRefusedError(
                    f"{error}\nWithout arrays hydra.launcher.max_parallel={spec.max_parallel} cannot be kept."
                ) from error
            continue
        remaining = remaining[len(part) :]


def _array_size(scheduler: Scheduler, spec: SubmitSpec, count: int) -> int:
    """How many tasks one submission may have."""
    if not spec.array or scheduler.array is None:
        return 1
    known = scheduler.limit
    if known is None or count <= known.at_least:
        return count
    return min(count, client.array_limit(scheduler, limit=spec.command_timeout) or known.at_least)


@dataclass(frozen=True)
class _Submission:
    """One submission: a job, or an array of jobs."""

    tasks: Sequence[Sequence[RunDir]]  # the runs of each job
    spec: SubmitSpec
    scheduler: Scheduler
    folder: SubmissionDir
    directory: Path  # where the submit command is run
    name: str  # of the job, which no other submission has
    is_identifiable: bool  # by its name, in the queue
    throttle: int | None

    @property
    def places(self) -> Iterator[tuple[RunDir, Sequence[RunDir], int | None]]:
        """Each run, the runs that share its job, and the job's index in the array."""
        for index, task in enumerate(self.tasks, start=1):
            for run in task:
                yield run, task, index if len(self.tasks) > 1 else None


def _submit_tasks(
    tasks: Sequence[Sequence[RunDir]], spec: SubmitSpec, scheduler: Scheduler, log_dir: LogDir, throttle: int | None
) -> list[QueuedJob]:
    """Make one submission, and submit it until its outcome is known."""
    submission = _prepare_submission(tasks, spec, scheduler, log_dir, throttle)
    _write_submission_dir(submission)
    records = _initial_records(submission)
    try:
        _save(records)
    except BaseException as error:
        with contextlib.suppress(OSError):  # a full disk, perhaps, which was the error
            _save(records, **_not_submitted(error))
        raise
    try:
        job_id = submit_once(_submit_call(submission))
    except CommandError as error:
        is_unclear = isinstance(error, SubmissionUnclearError)
        _save(records, state=None if is_unclear else str(Status.FAILED), error=str(error))
        if isinstance(error, SubmissionRefusedError):
            lines = "\n".join(f"  {line}" for line in spec.header) or "  (none)"
            raise type(error)(f"{error}\nThe directives of your header:\n{lines}") from error
        raise
    except client.InterruptedSubmission as interrupt:
        _record_job(submission, records, interrupt.job_id)
        raise
    _record_job(submission, records, job_id)
    return [QueuedJob(run, scheduler.name, job_id, index) for run, _, index in submission.places]


def _prepare_submission(
    tasks: Sequence[Sequence[RunDir]], spec: SubmitSpec, scheduler: Scheduler, log_dir: LogDir, throttle: int | None
) -> _Submission:
    folder = allocate_numbered_dir(log_dir.submissions)
    directory = Path(spec.directory)
    if scheduler.plain_paths:
        folder = shell_safe_alias(folder)
        directory = directory if plain_path(str(directory), "") else folder
    if not directory.is_dir():
        directory = folder
    return _Submission(
        tasks=tasks,
        spec=spec,
        scheduler=scheduler,
        folder=SubmissionDir(folder),
        directory=directory,
        name=_unique(spec.name, scheduler),
        is_identifiable=directives.is_identifiable(spec.header, scheduler),
        throttle=throttle,
    )


def _write_submission_dir(submission: _Submission) -> None:
    """Write the script and the manifest of the runs."""
    folder, spec = submission.folder, submission.spec
    array = array_script.ArraySpec(
        tasks=submission.tasks,
        name=submission.name,
        shebang=spec.shebang,
        header=spec.header,
        folder=folder.path,
        throttle=submission.throttle,
    )
    text = array_script.render_submission(array, submission.scheduler)
    write_atomic(folder.manifest, array_script.render_manifest(submission.tasks))
    write_atomic(folder.script, text)
    folder.script.chmod(0o755)


def _initial_records(submission: _Submission) -> dict[RunDir, SubmissionRecord]:
    """The records of runs that are being submitted, or whose submission did not work out."""
    common = SubmissionRecord(
        scheduler=submission.scheduler.name,
        script=str(submission.folder.script),
        name=submission.name if submission.is_identifiable else None,
        hostname=socket.gethostname(),
        user=current_user(),
        time=info.now(),
    )
    return {
        run: replace(common, array_index=index, packed=len(task), attempt=count_starts(run) + 1)
        for run, task, index in submission.places
    }


def _submit_call(submission: _Submission) -> SubmitCall:
    spec, scheduler, count = submission.spec, submission.scheduler, len(submission.tasks)
    return SubmitCall(
        scheduler=scheduler,
        script=submission.folder.script,
        extra=()
        if count == 1
        else directives.array_arguments(scheduler, submission.name, spec.header, count, submission.throttle),
        directory=submission.directory,
        user=current_user(),
        name=submission.name if submission.is_identifiable else "",
        find_started=lambda: find_started_job(run for run, _, _ in submission.places),
        command_timeout=spec.command_timeout,
        submit_timeout=spec.submit_timeout,
    )


def _record_job(submission: _Submission, records: Mapping[RunDir, SubmissionRecord], job_id: str) -> None:
    # for all of them at once, before any of them says so: a launch that is killed in between is resolved by it
    write_atomic(submission.folder.job_id, f"{job_id}\n")
    _save(records, job_id=job_id)


def _save(records: Mapping[RunDir, SubmissionRecord], **changes: str | None) -> None:
    for run, record in records.items():
        replace(record, **changes).save(run)  # type: ignore[arg-type]


def _unique(name: str, scheduler: Scheduler) -> str:
    """A name that no other submission has, within what the scheduler allows; by it a submission is found again."""
    token = f"-{int.from_bytes(os.urandom(4), 'big') % 36**5:05x}"
    return name[: scheduler.name_limit - len(token)] + token


def _outcome_text(submitted: Sequence[QueuedJob], failed: Sequence[RunDir], untried: Sequence[RunDir]) -> str:
    return (
        f"Submitted: run {format_runs(job.run for job in submitted)}. Failed: run {format_runs(failed)}. "
        f"Not submitted: run {format_runs(untried)}. The same command again, or `mlxp rerun`, submits exactly the rest."
    )

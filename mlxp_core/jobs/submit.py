"""From runs to a scheduler's queue: writes the run folders, makes submissions of them, and submits these.

What happened is in the folders before and after every step: nothing is submitted that no folder knows of, and nothing
is submitted again of which it is not known what became of it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

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
from mlxp_core.runs.layout import LogDir, RunDir
from mlxp_core.runs.listing import format_runs, pluralize
from mlxp_core.runs.process import current_user
from mlxp_core.runs.status import Status, count_starts
from mlxp_core.runs.submission_record import QueuedJob, is_unresolved, load_submission
from mlxp_core.scheduler import client, load_scheduler
from mlxp_core.scheduler.base import Scheduler, plain_path
from mlxp_core.scheduler.submit import SubmitCall, submit_once
from mlxp_core.yaml_io import dump_yaml, write_yaml

log = logging.getLogger(__name__)


def _not_submitted(error: BaseException) -> dict[str, str]:
    """Fields of submission.yaml for a run of which nothing has been sent."""
    if isinstance(error, KeyboardInterrupt):
        return {"state": str(Status.CANCELLED), "error": "interrupted before it was submitted"}
    return {"state": str(Status.FAILED), "error": f"not submitted: {error}"}


def mark_not_submitted(runs: Sequence[RunDir], error: BaseException) -> None:
    """Have the folders of runs that were not submitted say so, after an error or an interrupt in between."""
    unclear = None
    submitted = 0
    for run in runs:
        note = load_submission(run)
        submitted += bool(note.get("job_id"))
        if run.info.exists() and not note:
            with contextlib.suppress(OSError):  # a full disk, perhaps, which was the error
                write_yaml(run.submission, {"job_id": None, "time": info.now(), **_not_submitted(error)})
        elif isinstance(error, KeyboardInterrupt) and is_unresolved(note):
            unclear = note["script"]
    if unclear:
        log.warning("interrupted while %s was being submitted: the same command again finds out", unclear)
    elif isinstance(error, KeyboardInterrupt):
        log.warning(
            "interrupted: %d of %s are submitted; the same command again submits the rest",
            submitted,
            pluralize(len(runs), "job"),
        )


def submit(runs: Sequence[RunDir], log_dir: LogDir) -> list[QueuedJob]:
    """Submit runs whose folders are written; those with the same order go together, as arrays where there are such.

    Raises the error of the first submission that fails; the folders say which runs are submitted and which are not.
    """
    groups: dict[SubmitSpec, list[RunDir]] = {}
    for run, order in zip(runs, load_specs(runs), strict=True):
        groups.setdefault(order, []).append(run)
    submitted: list[QueuedJob] = []
    tried: set[RunDir] = set()
    try:
        for order, group in groups.items():
            tasks = [group[at : at + order.pack] for at in range(0, len(group), order.pack)]
            alike = sum(len(runs) for other, runs in groups.items() if other.max_parallel == order.max_parallel)
            share = None if order.max_parallel is None else order.max_parallel * len(group) // alike
            for part in _submit_group(tasks, order, log_dir, share, tried):
                submitted += part
    except CommandError as error:
        done = {one.run for one in submitted}
        failed, left = [run for run in runs if run in tried - done], [run for run in runs if run not in tried]
        for run in left:
            write_yaml(
                run.submission,
                {
                    "job_id": None,
                    "time": info.now(),
                    "state": str(Status.FAILED),
                    "attempt": count_starts(run) + 1,
                    "error": "not submitted, after another submission had failed",
                },
            )
        if len(groups) > 1 or left or done:
            raise type(error)(f"{error}\n{_what_became_of(submitted, failed, left)}") from error
        raise
    order_of = {one.run: one for one in submitted}
    return [order_of[run] for run in runs]


def _submit_group(
    tasks: list[list[RunDir]], order: SubmitSpec, log_dir: LogDir, share: int | None, tried: set[RunDir]
) -> Iterator[list[QueuedJob]]:
    """Submit tasks (each the runs of one job) of one order."""
    scheduler = load_scheduler(order.scheduler)
    left = list(tasks)
    size = _array_size(scheduler, order, len(tasks))
    while left:
        part = left[:size]
        if len(part) < scheduler.min_array_size:
            part = part[:1]
        throttle = None if share is None else max(1, share * len(part) // (len(tasks) * order.pack))
        tried.update(run for task in part for run in task)
        try:
            yield _submit_one(part, order, scheduler, log_dir, throttle)
        except SubmissionRefusedError as error:
            if len(part) == 1 or not (scheduler.array_too_large and scheduler.array_too_large.search(str(error))):
                raise
            asked = client.array_limit(scheduler, limit=order.command_timeout)
            size = asked if asked and asked < len(part) else len(part) // 2
            log.warning("%s takes no array of %d jobs: trying with %d", scheduler.name, len(part), size)
            if size == 1 and order.max_parallel is not None:
                raise SubmissionRefusedError(
                    f"{error}\nWithout arrays hydra.launcher.max_parallel={order.max_parallel} cannot be kept."
                ) from error
            continue
        left = left[len(part) :]


def _array_size(scheduler: Scheduler, order: SubmitSpec, count: int) -> int:
    """How many tasks one submission may have."""
    if not order.array or scheduler.array is None:
        return 1
    known = scheduler.limit
    if known is None or count <= known.at_least:
        return count
    if known.command is None:
        return count  # learned from the refusal
    return min(count, client.array_limit(scheduler, limit=order.command_timeout) or known.at_least)


def _submit_one(
    tasks: Sequence[Sequence[RunDir]], order: SubmitSpec, scheduler: Scheduler, log_dir: LogDir, throttle: int | None
) -> list[QueuedJob]:
    """Make one submission, and submit it until it is clear what became of it."""
    folder = allocate_numbered_dir(log_dir.submissions)
    directory = Path(order.directory)
    if scheduler.plain_paths:
        folder = shell_safe_alias(folder)
        directory = directory if plain_path(str(directory), "") else folder
    if not directory.is_dir():
        directory = folder
    path = folder / "job.sh"
    name = _unique(order.name, scheduler)
    text = array_script.render_submission(
        array_script.ArraySpec(
            tasks=tasks,
            name=name,
            shebang=order.shebang,
            header=order.header,
            folder=folder,
            throttle=throttle,
        ),
        scheduler,
    )
    write_atomic(folder / "manifest", array_script.render_manifest(tasks))
    write_atomic(path, text)
    path.chmod(0o755)
    indices = [None] if len(tasks) == 1 else list(range(1, len(tasks) + 1))
    findable = directives.is_identifiable(order.header, scheduler)
    common = {
        "scheduler": scheduler.name,
        "script": str(path),
        "name": name if findable else None,  # None: nothing in the queue tells it from others
        "hostname": socket.gethostname(),
        "user": current_user(),
        "time": info.now(),
    }
    own = {
        run: {
            "array_index": index,
            "packed": len(task),
            "attempt": count_starts(run) + 1,  # that `state` speaks of
        }
        for task, index in zip(tasks, indices, strict=True)
        for run in task
    }
    try:
        # being submitted, or it did not work out; `state` is what the scheduler last said, as a status
        _note(own, {**common, "job_id": None, "state": None})
    except BaseException as error:
        with contextlib.suppress(OSError):  # a full disk, perhaps, which was the error
            _note(own, {**common, "job_id": None, **_not_submitted(error)})
        raise
    extra = () if len(tasks) == 1 else directives.array_arguments(scheduler, name, order.header, len(tasks), throttle)
    try:
        job_id = submit_once(
            SubmitCall(
                scheduler=scheduler,
                script=path,
                extra=extra,
                directory=directory,
                user=current_user(),
                name=name if findable else "",
                find_started=lambda: find_started_job(own),
                command_timeout=order.command_timeout,
                submit_timeout=order.submit_timeout,
            )
        )
    except CommandError as error:
        unclear = isinstance(error, SubmissionUnclearError)
        state = None if unclear else str(Status.FAILED)
        _note(own, {**common, "job_id": None, "state": state, "error": str(error)})
        if isinstance(error, SubmissionRefusedError):
            lines = "\n".join(f"  {line}" for line in order.header) or "  (none)"
            raise type(error)(f"{error}\nThe directives of your header:\n{lines}") from error
        raise
    except client.InterruptedSubmission as interrupt:
        _note_job(folder, own, common, interrupt.job_id)
        raise
    _note_job(folder, own, common, job_id)
    return [
        QueuedJob(run, scheduler.name, job_id, index)
        for task, index in zip(tasks, indices, strict=True)
        for run in task
    ]


def _note_job(folder: Path, own: Mapping[RunDir, Mapping[str, Any]], common: Mapping[str, Any], job_id: str) -> None:
    # for all of them at once, before any of them says so: a launch that is killed in between is settled by it
    write_atomic(folder / "job_id", f"{job_id}\n")
    _note(own, {**common, "job_id": job_id, "state": None})


def _note(own: Mapping[RunDir, Mapping[str, Any]], common: Mapping[str, Any]) -> None:
    """Write submission.yaml of each run: what all have in common, which is put into words once, and its own."""
    text = dump_yaml(common)
    for run, fields in own.items():
        write_atomic(run.submission, text + dump_yaml(fields))


def _unique(name: str, scheduler: Scheduler) -> str:
    """A name that no other submission has, within what the scheduler allows; by it a submission is found again."""
    token = f"-{int.from_bytes(os.urandom(4), 'big') % 36**5:05x}"
    return name[: scheduler.name_limit - len(token)] + token


def _what_became_of(submitted: Sequence[QueuedJob], failed: Sequence[RunDir], left: Sequence[RunDir]) -> str:
    return (
        f"Submitted: run {format_runs(one.run for one in submitted)}. Failed: run {format_runs(failed)}. "
        f"Not submitted: run {format_runs(left)}. The same command again, or `mlxp rerun`, submits exactly the rest."
    )

"""From jobs to a scheduler's queue: writes the run folders of a batch, submits them, waits for them.

What happened is in the folders before and after every step, so that nothing is submitted that no folder knows of.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlxp_core import metadata, script
from mlxp_core.environment import user_name
from mlxp_core.errors import CommandError, SubmissionRefusedError, SubmissionUnclearError
from mlxp_core.files import load_yaml_if_there, write_whole, write_yaml
from mlxp_core.layout import ENDED, LogDir, RunDir, Status, derive_status, read_exit_code
from mlxp_core.process import is_alive
from mlxp_core.scheduler import _run
from mlxp_core.scheduler._base import Scheduler
from mlxp_core.script import Job
from mlxp_core.store import numbered_folder
from mlxp_core.template import Template

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Planned:
    """One run before its submission: its job, and what its folder says of it."""

    job: Job
    config: Mapping[str, Any]
    config_unresolved: Mapping[str, Any]
    facts: Mapping[str, Any]  # fields of info.yaml
    settings: Mapping[str, Any]  # mlxp.yaml


@dataclass(frozen=True)
class Batch:
    """What is submitted together, and how."""

    log_dir: LogDir
    name: str
    template: Template
    scheduler: Scheduler
    array: bool
    max_parallel: int | None
    command_timeout: float  # seconds


@dataclass(frozen=True)
class Submitted:
    """A run in a scheduler's queue."""

    run: RunDir
    job_id: str
    array_index: int | None


def check(batch: Batch, count: int) -> None:
    """Raise ConfigurationError for what would keep ``count`` runs from being submitted; nothing is written."""
    if _as_array(batch, count):
        script.check_array(batch.template, batch.scheduler)


def abandon(runs: Sequence[RunDir], batch: Batch, error: BaseException) -> None:
    """Have the folders of runs that were not submitted say so, after an error or an interrupt in between."""
    stopped = isinstance(error, KeyboardInterrupt)
    why = "interrupted before it was submitted" if stopped else f"not submitted: {error}"
    for run in runs:
        submission = load_yaml_if_there(run.submission)
        if not submission and run.info.exists():
            with contextlib.suppress(OSError):  # a full disk, perhaps, which was the error
                state = Status.CANCELLED if stopped else Status.FAILED
                _note(run, batch, run.script, state=str(state), error=why)
        elif stopped and submission and submission.get("job_id") is None:
            log.warning("interrupted while %s was being submitted: look for it in the queue", submission.get("script"))
            return


def write_run(planned: Planned, batch: Batch) -> None:
    """Fill a run's folder: configuration, settings, script, status PENDING. The status comes last."""
    run = planned.job.run
    run.metadata.mkdir(parents=True, exist_ok=True)
    write_yaml(run.config, planned.config)
    write_yaml(run.config_unresolved, planned.config_unresolved)
    write_yaml(run.settings, planned.settings)
    write_whole(run.script, script.render_job(planned.job, batch.template, batch.scheduler))
    run.script.chmod(0o755)
    write_yaml(run.info, metadata.pending(run, planned.facts))


def submit(runs: Sequence[RunDir], batch: Batch) -> list[Submitted]:
    """Submit runs whose folders are written: one array, or one after the other.

    Raises the error of the first submission that fails; the folders say which runs are submitted and which are not.
    """
    if _as_array(batch, len(runs)):
        return _submit_array(runs, batch)
    submitted: list[Submitted] = []
    for run in runs:
        try:
            submitted += _submit_one([run], run.script, batch)
        except CommandError as error:
            left = runs[len(submitted) + 1 :]
            for other in left:
                _note(other, batch, other.script, state=str(Status.FAILED), error="not submitted, after another failed")
            raise type(error)(f"{error}\n{_what_became_of(submitted, run, left)}") from error
    return submitted


def wait(submitted: Sequence[Submitted], batch: Batch, on_end: Callable[[RunDir, Status], None]) -> list[Status]:
    """Stay until every run has ended; give their statuses in order.

    The run folders are looked at often, the scheduler seldom, for jobs that ended without a word: cancelled while
    queued, killed with their node.
    """
    ended: dict[Submitted, Status] = {}
    missing: dict[Submitted, int] = {}  # how often the queue has not shown a job
    asked, pause = time.monotonic(), 0.05
    while True:
        for one in submitted:
            if one not in ended and read_exit_code(one.run) is not None:
                ended[one] = status_of(one.run)
                on_end(one.run, ended[one])
        if len(ended) == len(submitted):
            return [ended[one] for one in submitted]
        if time.monotonic() - asked >= batch.scheduler.ask_every:
            for one, status in _ended_in_queue([one for one in submitted if one not in ended], batch, missing).items():
                ended[one] = status
                on_end(one.run, status)
            asked = time.monotonic()
        time.sleep(pause)
        pause = min(1.0, pause * 1.5)


def status_of(run: RunDir) -> Status:
    """Where a run stands, by its folder."""
    submission = load_yaml_if_there(run.submission)
    return derive_status(
        load_yaml_if_there(run.info),
        exit_code=read_exit_code(run),
        scheduler_state=submission.get("state"),
        process_alive=is_alive,
        said_attempt=submission.get("attempt"),
    )


def _as_array(batch: Batch, count: int) -> bool:
    return batch.array and batch.scheduler.array is not None and count > 1


def _submit_array(runs: Sequence[RunDir], batch: Batch) -> list[Submitted]:
    folder = numbered_folder(batch.log_dir.submissions)
    manifest, path = folder / "manifest", folder / "array.sh"
    text = script.render_array(
        runs,
        name=batch.name,
        template=batch.template,
        scheduler=batch.scheduler,
        manifest=manifest,
        max_parallel=batch.max_parallel,
    )
    write_whole(manifest, script.render_manifest(runs))
    write_whole(path, text)
    path.chmod(0o755)
    return _submit_one(runs, path, batch)


def _submit_one(runs: Sequence[RunDir], path: Path, batch: Batch) -> list[Submitted]:
    """One call of the submit command, for one run or an array of them."""
    indices: list[int | None] = [None] if path == runs[0].script else list(range(1, len(runs) + 1))
    for run, index in zip(runs, indices, strict=True):
        _note(run, batch, path, index)
    try:
        job_id = _run.submit(batch.scheduler, path, limit=batch.command_timeout)
    except CommandError as error:
        unclear = isinstance(error, SubmissionUnclearError)
        for run, index in zip(runs, indices, strict=True):
            _note(run, batch, path, index, state=None if unclear else str(Status.FAILED), error=str(error))
        if isinstance(error, SubmissionRefusedError):
            lines = "\n".join(f"  {line}" for line in batch.template.header) or "  (none)"
            raise SubmissionRefusedError(f"{error}\nThe directives of your header:\n{lines}") from error
        raise
    for run, index in zip(runs, indices, strict=True):
        _note(run, batch, path, index, job_id=job_id)
    return [Submitted(run, job_id, index) for run, index in zip(runs, indices, strict=True)]


def _note(
    run: RunDir,
    batch: Batch,
    path: Path,
    index: int | None = None,
    *,
    job_id: str | None = None,
    state: str | None = None,
    error: str | None = None,
) -> None:
    content = {
        "scheduler": batch.scheduler.name,
        "job_id": job_id,  # null: being submitted, or it did not work out
        "array_index": index,
        "script": str(path),
        "hostname": socket.gethostname(),
        "user": user_name(),
        "time": metadata.now(),
        "state": state,  # what the scheduler last said, as a status
    }
    write_yaml(run.submission, content if error is None else {**content, "error": error})


def _what_became_of(submitted: Sequence[Submitted], failed: RunDir, left: Sequence[RunDir]) -> str:
    def names(runs: Sequence[RunDir]) -> str:
        return ", ".join(run.path.name for run in runs) or "none"

    return (
        f"Submitted: run {names([one.run for one in submitted])}. Failed: run {failed.path.name}. "
        f"Not submitted: run {names(left)}."
    )


def _ended_in_queue(
    waiting: Sequence[Submitted], batch: Batch, missing: dict[Submitted, int]
) -> dict[Submitted, Status]:
    """Runs that the scheduler says have ended; one look later than it says so, for the folder to have the last word."""
    try:
        jobs = _run.look(batch.scheduler, limit=batch.command_timeout)
    except CommandError as error:
        log.warning("%s", error)
        return {}
    states = {(job.job_id, job.index): batch.scheduler.status_of(job.state) for job in jobs}
    ended = {}
    for one in waiting:
        key = (one.job_id, one.array_index)
        said = states.get(key) if key in states else Status.LOST  # forgotten by the queue, and no exit code
        missing[one] = missing.get(one, 0) + 1 if said in ENDED else 0
        if missing[one] > 1 and said is not None:
            submission = load_yaml_if_there(one.run.submission)
            write_yaml(one.run.submission, {**submission, "time": metadata.now(), "state": str(said)})
            ended[one] = status_of(one.run)
    return ended

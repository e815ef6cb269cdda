"""What the schedulers say of runs: asks each of them once for all, and keeps the answers in the run folders.

A scheduler is asked at most once in ``ask_every`` seconds from one host, however many ask for it: the answer is kept in
the user's cache, for the others and for the next.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from mlxp_core import metadata
from mlxp_core.environment import user_name
from mlxp_core.errors import CommandError, ConfigurationError
from mlxp_core.files import load_yaml_if_there, write_whole, write_yaml
from mlxp_core.layout import ENDED, RunDir, Status, derive_status, read_attempts_started, read_exit_code
from mlxp_core.process import is_alive
from mlxp_core.scheduler import SCHEDULERS, _run, load_scheduler
from mlxp_core.scheduler._base import NativeJob, Question, Scheduler
from mlxp_core.submission import settle

log = logging.getLogger(__name__)

PATIENCE = 9.0  # seconds that a question may take: who asks where things stand is to be told within ten
_YOUNG = 60.0  # seconds in which a job that was just submitted may not be seen yet

# variables by which one command speaks to different clusters
_CLUSTER = (
    "SLURM_CONF",
    "SLURM_CLUSTERS",
    "SGE_ROOT",
    "SGE_CELL",
    "PBS_SERVER",
    "PBS_DEFAULT",
    "LSF_ENVDIR",
    "OARCONFFILE",
)


@dataclass(frozen=True)
class Silence:
    """A scheduler that did not answer: what is known of its jobs is what it said last."""

    scheduler: str
    why: str
    since: str | None  # when it last answered, ISO 8601; None where that is not known here


@dataclass(frozen=True)
class _Said:
    """An answer, by a scheduler or from the cache."""

    time: float
    ids: frozenset[str]  # the jobs that it was asked for
    jobs: tuple[NativeJob, ...] = ()
    error: str | None = None
    answered: float | None = None  # when it last did


def status_of(run: RunDir) -> Status:
    """Where a run stands, by its folder."""
    return _status(run, load_yaml_if_there(run.submission))


def refresh(runs: Iterable[RunDir]) -> list[Silence]:
    """Ask the schedulers of all runs that have not ended, and write what they say into the run folders.

    Gives the schedulers that did not answer. A run that is in no queue and in no record any more is LOST, or
    CANCELLED if it had never started.
    """
    by_scheduler: dict[str, dict[RunDir, dict[str, Any]]] = {}
    for run in runs:
        submission = load_yaml_if_there(run.submission)
        if submission.get("scheduler") in SCHEDULERS and _is_open(run, submission):
            by_scheduler.setdefault(submission["scheduler"], {})[run] = submission
    silences = []
    for name, concerned in by_scheduler.items():
        scheduler = load_scheduler(name)
        said = _ask(scheduler, concerned.values())
        if said.error is None:
            _write(scheduler, concerned, said)
        else:
            since = None if said.answered is None else _iso(said.answered)
            silences.append(Silence(name, said.error, since))
    return silences


def cancel(runs: Sequence[RunDir], *, limit: float = 60.0) -> list[RunDir]:
    """Cancel the jobs of those runs that are PENDING or RUNNING; gives these.

    Raises ConfigurationError for a run that shares its job with one that is not to be cancelled, and CommandError
    where a scheduler does not do it.
    """
    live = {run: load_yaml_if_there(run.submission) for run in runs if status_of(run) not in ENDED}
    live = {run: note for run, note in live.items() if note.get("job_id") and note.get("scheduler") in SCHEDULERS}
    by_scheduler: dict[str, dict[tuple[str, int | None], list[RunDir]]] = {}
    for run, note in live.items():
        jobs = by_scheduler.setdefault(note["scheduler"], {})
        jobs.setdefault((str(note["job_id"]), note.get("array_index")), []).append(run)
    for jobs in by_scheduler.values():
        for group in jobs.values():
            _check_shared(group, live[group[0]])
    for name, jobs in by_scheduler.items():
        # before the command: a job that is gone without a word after this was cancelled, and not lost
        for run in (run for group in jobs.values() for run in group):
            write_yaml(run.submission, {**live[run], "cancel_time": metadata.now()})
        _run.cancel(load_scheduler(name), list(jobs), limit=limit)
    return list(live)


def _check_shared(group: Sequence[RunDir], note: Mapping[str, Any]) -> None:
    manifest = Path(note["script"]).with_name("manifest").read_text(encoding="utf-8").splitlines()
    packed, index = note.get("packed") or 1, note.get("array_index") or 1
    together = [RunDir(Path(line)) for line in manifest[(index - 1) * packed : index * packed]]
    left = [run for run in together if run not in group and status_of(run) not in ENDED]
    if packed > 1 and left:
        raise ConfigurationError(
            f"run {group[0].path.name} shares its job with run {', '.join(run.path.name for run in left)} "
            "(hydra.launcher.pack), so they can only be cancelled together: name them all"
        )


def _status(run: RunDir, submission: Mapping[str, Any]) -> Status:
    return derive_status(
        load_yaml_if_there(run.info),
        exit_code=read_exit_code(run),
        scheduler_state=submission.get("state"),
        process_alive=is_alive,
        said_attempt=submission.get("attempt"),
    )


def _is_open(run: RunDir, submission: Mapping[str, Any]) -> bool:
    """Whether the scheduler may have something to say that the folder does not know yet."""
    if submission.get("job_id") is None and submission.get("state") is not None:
        return False  # was not submitted
    if submission.get("state") in ENDED:
        return False
    status = _status(run, submission)
    if status not in ENDED:
        return True
    # what the job said of its own end stands, unless it was ended from outside and does not know why
    return status is not Status.COMPLETE and not _explained(run)


def _explained(run: RunDir) -> bool:
    info = load_yaml_if_there(run.info)
    return info.get("status") == Status.FAILED and bool(info.get("error"))


def _ask(scheduler: Scheduler, submissions: Iterable[Mapping[str, Any]]) -> _Said:
    """Ask, unless somebody on this host has just done so."""
    from filelock import FileLock, Timeout  # noqa: PLC0415  (not every launch gets here)

    known = list(submissions)
    ids = frozenset(str(one["job_id"]) for one in known if one.get("job_id") is not None)
    times = [datetime.fromisoformat(one["time"]) for one in known if one.get("time")]
    path = _cache(scheduler)
    began = time.monotonic()
    try:
        with FileLock(path.with_suffix(".lock"), timeout=PATIENCE):
            before = _load(path)
            if before and time.time() - before.time < scheduler.ask_every:
                return before
            said = _ask_now(scheduler, Question(user_name(), tuple(sorted(ids)), min(times, default=None)), began)
            if said.error is not None and before is not None:
                said = replace(said, answered=before.answered)
            write_whole(path, json.dumps({**asdict(said), "ids": sorted(said.ids)}))
            return said
    except Timeout:
        before = _load(path)
        why = f"{scheduler.name} is being asked by another process, and has not answered within {PATIENCE:g} s"
        return _Said(time.time(), frozenset(), error=why, answered=before.answered if before else None)


def _ask_now(scheduler: Scheduler, question: Question, began: float) -> _Said:
    ids = frozenset(question.ids)
    try:
        jobs = _run.look(scheduler, scheduler.status, question, limit=PATIENCE)
        gone = ids - {job.job_id for job in jobs} - {job.replaces for job in jobs}
        if gone and scheduler.history is not None:
            past = replace(question, ids=tuple(sorted(gone)))
            left = max(1.0, PATIENCE - (time.monotonic() - began))
            jobs = [*_run.look(scheduler, scheduler.history, past, limit=left), *jobs]
    except CommandError as error:
        return _Said(time.time(), ids, error=str(error))
    now = time.time()
    return _Said(now, ids, tuple(jobs), answered=now)


def _write(scheduler: Scheduler, concerned: Mapping[RunDir, dict[str, Any]], said: _Said) -> None:
    """Have the run folders know what was said."""
    settle(list(concerned), said.jobs)
    jobs = {(job.job_id, job.index): job for job in said.jobs}
    successors = {job.replaces: job for job in said.jobs if job.replaces}
    for run in concerned:
        submission = load_yaml_if_there(run.submission)  # settled, perhaps
        job_id, index = submission.get("job_id"), submission.get("array_index")
        if job_id is None or submission.get("scheduler") != scheduler.name:
            continue
        job = jobs.get((str(job_id), index)) or jobs.get((str(job_id), None))
        if job is None and index is None:  # one that is no array, where the scheduler takes it for one of one task
            job = jobs.get((str(job_id), 1))
        while job is not None and job.own_id in successors:  # started again under an id of its own
            job = successors[job.own_id]
            submission = {**submission, "job_id": job.job_id, "array_index": job.index}
        if job is None:
            state, reason = _forgotten(run, submission, said)
        else:
            state, reason = scheduler.status_of(job), job.reason or job.state
        if state is None:
            continue
        starts = read_attempts_started(run)
        cancelled = submission.get("cancel_time") is not None and state in {Status.FAILED, Status.LOST}
        news = {
            **submission,
            "state": str(Status.CANCELLED if cancelled and read_exit_code(run) is None else state),
            "reason": reason,
            "attempt": starts + 1 if state is Status.PENDING else max(starts, 1),
        }
        if news != submission:
            write_yaml(run.submission, {**news, "state_time": metadata.now()})


def _forgotten(run: RunDir, submission: Mapping[str, Any], said: _Said) -> tuple[Status | None, str]:
    """What it means that an answer does not have a job."""
    if str(submission["job_id"]) not in said.ids:
        return None, ""  # was not asked for
    age = said.time - datetime.fromisoformat(submission["time"]).timestamp()
    if age < _YOUNG and not read_attempts_started(run) and submission.get("cancel_time") is None:
        return None, ""
    if read_exit_code(run) is not None:
        return None, ""  # the folder knows how it ended
    if not read_attempts_started(run):
        return Status.CANCELLED, "no longer in the queue, and it had never started"
    return Status.LOST, "no longer in the queue, and it left no word"


def _cache(scheduler: Scheduler) -> Path:
    """Where the answers of one cluster's scheduler are kept, for this user on this host."""
    from platformdirs import user_cache_path  # noqa: PLC0415

    command = scheduler.status.command(Question(""))[0]
    cluster = [shutil.which(command) or command, *(f"{name}={os.environ.get(name)}" for name in _CLUSTER)]
    cluster += [f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith("MLXP_")]
    key = hashlib.sha256("\0".join(cluster).encode(errors="surrogateescape")).hexdigest()[:16]
    folder = user_cache_path("hydra-mlxp") / "queues" / socket.gethostname()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder / f"{scheduler.name}-{key}.json"


def _load(path: Path) -> _Said | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        jobs = tuple(NativeJob(**job) for job in content.pop("jobs"))
        return _Said(**{**content, "ids": frozenset(content["ids"]), "jobs": jobs})
    except (OSError, ValueError, TypeError, KeyError):
        return None  # nothing yet, or of another version


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment).astimezone().isoformat(timespec="seconds")

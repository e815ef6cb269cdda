"""What the schedulers say of runs: asks each of them once for all, and keeps the answers in the run folders.

A scheduler is asked at most once in ``ask_every`` seconds from one host, however many ask for it: the answer is kept in
the user's cache, for the others and for the next.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path

from mlxp_core.atomic_files import write_atomic
from mlxp_core.errors import CommandError
from mlxp_core.jobs.reconcile import reconcile
from mlxp_core.runs import info
from mlxp_core.runs.layout import RunDir
from mlxp_core.runs.process import current_user
from mlxp_core.runs.state import RunState, is_open
from mlxp_core.runs.status import ENDED, Status, count_starts
from mlxp_core.runs.submission_record import load_submission
from mlxp_core.scheduler import SCHEDULERS, client, load_scheduler
from mlxp_core.scheduler.base import NativeJob, QueueQuery, Scheduler
from mlxp_core.yaml_io import write_yaml

QUERY_TIMEOUT = 6.0  # seconds that a question may take: who asks where things stand is to be told within ten
_YOUNG = 60.0  # seconds in which a job that was just submitted may not be seen yet
_SKEW = 5.0  # seconds by which the clocks of two machines may differ

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
    "XDG_STATE_HOME",
)


@dataclass(frozen=True)
class UnreachableScheduler:
    """A scheduler that did not answer: what is known of its jobs is what it said last."""

    scheduler: str
    why: str
    since: str | None  # when it last answered, ISO 8601; None where that is not known here


@dataclass(frozen=True)
class _Said:
    """An answer, by a scheduler or from the cache."""

    time: float
    ids: frozenset[str]  # the jobs that it was asked for, and whose absence tells something
    jobs: tuple[NativeJob, ...] = ()
    error: str | None = None
    answered: float | None = None  # when it last did
    asked: float = 0.0  # it may be as things stood at any moment from then on: a busy machine takes its time


def refresh_runs(runs: Iterable[RunDir]) -> list[UnreachableScheduler]:
    """As ``refresh``, for callers that need nothing else of the runs."""
    return refresh([RunState.load(run) for run in runs])


def refresh(standings: Iterable[RunState]) -> list[UnreachableScheduler]:
    """Ask the schedulers of all runs that have not ended, and write what they say into the run folders.

    The standings know it then, too. Those whose scheduler did not answer, or is out of reach from here, are no longer
    ``current``. Gives the schedulers that did not answer. A run that is in no queue and in no record any more is LOST,
    or CANCELLED if it had never started.
    """
    by_scheduler: dict[str, list[RunState]] = {}
    for one in standings:
        name = one.submission.get("scheduler")
        if name in SCHEDULERS and is_open(one):
            if _is_within_reach(one, load_scheduler(name)):
                by_scheduler.setdefault(name, []).append(one)
            else:
                one.is_current = False
    if not by_scheduler:
        return []
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415  (seldom needed, and it loads a lot)

    # side by side, so that two that hang take no longer than one
    with ThreadPoolExecutor(len(by_scheduler)) as threads:
        answers = threads.map(lambda item: _ask(load_scheduler(item[0]), item[1]), by_scheduler.items())
        by_name = dict(zip(by_scheduler, answers, strict=True))
    silences = []
    for name, said in by_name.items():
        _write(load_scheduler(name), by_scheduler[name], said)
        if said.error is not None:
            times = [str(one.submission.get("state_time") or "") for one in by_scheduler[name]]
            since = (max(times) or None) if said.answered is None else _iso(said.answered)
            silences.append(UnreachableScheduler(name, said.error, since))
            for one in by_scheduler[name]:
                one.is_current = str(one.submission.get("job_id")) in said.ids
    return silences


def _is_within_reach(one: RunState, scheduler: Scheduler) -> bool:
    """Whether an answer from here would know the job: a queue shows a user the user's own."""
    if one.submission.get("user") not in {None, current_user()}:
        return False
    return not scheduler.per_host or one.submission.get("hostname") in {None, socket.gethostname()}


def _ask(scheduler: Scheduler, concerned: Sequence[RunState]) -> _Said:
    """Ask, unless somebody on this host has just done so."""
    from filelock import FileLock, Timeout  # noqa: PLC0415  (not every launch gets here)

    notes = [one.submission for one in concerned]
    tasks = {(str(note["job_id"]), note.get("array_index")) for note in notes if note.get("job_id") is not None}
    times = [datetime.fromisoformat(note["time"]) for note in notes if note.get("time")]
    path = _cache(scheduler)
    began = time.monotonic()
    try:
        with FileLock(path.with_suffix(".lock"), timeout=QUERY_TIMEOUT):
            before = _load(path)
            if before and 0 <= time.time() - before.time < scheduler.min_query_interval:
                return before
            said = _ask_now(scheduler, tasks, min(times, default=None), began)
            if said.error is not None and said.answered is None and before is not None:
                said = replace(said, answered=before.answered)
            write_atomic(path, json.dumps({**asdict(said), "ids": sorted(said.ids)}))
            return said
    except Timeout:
        before = _load(path)
        why = f"{scheduler.name} is being asked by another process, and has not answered within {QUERY_TIMEOUT:g} s"
        return _Said(time.time(), frozenset(), error=why, answered=before.answered if before else None)


def _ask_now(
    scheduler: Scheduler, tasks: Collection[tuple[str, int | None]], since: datetime | None, began: float
) -> _Said:
    def left() -> float:
        return max(1.0, QUERY_TIMEOUT - (time.monotonic() - began))

    asked = time.time()
    ids = frozenset(job_id for job_id, _ in tasks)
    question = QueueQuery(current_user(), tuple(sorted(ids)), since)
    try:
        jobs = client.query(scheduler, scheduler.status, question, limit=left())
    except CommandError as error:
        return _Said(time.time(), frozenset(), error=str(error))
    now = time.time()
    shown = {(job.job_id, job.index) for job in jobs}
    # of an array, tasks may have ended while others are in the queue
    gone = {job_id for job_id, index in tasks if not {(job_id, index), (job_id, None)} & shown}
    if gone and scheduler.history is not None:
        past = replace(question, ids=tuple(sorted(gone)))
        try:
            jobs = [*client.query(scheduler, scheduler.history, past, limit=left()), *jobs]
        except CommandError as error:  # what the queue shows is known all the same
            return _Said(now, ids - gone, tuple(jobs), error=str(error), answered=now, asked=asked)
    return _Said(now, ids, tuple(jobs), answered=now, asked=asked)


def _write(scheduler: Scheduler, concerned: Sequence[RunState], said: _Said) -> None:
    """Have the run folders, and the standings, know what was said."""
    unclear = [one for one in concerned if not one.is_submitted]
    reconcile([one.run for one in unclear], said.jobs)
    for one in unclear:
        one.submission = load_submission(one.run)
    jobs = {(job.job_id, job.index): job for job in said.jobs}
    for one in concerned:
        news = _news(scheduler, one, said, jobs) if one.is_submitted else None
        if news is None or news.items() <= one.submission.items():
            continue
        # another one's folder, or a full disk: it is known here all the same
        with contextlib.suppress(OSError, ValueError):
            fresh = load_submission(one.run)  # which may have been submitted again, or cancelled
            if fresh.get("job_id") != one.submission["job_id"] or fresh.get("script") != one.submission.get("script"):
                one.submission = fresh
                continue
            one.submission = {**fresh, **news, "state_time": info.now()}
            write_yaml(one.run.submission, one.submission)


def _news(
    scheduler: Scheduler,
    one: RunState,
    said: _Said,
    jobs: Mapping[tuple[str, int | None], NativeJob],
) -> dict[str, object] | None:
    """What an answer says of a run, as fields of submission.yaml; None: nothing."""
    job_id, index = str(one.submission["job_id"]), one.submission.get("array_index")
    job = jobs.get((job_id, index)) or jobs.get((job_id, None))
    if job is None and index is None:  # one that is no array, where the scheduler takes it for one of one task
        job = jobs.get((job_id, 1))
    # one that was started again under an id of its own keeps that of its array
    place = {"own_id": job.own_id} if job is not None and job.own_id not in {"", job_id} else {}
    starts = count_starts(one.run)
    if job is None:
        state, reason = _forgotten(one, said, starts)
    else:
        state, reason = scheduler.status_of(job), job.reason or job.state
    if state is None:
        return None
    attempt = max(_attempt(one), starts)
    if state is Status.PENDING and starts >= attempt:
        if said.asked < one.run.starts.stat().st_mtime + _SKEW:
            return None  # said before it started
        attempt = starts + 1  # it waits again
    if one.submission.get("cancel_time") and state in {Status.FAILED, Status.LOST} and one.exit_status is None:
        state = Status.CANCELLED
    stuck = job is not None and job.state in scheduler.held_states
    noted = {"stuck": stuck} if stuck or one.submission.get("stuck") else {}
    return {**place, "state": str(state), "reason": reason, "attempt": attempt, **noted}


def _attempt(one: RunState) -> int:
    noted = one.submission.get("attempt")
    return noted if isinstance(noted, int) else 1


def _forgotten(one: RunState, said: _Said, starts: int) -> tuple[Status | None, str]:
    """What it means that an answer does not have a job."""
    if str(one.submission["job_id"]) not in said.ids:
        return None, ""  # was not asked for
    started = starts >= _attempt(one)
    if not started and one.submission.get("cancel_time"):
        return Status.CANCELLED, "cancelled before it had started"
    if not started and said.time - datetime.fromisoformat(one.submission["time"]).timestamp() < _YOUNG:
        return None, ""
    # the folder knows how it ended, and nobody will know more
    if one.exit_status is not None or one.attempt_info.get("status") in ENDED:
        return (one.status, "") if one.has_ended else (None, "")
    if not started:
        return Status.CANCELLED, "no longer in the queue, and it had never started"
    return Status.LOST, "no longer in the queue, and it left no word"


def _cache(scheduler: Scheduler) -> Path:
    """Where the answers of one cluster's scheduler are kept, for this user on this host."""
    from platformdirs import user_cache_path  # noqa: PLC0415

    command = scheduler.status.command(QueueQuery(""))[0]
    cluster = [shutil.which(command) or command, *(f"{name}={os.environ.get(name)}" for name in _CLUSTER)]
    own = (item for item in sorted(os.environ.items()) if item[0].startswith("MLXP_") and item[0] != "MLXP_LOG_DIR")
    cluster += [f"{name}={value}" for name, value in own]
    key = hashlib.sha256("\0".join(cluster).encode(errors="surrogateescape")).hexdigest()[:16]
    inside = Path("queues", socket.gethostname())
    folder = user_cache_path("hydra-mlxp") / inside
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        usable = os.access(folder, os.W_OK | os.X_OK)
    except OSError:
        usable = False
    if not usable:  # no home, or one that is full or read-only
        folder = Path(tempfile.gettempdir(), f"hydra-mlxp-{os.getuid()}") / inside
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

"""What the schedulers say of runs: asks each of them once for all, and keeps the answers in the run folders."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from mlxp_core.jobs.reconcile import reconcile
from mlxp_core.runs import info
from mlxp_core.runs.layout import RunDir
from mlxp_core.runs.process import current_user
from mlxp_core.runs.state import RunState, is_open
from mlxp_core.runs.status import ENDED, Status, count_starts
from mlxp_core.runs.submission_record import load_submission
from mlxp_core.scheduler import SCHEDULERS, load_scheduler
from mlxp_core.scheduler.base import NativeJob, Scheduler
from mlxp_core.scheduler.query_cache import QueueAnswer, ask_queue
from mlxp_core.yaml_io import write_yaml

_YOUNG = 60.0  # seconds in which a job that was just submitted may not be seen yet
_SKEW = 5.0  # seconds by which the clocks of two machines may differ


@dataclass(frozen=True)
class UnreachableScheduler:
    """A scheduler that did not answer: what is known of its jobs is what it said last."""

    scheduler: str
    why: str
    since: str | None  # when it last answered, ISO 8601; None where that is not known here


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


def _ask(scheduler: Scheduler, concerned: Sequence[RunState]) -> QueueAnswer:
    notes = [one.submission for one in concerned]
    tasks = {(str(note["job_id"]), note.get("array_index")) for note in notes if note.get("job_id") is not None}
    times = [datetime.fromisoformat(note["time"]) for note in notes if note.get("time")]
    return ask_queue(scheduler, tasks, min(times, default=None), user=current_user())


def _write(scheduler: Scheduler, concerned: Sequence[RunState], said: QueueAnswer) -> None:
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
    said: QueueAnswer,
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


def _forgotten(one: RunState, said: QueueAnswer, starts: int) -> tuple[Status | None, str]:
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


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment).astimezone().isoformat(timespec="seconds")

"""Ask the schedulers about runs, each once for all, and keep the answers in the run folders."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mlxp_core.jobs.reconcile import reconcile
from mlxp_core.runs import info
from mlxp_core.runs.layout import RunDir
from mlxp_core.runs.process import current_user
from mlxp_core.runs.state import RunState
from mlxp_core.runs.status import ENDED, Status, count_starts
from mlxp_core.runs.submission_record import SubmissionRecord
from mlxp_core.runs.times import parse_time
from mlxp_core.scheduler import SCHEDULERS, load_scheduler
from mlxp_core.scheduler.base import NativeJob, Scheduler, Task
from mlxp_core.scheduler.query_cache import QueueAnswer, ask_queue

_VISIBILITY_DELAY = 60.0  # seconds in which a job that was just submitted may not be seen yet
_SKEW = 5.0  # seconds by which the clocks of two machines may differ


@dataclass(frozen=True)
class UnreachableScheduler:
    """A scheduler that did not answer: what is known of its jobs is what it said last."""

    scheduler: str
    why: str
    since: str | None  # when it last answered, ISO 8601; None where that is not known here


def refresh_runs(runs: Iterable[RunDir]) -> list[UnreachableScheduler]:
    """Refresh runs for callers that need nothing else of them."""
    return refresh(RunState.load(run) for run in runs)[1]


def refresh(states: Iterable[RunState]) -> tuple[list[RunState], list[UnreachableScheduler]]:
    """Ask the schedulers of all runs that have not ended, and write what they say into the run folders.

    Returns the states as they are then, in the same order, and the schedulers that did not answer. A state whose
    scheduler did not answer, or is out of reach from here, is no longer ``is_current``. A run that is in no queue and
    in no record any more is LOST, or CANCELLED if it had never started.
    """
    refreshed = list(states)
    positions: dict[str, list[int]] = {}  # of the states to ask about, by scheduler
    for position, state in enumerate(refreshed):
        name = state.submission.scheduler
        if name in SCHEDULERS and state.may_change:
            if _is_within_reach(state.submission, load_scheduler(name)):
                positions.setdefault(name, []).append(position)
            else:
                refreshed[position] = state.with_is_current(is_current=False)
    unreachable = []
    concerned = {name: [refreshed[position] for position in positions[name]] for name in positions}
    for name, answer in _ask_all(concerned).items():
        after = _record_answer(load_scheduler(name), concerned[name], answer)
        if answer.error is not None:
            times = [state.submission.state_time for state in after if state.submission.state_time]
            # of hosts in several zones
            since = max(times, key=parse_time, default=None) if answer.answered is None else _iso(answer.answered)
            unreachable.append(UnreachableScheduler(name, answer.error, since))
            after = [state.with_is_current(is_current=state.submission.job_id in answer.ids) for state in after]
        for position, state in zip(positions[name], after, strict=True):
            refreshed[position] = state
    return refreshed, unreachable


def _is_within_reach(record: SubmissionRecord, scheduler: Scheduler) -> bool:
    """Tell whether an answer from here would know the job: a queue shows a user the user's own."""
    if record.user not in {None, current_user()}:
        return False
    return not scheduler.per_host or record.hostname in {None, socket.gethostname()}


def _ask_all(states: Mapping[str, Sequence[RunState]]) -> dict[str, QueueAnswer]:
    """Ask each scheduler about its runs, side by side, so that two that hang take no longer than one."""
    if not states:
        return {}
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415  (seldom needed, and it loads a lot)

    with ThreadPoolExecutor(len(states)) as threads:
        answers = threads.map(lambda item: _ask(load_scheduler(item[0]), item[1]), states.items())
        return dict(zip(states, answers, strict=True))


def _ask(scheduler: Scheduler, states: Sequence[RunState]) -> QueueAnswer:
    tasks = {state.job.task for state in states if state.job is not None}
    times = [state.submission.submitted_at for state in states if state.submission.submitted_at is not None]
    return ask_queue(scheduler, tasks, min(times, default=None), user=current_user())


def _record_answer(scheduler: Scheduler, states: Sequence[RunState], answer: QueueAnswer) -> list[RunState]:
    """Write what was answered into the run folders; gives the states as they are then."""
    unclear = [state.run for state in states if not state.is_submitted]
    reconcile(unclear, answer.jobs)
    jobs = {(job.job_id, job.index): job for job in answer.jobs}
    recorded = []
    for state in states:
        known = state if state.is_submitted else state.with_submission(SubmissionRecord.load(state.run))
        change = _state_change(scheduler, known, answer, jobs)
        recorded.append(_record_change(known, change) if change else known)
    return recorded


def _record_change(state: RunState, change: Mapping[str, Any]) -> RunState:
    before = state.submission
    if before.updated(**change) == before:
        return state
    # another one's folder, or a full disk: it is known here all the same
    with contextlib.suppress(OSError, ValueError):
        before = SubmissionRecord.load(state.run)  # which may have been submitted again, or cancelled
        if (before.job_id, before.script) != (state.submission.job_id, state.submission.script):
            return state.with_submission(before)
        record = before.updated(**change, state_time=info.now())
        state = state.with_submission(record)
        record.save(state.run)
    return state


def _state_change(
    scheduler: Scheduler, state: RunState, answer: QueueAnswer, jobs: Mapping[Task, NativeJob]
) -> dict[str, Any] | None:
    """The fields of the submission record that an answer changes; None where it says nothing of the run."""
    if state.job is None:
        return None
    job_id, index = state.job.task
    job = jobs.get((job_id, index)) or jobs.get((job_id, None))
    if job is None and index is None:  # one that is no array, where the scheduler takes it for one of one task
        job = jobs.get((job_id, 1))
    # one that was started again under an id of its own keeps that of its array
    own_id = {"own_id": job.own_id} if job is not None and job.own_id not in {"", job_id} else {}
    starts = count_starts(state.run)
    if job is None:
        status, reason = _status_if_missing(state, answer, starts)
    else:
        status, reason = scheduler.status_of(job), job.reason or job.state
    if status is None:
        return None
    attempt = max(state.submission.attempt or 1, starts)
    if status is Status.PENDING and starts >= attempt:
        if answer.asked < state.run.starts.stat().st_mtime + _SKEW:
            return None  # said before it started
        attempt = starts + 1  # it waits again
    if state.submission.cancel_time and status in {Status.FAILED, Status.LOST} and state.exit_status is None:
        status = Status.CANCELLED
    is_stuck = job is not None and job.state in scheduler.held_states
    stuck = {"stuck": is_stuck} if is_stuck or state.submission.stuck else {}
    return {**own_id, "state": str(status), "reason": reason, "attempt": attempt, **stuck}


def _status_if_missing(state: RunState, answer: QueueAnswer, starts: int) -> tuple[Status | None, str]:
    """The status, and why, of a run whose job an answer does not have."""
    record = state.submission
    if record.job_id not in answer.ids:
        return None, ""  # was not asked for
    started = starts >= (record.attempt or 1)
    if not started and record.cancel_time:
        return Status.CANCELLED, "cancelled before it had started"
    submitted = record.submitted_at.timestamp() if record.submitted_at else 0.0
    if not started and answer.time - submitted < _VISIBILITY_DELAY:
        return None, ""
    # the folder knows how it ended, and nobody will know more
    if state.exit_status is not None or state.attempt_info.get("status") in ENDED:
        return (state.status, "") if state.has_ended else (None, "")
    if not started:
        return Status.CANCELLED, "no longer in the queue, and it had never started"
    return Status.LOST, "no longer in the queue, and it left no word"


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment).astimezone().isoformat(timespec="seconds")

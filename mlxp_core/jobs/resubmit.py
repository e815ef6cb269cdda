"""Submit runs again: the same folder, code, configuration and directives, as the next attempt.

One process at a time for each log directory; and no run whose earlier submission is not resolved.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mlxp_core.errors import CommandError, ConfigurationError, SnapshotError
from mlxp_core.jobs.cancel import cancel_jobs
from mlxp_core.jobs.launch_journal import remove_finished, runs_being_launched
from mlxp_core.jobs.reconcile import find_queued
from mlxp_core.jobs.refresh import refresh
from mlxp_core.jobs.relocation import moved_from, plan_relocation
from mlxp_core.jobs.spec import SubmitSpec
from mlxp_core.jobs.submit import submit
from mlxp_core.runs.attempts import archive
from mlxp_core.runs.code_version import CodeVersion
from mlxp_core.runs.layout import CodeDir, LogDir, RunDir
from mlxp_core.runs.listing import format_runs
from mlxp_core.runs.lock import exclusive
from mlxp_core.runs.state import RunState
from mlxp_core.runs.status import Status, count_starts
from mlxp_core.runs.submission_record import QueuedJob
from mlxp_core.versioning.availability import locate_commit
from mlxp_core.versioning.export import publish_copy
from mlxp_core.versioning.work_folder import publish_template, recorded_work


@dataclass(frozen=True)
class Resubmission:
    """The outcome for each of the runs that were to be submitted again."""

    runs: tuple[RunDir, ...]  # that can be
    submitted: tuple[QueuedJob, ...]  # and are; none of them when nothing was to be changed
    skipped: dict[RunDir, str]  # those that wait, run or are complete, and which of it
    blocked: dict[RunDir, str]  # those that cannot be submitted again, and why
    moved: dict[RunDir, Path] = field(default_factory=dict)  # those that led elsewhere, and where; they lead here now


def resubmit(log_dir: LogDir, runs: Sequence[RunDir], *, complete: bool = False, dry_run: bool = False) -> Resubmission:
    """Submit those of these runs that have ended or were never submitted; complete ones only where that is asked for.

    The schedulers are asked first. Raises CommandError where one does not answer for a run that it may still have, and
    the error of a submission that fails.
    """
    with exclusive(log_dir):
        states = _up_to_date(runs)
        launching = runs_being_launched(log_dir)
        skipped: dict[RunDir, str] = {}
        blocked: dict[RunDir, str] = {}
        chosen: list[RunState] = []
        moved: dict[RunDir, Path] = {}
        for state in states:
            if reason := _why_skipped(state, launching, complete=complete):
                skipped[state.run] = reason
                continue
            origin = moved_from(state)
            if reason := _blocker(state, dry_run=dry_run):
                blocked[state.run] = reason
                continue
            chosen.append(state)
            if origin is not None:
                moved[state.run] = origin
        submitted = [] if dry_run or not chosen else _submit(chosen, log_dir)
        return Resubmission(tuple(state.run for state in chosen), tuple(submitted), skipped, blocked, moved)


def _submit(states: Sequence[RunState], log_dir: LogDir) -> list[QueuedJob]:
    # what a scheduler holds in an error state would start as soon as somebody clears that
    cancel_jobs([state for state in states if state.submission.stuck])
    for state in states:
        _archive_exit_code(state)
    submitted = submit([state.run for state in states], log_dir)
    remove_finished(log_dir)
    return submitted


def _why_skipped(state: RunState, launching: Mapping[RunDir, str], *, complete: bool) -> str | None:
    """Say why a run is left alone: it waits, runs, is complete, or is being submitted."""
    if state.run in launching and not state.is_submitted:
        return launching[state.run]
    if state.status is Status.COMPLETE and not complete:
        return "COMPLETE"
    return why_left_alone(state) or None


def why_left_alone(state: RunState) -> str:
    """Say why a run is left alone by what would change its folder: it waits, runs, or may start again; else nothing."""
    if not state.has_ended and state.is_submitted:
        return str(state.status)
    if not state.has_ended and state.attempt_info.get("status") == Status.RUNNING:
        return "RUNNING"
    if state.status is Status.PREEMPTED and state.scheduler_status == Status.RUNNING and state.exit_status is None:
        return "PREEMPTED, and its job has not ended: the scheduler may start it again"
    return ""


def _up_to_date(runs: Sequence[RunDir]) -> list[RunState]:
    """Load the states of runs, and have their schedulers and folders tell what they know."""
    states, unreachable = refresh(RunState.load(run) for run in runs)
    unknown = [state.run for state in states if not state.is_current]
    if unreachable and unknown:
        raise CommandError(
            f"it is not known where run {format_runs(unknown)} stands, so nothing is submitted:\n"
            + "\n".join(scheduler.why for scheduler in unreachable)
        )
    # one that is not current is another user's, or of another host's queue: nobody can look for it here
    unclear = [state.run for state in states if state.submission_unresolved and state.is_current]
    if not unclear:
        return states
    longest = max(_command_timeout(run) for run in unclear)
    find_queued(unclear, limit=longest)  # raises where the queue does not answer
    changed = set(unclear)
    return [RunState.load(state.run) if state.run in changed else state for state in states]


def _command_timeout(run: RunDir) -> float:
    try:
        return SubmitSpec.load(run).command_timeout
    except (OSError, ValueError):
        return SubmitSpec.command_timeout


def _blocker(state: RunState, *, dry_run: bool) -> str:
    """Say why a run cannot be submitted again; empty where it can. Its code is made again where it is gone."""
    if state.problem or state.newer_format:
        return state.problem or state.newer_format
    if not state.is_current:
        return f"it was submitted by {state.submission.user} on {state.submission.hostname}: only from there"
    try:
        SubmitSpec.load(state.run)
    except ConfigurationError as error:
        return str(error)
    except (OSError, ValueError) as error:
        return f"{state.run.settings} cannot be used: {error}"
    if not state.run.script.is_file():
        return f"{state.run.script} is not there, which is what a job of it runs"
    if (owner := state.run.script.stat().st_uid) != os.geteuid():
        return f"its script.sh belongs to user {owner}, and would run as you"
    try:
        relocation = plan_relocation(state)
    except (OSError, ValueError) as error:
        return str(error)
    if relocation is None:
        return _missing_code(state, dry_run=dry_run)
    why = _missing_code(replace(state, info=relocation.info), dry_run=dry_run)
    if not why and not dry_run:
        relocation.apply(state)
    return why


def _missing_code(state: RunState, *, dry_run: bool) -> str:
    """Make the copy of the code again where it was pruned; gives why that cannot be done, or empty text."""
    version, work_dir = CodeVersion.from_info(state.info), state.info.get("work_dir")
    copy = version.copy
    if copy is not None and not copy.is_dir():
        try:
            repository = locate_commit(version, log_dir=LogDir(state.run.path.parent))
            if not dry_run:
                publish_copy(repository, str(version.commit), copy.parent)
        except (SnapshotError, OSError) as error:
            return f"its code is not there any more, and cannot be made again: {copy}: {error}"
        if dry_run:
            return _missing_links(state, copy)
    if copy is not None and (why := _missing_links(state, copy)):
        return why
    if isinstance(work_dir, str) and copy is not None and Path(work_dir).is_relative_to(recorded_work(state)):
        return "" if dry_run else _missing_template(state, copy, Path(work_dir))
    if isinstance(work_dir, str) and not Path(work_dir).is_dir():
        return f"its code is not there any more: {work_dir}"
    return ""


def _missing_template(state: RunState, copy: Path, work_dir: Path) -> str:
    """Make what the working folder is made of again; gives why that cannot be done, or empty text."""
    try:
        publish_template(copy, work_dir.relative_to(recorded_work(state)))
    except OSError as error:
        return f"its working folder cannot be made: {error}"
    return ""


def _missing_links(state: RunState, copy: Path) -> str:
    """Say why a job would not find its packages, by links that only a launch knows how to make (python_path.py)."""
    links = CodeDir(copy.parent).links(copy.name)
    if links.is_dir() or links.name not in state.run.script.read_text(encoding="utf-8", errors="replace"):
        return ""
    return f"the links to its packages are not there any more, and only a launch can make them again: {links}"


def _archive_exit_code(state: RunState) -> None:
    """Move the exit code of the attempt that has ended away, so that it cannot be taken for one of the next attempt."""
    attempt = count_starts(state.run)
    if state.exit_code is None or attempt == 0:
        return
    # the folder knows that the run has ended, should this process be killed before it is submitted
    state.submission.updated(state=str(state.status), attempt=state.attempt).save(state.run)
    archive(state.run, attempt, [state.run.exit_code], replace=True)

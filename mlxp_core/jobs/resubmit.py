"""Submits runs again: the same folder, code, configuration and order, as the next attempt.

One process at a time for each log directory; and nothing of which it is not known what became of it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlxp_core.errors import CommandError, ConfigurationError, SnapshotError
from mlxp_core.jobs.cancel import cancel_jobs
from mlxp_core.jobs.launch_journal import remove_finished, runs_being_launched
from mlxp_core.jobs.reconcile import find_queued
from mlxp_core.jobs.refresh import refresh
from mlxp_core.jobs.spec import SubmitSpec
from mlxp_core.jobs.submit import submit
from mlxp_core.runs.code_version import CodeVersion
from mlxp_core.runs.layout import LogDir, RunDir
from mlxp_core.runs.listing import format_runs
from mlxp_core.runs.lock import exclusive
from mlxp_core.runs.state import RunState
from mlxp_core.runs.status import Status, count_starts
from mlxp_core.runs.submission_record import QueuedJob
from mlxp_core.versioning.availability import locate_commit
from mlxp_core.versioning.export import publish_copy
from mlxp_core.yaml_io import write_yaml


@dataclass(frozen=True)
class Resubmission:
    """What became of the runs that were to be submitted again."""

    runs: tuple[RunDir, ...]  # that can be
    submitted: tuple[QueuedJob, ...]  # and are; none of them when nothing was to be changed
    skipped: dict[RunDir, str]  # those that wait, run or are complete, and which of it
    blocked: dict[RunDir, str]  # those that cannot be submitted again, and why


def resubmit(log_dir: LogDir, runs: Sequence[RunDir], *, complete: bool = False, dry_run: bool = False) -> Resubmission:
    """Submit those of these runs that have ended or were never submitted; complete ones only where that is asked for.

    The schedulers are asked first. Raises CommandError where one does not answer for a run that it may still have, and
    the error of a submission that fails.
    """
    with exclusive(log_dir):
        standings = _up_to_date(runs)
        busy = runs_being_launched(log_dir)
        left: dict[RunDir, str] = {}
        unable: dict[RunDir, str] = {}
        chosen: list[RunState] = []
        for one in standings:
            if one.run in busy and not one.is_submitted:
                left[one.run] = busy[one.run]
            elif one.status is Status.COMPLETE and not complete:
                left[one.run] = "COMPLETE"
            elif not one.has_ended and one.is_submitted:
                left[one.run] = str(one.status)
            elif not one.has_ended and one.attempt_info.get("status") == Status.RUNNING:
                left[one.run] = "RUNNING"
            elif one.status is Status.PREEMPTED and one.scheduler_status == Status.RUNNING and one.exit_status is None:
                left[one.run] = "PREEMPTED, and its job has not ended: the scheduler may start it again"
            elif why := _hindrance(one, dry_run=dry_run):
                unable[one.run] = why
            else:
                chosen.append(one)
        if dry_run or not chosen:
            return Resubmission(tuple(one.run for one in chosen), (), left, unable)
        # what a scheduler holds in an error state would start as soon as somebody clears that
        cancel_jobs([one for one in chosen if one.submission.get("stuck")])
        for one in chosen:
            _put_exit_code_aside(one)
        submitted = submit([one.run for one in chosen], log_dir)
        remove_finished(log_dir)
        return Resubmission(tuple(one.run for one in chosen), tuple(submitted), left, unable)


def _up_to_date(runs: Sequence[RunDir]) -> list[RunState]:
    standings = [RunState.load(run) for run in runs]
    silences = refresh(standings)
    unknown = [one.run for one in standings if not one.is_current]
    if silences and unknown:
        raise CommandError(
            f"it is not known where run {format_runs(unknown)} stands, so nothing is submitted:\n"
            + "\n".join(silence.why for silence in silences)
        )
    # one that is not current is another user's, or of another host's queue: nobody can look for it here
    unclear = [one.run for one in standings if one.submission_unresolved and one.is_current]
    if not unclear:
        return standings
    longest = max(_command_timeout(run) for run in unclear)
    find_queued(unclear, limit=longest)  # raises where the queue does not answer
    again = set(unclear)
    return [RunState.load(one.run) if one.run in again else one for one in standings]


def _command_timeout(run: RunDir) -> float:
    try:
        return SubmitSpec.load(run).command_timeout
    except (OSError, ValueError):
        return SubmitSpec.command_timeout


def _hindrance(one: RunState, *, dry_run: bool) -> str:
    """Why a run cannot be submitted again; empty where it can. Its code is made again where it is gone."""
    if one.problem:
        return one.problem
    if not one.is_current:
        return f"it was submitted by {one.submission.get('user')} on {one.submission.get('hostname')}: only from there"
    try:
        SubmitSpec.load(one.run)
    except ConfigurationError as error:
        return str(error)
    except (OSError, ValueError) as error:
        return f"{one.run.settings} cannot be used: {error}"
    if not one.run.script.is_file():
        return f"{one.run.script} is not there, which is what a job of it runs"
    if (owner := one.run.script.stat().st_uid) != os.geteuid():
        return f"its script.sh belongs to user {owner}, and would run as you"
    logger = one.info.get("logger")
    recorded = Path(str(logger.get("log_dir")), one.run.path.name) if isinstance(logger, dict) else one.run.path
    if not (recorded.exists() and recorded.samefile(one.run.path)):
        return f"it was moved here from {recorded}, and its script.sh still leads there"
    return _code_hindrance(one, dry_run=dry_run)


def _code_hindrance(one: RunState, *, dry_run: bool) -> str:
    """Make the copy of the code again where it was pruned; gives why that cannot be done."""
    version, work_dir = CodeVersion.from_info(one.info), one.info.get("work_dir")
    copy = version.copy
    if copy is not None and not copy.is_dir():
        try:
            repository = locate_commit(version)
            if not dry_run:
                publish_copy(repository, str(version.commit), copy.parent)
        except (SnapshotError, OSError) as error:
            return f"its code is not there any more, and cannot be made again: {copy}: {error}"
        if dry_run:
            return _link_hindrance(one, copy)
    if copy is not None and (why := _link_hindrance(one, copy)):
        return why
    if isinstance(work_dir, str) and not Path(work_dir).is_dir():
        return f"its code is not there any more: {work_dir}"
    return ""


def _link_hindrance(one: RunState, copy: Path) -> str:
    """Why a job would not find its packages: by links, which only a launch knows how to make (python_path.py)."""
    links = copy.with_name(f"{copy.name}.path")
    if links.is_dir() or links.name not in one.run.script.read_text(encoding="utf-8", errors="replace"):
        return ""
    return f"the links to its packages are not there any more, and only a launch can make them again: {links}"


def _put_exit_code_aside(one: RunState) -> None:
    """Keep the exit code of the attempt that has ended where it cannot be taken for one of the next attempt."""
    attempt = count_starts(one.run)
    if one.exit_code is None or attempt == 0:
        return
    # the folder knows that the run has ended, should this process be killed before it is submitted
    write_yaml(one.run.submission, {**one.submission, "state": str(one.status), "attempt": one.attempt})
    kept = one.run.attempt_dir(attempt).exit_code
    kept.parent.mkdir(parents=True, exist_ok=True)
    one.run.exit_code.replace(kept)

"""Cancel the jobs of runs; runs that share a job go together."""

from __future__ import annotations

from collections.abc import Sequence

from mlxp_core.errors import ConfigurationError
from mlxp_core.runs import info
from mlxp_core.runs.layout import RunDir
from mlxp_core.runs.state import RunState, load_status
from mlxp_core.runs.status import ENDED
from mlxp_core.runs.submission_record import read_manifest
from mlxp_core.scheduler import SCHEDULERS, client, load_scheduler
from mlxp_core.scheduler.base import Task


def cancel_runs(runs: Sequence[RunDir], *, limit: float = 60.0) -> list[RunDir]:
    """Cancel the jobs of those runs that are PENDING or RUNNING; gives these.

    Raises ConfigurationError for a run that shares its job with one that is not to be cancelled, and CommandError
    where a scheduler does not do it.
    """
    live = [state for state in map(RunState.load, runs) if state.is_submitted and not state.has_ended]
    cancel_jobs([state for state in live if state.submission.scheduler in SCHEDULERS], limit=limit)
    return [state.run for state in live]


def cancel_jobs(states: Sequence[RunState], *, limit: float = 60.0) -> None:
    """Cancel the jobs of these submitted runs, whatever their status. Raises as ``cancel_runs``."""
    by_scheduler: dict[str, dict[Task, list[RunState]]] = {}
    for state in states:
        if state.job is not None:
            tasks = by_scheduler.setdefault(state.job.scheduler, {})
            tasks.setdefault(state.job.task, []).append(state)
    for tasks in by_scheduler.values():
        for group in tasks.values():
            _check_shared(group)
    for name, tasks in by_scheduler.items():
        # before the command: a job that is gone without a word after this was cancelled, and not lost
        for state in (state for group in tasks.values() for state in group):
            state.submission.updated(cancel_time=info.now()).save(state.run)
        client.cancel(load_scheduler(name), list(tasks), limit=limit)


def _check_shared(group: Sequence[RunState]) -> None:
    """Raise ConfigurationError where a job has live runs that are not among these."""
    record = group[0].submission
    packed, index = record.packed or 1, record.array_index or 1
    if packed == 1 or record.folder is None:
        return
    manifest = read_manifest(record.folder)
    if not manifest:
        raise ConfigurationError(
            f"run {group[0].run.path.name} shares its job with others, and which these are cannot be read: "
            f"{record.folder.manifest}"
        )
    sharing = manifest[(index - 1) * packed : index * packed]
    named = {state.run for state in group}
    others = [run for run in sharing if run not in named and run.info.exists() and load_status(run) not in ENDED]
    if others:
        raise ConfigurationError(
            f"run {group[0].run.path.name} shares its job with run {', '.join(run.path.name for run in others)} "
            "(hydra.launcher.pack), so they can only be cancelled together: name them all"
        )

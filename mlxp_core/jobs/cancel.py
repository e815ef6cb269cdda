"""Cancel the jobs of runs; runs that share a job go together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mlxp_core.errors import ConfigurationError
from mlxp_core.runs import info
from mlxp_core.runs.layout import RunDir
from mlxp_core.runs.state import RunState, load_status
from mlxp_core.runs.status import ENDED
from mlxp_core.runs.submission_record import read_manifest
from mlxp_core.scheduler import SCHEDULERS, client, load_scheduler
from mlxp_core.yaml_io import write_yaml


def cancel_runs(runs: Sequence[RunDir], *, limit: float = 60.0) -> list[RunDir]:
    """Cancel the jobs of those runs that are PENDING or RUNNING; gives these.

    Raises ConfigurationError for a run that shares its job with one that is not to be cancelled, and CommandError
    where a scheduler does not do it.
    """
    live = [one for one in map(RunState.load, runs) if one.is_submitted and not one.has_ended]
    cancel_jobs([one for one in live if one.submission.get("scheduler") in SCHEDULERS], limit=limit)
    return [one.run for one in live]


def cancel_jobs(standings: Sequence[RunState], *, limit: float = 60.0) -> None:
    """Cancel the jobs of these runs, wherever they stand. Raises as ``cancel``."""
    by_scheduler: dict[str, dict[tuple[str, int | None], list[RunState]]] = {}
    for one in standings:
        jobs = by_scheduler.setdefault(one.submission["scheduler"], {})
        jobs.setdefault((str(one.submission["job_id"]), one.submission.get("array_index")), []).append(one)
    for jobs in by_scheduler.values():
        for group in jobs.values():
            _check_shared(group)
    for name, jobs in by_scheduler.items():
        # before the command: a job that is gone without a word after this was cancelled, and not lost
        for one in (one for group in jobs.values() for one in group):
            write_yaml(one.run.submission, {**one.submission, "cancel_time": info.now()})
        client.cancel(load_scheduler(name), list(jobs), limit=limit)


def _check_shared(group: Sequence[RunState]) -> None:
    note = group[0].submission
    packed, index = note.get("packed") or 1, note.get("array_index") or 1
    if packed == 1:
        return
    manifest = read_manifest(Path(note["script"]).parent)
    if not manifest:
        raise ConfigurationError(
            f"run {group[0].run.path.name} shares its job with others, and which these are cannot be read: "
            f"{Path(note['script']).with_name('manifest')}"
        )
    together = manifest[(index - 1) * packed : index * packed]
    named = {one.run for one in group}
    left = [run for run in together if run not in named and load_status(run) not in ENDED]
    if left:
        raise ConfigurationError(
            f"run {group[0].run.path.name} shares its job with run {', '.join(run.path.name for run in left)} "
            "(hydra.launcher.pack), so they can only be cancelled together: name them all"
        )

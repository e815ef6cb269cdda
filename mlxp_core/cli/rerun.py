"""``mlxp rerun``: submit runs again, as their next attempt."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from mlxp_core.cli.selection import LOGS, Folder, Names, Query, print_reasons, select
from mlxp_core.runs.listing import format_runs

if TYPE_CHECKING:
    from pathlib import Path

    from mlxp_core.runs.layout import RunDir
    from mlxp_core.runs.submission_record import QueuedJob


def rerun(
    names: Names = None,
    *,
    query: Query = None,
    complete: Annotated[bool, typer.Option("--complete", help="Complete runs, too.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be submitted.")] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Stay until they have ended; fail if one did not complete.")
    ] = False,
    folder: Folder = LOGS,
) -> None:
    """Submit runs again.

    Those that failed, were cancelled or lost, ran out of time, or were never submitted.

    In the same folder, with the same code and configuration, under the same header; what earlier attempts printed is
    kept in metadata/attempts. Runs that wait or run are left alone. Those of a log directory that was moved
    lead to where it is now, from then on.
    """
    from mlxp_core.jobs.resubmit import resubmit  # noqa: PLC0415

    log_dir, runs = select(folder, names, query, "rerun")
    result = resubmit(log_dir, runs, complete=complete, dry_run=dry_run)
    for job in result.submitted:
        print(f"run {job.run.path.name}: {job.scheduler} job {job.task_label}")
    print(f"{'would be submitted' if dry_run else 'submitted'}: {format_runs(result.runs)}")
    for origin, runs in _by_origin(result.moved).items():
        here = "would lead here" if dry_run else "lead here now"
        print(f"moved here from {origin}: run {format_runs(runs)}: script.sh, mlxp.yaml and info.yaml {here}")
    print_reasons("left alone", result.skipped, sys.stdout)
    print_reasons("cannot be submitted again", result.blocked, sys.stderr)
    has_failed = bool(result.blocked)
    if wait and result.submitted:
        has_failed |= not _complete(result.submitted)
    if has_failed:
        raise typer.Exit(1)


def _complete(jobs: Sequence[QueuedJob]) -> bool:
    """Wait until jobs have ended; tells whether all did so as they should."""
    from mlxp_core.jobs.live_table import wait_with_progress  # noqa: PLC0415
    from mlxp_core.runs.status import Status  # noqa: PLC0415

    try:
        statuses = wait_with_progress(jobs, {}, lambda text: print(text, flush=True))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    return all(status is Status.COMPLETE for status in statuses)


def _by_origin(moved: Mapping[RunDir, Path]) -> dict[Path, list[RunDir]]:
    """The runs that were moved, by the log directory that they were made in."""
    runs: dict[Path, list[RunDir]] = {}
    for run, origin in moved.items():
        runs.setdefault(origin.parent, []).append(run)
    return runs

"""``mlxp rerun``: submit runs again, as their next attempt."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from mlxp_core.cli.selection import LOGS, Folder, Names, Query, choose, insist, matching, open_log_dir
from mlxp_core.runs.listing import format_runs

if TYPE_CHECKING:
    from mlxp_core.runs.layout import RunDir


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
    kept in metadata/attempts. Runs that wait or run are left alone.
    """
    from mlxp_core.jobs.refresh import refresh_runs  # noqa: PLC0415
    from mlxp_core.jobs.resubmit import resubmit  # noqa: PLC0415

    insist(names, query, "rerun")
    log_dir = open_log_dir(folder)
    runs = choose(log_dir, names)
    if query is not None:
        refresh_runs(runs)  # the query is about how they stand now
        runs = matching(log_dir, runs, query)
    result = resubmit(log_dir, runs, complete=complete, dry_run=dry_run)
    for one in result.submitted:
        index = "" if one.array_index is None else f"_{one.array_index}"
        print(f"run {one.run.path.name}: {one.scheduler} job {one.job_id}{index}")
    if dry_run:
        print(f"would be submitted: {format_runs(result.runs)}")
    else:
        print(f"submitted: {format_runs(result.runs)}")
    _say("left alone", result.skipped)
    _say("cannot be submitted again", result.blocked)
    failed = bool(result.blocked)
    if wait and result.submitted:
        from mlxp_core.jobs.live_table import wait_with_progress  # noqa: PLC0415
        from mlxp_core.runs.status import Status  # noqa: PLC0415

        try:
            ends = wait_with_progress(result.submitted, {}, lambda text: print(text, flush=True))
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        failed |= any(end is not Status.COMPLETE for end in ends)
    if failed:
        raise typer.Exit(1)


def _say(what: str, runs: Mapping[RunDir, str]) -> None:
    by_reason: dict[str, list[RunDir]] = {}
    for run, why in runs.items():
        by_reason.setdefault(why, []).append(run)
    out = sys.stderr if what.startswith("cannot") else sys.stdout
    for why, group in by_reason.items():
        print(f"{what}: {format_runs(group)}: {why}", file=out)

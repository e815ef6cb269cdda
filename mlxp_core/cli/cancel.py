"""``mlxp cancel``: end jobs that wait or run."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from mlxp_core.cli.selection import LOGS, Folder, Names, Query, choose, insist, matching, open_log_dir
from mlxp_core.runs.listing import format_runs


def cancel(
    names: Names = None,
    *,
    query: Query = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    folder: Folder = LOGS,
) -> None:
    """Cancel the jobs of runs.

    Other tasks of the same array go on.
    """
    from mlxp_core.jobs.cancel import cancel_runs  # noqa: PLC0415
    from mlxp_core.jobs.refresh import refresh  # noqa: PLC0415
    from mlxp_core.runs.state import RunState  # noqa: PLC0415

    insist(names, query, "cancel")
    log_dir = open_log_dir(folder)
    standings = [RunState.load(run) for run in choose(log_dir, names)]
    for silence in refresh(standings):
        print(f"mlxp: {silence.why}", file=sys.stderr)
    chosen = set(matching(log_dir, [one.run for one in standings], query))
    standings = [one for one in standings if one.run in chosen]
    live = [one.run for one in standings if one.is_submitted and not one.has_ended]
    if (
        len(live) > 1
        and not yes
        and sys.stdin.isatty()
        and not typer.confirm(f"Cancel {len(live)} runs ({format_runs(live)})?")
    ):
        raise typer.Exit(1)
    groups = {  # as they were before
        "cancelled": live,
        "had ended already": [one.run for one in standings if one.has_ended and one.run not in live],
        "not known whether submitted, so nothing was cancelled (`mlxp rerun` finds out)": [
            one.run for one in standings if one.submission_unresolved and not one.has_ended
        ],
        "in no queue: not submitted, or run by hand": [
            one.run for one in standings if not (one.is_submitted or one.submission_unresolved or one.has_ended)
        ],
    }
    groups["cancelled"] = cancel_runs(live) if live else []
    if late := [run for run in live if run not in groups["cancelled"]]:
        groups["had ended already"] += late
    for what, runs in groups.items():
        if runs:
            print(f"{what}: {format_runs(runs)}")
    if not standings:
        print("no run matches")

"""``mlxp cancel``: end jobs that wait or run."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from mlxp_core.cli.selection import LOGS, Folder, Names, Query, choose, insist, matching, open_log_dir
from mlxp_core.runs.listing import format_runs
from mlxp_core.terminal import confirm

if TYPE_CHECKING:
    from mlxp_core.runs.layout import RunDir
    from mlxp_core.runs.state import RunState


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
    states, unreachable = refresh(RunState.load(run) for run in choose(log_dir, names))
    for scheduler in unreachable:
        print(f"mlxp: {scheduler.why}", file=sys.stderr)
    chosen = set(matching(log_dir, [state.run for state in states], query))
    states = [state for state in states if state.run in chosen]
    live = [state.run for state in states if state.is_submitted and not state.has_ended]
    must_ask = len(live) > 1 and not yes and sys.stdin.isatty()
    if must_ask and not confirm(f"Cancel {len(live)} runs ({format_runs(live)})?"):
        raise typer.Exit(1)
    cancelled = cancel_runs(live) if live else []
    for outcome, runs in _outcomes(states, live, cancelled).items():
        if runs:
            print(f"{outcome}: {format_runs(runs)}")
    if not states:
        print("no run matches")


def _outcomes(
    states: Sequence[RunState], live: Sequence[RunDir], cancelled: Sequence[RunDir]
) -> dict[str, list[RunDir]]:
    """Group runs by their outcome; ``states`` are those before, ``live`` the runs that had not ended then."""
    ended = [state.run for state in states if state.has_ended]
    others = [state for state in states if not state.has_ended and not state.is_submitted]
    return {
        "cancelled": [*cancelled],
        "had ended already": [*ended, *(run for run in live if run not in cancelled)],
        "not known whether submitted, so nothing was cancelled (`mlxp rerun` finds out)": [
            state.run for state in others if state.submission_unresolved
        ],
        "in no queue: not submitted, or run by hand": [
            state.run for state in others if not state.submission_unresolved
        ],
    }

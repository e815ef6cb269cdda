"""``mlxp rm``: remove runs that have ended, and the copies of their code."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from mlxp_core.cli.selection import LOGS, Folder, Names, Query, choose, insist, matching, open_log_dir
from mlxp_core.runs.listing import format_runs, pluralize

if TYPE_CHECKING:
    from mlxp_core.runs.layout import RunDir


def remove(
    names: Names = None,
    *,
    query: Query = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    folder: Folder = LOGS,
) -> None:
    """Remove runs, with all that they have logged.

    Then the copies of their code that no other run needs. What waits or runs is left alone (`mlxp cancel` ends it).
    The id of a run that is removed is not given again.
    """
    from mlxp_core.jobs.refresh import refresh_runs  # noqa: PLC0415
    from mlxp_core.jobs.removal import plan_removal, remove_runs  # noqa: PLC0415

    insist(names, query, "rm")
    log_dir = open_log_dir(folder)
    runs = choose(log_dir, names)
    if query is not None:
        refresh_runs(runs)  # the query is about their state now
        runs = matching(log_dir, runs, query)
    plan = plan_removal(log_dir, runs)
    if dry_run or not plan.runs:
        print(f"{'would be removed' if dry_run else 'removed'}: {format_runs(plan.runs)}")
        _report("left alone", plan.kept)
        raise typer.Exit(1 if plan.kept else 0)
    if not yes:
        _confirm(plan.runs)
    result = remove_runs(log_dir, plan.runs)
    print(f"removed: {format_runs(result.runs)}")
    if result.copies:
        print(f"removed: {', '.join(copy.name[:10] for copy in result.copies)}, the code that only they have run")
    _report("left alone", {**plan.kept, **result.kept})
    if result.dismissed:
        print(
            f"the same command no longer takes up the launch of run {format_runs(result.dismissed)}, which were never "
            "submitted; `mlxp rerun` submits them"
        )
    _report("failed", result.failed)
    if plan.kept or result.kept or result.failed:
        raise typer.Exit(1)


def _confirm(runs: tuple[RunDir, ...]) -> None:
    """Ask at a terminal. Nothing is removed without a yes."""
    what = f"{pluralize(len(runs), 'run')} ({format_runs(runs)})"
    if not sys.stdin.isatty():
        raise typer.BadParameter(f"nobody can be asked whether to remove {what}: say --yes")
    if not typer.confirm(f"Remove {what} with all that {'it has' if len(runs) == 1 else 'they have'} logged?"):
        raise typer.Exit(1)


def _report(what: str, runs: Mapping[RunDir, str]) -> None:
    by_reason: dict[str, list[RunDir]] = {}
    for run, why in runs.items():
        by_reason.setdefault(why, []).append(run)
    for why, group in by_reason.items():
        print(f"{what}: {format_runs(group)}: {why}", file=sys.stderr)

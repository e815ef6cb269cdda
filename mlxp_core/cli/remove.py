"""``mlxp rm``: remove runs that have ended, and the copies of their code."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from mlxp_core.cli.selection import LOGS, Folder, Names, Query, print_reasons, select
from mlxp_core.runs.listing import format_runs, pluralize
from mlxp_core.terminal import can_answer, confirm

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
    from mlxp_core.jobs.removal import plan_removal, remove_runs  # noqa: PLC0415

    log_dir, runs = select(folder, names, query, "rm")
    plan = plan_removal(log_dir, runs)
    if dry_run or not plan.runs:
        print(f"{'would be removed' if dry_run else 'removed'}: {format_runs(plan.runs)}")
        print_reasons("left alone", plan.kept, sys.stderr)
        raise typer.Exit(1 if plan.kept else 0)
    if not yes:
        _confirm(plan.runs)
    result = remove_runs(log_dir, plan.runs)
    print(f"removed: {format_runs(result.runs)}")
    if result.copies:
        print(f"removed: {', '.join(copy.name[:10] for copy in result.copies)}, the code that only they have run")
    print_reasons("left alone", {**plan.kept, **result.kept}, sys.stderr)
    if result.dismissed:
        print(
            f"the same command no longer takes up the launch of run {format_runs(result.dismissed)}, which were never "
            "submitted; `mlxp rerun` submits them"
        )
    print_reasons("failed", result.failed, sys.stderr)
    if plan.kept or result.kept or result.failed:
        raise typer.Exit(1)


def _confirm(runs: tuple[RunDir, ...]) -> None:
    """Ask at a terminal. Nothing is removed without a yes."""
    what = f"{pluralize(len(runs), 'run')} ({format_runs(runs)})"
    if not can_answer():
        raise typer.BadParameter(f"nobody can be asked whether to remove {what}: say --yes")
    if not confirm(f"Remove {what} with all that {'it has' if len(runs) == 1 else 'they have'} logged?"):
        raise typer.Exit(1)

"""``mlxp snapshots``: list the copies of the code and the runs that use them; prune them."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlxp_core.cli.selection import LOGS, Folder, open_log_dir
from mlxp_core.cli.table import print_tsv
from mlxp_core.runs.listing import format_runs, list_runs

if TYPE_CHECKING:
    from mlxp_core.jobs.refresh import UnreachableScheduler
    from mlxp_core.runs.layout import LogDir, RunDir
    from mlxp_core.runs.state import RunState
    from mlxp_core.versioning.copies import CodeCopy
    from mlxp_core.versioning.prune import PruneResult

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line, for programs.")]

app = typer.Typer(
    help="List the copies of the code with size and runs; `mlxp snapshots prune` removes what nothing needs.",
    rich_markup_mode=None,
)
_STEPS = ("B", "KiB", "MiB", "GiB", "TiB")


@app.callback(invoke_without_command=True)
def snapshots(context: typer.Context, *, as_json: AsJson = False, folder: Folder = LOGS) -> None:
    """List the copies of the code: version, size, the runs that use it, and whether git can make it again.

    Piped, it is a line for each copy, with tabs between the columns.
    """
    context.obj = folder
    if context.invoked_subcommand is not None:
        if as_json:
            raise typer.BadParameter("--json is for the list alone")
        return
    from mlxp_core.versioning.copies import list_copies  # noqa: PLC0415

    log_dir = open_log_dir(folder)
    states, unreachable = _refreshed(log_dir)
    inventory = list_copies(log_dir, states)
    if as_json:
        for copy in inventory.copies:
            print(json.dumps(_fields(copy), ensure_ascii=False))
    elif sys.stdout.isatty():
        _show(inventory.copies)
    else:
        _print_plain(inventory.copies)
        print(_summary(inventory.copies), file=sys.stderr)
    _report_unreachable(unreachable)


@app.command()
def prune(
    context: typer.Context,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    elsewhere: Annotated[
        bool,
        typer.Option(
            "--elsewhere", help="In hydra.launcher.code_dir, too, where runs of other log directories may use them."
        ),
    ] = False,
    folder: Annotated[
        Path | None, typer.Option("--log-dir", help="The folder of the runs.", show_default=False)
    ] = None,
) -> None:
    """Remove the copies that no pending or running run needs and that git can make again.

    What a killed launch has left goes, too. A copy that a launch has chosen within the last hour stays. `mlxp rerun`
    and `mlxp checkout` make a removed version again.
    """
    from mlxp_core.runs.lock import exclusive  # noqa: PLC0415
    from mlxp_core.versioning.prune import prune as prune_copies  # noqa: PLC0415

    log_dir = open_log_dir(folder or context.obj)
    list_runs(log_dir)  # raises for a folder that is none, before anything is made in it
    # no run is submitted again meanwhile
    with nullcontext() if dry_run else exclusive(log_dir):
        states, unreachable = _refreshed(log_dir)
        result = prune_copies(log_dir, states, elsewhere=elsewhere, dry_run=dry_run)
    _report(result, "would be removed" if dry_run else "removed")
    _report_unreachable(unreachable)
    if result.failed:
        raise typer.Exit(1)


def _report(result: PruneResult, verb: str) -> None:
    for copy in result.removed:
        print(f"{verb}: {copy.commit[:10]}, {_short_size(copy.size)}, of run {format_runs(copy.runs)}")
    for path in result.leftovers:
        print(f"{verb}: {path.name}, left by what was killed")
    for copy, reason in result.kept.values():
        shown = f"run {format_runs(copy.needed)} needs it" if copy.needed else reason
        print(f"kept: {copy.commit[:10]}, {_short_size(copy.size)}: {shown}")
    freed = _short_size(sum(copy.size for copy in result.removed))
    print(f"{verb}: {_counted(result.removed)}, {freed}; kept: {_counted(result.kept)}", file=sys.stderr)
    for name, reason in result.failed.items():
        print(f"cannot be removed: {name}: {reason}", file=sys.stderr)


def _refreshed(log_dir: LogDir) -> tuple[list[RunState], list[UnreachableScheduler]]:
    """All runs of a log directory, as their schedulers know them, and the schedulers that did not answer."""
    from mlxp_core.jobs.refresh import refresh  # noqa: PLC0415
    from mlxp_core.runs.state import RunState  # noqa: PLC0415
    from mlxp_core.versioning.copies import all_runs  # noqa: PLC0415

    return refresh(RunState.load(run) for run in all_runs(log_dir))


def _fields(copy: CodeCopy) -> dict[str, object]:
    return {
        "version": copy.commit,
        "snapshot": copy.snapshot,
        "made": copy.made.isoformat(timespec="seconds"),
        "used": copy.used.isoformat(timespec="seconds"),
        "size": copy.size,
        "runs": [run.path.name for run in copy.runs],
        "needed_by": [run.path.name for run in copy.needed],
        "problem": copy.problem,
        "path": str(copy.path),
    }


def _print_plain(copies: Sequence[CodeCopy]) -> None:
    """One line a copy, whole values, tabs between them."""
    columns = ("version", "snapshot", "made", "size", "runs", "needed_by", "problem", "path")
    named = ({**_fields(copy), "runs": _named(copy.runs), "needed_by": _named(copy.needed)} for copy in copies)
    print_tsv(columns, ([row[column] for column in columns] for row in named))


def _named(runs: Sequence[RunDir]) -> str:
    return format_runs(runs) if runs else ""


def _show(copies: Sequence[CodeCopy]) -> None:
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console(width=shutil.get_terminal_size().columns, highlight=False)
    if not copies:
        console.print("no copies")
        return
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("version", "snapshot", "made"):
        table.add_column(name, no_wrap=True, min_width=len(name))
    table.add_column("size", no_wrap=True, justify="right")
    table.add_column("runs", overflow="fold")
    table.add_column("not ended", justify="right", no_wrap=True)
    table.add_column("can be made again", overflow="fold")
    for copy in copies:
        again = Text(f"no: {copy.problem}", "yellow") if copy.problem else Text("yes")
        table.add_row(
            Text(copy.commit[:10]),
            Text(copy.snapshot or ""),
            Text(f"{copy.made:%Y-%m-%d %H:%M}"),
            Text(_short_size(copy.size)),
            Text(format_runs(copy.runs)),
            Text(str(len(copy.needed))),
            again,
        )
    console.print(table)
    console.print(_summary(copies))


def _summary(copies: Sequence[CodeCopy]) -> str:
    return f"{_counted(copies)}, {_short_size(sum(copy.size for copy in copies))}"


def _counted(copies: Iterable[object]) -> str:
    count = len(list(copies))
    return f"{count} {'copy' if count == 1 else 'copies'}"


def _short_size(size: float) -> str:
    for step in _STEPS[:-1]:
        if size < 1024:  # noqa: PLR2004
            return f"{size:.0f} {step}" if step == "B" else f"{size:.1f} {step}"
        size /= 1024
    return f"{size:.1f} {_STEPS[-1]}"


def _report_unreachable(unreachable: Sequence[UnreachableScheduler]) -> None:
    for scheduler in unreachable:
        print(f"{scheduler.scheduler} has not answered; its runs count as not ended\n{scheduler.why}", file=sys.stderr)

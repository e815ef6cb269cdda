"""``mlxp status``: the states of runs, by their folders and by what the schedulers say."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from typing import Annotated, Literal

import typer

from mlxp_core.cli.selection import LOGS, Folder, Names, Query, choose, matching, open_log_dir
from mlxp_core.cli.table import print_tsv
from mlxp_core.jobs import refresh
from mlxp_core.runs.layout import LogDir, RunDir
from mlxp_core.runs.listing import pluralize
from mlxp_core.runs.state import RunState
from mlxp_core.runs.status import Status

_COLOURS = {
    Status.PENDING: "yellow",
    Status.RUNNING: "cyan",
    Status.COMPLETE: "green",
    Status.FAILED: "red",
    Status.LOST: "red",
    Status.CANCELLED: "magenta",
    Status.TIMEOUT: "magenta",
    Status.PREEMPTED: "magenta",
}


@dataclass(frozen=True)
class Row:
    """A run as it is shown."""

    run: str
    status: str
    last_known: bool  # the scheduler has not answered: it stood there when it last did
    job: str | None
    attempt: int
    host: str | None
    submitted: str | None
    started: str | None
    ended: str | None
    elapsed: float | None  # seconds
    exit_code: int | None
    reason: str
    overrides: list[str]


def status(
    names: Names = None,
    *,
    query: Query = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, for programs.")] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Repeat until all have ended, or Ctrl-C.")] = False,
    every: Annotated[float, typer.Option("--every", min=0.5, help="Seconds between two looks with --watch.")] = 10.0,
    folder: Folder = LOGS,
) -> None:
    """Show where runs stand.

    All of the log directory, or those that are chosen.

    Each scheduler is asked once, however many runs there are. One that does not answer is named, and what is shown of
    its runs is the last that is known (RUNNING?). Piped, it is a line for each run, with tabs between the columns.
    """
    log_dir = open_log_dir(folder)
    try:
        while True:
            states, unreachable = _load(log_dir, names, query)
            rows = [_row(state) for state in states]
            if as_json:
                for row in rows:
                    print(json.dumps(asdict(row), ensure_ascii=False))
            elif sys.stdout.isatty():
                _show(rows, clear=watch)
            else:
                _print_plain(rows)
            _report(unreachable, rows, summary=not as_json and not sys.stdout.isatty())
            sys.stdout.flush()
            if not watch or all(state.has_ended for state in states):
                return
            time.sleep(every)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _load(
    log_dir: LogDir, names: Sequence[str] | None, query: str | None
) -> tuple[list[RunState], list[refresh.UnreachableScheduler]]:
    states, unreachable = refresh.refresh(RunState.load(run) for run in choose(log_dir, names))
    if query is not None:
        chosen: set[RunDir] = set(matching(log_dir, [state.run for state in states], query))
        states = [state for state in states if state.run in chosen]
    return states, unreachable


def _row(state: RunState) -> Row:
    now, start, end = datetime.now().astimezone(), state.start, state.end
    ended = state.has_ended
    until = end if ended else now
    host = state.attempt_info.get("hostname")
    submitted = state.submitted
    return Row(
        run=state.run.path.name,
        status=str(state.status),
        last_known=not state.is_current and not ended,
        job=state.job_label,
        attempt=state.attempt,
        host=str(host) if host else None,
        submitted=submitted.isoformat() if submitted else None,
        started=start.isoformat() if start else None,
        ended=end.isoformat() if end else None,
        elapsed=round((until - start).total_seconds(), 3) if start and until else None,
        exit_code=state.exit_status,
        reason=state.reason,
        overrides=state.overrides,
    )


def _print_plain(rows: Sequence[Row]) -> None:
    """One line a run, whole values, tabs between them."""
    columns = [field.name for field in fields(Row) if field.name not in {"last_known", "exit_code"}]
    values = ({**asdict(row), "status": _marked(row), "overrides": " ".join(row.overrides)} for row in rows)
    print_tsv(columns, ([row[column] for column in columns] for row in values))


def _show(rows: Sequence[Row], *, clear: bool) -> None:
    """A table as wide as the terminal, which cuts the overrides first."""
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console(width=shutil.get_terminal_size().columns, highlight=False)
    if clear:
        console.clear()
    if not rows:
        console.print("no runs")
        return
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), expand=True)
    columns: dict[str, list[Text]] = {
        "run": [Text(row.run) for row in rows],
        "status": [Text(_marked(row), _COLOURS[Status(row.status)]) for row in rows],
        "job": [Text(row.job or "") for row in rows],
    }
    if any(row.attempt > 1 for row in rows):
        columns["attempt"] = [Text(str(row.attempt)) for row in rows]
    if console.width >= 120:  # noqa: PLR2004  (columns of a terminal)
        columns["host"] = [Text(row.host or "") for row in rows]
    columns["since"] = [Text(_short_time(row.started or row.submitted)) for row in rows]
    columns["elapsed"] = [Text(_short_span(row.elapsed)) for row in rows]
    for name, texts in columns.items():
        side: Literal["left", "right"] = "right" if name in {"run", "attempt", "elapsed"} else "left"
        width = max(len(name), *(text.cell_len for text in texts))
        table.add_column(name, no_wrap=True, justify=side, min_width=width)  # the last columns are those that give way
    if any(row.reason for row in rows):
        table.add_column("reason", no_wrap=True, overflow="ellipsis", max_width=max(16, console.width // 4))
        columns["reason"] = [Text(row.reason) for row in rows]
    table.add_column("overrides", no_wrap=True, overflow="ellipsis", ratio=1)
    columns["overrides"] = [Text(" ".join(row.overrides)) for row in rows]
    for cells in zip(*columns.values(), strict=True):
        table.add_row(*cells)
    console.print(table)
    console.print(_summary(rows))


def _summary(rows: Sequence[Row]) -> str:
    counts = Counter(row.status for row in rows)
    parts = [f"{counts[str(status)]} {status}" for status in Status if counts[str(status)]]
    return f"{pluralize(len(rows), 'run')}: {', '.join(parts) or 'none'}"


def _report(unreachable: Sequence[refresh.UnreachableScheduler], rows: Sequence[Row], *, summary: bool) -> None:
    """Print what is no row, on stderr, so that the rows can be piped."""
    if summary:
        print(_summary(rows), file=sys.stderr)
    for scheduler in unreachable:
        since = f" since {scheduler.since}" if scheduler.since else ""
        count = sum(row.last_known for row in rows if (row.job or "").split(" ")[0] == scheduler.scheduler)
        what = f"what is shown of {count} of its runs is the last that is known, marked with ?" if count else ""
        print(f"{scheduler.scheduler} has not answered{since}; {what}\n{scheduler.why}", file=sys.stderr)
    if not unreachable and any(row.last_known for row in rows):
        print(
            "runs with ? were submitted by another user or on another host, which knows more of them", file=sys.stderr
        )


def _marked(row: Row) -> str:
    return f"{row.status}?" if row.last_known else row.status


def _short_time(text: str | None) -> str:
    if text is None:
        return ""
    try:
        moment = datetime.fromisoformat(text).astimezone()
    except ValueError:
        return text
    today = datetime.now().astimezone().date()
    return f"{moment:%H:%M:%S}" if moment.date() == today else f"{moment:%Y-%m-%d %H:%M}"


def _short_span(seconds: float | None) -> str:
    return "" if seconds is None else str(timedelta(seconds=int(seconds)))

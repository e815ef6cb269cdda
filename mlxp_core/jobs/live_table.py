"""Waits for submitted runs before somebody's eyes: a table at a terminal, a line for each end elsewhere.

Ctrl-C at a terminal asks what shall become of the jobs.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mlxp_core.errors import MlxpError
from mlxp_core.jobs import cancel
from mlxp_core.jobs.wait import wait_for_runs
from mlxp_core.runs.layout import RunDir
from mlxp_core.runs.listing import pluralize
from mlxp_core.runs.state import load_status
from mlxp_core.runs.status import Status
from mlxp_core.runs.submission_record import QueuedJob
from mlxp_core.terminal import ask, can_answer

if TYPE_CHECKING:
    from rich.console import Console

Tell = Callable[[str], None]

_ROWS = 12  # of runs that have not ended
_EVERY = 1.0  # seconds between two looks at where they stand, or more: they are to cost no more than a twentieth
_SHARE = 20


def wait_with_progress(submitted: Sequence[QueuedJob], overrides: Mapping[RunDir, str], tell: Tell) -> list[Status]:
    """Give the statuses of runs once all have ended, in order.

    ``overrides`` says what a run is, in the table; ``tell`` prints a line elsewhere. Raises KeyboardInterrupt on
    Ctrl-C: the jobs go on, unless the answer is that they be cancelled.
    """
    ended: dict[RunDir, Status] = {}
    while True:
        try:
            if not sys.stderr.isatty():
                return wait_for_runs(submitted, lambda run, status: tell(f"run {run.path.name}: {status}"), ended=ended)
            with _table(submitted, overrides, ended) as (on_end, on_look):
                statuses = wait_for_runs(submitted, on_end, on_look, ended)
        except KeyboardInterrupt:
            if _leave([one.run for one in submitted if one.run not in ended], tell):
                raise
            continue
        for one, status in zip(submitted, statuses, strict=True):
            if status is not Status.COMPLETE:
                tell(f"run {one.run.path.name}: {status}")
        counts = Counter(statuses)
        tell(", ".join(f"{counts[status]} {status}" for status in Status if counts[status]))
        return statuses


def _leave(left: Sequence[RunDir], tell: Tell) -> bool:
    """Whether to stop waiting, having done to the jobs what the user says."""
    if not can_answer():
        tell("no longer waiting; the jobs go on")
        return True
    from rich.console import Console  # noqa: PLC0415

    console = Console(stderr=True, highlight=False, markup=False)
    jobs, them = ("1 job has", "it") if len(left) == 1 else (f"{len(left)} jobs have", "them")
    console.print(f"\n{jobs} not ended. [l] leave {them} running, [c] cancel {them}, [w] go on waiting")
    letter = _letter(console)
    if letter == "w":
        return False
    if letter == "c":
        try:
            tell(f"cancelled: {pluralize(len(cancel.cancel_runs(left)), 'job')}")
        except MlxpError as error:
            tell(f"not cancelled: {error}")
    else:
        tell("no longer waiting; the jobs go on")
    return True


def _letter(console: Console) -> str:
    try:
        while (letter := ask(console, "[l/c/w] (l) ").strip().lower() or "l") not in {"l", "c", "w"}:
            pass
    except (EOFError, KeyboardInterrupt):
        return "l"
    return letter


@contextmanager
def _table(
    submitted: Sequence[QueuedJob], overrides: Mapping[RunDir, str], ended: Mapping[RunDir, Status]
) -> Iterator[tuple[Callable[[RunDir, Status], None], Callable[[Sequence[RunDir]], None]]]:
    """A table that is drawn anew: how many runs stand where, and the first of those that have not ended."""
    from rich.console import Console  # noqa: PLC0415  (slow to load)
    from rich.live import Live  # noqa: PLC0415

    looked = [0.0, 0.0]  # when, and how long that took

    def on_look(left: Sequence[RunDir]) -> None:
        now = time.monotonic()
        if now - looked[0] < max(_EVERY, _SHARE * looked[1]):
            return
        stand = {run: load_status(run) for run in left}
        looked[:] = [time.monotonic(), time.monotonic() - now]
        live.update(_drawn(stand, Counter(ended.values()), len(submitted), overrides), refresh=True)

    with Live(console=Console(stderr=True), auto_refresh=False, transient=True) as live:
        yield lambda _run, _status: None, on_look


def _drawn(stand: Mapping[RunDir, Status], ended: Counter[Status], total: int, overrides: Mapping[RunDir, str]) -> Any:
    from rich.console import Group  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    counts = ended + Counter(stand.values())
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False, expand=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)  # what is left of the terminal
    # those that run first: they are what one waits for
    for run in sorted(stand, key=lambda run: stand[run] is not Status.RUNNING)[:_ROWS]:
        table.add_row(Text(run.path.name), Text(str(stand[run])), Text(overrides.get(run, "")))
    if len(stand) > _ROWS:
        table.add_row("", f"and {len(stand) - _ROWS} more", "")
    head = " · ".join(f"{counts[status]} {status}" for status in Status if counts[status])
    return Group(Text(f"{head}, of {total} runs"), table)

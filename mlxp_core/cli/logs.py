"""``mlxp logs``: what runs have printed, and print."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from mlxp_core.cli.selection import LOGS, Folder, Names, Query, choose, insist, matching, open_log_dir
from mlxp_core.errors import ConfigurationError
from mlxp_core.jobs import refresh
from mlxp_core.runs.layout import LogDir, RunDir
from mlxp_core.runs.state import RunState
from mlxp_core.runs.status import count_starts

_LOOK_EVERY = 0.2  # seconds between two looks at the files
_ASK_EVERY = 2.0  # and at where the runs stand; the scheduler is not asked more often than it allows


def logs(
    names: Names = None,
    *,
    query: Query = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on as more is printed, until the run ends.")
    ] = False,
    lines: Annotated[
        int | None, typer.Option("--lines", "-n", min=0, help="Only the last lines.", show_default="all")
    ] = None,
    stdout: Annotated[bool, typer.Option("--stdout", help="Only what was printed to stdout.")] = False,
    stderr: Annotated[bool, typer.Option("--stderr", help="Only what was printed to stderr.")] = False,
    attempt: Annotated[
        int | None, typer.Option("--attempt", min=1, help="An earlier attempt.", show_default="the latest")
    ] = None,
    folder: Folder = LOGS,
) -> None:
    """Show what runs have printed.

    Both streams, labelled, and what the scheduler itself had to say of the job.
    """
    insist(names, query, "logs")
    log_dir = open_log_dir(folder)
    runs = matching(log_dir, choose(log_dir, names), query)
    streams = ["stdout"] * (stdout or not stderr) + ["stderr"] * (stderr or not stdout)
    sources = [source for run in runs for source in _sources(log_dir, run, streams, attempt)]
    printer = _Printer(sys.stdout.buffer, labelled=len(runs) > 1 or len(streams) > 1)
    _print_sources(runs, sources, printer, lines, follow=follow)
    for run in runs:
        if not any(source.seen for source in sources if source.run == run):
            _say_why_there_is_nothing(run, attempt)


class _Source:
    """One file that may come later, grow, and be replaced by another of its name."""

    def __init__(self, run: RunDir, path: Path, label: str, *, optional: bool = False) -> None:
        self.run = run
        self.path = path
        self.label = label
        self.optional = optional  # of no interest where it is empty
        self.seen = False  # also after it is closed
        self._file: BinaryIO | None = None
        self._open()

    def last(self, lines: int | None) -> bytes:
        """What is there from here on, or its last lines."""
        if self._file is None:
            return b""
        if lines is None:
            return self._file.read()
        return _tail(self._file, lines)

    def more(self) -> bytes:
        """What has come since; of the next file of the name, too, where this one was moved away."""
        text = self.last(None)
        if self._is_replaced():
            self.close()
            self._open()
            text += self.last(None)
        return text

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._file = self.path.open("rb")
            self.seen = not self.optional

    def _is_replaced(self) -> bool:
        try:
            there = self.path.stat()
        except FileNotFoundError:
            return False
        if self._file is None:
            return True
        here = os.fstat(self._file.fileno())
        if (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino):
            return True
        return there.st_size < self._file.tell()  # truncated, by a scheduler that starts it again


class _Printer:
    """Prints pieces of several files; says whose they are where that changes."""

    def __init__(self, out: BinaryIO, *, labelled: bool) -> None:
        self._out = out
        self._labelled = labelled
        self._last: _Source | None = None
        self._gap = ""  # before the next header

    def print(self, source: _Source, text: bytes) -> None:
        if not text:
            return
        if (self._labelled or source.optional) and source is not self._last:
            self._out.write(f"{self._gap}==> {source.label} <==\n".encode(errors="surrogateescape"))
        self._out.write(text)
        self._last, self._gap = source, "\n" if text.endswith(b"\n") else "\n\n"


def _print_sources(
    runs: Sequence[RunDir], sources: Sequence[_Source], printer: _Printer, lines: int | None, *, follow: bool
) -> None:
    try:
        for source in sources:
            printer.print(source, source.last(lines))
        sys.stdout.buffer.flush()
        if follow:
            _follow(runs, sources, printer)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    finally:
        for source in sources:
            source.close()


def _sources(log_dir: LogDir, run: RunDir, streams: Sequence[str], attempt: int | None) -> Iterable[_Source]:
    name = run.path.name
    state = RunState.load(run)
    latest = state.attempt
    of, place = "", run
    if attempt is not None and attempt != latest:
        place, of = run.attempt_dir(attempt), f", attempt {attempt}"
        if not (attempt < latest or place.path.exists()):
            raise ConfigurationError(f"run {name} of {log_dir.path} has no attempt {attempt}: its latest is {latest}")
        if not (place.stdout.exists() or place.stderr.exists()) and count_starts(run) == attempt:
            place = run  # the next attempt waits, and nothing was moved yet
    for stream in streams:
        yield _Source(run, place.stdout if stream == "stdout" else place.stderr, f"run {name}{of}: {stream}")
    if place is run and len(streams) > 1 and state.scheduler_output:
        label = f"run {name}: {state.submission.scheduler}"
        yield _Source(run, state.scheduler_output, label, optional=True)


def _follow(runs: Sequence[RunDir], sources: Sequence[_Source], printer: _Printer) -> None:
    """Print what comes, until all runs have ended."""
    looked = float("-inf")
    ended = False
    while True:
        if time.monotonic() - looked >= _ASK_EVERY or _has_exit_codes(runs):
            states = [RunState.load(run) for run in runs]
            if not all(state.has_ended for state in states):
                states, _ = refresh.refresh(states)
            ended = all(state.has_ended for state in states)
            looked = time.monotonic()
        came = False
        for source in sources:  # after the look: what a run printed before its end is there
            text = source.more()
            came = came or bool(text)
            printer.print(source, text)
        sys.stdout.flush()
        if ended and not came:
            return
        time.sleep(_LOOK_EVERY)


def _has_exit_codes(runs: Sequence[RunDir]) -> bool:
    return all(run.exit_code.exists() for run in runs)


def _say_why_there_is_nothing(run: RunDir, attempt: int | None) -> None:
    from mlxp_core.jobs import directives  # noqa: PLC0415
    from mlxp_core.jobs.spec import SubmitSpec  # noqa: PLC0415
    from mlxp_core.scheduler import load_scheduler  # noqa: PLC0415

    state = RunState.load(run)
    try:
        spec = SubmitSpec.load(run)
    except ConfigurationError:
        why = (
            "it was not made by a launcher, so its output went to the terminal alone: "
            "hydra.callbacks.mlxp.log_streams=true keeps it"
        )
    else:
        redirecting = directives.redirecting_directives(spec.header, load_scheduler(spec.scheduler))
        if redirecting:
            why = f"its header sends what it prints elsewhere ({'; '.join(redirecting)})"
        else:
            why = f"it is {state.status}" + (f" ({state.reason})" if state.reason else "")
    of = "" if attempt is None else f" of attempt {attempt}"
    print(f"mlxp: run {run.path.name} has no log{of}: {why}", file=sys.stderr)


def _tail(file: BinaryIO, lines: int) -> bytes:
    """The last lines of a file, read from its end."""
    end = file.seek(0, os.SEEK_END)
    start, text = end, b""
    while start > 0 and text.count(b"\n") <= lines:
        size = min(1 << 16, start)
        start = file.seek(start - size)
        text = file.read(size) + text
    file.seek(end)
    kept = text.splitlines(keepends=True)
    return b"".join(kept[len(kept) - min(lines, len(kept)) :])

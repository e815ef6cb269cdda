"""The rows of `mlxp status`, in process. With jobs and schedulers: test_cli.py."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import typer

from mlxp_core.cli.status import Row
from mlxp_core.jobs.refresh import UnreachableScheduler
from mlxp_core.runs.layout import LogDir, RunDir
from mlxp_core.runs.state import RunState

status = importlib.import_module("mlxp_core.cli.status")  # as an attribute of its package it is the command

ROW = Row("1", "PENDING", False, None, 1, None, None, None, None, None, None, "", [])
DONE = replace(
    ROW, run="2", status="COMPLETE", job="slurm 7_1", host="n1", started="2026-11-25T18:00:00+00:00", elapsed=90061.9
)
FAILED = replace(
    DONE, run="12", status="FAILED", attempt=3, reason="KeyError: 'lr'", elapsed=0.4, overrides=["lr=0.1", "msg=a b"]
)
UNSURE = replace(ROW, run="a", status="RUNNING", last_known=True, job="slurm 8", submitted="2026-11-25T17:59:00+00:00")


@pytest.fixture(autouse=True)
def _in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


def state(folder: Path, info: str, submission: str = "", exit_code: str | None = None) -> RunState:
    run = RunDir(folder)
    run.metadata.mkdir(parents=True)
    run.info.write_text(f"{{{info}}}")
    run.submission.write_text(f"{{{submission}}}")
    if exit_code is not None:
        run.exit_code.write_text(exit_code)
    return RunState.load(run)


QUEUED = "scheduler: slurm, script: /job.sh, job_id: '7', time: '2026-11-25T18:00:00+00:00'"
TIMES = "start_time: '2026-11-25T18:01:00+00:00', end_time: '2026-11-25T18:03:30.5+00:00'"


def test_a_row_has_the_times_of_the_latest_attempt_and_the_seconds_between(tmp_path: Path) -> None:
    """Bug: the first attempt's host and start beside the second's status; an end before there is one."""
    ended = state(tmp_path / "3", f"status: COMPLETE, hostname: n1, {TIMES}", f"{QUEUED}, array_index: 2", "0 1")
    assert status._row(ended) == Row(
        "3",
        "COMPLETE",
        False,
        "slurm 7_2",
        1,
        "n1",
        "2026-11-25T18:00:00+00:00",
        "2026-11-25T18:01:00+00:00",
        "2026-11-25T18:03:30.500000+00:00",
        150.5,
        0,
        "",
        [],
    )
    waits = status._row(state(tmp_path / "4", f"status: COMPLETE, hostname: n1, {TIMES}", f"{QUEUED}, attempt: 2"))
    assert waits == replace(ROW, run="4", job="slurm 7", attempt=2, submitted="2026-11-25T18:00:00+00:00")
    start = datetime.now().astimezone() - timedelta(seconds=100)
    runs = state(tmp_path / "5", f"status: RUNNING, hostname: x, start_time: '{start.isoformat()}'")
    row = status._row(runs.with_is_current(is_current=False))
    assert (row.last_known, row.ended) == (True, None)
    assert row.elapsed == pytest.approx(100, abs=30)


def test_times_with_and_without_a_zone_are_shown_in_that_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: a time without a zone, by hand or by MLXP, ends `mlxp status` of all runs in a TypeError."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        naive = "start_time: '2026-11-30T09:00:00', end_time: '2026-11-30T00:00:30+00:00'"
        row = status._row(state(tmp_path / "1", f"status: COMPLETE, submit_time: '2026-11-29T23:00:00Z', {naive}"))
    finally:
        monkeypatch.undo()
        time.tzset()
    assert (row.submitted, row.started, row.ended, row.elapsed) == (
        "2026-11-30T08:00:00+09:00",
        "2026-11-30T09:00:00+09:00",
        "2026-11-30T09:00:30+09:00",
        30,
    )


def test_a_query_chooses_among_the_runs_that_are_named(tmp_path: Path) -> None:
    """Bug: the query is forgotten, or counts where none was given."""
    for number, word in enumerate(("COMPLETE", "FAILED", "FAILED"), start=1):
        state(tmp_path / str(number), f"status: {word}")
    log_dir = LogDir(tmp_path)

    def names(*arguments: object) -> list[str]:
        return [state.run.path.name for state in status._load(log_dir, *arguments)[0]]

    assert names(None, None) == ["1", "2", "3"]
    assert names(None, "info.status == 'FAILED'") == ["2", "3"]
    assert names(["1-2"], "info.status == 'FAILED'") == ["2"]
    assert names(["3", "1"], None) == ["1", "3"]


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    def show(rows: list[Row], columns: int) -> list[str]:
        monkeypatch.setenv("COLUMNS", str(columns))
        status._show(rows, clear=False)
        return [line.rstrip() for line in capsys.readouterr().out.splitlines()]

    return show


def test_a_table_has_the_columns_that_the_terminal_has_room_for(shown: Callable[..., list[str]]) -> None:
    """Bug: a column cut that tells runs apart, headers over other columns, or attempts where all are first ones."""
    assert shown([], 80) == ["no runs"]
    assert shown([ROW, DONE], 80) == [
        "",
        " run  status    job        since                    elapsed  overrides",
        " " + "─" * 78,
        "   1  PENDING",
        "   2  COMPLETE  slurm 7_1  2026-11-25 18:00  1 day, 1:01:01",
        "",
        "2 runs: 1 PENDING, 1 COMPLETE",
    ]
    assert shown([DONE, FAILED, UNSURE], 120) == [
        "",
        " run  status    job        attempt  host  since                    elapsed  reason          overrides",
        " " + "─" * 118,
        "   2  COMPLETE  slurm 7_1        1  n1    2026-11-25 18:00  1 day, 1:01:01",
        "  12  FAILED    slurm 7_1        3  n1    2026-11-25 18:00         0:00:00  KeyError: 'lr'  lr=0.1 msg=a b",
        "   a  RUNNING?  slurm 8          1        2026-11-25 17:59",
        "",
        "3 runs: 1 RUNNING, 1 COMPLETE, 1 FAILED",
    ]
    assert "host" not in shown([DONE], 119)[1]


@pytest.mark.parametrize(
    ("columns", "start", "end"),
    [
        (100, "  12  FAILED  slurm 7_1        3  2026-11-25 18:00  0:00:00  rrrrrrrrrrrrrrrrrrrrrrrr…  x=y", "y…"),
        (80, "  12  FAILED  slurm 7_1        3  2026-11-25 18:00  0:00:00  rrrr", "r"),
        (60, "  12  FAILED  slurm 7_1        3  2026-11-25 18:00  0:00:00", "0"),
    ],
)
def test_the_last_columns_give_way(shown: Callable[..., list[str]], columns: int, start: str, end: str) -> None:
    """Bug: with long overrides, and be it of one run, neither the runs nor where they stand are shown."""
    long = replace(FAILED, overrides=["x=" + "y" * 200], reason="r" * 100)
    line = shown([long], columns)[3]
    assert line.startswith(start)
    assert line.endswith(end)
    assert len(line) <= columns


def test_programs_get_whole_values_with_tabs_between(capsys: pytest.CaptureFixture[str]) -> None:
    """Bug: a tab in an override makes another column; None as text."""
    status._print_plain([replace(FAILED, overrides=["a=\t\\", "b=\n"]), UNSURE])
    header, first, second = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert " ".join(header) == "run status job attempt host submitted started ended elapsed reason overrides"
    assert first == [
        "12",
        "FAILED",
        "slurm 7_1",
        "3",
        "n1",
        "",
        FAILED.started,
        "",
        "0.4",
        "KeyError: 'lr'",
        r"a=\t\\ b=\n",
    ]
    assert second == ["a", "RUNNING?", "slurm 8", "1", "", UNSURE.submitted, "", "", "", "", ""]


def test_a_scheduler_that_does_not_answer_is_named_with_how_many_of_its_runs_are_shown_as_last_known(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Bug: runs of another scheduler counted, or those that have ended; silence about a question mark."""
    other = replace(UNSURE, job="oar 3")
    status._report([UnreachableScheduler("slurm", "command: squeue", None)], [UNSURE, DONE, other], summary=True)
    assert capsys.readouterr().err.splitlines() == [
        "3 runs: 2 RUNNING, 1 COMPLETE",
        "slurm has not answered; what is shown of 1 of its runs is the last that is known, marked with ?",
        "command: squeue",
    ]
    status._report([], [DONE, UNSURE], summary=False)
    assert capsys.readouterr().err.startswith("runs with ? were submitted by another user")
    status._report([], [DONE, ROW], summary=False)
    assert capsys.readouterr().err == ""


def test_a_moment_is_shown_as_short_as_it_is_clear() -> None:
    """Bug: 18:00 of which day; UTC beside local times."""
    now = datetime.now().astimezone().replace(microsecond=0)
    assert status._short_time(now.isoformat()) == now.strftime("%H:%M:%S")
    assert status._short_time("2026-01-02T03:04:05+01:00") == "2026-01-02 02:04"
    assert [status._short_time(text) for text in (None, "soon")] == ["", "soon"]
    assert [status._short_span(seconds) for seconds in (None, 0, 59.9, 3600)] == ["", "0:00:00", "0:00:59", "1:00:00"]


@pytest.mark.parametrize("interrupted", ["look", "sleep"])
def test_ctrl_c_ends_a_watch_without_a_stack_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], interrupted: str
) -> None:
    """Bug: a watch that goes on, or ends as if all was well, or with forty lines of Python."""
    waits = state(tmp_path / "1", "status: PENDING", QUEUED)
    slept: list[float] = []

    def look(*_: object) -> tuple[list[RunState], list[UnreachableScheduler]]:
        if interrupted == "look" and slept:
            raise KeyboardInterrupt
        return [waits], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if interrupted == "sleep" and len(slept) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(status, "_load", look)
    monkeypatch.setattr(status.time, "sleep", sleep)
    with pytest.raises(typer.Exit) as ended:
        status.status(watch=True, every=2.5, folder=tmp_path)
    assert ended.value.exit_code == 130
    looks, sleeps = {"look": (1, 1), "sleep": (2, 2)}[interrupted]
    assert (slept, capsys.readouterr().out.count("\tPENDING\t")) == ([2.5] * sleeps, looks)


def test_a_watch_ends_with_the_last_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: a watch of runs that have ended, for ever; or one that ends with the first of them."""
    ended = state(tmp_path / "1", "status: COMPLETE")
    waits = state(tmp_path / "2", "status: PENDING", QUEUED)
    looks = [[waits, ended], [waits, ended], [ended, ended]]
    monkeypatch.setattr(status, "_load", lambda *_: (looks.pop(0), []))
    monkeypatch.setattr(status.time, "sleep", lambda _: None)
    status.status(watch=True, folder=tmp_path)
    assert looks == []

"""Runs that are waited for before somebody's eyes: what is drawn, told and asked. At a terminal: test_wait.py."""

from __future__ import annotations

import io
import itertools
import sys
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fake_scheduler import Clock
from rich.console import Console
from rich.live import _RefreshThread

from mlxp_core.errors import CommandError
from mlxp_core.jobs import live_table
from mlxp_core.runs.layout import RunDir
from mlxp_core.runs.status import Status
from mlxp_core.runs.submission_record import QueuedJob


@pytest.mark.parametrize(("takes", "looks"), [(0.0, 10), (0.1, 5), (1.0, 1)])
def test_looking_costs_no_more_than_a_twentieth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, takes: float, looks: int
) -> None:
    """Bug: thousands of folders on a slow disk are looked at each second, one look after the other."""
    clock = Clock(100.0)
    looked: list[float] = []

    def load_status(_: RunDir) -> Status:
        looked.append(clock.now)
        clock.now += takes
        return Status.RUNNING

    monkeypatch.setattr(live_table, "time", clock)
    monkeypatch.setattr(live_table, "load_status", load_status)
    job = QueuedJob(RunDir(tmp_path / "1"), "local", "7", None)
    with live_table._table([job], {}, {}) as (_, on_look):
        while clock.now < 110.0:
            on_look([job.run])
            clock.now += 0.25
    assert len(looked) == looks
    gaps = [after - before for before, after in itertools.pairwise(looked)]
    assert all(gap >= max(1.0, 20 * takes) for gap in gaps)


def test_the_next_look_is_twenty_times_as_far_away_as_the_last_one_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: a pause that is counted from the beginning of a look, or is a little longer or shorter each time."""
    clock, looked = Clock(100.0), []

    def load_status(_: RunDir) -> Status:
        looked.append(clock.now)
        clock.now += 0.5
        return Status.RUNNING

    monkeypatch.setattr(live_table, "time", clock)
    monkeypatch.setattr(live_table, "load_status", load_status)
    with live_table._table(jobs("1"), {}, {}) as (_, on_look):
        for moment in (100.0, 110.25, 110.5, 120.75, 121.0):  # each look ends half a second later
            clock.now = moment
            on_look([RunDir(tmp_path)])
    assert looked == [100.0, 110.5, 121.0]


def jobs(*names: str) -> list[QueuedJob]:
    return [QueuedJob(RunDir(Path("/logs") / name), "slurm", "7", None) for name in names]


@dataclass
class World:
    """The answers of those who wait, and at the terminal."""

    told: list[str] = field(default_factory=list)
    # for each wait what becomes of runs, by name, and whether Ctrl-C ends it
    waits: list[tuple[dict[str, Status], bool]] = field(default_factory=list)
    answers: list[Any] = field(default_factory=list)
    cancelled: list[list[str]] = field(default_factory=list)
    is_cancelled: bool = True

    def wait(self, *names: str) -> list[Status]:
        return live_table.wait_with_progress(jobs(*names), {}, self.told.append)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()

    def wait_for_runs(
        submitted: list[QueuedJob], on_end: Any, on_look: Any = None, ended: dict[RunDir, Status] | None = None
    ) -> list[Status]:
        ends, is_interrupted = made.waits.pop(0)
        assert ended is not None
        for job in submitted:
            if (status := ends.get(job.run.path.name)) is not None:
                ended[job.run] = status
                on_end(job.run, status)
        if is_interrupted:
            raise KeyboardInterrupt
        return [ended[job.run] for job in submitted]

    def read(question: str = "") -> str:
        answer = made.answers.pop(0)
        if isinstance(answer, str):
            return answer
        raise answer

    def cancel_runs(runs: list[RunDir]) -> list[RunDir]:
        made.cancelled.append([run.path.name for run in runs])
        if not made.is_cancelled:
            raise CommandError("scancel: away")
        return runs

    monkeypatch.setattr(live_table, "wait_for_runs", wait_for_runs)
    monkeypatch.setattr(live_table.cancel, "cancel_runs", cancel_runs)
    monkeypatch.setattr(live_table, "can_answer", lambda: bool(made.answers))
    monkeypatch.setattr("builtins.input", read)
    for name, value in (("COLUMNS", "100"), ("FORCE_COLOR", "1"), ("TERM", "xterm-256color")):
        monkeypatch.setenv(name, value)  # so that a part in colour would be seen
    return made


def test_without_a_terminal_each_end_is_a_line(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Bug: a table with its escapes in a file of CI; silence until the last has ended."""
    world.waits = [({"1": Status.COMPLETE, "2": Status.FAILED}, False)]
    assert world.wait("1", "2") == [Status.COMPLETE, Status.FAILED]
    assert world.told == ["run 1: COMPLETE", "run 2: FAILED"]
    assert capsys.readouterr() == ("", "")


def test_at_a_terminal_the_table_leaves_what_went_wrong_and_how_many_there_were(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bug: the table is gone, and with it which runs failed; a line for each of a thousand that did not."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    ends = {"1": Status.FAILED, "2": Status.COMPLETE, "3": Status.TIMEOUT, "4": Status.COMPLETE, "5": Status.FAILED}
    world.waits = [(ends, False)]
    assert world.wait(*ends) == [*ends.values()]
    assert world.told == ["run 1: FAILED", "run 3: TIMEOUT", "run 5: FAILED", "2 COMPLETE, 2 FAILED, 1 TIMEOUT"]
    assert capsys.readouterr().out == ""


def test_ctrl_c_without_a_terminal_leaves_the_jobs(world: World) -> None:
    """Bug: a job of CI that is stopped takes its runs with it, or asks, and nobody answers."""
    world.waits = [({"1": Status.COMPLETE}, True)]
    with pytest.raises(KeyboardInterrupt):
        world.wait("1", "2")
    assert world.told == ["run 1: COMPLETE", "no longer waiting; the jobs go on"]
    assert world.cancelled == []


@pytest.mark.parametrize(
    ("answers", "told", "cancelled"),
    [
        ([""], "no longer waiting; the jobs go on", []),
        (["l"], "no longer waiting; the jobs go on", []),
        (["x", " C "], "cancelled: 2 jobs", [["2", "3"]]),
        ([EOFError()], "no longer waiting; the jobs go on", []),
        ([KeyboardInterrupt()], "no longer waiting; the jobs go on", []),
    ],
)
def test_ctrl_c_at_a_terminal_asks_what_becomes_of_those_that_have_not_ended(
    world: World, capsys: pytest.CaptureFixture[str], answers: list[Any], told: str, cancelled: list[list[str]]
) -> None:
    """Bug: a slip of the finger ends a week of work; a second Ctrl-C shows a stack trace."""
    world.waits, world.answers = [({"1": Status.COMPLETE}, True)], answers
    with pytest.raises(KeyboardInterrupt):
        world.wait("1", "2", "3")
    assert world.told[1:] == [told]
    assert (world.cancelled, world.answers) == (cancelled, [])
    err = capsys.readouterr().err
    assert err.startswith(
        "\n2 jobs have not ended. [l] leave them running, [c] cancel them, [w] go on waiting\n[l/c/w] (l) "
    )


def test_what_cannot_be_cancelled_is_said(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Bug: a stack trace in the place of the answer, or "cancelled"; "1 jobs have"."""
    world.waits, world.answers, world.is_cancelled = [({}, True)], ["c"], False
    with pytest.raises(KeyboardInterrupt):
        world.wait("1")
    assert world.told == ["not cancelled: scancel: away"]
    assert "\n1 job has not ended. [l] leave it running, [c] cancel it," in capsys.readouterr().err


def test_whoever_goes_on_waiting_is_not_told_twice(world: World) -> None:
    """Bug: what has ended before the question is forgotten, or comes again."""
    world.waits, world.answers = [({"1": Status.FAILED}, True), ({"2": Status.COMPLETE}, False)], ["w"]
    assert world.wait("1", "2") == [Status.FAILED, Status.COMPLETE]
    assert world.told == ["run 1: FAILED", "run 2: COMPLETE"]


def drawn(
    stand: dict[str, Status], ended: dict[Status, int], total: int, columns: int = 60, **overrides: str
) -> list[str]:
    """The lines of a table."""
    out = io.StringIO()
    known = {RunDir(Path(name)): status for name, status in stand.items()}
    texts = {RunDir(Path(name.lstrip("_"))): text for name, text in overrides.items()}
    console = Console(file=out, width=columns)
    console.print(live_table._drawn(known, Counter(ended), total, texts))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_the_table_has_how_many_stand_where_and_those_that_run_first() -> None:
    """Bug: the runs that wait hide those that run; the ended ones are forgotten; overrides cut the status."""
    stand = {"9": Status.PENDING, "10": Status.RUNNING, "sweep-a": Status.PENDING, "12": Status.RUNNING}
    ended = {Status.COMPLETE: 3, Status.FAILED: 1}
    assert drawn(stand, ended, 8, _10="lr=0.1", **{"sweep-a": "lr=" + "0" * 60}) == [
        "2 PENDING · 2 RUNNING · 3 COMPLETE · 1 FAILED, of 8 runs",
        "     10  RUNNING  lr=0.1",
        "     12  RUNNING",
        "      9  PENDING",
        "sweep-a  PENDING  lr=" + "0" * 36 + "…",
    ]


@pytest.mark.parametrize(
    ("columns", "lines"),
    [
        (12, ["    7  RU…", "   12  RU…", "my fi…  RU…"]),
        (30, ["           7  RUNNING  lr=0…", "          12  RUNNING  lr=0…", "my first run  RUNNING  lr=0…"]),
    ],
)
def test_a_run_is_one_line_in_any_terminal(columns: int, lines: list[str]) -> None:
    """Bug: overrides in six lines, so that the runs that come after them are not seen."""
    names = ("7", "12", "my first run")
    overrides = dict.fromkeys(names, "lr=0.1 msg='a b c d e f' seed=1 model=a")
    shown = drawn(dict.fromkeys(names, Status.RUNNING), {}, 3, columns, **overrides)
    assert [line.split() for line in shown[-3:]] == [line.split() for line in lines]
    assert "".join(shown[:-3]).replace(" ", "") == "3RUNNING,of3runs"


@pytest.mark.parametrize(("count", "more"), [(12, []), (13, ["    and 1 more"]), (112, ["    and 100 more"])])
def test_a_long_table_is_cut_to_twelve_runs(count: int, more: list[str]) -> None:
    """Bug: a table that is longer than the terminal, of which one sees the end."""
    lines = drawn({str(number): Status.RUNNING for number in range(1, count + 1)}, {}, count)
    assert lines[0] == f"{count} RUNNING, of {count} runs"
    assert [line.split() for line in lines[1:13]] == [[str(number), "RUNNING"] for number in range(1, 13)]
    assert lines[13:] == more


def test_a_table_is_drawn_at_each_look_and_gone_at_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bug: a table that is seen only at the end, or stays above what comes after it; a thread that draws meanwhile."""
    for name, value in (("FORCE_COLOR", "1"), ("TERM", "xterm"), ("COLUMNS", "60")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(live_table, "load_status", lambda _: Status.RUNNING)
    ended: dict[RunDir, Status] = {}
    with live_table._table(jobs("1", "2"), {RunDir(Path("/logs/2")): "lr=2"}, ended) as (on_end, on_look):
        assert [thread for thread in threading.enumerate() if isinstance(thread, _RefreshThread)] == []
        capsys.readouterr()
        ended[RunDir(Path("/logs/1"))] = Status.FAILED
        on_end(RunDir(Path("/logs/1")), Status.FAILED)
        on_look([RunDir(Path("/logs/2"))])
        out, err = capsys.readouterr()
        assert out == ""
        assert "1 RUNNING · 1 FAILED, of 2 runs" in err
        assert "lr=2" in err
    assert capsys.readouterr().err.endswith("\x1b[1A\x1b[2K")  # up, and the line is erased

"""What a signal does to the runs of a process, by a call of its handler: nothing is sent."""

from __future__ import annotations

import os
import signal
from types import SimpleNamespace
from typing import Any

import pytest
from fake_scheduler import Clock

from mlxp_core.recording import signals

USR1, TERM = signal.SIGUSR1, signal.SIGTERM


class Process:
    """This process with some runs, of which the signal handlers are told; what they would do to it is noted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *asks: bool) -> None:
        self.clock = Clock(1000.0)
        self.killed: list[int] = []
        self.ended: list[tuple[int, str]] = []
        self.watching = {number: self.watch(number, asking) for number, asking in enumerate(asks)}
        monkeypatch.setattr(signals, "_watching", self.watching)
        monkeypatch.setattr(signals, "_last", 0)
        monkeypatch.setattr(signals, "_terminated", 0.0)
        monkeypatch.setattr(signals, "time", self.clock)
        # in this module alone: pytest needs the real ones
        replaced = SimpleNamespace(SIGTERM=TERM, SIG_DFL=signal.SIG_DFL, Signals=signal.Signals, signal=lambda *_: None)
        monkeypatch.setattr(signals, "signal", replaced)
        kill = SimpleNamespace(getpid=os.getpid, kill=lambda _, number: self.killed.append(number))
        monkeypatch.setattr(signals, "os", kill)

    def watch(self, number: int, asking: bool) -> Any:
        page = [0, 0, 0]
        page[signals._ASKS] = int(asking)
        return SimpleNamespace(pid=os.getpid(), page=page, on_end=lambda name: self.ended.append((number, name)))

    @property
    def asked(self) -> list[int]:
        return [watch.page[signals._SIGNAL] for watch in self.watching.values()]


@pytest.mark.parametrize("asks", [(True, False), (False, True), (True, True)])
def test_one_run_that_asks_keeps_the_process(monkeypatch: pytest.MonkeyPatch, asks: tuple[bool, ...]) -> None:
    """Bug: a program with two runs, of which one looks at stop_requested, is ended by the first warning."""
    process = Process(monkeypatch, *asks)
    signals._handle(USR1, None)
    assert (process.killed, process.ended, process.asked) == ([], [], [USR1, USR1])


def test_where_no_run_asks_each_is_told_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: of two runs one is RUNNING for ever; or a run of the parent is ended by its child's signal."""
    process = Process(monkeypatch, False, False, True)
    process.watching[2].pid = os.getpid() + 1
    signals._handle(TERM, None)
    assert (process.killed, process.ended) == ([TERM], [(0, "SIGTERM"), (1, "SIGTERM")])


def test_a_run_whose_end_cannot_be_written_does_not_keep_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: a full disk, and a job that SIGTERM does not end."""
    process = Process(monkeypatch, False)

    def full(_: str) -> None:
        raise OSError("No space left on device")

    process.watching[0].on_end = full
    with pytest.raises(OSError, match="No space"):
        signals._handle(TERM, None)
    assert process.killed == [TERM]


def test_a_second_sigterm_ends_what_the_first_has_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: `kill` twice, and it goes on; or the second that a scheduler sends in the same moment ends it."""
    process = Process(monkeypatch, True)
    signals._handle(USR1, None)
    signals._handle(TERM, None)
    assert (process.killed, process.asked) == ([], [TERM])
    process.clock.now += signals._SAME / 2
    signals._handle(TERM, None)
    assert process.killed == []
    process.clock.now += signals._SAME
    signals._handle(USR1, None)  # a warning after it takes nothing back
    assert (process.killed, process.asked) == ([], [TERM])
    signals._handle(TERM, None)
    assert (process.killed, process.ended) == ([TERM], [(0, "SIGTERM")])


@pytest.mark.parametrize(
    ("asks", "dies"), [((False, False), True), ((True, False), False), ((False, True), False), ((), True)]
)
def test_a_forked_child_lives_while_any_run_of_its_parent_asks(
    monkeypatch: pytest.MonkeyPatch, asks: tuple[bool, ...], dies: bool
) -> None:
    """Bug: a warning ends the data loaders of a program that would have left in an orderly way."""
    process = Process(monkeypatch, *asks)
    signals._handle_in_child(USR1, None)
    assert (process.killed, process.ended) == ([USR1] if dies else [], [])

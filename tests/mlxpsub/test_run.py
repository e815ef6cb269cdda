"""Waiting, by a clock, for what a script leaves in the background."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from fake_scheduler import Clock

from mlxp_core.mlxpsub import run


class Background:
    """A session whose processes come and go by a clock: programs by name, other processes by pid."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = Clock(0.0)
        self.programs: dict[str, tuple[float, float]] = {}  # when the process has ended, when it has said that
        self.others: dict[int, float] = {}  # when it has ended, or has said that it is a program
        self.stopped = False
        self.reported: list[str] = []
        monkeypatch.setattr(run, "time", self.clock)
        monkeypatch.setattr(run, "is_alive", lambda process: self.clock.now < self.programs[process][0])

    def unfinished(self) -> list[dict[str, Any]]:
        return [{"process": name} for name, (_, said) in self.programs.items() if self.clock.now < said]

    def unregistered_processes(self) -> dict[int, list[str]]:
        return {pid: ["python", f"a {pid}"] for pid, end in self.others.items() if self.clock.now < end}

    def wait(self) -> float:
        """Wait; give how long that took."""
        session: Any = SimpleNamespace(
            stopped=self.stopped, unfinished=self.unfinished, unregistered_processes=self.unregistered_processes
        )
        run._wait_for_background(session, self.reported.append)
        return self.clock.now


NEVER = float("inf")


@pytest.fixture
def background(monkeypatch: pytest.MonkeyPatch) -> Background:
    return Background(monkeypatch)


def test_any_program_that_lives_is_waited_for(background: Background) -> None:
    """Bug: mlxpsub ends, and takes its folder away, while one of three programs is still at it."""
    background.programs = {"killed": (0.0, NEVER), "slow": (5.0, NEVER), "done": (NEVER, 2.0)}
    assert 5.0 <= background.wait() < 5.2
    assert background.reported == []


def test_without_anything_in_the_background_there_is_no_wait(background: Background) -> None:
    """Bug: a second for each call; or for ever for a program that was killed."""
    background.programs = {"killed": (0.0, NEVER)}
    assert background.wait() == 0.0


def test_what_may_be_a_program_that_starts_is_said_and_waited_for_half_a_minute(background: Background) -> None:
    """Bug: a program in the background that is slow to start submits to a session that is gone; or `sleep` holds it."""
    background.others = {7: 3.0, 8: NEVER, 9: 0.5}
    assert 30.0 <= background.wait() < 30.3
    (message,) = background.reported  # each once
    assert message.splitlines()[1:] == ["  process 7, python 'a 7'", "  process 8, python 'a 8'"]


def test_after_an_interrupt_only_what_has_begun_is_waited_for(background: Background) -> None:
    """Bug: Ctrl-C, and half a minute of waiting for a program that would not submit any more."""
    background.others, background.stopped = {8: NEVER}, True
    background.programs = {"at it": (2.0, NEVER)}
    assert 2.0 <= background.wait() < 2.2
    assert background.reported == []

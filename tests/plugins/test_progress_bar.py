"""The progress bar, in process: with a clock and a terminal of the test's own."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from hydra_plugins.mlxp import _progress_bar
from hydra_plugins.mlxp._progress_bar import shown

ITEMS = ["a", "b", "c", "d", "e"]


class Stderr(io.StringIO):
    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


def run(monkeypatch: pytest.MonkeyPatch, times: list[float], *, terminal: bool = True) -> str:
    """Go through the items at these times, of the start and before each; give what was shown."""
    stderr, clock = Stderr(terminal=terminal), iter(times)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setattr(_progress_bar, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    given: Iterator[str] = shown(ITEMS, "composing")
    assert list(given) == ITEMS
    return stderr.getvalue()


def test_what_takes_longer_than_a_second_is_shown_from_where_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: a bar that begins at 0 when half is done, or that does not move; a bar that stays for ever."""
    text = run(monkeypatch, [50.0, 50.0, 50.5, 51.5])
    assert "composing" in text
    assert text.index("2/5") < text.index("5/5")
    assert "\x1b[2K" in text[text.rindex("5/5") :]  # the line is erased: what is said next begins there
    assert "0/5" not in text
    assert "1/5" not in text


@pytest.mark.parametrize("times", [[50.0] * 6, [50.0, *[51.0] * 5]])
def test_what_is_quick_is_not_shown(monkeypatch: pytest.MonkeyPatch, times: list[float]) -> None:
    """Bug: a bar that flickers at every launch of three jobs."""
    assert run(monkeypatch, times) == ""


def test_without_a_terminal_nothing_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: control characters in the log of a job."""
    assert run(monkeypatch, [0.0, *[99.0] * 5], terminal=False) == ""

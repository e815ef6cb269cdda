"""Questions at a terminal."""

from __future__ import annotations

import os
import pty
import select
import signal
import sys
from collections.abc import Iterator

import pytest
from rich.console import Console

from mlxp_core import terminal
from mlxp_core.terminal import ask


@pytest.fixture
def keyboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """What is written there is typed at the terminal of this process."""
    master, slave = pty.openpty()
    with open(slave, encoding="utf-8") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield master
    os.close(master)


def test_the_line_that_is_typed_is_the_answer(keyboard: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Bug: the question is taken for markup, or printed where a program reads; a second line is lost."""
    os.write(keyboard, b"r\n1,3\n")
    console = Console(stderr=True, highlight=False, width=80)
    before = set(os.listdir("/proc/self/fd"))
    assert (ask(console, "[r/c] (r) "), ask(console, "Which? ")) == ("r", "1,3")
    assert capsys.readouterr() == ("", "[r/c] (r) Which? ")
    assert set(os.listdir("/proc/self/fd")) == before
    assert signal.set_wakeup_fd(-1) == -1


def test_ctrl_c_just_before_the_wait_ends_it(keyboard: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: input() looks for signals once it reads: it waits for ever after a Ctrl-C that came just before."""
    wait, seen = select.select, []

    def interrupted(*arguments: list[object]) -> object:
        # as the kernel may: C has taken the signal, and Python's handler is not yet called when the wait begins
        signal.signal(signal.SIGINT, lambda *_: seen.append("handler"))
        os.kill(os.getpid(), signal.SIGINT)
        ready = wait(*arguments, 20.0)
        seen.append("woken" if ready[0] else "slept")
        raise KeyboardInterrupt

    monkeypatch.setattr(terminal.select, "select", interrupted)
    monkeypatch.setattr("builtins.input", lambda: pytest.fail("read before there was a line"))
    before = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(KeyboardInterrupt):
            ask(Console(stderr=True), "Which? ")
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == ["handler", "woken"]
    assert signal.set_wakeup_fd(-1) == -1


def test_another_signal_does_not_end_the_wait(keyboard: int) -> None:
    """Bug: a terminal whose size changes answers the question with nothing."""
    before = signal.signal(signal.SIGALRM, lambda *_: os.write(keyboard, b"s\n"))
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        assert ask(Console(stderr=True), "Which? ") == "s"
    finally:
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("stdin", ["of no process group here", "closed", None])
def test_nobody_can_answer_where_there_is_no_terminal_of_ours(
    keyboard: int, monkeypatch: pytest.MonkeyPatch, stdin: str | None
) -> None:
    """Bug: a stack trace in a daemon, under a container's -t without -i, or where a program has closed its stdin."""
    monkeypatch.setattr(sys, "stderr", sys.stdin)
    monkeypatch.setenv("TERM", "xterm")
    if stdin == "closed":
        sys.stdin.close()
    elif stdin is None:
        monkeypatch.setattr(sys, "stdin", None)
    else:
        assert sys.stdin.isatty()
    assert not terminal.can_answer()


@pytest.mark.parametrize(
    ("typed", "said"), [("y\n", True), (" YES \n", True), ("\n", False), ("n\n", False), ("maybe\nyes\n", True)]
)
def test_nothing_but_a_yes_is_one(keyboard: int, capsys: pytest.CaptureFixture[str], typed: str, said: bool) -> None:
    """Bug: a slip of the finger removes runs; the question is asked where a program reads."""
    os.write(keyboard, typed.encode())
    assert terminal.confirm("Remove 2 runs (1-2)?") == said
    assert capsys.readouterr() == ("", "Remove 2 runs (1-2)? [y/N]: " * typed.count("\n"))

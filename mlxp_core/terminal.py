"""Tell whether somebody at a terminal can answer, and ask."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def can_answer() -> bool:
    """Whether somebody sits at a terminal, and this program is in its foreground: in the background it would hang."""
    try:
        return (
            sys.stdin.isatty()
            and sys.stderr.isatty()
            and os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
            and os.environ.get("TERM") != "dumb"
        )
    except (OSError, ValueError, AttributeError):  # no stdin, or a closed one
        return False


def ask(console: Console, question: str) -> str:
    """The line that somebody types after a question.

    Raises:
        EOFError: The input has ended.
        KeyboardInterrupt: Ctrl-C.
    """
    console.print(question, end="", markup=False)
    if sys.stdin.isatty() and threading.current_thread() is threading.main_thread():
        _wait_for_a_line()
    return input()


def confirm(question: str) -> bool:
    """Whether somebody says yes at the terminal; an empty line is no. Raises as ``ask`` does."""
    from rich.console import Console  # noqa: PLC0415  (slow to load)

    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    while (answer := ask(console, f"{question} [y/N]: ").strip().lower()) not in {"y", "yes", "n", "no", ""}:
        pass
    return answer in {"y", "yes"}


def _wait_for_a_line() -> None:
    """Wait until a line can be read; a signal ends the wait however soon it comes.

    ``input()`` looks for signals only once its read has begun: a Ctrl-C just before that is lost, and it waits on.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        while sys.stdin not in select.select([sys.stdin, reader], [], [])[0]:
            os.read(reader, 1)
    finally:
        signal.set_wakeup_fd(before)
        os.close(reader)
        os.close(writer)

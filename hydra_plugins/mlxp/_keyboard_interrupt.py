"""Ctrl-C after which everything has been said: the program ends by it, without a stack trace."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType


@contextmanager
def without_traceback() -> Iterator[None]:
    """Have no stack trace shown of an interrupt that leaves the block; HYDRA_FULL_ERROR=1 shows it, as Hydra's others.

    It stays an exception that callers may catch. Python ends by the signal for a KeyboardInterrupt itself, and not for
    a subclass, so that a shell's loop around the program ends, too.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        interrupt = KeyboardInterrupt()
        if os.environ.get("HYDRA_FULL_ERROR", "0") == "0":
            _leave_out(interrupt)
        raise interrupt from error


def _leave_out(interrupt: KeyboardInterrupt) -> None:
    others = sys.excepthook

    def hook(kind: type[BaseException], value: BaseException, trace: TracebackType | None) -> None:
        if value is not interrupt:
            others(kind, value, trace)

    sys.excepthook = hook

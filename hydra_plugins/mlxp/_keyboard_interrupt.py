"""An end by Ctrl-C without a stack trace, where everything has been said."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType


@contextmanager
def without_traceback() -> Iterator[None]:
    """Hide the stack trace of an interrupt that leaves the block; HYDRA_FULL_ERROR=1 shows it, as Hydra's others.

    It stays an exception that callers may catch. Python ends by the signal for a KeyboardInterrupt itself, and not for
    a subclass, so that a shell's loop around the program ends, too.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        interrupt = KeyboardInterrupt()
        if os.environ.get("HYDRA_FULL_ERROR", "0") == "0":
            _hide_traceback(interrupt)
        raise interrupt from error


def _hide_traceback(interrupt: KeyboardInterrupt) -> None:
    original = sys.excepthook

    def hook(kind: type[BaseException], value: BaseException, trace: TracebackType | None) -> None:
        if value is not interrupt:
            original(kind, value, trace)

    sys.excepthook = hook

"""Signals with which a scheduler asks a program to stop: SIGTERM, SIGUSR1, SIGUSR2. The only handlers of signals.

A program that never asks ends by the signal as it would have without us, but for the mark that this leaves in its run.
One that asks (``run.stop_requested``) is told, and leaves by itself. A handler of the user's own is left in charge,
whether it was there before or comes later.
"""

from __future__ import annotations

import mmap
import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
# schedulers send SIGTERM to every process of a job, and script.sh passes its own on: two so close are one
_SAME = 3.0  # seconds

# bytes of a watch's page: whether the program asks, whether it was told to stop, the signal
_ASKS, _TOLD, _SIGNAL = range(3)


class _Watch:
    """What to do for one run, in the process that records it; a forked child has the page in common with it."""

    def __init__(self, on_end: Callable[[str], None]) -> None:
        self.pid = os.getpid()
        self.on_end = on_end
        self.page = mmap.mmap(-1, _SIGNAL + 1)
        self.page[_SIGNAL] = _last  # a process that was asked to stop stays so, whichever run it is at


_watching: dict[object, _Watch] = {}
_last = 0  # the signal that this process was last asked to stop with; of several SIGTERM counts
_terminated = 0.0  # when the first SIGTERM came
_mask_before_fork = threading.local()


def install(owner: object, on_end: Callable[[str], None]) -> None:
    """Have ``on_end`` called, in this process, when one of the signals ends it; with the signal's name."""
    _watching[owner] = _Watch(on_end)
    if threading.current_thread() is threading.main_thread():
        caught = _caught()
        for number in _SIGNALS:
            known = signal.getsignal(number)
            # Python does not know of a handler in C, such as that of faulthandler.register
            if (known is signal.SIG_DFL and number not in caught) or known is _handle_in_child:
                signal.signal(number, _handle)


def remove(owner: object) -> None:
    """Call it no more."""
    _watching.pop(owner, None)
    if threading.current_thread() is threading.main_thread() and not _watching:
        for number in _ours():
            signal.signal(number, signal.SIG_DFL)


def stop_signal(owner: object) -> str | None:
    """The signal that asked the program to stop. From the first call on, a signal asks and does not end it.

    In a forked child it is the answer for its parent, whose run it is.
    """
    watched = _watching.get(owner)
    if watched is None:
        return None
    watched.page[_ASKS] = 1
    if not watched.page[_SIGNAL]:
        return None
    watched.page[_TOLD] = 1
    return signal.Signals(watched.page[_SIGNAL]).name


def observed_stop_signal(owner: object) -> str | None:
    """The signal, where ``stop_signal`` has given one to the program: in this process or in a forked child."""
    watched = _watching.get(owner)
    if watched is None or not watched.page[_TOLD]:
        return None
    return signal.Signals(watched.page[_SIGNAL]).name


def _handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  (the signature of a handler)
    """Nothing is logged here: the program may be in the middle of writing its log."""
    global _last, _terminated  # noqa: PLW0603  (what the process was asked)
    watched = [one for one in _watching.values() if one.pid == os.getpid()]
    if any(one.page[_ASKS] for one in watched):
        now = time.monotonic()
        again = bool(_terminated) and now - _terminated > _SAME
        if number != signal.SIGTERM or not again:
            if number == signal.SIGTERM:
                _terminated = _terminated or now
            if _last != signal.SIGTERM:
                _last = number
            for one in watched:
                one.page[_SIGNAL] = _last
            return
    try:
        for one in watched:
            one.on_end(signal.Signals(number).name)
    finally:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def _handle_in_child(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    """A warning to all processes of a job must not end the workers of a program that is about to leave by itself."""
    if not any(one.page[_ASKS] for one in _watching.values()):
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def _ours() -> list[signal.Signals]:
    return [number for number in _SIGNALS if signal.getsignal(number) is _handle]


def _caught() -> set[int]:
    """Signals that this process has a handler for, in any language. Source: proc(5), SigCgt; empty without it."""
    try:
        with open("/proc/self/status", "rb") as file:  # noqa: PTH123  (pathlib is slower)
            mask = next((int(line.split()[1], 16) for line in file if line.startswith(b"SigCgt:")), 0)
    except OSError:
        return set()
    return {number for number in _SIGNALS if mask >> (number - 1) & 1}


def _before_fork() -> None:
    """Hold the signals back while a process forks.

    A signal that reaches the child before it runs Python again would be noted by our handler, and CPython drops what is
    noted when it starts the child: a worker terminated right after its start would live on.
    """
    ours = _ours()
    if ours:
        _mask_before_fork.value = signal.pthread_sigmask(signal.SIG_BLOCK, ours), ours


def _after_fork(*, in_child: bool) -> None:
    mask, ours = _mask_before_fork.__dict__.pop("value", (None, []))
    if mask is None:
        return
    if in_child:  # which has no run of its own to close, and ends by its parent's SIGTERM
        for number in ours:
            signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else _handle_in_child)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


os.register_at_fork(
    before=_before_fork,
    after_in_parent=lambda: _after_fork(in_child=False),
    after_in_child=lambda: _after_fork(in_child=True),
)

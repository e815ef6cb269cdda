"""Handle the signals with which a scheduler asks a program to stop: SIGTERM, SIGUSR1, SIGUSR2.

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
import weakref
from collections.abc import Callable, MutableMapping
from types import FrameType
from typing import Any

from mlxp_core.recording.shared_page import find_pages, make_page

_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
# schedulers send SIGTERM to every process of a job, and script.sh passes its own on: two so close are one
_SAME = 3.0  # seconds

# bytes of a watch's page: whether the program asks, whether it was told to stop, the signal
_ASKS, _TOLD, _SIGNAL = range(3)


class _Watch:
    """The state of one run's signals. A worker shares the page with the process that records the run."""

    def __init__(self, pid: int, on_end: Callable[[str], None], page: mmap.mmap) -> None:
        self.pid = pid
        self.on_end = on_end
        self.page = page


_watching: MutableMapping[object, _Watch] = weakref.WeakKeyDictionary()  # a run that is dropped is not kept by this
_last = 0  # the signal that this process was last asked to stop with; of several SIGTERM counts
_terminated = 0.0  # when the first SIGTERM came
_mask_before_fork = threading.local()


def install(owner: object, on_end: Callable[[str], None], arguments: tuple[Any, ...] = ()) -> None:
    """Have ``on_end`` called, in this process, when one of the signals ends it; with the signal's name.

    ``arguments``: by which ``follow`` and ``recorded_by`` know the run in a worker.
    """
    page = make_page(_SIGNAL + 1, arguments)
    page[_SIGNAL] = _last  # a process that was asked to stop stays so, whichever run it is at
    _watching[owner] = _Watch(os.getpid(), on_end, page)
    if threading.current_thread() is threading.main_thread():
        caught = _caught()
        for number in _SIGNALS:
            handler = signal.getsignal(number)
            # Python does not know of a handler in C, such as that of faulthandler.register
            if (handler is signal.SIG_DFL and number not in caught) or handler is _handle_in_child:
                signal.signal(number, _handle)


def follow(owner: object, pid: int, arguments: tuple[Any, ...]) -> bool:
    """Have ``stop_signal`` tell, in a spawned worker, what the process that records the run is told.

    False where that process is out of sight. As in a forked child, a warning to all processes no longer ends this one.
    """
    page = next((page for page, of in find_pages(pid, _SIGNAL + 1) if of == list(arguments)), None)
    if page is None:
        return False
    _watching[owner] = _Watch(pid, lambda _: None, page)
    if threading.current_thread() is threading.main_thread():
        caught = _caught()
        for number in _SIGNALS:
            if number != signal.SIGTERM and signal.getsignal(number) is signal.SIG_DFL and number not in caught:
                signal.signal(number, _handle_in_child)
    return True


def recorded_by(pid: int) -> list[list[Any]]:
    """Give the arguments of the runs that another process records now."""
    return [arguments for _, arguments in find_pages(pid, _SIGNAL + 1)]


def remove(owner: object) -> None:
    """Stop calling its ``on_end``; with the last owner the handlers go."""
    _watching.pop(owner, None)
    if threading.current_thread() is threading.main_thread() and not _watching:
        for number in _ours():
            signal.signal(number, signal.SIG_DFL)


def stop_signal(owner: object) -> str | None:
    """Return the signal that asked the program to stop. From the first call on, a signal asks and does not end it.

    In a forked child it is that of its parent, whose run it is.
    """
    watch = _watching.get(owner)
    if watch is None:
        return None
    watch.page[_ASKS] = 1
    if not watch.page[_SIGNAL]:
        return None
    watch.page[_TOLD] = 1
    return signal.Signals(watch.page[_SIGNAL]).name


def observed_stop_signal(owner: object) -> str | None:
    """Return the signal that ``stop_signal`` has given to the program, in this process or in a forked child."""
    watch = _watching.get(owner)
    if watch is None or not watch.page[_TOLD]:
        return None
    return signal.Signals(watch.page[_SIGNAL]).name


def _handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  (the signature of a handler)
    """Nothing is logged here: the program may be in the middle of writing its log."""
    global _last, _terminated  # noqa: PLW0603  (the signals of this process)
    watched = [watch for watch in list(_watching.values()) if watch.pid == os.getpid()]
    if any(watch.page[_ASKS] for watch in watched):
        now = time.monotonic()
        again = bool(_terminated) and now - _terminated > _SAME
        if number != signal.SIGTERM or not again:
            if number == signal.SIGTERM:
                _terminated = _terminated or now
            if _last != signal.SIGTERM:
                _last = number
            for watch in watched:
                watch.page[_SIGNAL] = _last
            return
    try:
        for watch in watched:
            watch.on_end(signal.Signals(number).name)
    finally:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def _handle_in_child(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    """A warning to all processes of a job must not end the workers of a program that is about to leave by itself."""
    if not any(watch.page[_ASKS] for watch in list(_watching.values())):
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

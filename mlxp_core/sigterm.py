"""Lets a SIGTERM leave its mark before it ends the process, as it would have without us. The only handler of signals.

A handler of the user's own is left in charge, whether it was there before or comes later.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType

# what to do, by owner; with the pid: a forked child inherits the handler, not what it would do
_watching: dict[object, tuple[int, Callable[[], None]]] = {}
_mask_before_fork = threading.local()


def watch(owner: object, on_sigterm: Callable[[], None]) -> None:
    """Have ``on_sigterm`` called, in this process, when a SIGTERM ends it."""
    _watching[owner] = os.getpid(), on_sigterm
    untouched = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if untouched and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _handle)


def forget(owner: object) -> None:
    """Call it no more."""
    _watching.pop(owner, None)
    in_main = threading.current_thread() is threading.main_thread()
    if in_main and not _watching and signal.getsignal(signal.SIGTERM) is _handle:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  (the signature of a handler)
    for pid, on_sigterm in list(_watching.values()):
        if pid == os.getpid():
            on_sigterm()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)


def _before_fork() -> None:
    """Hold SIGTERM back while a process forks.

    A signal that reaches the child before it runs Python again would be noted by our handler, and CPython drops what is
    noted when it starts the child: a worker terminated right after its start would live on.
    """
    if signal.getsignal(signal.SIGTERM) is _handle:
        _mask_before_fork.value = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


def _after_fork(*, in_child: bool) -> None:
    mask = _mask_before_fork.__dict__.pop("value", None)
    if mask is None:
        return
    if in_child:  # which has no run of its own to close
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


os.register_at_fork(
    before=_before_fork,
    after_in_parent=lambda: _after_fork(in_child=False),
    after_in_child=lambda: _after_fork(in_child=True),
)

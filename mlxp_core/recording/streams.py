"""Copy what this process and its children print into files, while it stays visible: a ``tee`` at each descriptor.

It stands at the descriptors 1 and 2, so that what C code, subprocesses and workers print is there as well, and in a
process of its own, so that what was written outlives a crash. At a terminal the program finds a terminal of its own
before it (a pty), in which progress bars and colours are what they are without this. The order of what goes to the two
streams within a moment may be another one at the terminal.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import logging
import os
import select
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

log = logging.getLogger(__name__)

_DRAINS_WITHIN = 1.0  # seconds for what was printed to be written, unless a child of the program goes on printing
_FREE = 20  # descriptors from here on are none of the few that the shell below has names for
# In the background of a shell that ends at once: the program has no child that it would find by os.wait(). {} is the
# stream, from 0; the others' descriptors are closed, and 9, which all of them keep open, tells when the last has ended.
_FIND = "command -v tee || exit\n"
_TEE = 'tee -a -- "${name}" <&{reading} >&{writing} {closed} &\n'


class _Copied(NamedTuple):
    """One descriptor that is being copied."""

    number: int  # 1 or 2
    saved: int  # where it led
    leads_to: os.stat_result  # while it is copied
    reading: int  # what is printed
    path: Path


class StreamCopies:
    """What this process prints goes into files, too, from here on to ``close``."""

    def __init__(self, paths: Mapping[int, Path]) -> None:
        """``paths``: the file for descriptor 1, and that for 2; what is printed is appended."""
        self._pid = os.getpid()
        self._line_buffered: list[Any] = []
        self._sized: Any = None
        self._ended = -1  # reads nothing until the tees have ended
        _flush(with_c="ctypes" in sys.modules)  # 2 ms to import; little has printed yet that does not use it
        self._copied = [copied for number, path in paths.items() if (copied := _divert(number, path)) is not None]
        if self._copied:
            self._start()
            atexit.register(self.close)

    def close(self, last_words: Mapping[int, str] | None = None) -> None:
        """Lead the descriptors back to where they led before, once all is written.

        ``last_words`` are added to the files alone. A forked child closes nothing.
        """
        if self._pid != os.getpid() or not self._copied:
            return
        _flush(with_c=True)
        for stream in self._line_buffered:
            with contextlib.suppress(ValueError):  # closed by the program
                stream.reconfigure(line_buffering=False)
        self._lead_back()
        if self._sized is not None:
            signal.signal(signal.SIGWINCH, self._sized)
        with contextlib.suppress(OSError):  # closed by the program
            _wait_for_end(self._ended)
            os.close(self._ended)
        for copied in self._copied:
            if words := (last_words or {}).get(copied.number):
                try:
                    with copied.path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                        file.write(words)
                except OSError as error:  # a full disk; the folder is gone
                    log.warning("what ended the run is not kept in %s: %s", copied.path, error)
        self._copied = []
        atexit.unregister(self.close)

    def _start(self) -> None:
        self._ended, held = os.pipe()
        try:
            _start_tees(self._copied, held)
        except OSError as error:
            self._lead_back()  # first, for the warning to be seen
            log.warning("what is printed is not kept: tee cannot be started: %s", error)
            os.close(self._ended)
            self._copied = []
        finally:
            os.close(held)
        self._follow_program()

    def _lead_back(self) -> None:
        for copied in self._copied:
            with contextlib.suppress(OSError):  # closed by the program
                if os.path.samestat(os.fstat(copied.number), copied.leads_to):  # and not elsewhere, by the program
                    os.dup2(copied.saved, copied.number)
            with contextlib.suppress(OSError):
                os.close(copied.saved)

    def _follow_program(self) -> None:
        """Write each line at once, for whoever follows the file; tell the program's terminals of a new size."""
        numbers = {copied.number for copied in self._copied}
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(AttributeError, OSError, ValueError):  # replaced by what has no descriptor
                if stream.fileno() in numbers and not stream.line_buffering:
                    stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
                    self._line_buffered.append(stream)
        terminals = [copied for copied in self._copied if os.isatty(copied.number)]
        in_main = threading.current_thread() is threading.main_thread()
        if terminals and in_main and signal.getsignal(signal.SIGWINCH) in {signal.SIG_DFL, signal.SIG_IGN}:

            def resize(*_: Any) -> None:
                for copied in terminals:
                    with contextlib.suppress(OSError):
                        _give_size(copied.saved, copied.number)

            self._sized = signal.signal(signal.SIGWINCH, resize)


def _divert(number: int, path: Path) -> _Copied | None:
    """Lead a descriptor to where a tee is to read; None where it is closed, leads into the file already, or cannot."""
    try:
        before = os.fstat(number)
    except OSError:
        return None
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            if os.path.samestat(before, os.fstat(file)):  # script.sh, or the user, has redirected it
                return None
        finally:
            os.close(file)
        reading, writing = _pty(number) if os.isatty(number) else os.pipe()
        saved = os.dup(number)
        os.dup2(writing, number)
        leads_to = os.fstat(writing)
        os.close(writing)
    except OSError as error:  # a full disk
        log.warning("what is printed is not kept in %s: %s", path, error)
        return None
    return _Copied(number, saved, leads_to, reading, path)


def _wait_for_end(descriptor: int) -> None:
    """Wait until all its writing ends are closed; not by select, which knows no descriptor from 1024 on."""
    ended = select.poll()
    ended.register(descriptor, select.POLLIN)
    ended.poll(_DRAINS_WITHIN * 1000)


def _start_tees(copied: Sequence[_Copied], held: int) -> None:
    """Start ``tee -a`` for each; no signal that is meant for the program ends it before the program has ended."""
    wanted = {9: held}
    for position, one in enumerate(copied):
        wanted |= {3 + 2 * position: one.reading, 4 + 2 * position: one.saved}
    script = _FIND + "".join(
        _TEE.format(
            name=position + 1,
            reading=3 + 2 * position,
            writing=4 + 2 * position,
            closed=" ".join(f"{number}>&-" for number in wanted if number != 9),  # noqa: PLR2004
        )
        for position in range(len(copied))
    )
    aside = {number: fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, _FREE) for number, source in wanted.items()}
    try:
        shell = os.posix_spawn(
            "/bin/sh",
            ["sh", "-c", script, "sh", *(os.fspath(one.path.absolute()) for one in copied)],
            os.environ,
            file_actions=[
                *((os.POSIX_SPAWN_DUP2, source, number) for number, source in aside.items()),
                *((os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in range(3)),
            ],
            setpgroup=0,
            setsigmask=signal.valid_signals(),
        )
        status = 0
        with contextlib.suppress(ChildProcessError):  # the program ignores SIGCHLD: nobody is told
            _, status = os.waitpid(shell, 0)
        if status:
            raise OSError(f"sh ended with {os.waitstatus_to_exitcode(status)}; is there a program tee in PATH?")
    finally:
        for descriptor in aside.values():
            os.close(descriptor)
        for one in copied:
            os.close(one.reading)


def _pty(number: int) -> tuple[int, int]:
    """Make a terminal like the one at ``number``; what is written to it arrives as it was written."""
    import termios  # noqa: PLC0415  (at a terminal alone)

    master, slave = os.openpty()
    mode = termios.tcgetattr(number)
    mode[1] &= ~termios.OPOST  # the terminal behind it makes the line ends
    termios.tcsetattr(slave, termios.TCSANOW, mode)
    _give_size(number, slave)
    return master, slave


def _give_size(source: int, target: int) -> None:
    import termios  # noqa: PLC0415

    fcntl.ioctl(target, termios.TIOCSWINSZ, fcntl.ioctl(source, termios.TIOCGWINSZ, bytes(8)))


def _flush(*, with_c: bool) -> None:
    """Empty the buffers of Python, and those of C, so that nothing comes out elsewhere than it was printed to."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):
            stream.flush()
    if with_c:
        with contextlib.suppress(ImportError, OSError, AttributeError):
            import ctypes  # noqa: PLC0415

            libc = ctypes.CDLL(None)
            for name in ("stdout", "stderr", "__stdoutp", "__stderrp"):  # the latter are macOS's
                with contextlib.suppress(ValueError):
                    # not all of them by fflush(NULL), which waits for a thread that reads stdin, by input()
                    libc.fflush(ctypes.c_void_p.in_dll(libc, name))

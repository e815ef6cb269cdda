"""Files that are whole or absent.

A file is written beside its place and renamed onto it, so a reader sees the old or the new one, never a half.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

# ctime, size and inode: as long as these stay, so does what a file holds, or which names a folder has
Stamp = tuple[int, int, int]
NOT_THERE: Stamp = (0, 0, 0)


def stamp_of(status: os.stat_result) -> Stamp:
    """How a file or a folder stands."""
    return status.st_ctime_ns, status.st_size, status.st_ino


def stamp_at(path: str | Path) -> Stamp:
    """How what is at ``path`` stands. Raises OSError for what cannot be known."""
    try:
        return stamp_of(os.stat(path))  # noqa: PTH116  (not all callers have a Path: for every run)
    except (FileNotFoundError, NotADirectoryError):
        return NOT_THERE


def checksum(content: bytes) -> str:
    """By what the content of a file is known again, wherever it has been copied to."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def load_bytes(path: str, *, folder: int | None = None, most: int | None = None) -> bytes:
    """Read a file, or the first bytes of it; ``path`` may be relative to the directory that is open as ``folder``.

    In a third of the time that a file object takes, for those who read thousands; and no pipe is waited for.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=folder)
    try:
        pieces = []
        left = most
        while piece := os.read(descriptor, 1 << 16 if left is None else min(left, 1 << 16)):
            pieces.append(piece)
            if left is not None:
                left -= len(piece)
        return b"".join(pieces)
    finally:
        os.close(descriptor)


def write_atomic(path: Path, content: str | bytes, *, private: bool = False) -> None:
    """Put ``content`` at ``path``, whole or not at all; ``private``: for nobody else to read."""
    # a script may name files that are no UTF-8: their bytes go through as they are
    data = content.encode(errors="surrogateescape") if isinstance(content, str) else content
    with atomic_path(path) as temporary:
        _write(temporary, data, path, 0o600 if private else 0o666)


def create_atomic(path: Path, content: bytes) -> None:
    """Put ``content`` at ``path``, whole or not at all, where nothing is. Raises FileExistsError where something is."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    try:
        _write(temporary, content, path)
        try:
            os.link(temporary, path)  # unlike a rename, it never replaces what another process has put there
        except FileExistsError:
            raise
        except OSError:  # a file system without links
            with path.open("xb") as file:
                file.write(content)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomic_stamped(path: Path, content: bytes) -> Stamp:
    """As write_atomic; give the stamp of what was put there, even if something else is there by now."""
    with ExitStack() as stack:
        with atomic_path(path) as temporary:
            _write(temporary, content, path)
            # held open, so that its inode is not another file's; a renaming changes the ctime
            descriptor = os.open(temporary, os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, descriptor)
        return stamp_of(os.fstat(descriptor))


def _write(temporary: Path, data: bytes, path: Path, mode: int = 0o666) -> None:
    # a file object would ask the system five things more, and a launch makes eight files for each of thousands of runs
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(descriptor, left) :]
        finally:
            os.close(descriptor)  # before it is renamed: NFS shows other machines the content from then on
    except OSError as error:  # of a write, such as a full disk's, does not say where
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a place to make a file at, which then becomes ``path``; nothing is left of it if the block raises.

    Artifacts, whose savers look at the name, have a place of their own: runs/artifact_place.py.
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.{os.urandom(4).hex()}{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def append_line(path: Path, line: bytes) -> None:
    """Append a whole line or nothing: half of one would swallow the next. Raises OSError where the disk is full."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
    try:
        written = os.write(descriptor, line)
        if written != len(line):
            take_back(descriptor, written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    finally:
        os.close(descriptor)


def take_back(descriptor: int, written: int) -> None:
    """Cut off what a disk has taken of a line that was just appended."""
    size = os.fstat(descriptor).st_size
    # another process has added a line meanwhile where the place to append to is not the end
    if os.lseek(descriptor, 0, os.SEEK_CUR) == size:
        os.ftruncate(descriptor, size - written)

"""What small files held when they were last read. The only module that decides whether a file must be read again."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from mlxp_core.atomic_files import Stamp, stamp_of

T = TypeVar("T")

# Two versions of a file can share their stamp if they are written within one tick of the clock (a jiffy on
# ext4, a second on old NFS), and even the inode, which is free again after a rename. So what was read sooner than
# this after the last change is not kept. Git does the same with its index ("racy git").
_SETTLED_NS = 2_000_000_000


class FileCache(Generic[T]):
    """Remembers what ``read`` made of a file for as long as its stamp stays the same (see atomic_files.py).

    One ``stat`` a look. Safe in threads: two that meet read the file twice, and keep the same.
    """

    def __init__(self, read: Callable[[str], T], *, most: int = 1_000_000) -> None:
        """``most`` files are kept; then all are forgotten."""
        self._read = read
        self._most = most
        self._kept: dict[str, tuple[Stamp, T]] = {}

    def get(self, path: str) -> T | None:
        """What ``read`` makes of the file now; None where there is no file.

        Raises OSError for what is no regular file (a pipe would block for ever), and whatever ``read`` raises.
        """
        try:
            status = os.stat(path)  # noqa: PTH116  (called for every file of every run; a Path costs more than the stat)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(f"{path} is no regular file")
            signature = stamp_of(status)
            kept = self._kept.get(path)
            if kept is not None and kept[0] == signature:
                return kept[1]
            # stat before read: if the file changes in between, the new content is kept under the old signature, and
            # the next look reads again
            value = self._read(path)
        except (FileNotFoundError, NotADirectoryError):
            self._kept.pop(path, None)
            return None
        if time.time_ns() - status.st_ctime_ns > _SETTLED_NS:
            if len(self._kept) >= self._most:
                self._kept.clear()
            self._kept[path] = (signature, value)
        return value

    def forget(self, path: str) -> None:
        """Free what is kept of a file."""
        self._kept.pop(path, None)

"""A cache of small files: each is parsed again only when its stamp has changed."""

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
RACY_NS = 2_000_000_000


class FileCache(Generic[T]):
    """Remembers what ``read`` made of a file for as long as its stamp stays the same (see atomic_files.py).

    One ``stat`` a call. Safe in threads: two that meet read the file twice, and keep the same.
    """

    def __init__(self, read: Callable[[str], T], *, max_files: int = 1_000_000) -> None:
        """Keep at most ``max_files``; with one more all are forgotten."""
        self._read = read
        self._max_files = max_files
        self._values: dict[str, tuple[Stamp, T]] = {}

    def get(self, path: str) -> T | None:
        """Give what ``read`` makes of the file now; None where there is no file.

        Raises OSError for what is no regular file (a pipe would block for ever), and whatever ``read`` raises.
        """
        try:
            status = os.stat(path)  # noqa: PTH116  (called for every file of every run; a Path costs more than the stat)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(f"{path} is no regular file")
            stamp = stamp_of(status)
            cached = self._values.get(path)
            if cached is not None and cached[0] == stamp:
                return cached[1]
            # stat before read: if the file changes in between, the new content is kept under the old stamp, and the
            # next call reads again
            value = self._read(path)
        except (FileNotFoundError, NotADirectoryError):
            self._values.pop(path, None)
            return None
        if time.time_ns() - status.st_ctime_ns > RACY_NS:
            if len(self._values) >= self._max_files:
                self._values.clear()
            self._values[path] = (stamp, value)
        return value

    def forget(self, path: str) -> None:
        """Free what is kept of a file."""
        self._values.pop(path, None)

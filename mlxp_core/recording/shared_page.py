"""A page of memory that the process which records a run shares with its workers.

It begins with bytes that both change, and holds what finds the run: the arguments of ``run.reopen``. On Linux it is a
memfd, which a spawned process of the same user on the same host finds among the descriptors of the one that made it: no
file that stays behind, and no variable that other programs inherit. Elsewhere forked children alone have it.
"""

from __future__ import annotations

import json
import mmap
import os
from typing import Any

_NAME = "mlxp-run"


def make_page(head: int, arguments: tuple[Any, ...]) -> mmap.mmap:
    """Make a page with ``head`` bytes of zero, and the arguments behind them."""
    text = json.dumps(arguments).encode()
    try:
        fd = os.memfd_create(_NAME)
    except (AttributeError, OSError):  # not Linux; no descriptor left
        page = mmap.mmap(-1, head + len(text))
    else:
        try:
            os.ftruncate(fd, head + len(text))
            page = mmap.mmap(fd, head + len(text))
        finally:
            os.close(fd)
    page[head:] = text
    return page


def find_pages(pid: int, head: int) -> list[tuple[mmap.mmap, list[Any]]]:
    """Give the pages that a process has, each with its arguments; none where they are not to be seen from here."""
    found = []
    folder = f"/proc/{pid}/fd"
    try:
        names = os.listdir(folder)  # noqa: PTH208
    except OSError:
        return []
    for name in names:
        try:
            if os.readlink(f"{folder}/{name}").startswith(f"/memfd:{_NAME} "):  # noqa: PTH115
                with open(f"{folder}/{name}", "r+b") as file:  # noqa: PTH123
                    page = mmap.mmap(file.fileno(), 0)
                found.append((page, json.loads(page[head:])))
        except (OSError, ValueError):  # it has gone meanwhile, or is not written yet
            continue
    return found

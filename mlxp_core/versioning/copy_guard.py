"""Refuse what a job would write into the copy of its code, which all jobs of that version share.

The folders of a copy are writable for their owner, so that `rm -rf` removes a log directory, and root ignores modes.
So Python is asked: by an audit hook, which sees what its own functions open. What writes without them (HDF5, a program
that the job starts) is found by `mlxp snapshots prune`, which keeps a copy that holds anything else than its version.
"""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Any

from mlxp_core.versioning.run_output import BYTE_CODE

WHY_READ_ONLY = (
    "this is part of the copy of the code, which all jobs of its version share: write to a relative path, which is "
    "kept in the run's work folder (hydra.launcher.work_dir=run), or below run.dir"
)
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# of each event, the arguments that are paths which it writes, and those that say of which open folder they are.
# Source: the audit events table of Python's documentation
_EVENTS: dict[str, tuple[tuple[int, int | None], ...]] = {
    "open": ((0, None),),
    "os.truncate": ((0, None),),
    "os.mkdir": ((0, 2),),
    "os.rmdir": ((0, 1),),
    "os.remove": ((0, 1),),
    "os.rename": ((0, 2), (1, 3)),
    "os.link": ((1, 3),),
    "os.symlink": ((1, 2),),
    "shutil.rmtree": ((0, None),),
}
_FOLLOWS = frozenset({"open", "os.truncate"})  # the link that a path may be

_guarded: list[str] = []  # tops of copies, with a slash


def guard_copy(copy: Path) -> None:
    """Have Python in this process raise PermissionError for what would write into the copy, but for byte code."""
    if not _guarded:
        sys.addaudithook(_refuse)
    _guarded.append(os.path.realpath(copy) + os.sep)


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    places = _EVENTS.get(event)
    if places is None or (event == "open" and not arguments[2] & _WRITING):
        return
    for index, folder in places:
        path = arguments[index]
        if isinstance(path, int) or (folder is not None and len(arguments) > folder and arguments[folder] != -1):
            continue
        name = os.fsdecode(path)
        # os.open, which does not tell of the open folder that a relative path may be of
        if event == "open" and arguments[1] is None and not os.path.isabs(name):  # noqa: PTH117
            continue
        if _is_guarded(name, follow=event in _FOLLOWS):
            raise PermissionError(errno.EACCES, WHY_READ_ONLY, name)


def _is_guarded(name: str, *, follow: bool) -> bool:
    folder, last = os.path.split(os.path.abspath(name))  # noqa: PTH100
    real = os.path.realpath(name) if follow else os.path.join(os.path.realpath(folder), last)  # noqa: PTH118
    return any(real.startswith(top) for top in _guarded) and BYTE_CODE not in Path(real).parts

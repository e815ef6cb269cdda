"""Identify processes, and tell whether the one that wrote a run is still alive."""

from __future__ import annotations

import os
import pwd
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def this_process() -> dict[str, Any]:
    """Host, pid, start time and parent of this process, as info.yaml holds them."""
    pid = os.getpid()
    return {
        "hostname": socket.gethostname(),
        "process_id": pid,
        "process_start": start_time(pid),
        "parent_process_id": os.getppid(),
    }


def start_time(pid: int) -> int | None:
    """When a process started, in clock ticks since boot: tells it from a later one of the same pid. None: not there.

    Source: proc(5), field 22 of /proc/<pid>/stat. A zombie has ended and counts as not there.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # the second field, the name, may hold anything
    return None if fields[0] in "ZX" else int(fields[19])


def is_alive(info: Mapping[str, Any]) -> bool | None:
    """Whether the process of an info.yaml still runs; None where that cannot be known from here."""
    if info.get("hostname") != socket.gethostname() or not Path("/proc/self/stat").exists():
        return None
    pid, started = info.get("process_id"), info.get("process_start")
    if not isinstance(pid, int) or not isinstance(started, int):
        return None
    return start_time(pid) == started


def with_variable(name: str, value: str) -> dict[int, list[str]]:
    """This user's processes that were started with a variable of the environment: pid, and command line.

    None of them where there is no /proc.
    """
    wanted = os.fsencode(f"{name}={value}")
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if entry.stat().st_uid == os.geteuid() and wanted in (entry / "environ").read_bytes().split(b"\0"):
                words = (entry / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
                found[int(entry.name)] = [os.fsdecode(word) for word in words]
        except OSError:  # it has ended, or is not to be looked at
            continue
    return found


def current_user() -> str:
    """Name the user, or give the uid where it has no name (containers)."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())

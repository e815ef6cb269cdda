"""Describe the software and hardware that a run met. Changes nothing; imports nothing heavy."""

from __future__ import annotations

import os
import platform
import sys
from typing import Any

# the variable by which a scheduler tells a job its id ends so; outside of jobs the schedulers are not loaded, 10 ms
_JOB_IDS = ("JOBID", "_ID")
_OF_DESKTOPS = "SESSION_ID"


def describe_environment() -> dict[str, Any]:
    """Describe this process's surroundings as plain values."""
    return {
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        "executable": sys.executable,
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu_count": os.cpu_count(),
        "cpus_allowed": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "scheduler": _placement(),
    }


def may_hold_a_job_id(name: str) -> bool:
    """Tell by its name alone whether a variable may be one that a scheduler gives its jobs."""
    return name.endswith(_JOB_IDS) and not name.endswith(_OF_DESKTOPS)


def _placement() -> dict[str, str]:
    if not any(map(may_hold_a_job_id, os.environ)):
        return {}
    from mlxp_core.scheduler.variables import placement  # noqa: PLC0415

    return placement()

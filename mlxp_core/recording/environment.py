"""Describe the software and hardware that a run met. Changes nothing; imports nothing heavy."""

from __future__ import annotations

import os
import platform
import sys
from typing import Any

# names that a scheduler gives its jobs; values say where and as what the run was placed
_PLACEMENT = ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_RESTART_COUNT", "SLURMD_NODENAME")


def describe_environment() -> dict[str, Any]:
    """Describe this process's surroundings as plain values."""
    return {
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        "executable": sys.executable,
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu_count": os.cpu_count(),
        "cpus_allowed": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "scheduler": {name: os.environ[name] for name in _PLACEMENT if name in os.environ},
    }

"""Which scheduler a job script is written for: by its directives, and by what answers where two read the same ones."""

from __future__ import annotations

import shutil

from mlxp_core.errors import CommandError, ConfigurationError
from mlxp_core.jobs.template import is_directive
from mlxp_core.scheduler import SCHEDULERS, client, load_scheduler

_MOMENT = 10.0  # seconds


def detect_scheduler(text: str, source: str) -> str:
    """The name of the scheduler. Raises ConfigurationError where the script does not tell."""
    found = _by_directives(text)
    if {"torque", "pbs"} <= set(found):
        found.remove("torque" if _is_pbs_pro() else "pbs")
    if len(found) > 1:  # a script for several sites: the one whose commands are here
        found = [name for name in found if shutil.which(load_scheduler(name).submit[0])] or found
    if len(found) != 1:
        what = f"has directives of {', '.join(found)}" if found else "has no directives of a scheduler"
        raise ConfigurationError(f"{source} {what}: say which with --scheduler, one of {', '.join(SCHEDULERS)}")
    return found[0]


def _by_directives(text: str) -> list[str]:
    lines = text.splitlines()

    def has(name: str) -> bool:
        prefix = load_scheduler(name).directive
        own = [line for line in lines if line.startswith(prefix) and is_directive(line, load_scheduler(name))]
        return any(line[len(prefix) :].lstrip().startswith("-") for line in own)

    found = [name for name in SCHEDULERS if has(name)]
    # MWM reads PBS's directives as well as its own
    return ["mwm"] if {"mwm", "pbs"} <= set(found) <= {"mwm", "pbs", "torque"} else found


def _is_pbs_pro() -> bool:
    """PBS Pro and OpenPBS say ``pbs_version = …``; TORQUE says ``Version: …``, Slurm's qstat something else again."""
    try:
        answer = client.run_command(("qstat", "--version"), limit=_MOMENT)
    except CommandError:
        return False  # said when it is submitted to
    return "pbs_version" in f"{answer.stdout}{answer.stderr}"

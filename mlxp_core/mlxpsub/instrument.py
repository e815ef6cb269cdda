"""Instrument a job script, so that it tells which of its commands runs."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from mlxp_core.mlxpsub.parse import JobScript
from mlxp_core.scheduler import SCHEDULERS, load_scheduler

# the folder of the session while mlxpsub runs the script; in the lines around a program, in a job: IN_A_JOB
SESSION, IN_A_JOB = "MLXP_SUB", "in-a-job"
COMMAND = "MLXP_SUB_AT"  # the number of the top-level command that runs
STARTERS = "MLXP_SUB_STARTERS"  # parallel launchers, with their options, that stand-ins were called by

# which start the processes of a parallel job, on nodes that are not there while the script is only read; no scheduler's
_OF_MPI = ("mpirun", "mpiexec", "orterun", "prun", "ibrun", "aprun")

_ANNOUNCE = Path(__file__).with_name("announce.sh")


@cache
def parallel_launchers() -> Mapping[str, tuple[str, ...]]:
    """Commands that start the processes of a parallel program, and the words by which those with others do so."""
    subcommands: dict[str, tuple[str, ...]] = dict.fromkeys(_OF_MPI, ())
    for command, *subcommand in (words for name in SCHEDULERS for words in load_scheduler(name).launchers):
        subcommands[command] = (*subcommands.get(command, ()), *subcommand)
    return subcommands


def instrument(script: JobScript, env: str, variables: Mapping[str, str]) -> str:
    """The script with each of its top-level commands announced, and stand-ins for parallel launchers.

    On the line of the command, so that the numbers of lines stay; ``$?`` stays as well, and what is announced fails
    in a list, which neither ``set -e`` nor a trap takes for a failure. ``env`` is the path of the program. The
    variables are exported once more: a login shell's profile may have set TMPDIR, say, to the user's own.
    """
    exports = "".join(f"export {name}={shlex.quote(value)}; " for name, value in variables.items())
    source = f"mlxp_env={shlex.quote(env)}; . {shlex.quote(str(_ANNOUNCE))}"
    prelude = f"{source}; mlxp_stand_in {' '.join(parallel_launchers())}; {exports}"
    lines = ["" for _ in range(script.offset)] + list(script.lines)
    for number, part in enumerate(script.parts):
        index = part.first + script.offset
        lines[index] = f"{'' if number else prelude}mlxp_at {number} && :; {lines[index]}"
    return "\n".join(lines)

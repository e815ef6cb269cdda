"""Instrument a job script, so that it tells which of its commands runs."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from functools import cache

from mlxp_core.mlxpsub.parse import JobScript
from mlxp_core.scheduler import SCHEDULERS, load_scheduler

# the folder of the session while mlxpsub runs the script; in the lines around a program, in a job: IN_A_JOB
SESSION, IN_A_JOB = "MLXP_SUB", "in-a-job"


COMMAND = "MLXP_SUB_AT"  # the number of the top-level command that runs


STARTERS = "MLXP_SUB_STARTERS"  # parallel launchers, with their options, that stand-ins were called by


# which start the processes of a parallel job, on nodes that are not there while the script is only read; no scheduler's
_OF_MPI = ("mpirun", "mpiexec", "orterun", "prun", "ibrun", "aprun")


_PRELUDE = (
    "mlxp_at() {{ mlxp_was=$?; {command}=$1; export {command}; "
    '{env} -0 >|"${session}/variables.$1" 2>/dev/null; return "$mlxp_was"; }}; {stand_ins} {exports} '
)


@cache
def parallel_launchers() -> Mapping[str, tuple[str, ...]]:
    """Commands that start the processes of a parallel program, and the words by which those with others do so."""
    found: dict[str, tuple[str, ...]] = dict.fromkeys(_OF_MPI, ())
    for command, *subcommand in (words for name in SCHEDULERS for words in load_scheduler(name).launchers):
        found[command] = (*found.get(command, ()), *subcommand)
    return found


def instrument(script: JobScript, env: str, variables: Mapping[str, str]) -> str:
    """The script with each of its top-level commands announced, and stand-ins for parallel launchers.

    On the line of the command, so that the numbers of lines stay; ``$?`` stays as well, and what is announced fails
    in a list, which neither ``set -e`` nor a trap takes for a failure. ``env`` is the path of the program. The
    variables are exported once more: a login shell's profile may have set TMPDIR, say, to the user's own.
    """
    stand_ins = " ".join(f'{name}() {{ "${SESSION}/bin/{name}" "$@"; }};' for name in parallel_launchers())
    exports = " ".join(f"export {name}={shlex.quote(value)};" for name, value in variables.items())
    prelude = _PRELUDE.format(
        command=COMMAND, session=SESSION, env=shlex.quote(env), stand_ins=stand_ins, exports=exports
    )
    lines = ["" for _ in range(script.offset)] + list(script.lines)
    for number, part in reversed(list(enumerate(script.parts))):
        at = part.first + script.offset
        lines[at] = f"mlxp_at {number} && :; {lines[at]}"
        if number == 0:
            lines[at] = prelude + lines[at]
    return "\n".join(lines)

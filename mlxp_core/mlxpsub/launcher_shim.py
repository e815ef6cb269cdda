"""Stand in for ``mpirun``, a scheduler's own launcher and the like while ``mlxpsub`` runs a script.

It starts the command here, once, and without their options: what they would allocate is for the jobs, whose scripts
have them as they are written. Without a command (``mpirun --version``) it is the real one that runs.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys

STARTERS = "MLXP_SUB_STARTERS"
# single letters that are followed by a value in any of them; -np is the one of two letters
_WITH_VALUE = frozenset("AbBcCdDeFGHijJLmMnNopPqrsStTUwWxX")
# whole words that are, where no "=" joins the value to them: those whose value may be the name of a command
_LONG_WITH_VALUE = frozenset(
    "account acctg-freq begin bind-to chdir cluster-constraint clusters comment constraint container cpu-bind "  # noqa: SIM905
    "cpu-freq cpus-per-gpu cpus-per-task dependency distribution epilog error exclude export extra-node-info gpu-bind "
    "gpus gpus-per-node gpus-per-task gres hint host hostfile input job-name jobid licenses machinefile mail-type "
    "mail-user map-by mem mem-bind mem-per-cpu mem-per-gpu mpi network nodelist nodes np ntasks ntasks-per-node output "
    "output-filename partition prefix prolog qos rank-by relative reservation signal task-epilog task-prolog "
    "threads-per-core time time-min wckey wd wdir".split()
)


def command_index(arguments: list[str], path: str) -> int | None:
    """The index of the first word that can be run, where the command begins; None where there is none.

    The value of an option is such a word only if no other is.
    """
    words = [index for index, word in enumerate(arguments) if word[:1] not in {"-", ""}]
    runnable = [index for index in words if shutil.which(arguments[index], path=path)]
    sure = [index for index in runnable if index == 0 or not _takes_value(arguments[index - 1])]
    # `-J test python main.py`, and not `-n python main.py` with a number that is empty here
    return next(iter(sure or runnable), None)


def _takes_value(word: str) -> bool:
    if word[:2] == "--":
        return word[2:] in _LONG_WITH_VALUE
    return word == "-np" or (len(word) == len("-n") and word[0] == "-" and word[1] in _WITH_VALUE)


def main() -> None:
    """Become the command."""
    shims, name, subcommands, *arguments = sys.argv[1:]
    path = os.pathsep.join(entry for entry in os.environ.get("PATH", "").split(os.pathsep) if entry != shims)
    # one that has other subcommands as well is a launcher with these alone
    first = 1 if subcommands else 0
    launches = not subcommands or (arguments[:1] and arguments[0] in subcommands.split(","))
    index = command_index(arguments[first:], path) if launches else None
    if index is None:
        real = shutil.which(name, path=path)
        if real is None:
            sys.exit(f"{name}: not found, and its arguments name no command that could be run here")
        os.environ["PATH"] = path
        os.execv(real, [name, *arguments])  # noqa: S606  (the user's own command)
    index += first
    outer = os.environ.get(STARTERS)
    os.environ[STARTERS] = " ".join(filter(None, [outer, shlex.join([name, *arguments[:index]])]))
    command = arguments[index:]
    program = shutil.which(command[0])  # a stand-in, too
    os.execv(program or command[0], command)  # noqa: S606


if __name__ == "__main__":
    main()

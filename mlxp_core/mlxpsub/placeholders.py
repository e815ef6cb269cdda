"""The variables that a scheduler gives its jobs, as a job script has them while ``mlxpsub`` runs it, where is no job.

Each has a value that does no harm: with nothing in its place, ``rm -rf /scratch/$SLURM_JOB_ID`` would be the end of
all of /scratch, and ``cat $PBS_NODEFILE`` would wait for the keyboard. A number for what is an id, a directory for what
is one, a file that names this machine for a list of nodes, a word for other text, all of them such that what was made
of them is known again; nothing for counts and sizes, which programs take for their default, and 0 for the rank that the
script of a job has itself.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mlxp_core.scheduler.variables import OF_A_JOB, OF_THE_SUBMITTER, WHERE_SUBMITTED

_USED = re.compile(rf"\$\{{?({OF_A_JOB})\b")
_PLACE_USED = re.compile(rf"\$\{{?({'|'.join(WHERE_SUBMITTED)})\b")
_SUBMITTERS_USED = re.compile(rf"\$\{{?({OF_THE_SUBMITTER})\b")
_NAMED = re.compile(rf"\b{OF_A_JOB}\b")  # in arithmetic it needs no $
_COMPUTES = re.compile(r"\$\(|`|\$\{\w+(?:\[[^]]*\])?[:#%/^,]")
_PLAIN = re.compile(rf"\$(?:({OF_A_JOB})\b|\{{({OF_A_JOB})\}})")  # without a default

_RANK = re.compile(r"\w+_(?:PROCID|LOCALID|NODEID|V?NODENUM|TASKNUM)")
_COUNT = re.compile(
    r"NSLOTS|\w+_(?:(?:N(?:TASKS|PROCS|NODES|CPUS|GPUS|P)|NUM|CPUS|GPUS|MEM|TASKS|THREADS|CORES)(?:_\w+)?"
    r"|\w*(?:COUNT|MAX|MIN|STEP|STEPSIZE|FIRST|LAST|TIME|WALLTIME|SECONDS|SIZE|PORT|NUMPROC|PROCESSORS))"
)
_ID = re.compile(r"\w*(?:ID|INDEX|IDX|NUM)")
_DIRECTORY = re.compile(r"\w+(?:TMP|TMPDIR|SCRATCH|DIR|DIRECTORY)")
_FILE = re.compile(r"\w+FILE\w*")
_ALSO_USUAL = {  # by how the scheduler's names begin; Grid Engine's is JOB_ID
    "SLURM": ("SLURM_JOBID", "SLURM_ARRAY_JOB_ID", "SLURM_TMPDIR"),
    "OAR": ("OAR_JOBID", "OAR_ARRAY_ID", "OAR_NODEFILE", "OAR_NODE_FILE"),
    "PBS": ("PBS_NODEFILE", "PBS_JOBDIR"),
    "JOB": ("PE_HOSTFILE",),
    "LSB": ("LSB_DJOB_HOSTFILE",),
}
# beyond the ids of any scheduler, so that no job has it, and few enough digits for what calculates with it
_FIRST_ID = 794_000_000_001


@dataclass(frozen=True)
class Placeholders:
    """The variables of a job that are used in a script, with their values while there is none."""

    values: Mapping[str, str]

    @classmethod
    def for_script(cls, lines: Iterable[str], usual: Iterable[str], folder: Path) -> Placeholders:
        """Those used in these lines and the ``usual`` ones, which other files that the script runs may use.

        But for what is set here. Directories and files for them lie in ``folder``, if made.
        """
        names = sorted(name for name in {*_USED.findall(_code(lines)), *usual} if name not in os.environ)
        return cls({name: _value(name, at, folder) for at, name in enumerate(names)})

    def make(self) -> None:
        """Make the directories and files."""
        for name, value in self.values.items():
            if _kind(name) is _DIRECTORY:
                Path(value).mkdir(parents=True)
            elif _kind(name) is _FILE:
                Path(value).parent.mkdir(parents=True, exist_ok=True)
                Path(value).write_text(f"{platform.node()}\n", encoding="utf-8")

    @property
    def untraceable(self) -> list[str]:
        """Names of those whose values are not known again."""
        return [name for name, value in self.values.items() if len(value) <= 1]

    def find_in(self, text: str) -> str:
        """The name of a variable whose value is in this text, by which it can be told; "" where there is none."""
        return next((name for name, value in self.values.items() if len(value) > 1 and value in text), "")

    def restore_names(self, text: str) -> str:
        """The text with ``$NAME`` in the place of values."""
        for name, value in self.values.items():
            if len(value) > 1:
                text = text.replace(value, f"${name}")
        return text

    def expand(self, word: str) -> str:
        """A word of a script with the values that these variables have here."""
        return _PLAIN.sub(lambda one: self.values.get(one[1] or one[2], ""), word)

    def strip_from(self, variables: Mapping[str, str], session: str) -> dict[str, str]:
        """Exported variables without these, and without what the script has made of them.

        Of PATH only such entries go, and with them ``session``, mlxpsub's own.
        """
        kept = {}
        for name, value in variables.items():
            if name == "PATH":
                entries = [entry for entry in value.split(os.pathsep) if entry != session and not self.find_in(entry)]
                kept[name] = os.pathsep.join(entries)
            elif self.values.get(name) != value and not self.find_in(value):
                kept[name] = value
        return kept


def common_variables(job_variable: str, array_index: str) -> list[str]:
    """The names of those that a script, and what it runs, may count on: ids, and where files of a job are.

    No counts and lists, by which programs see that they are in a job. ``job_variable`` and ``array_index`` are those
    of the scheduler.
    """
    names = [job_variable, *re.findall(r"\$\{?(\w+)", array_index)]
    kind = job_variable.partition("_")[0]
    return list(filter(None, [*names, *_ALSO_USUAL.get(kind, ())]))


def has_expansion_operator(word: str) -> bool:
    """Whether a word is more than a value put together: what is computed of a value is not known by it."""
    return _COMPUTES.search(word) is not None


def computations(text: str) -> list[str]:
    """The pieces of a text that compute: $(…), $((…)), `…`, and ${…} with an operator; each as it stands."""
    found = [*re.findall(r"`[^`]*`", text), *re.findall(r"\$\{\w+(?:\[[^]]*\])?[:#%/^,][^}]*\}", text)]
    for start in (match.start() for match in re.finditer(r"\$\(", text)):
        depth = 0
        for at in range(start + 1, len(text)):
            depth += {"(": 1, ")": -1}.get(text[at], 0)
            if not depth:
                found.append(text[start : at + 1])
                break
    return found


def job_variables(text: str) -> list[str]:
    """The names of the variables of a job in a text, in whatever form."""
    return _NAMED.findall(text) if has_expansion_operator(text) else _USED.findall(text)


def first_plain(word: str) -> str:
    """The name of the first variable of a job in a word, without a default; "" where there is none."""
    found = _PLAIN.search(word)
    return (found[1] or found[2]) if found else ""


def place_variables(lines: Iterable[str]) -> list[str]:
    """The names of the variables in these lines that say where the script was submitted."""
    return sorted(set(_PLACE_USED.findall(_code(lines))))


def of_the_submitter(lines: Iterable[str]) -> dict[str, str]:
    """What a job would be told of the environment of its submission, which is known here."""
    known = {**os.environ, "HOST": platform.node()}
    return {name: known.get(what, "") for name, what in set(_SUBMITTERS_USED.findall(_code(lines)))}


def _code(lines: Iterable[str]) -> str:
    return "\n".join(line for line in lines if not line.lstrip().startswith("#"))


def _kind(name: str) -> re.Pattern[str] | None:
    return next((kind for kind in (_RANK, _COUNT, _ID, _DIRECTORY, _FILE) if kind.fullmatch(name)), None)


def _value(name: str, at: int, folder: Path) -> str:
    kind = _kind(name)
    if kind is _RANK:
        return "0"
    if kind is _COUNT:
        return ""
    if kind is _ID:
        return str(_FIRST_ID + at)
    return str(folder / name) if kind in (_DIRECTORY, _FILE) else f"of_a_job_{name}"

"""Stand in for the variables that a scheduler gives its jobs, while ``mlxpsub`` runs a job script where there is none.

Each has a value that does no harm: with nothing in its place, ``rm -rf /scratch/$SLURM_JOB_ID`` would be the end of
all of /scratch, and ``cat $PBS_NODEFILE`` would wait for the keyboard; with the value that it has here, ``rm -rf
$TMPDIR/*`` would remove the user's own files. What a variable holds decides (see Kind): a number that no job has, a
directory or a file that is made for it, a word for other text, all of them such that what was made of them is known
again; nothing for counts and sizes, which programs take for their default, and 0 for a rank.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mlxp_core.scheduler.base import Kind
from mlxp_core.scheduler.variables import (
    common_job_variables,
    is_distinctive,
    is_of_a_job,
    job_variable_kind,
    submit_dir_variables,
    submitter_values,
)

_USED = re.compile(r"\$\{?([A-Za-z_]\w*)")
_NAMED = re.compile(r"\b[A-Za-z_]\w*")  # in arithmetic it needs no $
_COMPUTES = re.compile(r"\$\(|`|\$\{\w+(?:\[[^]]*\])?[:#%/^,]")
_PLAIN = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)\})")  # without a default

# beyond the ids of any scheduler, so that no job has it, and few enough digits for what calculates with it
_FIRST_ID = 794_000_000_001
# by which a script names what it removes: in a job in which mlxpsub itself runs, they lead to the files of that one
_REMOVED_BY = frozenset({Kind.ID, Kind.NUMBER, Kind.DIRECTORY, Kind.HOSTFILE, Kind.FILE})


@dataclass(frozen=True)
class Placeholders:
    """The variables of a job that a script may use, with their values while there is none."""

    values: Mapping[str, str]
    scheduler: str  # that the script is for
    shadowed: Mapping[str, str]  # those of them that are set here, with their values here

    @classmethod
    def for_script(cls, lines: Iterable[str], scheduler: str, folder: Path) -> Placeholders:
        """Those used in these lines, and the common ones, which other files that the script runs may use.

        Directories and files for them lie in ``folder``, if made. What is set here stays where a scheduler's own name
        tells that it is of a job in which mlxpsub runs, and where it harms nothing: counts, and lists of hosts.
        """
        used = {name for name in _USED.findall(_code(lines)) if is_of_a_job(name, scheduler)}
        names = sorted(
            name
            for name in {*used, *common_job_variables(scheduler)}
            if name not in os.environ or _is_replaced(name, scheduler)
        )
        values = {name: _value(name, scheduler, number, folder) for number, name in enumerate(names)}
        return cls(values, scheduler, {name: os.environ[name] for name in names if name in os.environ})

    def make(self) -> None:
        """Make the directories and files."""
        for name, value in self.values.items():
            kind = job_variable_kind(name, self.scheduler)
            if kind is Kind.DIRECTORY:
                Path(value).mkdir(parents=True)
            elif kind in {Kind.HOSTFILE, Kind.FILE}:
                Path(value).parent.mkdir(parents=True)
                Path(value).write_text(f"{platform.node()}\n" if kind is Kind.HOSTFILE else "", encoding="utf-8")

    def restore(self, environment: Mapping[str, str]) -> dict[str, str]:
        """The values here of those variables that still have their placeholder in an environment."""
        return {name: value for name, value in self.shadowed.items() if environment.get(name) == self.values[name]}

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

        def value(match: re.Match[str]) -> str:
            name = match[1] or match[2]
            return self.values.get(name, "") if is_of_a_job(name, self.scheduler) else match[0]

        return _PLAIN.sub(value, word)

    def job_variables(self, text: str) -> list[str]:
        """The names of the variables of a job in a text, in whatever form."""
        names = (_NAMED if has_expansion_operator(text) else _USED).findall(text)
        return [name for name in names if is_of_a_job(name, self.scheduler)]

    def first_plain(self, word: str) -> str:
        """The name of the first variable of a job in a word, without a default; "" where there is none."""
        names = (plain or braced for plain, braced in _PLAIN.findall(word))
        return next((name for name in names if is_of_a_job(name, self.scheduler)), "")

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


def has_expansion_operator(word: str) -> bool:
    """Tell a word that is more than a value put together: what is computed of a value is not known by it."""
    return _COMPUTES.search(word) is not None


def computations(text: str) -> list[str]:
    """The pieces of a text that compute: $(…), $((…)), `…`, and ${…} with an operator; each as it stands."""
    pieces = [*re.findall(r"`[^`]*`", text), *re.findall(r"\$\{\w+(?:\[[^]]*\])?[:#%/^,][^}]*\}", text)]
    for start in (match.start() for match in re.finditer(r"\$\(", text)):
        depth = 0
        for position in range(start + 1, len(text)):
            depth += {"(": 1, ")": -1}.get(text[position], 0)
            if not depth:
                pieces.append(text[start : position + 1])
                break
    return pieces


def used_names(text: str) -> list[str]:
    """The names of all variables in a text, in whatever form but arithmetic."""
    return _USED.findall(text)


def place_variables(lines: Iterable[str]) -> list[str]:
    """The names of the variables in these lines that say where the script was submitted."""
    return sorted(submit_dir_variables().intersection(_USED.findall(_code(lines))))


def of_the_submitter(lines: Iterable[str]) -> dict[str, str]:
    """The variables in these lines that tell a job of its submission's environment, which is known here."""
    known = submitter_values()
    return {name: known[name] for name in set(_USED.findall(_code(lines))) if name in known}


def _code(lines: Iterable[str]) -> str:
    return "\n".join(line for line in lines if not line.lstrip().startswith("#"))


def _is_replaced(name: str, scheduler: str) -> bool:
    """Tell whether a variable that is set here has a placeholder all the same."""
    # what the scheduler overwrites says nothing of the job
    return not is_distinctive(name) or job_variable_kind(name, scheduler) in _REMOVED_BY


def _value(name: str, scheduler: str, number: int, folder: Path) -> str:
    kind = job_variable_kind(name, scheduler)
    if kind is Kind.RANK:
        return "0"
    if kind is Kind.COUNT:
        return ""
    if kind in {Kind.ID, Kind.NUMBER}:
        return str(_FIRST_ID + number)
    if kind is Kind.DIRECTORY:
        return str(folder / name)
    # a directory of its own: a script may remove that
    return str(folder / f"{name}.d" / name) if kind in {Kind.HOSTFILE, Kind.FILE} else f"of_a_job_{name}"

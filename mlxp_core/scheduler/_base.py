"""What a scheduler is: one frozen value. Text in, text out; no process is run here."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from mlxp_core.layout import Status


@dataclass(frozen=True)
class Option:
    """A directive that the pack sets unless the user's header has it."""

    sets: str  # what: name, stdout, stderr, …
    text: str  # with {} for the value
    yields_to: tuple[str, ...]  # the user's spellings of the same option, or of one that decides it as well


@dataclass(frozen=True)
class NativeJob:
    """One line of a status command's answer."""

    job_id: str  # the array's id for a task of an array
    index: int | None  # of the task in its array
    state: str  # the scheduler's word
    reason: str = ""
    script: str = ""  # path of the submitted script, where the scheduler tells


@dataclass(frozen=True)
class Scheduler:
    """How one scheduler is spoken to. Its resources are never modelled: the user's lines go through as they are."""

    name: str
    directive: str  # what a directive line starts with
    options: tuple[Option, ...]  # for any job: name, output, error
    array: Option | None  # None: no arrays
    throttle: str  # appended to the array option when max_parallel is given, with {} for it
    array_index: str  # the environment variable that tells a task its index, from 1
    submit: tuple[str, ...]  # the script's path is appended
    job_id: re.Pattern[str]  # finds the group `id` in the answer
    status: Callable[[str], tuple[str, ...]]  # of a user's jobs, ended ones too as far as they are remembered
    read_status: Callable[[str], list[NativeJob]]
    states: Mapping[str, Status]
    cancel: tuple[str, ...]
    quote_path: Callable[[str, str], str]  # a path, and a pattern that follows it, as the value of an output option
    index_pattern: str  # stands for the index in such a pattern
    whole_file: bool  # directives count anywhere in the script, not only before its first command
    ask_every: float = 10.0  # seconds between two questions to it
    submit_environment: Mapping[str, str] = field(default_factory=dict)  # set for the submit command
    job_variable: str = ""  # the environment variable that tells a job its id
    requeue_asked: re.Pattern[str] | None = None  # what the user's directives say where a job may start again
    requeue: str = ""  # shell words with which a job has itself started again; script.sh runs them at its end

    def status_of(self, native: str) -> Status | None:
        """What a native state means; None for one that this table has not heard of."""
        return self.states.get(native)


def find(pattern: str) -> re.Pattern[str]:
    """A pattern that is looked for line by line; it names the group ``id``."""
    return re.compile(pattern, re.MULTILINE)


def quote_path(path: str, pattern: str) -> str:
    """A path, and a pattern behind it, where ``%`` starts a pattern and double quotes keep spaces, as in Slurm."""
    return '"' + path.replace("%", "%%").replace("\\", "\\\\").replace('"', '\\"') + pattern + '"'


def has_option(directives: str, spellings: tuple[str, ...]) -> bool:
    """Whether directive lines (without their prefix) set an option under one of its spellings.

    A short option may have its value attached (``-Jname``), a long one follows it with ``=`` or a space.
    """
    for spelling in spellings:
        after = r"(?=[=\s]|$)" if spelling.startswith("--") else ""
        if re.search(rf"(?:^|\s){re.escape(spelling)}{after}", directives, re.MULTILINE):
            return True
    return False

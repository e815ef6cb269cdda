"""What a scheduler is: one frozen value. Text in, text out; no process is run here."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from xml.etree import ElementTree as ET

from mlxp_core.statuses import Status


@dataclass(frozen=True)
class Option:
    """A directive that the pack sets unless the user's header has it."""

    sets: str  # what: name, stdout, stderr, …
    text: str  # with {name}, {stdout}, {count}, … for the values
    yields_to: tuple[str, ...]  # the user's spellings of the same option, or of one that decides it as well


@dataclass(frozen=True)
class NativeJob:
    """One job, or task of an array, in the answer to a status command."""

    job_id: str  # the array's id for a task of an array
    index: int | None  # of the task in its array
    state: str  # the scheduler's word
    reason: str = ""
    script: str = ""  # path of the submitted script, where the scheduler tells
    name: str = ""  # where the scheduler tells; it may be cut
    own_id: str = ""  # of a task, or of a job that was started again, where it has one of its own


@dataclass(frozen=True)
class QueueQuery:
    """What is to be known of a queue."""

    user: str
    ids: tuple[str, ...] = ()  # of the jobs and arrays concerned; none: all of the user's
    since: datetime | None = None  # none of them was submitted earlier


Command = tuple[str, ...]


@dataclass(frozen=True)
class StatusQuery:
    """A status command, and the pure function that reads its answer.

    ``read`` raises ValueError for text that is no such answer. ``codes`` are the exit codes of an answer that counts:
    some commands end with an error where one of several jobs is not known any more.
    """

    command: Callable[[QueueQuery], Command]
    read: Callable[[str], list[NativeJob]]
    codes: frozenset[int] = frozenset({0})
    nothing: re.Pattern[str] | None = None  # a failure that says that there are no such records, not now or not ever
    no_answer: re.Pattern[str] | None = None  # on stderr, of a failure that the exit code does not tell


@dataclass(frozen=True)
class ArrayLimit:
    """The largest array that a site takes."""

    at_least: int  # that many are never too many, so that most submissions need not ask
    command: Command | None = None  # None: it cannot be asked
    pattern: re.Pattern[str] | None = None  # finds the group ``n`` in the answer
    above: int = 0  # the array may have n - above tasks


@dataclass(frozen=True)
class Scheduler:
    """How one scheduler is spoken to. Its resources are never modelled: the user's lines go through as they are."""

    name: str
    directive: str  # what a directive line starts with
    options: tuple[Option, ...]  # for any job: name, output, error
    submit: Command  # the script's path is appended
    job_id: re.Pattern[str]  # finds the group `id` in the answer
    status: StatusQuery
    states: Mapping[str, Status]  # by the scheduler's word, or by "word reason" where the reason tells
    cancel: Callable[[Sequence[tuple[str, int | None]]], Command]  # of (job id, index in its array)
    quote_path: Callable[[str, str], str | None]  # path and pattern as the value of an output option; None: cannot be
    job_variable: str  # the environment variable that tells a job its id
    cancel_codes: frozenset[int] = frozenset({0})  # exit codes of a success

    other_prefixes: tuple[str, ...] = ()  # directives of others that it obeys, and which count as its own
    directives_anywhere: bool = False  # directives count anywhere in the script, not only before its first command
    attached_values: bool = True  # a short option may have its value attached: -Jname
    joins_streams: re.Pattern[str] | None = None  # directives by which stderr goes where stdout goes
    name_limit: int = 60  # characters of a job's name
    plain_paths: bool = False  # only letters, digits and _ . / - in the path of a script
    script_on_stdin: bool = False
    submit_environment: Mapping[str, str] = field(default_factory=dict)  # set for the submit command

    array: Option | None = None  # None: no arrays
    array_on_command_line: bool = False  # the array option is an argument of the submit command, not a directive
    min_array_size: int = 1  # tasks
    array_index: str = ""  # shell words that give a task its index, from 1
    throttle: str | None = None  # {throttle} of the array option, with {} for the number; None: there is no throttle
    index_pattern: str = ""  # stands for the index in the pattern of an output path
    limit: ArrayLimit | None = None
    array_too_large: re.Pattern[str] | None = None  # a refusal because an array is too large, or because there are none

    busy: re.Pattern[str] | None = None  # a refusal that passes by itself: a limit is reached, the server is away
    unclear: re.Pattern[str] | None = None  # an answer that leaves open whether the job was taken
    unclear_codes: frozenset[int] = frozenset()  # exit codes that do so

    reports_script: bool = True  # in its answers; else a job is found again by its name alone

    history: StatusQuery | None = None  # for the jobs that the queue does not show any more
    min_query_interval: float = 10.0  # seconds between two questions to it from one host

    per_host: bool = False  # its queue is one machine's own, and cannot be asked from another
    held_states: frozenset[str] = frozenset()  # words for a job that will not run, and stays until it is cancelled

    requeue_directive: re.Pattern[str] | None = None  # the user's directives ask for another start
    requeue: str = ""  # shell words that end a job so that it starts again

    def status_of(self, native: NativeJob) -> Status | None:
        """What a native state means; None for one that this table has not heard of."""
        with_reason = self.states.get(f"{native.state} {native.reason}")
        return self.states.get(native.state) if with_reason is None else with_reason


def line_pattern(pattern: str) -> re.Pattern[str]:
    """A pattern that is looked for line by line."""
    return re.compile(pattern, re.MULTILINE)


def any_of(*patterns: str) -> re.Pattern[str]:
    """A pattern for any of some words in an answer, whatever their case."""
    return re.compile("|".join(patterns), re.IGNORECASE)


def read_xml(answer: str, root: str) -> ET.Element:
    """The root of an answer in XML; ValueError where it has another root, or is no XML."""
    try:
        # S314: the answer of the user's own scheduler, and expat refuses entities that grow
        found = ET.fromstring(answer)  # noqa: S314
    except ET.ParseError as error:  # which is a SyntaxError
        raise ValueError(f"no XML: {error}") from error
    if found.tag != root:
        raise ValueError(f"<{found.tag}>, and not <{root}>")
    return found


def read_lines(answer: str) -> list[NativeJob]:
    """Lines ``id|index|state|reason|script``; the path of a script, of any of the user's jobs, may have line ends."""
    jobs: list[NativeJob] = []
    for line in answer.removesuffix("\n").split("\n") if answer else ():
        found = re.match(r"(\d+)\|([^|]*)\|(\w+)\|([^|]*)\|(.*)", line)
        if found is not None:
            job_id, index, state, reason, script = found.groups()
            jobs.append(NativeJob(job_id, int(index) if index.isdigit() else None, state, reason, script))
        elif jobs:
            jobs[-1] = replace(jobs[-1], script=f"{jobs[-1].script}\n{line}")
        else:
            raise ValueError(line)
    return jobs


def quote_path(path: str, pattern: str) -> str:
    """A path, and a pattern behind it, where ``%`` starts a pattern and double quotes keep spaces, as in Slurm."""
    return '"' + path.replace("%", "%%").replace("\\", "\\\\").replace('"', '\\"') + pattern + '"'


def plain_path(path: str, pattern: str, *, also: str = "") -> str | None:
    """A path as it is, where it holds nothing that would have to be quoted; else None."""
    return path + pattern if re.fullmatch(rf"[A-Za-z0-9_./+{also}-]+", path) else None


def has_option(directives: str, spellings: tuple[str, ...], *, attached: bool = True) -> bool:
    """Whether directive lines (without their prefix) set an option under one of its spellings.

    A short option may have its value attached (``-Jname``) where the scheduler allows it, a long one follows it
    with ``=`` or a space.
    """
    for spelling in spellings:
        after = r"(?=[=\s]|$)" if spelling.startswith("--") or not attached else ""
        if re.search(rf"(?:^|\s){re.escape(spelling)}{after}", directives, re.MULTILINE):
            return True
    return False

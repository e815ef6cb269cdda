"""Define what a scheduler is: one frozen value, ``Scheduler``, in one file of ``dialects/``.

To add a scheduler, write ``dialects/NAME.py`` with a ``Scheduler`` called ``NAME``, put its name into ``SCHEDULERS``,
and record its answers in ``tests/recorded/NAME.yaml``. Nothing else in the product knows it: whoever needs a fact of a
scheduler reads it from the fields below, which are grouped by who does. Those without a default have to be given.

Text in, text out: ``client`` runs the commands, ``submit`` decides what an unclear answer means, ``query_cache`` keeps
answers, ``variables`` looks names up across all schedulers. A scheduler's resources are not modelled: the user's
directives go through as they are.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING

from mlxp_core.statuses import Status

if TYPE_CHECKING:
    from xml.etree import ElementTree as ET

Command = tuple[str, ...]
Task = tuple[str, int | None]  # id of a job, and index in its array; None: all of it, or no array


@dataclass(frozen=True)
class Pattern:
    """A regular expression that is compiled when it is first needed: a job loads every scheduler, and asks few."""

    text: str
    flags: int = 0

    def search(self, text: str) -> re.Match[str] | None:
        """Find it in a text."""
        return re.compile(self.text, self.flags).search(text)


def line_pattern(pattern: str) -> Pattern:
    """A pattern that is looked for line by line."""
    return Pattern(pattern, re.MULTILINE)


def any_of(*patterns: str) -> Pattern:
    """A pattern for any of some words in an answer, whatever their case."""
    return Pattern("|".join(patterns), re.IGNORECASE)


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
    """A question about a queue."""

    user: str
    ids: tuple[str, ...] = ()  # of the jobs and arrays concerned; none: all of the user's
    since: datetime | None = None  # none of them was submitted earlier


@dataclass(frozen=True)
class StatusQuery:
    """A status command, and the pure function that reads its answer.

    ``read`` raises ValueError for text that is no such answer. ``codes`` are the exit codes of an answer that counts:
    some commands end with an error where one of several jobs is not known any more.
    """

    command: Callable[[QueueQuery], Command]
    read: Callable[[str], list[NativeJob]]
    codes: frozenset[int] = frozenset({0})
    nothing: Pattern | None = None  # a failure that says that there are no such records, not now or not ever
    no_answer: Pattern | None = None  # on stderr, of a failure that the exit code does not tell


@dataclass(frozen=True)
class ArrayLimit:
    """The largest array that a site takes."""

    at_least: int  # that many are never too many, so that most submissions need not ask
    command: Command  # asks for the site's own
    pattern: Pattern  # finds the group ``n`` in the answer
    above: int = 0  # the array may have n - above tasks


@dataclass(frozen=True)
class Probe:
    """A command that tells a scheduler from another one whose scripts have the same directives."""

    command: Command
    pattern: Pattern  # in its answer, where it is this one


class Kind(enum.Enum):
    """What a job's variable holds: by it ``mlxpsub`` has a harmless value for it where there is no job."""

    ID = "id"  # of the job, its array or the task in it; exported to all that a script runs
    NUMBER = "number"  # which is no count: a process id, say
    RANK = "rank"  # of a process, node or task among several: 0 in the script of a job
    COUNT = "count"  # also sizes, limits and times: programs take their default for nothing
    DIRECTORY = "directory"  # which the job may fill and remove; exported as the ids are
    HOSTFILE = "hostfile"  # a file that names machines; exported as the ids are
    FILE = "file"  # any other
    TEXT = "text"


Variables = Mapping[Kind, tuple[str, ...]]

_OUT_OF_MEMORY = any_of(r"exceeded \S* ?memory limit", r"oom[-_ ]kill", "out of memory")


@dataclass(frozen=True, kw_only=True)
class Scheduler:
    """All that is particular to one scheduler."""

    # -- its name, and its scripts: jobs/template.py, jobs/directives.py, mlxpsub/scheduler_detection.py
    name: str  # hydra/launcher=mlxp_NAME
    directive: str  # what a directive line starts with
    other_spellings: tuple[str, ...] = ()  # of the same; a script has one of them throughout
    other_prefixes: tuple[str, ...] = ()  # directives of other schedulers that it obeys, and which count as its own
    directives_anywhere: bool = False  # directives count anywhere in the script, not only before its first command
    attached_values: bool = True  # a short option may have its value attached: -Jname
    joins_streams: Pattern | None = None  # directives by which stderr goes where stdout goes
    options: tuple[Option, ...]  # that the pack sets for any job: name, output, error
    name_limit: int = 60  # characters of a job's name
    quote_path: Callable[[str, str], str | None]  # path and pattern as the value of an output option; None: cannot be
    plain_paths: bool = False  # only letters, digits and _ . / - in the path of a script
    requeue_directive: Pattern | None = None  # the user's directives ask for another start
    requeue: str = ""  # shell words that end a job so that it starts again
    probe: Probe | None = None  # None: it is this one unless the probe of another with the same directive answers
    launchers: tuple[tuple[str, ...], ...] = ()  # commands that start the processes of a parallel program in a job

    # -- its submit command: submit.py, client.py
    submit: Command  # the script's path is appended
    script_on_stdin: bool = False
    submit_environment: Mapping[str, str] = field(default_factory=dict)  # set for the submit command
    job_id: Pattern  # finds the group `id` in the answer
    busy: Pattern | None = None  # a refusal that passes by itself: a limit is reached, the server is away
    unclear: Pattern | None = None  # an answer that leaves open whether the job was taken
    unclear_codes: frozenset[int] = frozenset()  # exit codes that do so

    # -- its arrays: jobs/submit.py, jobs/array_script.py
    array: Option | None = None  # None: no arrays
    array_on_command_line: bool = False  # the array option is an argument of the submit command, not a directive
    array_index: str = ""  # shell words that give a task its index, from 1
    min_array_size: int = 1  # tasks
    throttle: str | None = None  # {throttle} of the array option, with {} for the number; None: there is no throttle
    index_pattern: str = ""  # stands for the index in the pattern of an output path
    # what becomes of a path with that pattern: {index} of the task, {own_id} the id that it has for itself
    task_output: str = "{index}.out"
    limit: ArrayLimit | None = None
    array_too_large: Pattern | None = None  # a refusal because an array is too large, or because there are none

    # -- its ids: runs/submission_record.py, jobs/reconcile.py, jobs/cancel.py
    id_pattern: str = r"[0-9]+"  # a whole id, as ``job_id`` gives it. Ids go into commands: let it allow no more
    task_id: str = "{id}_{index}"  # a task of an array, as the scheduler's commands take it
    cancel: Command  # ids of jobs and tasks are appended
    cancel_arguments: Callable[[Sequence[Task]], Command] | None = None  # instead of the ids
    cancel_codes: frozenset[int] = frozenset({0})  # exit codes of a success

    # -- its queue: query_cache.py, jobs/refresh.py, runs/state.py
    status: StatusQuery
    history: StatusQuery | None = None  # for the jobs that the queue does not show any more
    states: Mapping[str, Status]  # by the scheduler's word, or by "word reason" where the reason tells
    held_states: frozenset[str] = frozenset()  # words for a job that will not run, and stays until it is cancelled
    reason_words: Mapping[str, str] = field(default_factory=dict)  # by its reasons in lower case; "": not worth saying
    # what is printed into a job's output, by the scheduler or the kernel, where memory was what ended it
    out_of_memory: Pattern = _OUT_OF_MEMORY
    reports_script: bool = True  # in its answers; else a job is found again by its name alone
    min_query_interval: float = 10.0  # seconds between two questions to it from one host
    per_host: bool = False  # its queue is one machine's own, and cannot be asked from another

    # -- its environment variables: variables.py, and by it mlxpsub, the sweeps and environment.yaml
    job_variable: str  # that tells a job its id; it ends in JOBID or _ID (see recording/environment.py)
    read_job_id: Callable[[str], str] = str  # the id that ``job_id`` gave, of what the variable holds
    job_variables: Variables  # that its manual promises to a job, by what they hold
    # whole names that nobody else uses: a job's in the script of any scheduler, also where they are not listed. What is
    # listed and not of this pattern (TMPDIR, QUEUE) is a job's only in a script of this scheduler
    job_variable_pattern: str
    submit_dir_variables: tuple[str, ...] = ()  # hold the directory of the submission
    submitter_variables: Mapping[str, str] = field(default_factory=dict)  # hold what another held at the submission
    # tell its commands which cluster to speak to, or what to do: never a job's, even where the pattern has them
    client_variables: tuple[str, ...] = ()
    placement_variables: tuple[str, ...] = ()  # where and as what a run was placed: recorded in environment.yaml

    @property
    def directives(self) -> tuple[str, ...]:
        """All that a directive line may start with."""
        return (self.directive, *self.other_spellings, *self.other_prefixes)

    def directive_like(self, header: Sequence[str]) -> str:
        """The start of a directive line, as the user's header spells it."""
        spellings = (self.directive, *self.other_spellings)
        return next((known for line in header for known in spellings if line.startswith(known)), self.directive)

    def status_of(self, native: NativeJob) -> Status | None:
        """The status that a native state means; None for one that this table has not heard of."""
        with_reason = self.states.get(f"{native.state} {native.reason}")
        return self.states.get(native.state) if with_reason is None else with_reason

    def in_words(self, reason: str) -> str:
        """A reason in words for people; empty for one that is not worth saying."""
        return self.reason_words.get(reason.lower(), reason)

    def is_job_id(self, text: str) -> bool:
        """Tell a job's id from anything else."""
        return re.fullmatch(self.id_pattern, text) is not None

    def find_job_id(self, variable: str) -> str | None:
        """The id of a job, or of its array, in what its variable holds; None where that is none."""
        try:
            job_id = self.read_job_id(variable)
        except ValueError:
            return None
        return job_id if self.is_job_id(job_id) else None

    def task(self, job_id: str, index: int | None) -> str:
        """A job, or a task of an array, as the scheduler's commands take it."""
        return job_id if index is None else self.task_id.format(id=job_id.removesuffix("[]"), index=index)

    def cancel_command(self, jobs: Sequence[Task]) -> Command:
        """The command that cancels jobs, and tasks of arrays."""
        if self.cancel_arguments is not None:
            return (*self.cancel, *self.cancel_arguments(jobs))
        return (*self.cancel, *(self.task(job_id, index) for job_id, index in jobs))


def words(text: str) -> tuple[str, ...]:
    """The words of a text: names of variables, one beside the other."""
    return tuple(text.split())


def merged(*tables: Variables) -> Variables:
    """Several tables of variables in one: a scheduler that runs jobs by way of another's."""
    return {kind: tuple(name for table in tables for name in table.get(kind, ())) for kind in Kind}


def read_xml(answer: str, root: str) -> ET.Element:
    """The root of an answer in XML; ValueError where it has another root, or is no XML."""
    from xml.etree import ElementTree as ET  # noqa: PLC0415  (few schedulers need it)

    try:
        # S314: the answer of the user's own scheduler, and expat refuses entities that grow
        element = ET.fromstring(answer)  # noqa: S314
    except ET.ParseError as error:  # which is a SyntaxError
        raise ValueError(f"no XML: {error}") from error
    if element.tag != root:
        raise ValueError(f"<{element.tag}>, and not <{root}>")
    return element


def read_lines(answer: str) -> list[NativeJob]:
    """Lines ``id|index|state|reason|script``; the path of a script, of any of the user's jobs, may have line ends."""
    jobs: list[NativeJob] = []
    for line in answer.removesuffix("\n").split("\n") if answer else ():
        fields = re.match(r"(\d+)\|([^|]*)\|(\w+)\|([^|]*)\|(.*)", line)
        if fields is not None:
            job_id, index, state, reason, script = fields.groups()
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
    """Tell whether directive lines (without their prefix) set an option under one of its spellings.

    A short option may have its value attached (``-Jname``) where the scheduler allows it, a long one follows it
    with ``=`` or a space.
    """
    for spelling in spellings:
        after = r"(?=[=\s]|$)" if spelling.startswith("--") or not attached else ""
        if re.search(rf"(?:^|\s){re.escape(spelling)}{after}", directives, re.MULTILINE):
            return True
    return False

"""Parse a job script into its top-level commands."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mlxp_core.jobs.shell_words import is_continued, simple_commands
from mlxp_core.jobs.template import take_directives
from mlxp_core.scheduler.base import Scheduler

_PIPE_STATUS = re.compile(r"\bpipestatus\b", re.IGNORECASE)  # bash's, and zsh's


Change = tuple[str | None, str | None]  # of a variable: its value before and after; None: not set


@dataclass(frozen=True)
class TopLevelCommand:
    """One top-level command: its lines, from ``first`` up to and without ``end``; with the comments before it."""

    begins: int  # where its comments do
    first: int
    end: int


@dataclass(frozen=True)
class JobScript:
    """A job script, cut into its top-level commands."""

    shebang: str
    header: tuple[str, ...]  # the scheduler's directives
    ignored: tuple[str, ...]  # directives where it does not read any
    lines: tuple[str, ...]  # but for the shebang
    offset: int  # of the first of them in the file: 1 with a shebang
    directives: frozenset[int]  # which of them are
    parts: tuple[TopLevelCommand, ...]

    def text(self, part: TopLevelCommand, *, comments: bool = True) -> list[str]:
        """The lines of a part without directives, which are in the header of a job."""
        lines = range(part.begins if comments else part.first, part.end)
        return [self.lines[index] for index in lines if index not in self.directives]

    def line_number(self, number: int) -> int:
        """The number of a part's first line in the file, from 1."""
        return self.parts[number].first + self.offset + 1


@dataclass(frozen=True)
class ProgramStart:
    """A program that came up while the script ran: in which command, as what, and with what."""

    number: int  # of the part
    head: tuple[str, ...]  # as what it was started, up to its own arguments: python, -u, main.py
    arguments: tuple[str, ...]
    directory: str
    changes: Mapping[str, Change]  # exported variables that the command has set before it
    made_of_a_job: tuple[str, ...]  # names of others, that it has set to what is made of what only a job has
    starters: tuple[str, ...]  # srun, -n, 2
    others: Mapping[int, Mapping[str, Change]]  # parts in which programs have come up, and what these have changed


def parse_script(text: str, scheduler: Scheduler, is_complete: Callable[[str], bool], *, source: str) -> JobScript:
    """Cut a job script; ``is_complete`` asks its shell whether a text is one, or more of a command has to come.

    Raises ConfigurationError for a script that is another scheduler's, or no shell's.
    """
    native = take_directives(text, scheduler, source=source)
    parts: list[TopLevelCommand] = []
    begins, first = 0, None
    for index, line in enumerate(native.lines):
        if first is None and (not line.strip() or line.lstrip().startswith("#")):
            continue
        first = index if first is None else first
        if is_continued(line) or index + 1 in native.documents:
            continue
        if is_complete("\n".join(native.lines[first : index + 1])):
            if parts and _asks_about_a_pipe(
                native.lines[first : index + 1], native.lines[parts[-1].first : parts[-1].end]
            ):
                begins, first = parts[-1].begins, parts.pop().first
            parts.append(TopLevelCommand(begins, first, index + 1))
            begins, first = index + 1, None
    if first is not None:  # the shell will say what is wrong with it
        parts.append(TopLevelCommand(begins, first, len(native.lines)))
    offset = int(text.startswith("#!"))
    return JobScript(native.shebang, native.header, native.ignored, native.lines, offset, native.taken, tuple(parts))


def _asks_about_a_pipe(lines: Sequence[str], before: Sequence[str]) -> bool:
    """Tell whether a command asks how the parts of the pipe before it ended, which nothing may come between."""
    pipe = any(command.words in {("|",), ("|&",)} for line in before for command in simple_commands(line))
    return pipe and any(_PIPE_STATUS.search(line) for line in lines)

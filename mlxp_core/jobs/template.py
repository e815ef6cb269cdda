"""Read the user's template: a native job script, taken apart. Text in, plain values out.

Its directives and its set-up lines go into every job as they are, byte for byte and in order; the line that starts the
program is replaced by the job's own command. A line that names the program in any other way is an error, for it
would run the program beside the job, or a half of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import PurePath

from mlxp_core.errors import ConfigurationError
from mlxp_core.jobs.shell_words import (
    SHELL_BUILTINS,
    is_continued,
    join_continued,
    shebang_shell,
    simple_commands,
    trim,
)
from mlxp_core.scheduler import SCHEDULERS, load_scheduler
from mlxp_core.scheduler.base import Scheduler

_SHELLS = ("bash", "dash", "ksh", "sh", "zsh")
# what may be a directive: signs, a word, an option
_LOOKS_LIKE_DIRECTIVE = re.compile(r"#\s?\S+\s+-")
# not <<<, which is a string
_HERE_DOCUMENT = re.compile(r"(?<!<)<<(?P<tabs>-?)\s*(?P<word>[A-Za-z_]\w*)")


@dataclass(frozen=True)
class Template:
    """A native job script, taken apart; every line as the user wrote it."""

    shebang: str = "#!/bin/bash"
    header: tuple[str, ...] = ()  # the scheduler's directives
    setup: tuple[str, ...] = ()  # all else before the program
    prefix: str = ""  # what stands before the interpreter on the program's line, such as "srun " or "FOO=1 "
    after: tuple[str, ...] = ()  # all after the program
    ignored: tuple[str, ...] = ()  # directives where the scheduler does not read any


def read_template(text: str, scheduler: Scheduler, program: str, *, source: str = "the template") -> Template:
    """Take a native job script apart.

    ``program`` is how the program is called: a script's file name, or the module of ``python -m``. Raises
    ConfigurationError for a script that is another scheduler's, or no shell's.
    """
    native = take_directives(text, scheduler, source=source)
    lines = [(line, index in native.documents) for index, line in enumerate(native.lines) if index not in native.taken]
    setup, prefix, after = _split_at_program(lines, program, source)
    return Template(
        native.shebang,
        native.header,
        trim(setup),
        prefix,
        trim(after),
        native.ignored,
    )


@dataclass(frozen=True)
class Directives:
    """The directives of a native job script, and where its lines are."""

    shebang: str
    header: tuple[str, ...]
    ignored: tuple[str, ...]  # where the scheduler does not read any
    lines: tuple[str, ...]  # of the script, but for its first where that is the shebang
    taken: frozenset[int]  # which of them are directives
    documents: frozenset[int]  # which are the text of a here-document


def take_directives(text: str, scheduler: Scheduler, *, source: str) -> Directives:
    """Find the directives of a native job script, named ``source`` in errors. Raises as read_template."""
    lines = text.replace("\r\n", "\n").split("\n")
    shebang = Template.shebang
    if lines[0].startswith("#!"):
        shebang = lines.pop(0).rstrip()
        _check_shell(shebang, source)
    inside = _in_here_documents(lines)
    directives = [index for index, line in enumerate(lines) if is_directive(line, scheduler)]
    header, ignored = directives, []
    if not scheduler.directives_anywhere:
        top = range(len(list(takewhile(lambda line: not line.strip() or line.startswith("#"), lines))))
        header = [index for index in directives if index in top]
        ignored = [index for index in directives if index not in {*top, *inside}]
    if not directives:
        _check_not_of_another(lines, scheduler, source)
    return Directives(
        shebang,
        tuple(lines[index] for index in header),
        tuple(lines[index] for index in ignored),
        tuple(lines),
        # a line of a here-document is data, which stays where it is, also where the scheduler takes it for a directive
        frozenset(index for index in directives if index not in inside),
        frozenset(inside),
    )


def add_header(template: Template, text: str | None, scheduler: Scheduler) -> Template:
    """Add directives given as text (``hydra.launcher.header``).

    Raises ConfigurationError for a line that the scheduler would not read as one.
    """
    lines = [line for line in (text or "").splitlines() if line.strip()]
    for line in lines:
        if not is_directive(line, scheduler):
            raise ConfigurationError(
                f"hydra.launcher.header has the line\n  {line}\nwhich {scheduler.name} would not read: a directive "
                f"starts with {scheduler.directive} in the first column. Shell lines go into hydra.launcher.setup."
            )
    return replace(template, header=(*template.header, *lines))


def add_setup(template: Template, lines: Iterable[str]) -> Template:
    """Add set-up lines (``hydra.launcher.setup``) after those of the template."""
    return replace(template, setup=(*template.setup, *lines))


def is_directive(line: str, scheduler: Scheduler) -> bool:
    """Tell whether a line is a directive of the scheduler."""
    # "#SBATCH--time=3" is one as well; "#SBATCHX" is a comment, "##SBATCH" does not start with it
    return any(
        line.startswith(prefix) and not line[len(prefix) : len(prefix) + 1].isalnum() for prefix in scheduler.directives
    )


def _in_here_documents(lines: Sequence[str]) -> set[int]:
    """The indices of lines that are the text of a here-document, up to the word that ends it."""
    inside: set[int] = set()
    ends: list[
        tuple[str, bool]
    ] = []  # of those that the last command has begun: the word, and whether tabs may precede
    for index, line in enumerate(lines):
        if ends:
            inside.add(index)
            word, indented = ends[0]
            if (line.lstrip("\t") if indented else line) == word:
                ends.pop(0)
        else:
            ends = [(start["word"], bool(start["tabs"])) for start in _HERE_DOCUMENT.finditer(_without_quotes(line))]
    return inside if not ends else set()  # one that never ends: what looked like it was none


def _without_quotes(line: str) -> str:
    """The line without what may look like the start of a here-document: quoted text, arithmetic, a comment.

    The quotes around the word of a here-document go as well.
    """
    line = re.sub(r"""<<(-?)\s*(['"\\])(\w+)['"]?""", r"<<\1\3", line)
    line = re.sub(r"""'[^']*'|"(?:\\.|[^"\\])*\"""", "''", line)
    return re.sub(r"\(\(.*?\)\)|(?:^|\s)#.*", "", line)


def _check_shell(shebang: str, source: str) -> None:
    if PurePath(shebang_shell(shebang)).name not in _SHELLS:
        raise ConfigurationError(
            f"{source} starts with {shebang!r}, but its set-up lines are run by a shell: one of {', '.join(_SHELLS)}"
        )


def _check_not_of_another(lines: Iterable[str], scheduler: Scheduler, source: str) -> None:
    for line in filter(_LOOKS_LIKE_DIRECTIVE.match, lines):
        launchers = [f"mlxp_{other.name}" for other in map(load_scheduler, SCHEDULERS) if _is_for(line, other)]
        if launchers:
            raise ConfigurationError(
                f"{source} has no {scheduler.directive} line, but\n  {line}\n"
                f"Is it for another scheduler? Its launcher is hydra/launcher={' or '.join(launchers)}."
            )


def _is_for(line: str, scheduler: Scheduler) -> bool:
    spellings = (scheduler.directive, *scheduler.other_spellings)
    return any(re.match(re.escape(directive) + r"\s+-", line) for directive in spellings)


def _split_at_program(lines: Sequence[tuple[str, bool]], program: str, source: str) -> tuple[list[str], str, list[str]]:
    """Lines before the program's, what stands before its interpreter, lines after; all lines where it has none.

    With each line comes whether it is text of a here-document.
    """
    before: list[str] = []
    after: list[str] = []
    prefix: str | None = None
    for raw, is_text in _joined(lines):
        line = join_continued(raw)
        commands = [] if is_text else simple_commands(line)
        if any(command.names(program) and command.words[0] not in SHELL_BUILTINS for command in commands):
            command, *others = commands
            start = None if others else command.interpreter(program)
            if start is None or prefix is not None:
                raise ConfigurationError(
                    f"{source} has the line\n  {raw.strip()}\nwhich names {program}, but is not a line that "
                    f"the launcher can replace by a job's own command: one `python … {program} …`, at most behind "
                    "variables and words such as srun, with nothing around it. Write it so, or leave it out: the "
                    "command then comes last."
                )
            prefix = line[:start].lstrip()
        else:
            (before if prefix is None else after).extend(raw.split("\n"))
    return before, prefix or "", after


def _joined(lines: Sequence[tuple[str, bool]]) -> Iterator[tuple[str, bool]]:
    """Lines, with those that a backslash continues as one."""
    pending: list[str] = []
    for line, is_text in lines:
        pending.append(line)
        if not is_continued(line):
            yield "\n".join(pending), is_text
            pending = []
    if pending:
        yield "\n".join(pending), False

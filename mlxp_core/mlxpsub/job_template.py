"""Build the template that the jobs of a program get of its job script. Text in, plain values out.

Nothing is guessed from the words of a line: a command is the program's if the program came
up while it ran. What is no program's is set-up, before it or after it. If the program's command is one simple line,
the line is taken as it stands, and what precedes the interpreter (``srun``, variables) stays in front. Any other
command, a loop or a pipe say, is left behind: the job runs the program alone, with the directory and the variables
that it had.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from mlxp_core.errors import ConfigurationError
from mlxp_core.jobs.shell_words import Simple, join_continued, simple_commands, trim
from mlxp_core.jobs.template import Template
from mlxp_core.mlxpsub.instrument import IN_A_JOB, SESSION, parallel_launchers
from mlxp_core.mlxpsub.parse import Change, JobScript, ProgramStart, TopLevelCommand
from mlxp_core.mlxpsub.placeholders import (
    Placeholders,
    computations,
    has_expansion_operator,
    place_variables,
)
from mlxp_core.mlxpsub.provenance import (
    computed_from_job,
    derived_from_job,
    plain_words,
    substitute,
    variable_names,
)
from mlxp_core.runs.layout import LogDir

# start a program in an environment of theirs, whose interpreter a job names itself: it is not to make it anew
_RUNNERS = frozenset({"uv", "poetry", "pdm", "pipenv", "hatch", "pixi", "rye"})
# set for each of the processes of a parallel program, every one of which would submit
_RANK_VARIABLES = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "LOCAL_RANK", "TORCHELASTIC_RUN_ID")
_ACCELERATE_VARIABLES = ("ACCELERATE_MIXED_PRECISION",)

_DEFINES = re.compile(r"\s*(?:function\s+[^\s()]+|[^\s()]+\s*\(\s*\))")
# what the shell puts in the place of a word is not known from its text
_EXPANDS = re.compile(r"[$`*?\[~{]")


def build_template(
    script: JobScript, reached: ProgramStart, directory: str, variables: Placeholders, session: str
) -> Template:
    """The template for the jobs of a program.

    ``directory`` is where the script is run, ``variables`` are those of a job as they were there, ``session`` is the
    name of the file in which the numbers of commands are noted that later turn out to be other programs'. Raises
    ConfigurationError where the jobs would not run as the script says.
    """
    _check_no_rank(script, reached)
    _check_exists_here(script, reached, variables)
    setup, rest = _before(script, reached), _after(script, reached, session)
    # what turns out to be a program in these lines has jobs of its own
    guard = f"export {SESSION}={IN_A_JOB}"
    # the lines after the program find its exit code in $?, as they do in the script
    guard_after = f'mlxp_status=$?; {guard}; (exit "$mlxp_status") && :'
    places = [f"export {name}={shlex.quote(directory)}" for name in place_variables(script.lines)]
    if _has_commands(setup) or _has_commands(rest):
        setup = (f"cd {shlex.quote(directory)} || exit", guard, *places, *setup, f"unset {SESSION}")
    elif places:
        setup = (*places, *setup)
    prefix = _line_prefix(script, reached, variables) or _started_prefix(script, reached, variables)
    if prefix.alone:
        setup += tuple(_exports(reached.changes))
    return Template(
        shebang=script.shebang,
        header=script.header,
        setup=setup,
        prefix=prefix.text,
        after=(guard_after, *rest) if _has_commands(rest) else (),
        ignored=script.ignored,
    )


def _before(script: JobScript, reached: ProgramStart) -> tuple[str, ...]:
    """The lines before the program's command; for a command that is left out, for it is another's, what it has set."""
    lines: list[str] = []
    for number, part in enumerate(script.parts[: reached.number]):
        changes = reached.others.get(number)
        if changes is None:
            lines += script.text(part)
        else:
            lines += [*_exports(changes), *([": &"] if _is_in_background(script, part) else [])]
    return trim(lines)


def _after(script: JobScript, reached: ProgramStart, session: str) -> tuple[str, ...]:
    """The lines after it; where it was in the background, ``$!`` is something that ends as it has.

    Which of them are another program's is not known yet. A command that is nothing but a program does nothing; one
    with more in it, such as ``python other.py && touch done``, looks whether it has turned out to be one.
    """
    lines: list[str] = []
    for number, part in enumerate(script.parts[reached.number + 1 :], start=reached.number + 1):
        code = script.text(part, comments=False)
        defines = bool(code) and _DEFINES.match(code[0])  # a function, which later lines call
        if number not in reached.others and (defines or not _starts_program(code, reached.head)):
            guarded = not defines and _is_compound(code)
            lines += _unless_noted(script.text(part), number, session) if guarded else script.text(part)
        elif _is_in_background(script, part):
            lines += [": &"]
    background = ['(exit "$mlxp_status") &'] if _is_in_background(script, script.parts[reached.number]) else []
    return trim([*background, *lines] if _has_commands(lines) else [])


def _is_compound(lines: Sequence[str]) -> bool:
    line = join_continued("\n".join(lines))
    return "\n" in line or len(simple_commands(line)) > 1


def _unless_noted(lines: Sequence[str], number: int, session: str) -> list[str]:
    noted = LogDir(Path("$mlxp_metadata/../..")).mlxpsub_scripts / session
    return [
        f'mlxp_status=$?; if ! grep -qsx {number} "{noted}"; then (exit "$mlxp_status") && :',
        *lines,
        "fi",
    ]


def _exports(changes: Mapping[str, Change]) -> list[str]:
    return [_export(name, change) for name, change in changes.items()]


def _export(name: str, change: Change) -> str:
    before, after = change
    if after is None:
        return f"unset {name}"
    if before and after.endswith(f":{before}"):  # to what the job has there
        return f'export {name}={shlex.quote(after.removesuffix(before))}"${{{name}-}}"'
    if before and after.startswith(f"{before}:"):
        return f'export {name}="${{{name}-}}"{shlex.quote(after.removeprefix(before))}'
    return f"export {name}={shlex.quote(after)}"


def _is_in_background(script: JobScript, part: TopLevelCommand) -> bool:
    commands = simple_commands(join_continued("\n".join(script.text(part, comments=False))))
    return commands[-1:] != [] and commands[-1].words == ("&",)


@dataclass(frozen=True)
class _Prefix:
    """What precedes the interpreter in a job; ``alone``: without the rest of the command, which has set variables."""

    text: str
    alone: bool


def _has_commands(lines: Sequence[str]) -> bool:
    return any(line.strip() and not line.lstrip().startswith("#") for line in lines)


def _check_no_rank(script: JobScript, reached: ProgramStart) -> None:
    changed = {name for name, (_, after) in reached.changes.items() if after is not None}
    ranks = [name for name in (*_RANK_VARIABLES, *_ACCELERATE_VARIABLES) if name in changed]
    if ranks:
        raise ConfigurationError(
            f"line {script.line_number(reached.number)} of the script starts the processes of one parallel program "
            f"(${ranks[0]} is set), each of which would submit jobs of its own. mlxpsub knows "
            f"{', '.join(parallel_launchers())}; for others write a template with the launcher, and use "
            "hydra/launcher=mlxp_… -m."
        )


def _check_exists_here(script: JobScript, reached: ProgramStart, variables: Placeholders) -> None:
    """Raise ConfigurationError for a program that is, or is started, where only a job can be."""
    for verb, place in [("is started in", reached.directory), *(("is", word) for word in reached.head)]:
        if name := variables.find_in(place):
            raise ConfigurationError(
                f"the program in line {script.line_number(reached.number)} of the script {verb} "
                f"{variables.restore_names(place)}, and that has ${name}, which only a job has. Start the program "
                "where it is before there are jobs, and have it change into such a directory itself."
            )


def _line_prefix(script: JobScript, reached: ProgramStart, variables: Placeholders) -> _Prefix | None:
    """What precedes the interpreter where the command is one simple line; None where it is not.

    Nor is it where the program's arguments are not those of the line: ``xargs`` and the like have given it others.
    """
    head, lines = reached.head, script.text(script.parts[reached.number], comments=False)
    line = join_continued("\n".join(lines))
    if "\n" in line:
        return None
    commands = simple_commands(line)
    if len(commands) != 1:
        return None
    (command,) = commands
    indices, size = _head_indices(command, head), len(head)
    if not indices and command.words[0] in {*parallel_launchers(), head[-1]}:  # ./main.py
        indices, size = [index for index, word in enumerate(command.words) if word == head[-1]], 1
    if len(indices) != 1 or not _may_become(command.words[indices[0] + size :], reached.arguments):
        return None
    _check_arguments(command.words[indices[0] + size :], script, reached, variables)
    runners = [index for index in range(indices[0]) if PurePath(command.words[index]).name in _RUNNERS]
    start = command.starts[min([indices[0], *runners])]
    return _Prefix(line[:start].lstrip(), alone=bool(runners))


def _check_arguments(words: Sequence[str], script: JobScript, reached: ProgramStart, variables: Placeholders) -> None:
    """Raise ConfigurationError for an argument that is made of what only a job has."""
    if any(map(variables.find_in, reached.arguments)):
        derived = derived_from_job(script, reached.number, variables.values)
    else:
        derived = computed_from_job(script, reached.number, variables)
    for word in words:
        if word in reached.arguments:  # it was quoted
            continue
        name = next((name for name in variable_names(word) if name in derived), "")
        if name and substitute(word, derived) not in reached.arguments:
            raise ConfigurationError(
                f"{word} has ${name}, which the script makes of what only a job has ({derived[name]}): the program's "
                f"arguments are put together here, before there are jobs. Write '${{oc.env:{name}}}', in single "
                f"quotes, and `export {name}`: Hydra looks it up in the job."
            )
        name, expanded = variables.first_plain(word), variables.expand(word)
        unclear = name in variables.untraceable and _EXPANDS.search(expanded)
        if name and (expanded in reached.arguments or unclear):
            raise _needs_job(word, name)
        if has_expansion_operator(word) and (names := variables.job_variables(word)):
            raise _needs_job(word, names[0])
    _check_started_arguments(reached, variables)


def _check_started_arguments(reached: ProgramStart, variables: Placeholders) -> None:
    """Raise ConfigurationError where a placeholder is in what the program was given."""
    for argument in reached.arguments:
        if name := variables.find_in(argument):
            raise _needs_job(variables.restore_names(argument), name)


def _needs_job(word: str, name: str) -> ConfigurationError:
    return ConfigurationError(
        f"{word} has ${name}, which only a job has: the program's arguments are put together here, before "
        f"there are jobs. Write '${{oc.env:{name}}}', in single quotes: Hydra looks it up in the job."
    )


def _may_become(words: Sequence[str], arguments: Sequence[str]) -> bool:
    """Tell whether a shell may make these arguments of these words: of one that it expands, any number."""
    if not words:
        return not arguments
    if _EXPANDS.search(words[0]):
        return any(_may_become(words[1:], arguments[taken:]) for taken in range(len(arguments) + 1))
    return bool(arguments) and words[0] == arguments[0] and _may_become(words[1:], arguments[1:])


def _head_indices(command: Simple, head: Sequence[str]) -> list[int]:
    """Where in a command the words begin with which a program was started, its interpreter by whatever path."""
    size = len(head)
    windows = [command.words[index : index + size] for index in range(len(command.words) - size + 1)]
    return [index for index, words in enumerate(windows) if _is_head(words, head)]


def _is_head(words: Sequence[str], head: Sequence[str]) -> bool:
    """Tell whether words may have become these; not if the shell makes something else of every one of them."""
    interpreter = _EXPANDS.search(words[0]) or PurePath(words[0]).name == PurePath(head[0]).name
    options = all(_EXPANDS.search(word) or word == started for word, started in zip(words[1:], head[1:], strict=True))
    return bool(interpreter) and options and not all(_EXPANDS.search(word) for word in words)


def _starts_program(lines: Sequence[str], head: Sequence[str]) -> bool:
    """Tell whether these lines start the same program somewhere: its interpreter, and then its file or module."""
    text = join_continued("\n".join(lines))
    for command in (command for line in text.split("\n") for command in simple_commands(line)):
        names = [PurePath(word).name for word in command.words]
        interpreter = PurePath(head[0]).name
        if interpreter in names and head[-1] in command.words[names.index(interpreter) + 1 :]:
            return True
    return False


def _started_prefix(script: JobScript, reached: ProgramStart, variables: Placeholders) -> _Prefix:
    """What precedes the interpreter of a command that is left behind: the launchers that have started the program."""
    text = "\n".join(script.text(script.parts[reached.number], comments=False))
    computed = computed_from_job(script, reached.number, variables)
    used = [name for name in variable_names(text) if name in computed or name in variables.untraceable]
    for piece in computations(text):
        used += [*variables.job_variables(piece), *(name for name in plain_words(piece) if name in computed)]
    unknown = [*sorted(set(used)), *reached.made_of_a_job]
    empty = [word for word in reached.starters if word.endswith("=") or not word or variables.find_in(word)]
    if unknown or empty:
        cause = f"${unknown[0]}, which only a job has" if unknown else f"{empty[0]!r}, which has no value here"
        raise ConfigurationError(
            f"the command in line {script.line_number(reached.number)} of the script uses {cause}, and its jobs would "
            "get what it is here: the command is more than one simple line, so its jobs run the program with the "
            "variables that it has now. Put the variable into a line before the command, such as `export "
            "OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK`, which every job runs, or the program's line out of the loop."
        )
    _check_started_arguments(reached, variables)
    return _Prefix(f"{shlex.join(reached.starters)} " if reached.starters else "", alone=True)

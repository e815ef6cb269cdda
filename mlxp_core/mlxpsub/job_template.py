"""A job script as ``mlxpsub`` runs it: cut into its top-level commands, and the template that each program gets of it.

Text in, plain values out. Nothing is guessed from the words of a line: a command is the program's if the program came
up while it ran. What is no program's is set-up, before it or after it. If the program's command is one simple line,
the line is taken as it stands, and what precedes the interpreter (``srun``, variables) stays in front. Any other
command, a loop or a pipe say, is left behind: the job runs the program alone, with the directory and the variables
that it had.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from mlxp_core.errors import ConfigurationError
from mlxp_core.jobs.shell_words import Simple, simple_commands
from mlxp_core.jobs.template import Template
from mlxp_core.mlxpsub.instrument import IN_A_JOB, SESSION, parallel_launchers
from mlxp_core.mlxpsub.parse import Change, JobScript, ProgramStart, TopLevelCommand
from mlxp_core.mlxpsub.placeholders import (
    Placeholders,
    computations,
    has_expansion_operator,
    place_variables,
    used_names,
)
from mlxp_core.runs.layout import LogDir

# start a program in an environment of theirs, whose interpreter a job names itself: it is not to make it anew
_RUNNERS = frozenset({"uv", "poetry", "pdm", "pipenv", "hatch", "pixi", "rye"})
# set for each of the processes of a parallel program, every one of which would submit
_OF_A_RANK = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "LOCAL_RANK", "TORCHELASTIC_RUN_ID")
_OF_ACCELERATE = ("ACCELERATE_MIXED_PRECISION",)

_VALUE = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)(?:\[[^]]*\])?\})")  # of any variable, without a default
_ASSIGNED = re.compile(r"([A-Za-z_]\w*)\+?=(.*)", re.DOTALL)
_DECLARES = frozenset({"export", "declare", "typeset", "local", "readonly"})
_DEFINES = re.compile(r"\s*(?:function\s+[^\s()]+|[^\s()]+\s*\(\s*\))")
_WORD = re.compile(r"[A-Za-z_]\w*")
_KEYWORDS = frozenset({"if", "then", "elif", "else", "while", "until", "do", "{", "!"})
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
    _check_is_there(script, reached, variables)
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
    prefix = _prefix(script, reached, variables)
    if prefix is None:
        prefix = _reached_prefix(script, reached, variables)
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
    return _trimmed(lines)


def _after(script: JobScript, reached: ProgramStart, session: str) -> tuple[str, ...]:
    """The lines after it; where it was in the background, ``$!`` is something that ends as it has.

    Which of them are another program's is not known yet. A command that is nothing but a program does nothing; one
    with more in it, such as ``python other.py && touch done``, looks whether it has turned out to be one.
    """
    lines: list[str] = []
    for number, part in enumerate(script.parts[reached.number + 1 :], start=reached.number + 1):
        lines_of_it = script.text(part, comments=False)
        defines = bool(lines_of_it) and _DEFINES.match(lines_of_it[0])  # a function, which later lines call
        if number not in reached.others and (defines or not _holds(lines_of_it, reached.head)):
            more = not defines and _is_more_than_one(lines_of_it)
            lines += _unless_noted(script.text(part), number, session) if more else script.text(part)
        elif _is_in_background(script, part):
            lines += [": &"]
    ended = ['(exit "$mlxp_status") &'] if _is_in_background(script, script.parts[reached.number]) else []
    return _trimmed([*ended, *lines] if _has_commands(lines) else [])


def _is_more_than_one(lines: Sequence[str]) -> bool:
    line = "\n".join(lines).replace("\\\n", "  ")
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
    commands = simple_commands("\n".join(script.text(part, comments=False)).replace("\\\n", "  "))
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
    found = [name for name in (*_OF_A_RANK, *_OF_ACCELERATE) if name in changed]
    if found:
        raise ConfigurationError(
            f"line {script.line_number(reached.number)} of the script starts the processes of one parallel program "
            f"(${found[0]} is set), each of which would submit jobs of its own. mlxpsub knows "
            f"{', '.join(parallel_launchers())}; for others write a template with the launcher, and use "
            "hydra/launcher=mlxp_… -m."
        )


def _check_is_there(script: JobScript, reached: ProgramStart, variables: Placeholders) -> None:
    """Raise ConfigurationError for a program that is, or is started, where only a job can be."""
    for how, place in [("is started in", reached.directory), *(("is", word) for word in reached.head)]:
        if name := variables.find_in(place):
            raise ConfigurationError(
                f"the program in line {script.line_number(reached.number)} of the script {how} "
                f"{variables.restore_names(place)}, and that has ${name}, which only a job has. Start the program "
                "where it is before there are jobs, and have it change into such a directory itself."
            )


def _hold_of_a_job(script: JobScript, number: int, of_a_job: Iterable[str]) -> dict[str, str]:
    """The script's own variables that it makes of these, up to a command: by name, what it puts into them."""
    text = "\n".join(line for part in script.parts[: number + 1] for line in script.text(part, comments=False))
    assigned = list(_assignments(text.replace("\\\n", "  ")))
    sources = set(of_a_job) - {name for name, _ in assigned}
    held: dict[str, str] = {}
    while True:
        more = {
            name: value
            for name, value in assigned
            if name not in held and not sources.isdisjoint(_all_names(value)) and name not in sources
        }
        if not more:
            return held
        held |= more
        sources |= set(more)


def _assignments(text: str) -> Iterator[tuple[str, str]]:
    """What is put into variables: names and words; those of an array each for itself, those of $(…) in such each."""
    array, substituted = "", False
    for line in text.split("\n"):
        last = ""
        for words in (command.words for command in simple_commands(line)):
            if array or (last and words[0].startswith("(")):
                array = "" if words[0].startswith(")") else array or last
                inside = words if array and not words[0].startswith("(") else ()
                yield from ((array, f"$({word})" if substituted else word) for word in inside)
                last = ""
                continue
            last = ""
            for word in words:
                found = _ASSIGNED.fullmatch(word)
                if found:
                    yield found[1], found[2]
                    last = found[1] if not found[2].rstrip("$") else ""
                    substituted = bool(found[2])
                elif word not in _KEYWORDS and word not in _DECLARES and not word.startswith("-"):
                    break


def _all_names(word: str) -> set[str]:
    return {*_names(word), *used_names(word), *(_WORD.findall(word) if has_expansion_operator(word) else ())}


def _names(word: str) -> list[str]:
    return [plain or braced for plain, braced in _VALUE.findall(word)]


def _prefix(script: JobScript, reached: ProgramStart, variables: Placeholders) -> _Prefix | None:
    """What precedes the interpreter where the command is one simple line; None where it is not.

    Nor is it where the program's arguments are not those of the line: ``xargs`` and the like have given it others.
    """
    head, lines = reached.head, script.text(script.parts[reached.number], comments=False)
    line = "\n".join(lines).replace("\\\n", "  ")  # as long, so that places stay
    if "\n" in line:
        return None
    commands = simple_commands(line)
    if len(commands) != 1:
        return None
    (command,) = commands
    places, size = _places(command, head), len(head)
    if not places and command.words[0] in {*parallel_launchers(), head[-1]}:  # ./main.py
        places, size = [at for at, word in enumerate(command.words) if word == head[-1]], 1
    if len(places) != 1 or not _may_become(command.words[places[0] + size :], reached.arguments):
        return None
    _check_arguments(command.words[places[0] + size :], script, reached, variables)
    runners = [at for at in range(places[0]) if PurePath(command.words[at]).name in _RUNNERS]
    at = min([places[0], *runners])
    return _Prefix(line[: command.starts[at]].lstrip(), alone=bool(runners))


def computed_of_a_job(script: JobScript, number: int, variables: Placeholders) -> dict[str, str]:
    """The script's own variables whose values do not show that they are made of a job's: by name, of what they are.

    Those that hold counts, and those that are computed; as they are set in the commands up to this one.
    """
    held = _hold_of_a_job(script, number, variables.values)
    hidden = set(_hold_of_a_job(script, number, variables.untraceable))
    hidden |= {name for name, value in held.items() if has_expansion_operator(value)}
    while more := {name for name, value in held.items() if name not in hidden and not hidden.isdisjoint(_names(value))}:
        hidden |= more
    return {name: value for name, value in held.items() if name in hidden}


def _check_arguments(words: Sequence[str], script: JobScript, reached: ProgramStart, variables: Placeholders) -> None:
    """Raise ConfigurationError for an argument that is made of what only a job has."""
    stained = any(map(variables.find_in, reached.arguments))
    held = computed_of_a_job(script, reached.number, variables)
    if stained:
        held = _hold_of_a_job(script, reached.number, variables.values)
    for word in words:
        if word in reached.arguments:  # it was quoted
            continue
        name = next((name for name in _names(word) if name in held), "")
        if name and _VALUE.sub(lambda one: held.get(one[1] or one[2], one[0]), word) not in reached.arguments:
            raise ConfigurationError(
                f"{word} has ${name}, which the script makes of what only a job has ({held[name]}): the program's "
                f"arguments are put together here, before there are jobs. Write '${{oc.env:{name}}}', in single "
                f"quotes, and `export {name}`: Hydra looks it up in the job."
            )
        name, here = variables.first_plain(word), variables.expand(word)
        unclear = name in variables.untraceable and _EXPANDS.search(here)
        if name and (here in reached.arguments or unclear):
            raise _is_of_a_job(word, name)
        if has_expansion_operator(word) and (names := variables.job_variables(word)):
            raise _is_of_a_job(word, names[0])
    _check_unstained(reached, variables)


def _check_unstained(reached: ProgramStart, variables: Placeholders) -> None:
    for argument in reached.arguments:
        if name := variables.find_in(argument):
            raise _is_of_a_job(variables.restore_names(argument), name)


def _is_of_a_job(word: str, name: str) -> ConfigurationError:
    return ConfigurationError(
        f"{word} has ${name}, which only a job has: the program's arguments are put together here, before "
        f"there are jobs. Write '${{oc.env:{name}}}', in single quotes: Hydra looks it up in the job."
    )


def _may_become(words: Sequence[str], arguments: Sequence[str]) -> bool:
    """Whether a shell may make these arguments of these words; one that it expands may become any number of them."""
    if not words:
        return not arguments
    if _EXPANDS.search(words[0]):
        return any(_may_become(words[1:], arguments[taken:]) for taken in range(len(arguments) + 1))
    return bool(arguments) and words[0] == arguments[0] and _may_become(words[1:], arguments[1:])


def _places(command: Simple, head: Sequence[str]) -> list[int]:
    """Where in a command the words are with which a program was started, its interpreter by whatever path."""

    def same(word: str, said: str, *, interpreter: bool) -> bool:
        if _EXPANDS.search(word):
            return True
        return PurePath(word).name == PurePath(said).name if interpreter else word == said

    size = len(head)
    return [
        at
        for at in range(len(command.words) - size + 1)
        if all(same(command.words[at + i], head[i], interpreter=i == 0) for i in range(size))
        and not all(_EXPANDS.search(word) for word in command.words[at : at + size])
    ]


def _holds(lines: Sequence[str], head: Sequence[str]) -> bool:
    """Whether these lines start the same program, somewhere in them: its interpreter, and then its file or module."""
    text = "\n".join(lines).replace("\\\n", "  ")
    for command in (command for line in text.split("\n") for command in simple_commands(line)):
        names = [PurePath(word).name for word in command.words]
        interpreter = PurePath(head[0]).name
        if interpreter in names and head[-1] in command.words[names.index(interpreter) + 1 :]:
            return True
    return False


def _reached_prefix(script: JobScript, reached: ProgramStart, variables: Placeholders) -> _Prefix:
    text = "\n".join(script.text(script.parts[reached.number], comments=False))
    held = computed_of_a_job(script, reached.number, variables)
    used = [name for name in _names(text) if name in held or name in variables.untraceable]
    for piece in computations(text):
        used += [*variables.job_variables(piece), *(name for name in _WORD.findall(piece) if name in held)]
    unknown = [*sorted(set(used)), *reached.made_of_a_job]
    empty = [word for word in reached.starters if word.endswith("=") or not word or variables.find_in(word)]
    if unknown or empty:
        what = f"${unknown[0]}, which only a job has" if unknown else f"{empty[0]!r}, which has no value here"
        raise ConfigurationError(
            f"the command in line {script.line_number(reached.number)} of the script uses {what}, and its jobs would "
            "get what it is here: the command is more than one simple line, so its jobs run the program with the "
            "variables that it has now. Put the variable into a line before the command, such as `export "
            "OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK`, which every job runs, or the program's line out of the loop."
        )
    _check_unstained(reached, variables)
    return _Prefix(f"{shlex.join(reached.starters)} " if reached.starters else "", alone=True)


def _trimmed(lines: Sequence[str]) -> tuple[str, ...]:
    kept = list(lines)
    while kept and not kept[-1].strip():
        kept.pop()
    while kept and not kept[0].strip():
        kept.pop(0)
    return tuple(kept)

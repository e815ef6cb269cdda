"""Trace where a job script's variables come from: which of them are made of what only a job has.

By the text of the assignments alone, and without running anything: a name that is assigned twice holds either value.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from mlxp_core.jobs.shell_words import join_continued, simple_commands
from mlxp_core.mlxpsub.parse import JobScript
from mlxp_core.mlxpsub.placeholders import Placeholders, has_expansion_operator, used_names

_VARIABLE = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)(?:\[[^]]*\])?\})")  # without a default
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)\+?=(.*)", re.DOTALL)
_DECLARATIONS = frozenset({"export", "declare", "typeset", "local", "readonly"})
_KEYWORDS = frozenset({"if", "then", "elif", "else", "while", "until", "do", "{", "!"})
_NAME = re.compile(r"[A-Za-z_]\w*")


def computed_from_job(script: JobScript, number: int, variables: Placeholders) -> dict[str, str]:
    """The script's own variables whose values do not show that they are made of a job's: the words put into them.

    Those that hold counts, and those that are computed; as they are set in the commands up to this one.
    """
    derived = derived_from_job(script, number, variables.values)
    hidden = set(derived_from_job(script, number, variables.untraceable))
    hidden |= {name for name, word in derived.items() if has_expansion_operator(word)}
    while reached := {
        name for name, word in derived.items() if name not in hidden and not hidden.isdisjoint(variable_names(word))
    }:
        hidden |= reached
    return {name: word for name, word in derived.items() if name in hidden}


def derived_from_job(script: JobScript, number: int, job_names: Iterable[str]) -> dict[str, str]:
    """The script's own variables that it makes of a job's, up to a command: by name, the words put into them."""
    text = "\n".join(line for part in script.parts[: number + 1] for line in script.text(part, comments=False))
    assigned = list(_assignments(join_continued(text)))
    sources = set(job_names) - {name for name, _ in assigned}
    derived: dict[str, str] = {}
    while True:
        reached = {
            name: word for name, word in assigned if name not in sources and not sources.isdisjoint(_all_names(word))
        }
        if not reached:
            return derived
        derived |= reached
        sources |= set(reached)


def _assignments(text: str) -> Iterator[tuple[str, str]]:
    """Names of variables, with the words that are put into them.

    Those of an array each for itself, those of $(…) in such each.
    """
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
                assignment = _ASSIGNMENT.fullmatch(word)
                if assignment:
                    yield assignment[1], assignment[2]
                    last = assignment[1] if not assignment[2].rstrip("$") else ""
                    substituted = bool(assignment[2])
                elif word not in _KEYWORDS and word not in _DECLARATIONS and not word.startswith("-"):
                    break


def variable_names(text: str) -> list[str]:
    """The names of the variables whose values stand in a text, as they are."""
    return [plain or braced for plain, braced in _VARIABLE.findall(text)]


def substitute(text: str, values: Mapping[str, str]) -> str:
    """A text with the values of variables in their places; what has none here stays."""
    return _VARIABLE.sub(lambda match: values.get(match[1] or match[2], match[0]), text)


def plain_words(text: str) -> list[str]:
    """All that may be a variable's name where something is computed: in arithmetic it needs no ``$``."""
    return _NAME.findall(text)


def _all_names(word: str) -> set[str]:
    return {*variable_names(word), *used_names(word), *(plain_words(word) if has_expansion_operator(word) else ())}

"""Find where a configuration, with its interpolations as text, depends on variables: the environment's, or a job's."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from mlxp_core.nested import KeyPath, interpolations
from mlxp_core.scheduler.variables import is_of_a_job

_RESOLVER = re.compile(r"\$\{\s*([A-Za-z_][\w.]*)\s*:")
_NODE = re.compile(r"\$\{\s*(\.*)([A-Za-z_0-9][\w.\[\]-]*)\s*\}")
_VARIABLE = re.compile(r"\$\{\s*oc\.env\s*:\s*(\w+)")


def environment_paths(config: Any) -> list[KeyPath]:
    """Paths of text that asks for variables of the environment, and for nothing that each job has for itself.

    Those are what a scheduler gives a job, and what other resolvers give: the time, a random number.
    """
    return [path for path, text in interpolations(config) if _asks_for_environment(text)]


def _asks_for_environment(text: str) -> bool:
    is_stable = all(name.startswith("oc.") for name in _RESOLVER.findall(text))
    return is_stable and any(not is_of_a_job(name) for name in _VARIABLE.findall(text))


def job_dependent_paths(config: Any, is_of_a_job: Callable[[str], bool]) -> list[KeyPath]:
    """Paths of values that are known when the job runs: text that asks for its variables, directly or elsewhere."""
    texts = list(interpolations(config))
    dependent = [path for path, text in texts if any(map(is_of_a_job, _VARIABLE.findall(text)))]
    while True:
        referring = [path for path, text in texts if path not in dependent and _refers_to(text, path, dependent)]
        if not referring:
            return dependent
        dependent += referring


def _refers_to(text: str, path: KeyPath, targets: Sequence[KeyPath]) -> bool:
    """True where a text has an interpolation of a node that is, or holds, one of the targets."""
    for dots, name in _NODE.findall(text):
        keys = re.split(r"[.\[\]]+", name.strip("].["))
        # ${x} is from the top, ${.x} is beside the text, ${..x} beside its parent
        node = (*(map(str, path[: len(path) - len(dots)]) if dots else ()), *keys)
        if any(tuple(map(str, target[: len(node)])) == node for target in targets):
            return True
    return False

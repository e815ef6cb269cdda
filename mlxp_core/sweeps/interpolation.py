"""Where a configuration, with its interpolations as text, depends on variables: of the environment, or of a job."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from mlxp_core.nested import KeyPath, leaves
from mlxp_core.scheduler.variables import is_of_a_job

_RESOLVER = re.compile(r"\$\{\s*([A-Za-z_][\w.]*)\s*:")
_NODE = re.compile(r"\$\{\s*(\.*)([A-Za-z_0-9][\w.\[\]-]*)\s*\}")
_VARIABLE = re.compile(r"\$\{\s*oc\.env\s*:\s*(\w+)")


def environment_paths(config: Any, path: KeyPath = ()) -> list[KeyPath]:
    """The places of text that asks for variables of the environment, and for nothing that each job has for itself.

    Those are what a scheduler gives a job, and what other resolvers give: the time, a random number.
    """
    if isinstance(config, (dict, list)):
        items = config.items() if isinstance(config, dict) else enumerate(config)
        return [one for key, item in items for one in environment_paths(item, (*path, key))]
    if not isinstance(config, str) or "${" not in config:
        return []
    stable = all(name.startswith("oc.") for name in _RESOLVER.findall(config))
    return [path] if stable and any(not is_of_a_job(name) for name in _VARIABLE.findall(config)) else []


def job_dependent_paths(config: Any, is_of_a_job: Callable[[str], bool]) -> list[KeyPath]:
    """The places whose values are known when the job runs: text that asks for its variables, directly or elsewhere."""
    texts = [(path, text) for path, text in leaves(config) if isinstance(text, str) and "${" in text]
    found = [path for path, text in texts if any(map(is_of_a_job, _VARIABLE.findall(text)))]
    while True:
        more = [path for path, text in texts if path not in found and _refers_to(text, path, found)]
        if not more:
            return found
        found += more


def _refers_to(text: str, path: KeyPath, places: Sequence[KeyPath]) -> bool:
    """Whether a text has an interpolation of a node that is, or holds, one of these places."""
    for dots, name in _NODE.findall(text):
        keys = re.split(r"[.\[\]]+", name.strip("].["))
        # ${x} is from the top, ${.x} is beside the text, ${..x} beside its parent
        node = (*(map(str, path[: len(path) - len(dots)]) if dots else ()), *keys)
        if any(tuple(map(str, place[: len(node)])) == node for place in places):
            return True
    return False

"""Where a configuration, with its interpolations as text, depends on the environment that it is composed in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from mlxp_core.jobvariables import is_of_a_job

Path = tuple[Any, ...]  # keys and indices

_RESOLVER = re.compile(r"\$\{\s*([A-Za-z_][\w.]*)\s*:")
_VARIABLE = re.compile(r"\$\{\s*oc\.env\s*:\s*(\w+)")


def of_the_environment(config: Any, path: Path = ()) -> list[Path]:
    """The places of text that asks for variables of the environment, and for nothing that each job has for itself.

    Those are what a scheduler gives a job, and what other resolvers give: the time, a random number.
    """
    if isinstance(config, (dict, list)):
        items = config.items() if isinstance(config, dict) else enumerate(config)
        return [one for key, item in items for one in of_the_environment(item, (*path, key))]
    if not isinstance(config, str) or "${" not in config:
        return []
    stable = all(name.startswith("oc.") for name in _RESOLVER.findall(config))
    return [path] if stable and any(not is_of_a_job(name) for name in _VARIABLE.findall(config)) else []


def value_at(config: Any, path: Sequence[Any]) -> Any:
    """What is at a place; None where there is none."""
    for key in path:
        try:
            config = config[key]
        except (LookupError, TypeError):
            return None
    return config

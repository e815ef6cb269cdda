"""Nested mappings and lists of plain values: converted, compared, walked through."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

KeyPath = tuple[Any, ...]  # keys and indices


def to_builtins(value: Any) -> Any:
    """The same value in what YAML and JSON have words for: anything else as its text."""
    if value is None or isinstance(value, (bool, int, float, str)):
        # exactly these types: a subclass (a str enum, numpy's float) has a name of its own in YAML
        for kind in (bool, int, float, str):
            if isinstance(value, kind):
                return kind(value)
        return None
    if isinstance(value, Mapping):
        return {
            key if isinstance(key, (str, int, float)) else str(key): to_builtins(item) for key, item in value.items()
        }
    if isinstance(value, (list, tuple, set, frozenset)):
        return [to_builtins(item) for item in value]
    return str(value)


def canonical_json(value: Any) -> str:
    """A text by which plain values are the same: of the same types, keys included, and mappings in any order."""
    return json.dumps(_in_order(to_builtins(value)))


def _in_order(value: Any) -> Any:
    if isinstance(value, dict):
        return ["mapping", *sorted([type(key).__name__, str(key), _in_order(item)] for key, item in value.items())]
    return ["list", *map(_in_order, value)] if isinstance(value, list) else value


def leaves(value: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """Each value that is neither a mapping nor a list, or is an empty one, with its place."""
    if isinstance(value, (dict, list)) and (value or not path):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(item, (*path, key))
    else:
        yield path, value


def value_at(config: Any, path: Sequence[Any], default: Any = None) -> Any:
    """The value at a place; the default where there is none."""
    for key in path:
        try:
            config = config[key]
        except (LookupError, TypeError):
            return default
    return config

"""Nested mappings and lists of plain values: convert them, compare them, walk through them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

KeyPath = tuple[Any, ...]  # keys and indices


def to_builtins(value: Any) -> Any:
    """Convert to the types that YAML and JSON have words for: anything else becomes its text."""
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
    """Give a text that is equal for equal plain values: of the same types, keys included, mappings in any order."""
    return json.dumps(_in_order(to_builtins(value)))


def _in_order(value: Any) -> Any:
    if isinstance(value, dict):
        return ["mapping", *sorted([type(key).__name__, str(key), _in_order(item)] for key, item in value.items())]
    return ["list", *map(_in_order, value)] if isinstance(value, list) else value


def leaves(value: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """Each value below this one that holds no others, an empty mapping or list too, with its path."""
    if isinstance(value, (dict, list)) and value:
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(item, (*path, key))
    elif path:
        yield path, value


def interpolations(value: Any) -> Iterator[tuple[KeyPath, str]]:
    """Each text that has an interpolation in it, with its path."""
    return ((path, text) for path, text in leaves(value) if isinstance(text, str) and "${" in text)


def value_at(value: Any, path: Sequence[Any], default: Any = None) -> Any:
    """The value at a path; ``default`` where there is none."""
    for key in path:
        if isinstance(value, str):  # which has items, too
            return default
        try:
            value = value[key]
        except (LookupError, TypeError):
            return default
    return value

"""Nested mappings and lists of plain values: compare them, walk through them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from mlxp_core.plain_values import to_builtins

KeyPath = tuple[Any, ...]  # keys and indices
MAX_VALUES = 100_000  # more are no configuration: nobody would read them, and YAML takes seconds


def canonical_json(value: Any) -> str:
    """Give a text that is equal for equal plain values: of the same types, keys included, mappings in any order."""
    return json.dumps(_in_order(to_builtins(value)))


def _in_order(value: Any) -> Any:
    if isinstance(value, dict):
        return ["mapping", *sorted([type(key).__name__, str(key), _in_order(item)] for key, item in value.items())]
    return ["list", *map(_in_order, value)] if isinstance(value, list) else value


def has_text_keys(value: Any) -> bool:
    """Tell whether all mappings in a plain value have keys of text alone."""
    if isinstance(value, dict):
        return all(type(key) is str for key in value) and all(map(has_text_keys, value.values()))
    return not isinstance(value, list) or all(map(has_text_keys, value))


def leaves(value: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """Each value below this one that holds no others, an empty mapping or list too, with its path."""
    if isinstance(value, (dict, list)) and value:
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(item, (*path, key))
    elif path:
        yield path, value


def count_values(value: Any) -> int:
    """Count the values in a plain value, containers and itself included."""
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(map(count_values, items))


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

"""Flatten nested mappings into fields with dotted names. Pure: values in, values out."""

from __future__ import annotations

import base64
import datetime
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, ClassVar, NamedTuple
from weakref import WeakValueDictionary

from mlxp_core.nested import MAX_VALUES

# Kind of a value, as far as the type of a column depends on it: null, bool, int, float, text, big (an integer that
# fits no Int64), and list:<one of these>, or list:mixed for a list that no List column can hold.
Kind = str

# Aliases let a YAML file of a few lines stand for billions of values, or for one that contains itself.
_MAX_DEPTH = 100
_TOO_MUCH = f"holds more than {MAX_VALUES} values or {_MAX_DEPTH} levels, or contains itself (a YAML alias?)"
_KINDS: dict[type, Kind] = {str: "text", float: "float", bool: "bool", type(None): "null"}
_KNOWN_BY_TYPE = frozenset({*_KINDS, int})
_MAX_SCHEMAS = 1000
_SIMPLE = frozenset({int, float, bool, type(None)})


class FieldSchema:
    """Names and kinds of the fields of one file; one object for all the runs of a sweep that have the same."""

    _by_items: ClassVar[WeakValueDictionary[tuple[tuple[str, Kind], ...], FieldSchema]] = WeakValueDictionary()

    def __init__(self, items: tuple[tuple[str, Kind], ...]) -> None:
        """``items``: name and kind of each field, in the order of the file."""
        self.items = items
        self.positions = {name: position for position, (name, _) in enumerate(items)}

    @classmethod
    def of(cls, items: tuple[tuple[str, Kind], ...]) -> FieldSchema:
        """Give the one schema with these items."""
        schema = cls._by_items.get(items)
        return cls._by_items.setdefault(items, cls(items)) if schema is None else schema


class Fields(NamedTuple):
    """The fields of one file of one run."""

    schema: FieldSchema
    values: tuple[Any, ...]

    def named(self, name: str) -> tuple[Kind, Any]:
        """Give kind and value of a field; null where the run does not have it."""
        position = self.schema.positions.get(name)
        if position is None:
            return "null", None
        return self.schema.items[position][1], self.values[position]


NO_FIELDS = Fields(FieldSchema.of(()), ())


def read_fields(prefix: str, content: Mapping[Any, Any]) -> tuple[Fields, list[str]]:
    """Flatten ``content``; names are ``prefix`` and the keys on the way, joined by dots.

    Returns the fields and the names that two values claim: ``{a: {b: 1}, "a.b": 2}``. There the value that lies deeper
    counts, and of two at the same depth the first. Empty mappings leave no field.

    Raises ValueError for a mapping that contains itself, or that holds more values than any configuration has.
    """
    flat = _Flat()
    flat.add(prefix, content, depth=1)
    schema = FieldSchema.of(
        tuple((name, _KINDS.get(type(value)) or kind_of(value)) for name, (_, value) in flat.fields.items())
    )
    return Fields(schema, tuple(value for _, value in flat.fields.values())), flat.claimed_twice


class FieldLayout:
    """Names that many runs have values for, and the schemas that these have had."""

    def __init__(self, names: Sequence[str]) -> None:
        """``names`` of the fields, in their order."""
        self.names = tuple(names)
        # by the types of the values; with each the positions of whole numbers, which may be too large for their kind
        self._schemas: dict[tuple[type, ...], tuple[FieldSchema, tuple[int, ...]]] = {}

    def fields(self, values: tuple[Any, ...], *, ascii_only: bool) -> Fields:
        """Give the fields with these values, which JSON has words for; ``ascii_only``: all text in them is."""
        types = tuple(map(type, values))
        cached = self._schemas.get(types) if ascii_only else None
        if cached is None:
            return self._fields(values, types)
        schema, integers = cached
        for position in integers:
            if not -(2**63) <= values[position] < 2**63:
                return self._fields(values, types)
        return Fields(schema, values)

    def _fields(self, values: tuple[Any, ...], types: tuple[type, ...]) -> Fields:
        counter = count()
        plain = tuple(_plain(value, 1, counter) for value in values)
        schema = FieldSchema.of(tuple(zip(self.names, map(kind_of, plain), strict=True)))
        integers = tuple(position for position, value_type in enumerate(types) if value_type is int)
        if _KNOWN_BY_TYPE.issuperset(types) and not any(schema.items[position][1] == "big" for position in integers):
            if len(self._schemas) > _MAX_SCHEMAS:
                self._schemas.clear()
            self._schemas[types] = (schema, integers)
        return Fields(schema, plain)


@dataclass
class _Flat:
    """Fields of the mappings added so far, each with the depth it lies at."""

    fields: dict[str, tuple[int, Any]] = field(default_factory=dict)
    claimed_twice: list[str] = field(default_factory=list)
    counter: count[int] = field(default_factory=count)

    def add(self, prefix: str, content: Mapping[Any, Any], depth: int) -> None:
        """Add the fields of a mapping and of those in it."""
        _check_size(depth, self.counter)
        fields = self.fields
        if len(fields) > MAX_VALUES:
            raise ValueError(_TOO_MUCH)
        for key, value in content.items():
            name = f"{prefix}.{key}" if isinstance(key, str) and key.isascii() else f"{prefix}.{_name(key)}"
            # nearly all values are these, and need no second look
            if (type(value) in _SIMPLE or (type(value) is str and value.isascii())) and name not in fields:
                fields[name] = (depth, value)
                continue
            if isinstance(value, dict):
                self.add(name, value, depth + 1)
                continue
            if name in fields:
                self.claimed_twice.append(name)
                if fields[name][0] >= depth:
                    continue
            fields[name] = (depth, _plain(value, depth, self.counter))


def _check_size(depth: int, counter: count[int]) -> None:
    if depth > _MAX_DEPTH or next(counter) > MAX_VALUES:
        raise ValueError(_TOO_MUCH)


def _name(key: object) -> str:
    return valid_text(key) if isinstance(key, str) else text_of(_plain(key, 0, count())) or "null"


def _plain(value: object, depth: int, counter: count[int]) -> Any:
    """Convert a value of YAML to null, bool, int, float, str, list and dict."""
    _check_size(depth, counter)
    if isinstance(value, str):
        return valid_text(value)
    if value is None or isinstance(value, (int, float)):
        return value
    if isinstance(value, datetime.date):  # a datetime is one, too
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {_name(key): _plain(item, depth + 1, counter) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, depth + 1, counter) for item in value]
    if isinstance(value, set):
        return sorted((_plain(item, depth + 1, counter) for item in value), key=str)
    return str(value)


def kind_of(value: object) -> Kind:
    """Give the kind of a plain value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int" if -(2**63) <= value < 2**63 else "big"
    if isinstance(value, float):
        return "float"
    if isinstance(value, str):
        return "text"
    if isinstance(value, list):
        return "list:" + _kind_in(value)
    return "mixed"


def _kind_in(values: list[Any]) -> Kind:
    kinds = {kind_of(value) for value in values} - {"null"}
    if not kinds:
        return "null"
    if kinds == {"int", "float"}:
        return "float"
    (kind, *others) = kinds
    return kind if not others and kind in {"bool", "int", "float", "text"} else "mixed"


def text_of(value: object) -> str | None:
    """Write a plain value as text: a string as it is, null as None, the rest as strict JSON."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float):
        return _finite(value) if not math.isfinite(value) else json.dumps(value)
    return valid_text(json.dumps(_strict(value), ensure_ascii=False))


def _strict(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else _finite(value)
    if isinstance(value, list):
        return [_strict(item) for item in value]
    if isinstance(value, dict):
        return {key: _strict(item) for key, item in value.items()}
    return value


def _finite(value: float) -> str:
    """Give the name that metric files use for a number that JSON has no token for."""
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


_ESCAPED = re.compile(r"\\udc([0-9a-f]{2})")


def path_of(text: str) -> str:
    """Give the path whose ``valid_text`` this is."""
    return text if os.path.lexists(text) else _ESCAPED.sub(lambda match: chr(0xDC00 + int(match[1], 16)), text)


def valid_text(text: str) -> str:
    """Escape lone surrogates, which no Polars column holds: from a file name that is not UTF-8, or escapes in JSON."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")

"""Types of columns, and conversions of fields to cells of these. Pure: kinds in, Polars types out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import polars as pl

from mlxp_core.reader.load.fields import Kind, text_of

_LIST = "list:"


def column_type(kinds: Collection[Kind]) -> pl.DataType:
    """Give the one type that holds values of all these kinds.

    Whole numbers and floats are Float64; any other mix is String, as is a column of nothing but nulls.
    """
    present = set(kinds) - {"null"}
    if present and all(kind.startswith(_LIST) for kind in present):
        inner = _scalar_type({kind.removeprefix(_LIST) for kind in present} - {"null"})
        return pl.String() if inner is None else pl.List(inner)
    return _scalar_type(present) or pl.String()


def is_one_type(kinds: Collection[Kind]) -> bool:
    """Tell a String column whose values are all strings from one that is String for want of a common type."""
    return set(kinds) - {"null"} == {"text"}


def in_words(kinds: Collection[Kind]) -> str:
    """Name the types of the values, as they were written: ``int``, or ``int, text`` where runs disagree."""
    type_names = {kind.replace("list:", "list of ").replace("big", "int") for kind in kinds if kind != "null"}
    return ", ".join(sorted(type_names)) or "null"


def conversions(dtype: pl.DataType) -> Mapping[Kind, Callable[[Any], Any]]:
    """Map each kind that a column of this type can hold to the function that makes its cell."""
    if isinstance(dtype, pl.String):
        return _ANY_TO_TEXT
    if isinstance(dtype, pl.List):
        inner = _SCALAR_CONVERSIONS[dtype.inner]
        return {"null": _same} | {_LIST + kind: _each(convert) for kind, convert in inner.items()}
    return _SCALAR_CONVERSIONS[dtype]


def _scalar_type(kinds: Collection[Kind]) -> pl.DataType | None:
    kinds = set(kinds)
    if kinds <= {"text"}:
        return pl.String()
    if kinds == {"bool"}:
        return pl.Boolean()
    if kinds == {"int"}:
        return pl.Int64()
    if kinds <= {"int", "float"}:
        return pl.Float64()
    return None


def _same(value: Any) -> Any:
    return value


def _each(convert: Callable[[Any], Any]) -> Callable[[list[Any]], list[Any]]:
    if convert is _same:
        return _same
    return lambda values: [None if value is None else convert(value) for value in values]


_WRITTEN_AS_JSON = ("bool", "int", "float", "big", "mixed")
_ANY_TO_TEXT: Mapping[Kind, Callable[[Any], Any]] = {
    "null": _same,
    "text": _same,
    **dict.fromkeys(_WRITTEN_AS_JSON, text_of),
    **dict.fromkeys((_LIST + kind for kind in ("null", "text", *_WRITTEN_AS_JSON)), text_of),
}
_SCALAR_CONVERSIONS: Mapping[Any, Mapping[Kind, Callable[[Any], Any]]] = {
    pl.String(): {"null": _same, "text": _same},
    pl.Boolean(): {"null": _same, "bool": _same},
    pl.Int64(): {"null": _same, "int": _same},
    pl.Float64(): {"null": _same, "int": float, "float": _same},
}

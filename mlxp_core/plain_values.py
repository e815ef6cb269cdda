"""Convert foreign values to plain ones: null, bool, int, float, str, list and dict, for which YAML and JSON have words.

The only module that knows of numpy, torch, jax, pandas and their like: by the methods of their values, so that none of
them is imported. Equal values become equal ones in every process: nothing hangs on the order of a set, on an address,
or on how much of an array its text shows.
"""

from __future__ import annotations

import dataclasses
import datetime
import math
import operator
import os
import re
from collections.abc import Callable, ItemsView, Iterable, KeysView, Mapping, MappingView, Sequence, ValuesView
from collections.abc import Set as AbstractSet
from enum import Enum
from typing import Any, NamedTuple, NoReturn

_SCALARS: frozenset[type] = frozenset({bool, int, float, str, type(None)})
_BASES: tuple[type, ...] = (bool, int, float, str)
# of an array, a series or a scalar, in this order: tolist has None for what is masked, where item has 0.0
_CONVERSIONS = ("tolist", "to_list", "to_pylist", "as_py", "numpy", "item")
# kinds of numpy's types whose tolist does not say what they are: nanoseconds as integers, records without names
_SPECIAL = frozenset("mMV")
_NAMESPACES = frozenset({("types", "SimpleNamespace"), ("argparse", "Namespace")})
_MISSING = frozenset({"NAType", "NaTType"})  # pandas'
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_LONGEST = 200  # characters of a value in a message
_LONGEST_RANGE = 100_000
_LARGEST_EXPONENT = 4000  # more digits than Python puts into a text
_NOT_FOUND = object()


class PlainValueError(TypeError):
    """A value that is not plain and cannot become so; ``path`` are the keys and indices that lead to it."""

    def __init__(self, reason: str) -> None:
        """Take the reason; the path is found on the way out."""
        super().__init__(reason)
        self.path: list[Any] = []

    def place(self, root: str) -> str:
        """Name the place of the value as Python does: ``config['model'][3]``."""
        return root + "".join(f"[{key!r}]" for key in self.path)


class _Target(NamedTuple):
    """Tell what a format has words for."""

    kept: frozenset[type]  # types whose values stay as they are
    key: Callable[[object], Any]
    foreign: Callable[[object], Any]  # takes a value apart, to be converted again; _NOT_FOUND for what it does not know
    other: Callable[[object], Any]


def to_builtins(value: Any) -> Any:
    """Convert to what YAML has words for, as a configuration is written.

    A scalar or an array of numpy, torch or jax becomes its numbers, nested lists; a set a sorted list; a str or an int
    enum its value; a dataclass a mapping of its fields; a path, a date, bytes their text; a decimal or a fraction a
    number; what is masked or missing None. Anything else becomes its text, a class or a function its qualified name.
    Keys stay text, numbers and bools; others become text. Raises PlainValueError for two keys that become the same one,
    and for what contains itself.
    """
    return _convert_whole(value, _YAML)


def to_json(value: Any) -> Any:
    """Convert to what JSON has words for: as ``to_builtins``, but all keys are text (``spell_key``).

    NaN and the infinities stay: see runs/strict_json.py. Raises PlainValueError also for a value without a plain form.
    """
    return _convert_whole(value, _JSON)


def to_metric(value: Any) -> Any:
    """Convert as ``to_json`` does, but only numbers, text, None, their containers, and arrays of these.

    What is not finite becomes ``"NaN"``, ``"Infinity"`` or ``"-Infinity"``.

    Raises PlainValueError for anything else: what is meant by a date or a set as a metric is the caller's to say.
    """
    return _convert_whole(value, _METRIC)


def spell_key(key: object) -> str:
    """Spell a key as JSON does, the one spelling that files, lists of keys and columns have.

    >>> spell_key(True), spell_key(None), spell_key(0.5), spell_key((1, "a"))
    ('true', 'null', '0.5', "(1, 'a')")
    """
    if type(key) is str:
        return key
    plain = to_builtins(key)
    if isinstance(plain, str):
        return plain
    if plain is None:
        return "null"
    if isinstance(plain, bool):
        return "true" if plain else "false"
    if isinstance(plain, float):
        # numpy's float32 has fewer digits than the float that it becomes
        return name_if_not_finite(plain) or (float.__repr__(plain) if isinstance(key, float) else str(key))
    return str(tuple(plain) if isinstance(plain, list) else plain)


def name_if_not_finite(value: float) -> str | None:
    """Name a number that JSON has no token for; None for one that it has."""
    if math.isfinite(value):
        return None
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def unwrap(value: Any) -> Any:
    """Take a scalar or an array of numpy, torch, jax, pandas and the like for what it holds.

    Gives a number, text, None for what is missing or masked, or a list, whose items may need the same. Raises TypeError
    for a value that is neither, or that cannot be had: of a traced jax array for example.
    """
    kind = type(value)
    number_kind = getattr(getattr(value, "dtype", None), "kind", None)
    if number_kind in _SPECIAL:
        return _unwrap_special(value, number_kind)
    for name in _CONVERSIONS:
        method = getattr(kind, name, None)
        if method is None or isinstance(value, type):
            continue
        try:
            found = method(value)
        except (TypeError, ValueError, RuntimeError):  # RuntimeError is what torch says of a tensor without values
            continue
        if type(found) is not kind:
            return found
        return complex(value) if number_kind == "c" else float(value)  # numpy's long double gives itself
    if kind.__name__ in _MISSING and kind.__module__.startswith("pandas."):
        return None
    raise TypeError(f"{_shown(value)} of type {kind.__name__} is neither a number nor a string")


def _unwrap_special(value: Any, number_kind: str) -> Any:
    if getattr(value, "ndim", 0):
        return list(value)
    if number_kind == "V":
        names = value.dtype.names
        return {name: value[name] for name in names} if names else value.tolist()
    scalar = value[()] if hasattr(value, "__getitem__") and hasattr(value, "shape") else value
    text = str(scalar)
    if text in {"NaT", "--"}:  # of a date that is not there, or masked
        return None
    if number_kind == "M":
        return text
    try:
        return float(scalar / type(scalar)(1, "s"))
    except TypeError:  # of months and years, or of nothing named
        return text


def _convert_whole(value: Any, target: _Target) -> Any:
    try:
        return _convert(value, target)
    except RecursionError:
        raise PlainValueError("it contains itself, or is nested too deeply") from None


def _convert(value: Any, target: _Target) -> Any:
    kind = type(value)
    if kind in target.kept:
        return value
    if kind is dict:
        return _mapping(value, target)
    if kind is list or kind is tuple:
        return _items(value, target)
    for base in _BASES:
        if isinstance(value, base):
            return _as_base(value, base, target)
    if isinstance(value, Mapping):
        return _mapping(value, target)
    if isinstance(value, (list, tuple)):
        return _items(value, target)
    found = target.foreign(value)
    return target.other(value) if found is _NOT_FOUND else _convert(found, target)


def _as_base(value: Any, base: type, target: _Target) -> Any:
    # by the base's own method: str() of a str enum is what its program calls it
    plain = getattr(base, f"__{base.__name__}__")(value)
    return plain if base in target.kept else name_if_not_finite(plain) or plain


def _mapping(value: Mapping[Any, Any], target: _Target) -> dict[Any, Any]:
    plain: dict[Any, Any] = {}
    key: Any = None
    try:
        for key, item in value.items():
            name = key if type(key) is str else target.key(key)
            if name in plain:
                _refuse_key(key, next(one for one in value if target.key(one) == name), name)
            plain[name] = _convert(item, target)
    except PlainValueError as error:
        error.path.insert(0, key)
        raise
    return plain


def _refuse_key(key: object, other: object, name: object) -> NoReturn:
    raise PlainValueError(f"the keys {other!r} and {key!r} are both written {name!r}: rename one of them")


def _items(value: Sequence[Any], target: _Target) -> list[Any]:
    plain: list[Any] = []
    try:
        for item in value:
            plain.append(_convert(item, target))  # noqa: PERF401  (its length is the index of the item that is refused)
    except PlainValueError as error:
        error.path.insert(0, len(plain))
        raise
    return plain


def _yaml_key(key: object) -> Any:
    plain = to_builtins(key)
    return plain if isinstance(plain, _BASES) else spell_key(key)


def _take_apart(value: Any) -> Any:
    """Give what a value of Python's library or of another package consists of; _NOT_FOUND for any other value."""
    if isinstance(value, type):
        return _NOT_FOUND
    for take in (_text_or_time, _items_of, _fields, _unwrap_if_possible):
        found = take(value)
        if found is not _NOT_FOUND:
            return found
    return _number(value)


def _text_or_time(value: Any) -> Any:
    if isinstance(value, Enum):
        return str(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return repr(bytes(value))  # as Python writes them: any bytes have a text, and none that of another value
    if isinstance(value, os.PathLike):
        return os.fsdecode(value)
    if isinstance(value, (datetime.date, datetime.time)):  # a datetime is a date; pandas' missing one is unlike itself
        return value.isoformat() if value == value else None  # noqa: PLR0124
    return value.total_seconds() if isinstance(value, datetime.timedelta) else _NOT_FOUND


def _items_of(value: Any) -> Any:
    if isinstance(value, AbstractSet) and not isinstance(value, MappingView):
        return sorted(value, key=lambda item: _rank(to_builtins(item)))
    if isinstance(value, range) and len(value) > _LONGEST_RANGE:
        return _NOT_FOUND
    is_sequence = isinstance(value, (Sequence, KeysView, ValuesView, ItemsView))
    return list(value) if is_sequence else _NOT_FOUND


def _fields(value: Any) -> Any:
    """Give the fields of a dataclass, of its like in attrs, pydantic and msgspec, of a namespace, of a data frame."""
    kind = type(value)
    names: Iterable[str]
    if dataclasses.is_dataclass(kind):
        names = [field.name for field in dataclasses.fields(kind)]
    elif hasattr(kind, "__attrs_attrs__"):
        names = [field.name for field in kind.__attrs_attrs__]
    elif hasattr(kind, "model_fields") or hasattr(kind, "__struct_fields__"):
        names = list(getattr(kind, "model_fields", ()) or getattr(kind, "__struct_fields__", ()))
    elif any((base.__module__, base.__name__) in _NAMESPACES for base in kind.__mro__):
        names = list(vars(value))
    elif hasattr(kind, "columns") and hasattr(kind, "to_dict"):
        return {name: value[name] for name in value.columns}
    else:
        return _NOT_FOUND
    return {name: getattr(value, name) for name in names if hasattr(value, name)}


def _number(value: Any) -> Any:
    """Give the number that a decimal, a fraction, or a number of another package stands for."""
    try:
        if hasattr(value, "__index__"):
            return operator.index(value)
        if not hasattr(value, "__float__"):
            return _NOT_FOUND
        if getattr(value, "denominator", None) == 1 or _is_whole(value):
            return int(value)
        number = float(value)
    except (TypeError, ValueError, ArithmeticError, RuntimeError):
        return _NOT_FOUND
    # one that is too large for a float keeps its digits
    return str(value) if math.isinf(number) and "inf" not in str(value).lower() else number


def _is_whole(value: Any) -> bool:
    """Tell a decimal that is written without a point."""
    as_tuple = getattr(value, "as_tuple", None)
    exponent = as_tuple().exponent if as_tuple is not None else None
    return isinstance(exponent, int) and 0 <= exponent < _LARGEST_EXPONENT


def _rank(plain: Any) -> tuple[Any, ...]:
    """Order plain values of any types: null, bools, numbers, text, then the rest."""
    if plain is None:
        return (0,)
    if isinstance(plain, bool):
        return (1, plain)
    if isinstance(plain, (int, float)):
        return (2, math.isnan(plain), 0 if math.isnan(plain) else plain, type(plain).__name__)
    return (3, plain) if isinstance(plain, str) else (4, repr(plain))


def _text(value: Any) -> str:
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if isinstance(module, str) and isinstance(name, str):  # a class or a function
        return f"{module}.{name}"
    return _ADDRESS.sub("", str(value))


def _refuse(value: object) -> Any:
    raise PlainValueError(f"{_shown(value)} of type {type(value).__name__} has no words in JSON")


def _refuse_metric(value: object) -> Any:
    raise PlainValueError(f"{_shown(value)} of type {type(value).__name__} is neither a number nor a string")


def _unwrap_if_possible(value: object) -> Any:
    try:
        return unwrap(value)
    except TypeError:
        return _NOT_FOUND


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


_YAML = _Target(_SCALARS, _yaml_key, _take_apart, _text)
_JSON = _Target(_SCALARS, spell_key, _take_apart, _refuse)
_METRIC = _Target(_SCALARS - {float}, spell_key, _unwrap_if_possible, _refuse_metric)

"""What a query compares: values as they are written, columns, and the metrics of a run reduced to one value."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from math import nan
from typing import Any

import lark
import polars as pl

from mlxp_core.reader.query.suggest import unknown_column
from mlxp_core.reader.query.syntax import Fault, Node, string_of, text_of
from mlxp_core.runs.times import parse_time
from mlxp_core.statuses import Status

NUMBERS, TRUTH, TEXT, TIMES = "numbers", "true or false", "text", "times"
MIXED, LISTS = "values of several types", "lists"
Given = bool | int | float | str | datetime  # a value of the query that a field can be compared with

_STATUS = "info.status"
_MAX_INT_DIGITS = 400  # with more, int() may refuse and float() is inf
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_RELATIVE = re.compile(r"-(\d+(?:\.\d+)?)([smhdw])")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")


@dataclass(frozen=True)
class Field:
    """What has a value of its own for each run: a column, or a reduction of one."""

    node: Node
    name: str  # as the query has it
    expression: pl.Expr
    dtype: pl.DataType
    category: str

    @property
    def is_integer(self) -> bool:
        """Whether it holds whole numbers only."""
        return self.dtype.is_integer()


@dataclass(frozen=True)
class Value:
    """A value that stands in the query."""

    token: lark.Token
    given: Given | None

    @property
    def category(self) -> str:
        """What it can be compared with."""
        if isinstance(self.given, bool):
            return TRUTH
        if self.token.type == "RELATIVE_TIME":
            return TIMES
        return TEXT if isinstance(self.given, str) else NUMBERS


Operand = Field | Value


@dataclass(frozen=True)
class Columns:
    """The columns that a query may ask for, and the moment that its relative times are relative to."""

    schema: Mapping[str, pl.DataType]
    untyped: Collection[str]
    now: datetime

    def operand(self, node: Node, *, compared: bool = False) -> Operand:
        """Give what an operand stands for; ``compared``: what a column is compared with. Raises Fault."""
        if isinstance(node, lark.Token):
            return Value(node, _value_of(node))
        return self.column(node.children[0], compared=compared) if node.data == "column" else self._reduction(node)

    def column(self, token: Any, *, compared: bool = False) -> Field:
        """Give a column by its name. Raises Fault if there is none."""
        name = token[1:-1].replace("``", "`") if token.startswith("`") else str(token)
        dtype = self.schema.get(name)
        if dtype is None:
            hint = f"; text is written in quotes: '{name}'" if compared and "." not in name else ""
            raise Fault(token, unknown_column(name, self.schema) + hint)
        return Field(token, name, pl.col(name), dtype, MIXED if name in self.untyped else _category(dtype))

    def time(self, value: Value) -> datetime:
        """Read a value as a time. Raises Fault."""
        text = value.given
        try:
            if not isinstance(text, str):
                raise ValueError(text)  # noqa: TRY004, TRY301  (a fault in the query)
            relative = _RELATIVE.fullmatch(text)
            if relative is None:
                return parse_time(text, naive=timezone.utc).astimezone(timezone.utc)
            return self.now - timedelta(**{_UNITS[relative[2]]: float(relative[1])})
        except (ValueError, OverflowError):
            message = f"{value.token} is no time: write '2026-11-30', '2026-11-30T09:00:00+01:00', or -2d (s m h d w)"
            raise Fault(value.token, message) from None

    def _reduction(self, call: lark.Tree[Any]) -> Field:
        function, argument, *options = call.children
        reduce = _REDUCTIONS.get(str(function))
        if reduce is None:
            close = difflib.get_close_matches(str(function), _FUNCTIONS, n=1)
            meant = f"did you mean {close[0]}?" if close else f"there is {', '.join(_FUNCTIONS)}"
            raise Fault(function, f"no function {str(function)!r}: {meant}")
        field = self.operand(argument)
        if not isinstance(field, Field):
            raise Fault(argument, f"{function} takes a column, such as train.loss, and not {text_of(argument)}")
        mode = _mode(call, options)
        inner = _inner(field)
        dtype = field.dtype if inner is None else inner
        if str(function) not in {"first", "last"}:
            if not dtype.is_numeric():
                held = field.category if inner is None else f"lists of {_category(inner)}"
                raise Fault(argument, f"{function} takes numbers: {field.name} holds {held}")
            dtype = pl.Float64()
        # a metric of text may hold numbers, too, which are text there
        is_mixed = field.category == MIXED or (inner is not None and dtype == pl.String())
        expression = _of_scalar(field, mode) if inner is None else reduce(field, mode)
        return Field(call, text_of(call), expression, dtype, MIXED if is_mixed else _category(dtype))


def is_date(value: Value) -> bool:
    """Tell a bare date, which stands for its first moment."""
    return isinstance(value.given, str) and _DATE.fullmatch(value.given.strip()) is not None


def check_status(field: Field, value: Value) -> None:
    """Raise Fault for a status that no run can have."""
    if field.name != _STATUS or not isinstance(field.node, lark.Token) or not isinstance(value.given, str):
        return
    words = [str(status) for status in Status]
    if value.given not in words:
        close = difflib.get_close_matches(value.given.upper(), words, n=1, cutoff=0.5)
        meant = f"did you mean '{close[0]}'? There is" if close else "there is"
        raise Fault(value.token, f"no run has the status {value.given!r}: {meant} {', '.join(words)}")


def _value_of(token: lark.Token) -> Given | None:
    match token.type:
        case "NULL" | "NONE":
            return None
        case "TRUE" | "TRUE_CAPITAL" | "FALSE" | "FALSE_CAPITAL":
            return token.type.startswith("TRUE")
        case "STRING":
            return string_of(token)
        case "RELATIVE_TIME":
            return str(token)
    return int(token) if token.lstrip("+-").isdecimal() and len(token) < _MAX_INT_DIGITS else float(token)


def _category(dtype: pl.DataType) -> str:
    if dtype.is_numeric():
        return NUMBERS
    if isinstance(dtype, pl.Datetime):
        return TIMES
    if isinstance(dtype, (pl.List, pl.Array)):
        return LISTS
    return {pl.Boolean(): TRUTH, pl.String(): TEXT}.get(dtype, f"{dtype}")


def _inner(field: Field) -> pl.DataType | None:
    """Give the type of what is in the lists of a field; None for a scalar one."""
    inner: Any = field.dtype.inner if isinstance(field.dtype, pl.List) else None
    return inner  # type: ignore[no-any-return]


def _mode(call: lark.Tree[Any], options: list[lark.Tree[Any]]) -> str | None:
    """Give the direction of ``best``. Raises Fault where it is missing, or where another function has an option."""
    function = call.children[0]
    words = []
    for option in options:
        key: Any = option.children[0]
        word: Any = option.children[1]
        words.append(string_of(word) if word.type == "STRING" else str(word))
        if key not in {None, "mode"}:
            raise Fault(option, f"{function} has no option {key}")
    if str(function) != "best":
        if options:
            raise Fault(options[0], f"{function} takes a column alone")
        return None
    if len(words) != 1 or words[0] not in {"min", "max"}:
        column = text_of(call.children[1])
        raise Fault(call, f"best needs its direction: best({column}, max) or best({column}, min)")
    return words[0]


def _floats(field: Field) -> pl.Expr:
    return field.expression.cast(pl.List(pl.Float64))


def _best(field: Field, mode: str | None) -> pl.Expr:
    """Give the best of the values, which NaN never is."""
    values = _floats(field).list.eval(pl.element().fill_nan(None))
    return values.list.max() if mode == "max" else values.list.min()


def _extreme(values: pl.Expr, extreme: pl.Expr) -> pl.Expr:
    """Give NaN where one of the values is: a diverged run is no small loss."""
    return pl.when(values.list.eval(pl.element().is_nan()).list.any()).then(nan).otherwise(extreme)


def _of_scalar(field: Field, mode: str | None) -> pl.Expr:
    """Give a scalar field, which is its own last, best and mean."""
    if mode is not None:
        return field.expression.cast(pl.Float64).fill_nan(None)
    return field.expression


# Functions of a list for each run. Missing values are passed over; NaN is a value, but to `best`.
_REDUCTIONS: Mapping[str, Callable[[Field, str | None], pl.Expr]] = {
    "last": lambda field, _: field.expression.list.drop_nulls().list.last(),
    "first": lambda field, _: field.expression.list.drop_nulls().list.first(),
    "min": lambda field, _: _extreme(_floats(field), _floats(field).list.min()),
    "max": lambda field, _: _extreme(_floats(field), _floats(field).list.max()),
    "mean": lambda field, _: _floats(field).list.mean(),
    "best": _best,
}
_FUNCTIONS = (*_REDUCTIONS, "startswith", "endswith")

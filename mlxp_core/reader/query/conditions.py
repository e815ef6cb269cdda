"""Conditions on what a query compares: Polars expressions that are true or false for each run, never null."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import lark
import polars as pl

from mlxp_core.reader.query.operands import (
    LISTS,
    MIXED,
    NUMBERS,
    TEXT,
    TIMES,
    TRUTH,
    Columns,
    Field,
    Operand,
    Value,
    check_status,
    is_date,
)
from mlxp_core.reader.query.syntax import Fault, Node, string_of

Operator = Callable[[Any, Any], Any]
OPERATORS: Mapping[str, Operator] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_MIRRORED = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
# numbers, true and false, and lists in a column of several types; text that reads like one counts as one
_READS_AS_NO_TEXT = r"^(?:-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|NaN|-?Infinity|true|false|[\[{].*)$"
# of integer types that only a user's own frame has
_RANGES: Mapping[Any, tuple[int, int]] = {pl.UInt64: (0, 2**64 - 1), pl.Int128: (-(2**127), 2**127 - 1)}
_INT64 = (-(2**63), 2**63 - 1)


def compare(left: Operand, operation: lark.Token, right: Operand, columns: Columns) -> pl.Expr:
    """Compare two operands, of which one at least is a field. Raises Fault for types that do not compare."""
    symbol = str(operation)
    if isinstance(left, Value):
        if isinstance(right, Value):
            raise Fault(operation, f"{left.token} {symbol} {right.token} asks for no column")
        left, right, symbol = right, left, _MIRRORED[symbol]
    if isinstance(right, Field):
        return _compare_fields(comparable(left), symbol, comparable(right))
    if right.given is None and symbol in {"==", "!="}:
        return left.expression.is_null() if symbol == "==" else left.expression.is_not_null()
    comparable(left)
    if right.given is None:
        raise Fault(right.token, f"null has no order; `{left.name} is null` asks for it")
    if symbol == "!=":
        return left.expression.is_not_null() & ~_compare_value(left, "==", right, columns)
    return _compare_value(left, symbol, right, columns)


def is_among(field: Field, values: Sequence[Value], columns: Columns) -> pl.Expr:
    """Tell whether a field is one of these values. Raises Fault for one that it does not compare with."""
    comparable(field)
    if not values:
        return field.expression.is_null() & False
    numbers, others, has_null = [], [], False
    for value in values:
        if value.given is None:
            has_null = True
            continue
        _check_types(field, "==", value)
        given: Any = columns.time(value) if field.category == TIMES else value.given
        if value.category == NUMBERS and field.category != TIMES:
            numbers.append(given)
        else:
            others.append(_as_text(given) if field.category == MIXED else given)
    member = _is_number_among(field, numbers) if numbers else None
    if others:
        dtype = pl.String() if field.category == MIXED else field.dtype
        found = field.expression.is_in(pl.lit(pl.Series(others, dtype=dtype)).implode())
        member = found if member is None else member | found
    result = pl.lit(value=False) if member is None else member.fill_null(value=False)
    return result | field.expression.is_null() if has_null else result


def contains(left: Operand, field: Field) -> pl.Expr:
    """Tell whether a list holds a value, or a text a part. Raises Fault for what holds no such thing."""
    inner = _category_inside(field)
    if inner is None:
        raise Fault(
            field.node,
            f"{field.name} holds {field.category}: `in` looks into lists and text, or into values, as in [1, 2]",
        )
    if left.category != inner or (isinstance(left, Value) and left.given is None):
        found = left.token if isinstance(left, Value) else left.name
        raise Fault(_node(left), f"{field.name} holds {_of(field, inner)}, in which {found} cannot be")
    wanted: Any = pl.lit(left.given) if isinstance(left, Value) else left.expression
    if field.category == TEXT:
        result = field.expression.str.contains(wanted, literal=True)
    elif isinstance(left, Value) and inner == NUMBERS:
        result = _holds_number(field, left.given)
    elif inner == NUMBERS:
        result = field.expression.cast(pl.List(pl.Float64)).list.contains(wanted.cast(pl.Float64))
    else:
        result = field.expression.list.contains(wanted)
    result = result.fill_null(value=False)
    return result if isinstance(left, Value) else result & left.expression.is_not_null()


def matches(field: Operand, operation: str, token: lark.Token) -> pl.Expr:
    """Tell whether text begins or ends with a string, or holds a match of a regular expression. Raises Fault."""
    if not isinstance(field, Field) or field.category not in {TEXT, MIXED}:
        held = f"{field.name} holds {field.category}" if isinstance(field, Field) else f"{field.token} is no column"
        raise Fault(_node(field), f"{held}: {operation} is asked of text")
    text = string_of(token)
    if operation in {"=~", "!~"}:
        _check_pattern(token, text)
        result = field.expression.str.contains(text)
    elif operation == "startswith":
        result = field.expression.str.starts_with(text)
    else:
        result = field.expression.str.ends_with(text)
    found: pl.Expr = result.fill_null(value=False)
    return field.expression.is_not_null() & ~found if operation == "!~" else found


def is_true(operand: Operand) -> pl.Expr:
    """Tell whether a field of true and false is true. Raises Fault for any other."""
    if isinstance(operand, Value):
        raise Fault(operand.token, f"{operand.token} alone is no condition: compare a column with it")
    if operand.category == TRUTH:
        return operand.expression.fill_null(value=False)
    if operand.category == MIXED:
        return (operand.expression == "true").fill_null(value=False)
    comparable(operand)
    raise Fault(operand.node, f"{operand.name} holds {operand.category}: compare it, as in {operand.name} == …")


def comparable(field: Field) -> Field:
    """Give a field that can be compared. Raises Fault for any other."""
    if field.category == LISTS:
        raise Fault(
            field.node,
            f"{field.name} holds lists: ask for one value, as in last({field.name}) > 0, for one in it, as in "
            f"1 in {field.name}, or whether it is null; Polars can do more, with .lazy()",
        )
    if field.category not in {NUMBERS, TRUTH, TEXT, TIMES, MIXED}:
        reason = f"{field.name} holds {field.category}: a query knows only whether it is null"
        raise Fault(field.node, f"{reason}; Polars can do more, with .lazy()")
    return field


def _check_types(field: Field, operation: str, value: Value) -> None:
    """Raise Fault where a field does not compare with a value in this way."""
    if field.category == TIMES:
        if operation == "==" and is_date(value):
            message = f"{value.token} is midnight; a day is {value.token} <= {field.name} < the next one"
            raise Fault(value.token, message)
        return
    if field.category != value.category and (field.category != MIXED or value.category == TIMES):
        hint = f"; in quotes, '{value.token}' is text" if field.category == TEXT else ""
        raise Fault(
            value.token, f"{field.name} holds {field.category}, which does not compare with {value.token}{hint}"
        )
    if operation == "==":
        check_status(field, value)
    elif value.category == TRUTH:
        raise Fault(value.token, "true and false have no order")


def _compare_value(field: Field, operation: str, value: Value, columns: Columns) -> pl.Expr:
    """Compare a field with a value, as their types allow. False where the field is missing. Raises Fault."""
    _check_types(field, operation, value)
    compared = OPERATORS[operation]
    if field.category == TIMES:
        moment = pl.lit(columns.time(value), dtype=pl.Datetime("us", "UTC"))
        time: pl.Expr = compared(field.expression, moment)
        return time.fill_null(value=False)
    if value.category == NUMBERS:
        return _compare_number(field, operation, value.given)
    given = _as_text(value.given) if field.category == MIXED else value.given
    result: pl.Expr = compared(field.expression, pl.lit(given))
    if field.category == MIXED and operation != "==":
        result &= ~field.expression.str.contains(_READS_AS_NO_TEXT)  # numbers have no order with text
    return result.fill_null(value=False)


def _compare_number(field: Field, operation: str, value: Any) -> pl.Expr:
    if field.category == NUMBERS and field.is_integer:
        return _compare_integers(field.expression, field.dtype, operation, value)
    number = field.expression
    if field.category == MIXED:
        number = number.cast(pl.Float64, strict=False)  # null for what is no number
    result: pl.Expr = OPERATORS[operation](number, pl.lit(_as_float(value)))
    if operation in {">", ">="}:
        result &= number.cast(pl.Float64).is_not_nan()  # Polars orders NaN above all numbers
    return result.fill_null(value=False)


def _compare_integers(field: pl.Expr, dtype: pl.DataType, operation: str, value: Any) -> pl.Expr:
    """Compare as integers where possible: as floats, large neighbours are the same."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    lowest, highest = _RANGES.get(dtype, _INT64)
    if isinstance(value, int) and not lowest <= value <= highest:
        return field.is_not_null() & pl.lit(OPERATORS[operation](0, value))  # no number of the column is so large
    literal = pl.lit(value, dtype=dtype) if dtype in _RANGES and isinstance(value, int) else pl.lit(value)
    result: pl.Expr = OPERATORS[operation](field, literal)
    return result.fill_null(value=False)


def _is_number_among(field: Field, values: Sequence[int | float]) -> pl.Expr:
    """Tell whether a number is one of these, exactly; null where it is missing."""
    if field.category == NUMBERS and field.is_integer:
        lowest, highest = _RANGES.get(field.dtype, _INT64)
        integers = [int(value) for value in values if value not in {math.inf, -math.inf} and value == int(value)]
        held = pl.Series([value for value in integers if lowest <= value <= highest], dtype=pl.Int128)
        # of a type that holds all of them: an Int8 of a user's own frame does not
        dtype = pl.Int64() if field.dtype not in _RANGES else field.dtype
        return field.expression.cast(dtype).is_in(pl.lit(held.cast(dtype)).implode())
    floats = pl.Series(list(map(_as_float, values)), dtype=pl.Float64)
    return field.expression.cast(pl.Float64, strict=False).is_in(pl.lit(floats).implode())


def _compare_fields(left: Field, operation: str, right: Field) -> pl.Expr:
    """Compare two fields. False where one of them is missing, and but for ``!=`` where one is NaN."""
    if MIXED in {left.category, right.category}:
        mixed = left if left.category == MIXED else right
        raise Fault(mixed.node, f"{mixed.name} holds {MIXED}: compare it with a value")
    if left.category != right.category:
        message = f"{left.name} holds {left.category}, which does not compare with {right.name}: {right.category}"
        raise Fault(right.node, message)
    if left.category == TRUTH and operation not in {"==", "!="}:
        raise Fault(right.node, "true and false have no order")
    present = left.expression.is_not_null() & right.expression.is_not_null()
    if operation == "!=":
        return present & ~_compare_fields(left, "==", right)
    result: pl.Expr
    if left.category != NUMBERS or (left.is_integer and right.is_integer):
        result = OPERATORS[operation](left.expression, right.expression)
    elif left.is_integer or right.is_integer:
        result = _compare_with_float(left, operation, right)
    else:
        result = OPERATORS[operation](left.expression, right.expression) & _is_number(left) & _is_number(right)
    return present & result.fill_null(value=False)


def _compare_with_float(left: Field, operation: str, right: Field) -> pl.Expr:
    """Compare whole numbers with floats, exactly: as floats, large neighbours are the same."""
    if right.is_integer:
        left, operation, right = right, _MIRRORED[operation], left
    number = right.expression.cast(pl.Float64)
    # the whole number on the far side of the float that the comparison is the same with
    bound = number.ceil() if operation in {"<", ">="} else number.floor()
    # null beyond all whole numbers; a comparison with those is one with their sign
    whole = OPERATORS[operation](left.expression.cast(pl.Int128), bound.cast(pl.Int128, strict=False))
    beyond = OPERATORS[operation](pl.lit(0.0), number)
    result = pl.coalesce(whole, beyond) & _is_number(right)
    return result & (bound == number) if operation == "==" else result


def _is_number(field: Field) -> pl.Expr:
    return field.expression.cast(pl.Float64).is_not_nan()


def _holds_number(field: Field, value: Any) -> pl.Expr:
    inner: Any = getattr(field.dtype, "inner", None)
    if not inner.is_integer():
        return field.expression.list.contains(pl.lit(_as_float(value), dtype=pl.Float64))
    lowest, highest = _INT64
    if value in {math.inf, -math.inf} or value != int(value) or not lowest <= value <= highest:
        return field.expression.is_null() & False
    return field.expression.list.contains(pl.lit(int(value), dtype=pl.Int64))


def _category_inside(field: Field) -> str | None:
    """Say what a list, or a text, consists of."""
    if field.category == TEXT:
        return TEXT
    if not isinstance(field.dtype, pl.List):
        return None
    inner: Any = field.dtype.inner
    if inner.is_numeric():
        return NUMBERS
    return {pl.String(): TEXT, pl.Boolean(): TRUTH}.get(inner)


def _of(field: Field, inner: str) -> str:
    return inner if field.category == TEXT else f"lists of {inner}"


def _node(operand: Operand) -> Node:
    return operand.token if isinstance(operand, Value) else operand.node


@lru_cache(maxsize=100)
def _pattern_fault(pattern: str) -> str | None:
    try:
        pl.Series([""]).str.contains(pattern)
    except pl.exceptions.PolarsError as error:
        said, _, _ = str(error).partition("This error occurred")  # in an expression that the user has not written
        return re.sub(r"\s+", " ", said).strip().removeprefix("regex error: ")
    return None


def _check_pattern(token: lark.Token, pattern: str) -> None:
    fault = _pattern_fault(pattern)
    if fault is not None:
        raise Fault(token, f"this is no regular expression that Polars knows: {fault}")


def _as_text(value: Any) -> Any:
    """Write true and false as a column of several types has them."""
    return ("true" if value else "false") if isinstance(value, bool) else value


def _as_float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def always(columns: Mapping[str, Any], *, value: bool) -> pl.Expr:
    """Give an expression that is the same for every run: a literal alone would be one row."""
    for name in columns:
        return (pl.col(name).is_null() | True) if value else (pl.col(name).is_null() & False)
    return pl.lit(value)

r"""Compile queries: text in, Polars expression out. Pure; the grammar is in query.lark.

``== != < > <= >=``, ``in [..]``, ``not in [..]``, ``is null``, ``is not null``, joined by ``~ & |`` (or ``not and
or``) and parentheses; comparisons bind tightest, then ``~``, ``&``, ``|``. Values are numbers (``1``, ``1.``, ``.5``,
``1e-3``, ``-2``), strings in either quote (with ``\n \t \r \\ \' \" \uXXXX``), ``true``, ``false`` and ``null``.
Columns are written as they are, or in backticks if they hold other characters than letters, digits, ``_ - .``; a
backtick in a name is then written twice.

For a run that lacks the field every comparison with it is false, ``!=`` and ``not in`` as well, and so the negation of
any comparison is true. ``x == null`` is ``x is null``, ``x != null`` is ``x is not null``. For a field that
is NaN, nothing but ``!=`` and ``not in`` is true, as everywhere else.

Numbers compare with numbers, strings with strings (by code point), true and false for equality. Anything
else is an error, not an empty answer. Only for a field whose values are of several types (``untyped``), the number or
string of the query is compared with the numbers or strings among them; its strings that read as numbers count as both,
but have no order with text.
"""

from __future__ import annotations

import math
import operator
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, reduce
from importlib import resources
from typing import Any

import lark
import polars as pl

from mlxp_core.errors import QueryError
from mlxp_core.reader.load.fields import valid_text
from mlxp_core.reader.query.suggest import unknown_column

_OPERATORS: Mapping[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", "'": "'", '"': '"'}
# the parser's terminals, in words for an error
_TERMINAL_NAMES = {
    "OPERATOR": "== != < > <= >=",
    "IN": "in",
    "IS": "is",
    "NOT": "not",
    "NAME": "a column",
    "QUOTED_NAME": "a column",
    "NUMBER": "a number",
    "STRING": "a quoted string",
    "TRUE": "true",
    "FALSE": "false",
    "NULL": "null",
    "AMPERSAND": "&",
    "AND": "&",
    "VBAR": "|",
    "OR": "|",
    "TILDE": "~",
    "LPAR": "(",
    "RPAR": ")",
    "LSQB": "[",
    "RSQB": "]",
    "COMMA": ",",
    "$END": "the end",
}

# numbers, true and false, and lists in a column of several types; text that reads like one counts as one
_READS_AS_NO_TEXT = r"^(?:-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|NaN|-?Infinity|true|false|[\[{].*)$"
# of integer types that only a user's own frame has
_RANGES: Mapping[Any, tuple[int, int]] = {pl.UInt64: (0, 2**64 - 1), pl.Int128: (-(2**127), 2**127 - 1)}
_MAX_INT_DIGITS = 400  # with more, int() may refuse and float() is inf
_COMPARABLE = {"numbers", "true or false", "text", "values of several types"}
Given = bool | int | float | str  # a value of the query that a field can be compared with


def compile_query(query: str, schema: Mapping[str, pl.DataType], *, untyped: Collection[str] = frozenset()) -> pl.Expr:
    """Compile a query to an expression that is true or false for every run, never null.

    ``schema``: name and type of each column (``scan_runs(...).collect_schema()``). ``untyped``: the String columns
    that are String because the runs disagree on the type. An empty query is true for all runs.

    Raises QueryError (a ValueError) for what cannot be parsed, a column that does not exist, and a comparison between
    types that do not compare; the message points at the fault.
    """
    if not query.strip():  # without the parser, which takes a while to make
        return _always(schema, value=True)
    query = query.rstrip()
    return _Compiler(query, schema, untyped).start(_parse(query))


def _always(names: Iterable[str], *, value: bool) -> pl.Expr:
    """Give an expression that is the same for every run: a literal alone would be one row."""
    for name in names:
        return (pl.col(name).is_null() | True) if value else (pl.col(name).is_null() & False)
    return pl.lit(value)


@cache
def _parser() -> lark.Lark:
    grammar = resources.files(__package__).joinpath("query.lark").read_text(encoding="utf-8")
    return lark.Lark(grammar, parser="lalr")


def _parse(query: str) -> lark.Tree[lark.Token]:
    try:
        return _parser().parse(query)
    except lark.UnexpectedCharacters as error:
        raise _syntax_error(query, error.pos_in_stream or 0, 1, error.allowed) from None
    except lark.UnexpectedToken as error:
        if error.token.type == "$END":
            raise _syntax_error(query, len(query.rstrip()), 1, error.accepts) from None
        raise _syntax_error(query, error.pos_in_stream or 0, len(error.token), error.accepts) from None


def _syntax_error(query: str, start: int, length: int, expected: Collection[str]) -> QueryError:
    rest = query[start : start + length]
    if rest in {"'", '"', "`"}:
        return _error(query, start, 1, f"this {rest} is never closed")
    if rest == "=":
        return _error(query, start, 1, "no comparison: equality is ==")
    words = list(dict.fromkeys(word for name, word in _TERMINAL_NAMES.items() if name in expected))
    reason = f"{rest!r} is not understood here" if rest else "the query ends too early"
    hint = ", and text is written in quotes" if "STRING" in expected and rest[:1].isalpha() else ""
    return _error(query, start, length, f"{reason}: expected {' or '.join(words)}{hint}")


def _error(query: str, start: int, length: int, what: str) -> QueryError:
    """Make an error that shows the line of the query and underlines the fault."""
    line_start = query.rfind("\n", 0, start) + 1
    line = query[line_start:].split("\n", 1)[0]
    before, marked = line[: start - line_start], query[start : start + max(length, 1)] or " "
    pad = "".join("\t" if character == "\t" else " " * _width(character) for character in before)
    return QueryError(f"{what}\n    {line}\n    {pad}{'^' * sum(map(_width, marked))}")


def _width(character: str) -> int:
    """Give the number of terminal columns that a character takes."""
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1


@dataclass(frozen=True)
class _Compiler:
    """Compiles each rule of the grammar to an expression."""

    query: str
    schema: Mapping[str, pl.DataType]
    untyped: Collection[str]

    def start(self, tree: lark.Tree[lark.Token]) -> pl.Expr:
        try:
            empty = tree.children == [None]
            return _always(self.schema, value=True) if empty else self._expression(tree.children[0])
        except RecursionError:
            raise QueryError(f"the query is nested too deeply ({len(self.query)} characters)") from None

    def _expression(self, tree: Any) -> pl.Expr:  # what lark gives as a child
        match tree.data:
            case "any":
                return reduce(operator.or_, map(self._expression, tree.children))
            case "all":
                return reduce(operator.and_, map(self._expression, tree.children))
            case "negation":
                return ~self._expression(tree.children[0])
            case "comparison":
                return self._comparison(*tree.children)
            case "membership":
                return self._membership(*tree.children)
            case _:
                return self._absence(*tree.children)

    def _comparison(self, column: lark.Token, operation: lark.Token, token: lark.Token) -> pl.Expr:
        value = self._value(token)
        if value is None and operation in {"==", "!="}:
            return self._absence(column, None if operation == "==" else operation, token)
        name = self._comparable(column)
        if operation == "==":
            return self._equal(name, value, token)
        if operation == "!=":
            return pl.col(name).is_not_null() & ~self._equal(name, value, token)
        if value is None:
            raise self._error_at(token, f"null has no order; `{name} is null` asks for it")
        return self._compare(name, str(operation), value, token)

    def _membership(self, column: lark.Token, negated: lark.Token | None, *tokens: lark.Token | None) -> pl.Expr:
        name = self._comparable(column)
        equal = [self._equal(name, self._value(token), token) for token in tokens if token is not None]
        member = pl.any_horizontal(equal) if equal else _always([name], value=False)
        return pl.col(name).is_not_null() & ~member if negated else member

    def _absence(self, column: lark.Token, negated: lark.Token | None, _null: lark.Token) -> pl.Expr:
        field = pl.col(self._name(column))
        return field.is_not_null() if negated else field.is_null()

    def _equal(self, name: str, value: Given | None, token: lark.Token) -> pl.Expr:
        return pl.col(name).is_null() if value is None else self._compare(name, "==", value, token)

    def _compare(self, name: str, operation: str, value: Given, token: lark.Token) -> pl.Expr:
        """Compare a column with a value, as their types allow. False where the field is missing. Raises QueryError."""
        field, category, value_category = pl.col(name), self._category_of_column(name), _category_of_value(value)
        if category not in {value_category, "values of several types"}:
            hint = f"; in quotes, '{token}' is text" if category == "text" else ""
            raise self._error_at(token, f"{name} holds {category}, which does not compare with {token}{hint}")
        if value_category == "true or false" and operation != "==":
            raise self._error_at(token, "true and false have no order")

        if value_category == "numbers":
            if category == value_category and self.schema[name].is_integer():
                return _compare_integers(field, self.schema[name], operation, value)
            if category != value_category:
                field = field.cast(pl.Float64, strict=False)  # null for what is no number
            result: pl.Expr = _OPERATORS[operation](field, pl.lit(_as_float(value)))
            if operation in {">", ">="}:
                result &= field.cast(pl.Float64).is_not_nan()  # Polars orders NaN above all numbers
            return result.fill_null(value=False)
        # in a column of several types true and false are text
        literal = ("true" if value else "false") if category != value_category and isinstance(value, bool) else value
        result = _OPERATORS[operation](field, pl.lit(literal))
        if category != value_category and operation != "==":
            result &= ~field.str.contains(_READS_AS_NO_TEXT)  # numbers have no order with text
        return result.fill_null(value=False)

    def _category_of_column(self, name: str) -> str:
        dtype = self.schema[name]
        if dtype.is_numeric():
            return "numbers"
        if dtype == pl.Boolean:
            return "true or false"
        if dtype == pl.String:
            return "values of several types" if name in self.untyped else "text"
        return "lists" if isinstance(dtype, (pl.List, pl.Array)) else f"{dtype}"

    def _name(self, column: lark.Token) -> str:
        name = column[1:-1].replace("``", "`") if column.startswith("`") else str(column)
        if name not in self.schema:
            raise self._error_at(column, unknown_column(name, self.schema))
        return name

    def _comparable(self, column: lark.Token) -> str:
        name = self._name(column)
        category = self._category_of_column(name)
        if category not in _COMPARABLE:
            reason = f"{name} holds {category}: a query knows only whether it is null; Polars can do more, with .lazy()"
            raise self._error_at(column, reason)
        return name

    def _value(self, token: lark.Token) -> Given | None:
        match token.type:
            case "NULL":
                return None
            case "TRUE" | "FALSE":
                return token.type == "TRUE"
            case "STRING":
                return self._unescaped(token)
        return int(token) if token.lstrip("+-").isdecimal() and len(token) < _MAX_INT_DIGITS else float(token)

    def _unescaped(self, token: lark.Token) -> str:
        def character(match: re.Match[str]) -> str:
            code = match[1]
            if len(code) > 1:
                return chr(int(code[1:], 16))
            if code not in _ESCAPES:
                raise self._error_at(token, f"unknown escape {match[0]} (a backslash itself is written \\\\)")
            return _ESCAPES[code]

        text = re.sub(r"\\(u[0-9a-fA-F]{4}|.)", character, token[1:-1], flags=re.DOTALL)
        pairs = re.compile("[\ud800-\udbff][\udc00-\udfff]")  # as JSON writes what is beyond 16 bits
        return valid_text(pairs.sub(lambda pair: pair[0].encode("utf-16", "surrogatepass").decode("utf-16"), text))

    def _error_at(self, token: lark.Token, what: str) -> QueryError:
        return _error(self.query, token.start_pos or 0, len(token), what)


def _compare_integers(field: pl.Expr, dtype: pl.DataType, operation: str, value: Any) -> pl.Expr:
    """Compare as integers where possible: as floats, large neighbours are the same."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    lowest, highest = _RANGES.get(dtype, (-(2**63), 2**63 - 1))
    if isinstance(value, int) and not lowest <= value <= highest:
        return field.is_not_null() & pl.lit(_OPERATORS[operation](0, value))  # no number of the column is so large
    literal = pl.lit(value, dtype=dtype) if dtype in _RANGES and isinstance(value, int) else pl.lit(value)
    result: pl.Expr = _OPERATORS[operation](field, literal)
    return result.fill_null(value=False)


def _as_float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _category_of_value(value: Given) -> str:
    if isinstance(value, bool):
        return "true or false"
    return "text" if isinstance(value, str) else "numbers"

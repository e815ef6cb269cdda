r"""Compile queries: text in, Polars expression out. Pure but for the clock; the grammar is in query.lark.

``== != < > <= >=``, also in chains (``0 < x < 1``), ``in [..]``, ``not in [..]``, ``is null``, ``is not null``, joined
by ``~ & |`` (or ``not and or``, ``! && ||``) and parentheses; comparisons bind tightest, then ``~``, ``&``, ``|``.
Values are numbers (``1``, ``1.``, ``.5``, ``1e-3``, ``-2``), strings in either quote (with
``\n \t \r \\ \' \" \uXXXX``), ``true``, ``false`` and ``null``; they stand on either side, and so do columns:
``1 >= config.lr``, ``config.a == config.b``. Columns are written as they are, or in backticks if they hold other
characters than letters, digits, ``_ - .``; a backtick in a name is then written twice.

A column of true and false may stand alone: ``config.use_amp & not config.debug``. ``'adam' in config.optimizers`` asks
whether a list has that element; of a column of text, whether it has that part, as in Python. ``config.name startswith
'res'``, ``endswith``, and for regular expressions (Rust's, anywhere in the text unless anchored) ``=~`` and ``!~``.

A metric, or any other list, is compared by one of its values: ``last first min max mean`` of it, ``best(val.acc,
max)`` or ``best(val.loss, min)``. Missing values are passed over. NaN is a value: ``min``, ``max`` and ``mean`` of a
metric with one are NaN; ``best`` never is. The metric files of those runs are read that pass the rest of an ``&``.

For a run that lacks the field every comparison with it is false, ``!=`` and ``not in`` as well, and so the negation of
any comparison is true. ``x == null`` is ``x is null``, ``x != null`` is ``x is not null``. For a field that
is NaN, nothing but ``!=`` and ``not in`` is true, as everywhere else.

Numbers compare with numbers, strings with strings (by code point), true and false for equality. Anything
else is an error, not an empty answer, and so is a status that no run can have. Only for a field whose values are of
several types (``untyped``), the number or string of the query is compared with the numbers or strings among them; its
strings that read as numbers count as both, but have no order with text.

Times (``info.start_time``) compare with ISO 8601 text, whose zone is UTC where it says none; a date is its first
moment, and so equal to no run's time (an error). ``-2d`` is two days before now; ``s m h d w`` are the units.
"""

from __future__ import annotations

import operator
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import lark
import polars as pl

from mlxp_core.errors import QueryError
from mlxp_core.reader.query import conditions
from mlxp_core.reader.query.operands import Columns, Field, Operand, Value
from mlxp_core.reader.query.syntax import Fault, Node, parse, text_of

_MANY = 16
_TEXT_FUNCTIONS = ("startswith", "endswith")


def compile_query(
    query: str,
    schema: Mapping[str, pl.DataType],
    *,
    untyped: Collection[str] = frozenset(),
    now: datetime | None = None,
) -> pl.Expr:
    """Compile a query to an expression that is true or false for every run, never null.

    ``schema``: name and type of each column (``scan_runs(...).collect_schema()``). ``untyped``: the String columns
    that are String because the runs disagree on the type. ``now``: what times such as ``-2d`` count from, with a zone.
    An empty query is true for all runs.

    Raises QueryError (a ValueError) for what cannot be parsed, a column that does not exist, and a comparison between
    types that do not compare; the message points at the fault.
    """
    if not query.strip():  # without the parser, which takes a while to make
        return conditions.always(schema, value=True)
    query = query.rstrip()
    tree = parse(query)
    moment = datetime.now(timezone.utc) if now is None else now.astimezone(timezone.utc)
    try:
        return _Compiler(Columns(schema, untyped, moment)).condition(tree.children[0])
    except Fault as fault:
        raise fault.error(query) from None
    except RecursionError:
        raise QueryError(f"the query is nested too deeply ({len(query)} characters)") from None


@dataclass(frozen=True)
class _Compiler:
    """Compiles each rule of the grammar to an expression."""

    columns: Columns

    def condition(self, tree: Any) -> pl.Expr:  # what lark gives as a child
        match tree.data:
            case "any":
                return _joined(operator.or_, list(map(self.condition, tree.children)))
            case "all":
                return self._conjunction(list(map(self.condition, tree.children)))
            case "negation":
                return ~self.condition(tree.children[0])
            case "comparison":
                return self._comparison(*tree.children)
            case "membership":
                return self._membership(*tree.children)
            case "containment":
                return self._containment(*tree.children)
            case "matching":
                field, operation, token = tree.children
                return conditions.matches(self.columns.operand(field), str(operation), token)
            case "absence":
                return self._absence(*tree.children)
            case _:
                return self._truth(tree.children[0])

    def _conjunction(self, parts: list[pl.Expr]) -> pl.Expr:
        """Join by ``&``, at which Polars takes conditions apart, in time of the square of their number.

        So many are two: that which may need metrics, and the rest, by which the runs are chosen whose metrics are read.
        """
        if len(parts) <= _MANY:
            return _joined(operator.and_, parts)
        groups: dict[bool, list[pl.Expr]] = {}
        for part in parts:
            needs_lists = any(isinstance(self.columns.schema[name], pl.List) for name in part.meta.root_names())
            groups.setdefault(needs_lists, []).append(part)
        return _joined(operator.and_, [pl.all_horizontal(group) for group in groups.values()])

    def _comparison(self, *parts: Any) -> pl.Expr:
        first, *others = parts[::2]
        operands = [self.columns.operand(first), *(self.columns.operand(node, compared=True) for node in others)]
        pairs = zip(operands, parts[1::2], operands[1:], strict=False)
        return _joined(operator.and_, [conditions.compare(*pair, self.columns) for pair in pairs])

    def _membership(self, node: Node, negated: lark.Token | None, *tokens: lark.Token | None) -> pl.Expr:
        field = self._field(self.columns.operand(node), "in [..]")
        values = [self.columns.operand(token) for token in tokens if token is not None]
        member = conditions.is_among(field, [value for value in values if isinstance(value, Value)], self.columns)
        return field.expression.is_not_null() & ~member if negated else member

    def _containment(self, node: Node, negated: lark.Token | None, container: Node) -> pl.Expr:
        field = self._field(self.columns.operand(container), "in")
        wanted = self.columns.operand(node)
        member = conditions.contains(wanted, field)
        if not negated:
            return member
        present = field.expression.is_not_null()
        return (present & wanted.expression.is_not_null() if isinstance(wanted, Field) else present) & ~member

    def _absence(self, node: Node, negated: lark.Token | None, _null: lark.Token) -> pl.Expr:
        field = self._field(self.columns.operand(node), "is null")
        return field.expression.is_not_null() if negated else field.expression.is_null()

    def _truth(self, node: Any) -> pl.Expr:
        """Compile what stands alone: a column of true and false, or a function that gives these."""
        is_call = isinstance(node, lark.Tree) and node.data == "call"
        column, _, function = str(node.children[0]).rpartition(".") if is_call else ("", "", "")
        if function not in _TEXT_FUNCTIONS:
            return conditions.is_true(self.columns.operand(node))
        # as Python has it, config.name.startswith('a'), or with the column as an argument
        name, first, *others = node.children
        subject = self.columns.column(name.update(value=column)) if column else self.columns.operand(first)
        tokens = [argument.children[-1] for argument in others] if not column else [first, *others]
        if len(tokens) != 1 or getattr(tokens[0], "type", None) != "STRING":
            raise Fault(node, f"{function} takes a column and a quoted string: config.name {function} 'a'")
        return conditions.matches(subject, function, tokens[0])

    @staticmethod
    def _field(operand: Operand, operation: str) -> Field:
        if isinstance(operand, Value):
            raise Fault(operand.token, f"{text_of(operand.token)} is no column, of which `{operation}` is asked")
        return operand


def _joined(operation: Any, parts: Sequence[pl.Expr]) -> pl.Expr:
    """Join expressions in a balanced tree: of one as deep as they are many, Polars takes the square of their number."""
    while len(parts) > 1:
        pairs = [operation(*parts[start : start + 2]) for start in range(0, len(parts) - 1, 2)]
        parts = [*pairs, *parts[2 * len(pairs) :]]
    return parts[0]

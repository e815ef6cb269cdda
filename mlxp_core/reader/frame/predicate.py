"""Split predicates into what metadata can answer and what needs metrics. Pure: Polars expressions only."""

from __future__ import annotations

import operator
from collections.abc import Collection, Iterator
from functools import reduce

import polars as pl


def split(predicate: pl.Expr, metrics: Collection[str]) -> tuple[pl.Expr | None, pl.Expr | None]:
    """Return the part of a predicate that names no metric, and the rest; a row passes if it passes both.

    Only conjuncts, joined by ``&``, can be separated; None stands for a part without any.
    """
    on_metadata: list[pl.Expr] = []
    on_metrics: list[pl.Expr] = []
    for part in _conjuncts(predicate):
        (on_metadata if set(metrics).isdisjoint(part.meta.root_names()) else on_metrics).append(part)
    return _joined(on_metadata), _joined(on_metrics)


def _conjuncts(predicate: pl.Expr) -> Iterator[pl.Expr]:
    # Polars shows an expression's inputs but not its operator: joining them again tells whether it was `&`
    stack = [predicate]
    while stack:
        expression = stack.pop()
        parts = expression.meta.pop()
        if len(parts) == 2 and (parts[1] & parts[0]).meta.eq(expression):  # noqa: PLR2004
            stack += parts
        else:
            yield expression


def _joined(parts: list[pl.Expr]) -> pl.Expr | None:
    return reduce(operator.and_, parts) if parts else None

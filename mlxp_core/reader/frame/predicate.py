"""A predicate is taken apart into what metadata can answer and what needs metrics. Pure: Polars expressions only."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import reduce

import polars as pl


def split(predicate: pl.Expr, metrics: Collection[str]) -> tuple[pl.Expr | None, pl.Expr | None]:
    """Give the part of a predicate that names no metric, and the rest; a row passes if it passes both.

    Only what is joined by ``&`` can be told apart; a predicate that cannot be is all rest, or all metadata.
    """
    free: list[pl.Expr] = []
    bound: list[pl.Expr] = []
    for part in _conjuncts(predicate):
        (free if set(metrics).isdisjoint(part.meta.root_names()) else bound).append(part)
    return _joined(free), _joined(bound)


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
    return reduce(lambda one, other: one & other, parts) if parts else None

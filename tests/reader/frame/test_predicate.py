"""Splitting predicates into conjuncts on metadata and on metrics."""

from __future__ import annotations

import polars as pl
import pytest

from mlxp_core.reader.frame.predicate import split


def test_split_finds_every_conjunct_in_any_nesting():
    """Catches: only the outermost `&` looked at."""
    a, b, m = pl.col("a") > 1, pl.col("b").is_in([1]), pl.col("m").list.len() > 0
    for predicate in (a & b & m, a & (m & b), (m & a) & b, m & (a & b)):
        free, bound = split(predicate, {"m"})
        assert sorted(free.meta.root_names()) == ["a", "b"]
        assert bound.meta.eq(m)


@pytest.mark.parametrize("build", [lambda a, m: a | m, lambda a, m: ~(a & m), lambda a, m: a == m, lambda a, m: a ^ m])
def test_split_leaves_what_is_not_joined_by_and(build):
    """Catches: operands of another operator taken for conditions of their own."""
    predicate = build(pl.col("a"), pl.col("m"))
    free, bound = split(predicate, {"m"})
    assert free is None
    assert bound.meta.eq(predicate)

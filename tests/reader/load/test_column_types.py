"""Types of columns whose values are of several kinds."""

from __future__ import annotations

import polars as pl
import pytest

from mlxp_core.reader import scan_runs


@pytest.mark.parametrize(
    ("values", "dtype", "cells"),
    [
        ([1, 2], pl.Int64, [1, 2]),
        ([1, 0.5], pl.Float64, [1.0, 0.5]),
        ([True, False], pl.Boolean, [True, False]),
        (["a", None], pl.String, ["a", None]),
        ([None, None], pl.String, [None, None]),
        ([1, "a"], pl.String, ["1", "a"]),
        ([True, 0.5], pl.String, ["true", "0.5"]),
        ([True, 1], pl.String, ["true", "1"]),
        ([2**70, 1], pl.String, ["1180591620717411303424", "1"]),
        ([[1, 2], [3]], pl.List(pl.Int64), [[1, 2], [3]]),
        ([[1, None], [0.5]], pl.List(pl.Float64), [[1.0, None], [0.5]]),
        ([[], ["a"]], pl.List(pl.String), [[], ["a"]]),
        ([[True], None], pl.List(pl.Boolean), [[True], None]),
        ([[1], ["a"]], pl.String, ["[1]", '["a"]']),
        ([[1, "a"], ["b"]], pl.String, ['[1, "a"]', '["b"]']),
        ([[{"a": float("nan")}], None], pl.String, ['[{"a": "NaN"}]', None]),
        ([[1], 1], pl.String, ["[1]", "1"]),
    ],
)
def test_a_column_has_the_one_type_that_holds_all_its_values(logs, values, dtype, cells):
    """Catches: a type taken from the first run, integers that stay integers beside floats, mixes that crash."""
    for place, value in enumerate(values, 1):
        logs.run(place, {"x": value})
    frame = scan_runs(logs.path).collect()
    assert frame.schema["config.x"] == dtype
    assert frame["config.x"].to_list() == cells

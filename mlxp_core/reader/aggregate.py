"""Aggregations: what becomes of one column, or several, over the runs of a group. Lazy frames in, lazy frames out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import polars as pl

from mlxp_core.errors import QueryError
from mlxp_core.reader.suggest import unknown_column

# no column of a log directory lacks a dot, but id and path
_STEP = "step"
_VALUE = "value"


class Aggregation(Protocol):
    """What ``GroupedRuns.aggregate`` takes. AvgStd is one; yours need not derive from anything."""

    @property
    def columns(self) -> Sequence[str]:
        """Names of the columns of the result."""

    def over_groups(self, runs: pl.LazyFrame, keys: Sequence[str], schema: Mapping[str, pl.DataType]) -> pl.LazyFrame:
        """Give the key columns and the result columns: at most one row a group, in any order.

        ``runs`` has one row a run; ``schema`` is its schema. Raises QueryError for a column that cannot be used.
        """


@dataclass(frozen=True)
class AvgStd:
    """Mean and standard deviation over the runs of a group: columns ``<key>_avg`` and ``<key>_std``.

    Of a metric (a list a run) they are taken element by element along the steps: element i of the result (a
    List(Float64)) is over those runs that have a value there, so runs may be of unequal length. Of a scalar field they
    are plain numbers (Float64). Missing values are left out, NaN is not: it makes the result NaN. ``ddof`` is what the
    standard deviation takes off the number of values n before dividing, 1 by default; where n - ddof < 1 it is null, as
    for a single run. Where no run has a value both are null.
    """

    key: str
    ddof: int = 1

    @property
    def columns(self) -> tuple[str, str]:
        """Names of the columns of the result."""
        return f"{self.key}_avg", f"{self.key}_std"

    def over_groups(self, runs: pl.LazyFrame, keys: Sequence[str], schema: Mapping[str, pl.DataType]) -> pl.LazyFrame:
        """Give the key columns, ``<key>_avg`` and ``<key>_std``; no row for a group where no run has a list.

        Raises QueryError if there is no such column or it holds no numbers.
        """
        if self.key not in schema:
            raise QueryError(unknown_column(self.key, schema))
        dtype = schema[self.key]
        if not (dtype.inner if isinstance(dtype, pl.List) else dtype).is_numeric():
            raise QueryError(f"AvgStd needs a column of numbers: {self.key} is {dtype}")
        # named at once, so that a key column may be the averaged one, too
        values = runs.select(*keys, pl.col(self.key).alias(_VALUE))
        if not isinstance(dtype, pl.List):
            return values.group_by(keys).agg(self._statistics())
        steps = values.with_columns(pl.int_ranges(pl.col(_VALUE).list.len()).alias(_STEP))
        by_step = (
            steps.explode(_VALUE, _STEP)
            .drop_nulls(_STEP)  # runs without a list, or with an empty one
            .group_by(*keys, _STEP)
            .agg(self._statistics())
        )
        return by_step.group_by(keys).agg(pl.col(self.columns).sort_by(_STEP))

    def _statistics(self) -> list[pl.Expr]:
        average, deviation = self.columns
        values = pl.col(_VALUE).cast(pl.Float64)
        return [values.mean().alias(average), values.std(ddof=self.ddof).alias(deviation)]

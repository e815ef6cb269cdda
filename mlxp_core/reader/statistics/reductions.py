"""Reduce the steps of one run to one: the best, the last. Polars expressions only; nothing is read.

Pass one to an aggregation, ``AvgStd(Best("val.acc", mode="max", also=["test.acc"]))``, or to ``aggregate`` itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import polars as pl

from mlxp_core.errors import QueryError
from mlxp_core.reader.query.suggest import unknown_column

_POSITION = "position"  # of the run; every column of a log directory but id and path has a dot


@runtime_checkable
class Reduction(Protocol):
    """Protocol of what reduces the lists of a run to plain numbers. Your own need not derive from it."""

    @property
    def numbers(self) -> Sequence[str]:
        """Names of the numbers of a run."""

    def per_run(self, schema: Mapping[str, pl.DataType]) -> list[pl.Expr]:
        """Give an expression over the columns of a run for each of the names. Raises QueryError."""


@dataclass(frozen=True)
class Best:
    """The step at which a metric is best, and other metrics at that step: early stopping.

    Columns: ``<key>_best``, ``<key>_best_step`` (counted from 0), and ``<other>_at_best`` for each of ``also``: the
    value in the same line of its log. Missing values and NaN are never the best; of equal ones the first is. All is
    null for a run that has none; an ``also`` that has no such line is null. A scalar field is its own best.

    Alone, ``group.aggregate([Best(...)])`` gives the best over all runs of a group, and the id of that run in
    ``<key>_best_id``.
    """

    key: str
    mode: Literal["min", "max"] = "min"
    also: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Raises QueryError for an invalid mode."""
        if self.mode not in {"min", "max"}:
            raise QueryError(f"mode={self.mode!r} of Best: it is 'min' or 'max'")
        object.__setattr__(self, "also", (self.also,) if isinstance(self.also, str) else tuple(self.also))

    @property
    def numbers(self) -> list[str]:
        """Names of the numbers of a run."""
        return [f"{self.key}_best", f"{self.key}_best_step", *(f"{other}_at_best" for other in self.also)]

    @property
    def columns(self) -> list[str]:
        """Names of the columns of a group."""
        return [*self.numbers, f"{self.key}_best_id"]

    def per_run(self, schema: Mapping[str, pl.DataType]) -> list[pl.Expr]:
        """Give expressions for the best value, its step, and the other metrics at that step."""
        dtype = check_column(self.key, schema, "Best")
        for other in self.also:
            check_column(other, schema, "Best", numbers=False)
        number = pl.element().cast(pl.Float64).fill_nan(None)
        if isinstance(dtype, pl.List):
            values = pl.col(self.key).list.eval(number)
            step = values.list.arg_max() if self.mode == "max" else values.list.arg_min()
            best = values.list.get(step, null_on_oob=True)
        else:
            best = pl.col(self.key).cast(pl.Float64).fill_nan(None)
            step = pl.lit(None, dtype=pl.UInt32)
        others = [
            pl.col(other).list.get(step, null_on_oob=True) if isinstance(schema[other], pl.List) else pl.col(other)
            for other in self.also
        ]
        return [expression.alias(name) for expression, name in zip([best, step, *others], self.numbers, strict=True)]

    def over_groups(self, runs: pl.LazyFrame, keys: Sequence[str], schema: Mapping[str, pl.DataType]) -> pl.LazyFrame:
        """Give the best over the runs of each group. Raises QueryError."""
        best, best_id = f"{self.key}_best", f"{self.key}_best_id"
        named = runs.select(*prefix_keys(keys), *self.per_run(schema), pl.col("id").alias(best_id)).with_row_index(
            _POSITION
        )
        named = named.with_columns(pl.when(pl.col(best).is_not_null()).then(best_id))
        first = pl.all().sort_by(best, _POSITION, descending=[self.mode == "max", False], nulls_last=True)
        return named.group_by(prefixed(keys)).agg(first.first()).select(*restore_keys(keys), *self.columns)


@dataclass(frozen=True)
class Last:
    """The last value of a metric in each run: column ``<key>_last``; missing values are passed over, NaN is not.

    Null for a run without a value. A scalar field is its own last. Alone, ``group.aggregate([Last(...)])`` gives a
    list for each group: a value for each run, in the order of the runs.
    """

    key: str

    @property
    def numbers(self) -> list[str]:
        """Names of the numbers of a run."""
        return [f"{self.key}_last"]

    @property
    def columns(self) -> list[str]:
        """Names of the columns of a group."""
        return self.numbers

    def per_run(self, schema: Mapping[str, pl.DataType]) -> list[pl.Expr]:
        """Give the expression for the last value."""
        dtype = check_column(self.key, schema, "Last", numbers=False)
        value = pl.col(self.key)
        if isinstance(dtype, pl.List):
            value = value.list.drop_nulls().list.last()
        return [value.alias(self.columns[0])]

    def over_groups(self, runs: pl.LazyFrame, keys: Sequence[str], schema: Mapping[str, pl.DataType]) -> pl.LazyFrame:
        """Give the last values of the runs of each group. Raises QueryError."""
        named = runs.select(*prefix_keys(keys), *self.per_run(schema)).with_row_index(_POSITION)
        return (
            named.group_by(prefixed(keys))
            .agg(pl.col(self.columns).sort_by(_POSITION))
            .select(*restore_keys(keys), *self.columns)
        )


def check_column(key: str, schema: Mapping[str, pl.DataType], caller: str, *, numbers: bool = True) -> pl.DataType:
    """Return the type of a column. Raises QueryError if there is no such column, or it holds no numbers."""
    if key not in schema:
        raise QueryError(unknown_column(key, schema))
    dtype = schema[key]
    if numbers and not (dtype.inner if isinstance(dtype, pl.List) else dtype).is_numeric():
        raise QueryError(f"{caller} needs a column of numbers: {key} is {dtype}")
    return dtype


def prefixed(keys: Iterable[str]) -> list[str]:
    """Give names for the key columns that no other column has, so that a key can be aggregated, too."""
    return [f"key {key}" for key in keys]


def prefix_keys(keys: Iterable[str]) -> list[pl.Expr]:
    """Select the key columns under their prefixed names."""
    return [pl.col(key).alias(f"key {key}") for key in keys]


def restore_keys(keys: Iterable[str]) -> list[pl.Expr]:
    """Select the prefixed key columns under their own names."""
    return [pl.col(f"key {key}").alias(key) for key in keys]

"""The runs that passed a filter: as a frame, one by one, and in groups. Reads a metric only when asked for it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, overload

import polars as pl

from mlxp_core.errors import QueryError, StoreError
from mlxp_core.reader.aggregate import Aggregation
from mlxp_core.reader.problem import Problem
from mlxp_core.reader.scan import load_lines
from mlxp_core.reader.schema import Schema
from mlxp_core.reader.suggest import unknown_column

LAZYDATA = "LAZYDATA"  # stands for a metric that was not read


class Run(Mapping[str, Any]):
    """One run: column name to value. ``run["train.loss"]`` reads that metric file, every time; the rest is there.

    A metric is a list of one value a line, or None if the run has none. A column that does not exist is a KeyError.
    """

    def __init__(self, metadata: Mapping[str, Any], schema: Schema, report: Callable[[Problem], None]) -> None:
        """``metadata`` holds a value for each metadata column of ``schema``."""
        self._metadata = metadata
        self._schema = schema
        self._report = report

    def __getitem__(self, name: str) -> Any:
        """Give the value of a column."""
        column = self._schema.metrics.get(name)
        if column is None:
            try:
                return self._metadata[name]
            except KeyError:
                raise KeyError(unknown_column(name, self)) from None
        path = self._metadata["path"]
        if not os.path.isdir(path):  # noqa: PTH112
            raise StoreError(f"cannot read {name}: the run folder {path} is gone")
        lines = load_lines(path, column.log_name, self._report)
        return None if lines is None else lines.column(column.key, numeric=column.numeric)

    def __iter__(self) -> Iterator[str]:
        """Go through the names of all columns."""
        return iter(self._schema.polars)

    def __len__(self) -> int:
        """Count the columns."""
        return len(self._schema.polars)

    def __repr__(self) -> str:
        """Show all values, with LAZYDATA for metrics."""
        return f"Run({dict(self._metadata) | dict.fromkeys(self._schema.metrics, LAZYDATA)})"


class Runs(Sequence[Run]):
    """The runs that passed a filter.

    ``lazy()`` and ``collect()`` read the directory as it is when they are collected. Length, items, groups and what is
    printed are those of the first look, so that ``runs[i]`` stays the same run; filter again for a new look.
    """

    def __init__(self, frame: pl.LazyFrame, schema: Schema, report: Callable[[Problem], None]) -> None:
        """``frame`` holds the columns of ``schema`` of these runs."""
        self._frame = frame
        self._schema = schema
        self._report = report

    @property
    def schema(self) -> pl.Schema:
        """Name and type of each column, metrics included."""
        return self._schema.polars

    def lazy(self) -> pl.LazyFrame:
        """One row a run, as ``scan_runs`` has them."""
        return self._frame

    def collect(self) -> pl.DataFrame:
        """Read all columns of all runs, metrics included."""
        return self._frame.collect()

    def group_by(self, keys: str | Sequence[str]) -> GroupedRuns:
        """Group by the values of one or several metadata columns; a missing value is a value like others.

        Raises QueryError for a column that does not exist, and for a metric.
        """
        names = [keys] if isinstance(keys, str) else list(keys)
        if not names:
            raise QueryError("group_by needs at least one column")
        for name in names:
            if name in self._schema.metrics:
                raise QueryError(f"{name} is a metric: runs are grouped by columns of config and info")
            if name not in self._schema.metadata:
                raise QueryError(unknown_column(name, self._schema.metadata))
        return GroupedRuns(self, list(dict.fromkeys(names)))

    def where(self, condition: pl.Expr) -> Runs:
        """Give those of these runs for which a Polars expression is true."""
        return Runs(self._frame.filter(condition), self._schema, self._report)

    @cached_property
    def metadata(self) -> pl.DataFrame:
        """All columns but the metrics, as at the first look."""
        return self._frame.select(pl.col(list(self._schema.metadata))).collect()

    def __len__(self) -> int:
        """Count the runs."""
        return self.metadata.height

    @overload
    def __getitem__(self, index: int) -> Run: ...
    @overload
    def __getitem__(self, index: slice) -> list[Run]: ...
    def __getitem__(self, index: int | slice) -> Run | list[Run]:
        """Give the run at a place, or those at a slice of places."""
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"there is no run {index}: these are {len(self)} runs")
        return Run(self.metadata.row(index, named=True), self._schema, self._report)

    def __repr__(self) -> str:
        """Show the metadata as a data frame, with LAZYDATA for metrics."""
        return str(self.metadata.with_columns(pl.lit(LAZYDATA).alias(name) for name in self._schema.metrics))


class GroupedRuns(Mapping[tuple[Any, ...], Runs]):
    """Runs by the values of the key columns: a mapping of a tuple of values, in the order of the keys, to Runs.

    Groups are ordered by their values, missing ones last. A list value is a tuple in the mapping's key.
    """

    def __init__(self, runs: Runs, keys: Sequence[str]) -> None:
        """``keys`` are names of metadata columns."""
        self._runs = runs
        self._keys = list(keys)

    def aggregate(self, aggregations: Sequence[Aggregation]) -> pl.LazyFrame:
        """One row a group: the key columns, then those of each aggregation; ordered by the keys, missing ones last.

        Nothing but the columns needed is read, once for all aggregations, when the frame is collected.
        Raises QueryError for a column that an aggregation cannot use, and for two columns of one name.
        """
        names = [*self._keys, *(name for aggregation in aggregations for name in aggregation.columns)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise QueryError(f"two columns of the result would be named {', '.join(twice)}: aggregate them separately")
        runs = self._runs.lazy()
        result = runs.select(pl.col(self._keys)).unique()
        for aggregation in aggregations:
            columns = aggregation.over_groups(runs, self._keys, self._runs.schema)
            # left, so that a group without a value stays, with nulls
            result = result.join(columns, on=self._keys, how="left", nulls_equal=True)
        return result.sort(self._keys, nulls_last=True).select(pl.col(names))

    @cached_property
    def _groups(self) -> dict[tuple[Any, ...], tuple[Any, ...]]:
        values = self._runs.metadata.select(pl.col(self._keys)).unique().sort(self._keys, nulls_last=True).rows()
        return {tuple(tuple(value) if isinstance(value, list) else value for value in row): row for row in values}

    def __getitem__(self, group: tuple[Any, ...]) -> Runs:
        """Give the runs of one group."""
        schema = self._runs.schema
        return self._runs.where(
            pl.all_horizontal(
                pl.col(key).eq_missing(pl.lit(value, dtype=schema[key]))
                for key, value in zip(self._keys, self._groups[group], strict=True)
            )
        )

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        """Go through the values of the groups."""
        return iter(self._groups)

    def __len__(self) -> int:
        """Count the groups."""
        return len(self._groups)

    def __repr__(self) -> str:
        """Show keys and group values."""
        return f"GroupedRuns by {', '.join(self._keys)}: {len(self)} groups {list(self)}"

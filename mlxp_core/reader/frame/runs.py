"""Runs that passed a filter: as a frame, one by one, and in groups. Metrics are read only when asked for."""

from __future__ import annotations

import importlib.util
import math
import os
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, overload

import polars as pl

from mlxp_core.errors import QueryError, StatisticsWarning, StoreError
from mlxp_core.reader.cache.run_table import Table
from mlxp_core.reader.frame.artifact import Artifact
from mlxp_core.reader.frame.equal_runs import superseded, warn_of_equal_runs
from mlxp_core.reader.frame.scan_runs import load_lines, metric_values, report_strays
from mlxp_core.reader.frame.schema import Schema, narrowed
from mlxp_core.reader.load.attempts import parts_of
from mlxp_core.reader.load.fields import path_of
from mlxp_core.reader.load.problem import Problem, Problems
from mlxp_core.reader.query.suggest import unknown_column
from mlxp_core.reader.statistics.aggregations import Aggregation
from mlxp_core.reader.statistics.reductions import (
    Best,
    Last,
    Reduction,
    check_column,
    prefix_keys,
    prefixed,
    reduce_runs,
    restore_keys,
)
from mlxp_core.runs.layout import RunDir
from mlxp_core.runs.listing import format_runs

_ALL = "all"  # the key column of a single group; no column of a log directory but id and path lacks a dot

_MEAN = "mean"

_MAX_SHOWN = 500  # characters of a cell of a notebook's table of groups

LAZYDATA = "LAZYDATA"  # stands for a metric that was not read


class RunView(Mapping[str, Any]):
    """Mapping of column names to the values of one run. ``run["train.loss"]`` reads that metric file, every time.

    A metric is a list of one value a line, an artifact a reference with ``load``; None if the run has none. A column
    that does not exist is a KeyError. Users import it as ``mlxp_core.reader.Run``.
    """

    def __init__(
        self,
        metadata: Mapping[str, Any],
        schema: Schema,
        report: Callable[[Problem], None],
        columns: Collection[str] | None = None,
    ) -> None:
        """``metadata`` holds a value for each metadata column of ``schema``; ``columns`` are those to show, or all."""
        self._metadata = metadata
        self._schema = schema
        self._report = report
        self._columns = list(schema.polars) if columns is None else columns

    def __getitem__(self, name: str) -> Any:
        """Give the value of a column. Raises KeyError, and StoreError for a metric where the run folder is gone."""
        if name not in self._columns:
            raise KeyError(unknown_column(name, self))
        column = self._schema.metrics.get(name)
        if column is None:
            return self._artifact(name) if name in self._schema.artifacts else self._metadata[name]
        path = path_of(self._metadata["path"])
        if not os.path.isdir(path):  # noqa: PTH112
            raise StoreError(f"cannot read {name}: the run folder {path} is gone")
        lines = load_lines(path, column.log_name, self._report, parts_of(path, column.log_name))
        return None if lines is None else metric_values(lines, column, path, self._report)

    def __iter__(self) -> Iterator[str]:
        """Go through the names of all columns."""
        return iter(self._columns)

    def __len__(self) -> int:
        """Count the columns."""
        return len(self._columns)

    def __repr__(self) -> str:
        """Show all values, with LAZYDATA for metrics."""
        metrics = self._schema.metrics
        return f"Run({ {name: LAZYDATA if name in metrics else self[name] for name in self} })"

    def _artifact(self, name: str) -> Artifact | None:
        path = self._metadata[name]
        type_name, _, file = self._schema.artifacts[name].partition("/")
        return None if path is None else Artifact(type_name, file, path_of(path))


@dataclass(frozen=True)
class Origin:
    """How the frames of some runs are made, which is done again where the types of metrics are others in these runs."""

    table: Table
    frames: Callable[[Schema], tuple[pl.LazyFrame, pl.LazyFrame]]
    queried: frozenset[str] = frozenset()  # columns that conditions were written for, by their types

    def changed(self, change: Callable[[pl.LazyFrame], pl.LazyFrame], queried: Iterable[str] = ()) -> Origin:
        """Give the origin of the frames with a change."""

        def frames(schema: Schema) -> tuple[pl.LazyFrame, pl.LazyFrame]:
            frame, snapshot = self.frames(schema)
            return change(frame), change(snapshot)

        return Origin(self.table, frames, self.queried.union(queried))


class Runs(Sequence[RunView]):
    """Sequence of the runs that passed a filter.

    ``lazy()`` and ``collect()`` read the directory as it is when they are collected. Length, items, groups, aggregates
    and what is printed are the runs at the time of the filter, so that ``runs[i]`` stays the same run; filter again for
    the present ones. Metrics are read when they are asked for, and have the types that they have in these runs, not in
    those that were filtered out (see ``scan_runs``).
    """

    def __init__(
        self,
        frame: pl.LazyFrame,
        snapshot: pl.LazyFrame,
        schema: Schema,
        report: Callable[[Problem], None],
        columns: Sequence[str] | None = None,
        *,
        origin: Origin | None = None,
    ) -> None:
        """``frame`` holds the columns of ``schema`` of these runs, ``snapshot`` the same at the time of the filter.

        ``columns`` are those to show, or all. Without ``origin`` types stay as they are, whatever is filtered out.
        """
        self._frame = frame
        self._snapshot = snapshot
        self._schema = schema
        self._report = report
        self._columns = list(schema.polars) if columns is None else list(columns)
        self._origin = origin

    @property
    def schema(self) -> pl.Schema:
        """Name and type of each column, metrics included."""
        return pl.Schema({name: self._schema.polars[name] for name in self._columns})

    @property
    def columns(self) -> list[str]:
        """Names of the columns, metrics included."""
        return list(self._columns)

    def lazy(self) -> pl.LazyFrame:
        """Give a frame of one row a run, as ``scan_runs`` has them."""
        all_columns = self._columns == list(self._schema.polars)
        return self._frame if all_columns else self._frame.select(self._columns)

    def collect(self) -> pl.DataFrame:
        """Read all columns of all runs, metrics included."""
        return self.lazy().collect()

    def to_pandas(self, **options: Any) -> Any:
        """Read all columns of all runs into a pandas DataFrame; metrics are arrays. Needs ``hydra-mlxp[pandas]``."""
        try:
            import pandas  # noqa: F401, PLC0415
            import pyarrow  # noqa: F401, PLC0415
        except ImportError as error:
            raise ImportError(
                f"{error}: to_pandas needs pandas and pyarrow, pip install 'hydra-mlxp[pandas]'"
            ) from None
        return self.collect().to_pandas(**options)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Give all columns of all runs, metrics included, to whatever reads Arrow: pyarrow, DuckDB, pandas, …."""
        frame: Any = self.collect()
        if importlib.util.find_spec("pyarrow"):
            # Polars' own stream has views of text, which pandas and older readers have no type for in lists
            frame = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
        stream: object = frame.__arrow_c_stream__(requested_schema)
        return stream

    def select(self, *names: str | Iterable[str]) -> Runs:
        """Keep these columns only: names, or lists of names. Raises QueryError for a column that does not exist.

        The runs can still be grouped, sorted and aggregated by the others.
        """
        columns = [name for entry in names for name in ([entry] if isinstance(entry, str) else entry)]
        for name in columns:
            if name not in self._schema.polars:
                raise QueryError(unknown_column(name, self._schema.polars))
        columns = list(dict.fromkeys(columns))
        return Runs(self._frame, self._snapshot, self._schema, self._report, columns, origin=self._origin)

    def sort(self, by: str | Sequence[str], *, descending: bool | Sequence[bool] = False) -> Runs:
        """Order the runs by metadata columns, missing values and NaN last in both directions.

        Raises QueryError for any other column.
        """
        names = self._metadata_columns(by, "sort", "sorted")
        # Polars orders NaN above all numbers
        floats = {name for name in names if self._schema.metadata[name].is_float()}
        values = [pl.col(name).fill_nan(None) if name in floats else pl.col(name) for name in names]
        return self._changed(
            lambda frame: frame.sort(values, descending=descending, nulls_last=True, maintain_order=True)
        )

    def best(self, by: str | Reduction, *, mode: Literal["min", "max"] | None = None) -> RunView:
        """Give the run whose metric is best: ``runs.best("val.acc", mode="max")``. ``mode`` is "min" unless given.

        ``by`` is a column, of a metric the best of its values in each run, or what reduces a run to one number, as
        ``Last("val.acc")``. NaN and missing values are never the best; of equal runs the first is. Raises QueryError
        for a column that does not exist or holds no numbers, and where none of these runs has a number; warns
        (StatisticsWarning) where a run logged text among its numbers, which counts as missing.
        """
        name, descending, reduction = _ranking(by, mode, self._schema)
        types = self._schema.column_types
        numbers = reduce_runs(self._snapshot, reduction, [pl.col("path")], [], types, between_runs=False)
        values = _ranked(numbers.select("path", name).collect(), name, descending=descending)
        if not values.height:
            raise QueryError(_without_numbers(reduction, name, f"none of these {len(self)} runs", self._schema))
        _warn_of_strays(self, self._snapshot, reduction)
        return self.where(pl.col("path") == values["path"][0])[0]

    def latest(self) -> Runs:
        """Keep of equal runs the newest: a program that is run again does not become another measurement.

        Runs are equal that have the same configuration, seed included, and the same code: commit and changes of it, or
        function, and program; where no code was recorded, the same configuration. Filter before, say by
        ``info.status == 'COMPLETE'``: the newest may have failed. Which these are is found out now.
        """
        old = superseded(self._snapshot, self._schema)
        return self.where(~pl.col("path").is_in(old.implode())) if len(old) else self

    def diff(self, start_key: str = "config") -> dict[str, list[Any]]:
        """Give the columns whose names start with ``start_key`` and whose values differ between the runs.

        Maps each to its distinct values, in the order of the runs, a missing one as None. By default, the differences
        between the configurations.
        """
        metadata = self.metadata
        names = [name for name in self._schema.metadata if name.startswith(start_key)]
        values = {name: metadata[name].unique(maintain_order=True).to_list() for name in names}
        return {name: distinct for name, distinct in values.items() if len(distinct) > 1}

    def group_by(self, keys: str | Sequence[str]) -> GroupedRuns:
        """Group by the values of one or several metadata columns; a missing value is a value like others.

        Raises QueryError for a column that does not exist, and for a metric. Warns (StatisticsWarning) where runs of a
        group are equal: see ``latest``. ``groupby`` and ``groupBy`` are the same.
        """
        names = self._metadata_columns(keys, "group_by", "grouped")
        warn_of_equal_runs(self._snapshot, self._schema, names)
        return GroupedRuns(self, names)

    groupby = group_by
    groupBy = group_by  # noqa: N815  (as the paper has it)

    def aggregate(self, aggregations: Aggregation | Sequence[Aggregation]) -> pl.LazyFrame:
        """Aggregate all of these runs into one row: the columns of each aggregation. See GroupedRuns.aggregate.

        Warns (StatisticsWarning) where runs are equal, see ``latest``, unless only Best and Last are asked for.
        """
        asked = aggregations if isinstance(aggregations, Iterable) else [aggregations]
        if not all(isinstance(aggregation, (Best, Last)) for aggregation in asked):
            warn_of_equal_runs(self._snapshot, self._schema, [])
        return aggregate(self._snapshot, self._schema.column_types, [], aggregations)

    def where(self, condition: pl.Expr) -> Runs:
        """Keep the runs for which a Polars expression is true.

        Metrics that the expression does not name then have the types that they have in these runs.
        """
        passed = self._changed(lambda frame: frame.filter(condition), condition.meta.root_names())
        return passed._narrowed()  # noqa: SLF001

    def _changed(self, change: Callable[[pl.LazyFrame], pl.LazyFrame], queried: Iterable[str] = ()) -> Runs:
        origin = None if self._origin is None else self._origin.changed(change, queried)
        frame, snapshot = change(self._frame), change(self._snapshot)
        return Runs(frame, snapshot, self._schema, self._report, self._columns, origin=origin)

    def _narrowed(self) -> Runs:
        """Give these runs with the types that metrics have in them."""
        origin = self._origin
        if origin is None or self._schema.disputed <= origin.queried:
            return self
        passed = set(self._snapshot.select("path").collect()["path"])
        positions = [position for position, path in enumerate(origin.table.paths()) if path in passed]
        schema = narrowed(self._schema, origin.table.subset(positions), origin.queried)
        if schema is self._schema:
            return self
        return Runs(*origin.frames(schema), schema, self._report, self._columns, origin=origin)

    @property
    def problems(self) -> list[Problem]:
        """Problems with these runs.

        With their metadata as it was at the time of the filter, with what is no number among their metrics, by file and
        line, and with those of their metric files that their reader has opened. Raises QueryError without a reader.
        """
        if self._origin is None or not isinstance(self._report, Problems):
            raise QueryError("the problems of these runs are not known: ask their Reader")
        passed = set(self.metadata["path"])
        table = self._origin.table
        table = table.subset(position for position, path in enumerate(table.paths()) if path in passed)
        report_strays(table, self._schema, self._report)
        homes = tuple(f"{path}/" for path in passed)
        return [*table.problems, *(problem for problem in self._report if problem.path.startswith(homes))]

    @cached_property
    def metadata(self) -> pl.DataFrame:
        """All columns but the metrics, as at the time of the filter."""
        return self._snapshot.select(pl.col(list(self._schema.metadata))).collect()

    def __len__(self) -> int:
        """Count the runs."""
        return self.metadata.height

    @overload
    def __getitem__(self, index: int) -> RunView: ...
    @overload
    def __getitem__(self, index: slice) -> Runs: ...
    def __getitem__(self, index: Any) -> RunView | Runs:
        """Give the run at an index, or those of a slice. Raises IndexError."""
        if isinstance(index, slice):
            return self._slice(range(len(self))[index])
        if isinstance(index, str):
            raise TypeError(
                f"runs have no column at once: runs[0][{index!r}] of one run, runs.select({index!r}) of all"
            )
        if not -len(self) <= index < len(self):
            raise IndexError(f"there is no run {index}: these are {len(self)} runs")
        return RunView(self.metadata.row(index, named=True), self._schema, self._report, self._columns)

    def _slice(self, indices: range) -> Runs:
        paths = self.metadata["path"]
        selected = self.where(pl.col("path").is_in([paths[index] for index in indices]))
        return selected if indices.step > 0 else selected._changed(pl.LazyFrame.reverse)  # noqa: SLF001

    def __repr__(self) -> str:
        """Show the metadata as a data frame, with LAZYDATA for metrics."""
        return str(self._table())

    def _repr_html_(self) -> str:
        """Show the same in a notebook."""
        html: str = self._table()._repr_html_()
        return html

    def _table(self) -> pl.DataFrame:
        placeholders = [pl.lit(LAZYDATA).alias(name) for name in self._schema.metrics]
        return self.metadata.with_columns(placeholders).select(self._columns)

    def _metadata_columns(self, keys: str | Sequence[str], method: str, participle: str) -> list[str]:
        names = list(keys) if isinstance(keys, Iterable) and not isinstance(keys, str) else [keys]
        if not names:
            raise QueryError(f"{method} needs at least one column")
        if not all(isinstance(name, str) for name in names):
            raise QueryError(f"{method} takes names of columns, and not {keys}: for expressions see lazy()")
        for name in names:
            if name in self._schema.metrics:
                raise QueryError(f"{name} is a metric: runs are {participle} by columns of config and info")
            if name not in self._schema.metadata:
                raise QueryError(unknown_column(name, self._schema.metadata))
        return list(dict.fromkeys(names))


class GroupedRuns(Mapping[tuple[Any, ...], Runs]):
    """Mapping of the values of the key columns, as a tuple in the order of the keys, to Runs.

    Groups are ordered by their values, missing ones last. A list value is a tuple in the mapping's key.
    """

    def __init__(self, runs: Runs, keys: Sequence[str], chosen: Collection[tuple[Any, ...]] | None = None) -> None:
        """``keys`` are names of metadata columns; ``chosen`` the groups to keep, None for all."""
        self._runs = runs
        self._schema = runs._schema  # noqa: SLF001
        self._keys = list(keys)
        self._chosen = chosen

    def aggregate(self, aggregations: Aggregation | Sequence[Aggregation]) -> pl.LazyFrame:
        """Aggregate each group into one row: the key columns, then those of each aggregation; ordered by the keys.

        Missing keys come last. Only the columns needed are read, once for all aggregations, at ``collect``.
        Raises QueryError for a column that an aggregation cannot use, and for two columns of one name.
        """
        return aggregate(self._grouped(), self._schema.column_types, self._keys, aggregations)

    def best(
        self, by: str | Reduction, *, mode: Literal["min", "max"] | None = None, per: str | Sequence[str] = ()
    ) -> GroupedRuns:
        """Keep the group that is best in the mean over its runs, or the best one for each value of the keys ``per``.

        ``methods.best(Last("val.acc"), mode="max", per="config.model")``: the winner of each model. ``by`` and ``mode``
        are as for ``Runs.best``. A mean that is NaN, as where a run has diverged, is never the best, and runs without
        a value are left out; of equal groups the first is. Raises QueryError, also for ``per`` that is no key, and
        where no group has a number; warns (StatisticsWarning) of values of ``per`` of which none has, and of
        runs that logged text among their numbers.
        """
        name, descending, reduction = _ranking(by, mode, self._schema)
        of = [per] if isinstance(per, str) else list(per)
        if unknown := [key for key in of if key not in self._keys]:
            raise QueryError(f"per={unknown[0]!r} is no key: these runs are grouped by {', '.join(self._keys)}")
        types = self._schema.column_types
        numbers = reduce_runs(self._grouped(), reduction, prefix_keys(self._keys), [], types, between_runs=False)
        means = numbers.group_by(prefixed(self._keys)).agg(pl.col(name).mean().alias(_MEAN))
        groups = means.select(*restore_keys(self._keys), _MEAN).sort(self._keys, nulls_last=True).collect()
        ranked = _ranked(groups, _MEAN, descending=descending)
        if not ranked.height:
            raise QueryError(_without_numbers(reduction, name, f"none of these {len(self)} groups", self._schema))
        _warn_of_strays(self._runs, self._grouped(), reduction)
        winners = ranked.unique(of, keep="first", maintain_order=True) if of else ranked.head(1)
        if of:
            lost = groups.select(of).unique(maintain_order=True).join(winners, on=of, how="anti", nulls_equal=True)
            for row in lost.iter_rows(named=True):
                said = f"no group where {', '.join(f'{key} is {value}' for key, value in row.items())} has a number"
                warnings.warn(
                    f"{said} in {_asked(reduction, name)}: none of them is kept", StatisticsWarning, stacklevel=2
                )
        return self.select(winners)

    def select(self, groups: pl.DataFrame | pl.LazyFrame | Iterable[Any]) -> GroupedRuns:
        """Keep the groups whose key values are the rows of a frame, or in a list of key values.

        The frame may have other columns, too: the best rows of ``aggregate``, for example.
        Raises QueryError for a frame without the key columns, and KeyError for a group that is not there.
        """
        if isinstance(groups, (pl.DataFrame, pl.LazyFrame)):
            missing = [key for key in self._keys if key not in groups.collect_schema()]
            if missing:
                raise QueryError(f"the frame has no column {missing[0]!r}, by which these runs are grouped")
            chosen = {_as_key(row) for row in groups.lazy().select(self._keys).collect().rows()}
        else:
            chosen = {_as_key(group if isinstance(group, tuple) else (group,)) for group in groups}
        for group in chosen:
            if group not in self:
                raise KeyError(f"there is no group {group!r}: {self!r}")
        return GroupedRuns(self._runs, self._keys, chosen)

    def _grouped(self) -> pl.LazyFrame:
        frame = self._runs._snapshot  # noqa: SLF001
        if self._chosen is not None:  # one condition, which is pushed down, and so one scan of the directory
            frame = frame.filter(pl.any_horizontal(pl.lit(value=False), *map(self._is, self._groups.values())))
        return frame

    @cached_property
    def _groups(self) -> dict[tuple[Any, ...], tuple[Any, ...]]:
        values = self._runs.metadata.select(pl.col(self._keys)).unique().sort(self._keys, nulls_last=True).rows()
        groups = {_as_key(row): row for row in values}
        return groups if self._chosen is None else {key: row for key, row in groups.items() if key in self._chosen}

    def __getitem__(self, group: Any) -> Runs:
        """Give the runs of one group: a tuple of key values, or the value itself where there is one key."""
        row = self._groups[_as_key(group if isinstance(group, tuple) else (group,))]
        return self._runs.where(self._is(row))

    def _is(self, row: tuple[Any, ...]) -> pl.Expr:
        """Give the condition that a run is of the group with these key values."""
        types = self._schema.polars
        values = (pl.lit(value, dtype=types[key]) for key, value in zip(self._keys, row, strict=True))
        return pl.all_horizontal(pl.col(key).eq_missing(value) for key, value in zip(self._keys, values, strict=True))

    def __contains__(self, group: object) -> bool:
        """Return True if there is such a group."""
        return _as_key(group if isinstance(group, tuple) else (group,)) in self._groups

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        """Go through the values of the groups."""
        return iter(self._groups)

    def __len__(self) -> int:
        """Count the groups."""
        return len(self._groups)

    def __repr__(self) -> str:
        """Show keys and group values."""
        return f"GroupedRuns by {', '.join(self._keys)}: {len(self)} groups {list(self)}"

    def _repr_html_(self) -> str:
        """Show the groups in a notebook: a row each, the values of the keys, the number of runs, and which they are."""
        keys, paths = self._runs.metadata.select(self._keys), self._runs.metadata["path"]
        folders: dict[tuple[Any, ...], list[RunDir]] = {}
        for values, path in zip(keys.rows(), paths, strict=True):
            folders.setdefault(_as_key(values), []).append(RunDir(Path(path)))
        rows = pl.DataFrame(list(self._groups.values()), schema=keys.schema, orient="row")
        counts = pl.Series("n", [len(folders[group]) for group in self._groups], dtype=pl.UInt32)
        homes = sorted({folder.path.parent for of_group in folders.values() for folder in of_group})
        texts = [_names_by_home(folders[group], homes) for group in self._groups]
        names = pl.Series("runs", texts, dtype=pl.String)
        with pl.Config(fmt_str_lengths=_MAX_SHOWN):
            html: str = rows.with_columns(counts, names)._repr_html_()
        return html


def _names_by_home(runs: Sequence[RunDir], homes: Sequence[Path]) -> str:
    """Name runs in few words; with their log directories where these are several, of which each counts from 1."""
    if len(homes) == 1:
        return format_runs(runs)
    common = os.path.commonpath(homes)
    of_home = {home: [run for run in runs if run.path.parent == home] for home in homes}
    return "; ".join(f"{home.relative_to(common)}: {format_runs(of)}" for home, of in of_home.items() if of)


def aggregate(
    runs: pl.LazyFrame, schema: pl.Schema, keys: Sequence[str], aggregations: Aggregation | Sequence[Aggregation]
) -> pl.LazyFrame:
    """Aggregate each group into one row, or all runs where there are no keys. Raises QueryError."""
    is_single = isinstance(aggregations, str) or not isinstance(aggregations, Iterable)
    checked: list[Any] = [aggregations] if is_single else list(aggregations)  # type: ignore[arg-type]
    for aggregation in checked:
        if isinstance(aggregation, type) or not hasattr(aggregation, "over_groups"):
            raise QueryError(f"{aggregation!r} is no aggregation: write AvgStd({aggregation!r}), say")
    names = [*keys, *(name for aggregation in checked for name in aggregation.columns)]
    duplicates = sorted({name for name in names if names.count(name) > 1})
    if duplicates:
        raise QueryError(f"two columns of the result would be named {', '.join(duplicates)}: aggregate them separately")
    # each aggregation would read the metric files for itself, where it takes other columns than the one before
    runs = runs.cache()
    if not keys:  # one group, also without any run
        runs, by = runs.with_columns(pl.lit(0).alias(_ALL)), [_ALL]
        result = pl.LazyFrame({_ALL: [0]}, schema={_ALL: pl.Int32})
    else:
        by = list(keys)
        result = runs.select(pl.col(by)).unique()
    for aggregation in checked:
        columns = aggregation.over_groups(runs, by, schema)
        # left, so that a group without a value stays, with nulls
        result = result.join(columns, on=by, how="left", nulls_equal=True)
    return result.sort(by, nulls_last=True).select(pl.col(names))


def _ranking(by: str | Reduction, mode: Literal["min", "max"] | None, schema: Schema) -> tuple[str, bool, Reduction]:
    """Give the name of the number that runs are ranked by, True where the largest is best, and its reduction."""
    own = getattr(by, "mode", None)
    if mode is not None and own is not None and mode != own:
        raise QueryError(f"mode={mode!r} of best, and {by!r}: which of them?")
    mode = mode or own or "min"
    if isinstance(by, str):
        if by not in schema.polars:
            metrics = f"; the metrics are {', '.join(schema.metrics)}" if schema.metrics else ""
            raise QueryError(unknown_column(by, schema.polars) + metrics)
        by = Best(by, mode)
    elif isinstance(by, type) or not hasattr(by, "per_run"):
        raise QueryError(f"best takes the name of a column, Best(…) or Last(…), and not {by!r}")
    elif mode not in {"min", "max"}:
        raise QueryError(f"mode={mode!r} of best: it is 'min' or 'max'")
    return by.numbers[0], mode == "max", by


def _ranked(frame: pl.DataFrame, name: str, *, descending: bool) -> pl.DataFrame:
    """Give the rows that have a number, the best first; equal ones in their order. Polars ranks NaN above all."""
    check_column(name, frame.schema, "best")
    numbers = frame.with_columns(pl.col(name).cast(pl.Float64).fill_nan(None)).drop_nulls(name)
    return numbers.sort(name, descending=descending, maintain_order=True)


def _warn_of_strays(runs: Runs, ranked: pl.LazyFrame, by: Reduction) -> None:
    """Warn of what is no number where runs are ranked: one that wrote "diverged" is ranked by its numbers before."""
    origin, schema, column = runs._origin, runs._schema, getattr(by, "key", None)  # noqa: SLF001
    if origin is None or column not in schema.disputed or not schema.metrics[column].numeric:
        return
    passed = set(ranked.select("path").collect()["path"])
    table = origin.table.subset(position for position, path in enumerate(origin.table.paths()) if path in passed)
    found: list[Problem] = []
    report_strays(table, replace(schema, metrics={column: schema.metrics[column]}), found.append)
    if found:
        more = f", and {len(found) - 1} more such runs (see problems)" if len(found) > 1 else ""
        warnings.warn(
            f"{found[0]}{more}. Such a run is ranked by its numbers; had it logged NaN, it would never be the best",
            StatisticsWarning,
            stacklevel=3,
        )


def _asked(by: Reduction, name: str) -> str:
    """Give the column that was asked for, where it is known: nobody has written ``val.acc_best``."""
    column: str = getattr(by, "key", name)
    return column


def _without_numbers(by: Reduction, name: str, runs: str, schema: Schema) -> str:
    column = _asked(by, name)
    others = [metric for metric in schema.metrics if metric != column]
    return f"{runs} has a number in {column}" + (f": there is {', '.join(others)}" if others else "")


def _as_key(row: Iterable[Any]) -> tuple[Any, ...]:
    # no dictionary takes a list, and NaN is equal to itself only where it is the same object
    return tuple(
        _as_key(value) if isinstance(value, (list, tuple)) else math.nan if value != value else value  # noqa: PLR0124
        for value in row
    )

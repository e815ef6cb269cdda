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
from mlxp_core.reader.statistics.steps import (
    POSITION,
    RUN,
    STEP,
    VALUE,
    LineAlignment,
    curve_lines,
    run_name,
    step_column,
)

_NUMBERS = "numbers"


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

    Columns: ``<key>_best``, ``<key>_best_step``, and ``<other>_at_best`` for each of ``also``. Missing values and NaN
    are never the best; of equal ones the first is. All is null for a run that has none. A scalar field is its own best.

    ``by`` names the key of the log that counts the steps, ``by="epoch"``. The step is then the user's (Float64), and
    each of ``also``, which may be of another log with that key, has the value at that step or the last one before it;
    null where there is none. Where a run goes back, see ``AvgStd``. Without ``by``, the step is the line, from 0, and
    ``also`` the value in the same line of its log, null where there is no such line; a QueryError when it is collected,
    if a key that counts steps (``step``, ``epoch``, …) says that lines of the two logs are of other steps.

    Alone, ``group.aggregate([Best(...)])`` gives the best over all runs of a group, and the id of that run in
    ``<key>_best_id``.
    """

    key: str
    mode: Literal["min", "max"] = "min"
    also: Sequence[str] = ()
    by: str | None = None

    def __post_init__(self) -> None:
        """Raises QueryError for an invalid mode."""
        if self.mode not in {"min", "max"}:
            raise QueryError(f"mode={self.mode!r} of Best: it is 'min' or 'max'")
        check_by(self.by)
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
        if self.by is not None:
            return [self.struct_per_run(schema).struct.field(name) for name in self.numbers]
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

    def struct_per_run(self, schema: Mapping[str, pl.DataType]) -> pl.Expr:
        """Give one expression for all numbers of a run by the user's steps: a Struct. Raises QueryError."""
        steps = {self.key: _numeric_steps(self, self.key, schema)}
        for other in self.also:
            if isinstance(schema[other], pl.List):
                steps[other] = _numeric_steps(self, other, schema)

        def numbers(rows: pl.Series) -> pl.Series:
            return self._by_steps(rows.struct.unnest().with_row_index(POSITION), steps)

        columns = dict.fromkeys((self.key, *self.also, *steps.values()))
        types = [pl.Float64(), pl.Float64(), *(_element_type(schema[other]) for other in self.also)]
        struct = pl.Struct(dict(zip(self.numbers, types, strict=True)))
        return pl.struct(*columns, run_name(schema)).map_batches(numbers, return_dtype=struct)

    def _by_steps(self, rows: pl.DataFrame, steps: Mapping[str, str]) -> pl.Series:
        lines = _lines(rows, self.key, steps[self.key]).with_columns(pl.col(VALUE).cast(pl.Float64).fill_nan(None))
        value = pl.col(VALUE).max() if self.mode == "max" else pl.col(VALUE).min()
        first_step = pl.col(STEP).filter(pl.col(VALUE) == value).first()
        best = lines.drop_nulls(VALUE).group_by(POSITION).agg(value, first_step)
        found = rows.select(POSITION).join(best, on=POSITION, how="left", maintain_order="left")
        columns = [found[VALUE], found[STEP]]
        for other in self.also:
            column = rows[other]
            if other in steps:
                theirs = _lines(rows, other, steps[other]).sort(STEP)
                asked = found.select(POSITION, STEP).sort(STEP)  # what has no best step has nothing at it
                joined = asked.join_asof(theirs, on=STEP, by=POSITION, strategy="backward", check_sortedness=False)
                column = joined.sort(POSITION)[VALUE]
            columns.append(column)
        return pl.DataFrame(dict(zip(self.numbers, columns, strict=True))).to_struct()

    def alignment(self, schema: Mapping[str, pl.DataType], *, between_runs: bool) -> LineAlignment:
        """Give the check that lines may be taken for steps; ``between_runs``, too, where their numbers are averaged."""
        others = f", also={list(self.also)!r}" if self.also else ""
        return LineAlignment.of(
            [self.key, *self.also],
            f"Best({self.key!r}, mode={self.mode!r}{others}",
            schema,
            between_runs=between_runs,
        )

    def over_groups(self, runs: pl.LazyFrame, keys: Sequence[str], schema: Mapping[str, pl.DataType]) -> pl.LazyFrame:
        """Give the best over the runs of each group. Raises QueryError."""
        best, best_id = f"{self.key}_best", f"{self.key}_best_id"
        kept = [*prefix_keys(keys), pl.col("id").alias(best_id)]
        named = reduce_runs(runs, self, kept, keys, schema, between_runs=False).with_row_index(POSITION)
        named = named.with_columns(pl.when(pl.col(best).is_not_null()).then(best_id))
        first = pl.all().sort_by(best, POSITION, descending=[self.mode == "max", False], nulls_last=True)
        return named.group_by(prefixed(keys)).agg(first.first()).select(*restore_keys(keys), *self.columns)


@dataclass(frozen=True)
class Last:
    """The last value of a metric in each run: column ``<key>_last``; missing values are passed over, NaN is not.

    Null for a run without a value. A scalar field is its own last. ``by`` names the key of the log that counts the
    steps: the value of the last step, which is in ``<key>_last_step`` (Float64). Alone,
    ``group.aggregate([Last(...)])`` gives a list for each group: a value for each run, in the order of the runs.
    """

    key: str
    by: str | None = None

    def __post_init__(self) -> None:
        """Raises QueryError for an invalid ``by``."""
        check_by(self.by)

    @property
    def numbers(self) -> list[str]:
        """Names of the numbers of a run."""
        return [f"{self.key}_last"] if self.by is None else [f"{self.key}_last", f"{self.key}_last_step"]

    @property
    def columns(self) -> list[str]:
        """Names of the columns of a group."""
        return self.numbers

    def per_run(self, schema: Mapping[str, pl.DataType]) -> list[pl.Expr]:
        """Give the expression for the last value, and for its step."""
        dtype = check_column(self.key, schema, "Last", numbers=False)
        if self.by is not None:
            return [self.struct_per_run(schema).struct.field(name) for name in self.numbers]
        value = pl.col(self.key)
        if isinstance(dtype, pl.List):
            value = value.list.drop_nulls().list.last()
        return [value.alias(self.columns[0])]

    def struct_per_run(self, schema: Mapping[str, pl.DataType]) -> pl.Expr:
        """Give one expression for all numbers of a run by the user's steps: a Struct. Raises QueryError."""
        steps = _numeric_steps(self, self.key, schema)

        def numbers(rows: pl.Series) -> pl.Series:
            frame = rows.struct.unnest().with_row_index(POSITION)
            last = _lines(frame, self.key, steps).group_by(POSITION).agg(pl.col(VALUE, STEP).last())
            found = frame.select(POSITION).join(last, on=POSITION, how="left", maintain_order="left")
            return pl.DataFrame(dict(zip(self.numbers, (found[VALUE], found[STEP]), strict=True))).to_struct()

        types = [_element_type(schema[self.key]), pl.Float64()]
        struct = pl.Struct(dict(zip(self.numbers, types, strict=True)))
        return pl.struct(*dict.fromkeys((self.key, steps)), run_name(schema)).map_batches(numbers, return_dtype=struct)

    def over_groups(self, runs: pl.LazyFrame, keys: Sequence[str], schema: Mapping[str, pl.DataType]) -> pl.LazyFrame:
        """Give the last values of the runs of each group. Raises QueryError."""
        named = reduce_runs(runs, self, prefix_keys(keys), keys, schema, between_runs=False).with_row_index(POSITION)
        return (
            named.group_by(prefixed(keys))
            .agg(pl.col(self.columns).sort_by(POSITION))
            .select(*restore_keys(keys), *self.columns)
        )


def reduce_runs(
    runs: pl.LazyFrame,
    reduction: Reduction,
    kept: Sequence[pl.Expr],
    keys: Sequence[str],
    schema: Mapping[str, pl.DataType],
    *,
    between_runs: bool,
) -> pl.LazyFrame:
    """Give a frame of ``kept`` columns and of the numbers of each run. Raises QueryError.

    ``between_runs``: the steps of the runs of a group are to be compared, as lines are where nothing else is known.
    """
    if isinstance(reduction, (Best, Last)) and reduction.by is not None:
        check_column(reduction.key, schema, type(reduction).__name__, numbers=isinstance(reduction, Best))
        for other in getattr(reduction, "also", ()):
            check_column(other, schema, "Best", numbers=False)
        return runs.select(*kept, reduction.struct_per_run(schema).alias(_NUMBERS)).unnest(_NUMBERS)
    expressions = reduction.per_run(schema)
    if isinstance(reduction, Best):
        runs = reduction.alignment(schema, between_runs=between_runs).checked(runs, keys, schema)
    return runs.select(*kept, *expressions)


def check_by(by: object) -> None:
    """Raise QueryError for what cannot be the key of a log."""
    if by is not None and not (isinstance(by, str) and by):
        raise QueryError(f"by={by!r}: it is the key of the log that counts the steps, as by='step'")


def check_column(key: str, schema: Mapping[str, pl.DataType], caller: str, *, numbers: bool = True) -> pl.DataType:
    """Return the type of a column. Raises QueryError if there is no such column, or it holds no numbers."""
    if key not in schema:
        raise QueryError(unknown_column(key, schema))
    dtype = schema[key]
    if numbers and not _element_type(dtype).is_numeric():
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


def _numeric_steps(reduction: Best | Last, column: str, schema: Mapping[str, pl.DataType]) -> str:
    """Give the column of the steps of a metric. Raises QueryError, also for steps that have no order."""
    steps = step_column(column, reduction.by or "", schema)
    check_column(steps, schema, f"by={reduction.by!r} of {type(reduction).__name__}")
    return steps


def _lines(rows: pl.DataFrame, column: str, steps: str) -> pl.DataFrame:
    frame = rows.select(POSITION, RUN, pl.col(column).alias(VALUE), pl.col(steps).alias(STEP))
    return curve_lines(frame, column, steps)


def _element_type(dtype: pl.DataType) -> pl.DataType:
    return dtype.inner if isinstance(dtype, pl.List) else dtype  # type: ignore[return-value]

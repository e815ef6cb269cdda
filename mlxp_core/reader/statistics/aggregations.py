"""Aggregate columns over the runs of a group. Lazy frames in, lazy frames out.

Each takes a column of numbers, a reduction (Best, Last), or any Polars expression over the columns of a run, and works
on lists (a metric: step by step) and on scalars. For all of them: missing values are left out, and counted in
no ``_n``; NaN is a value and makes the result NaN, at its step; where no run of a group has a value all is null.

Steps are the lines of the log, from 0, or by ``by="step"`` what that key of the log says: ``AvgStd("train.loss",
by="step")``. Each step (a number, or text) that a run of the group has a value at is then there once, ascending, in one
more column of lists: ``<key>_step`` beside ``<key>_n`` (``<key>_median_step`` beside ``<key>_median_n``, and so on).
Steps match where they are equal. ``fill="interpolate"`` also takes a run at the steps of others between its own, on
the straight line between the two values around it, never before its first or after its last; these count in ``_n``.
Where a run goes back to a step (it was resumed), what it had logged from there on does not count, and of several values
at one step the last does; a StatisticsWarning names the runs. Without ``by``, steps that disagree are an error when the
result is collected: where the log has a key that counts steps (``step``, ``epoch``, ``iteration``, …), and it differs
between two runs of a group in the same line.
"""

from __future__ import annotations

import math
import operator
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import lru_cache, reduce
from typing import Any, Literal, Protocol

import polars as pl

from mlxp_core.errors import QueryError
from mlxp_core.reader.statistics.reductions import (
    Reduction,
    check_by,
    check_column,
    prefix_keys,
    prefixed,
    reduce_runs,
    restore_keys,
)
from mlxp_core.reader.statistics.steps import POSITION, STEP, VALUE, LineAlignment, curve, log_of, readable, step_column
from mlxp_core.reader.statistics.student_t import two_sided

Ragged = Literal["reached", "truncate", "error"]
Source = str | Reduction | pl.Expr

# no column of a log directory lacks a dot, but id and path
_SHORTEST = "shortest"
_LONGEST = "longest"
_SAMPLE = "sample"
_EDGES = "edges"
_CURVE = "curve"

_FEW = 10  # values, below which a percentile bootstrap is too narrow: at 95 % it covers 75 (n = 3) to 90 % (n = 9)


class Aggregation(Protocol):
    """Protocol of what ``GroupedRuns.aggregate`` takes. Your own need not derive from it."""

    @property
    def columns(self) -> Sequence[str]:
        """Names of the columns of the result."""

    def over_groups(self, runs: pl.LazyFrame, keys: Sequence[str], schema: Mapping[str, pl.DataType]) -> pl.LazyFrame:
        """Give the key columns and the result columns: at most one row a group, in any order.

        ``runs`` has one row a run; ``schema`` is its schema. Raises QueryError for a column that cannot be used.
        """


@dataclass(frozen=True)
class _Statistics:
    """Base: numbers of the values of each group, step by step where these are lists."""

    key: Source
    _: KW_ONLY
    # for runs of unequal length. "reached": each step is over the runs that reached it; "truncate": only steps that all
    # runs of the group have reached (one that has logged nothing yet has reached none, one without the metric does not
    # count); "error": a QueryError when the result is collected
    ragged: Ragged = "reached"
    # the key of the log that counts the steps; None: its lines
    by: str | None = None
    # with ``by``: None, or "interpolate" for values at the steps of other runs
    fill: Literal["interpolate"] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.key, (str, pl.Expr)) and (
            isinstance(self.key, type) or not hasattr(self.key, "per_run")
        ):
            raise QueryError(
                f"{type(self).__name__} takes the name of a column, a Polars expression, Best(…) or Last(…), and not "
                f"{self.key!r}: write an aggregation for each column"
            )
        if self.ragged not in {"reached", "truncate", "error"}:
            raise QueryError(f"ragged={self.ragged!r}: it is 'reached', 'truncate' or 'error'")
        check_by(self.by)
        if self.fill not in {None, "interpolate"}:
            raise QueryError(f"fill={self.fill!r}: it is 'interpolate' or None")
        if self.fill is not None and self.by is None:
            raise QueryError("fill='interpolate' is between steps: name the key that counts them, as by='step'")
        if self.by is not None and not isinstance(self.key, (str, pl.Expr)):
            inner = f"{type(self.key).__name__}(…, by={self.by!r})"
            raise QueryError(f"{self.key!r} gives one value a run, which has no steps: write by= in it, {inner}")

    @property
    def columns(self) -> list[str]:
        """Names of the columns of the result."""
        return [column for name in source_names(self.key) for column in (*self._names(name), *self._step_names(name))]

    def over_groups(self, runs: pl.LazyFrame, keys: Sequence[str], schema: Mapping[str, pl.DataType]) -> pl.LazyFrame:
        """Give the key columns and ``columns``; no row for a group where no run has a list.

        Raises QueryError if there is no such column or it holds no numbers, or no key that is named by ``by``.
        """
        result = None
        for name, values in self._values(runs, keys, schema):
            dtype = check_column(name, {name: values.collect_schema()[VALUE]}, type(self).__name__)
            is_list = isinstance(dtype, pl.List)
            if is_list:
                groups = self._over_steps(name, values, prefixed(keys))
            else:
                groups = self._finished(name, values.group_by(prefixed(keys)).agg(self._group_exprs(name)))
            shown = [*self._result_exprs(name, is_list=is_list), *map(pl.col, self._step_names(name))]
            groups = groups.select(*restore_keys(keys), *shown)
            result = groups if result is None else result.join(groups, on=list(keys), how="left", nulls_equal=True)
        if result is None:
            raise QueryError(f"{type(self).__name__} needs a column")
        return result

    def _values(
        self, runs: pl.LazyFrame, keys: Sequence[str], schema: Mapping[str, pl.DataType]
    ) -> Iterator[tuple[str, pl.LazyFrame]]:
        """Give the name of each number of a run, and a frame of the keys, prefixed, VALUE, and STEP with ``by``."""
        if not isinstance(self.key, (str, pl.Expr)):
            numbers = reduce_runs(runs, self.key, prefix_keys(keys), keys, schema, between_runs=True)
            for name in source_names(self.key):
                yield name, numbers.select(*prefixed(keys), pl.col(name).alias(VALUE))
            return
        (name,) = source_names(self.key)
        if isinstance(self.key, str):
            check_column(name, schema, type(self).__name__)
        source = pl.col(self.key) if isinstance(self.key, str) else self.key
        dtype = runs.select(source.alias(VALUE)).collect_schema()[VALUE]
        metrics = [column for column in source.meta.root_names() if column in schema and log_of(column, schema)]
        if self.by is not None:
            steps = self._curve(name, source, metrics, dtype, schema)
            yield name, runs.select(*prefix_keys(keys), steps.alias(_CURVE)).unnest(_CURVE)
            return
        if isinstance(dtype, pl.List) and metrics:
            shown = repr(name) if isinstance(self.key, str) else name
            check = LineAlignment.of(metrics, f"{type(self).__name__}({shown}", schema, between_runs=True)
            runs = check.checked(runs, keys, schema)
        yield name, runs.select(*prefix_keys(keys), source.alias(VALUE))

    def _curve(
        self, name: str, source: pl.Expr, metrics: Sequence[str], dtype: pl.DataType, schema: Mapping[str, pl.DataType]
    ) -> pl.Expr:
        steps = {step_column(metric, self.by or "", schema) for metric in metrics or [name] if metric in schema}
        if len(steps) != 1 or not isinstance(dtype, pl.List):
            raise QueryError(f"by={self.by!r} is for lists of values along the steps of one log, and {name} is none")
        (column,) = steps
        if self.fill is not None:
            check_column(column, schema, "fill='interpolate'")
        return curve(name, source, column, schema, dtype)

    def _over_steps(self, name: str, values: pl.LazyFrame, keys: Sequence[str]) -> pl.LazyFrame:
        lines = self._by_step(name, values, keys) if self.by is not None else self._by_line(name, values, keys)
        by_step = self._finished(name, lines.group_by(*keys, STEP).agg(self._group_exprs(name)))
        by_group = by_step.group_by(keys).agg(pl.all().exclude(STEP).sort_by(STEP), pl.col(STEP).sort())
        return by_group.rename({STEP: self._step_names(name)[0]}) if self.by is not None else by_group.drop(STEP)

    def _by_line(self, name: str, values: pl.LazyFrame, keys: Sequence[str]) -> pl.LazyFrame:
        if self.ragged != "reached":
            length = pl.col(VALUE).list.len()
            values = values.with_columns(
                length.min().over(keys).alias(_SHORTEST), length.max().over(keys).alias(_LONGEST)
            )
            if self.ragged == "error":
                # the longest is what the check gives back, so that no optimizer takes it for unused
                checked = pl.struct(_SHORTEST, _LONGEST).map_batches(_equal_lengths(name), return_dtype=pl.UInt32)
                values = values.with_columns(checked.alias(_SHORTEST))
            values = values.with_columns(pl.col(VALUE).list.head(_SHORTEST)).drop(_SHORTEST, _LONGEST)
        steps = values.with_columns(pl.int_ranges(pl.col(VALUE).list.len()).alias(STEP))
        return steps.explode(VALUE, STEP).drop_nulls(STEP)  # runs without a list, or with an empty one

    def _by_step(self, name: str, curves: pl.LazyFrame, keys: Sequence[str]) -> pl.LazyFrame:
        lines = curves.with_row_index(POSITION).explode(VALUE, STEP).drop_nulls(STEP)
        if self.fill is not None:
            grid = lines.select(*keys, STEP).unique()
            by = [*keys, POSITION, STEP]
            all_steps = lines.select(*keys, POSITION).unique().join(grid, on=keys, nulls_equal=True)
            lines = all_steps.join(lines, on=by, how="left", nulls_equal=True).sort(POSITION, STEP)
            values = pl.col(VALUE).cast(pl.Float64).interpolate_by(STEP).over(POSITION)
            lines = lines.with_columns(values.alias(VALUE)).drop_nulls(VALUE)
        if self.ragged == "reached":
            return lines
        runs, reached = pl.col(POSITION).n_unique().over(keys), pl.len().over(*keys, STEP)
        lines = lines.with_columns(reached.alias(_SHORTEST), runs.alias(_LONGEST))
        if self.ragged == "error":
            checked = pl.struct(_SHORTEST, _LONGEST, STEP).map_batches(_equal_steps(name), return_dtype=pl.UInt32)
            lines = lines.with_columns(checked.alias(_LONGEST))
        return lines.filter(pl.col(_SHORTEST) == pl.col(_LONGEST)).drop(_SHORTEST, _LONGEST)

    def _step_names(self, name: str) -> list[str]:
        """Name the column of the steps as that of the number of values, which is the last one called so."""
        counts = [column for column in self._names(name) if column.endswith("_n")]
        return [] if self.by is None else [f"{counts[-1].removesuffix('_n')}_step"]

    def _names(self, name: str) -> list[str]:
        raise NotImplementedError

    def _group_exprs(self, name: str) -> list[pl.Expr]:
        """Give expressions over the values of a group, or of a step of a group, named by ``_names``."""
        raise NotImplementedError

    def _finished(self, name: str, groups: pl.LazyFrame) -> pl.LazyFrame:  # noqa: ARG002
        """Give the columns of a group, or of a step of a group, where ``_group_exprs`` has not."""
        return groups

    def _result_exprs(self, name: str, *, is_list: bool) -> list[pl.Expr]:  # noqa: ARG002
        """Give expressions over the columns of the result, which are lists along the steps or numbers."""
        return [pl.col(column) for column in self._names(name)]


@dataclass(frozen=True)
class AvgStd(_Statistics):
    """Mean, standard deviation and number of values: columns ``<key>_avg``, ``<key>_std``, ``<key>_n``.

    Of a metric (a list a run) they are taken element by element along the steps: element i of the result (a
    List(Float64), ``_n`` a List(UInt32)) is over those runs that have a value there; see ``ragged`` for other ways with
    runs of unequal length. Of a scalar field they are plain numbers. The standard deviation divides by n - ``ddof``, n
    the number of values; where n - ddof < 1 it is null, as for a single run.
    """

    ddof: int = 1

    def __post_init__(self) -> None:
        """Raises QueryError for an invalid ddof."""
        super().__post_init__()
        if not isinstance(self.ddof, int) or self.ddof < 0:
            raise QueryError(f"ddof={self.ddof!r} of AvgStd: it is 0 or 1, as a rule")

    def _names(self, name: str) -> list[str]:
        return [f"{name}_avg", f"{name}_std", f"{name}_n"]

    def _group_exprs(self, name: str) -> list[pl.Expr]:
        average, deviation, number = self._names(name)
        values = pl.col(VALUE).cast(pl.Float64)
        return [values.mean().alias(average), _deviation(values, self.ddof).alias(deviation), _count().alias(number)]


@dataclass(frozen=True)
class Quantiles(_Statistics):
    """Quantiles, interpolated linearly: ``<key>_q25`` for 0.25 and so on, and the number of values ``<key>_q_n``."""

    quantiles: Sequence[float] = (0.25, 0.5, 0.75)

    def __post_init__(self) -> None:
        """Raises QueryError for an invalid quantile."""
        super().__post_init__()
        quantiles = [self.quantiles] if isinstance(self.quantiles, (int, float)) else self.quantiles
        object.__setattr__(self, "quantiles", tuple(quantiles))
        wrong = [quantile for quantile in self.quantiles if not 0 <= quantile <= 1]
        if wrong:
            raise QueryError(f"{wrong[0]!r} is no quantile: they are between 0 and 1")

    def _names(self, name: str) -> list[str]:
        return [*(f"{name}_q{quantile * 100:g}" for quantile in self.quantiles), f"{name}_q_n"]

    def _group_exprs(self, name: str) -> list[pl.Expr]:
        *names, number = self._names(name)
        quantiles = [_quantile(quantile).alias(name) for quantile, name in zip(self.quantiles, names, strict=True)]
        return [*quantiles, _count().alias(number)]


@dataclass(frozen=True)
class Median(_Statistics):
    """Median and number of values: columns ``<key>_median``, ``<key>_median_n``."""

    def _names(self, name: str) -> list[str]:
        return [f"{name}_median", f"{name}_median_n"]

    def _group_exprs(self, name: str) -> list[pl.Expr]:
        median, number = self._names(name)
        return [_quantile(0.5).alias(median), _count().alias(number)]


@dataclass(frozen=True)
class MeanCI(_Statistics):
    """Mean and a confidence interval of it.

    Columns ``<key>_mean``, ``<key>_ci_low``, ``<key>_ci_high``, ``<key>_ci_n``, and ``<key>_ci_method``, which says
    in words how the interval was made. ``method="t"``: mean plus and minus the quantile of Student's t distribution
    with n - 1 degrees of freedom times std / sqrt(n). ``method="bootstrap"``: the quantiles of the means of
    ``resamples`` samples of n, drawn with replacement; the same for the same values and ``seed``. With fewer than two
    values the interval is null.

    A bootstrap of 2 to 9 values is too narrow (of 95 % it covers 75 to 90 %): a QueryError when it is collected.
    ``force=True`` makes it nevertheless, and ``<key>_ci_method`` says so.
    """

    level: float = 0.95
    method: Literal["t", "bootstrap"] = "t"
    resamples: int = 2000
    seed: int = 0
    force: bool = False

    def __post_init__(self) -> None:
        """Raises QueryError for invalid options."""
        super().__post_init__()
        if not 0 < self.level < 1:
            raise QueryError(f"level={self.level!r} of MeanCI: it is between 0 and 1, as 0.95")
        if self.method not in {"t", "bootstrap"}:
            raise QueryError(f"method={self.method!r} of MeanCI: it is 't' or 'bootstrap'")
        if self.resamples < 1:
            raise QueryError(f"resamples={self.resamples!r} of MeanCI: at least 1")

    def _names(self, name: str) -> list[str]:
        return [f"{name}_mean", f"{name}_ci_low", f"{name}_ci_high", f"{name}_ci_n", f"{name}_ci_method"]

    def _group_exprs(self, name: str) -> list[pl.Expr]:
        mean, low, high, number, _ = self._names(name)
        values = pl.col(VALUE).cast(pl.Float64)
        if self.method == "t":
            factor = _count().map_batches(self._per_root_n, return_dtype=pl.Float64, returns_scalar=True)
            half = _deviation(values, 1) * factor
            edges = [(values.mean() - half).alias(low), (values.mean() + half).alias(high)]
        else:
            edges = [values.drop_nulls().sort().alias(_SAMPLE)]  # the order of the values within a group is not given
        return [values.mean().alias(mean), *edges, _count().alias(number)]

    def _finished(self, name: str, groups: pl.LazyFrame) -> pl.LazyFrame:
        if self.method == "t":
            return groups
        _, low, high, _, _ = self._names(name)
        struct = pl.Struct({low: pl.Float64(), high: pl.Float64()})

        def edges(samples: pl.Series) -> pl.Series:
            self._check_sizes(name, samples)
            both = [self._interval(values) for values in samples]
            return pl.DataFrame(both, schema=struct.to_schema(), orient="row").to_struct()

        edge_columns = pl.col(_SAMPLE).map_batches(edges, return_dtype=struct).alias(_EDGES)
        return groups.with_columns(edge_columns).unnest(_EDGES).drop(_SAMPLE)

    def _result_exprs(self, name: str, *, is_list: bool) -> list[pl.Expr]:
        *names, method = self._names(name)
        numbers = [pl.col(column) for column in names]
        if self.method == "t":
            return [*numbers, pl.lit(f"{self.level * 100:g}%, Student's t").alias(method)]
        text = f"{self.level * 100:g}%, bootstrap of {self.resamples} resamples, seed {self.seed}"
        few = (pl.element() if is_list else numbers[-1]).is_between(2, _FEW - 1)
        has_few = numbers[-1].list.eval(few).list.any() if is_list else few
        warned = pl.lit(f"{text}, of fewer than {_FEW} values: covers less than it says")
        return [*numbers, pl.when(has_few).then(warned).otherwise(pl.lit(text)).alias(method)]

    def _per_root_n(self, counts: pl.Series) -> pl.Series:
        """Give for each n the factor of the standard deviation that makes half the interval."""
        factors = [two_sided(self.level, n - 1) / math.sqrt(n) if n > 1 else None for n in counts]
        return pl.Series(counts.name, factors, dtype=pl.Float64)

    def _check_sizes(self, name: str, samples: pl.Series) -> None:
        sizes = samples.list.len()
        few = sizes.filter(sizes.is_between(2, _FEW - 1))
        if len(few) and not self.force:
            raise QueryError(
                f"MeanCI of {name} has {min(few.to_list())} values in a group, of which a bootstrap is too narrow (of "
                f"fewer than {_FEW}, 95 % are 75 to 90 %): write method='t', or force=True to have it nevertheless, or "
                "ragged='truncate' where few runs have reached the last steps"
            )

    def _interval(self, values: pl.Series) -> tuple[float | None, float | None]:
        """Give both edges, from one resampling; null for fewer than two values."""
        n = len(values)
        if n < 2:  # noqa: PLR2004
            return None, None
        mean: Any = values.mean()  # a float, as they are
        if not math.isfinite(mean):
            return math.nan, math.nan
        # of the deviations, which have digits that the values may be too large for
        sums = reduce(operator.add, map(operator.mul, _resampled(n, self.resamples, self.seed), values - mean))
        ordered: pl.Series = sums.sort()
        low, high = (ordered.quantile(edge, "linear") for edge in ((1 - self.level) / 2, (1 + self.level) / 2))
        return (mean + low / n, mean + high / n) if low is not None and high is not None else (None, None)


def source_names(source: Source) -> list[str]:
    """Give the names of the columns that an aggregation takes."""
    if isinstance(source, str):
        return [source]
    if isinstance(source, pl.Expr):
        return [source.meta.output_name()]
    return list(source.numbers)


def _count() -> pl.Expr:
    return pl.col(VALUE).count()


def _quantile(quantile: float) -> pl.Expr:
    values = pl.col(VALUE).cast(pl.Float64)
    # Polars orders NaN above all numbers, so that a diverged run would look like a large value
    return pl.when(values.is_nan().any()).then(math.nan).otherwise(values.quantile(quantile, "linear"))


def _deviation(values: pl.Expr, ddof: int) -> pl.Expr:
    """Give the standard deviation by two passes: in one, as Polars has it, digits are lost where the mean is large."""
    return (values - values.mean()).std(ddof=ddof)


@lru_cache(maxsize=16)
def _resampled(n: int, resamples: int, seed: int) -> list[pl.Series]:
    """Draw ``resamples`` samples of n out of n; give for each of the n how often it is in each sample."""
    draw = random.Random(seed)  # noqa: S311  (statistics)
    times = [[0.0] * resamples for _ in range(n)]
    for position, index in enumerate(draw.choices(range(n), k=n * resamples)):
        times[index][position // n] += 1
    return [pl.Series(counts, dtype=pl.Float64) for counts in times]


def _equal_lengths(name: str) -> Callable[[pl.Series], pl.Series]:
    def check(lengths: pl.Series) -> pl.Series:
        unequal = lengths.to_frame("lengths").unnest("lengths").filter(pl.col(_SHORTEST) != pl.col(_LONGEST))
        if unequal.height:
            raise QueryError(
                f"{name} has {unequal[_SHORTEST][0]} steps in one run of a group and {unequal[_LONGEST][0]} in another:"
                " ragged='reached' takes each step over the runs that reached it, ragged='truncate' only those of all"
            )
        return lengths.struct.field(_LONGEST)

    return check


def _equal_steps(name: str) -> Callable[[pl.Series], pl.Series]:
    def check(steps: pl.Series) -> pl.Series:
        rows = steps.struct.unnest()
        missed = rows.filter(pl.col(_SHORTEST) < pl.col(_LONGEST)).sort(STEP)
        if missed.height:
            reached = f"{missed[_SHORTEST][0]} of {missed[_LONGEST][0]} runs of a group"
            raise QueryError(
                f"{name} has step {readable(missed[STEP][0])} in {reached}:"
                " ragged='reached' takes each step over the runs that have it, ragged='truncate' only those of all"
            )
        return rows[_LONGEST]

    return check

"""Aggregate columns over the runs of a group. Lazy frames in, lazy frames out.

Each takes a column of numbers, a reduction (Best, Last), or any Polars expression over the columns of a run, and works
on lists (a metric: step by step) and on scalars. For all of them: missing values are left out, and counted in
no ``_n``; NaN is a value and makes the result NaN, at its step; where no run of a group has a value all is null.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import lru_cache
from typing import Literal, Protocol

import polars as pl

from mlxp_core.errors import QueryError
from mlxp_core.reader.statistics.reductions import Reduction, check_column, prefix_keys, prefixed, restore_keys
from mlxp_core.reader.statistics.student_t import two_sided

Ragged = Literal["reached", "truncate", "error"]
Source = str | Reduction | pl.Expr

# no column of a log directory lacks a dot, but id and path
_STEP = "step"
_VALUE = "value"
_SHORTEST = "shortest"
_LONGEST = "longest"


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

    @property
    def columns(self) -> list[str]:
        """Names of the columns of the result."""
        return [name for source in source_names(self.key) for name in self._names(source)]

    def over_groups(self, runs: pl.LazyFrame, keys: Sequence[str], schema: Mapping[str, pl.DataType]) -> pl.LazyFrame:
        """Give the key columns and ``columns``; no row for a group where no run has a list.

        Raises QueryError if there is no such column or it holds no numbers.
        """
        result = None
        for name, source in zip(source_names(self.key), self._sources(schema), strict=True):
            values = runs.select(*prefix_keys(keys), source.alias(_VALUE))
            dtype = check_column(name, {name: values.collect_schema()[_VALUE]}, type(self).__name__)
            if isinstance(dtype, pl.List):
                groups = self._by_step(name, values, prefixed(keys))
            else:
                groups = values.group_by(prefixed(keys)).agg(self._group_exprs(name))
            groups = groups.select(*restore_keys(keys), *self._result_exprs(name))
            result = groups if result is None else result.join(groups, on=list(keys), how="left", nulls_equal=True)
        if result is None:
            raise QueryError(f"{type(self).__name__} needs a column")
        return result

    def _sources(self, schema: Mapping[str, pl.DataType]) -> list[pl.Expr]:
        if isinstance(self.key, str):
            check_column(self.key, schema, type(self).__name__)
            return [pl.col(self.key)]
        return [self.key] if isinstance(self.key, pl.Expr) else self.key.per_run(schema)

    def _by_step(self, name: str, values: pl.LazyFrame, keys: Sequence[str]) -> pl.LazyFrame:
        if self.ragged != "reached":
            length = pl.col(_VALUE).list.len()
            values = values.with_columns(
                length.min().over(keys).alias(_SHORTEST), length.max().over(keys).alias(_LONGEST)
            )
            if self.ragged == "error":
                # the longest is what the check gives back, so that no optimizer takes it for unused
                checked = pl.struct(_SHORTEST, _LONGEST).map_batches(_equal_lengths(name), return_dtype=pl.UInt32)
                values = values.with_columns(checked.alias(_SHORTEST))
            values = values.with_columns(pl.col(_VALUE).list.head(_SHORTEST)).drop(_SHORTEST, _LONGEST)
        steps = values.with_columns(pl.int_ranges(pl.col(_VALUE).list.len()).alias(_STEP))
        by_step = (
            steps.explode(_VALUE, _STEP)
            .drop_nulls(_STEP)  # runs without a list, or with an empty one
            .group_by(*keys, _STEP)
            .agg(self._group_exprs(name))
        )
        return by_step.group_by(keys).agg(pl.all().exclude(_STEP).sort_by(_STEP))

    def _names(self, name: str) -> list[str]:
        raise NotImplementedError

    def _group_exprs(self, name: str) -> list[pl.Expr]:
        """Give expressions over the values of a group, or of a step of a group, named by ``_names``."""
        raise NotImplementedError

    def _result_exprs(self, name: str) -> list[pl.Expr]:
        """Give expressions over the columns of the result."""
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
        values = pl.col(_VALUE).cast(pl.Float64)
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
    """

    level: float = 0.95
    method: Literal["t", "bootstrap"] = "t"
    resamples: int = 2000
    seed: int = 0

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
        values = pl.col(_VALUE).cast(pl.Float64)
        if self.method == "t":
            factor = _count().map_batches(self._per_root_n, return_dtype=pl.Float64, returns_scalar=True)
            half = _deviation(values, 1) * factor
            edges = [values.mean() - half, values.mean() + half]
        else:
            # the order of the values within a group is not given
            edges = [
                values.drop_nulls().sort().map_batches(self._edge(edge), return_dtype=pl.Float64, returns_scalar=True)
                for edge in ((1 - self.level) / 2, (1 + self.level) / 2)
            ]
        return [values.mean().alias(mean), edges[0].alias(low), edges[1].alias(high), _count().alias(number)]

    def _result_exprs(self, name: str) -> list[pl.Expr]:
        *names, method = self._names(name)
        description = f"{self.level * 100:g}%, "
        description += (
            "Student's t" if self.method == "t" else f"bootstrap of {self.resamples} resamples, seed {self.seed}"
        )
        return [*(pl.col(column) for column in names), pl.lit(description).alias(method)]

    def _per_root_n(self, counts: pl.Series) -> pl.Series:
        """Give for each n the factor of the standard deviation that makes half the interval."""
        factors = [two_sided(self.level, n - 1) / math.sqrt(n) if n > 1 else None for n in counts]
        return pl.Series(counts.name, factors, dtype=pl.Float64)

    def _edge(self, edge: float) -> Callable[[pl.Series], pl.Series]:
        def quantile_of_means(values: pl.Series) -> pl.Series:
            n = len(values)
            quantile = None
            if n > 1:
                means = values.gather(_resampled(n, self.resamples, self.seed)).reshape((self.resamples, n)).arr.mean()
                quantile = math.nan if means.is_nan().any() or values.is_nan().any() else means.quantile(edge, "linear")
            return pl.Series(values.name, [quantile], dtype=pl.Float64)

        return quantile_of_means


def source_names(source: Source) -> list[str]:
    """Give the names of the columns that an aggregation takes."""
    if isinstance(source, str):
        return [source]
    if isinstance(source, pl.Expr):
        return [source.meta.output_name()]
    return list(source.numbers)


def _count() -> pl.Expr:
    return pl.col(_VALUE).count()


def _quantile(quantile: float) -> pl.Expr:
    values = pl.col(_VALUE).cast(pl.Float64)
    # Polars orders NaN above all numbers, so that a diverged run would look like a large value
    return pl.when(values.is_nan().any()).then(math.nan).otherwise(values.quantile(quantile, "linear"))


def _deviation(values: pl.Expr, ddof: int) -> pl.Expr:
    """Give the standard deviation by two passes: in one, as Polars has it, digits are lost where the mean is large."""
    return (values - values.mean()).std(ddof=ddof)


@lru_cache(maxsize=64)
def _resampled(n: int, resamples: int, seed: int) -> pl.Series:
    """Draw ``resamples`` samples of n indices out of n, one behind the other."""
    draw = random.Random(seed)  # noqa: S311  (statistics)
    return pl.Series(draw.choices(range(n), k=n * resamples), dtype=pl.UInt32)


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

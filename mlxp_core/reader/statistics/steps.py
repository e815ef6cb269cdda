"""Steps that the user counts: the column that holds them, runs that disagree on them, and curves by them.

A metric is a list with a value for each line of its log; another key of the log may say which step a line is of. What
is done here is done when a frame is collected, on the lists of all runs at once.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from mlxp_core.errors import QueryError, StatisticsWarning
from mlxp_core.reader.query.suggest import suggestion
from mlxp_core.runs.steps import step_keys

POSITION = "position"  # of a run; every column of a log directory but id and path has a dot
STEP = "step"
VALUE = "value"
RUN = "run"  # how messages call it

_MAX_NAMED = 10


class ColumnTypes(pl.Schema):
    """Types of the columns of a log directory, and of each metric the log that it is a key of."""

    def __init__(self, types: Mapping[str, pl.DataType], logs: Mapping[str, str]) -> None:
        """``logs``: name of a metric's column -> name of the log, which the column's name begins with."""
        super().__init__(types)
        self.logs = logs


def log_of(column: str, schema: Mapping[str, pl.DataType]) -> str | None:
    """Give the log that a metric is a key of; None for a column that is no metric."""
    if isinstance(schema, ColumnTypes):
        return schema.logs.get(column)
    return column.partition(".")[0] if "." in column and isinstance(schema[column], pl.List) else None


def keys_of(log: str, schema: Mapping[str, pl.DataType]) -> list[str]:
    """Give the keys of a log."""
    names = (name for name in schema if name.startswith(f"{log}.") and log_of(name, schema) == log)
    return [name.removeprefix(f"{log}.") for name in names]


def step_column(column: str, by: str, schema: Mapping[str, pl.DataType]) -> str:
    """Give the column of a key of the same log. Raises QueryError where there is none, and for what is no metric."""
    log = log_of(column, schema)
    if log is None:
        raise QueryError(f"by={by!r} is for metrics, which have steps: {column} is none")
    keys = keys_of(log, schema)
    if by not in keys:
        others = [key for key in keys if f"{log}.{key}" != column]
        said = suggestion(by, others, none="it has no other key")
        raise QueryError(f"log {log!r} has no key {by!r} by which to align {column}{said}")
    return f"{log}.{by}"


def log_step_keys(log: str, schema: Mapping[str, pl.DataType]) -> list[str]:
    """Give the keys of a log that count steps, by their names."""
    return step_keys(keys_of(log, schema))


def run_name(schema: Mapping[str, pl.DataType]) -> pl.Expr:
    """Give what messages call a run: its id, or the name of its folder where it has none.

    Of several log directories runs may have the same: these are called by their paths.
    """
    names = [pl.col("id").cast(pl.String)] if "id" in schema else []
    names += [pl.col("path").str.split("/").list.last()] if "path" in schema else []
    name = pl.coalesce(*names, pl.lit("?"))
    if "path" in schema:
        name = pl.when(name.is_duplicated()).then(pl.col("path")).otherwise(name)
    return name.alias(RUN)


def in_words(runs: Iterable[str]) -> str:
    """Name runs: ``run 3``, ``runs 3, 4 and 5``."""
    names = list(dict.fromkeys(runs))
    if len(names) == 1:
        return f"run {names[0]}"
    if len(names) > _MAX_NAMED:
        return f"runs {', '.join(names[:_MAX_NAMED])} and {len(names) - _MAX_NAMED} more"
    return f"runs {', '.join(names[:-1])} and {names[-1]}"


@dataclass(frozen=True)
class LineAlignment:
    """A check, made when a frame is collected, that lines of equal number are of equal step.

    ``call`` is what the user has written, without its closing parenthesis. ``between``: columns of steps, with their
    keys, that are compared between the runs of a group which have the metric. ``within``: pairs of these, of two logs
    and with their common key, that are compared in each run.
    """

    column: str
    call: str
    between: Sequence[tuple[str, str]] = ()
    within: Sequence[tuple[str, str, str]] = ()

    @classmethod
    def of(
        cls, columns: Sequence[str], call: str, schema: Mapping[str, pl.DataType], *, between_runs: bool
    ) -> LineAlignment:
        """Give the check for metrics that are used line by line; the first one says which runs count."""
        logs = list(dict.fromkeys(log for name in columns if (log := log_of(name, schema)) is not None))
        keys = {log: log_step_keys(log, schema) for log in logs}
        between = [(f"{log}.{key}", key) for log in logs[:1] for key in keys[log]] if between_runs else []
        return cls(
            columns[0],
            call,
            [(steps, key) for steps, key in between if steps != columns[0]],
            [
                (f"{logs[0]}.{key}", f"{log}.{key}", key)
                for log in logs[1:]
                for key in keys[log]
                if key in keys[logs[0]]
            ],
        )

    def checked(self, runs: pl.LazyFrame, keys: Sequence[str], schema: Mapping[str, pl.DataType]) -> pl.LazyFrame:
        """Give the same frame. It raises QueryError when it is collected, where steps disagree."""
        if not self.between and not self.within:
            return runs
        compared = [name for name, _ in self.between] + [name for one, other, _ in self.within for name in (one, other)]
        names = list(dict.fromkeys((*keys, self.column, *compared)))
        # the column is what the check gives back, so that no optimizer takes it for unused
        check = pl.struct(*names, run_name(schema)).map_batches(
            lambda rows: self._check(rows.struct.unnest(), keys), return_dtype=schema[self.column]
        )
        return runs.with_columns(check.alias(self.column))

    def _check(self, rows: pl.DataFrame, keys: Sequence[str]) -> pl.Series:
        with_metric = rows.filter(pl.col(self.column).is_not_null())
        for one, other, key in self.within:
            self._check_within(with_metric, one, other, key)
        for steps, key in self.between:
            self._check_between(with_metric.filter(pl.col(steps).is_not_null()), keys, steps, key)
        return rows[self.column]

    def _check_within(self, rows: pl.DataFrame, one: str, other: str, key: str) -> None:
        shared = pl.min_horizontal(pl.col(one).list.len(), pl.col(other).list.len())
        unlike = rows.filter(pl.col(one).list.head(shared) != pl.col(other).list.head(shared))
        for name, ours, theirs in unlike.select(RUN, one, other).iter_rows():
            for line, (step, other_step) in enumerate(zip(ours, theirs, strict=False), 1):
                if _is_known(step) and _is_known(other_step) and step != other_step:
                    both = f"{readable(step)} in {one} and {readable(other_step)} in {other}"
                    raise QueryError(
                        f"line {line} of run {name} is {both}, so that these cannot be taken line by line: write "
                        f"{self.call}, by={key!r})"
                    )

    def _check_between(self, rows: pl.DataFrame, keys: Sequence[str], steps: str, key: str) -> None:
        length = pl.col(steps).list.len()
        longest = pl.col(steps).sort_by(length).last().over(keys)
        # nearly always all runs begin as the longest of their group does; where one does not, it may be for want of
        # a value, which only a look at every line tells
        unlike = pl.col(steps) != longest.list.head(length)
        for group in rows.with_columns(unlike.any().over(keys).alias(VALUE)).filter(VALUE).partition_by(keys):
            first: dict[int, tuple[object, str]] = {}
            for name, of_run in group.select(RUN, steps).iter_rows():
                for line, step in enumerate(of_run):
                    if not _is_known(step):
                        continue
                    known, other = first.setdefault(line, (step, name))
                    if known != step:
                        raise QueryError(
                            f"{steps} is {readable(known)} in line {line + 1} of run {other} and {readable(step)} in "
                            f"that of run {name}, so that {self.column} cannot be taken line by line: write "
                            f"{self.call}, by={key!r})"
                        )


def curve(column: str, values: pl.Expr, steps: str, schema: Mapping[str, pl.DataType], dtype: pl.DataType) -> pl.Expr:
    """Give an expression for the curve of each run: a Struct of two lists of one length, ``step`` and ``value``.

    ``values`` and the column ``steps`` are lists with one element a line. Lines without a value are left out; a step is
    there once. Null for a run without values. It raises QueryError where a value is at a line without a step, and warns
    of runs that go back.
    """
    step_type = schema[steps]

    def curves(rows: pl.Series) -> pl.Series:
        frame = rows.struct.unnest().with_row_index(POSITION)
        by_run = curve_lines(frame, column, steps).group_by(POSITION, maintain_order=True).agg(STEP, VALUE)
        joined = frame.select(POSITION).join(by_run, on=POSITION, how="left", maintain_order="left")
        return joined.select(pl.struct(STEP, VALUE)).to_series()

    struct = pl.Struct({STEP: step_type, VALUE: dtype})
    return pl.struct(values.alias(VALUE), pl.col(steps).alias(STEP), run_name(schema)).map_batches(
        curves, return_dtype=struct
    )


def curve_lines(frame: pl.DataFrame, column: str, steps: str) -> pl.DataFrame:
    """Give the values that count, one a row: columns ``position``, ``step``, ``value``; by run, steps ascending.

    ``frame`` has a row a run: its position, name, and the lists of steps and of values. Where a run goes back to a
    step, it was resumed: what it had logged from that step on counts no more. Of values at one step the last counts.
    """
    # a run of which every value is null, as stray ones are in a column of numbers, has no line that would need a step
    frame = frame.filter(pl.col(VALUE).list.drop_nulls().list.len() > 0)
    _check_lengths(frame, column, steps)
    lines = frame.explode(VALUE, STEP, empty_as_null=False).filter(pl.col(VALUE).is_not_null())
    is_number = lines[STEP].dtype.is_numeric()
    stepless = lines.filter(pl.col(STEP).is_null() | (pl.col(STEP).is_nan() if is_number else False))
    if stepless.height:
        raise QueryError(
            f"{in_words(stepless[RUN])} logged {column} in lines without {steps}, and nothing says of which step: "
            "filter these runs out, or aggregate line by line, without by="
        )
    # text has no order that it could go back in
    later = pl.col(STEP).cum_min(reverse=True).over(POSITION) if is_number else pl.col(STEP)
    is_last = pl.struct(POSITION, STEP).is_last_distinct()
    counts = lines.select(((pl.col(STEP) <= later) if is_number else pl.lit(value=True)) & is_last).to_series()
    if not counts.all():
        warnings.warn(
            f"{steps} goes back, or stays, in {in_words(lines.filter(~counts)[RUN])}: {column} is what was logged "
            "last, and what had been logged before from that step on is left out",
            StatisticsWarning,
            stacklevel=2,
        )
        lines = lines.filter(counts)
    return lines.select(POSITION, STEP, VALUE)


def _check_lengths(frame: pl.DataFrame, column: str, steps: str) -> None:
    lines, counted = pl.col(VALUE).list.len(), pl.col(STEP).list.len()
    without = frame.filter((lines > 0) & pl.col(STEP).is_null())
    if without.height:
        raise QueryError(
            f"{in_words(without[RUN])} logged {column} without {steps}, and nothing says of which step: filter "
            "these runs out, or aggregate line by line, without by="
        )
    unequal = frame.filter(pl.col(STEP).is_not_null() & (lines != counted))
    if unequal.height:
        raise QueryError(
            f"{column} has {unequal[VALUE].list.len()[0]} values in run {unequal[RUN][0]}, and {steps} has "
            f"{unequal[STEP].list.len()[0]}: an expression with by= gives a value for each line"
        )


def _is_known(step: object) -> bool:
    return step is not None and step == step  # noqa: PLR0124  (NaN)


def readable(step: object) -> object:
    """Give what messages show of a step: 10 for 10.0, which is how metrics are read."""
    return int(step) if isinstance(step, float) and step.is_integer() else step

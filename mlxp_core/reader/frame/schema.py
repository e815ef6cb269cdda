"""Columns of a log directory and their types, inferred when a frame is built."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field, replace

import polars as pl

from mlxp_core.reader.cache.run_table import Table
from mlxp_core.reader.load.column_types import column_type, in_words, is_one_type
from mlxp_core.reader.load.fields import Kind, valid_text
from mlxp_core.reader.load.info_fields import DURATION, END, START, TIME, TIMES
from mlxp_core.reader.load.problem import Problem
from mlxp_core.reader.load.run import STATUS
from mlxp_core.reader.statistics.steps import ColumnTypes


@dataclass(frozen=True)
class MetricColumn:
    """A metric column: a key of a log; ``numeric`` if it is one of numbers."""

    log_name: str
    key: str
    numeric: bool

    @property
    def dtype(self) -> pl.DataType:
        """Type of the column: a list with one value a line of the metric file."""
        return pl.List(pl.Float64 if self.numeric else pl.String)


@dataclass(frozen=True)
class Schema:
    """The columns of a log directory."""

    metadata: dict[str, pl.DataType]
    metrics: dict[str, MetricColumn]
    # String columns whose values are not all strings
    untyped: frozenset[str] = frozenset()
    run_counts: dict[str, int] = field(default_factory=dict)
    # column -> "<type>/<name>" of the file that it refers to; they are among ``metadata``, too
    artifacts: dict[str, str] = field(default_factory=dict)
    # types of the values of a column, in words
    contents: dict[str, str] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    # metric columns of which some runs hold numbers and some, or some lines of a run, something else
    disputed: frozenset[str] = frozenset()

    @property
    def polars(self) -> pl.Schema:
        """All columns: id, path, info.status and the other metadata, then the metrics."""
        return pl.Schema(self.metadata | {name: metric.dtype for name, metric in self.metrics.items()})

    @property
    def column_types(self) -> ColumnTypes:
        """The same, with the log of each metric, for aggregations."""
        return ColumnTypes(self.polars, {name: valid_text(metric.log_name) for name, metric in self.metrics.items()})


@dataclass
class _ColumnStats:
    """Kinds of the values of a field, and the number of runs that have one."""

    kinds: set[Kind] = field(default_factory=set)
    runs: int = 0


_MAX_CACHED = 4
_schemas: list[tuple[Table, Schema]] = []  # the latest first


def infer_schema(table: Table) -> Schema:
    """Find all columns; the same object for the same table.

    Where two columns claim a name (log ``a.b`` with key ``c`` and log ``a`` with key ``b.c``; log ``config``), metadata
    comes before metrics and then the shorter log name; the other is left out, and a problem says so.
    """
    for cached_table, schema in _schemas:
        if cached_table is table:
            return schema
    schema = _infer_schema(table)
    _schemas.insert(0, (table, schema))
    del _schemas[_MAX_CACHED:]
    return schema


def _infer_schema(table: Table) -> Schema:
    fields = _metadata_columns(table)
    artifacts, problems = _artifact_columns(table)
    reserved = fields.keys() | artifacts.keys() | {"id", "path", STATUS}
    metrics, disputed, metric_problems = _metric_columns(table, reserved=reserved)
    types = {name: column_type(stats.kinds) for name, stats in fields.items()}
    types |= {name: TIME for name in TIMES if name in types}
    if DURATION in types:
        types[DURATION] = pl.Float64()
    types |= dict.fromkeys(artifacts, pl.String())
    return Schema(
        metadata={"id": pl.Int64(), "path": pl.String(), STATUS: pl.String()} | types,
        metrics={name: column for name, (column, _) in metrics.items()},
        untyped=frozenset(
            name for name, stats in fields.items() if types[name] == pl.String and not is_one_type(stats.kinds)
        ),
        artifacts={name: file for name, (file, _) in artifacts.items()},
        contents={
            **dict.fromkeys(("path", STATUS), "text"),
            "id": "int",
            **{name: "time" if name in TIMES else in_words(stats.kinds) for name, stats in fields.items()},
            **dict.fromkeys(artifacts, "artifact"),
            **dict.fromkeys(metrics, "metric"),
        },
        run_counts={
            "id": _count_values(table.ids()),
            "path": len(table),
            STATUS: _count_values(table.statuses(STATUS)),
            **{name: stats.runs for name, stats in fields.items()},
            **{name: count for name, (_, count) in artifacts.items()},
            **{name: count for name, (_, count) in metrics.items()},
        },
        problems=(*problems, *metric_problems),
        disputed=disputed,
    )


def narrowed(schema: Schema, table: Table, kept: Collection[str] = ()) -> Schema:
    """Give the schema with the types that metrics have in these runs; the same object where that is no other.

    The columns stay, and so do the types of metrics that none of these runs has, and of those in ``kept``.
    """
    disputed = schema.disputed.difference(kept)
    if not disputed:
        return schema
    metrics = {(column.log_name, column.key): column for column, _, _ in list_metrics(table)}
    changed = {
        name: column
        for name in disputed
        if (column := metrics.get((schema.metrics[name].log_name, schema.metrics[name].key)))
        and column != schema.metrics[name]
    }
    return replace(schema, metrics=schema.metrics | changed) if changed else schema


def _metadata_columns(table: Table) -> dict[str, _ColumnStats]:
    """Collect kinds and counts of all fields, in the order of the runs: those of info, then those of config."""
    columns: dict[str, _ColumnStats] = {}
    for schema, count in (*table.count_shared("info"), *table.count_shared("config")):
        for name, kind in schema.items:
            stats = columns.setdefault(name, _ColumnStats())
            stats.kinds.add(kind)
            stats.runs += count if kind != "null" else 0
    return _with_times(columns, table)


def _with_times(columns: dict[str, _ColumnStats], table: Table) -> dict[str, _ColumnStats]:
    """Add the end and the duration of runs that have a start, before one has ended, too."""
    if START not in columns:
        return columns
    timed = sum(
        count
        for schema, count in table.count_shared("info")
        if all((name, "text") in schema.items for name in (START, END))
    )
    added = {END: columns.get(END, _ColumnStats()), DURATION: _ColumnStats({"float"}, timed)}
    return {
        key: value
        for name, stats in columns.items()
        if name not in added
        for key, value in ({name: stats} | added if name == START else {name: stats}).items()
    }


def _count_values(column: pl.Series) -> int:
    return len(column) - column.null_count()


def _artifact_columns(table: Table) -> tuple[dict[str, tuple[str, int]], list[Problem]]:
    """Map ``artifact.<type>.<name>``, for each file that any run has, to that file and how many runs have it."""
    columns: dict[str, tuple[str, int]] = {}
    problems: list[Problem] = []
    counts: Counter[str] = Counter()
    for files, count in table.count_shared("artifacts"):
        counts.update(dict.fromkeys(files, count))
    for file, count in counts.items():
        name = artifact_column(file)
        if name in columns:  # one counts, the other is reported
            problems.append(Problem(name, f"the name is taken: artifact {valid_text(file)} is in no column"))
            continue
        columns[name] = (file, count)
    return columns, problems


def artifact_column(file: str) -> str:
    """Give the name of the column of an artifact, which is given as ``<type>/<name>``."""
    type_name, _, name = file.partition("/")
    return valid_text(f"artifact.{type_name}.{name}")


def list_metrics(table: Table) -> list[tuple[MetricColumn, int, bool]]:
    """List every key of every log, by log, keys in their order, with the number of runs that have it.

    And with True where it is disputed. A column is one of numbers unless more runs hold nothing but other values under
    its key than hold numbers: one stray value neither takes the numbers from the others, nor their texts.
    """
    kinds: dict[tuple[str, str], Counter[str]] = {}
    for logs, count in table.count_shared("logs"):
        for log_name, keys in logs:
            for key, kind in keys:
                counts = kinds.get((log_name, key))
                if counts is None:
                    counts = kinds[log_name, key] = Counter()
                counts[kind] += count
    by_log = sorted(kinds.items(), key=lambda item: item[0][0])  # stable
    return [
        (MetricColumn(*metric, numeric=_is_numeric(counts)), counts.total(), len(counts) > 1 or "mixed" in counts)
        for metric, counts in by_log
    ]


def _is_numeric(counts: Counter[str]) -> bool:
    with_numbers = counts["number"] + counts["mixed"]
    return with_numbers > 0 and with_numbers >= counts["other"]


def _metric_columns(
    table: Table, *, reserved: set[str]
) -> tuple[dict[str, tuple[MetricColumn, int]], frozenset[str], list[Problem]]:
    problems: list[Problem] = []
    columns: dict[str, tuple[MetricColumn, int]] = {}
    all_disputed = set()
    for column, count, is_disputed in list_metrics(table):
        log_name, key = column.log_name, column.key
        name = valid_text(f"{log_name}.{key}")
        if name in reserved or name in columns:
            problems.append(Problem(name, f"the name is taken: key {key!r} of log {log_name!r} is in no column"))
            continue
        if name.startswith("^") and name.endswith("$"):
            problems.append(Problem(name, "Polars takes such a name for a pattern: it is in no column"))
            continue
        columns[name] = (column, count)
        if is_disputed:
            all_disputed.add(name)
    return columns, frozenset(all_disputed), problems

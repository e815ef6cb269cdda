"""Which columns a log directory has, and of which types: found once, when a frame is built."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import polars as pl

from mlxp_core.reader.cache.run_table import RunTable
from mlxp_core.reader.load.column_types import column_type, in_words, is_one_type
from mlxp_core.reader.load.fields import Kind, valid_text
from mlxp_core.reader.load.problem import Problem
from mlxp_core.reader.load.run import STATUS


@dataclass(frozen=True)
class MetricColumn:
    """Where the values of a metric column lie."""

    log_name: str
    key: str
    numeric: bool

    @property
    def dtype(self) -> pl.DataType:
        """One value a line of the metric file."""
        return pl.List(pl.Float64 if self.numeric else pl.String)


@dataclass(frozen=True)
class Schema:
    """The columns of a log directory."""

    metadata: dict[str, pl.DataType]
    metrics: dict[str, MetricColumn]
    # String columns that are not so because all their values are strings
    untyped: frozenset[str] = frozenset()
    runs_with: dict[str, int] = field(default_factory=dict)
    # column -> "<type>/<name>" of the file that it refers to; they are among ``metadata``, too
    artifacts: dict[str, str] = field(default_factory=dict)
    # what the values of a column are, in words
    holds: dict[str, str] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()

    @property
    def polars(self) -> pl.Schema:
        """All columns: id, path, info.status and the other metadata, then the metrics."""
        return pl.Schema(self.metadata | {name: metric.dtype for name, metric in self.metrics.items()})


@dataclass
class _Found:
    """What is known of a column after some of the runs."""

    kinds: set[Kind] = field(default_factory=set)
    runs: int = 0


_MOST_KEPT = 4
_kept: list[tuple[RunTable, Schema]] = []


def take_schema(census: RunTable) -> Schema:
    """Find all columns; the same object as before where the runs are."""
    for before, schema in _kept:
        if before is census:
            return schema
    schema = _take_schema(census)
    _kept.insert(0, (census, schema))
    del _kept[_MOST_KEPT:]
    return schema


def _take_schema(census: RunTable) -> Schema:
    """Find all columns.

    Where two columns claim a name (log ``a.b`` with key
    ``c`` and log ``a`` with key ``b.c``; log ``config``), metadata comes before metrics and then the shorter log name;
    the other is left out, and a problem says so.
    """
    fields = _metadata_columns(census)
    artifacts, problems = _artifact_columns(census)
    reserved = fields.keys() | artifacts.keys() | {"id", "path", STATUS}
    metrics, metric_problems = _metric_columns(census, reserved=reserved)
    types = {name: column_type(found.kinds) for name, found in fields.items()}
    types |= dict.fromkeys(artifacts, pl.String())
    return Schema(
        metadata={"id": pl.Int64(), "path": pl.String(), STATUS: pl.String()} | types,
        metrics={name: column for name, (column, _) in metrics.items()},
        untyped=frozenset(
            name for name, found in fields.items() if types[name] == pl.String and not is_one_type(found.kinds)
        ),
        artifacts={name: file for name, (file, _) in artifacts.items()},
        holds={
            **dict.fromkeys(("path", STATUS), "text"),
            "id": "int",
            **{name: in_words(found.kinds) for name, found in fields.items()},
            **dict.fromkeys(artifacts, "artifact"),
            **dict.fromkeys(metrics, "metric"),
        },
        runs_with={
            "id": _number_of(census.ids()),
            "path": len(census),
            STATUS: _number_of(census.statuses(STATUS)),
            **{name: found.runs for name, found in fields.items()},
            **{name: count for name, (_, count) in artifacts.items()},
            **{name: count for name, (_, count) in metrics.items()},
        },
        problems=(*problems, *metric_problems),
    )


def _metadata_columns(census: RunTable) -> dict[str, _Found]:
    """Collect kinds and counts of all fields, in the order they are met: those of info, then those of config."""
    columns: dict[str, _Found] = {}
    for shape, count in (*census.count_shared("info"), *census.count_shared("config")):
        for name, kind in shape.items:
            found = columns.setdefault(name, _Found())
            found.kinds.add(kind)
            found.runs += count if kind != "null" else 0
    return columns


def _number_of(column: pl.Series) -> int:
    return len(column) - column.null_count()


def _artifact_columns(census: RunTable) -> tuple[dict[str, tuple[str, int]], list[Problem]]:
    """``artifact.<type>.<name>`` for each file that any run has, and how many have it."""
    columns: dict[str, tuple[str, int]] = {}
    problems: list[Problem] = []
    counts: Counter[str] = Counter()
    for files, count in census.count_shared("artifacts"):
        counts.update(dict.fromkeys(files, count))
    for file, count in counts.items():
        name = artifact_column(file)
        if name in columns:  # as with everything that two places claim, one counts and the other is named
            problems.append(Problem(name, f"the name is taken: artifact {valid_text(file)} is in no column"))
            continue
        columns[name] = (file, count)
    return columns, problems


def artifact_column(file: str) -> str:
    """Name of the column of an artifact, which is given as ``<type>/<name>``."""
    kind, _, name = file.partition("/")
    return valid_text(f"artifact.{kind}.{name}")


def take_metrics(census: RunTable) -> list[tuple[MetricColumn, int]]:
    """Every key of every log, whatever its column is called, by log, keys in their order; and how many runs have it."""
    numeric: dict[tuple[str, str], bool] = {}
    counts: dict[tuple[str, str], int] = {}
    for logs, count in census.count_shared("logs"):
        for log_name, keys in logs:
            for key, is_number in keys:
                place = (log_name, key)
                numeric[place] = numeric.get(place, True) and is_number
                counts[place] = counts.get(place, 0) + count
    in_order = sorted(numeric.items(), key=lambda item: item[0][0])  # stable
    return [(MetricColumn(*place, is_number), counts[place]) for place, is_number in in_order]


def _metric_columns(
    census: RunTable, *, reserved: set[str]
) -> tuple[dict[str, tuple[MetricColumn, int]], list[Problem]]:
    problems: list[Problem] = []
    columns: dict[str, tuple[MetricColumn, int]] = {}
    for column, count in take_metrics(census):
        log_name, key = column.log_name, column.key
        name = valid_text(f"{log_name}.{key}")
        if name in reserved or name in columns:
            problems.append(Problem(name, f"the name is taken: key {key!r} of log {log_name!r} is in no column"))
            continue
        if name.startswith("^") and name.endswith("$"):
            problems.append(Problem(name, "Polars takes such a name for a pattern: it is in no column"))
            continue
        columns[name] = (column, count)
    return columns, problems

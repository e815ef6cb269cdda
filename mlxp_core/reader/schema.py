"""Which columns a log directory has, and of which types: found once, when a frame is built."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import polars as pl

from mlxp_core.reader import metricfile
from mlxp_core.reader.columns import column_type, in_words, is_one_type
from mlxp_core.reader.fields import Kind, Shape, valid_text
from mlxp_core.reader.folders import STATUS, RunRecord
from mlxp_core.reader.problem import Problem


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


def take_schema(runs: Sequence[RunRecord]) -> Schema:
    """Find all columns: the fields of the runs as given, the metrics by looking into their folders.

    No metric file is opened that has its list of keys beside it. Where two columns claim a name (log ``a.b`` with key
    ``c`` and log ``a`` with key ``b.c``; log ``config``), metadata comes before metrics and then the shorter log name;
    the other is left out, and a problem says so.
    """
    fields = _metadata_columns(runs)
    artifacts, problems = _artifact_columns(runs)
    reserved = fields.keys() | artifacts.keys() | {"id", "path", STATUS}
    metrics, metric_problems = _metric_columns(runs, reserved=reserved)
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
            "id": sum(run.id is not None for run in runs),
            "path": len(runs),
            STATUS: sum(run.status is not None for run in runs),
            **{name: found.runs for name, found in fields.items()},
            **{name: count for name, (_, count) in artifacts.items()},
            **{name: count for name, (_, count) in metrics.items()},
        },
        problems=(*problems, *metric_problems),
    )


def _metadata_columns(runs: Sequence[RunRecord]) -> dict[str, _Found]:
    """Collect kinds and counts of all fields, in the order they are met: those of info, then those of config."""
    columns: dict[str, _Found] = {}
    for shape, count in (*_counted(run.info.shape for run in runs), *_counted(run.config.shape for run in runs)):
        for name, kind in shape.items:
            found = columns.setdefault(name, _Found())
            found.kinds.add(kind)
            found.runs += count if kind != "null" else 0
    return columns


def _counted(shapes: Iterable[Shape]) -> list[tuple[Shape, int]]:
    """Count equal shapes: thousands of runs have a handful of them, which makes their fields cheap to collect."""
    counts: dict[int, tuple[Shape, int]] = {}
    for shape in shapes:
        counts[id(shape)] = (shape, counts.get(id(shape), (shape, 0))[1] + 1)
    return list(counts.values())


def _artifact_columns(runs: Sequence[RunRecord]) -> tuple[dict[str, tuple[str, int]], list[Problem]]:
    """``artifact.<type>.<name>`` for each file that any run has, and how many have it."""
    columns: dict[str, tuple[str, int]] = {}
    problems: list[Problem] = []
    for file, count in Counter(file for run in runs for file in run.artifacts).items():
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


def _metric_columns(
    runs: Sequence[RunRecord], *, reserved: set[str]
) -> tuple[dict[str, tuple[MetricColumn, int]], list[Problem]]:
    numeric: dict[tuple[str, str], bool] = {}
    counts: dict[tuple[str, str], int] = {}
    problems: list[Problem] = []
    for run in runs:
        for log_name, keys in _keys_of_run(run, problems):
            for key, is_number in keys.numeric:
                place = (log_name, key)
                numeric[place] = numeric.get(place, True) and is_number
                counts[place] = counts.get(place, 0) + 1
    columns: dict[str, tuple[MetricColumn, int]] = {}
    for (log_name, key), is_number in sorted(numeric.items(), key=lambda item: item[0][0]):  # stable: keys in order
        name = valid_text(f"{log_name}.{key}")
        if name in reserved or name in columns:
            problems.append(Problem(name, f"the name is taken: key {key!r} of log {log_name!r} is in no column"))
            continue
        columns[name] = (MetricColumn(log_name, key, is_number), counts[log_name, key])
    return columns, problems


def _keys_of_run(run: RunRecord, problems: list[Problem]) -> Iterable[tuple[str, metricfile.Keys]]:
    try:
        for log_name in metricfile.log_names(run.path):
            keys = metricfile.load_keys(run.path, log_name)
            if keys.problem:
                problems.append(Problem(valid_text(metricfile.keys_path(run.path, log_name)), keys.problem))
            yield log_name, keys
    except OSError as error:
        problems.append(Problem(valid_text(run.path), f"its metrics cannot be listed: {error}"))

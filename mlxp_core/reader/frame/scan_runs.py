"""Scan a log directory as a LazyFrame: a row a run.

Uses Polars' plugin for sources, which Polars calls unstable.
"""

from __future__ import annotations

import logging
import os
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl
from polars.io.plugins import register_io_source

from mlxp_core.reader.cache.run_table import Table
from mlxp_core.reader.directory import OnePath, find_log_dirs, scan_directories
from mlxp_core.reader.frame.predicate import split
from mlxp_core.reader.frame.schema import MetricColumn, Schema, infer_schema
from mlxp_core.reader.load import attempts, metrics, ndjson
from mlxp_core.reader.load.fields import valid_text
from mlxp_core.reader.load.info_fields import DURATION, END, START, TIMES, times_of
from mlxp_core.reader.load.problem import Problem, Problems
from mlxp_core.reader.load.record import Part
from mlxp_core.reader.load.run import STATUS, artifact_path

# columns, predicate, limit on the rows, and rows a batch
FrameSource = Callable[[list[str] | None, pl.Expr | None, int | None, int | None], Iterator[pl.DataFrame]]

# path of a run, and what comes before its own lines, by log
_JoinedRun = tuple[str, Mapping[str, Sequence[Part]] | None]
_Files = Sequence[tuple[str, int, int]]  # as metrics.Lines has them

_logger = logging.getLogger(__name__)

# Runs whose metrics are in memory at once before the predicate has seen them; with a limit on the rows, those that are
# read in vain.
_MAX_RUNS_IN_MEMORY = 256
_POSITION = "position"  # which run a row came from; no other column lacks a dot but id and path


def scan_runs(log_dir: OnePath | Iterable[OnePath]) -> pl.LazyFrame:
    """Scan the runs of a log directory lazily, or of several (see Reader): one row a run, ordered by id.

    Columns: ``id`` (Int64, null for a folder that the user named), ``path`` (String, absolute), ``info.*`` and
    ``config.*`` (a field of info.yaml or config.yaml each, nested names joined by dots), and for every key of every
    metric file ``<log name>.<key>``: List(Float64), or List(String), one value a line of the file, null in a run
    without that metric. ``artifact.<type>.<name>`` (String) is the path of an artifact, null in a run without it.
    ``info.status`` is the status now, by all that is known of the run, not what info.yaml says.

    ``info.start_time``, ``info.end_time``, ``info.submit_time`` are Datetime in UTC, whatever the zone of their
    writer; what is written without one, as by MLXP 1.0, is taken for the time of this machine. ``info.duration``
    (Float64) is in seconds, from start to end, null for a run without one of them. The scheduler's job, where a run was
    submitted: ``info.scheduler.name``, ``.job_id`` (String), ``.array_index``, ``.job_name``, ``.hostname`` (of the
    submission; ``info.hostname`` is where it ran). ``info.logger.log_dir`` is the run's folder when it was written,
    as in MLXP.

    Types: whole numbers Int64, with floats among them Float64, then Boolean, String, and List of these. Fields that no
    single type fits, and lists of anything else, are String: strings as they are, the rest as JSON. A metric is one of
    numbers unless more runs logged nothing but text or lists under its key than logged numbers. In a column of numbers
    what is none, ``"diverged"``, is null, and a warning names run, file and line.

    The columns are those that the directory has now, and their types hold for all of its runs, since a lazy frame has
    its types before it is filtered; ``Reader.filter`` gives those of the runs that pass. Runs, their status and values
    are read when the frame is collected. Metadata is read for all runs, metrics only of the columns asked for, and only
    for the runs that pass those conditions (joined by ``&``) that metadata alone can answer.

    Where a run was resumed, its metrics go on from those of its earlier attempts: see load/attempts.py.

    What cannot be read is null, and logged as a warning; ``Reader(log_dir).problems`` lists it.

    Raises StoreError (an OSError) where the directory cannot be read, also when collecting, and there
    SchemaChangedError if a field has turned into something that its column cannot hold.
    """
    folders = find_log_dirs(log_dir)
    table = scan_directories(folders)
    schema = infer_schema(table)
    for problem in (*table.problems, *schema.problems):
        warn(problem)
    return runs_frame(folders, schema, warn)


def runs_frame(
    log_dirs: Sequence[str], schema: Schema, report: Callable[[Problem], None], table: Table | None = None
) -> pl.LazyFrame:
    """Make the frame with the columns of ``schema``; problems with metric files go to ``report``.

    Its runs are those of ``table``, or else those that the directories have when the frame is collected.
    """
    return source_frame(_RunSource(log_dirs, schema, report, table), schema.polars, "runs", log_dirs)


def source_frame(source: FrameSource, schema: pl.Schema, name: str, log_dirs: Sequence[str]) -> pl.LazyFrame:
    """Make the frame that calls a source when it is collected."""
    return register_io_source(
        source,
        schema=schema,
        # one plan that uses the frame several times reads the directory once, and so sees one state
        is_pure=True,
        explain_name=name,
        explain_detail=valid_text(", ".join(log_dirs)),
    )


def warn(problem: Problem) -> None:
    """Log a problem as a warning."""
    _logger.warning("%s", problem)


class _MetadataColumns:
    """Metadata columns of the runs, each made when it is first asked for, and kept."""

    def __init__(self, table: Table, schema: Schema) -> None:
        self.table = table
        self.schema = schema
        self._columns: dict[str, pl.Series] = {}

    def columns(self, names: Sequence[str]) -> list[pl.Series]:
        """Give metadata columns. Raises SchemaChangedError."""
        missing = [name for name in names if name not in self._columns]
        self.table.load_fields(missing)
        for name in missing:
            self._columns[name] = self._column(name)
        return [self._columns[name] for name in names]

    def positions(self, condition: pl.Expr | None, n_rows: int | None) -> pl.Series | None:
        """Give the positions of the runs among the first ``n_rows`` that pass a condition on metadata; None for all."""
        if condition is None and n_rows is None:
            return None
        positions = pl.int_range(len(self.table), dtype=pl.UInt32, eager=True).alias(_POSITION)
        if n_rows is not None:
            positions = positions.head(n_rows)
        if condition is None:
            return positions
        columns = [column.head(len(positions)) for column in self.columns(root_columns(condition))]
        return pl.DataFrame([positions, *columns]).filter(condition)[_POSITION]

    def _column(self, name: str) -> pl.Series:
        if name == "id":
            return self.table.ids()
        if name == "path":
            return self.table.paths()
        if name == STATUS:
            return self.table.statuses(name)
        if name in TIMES:
            return times_of(self.table.field(name, pl.String()))
        if name == DURATION:
            return _durations(*self.columns([START, END]))
        if (file := self.schema.artifacts.get(name)) is not None:
            return self.table.artifacts(name, file, artifact_path(file))
        return self.table.field(name, self.schema.metadata[name])


def _durations(starts: pl.Series, ends: pl.Series) -> pl.Series:
    seconds = (ends - starts).dt.total_microseconds() / 1e6
    return seconds.set(seconds < 0, None).alias(DURATION)  # a clock was set back: see the problems


_MAX_CACHED = 4
_cached_metadata: list[_MetadataColumns] = []


def _metadata_of(table: Table, schema: Schema) -> _MetadataColumns:
    """Give the metadata columns; the same object for the same table and schema."""
    for metadata in _cached_metadata:
        if metadata.schema is schema and metadata.table is table:
            return metadata
    metadata = _MetadataColumns(table, schema)
    _cached_metadata.insert(0, metadata)
    del _cached_metadata[_MAX_CACHED:]
    return metadata


@dataclass(frozen=True)
class _RunSource:
    """Source of the frame, which Polars calls to collect it."""

    log_dirs: str | Sequence[str]
    schema: Schema
    report: Callable[[Problem], None]
    table: Table | None = None

    def __call__(
        self, with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, batch_size: int | None
    ) -> Iterator[pl.DataFrame]:
        """Yield those of the first ``n_rows`` rows that pass ``predicate``, about ``batch_size`` at a time.

        In this order: Polars asks for both only where ``head`` comes before ``filter``.
        """
        names = list(self.schema.polars) if with_columns is None else with_columns
        on_metadata, on_metrics = (None, None) if predicate is None else split(predicate, self.schema.metrics)
        used = list(dict.fromkeys([*names, *root_columns(on_metrics)]))
        has_metrics = not self.schema.metrics.keys().isdisjoint(used)

        table = scan_directories(self.log_dirs) if self.table is None else self.table  # one without runs is false
        metadata = _metadata_of(table, self.schema)
        positions = metadata.positions(on_metadata, n_rows)
        if positions is None and names and not has_metrics and on_metrics is None and batch_size is None:
            yield pl.DataFrame(metadata.columns(names))
            return
        if positions is None:
            positions = pl.int_range(len(metadata.table), dtype=pl.UInt32, eager=True)
        batch = max(batch_size or len(positions), 1)
        if has_metrics:
            batch = min(batch, _MAX_RUNS_IN_MEMORY)
        for start in range(0, len(positions), batch):
            frame = self._rows(metadata, used or ["id"], positions[start : start + batch])
            if on_metrics is not None:
                frame = frame.filter(on_metrics)
            yield project(frame, names)

    def _rows(self, metadata: _MetadataColumns, names: Sequence[str], positions: pl.Series) -> pl.DataFrame:
        metric_columns = {name: self.schema.metrics[name] for name in names if name in self.schema.metrics}
        others = metadata.columns([name for name in names if name not in metric_columns])
        columns = [column.gather(positions) for column in others]
        if not metric_columns:
            return pl.DataFrame(columns)
        joins = metadata.table.joins
        runs = [(metadata.table.path(position), joins.get(position)) for position in positions]
        return pl.DataFrame([*columns, *self._metric_columns(metric_columns, runs)])

    def _metric_columns(self, columns: Mapping[str, MetricColumn], runs: Sequence[_JoinedRun]) -> list[pl.Series]:
        """Read every log that one of the columns lies in, once a run."""
        series: dict[str, pl.Series] = {}
        for log_name in dict.fromkeys(column.log_name for column in columns.values()):
            of_log = {name: column for name, column in columns.items() if column.log_name == log_name}
            logs = [
                (
                    path,
                    *_load_content(path, log_name, self.report, joins[log_name] if joins and log_name in joins else ()),
                )
                for path, joins in runs
            ]
            contents = [content for _, content, _ in logs]
            series |= _read_fast(of_log, contents) or self._read_line_by_line(of_log, logs)
        return [series[name] for name in columns]

    def _read_line_by_line(
        self, columns: Mapping[str, MetricColumn], logs: Sequence[tuple[str, bytes | None, _Files]]
    ) -> dict[str, pl.Series]:
        cells: dict[str, list[list[Any] | None]] = {name: [] for name in columns}
        log_name = next(iter(columns.values())).log_name
        for path, content, files in logs:
            lines = None if content is None else _lines(path, log_name, content, self.report, files)
            for name, column in columns.items():
                cells[name].append(None if lines is None else metric_values(lines, column, path, self.report))
        return {name: pl.Series(name, values, dtype=columns[name].dtype) for name, values in cells.items()}


def _read_fast(columns: Mapping[str, MetricColumn], contents: Sequence[bytes | None]) -> dict[str, pl.Series] | None:
    if not all(column.numeric for column in columns.values()):
        return None
    lists = ndjson.read_columns(contents, {name: column.key for name, column in columns.items()})
    return None if lists is None else dict(zip(columns, lists, strict=True))


def load_lines(
    path: str, log_name: str, report: Callable[[Problem], None], parts: Sequence[Part] = ()
) -> metrics.Lines | None:
    """Read one log of one run, with ``parts`` of its earlier attempts before its own lines.

    None where it cannot be read. That, and garbage in it, is reported.
    """
    content, files = _load_content(path, log_name, report, parts)
    return None if content is None else _lines(path, log_name, content, report, files)


def _load_content(
    path: str, log_name: str, report: Callable[[Problem], None], parts: Sequence[Part] = ()
) -> tuple[bytes | None, _Files]:
    file = valid_text(metrics.metric_path(path, log_name))
    if isinstance(report, Problems):
        report.forget(file)
    try:
        content = metrics.load_content(path, log_name)
        earlier = attempts.load_parts(path, log_name, parts) if parts else ()
    except OSError as error:
        report(Problem(file, f"cannot be read: {error}"))
        return None, ()
    if content is None and not os.path.isdir(path):  # noqa: PTH112
        report(Problem(file, "cannot be read: the run folder is gone"))
    if not earlier:
        return content, ()
    files = [(place, first_line, text.count(b"\n")) for place, first_line, text in earlier]
    return b"".join((*(text for _, _, text in earlier), content or b"")), files


def _lines(
    path: str, log_name: str, content: bytes, report: Callable[[Problem], None], files: _Files = ()
) -> metrics.Lines:
    lines = metrics.read_lines(content)
    if files:
        lines = replace(lines, files=files)
    if lines.garbage:
        reason = metrics.skipped_lines(lines.garbage, "JSON object")
        report(Problem(valid_text(metrics.metric_path(path, log_name)), reason))
    return lines


def metric_values(
    lines: metrics.Lines, column: MetricColumn, path: str, report: Callable[[Problem], None]
) -> list[Any] | None:
    """Give the values of one key, one a line; what is none in a column of numbers is reported."""
    values = lines.column(column.key, numeric=column.numeric)
    if column.numeric and values is not None and None in values and (strays := lines.strays(column.key)):
        first = lines.rows[strays[0]][column.key]
        file, line = lines.place(strays[0])
        reason = f"line {line}: {column.key} is {_shown(first)}, which is no number"
        if len(strays) > 1:
            reason += f", as in {len(strays) - 1} more"
        reason += ": null in this column of numbers"
        report(Problem(valid_text(file or metrics.metric_path(path, column.log_name)), reason))
    return values


def _shown(value: object) -> str:
    return valid_text(reprlib.repr(value))


def report_strays(table: Table, schema: Schema, report: Callable[[Problem], None]) -> None:
    """Report what is null in columns of numbers for being none, of every run; the other metric files stay closed."""
    numeric = {
        (column.log_name, column.key): column
        for name, column in schema.metrics.items()
        if name in schema.disputed and column.numeric
    }
    for position, logs in enumerate(table.shared("logs")) if numeric else ():
        for log_name, keys in logs:
            columns = [numeric[log_name, key] for key, kind in keys if kind != "number" and (log_name, key) in numeric]
            parts = table.joins.get(position, {}).get(log_name, ())
            if columns and (lines := load_lines(table.path(position), log_name, report, parts)):
                for column in columns:
                    metric_values(lines, column, table.path(position), report)


def project(frame: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    """Select columns; with none of them the rows stay, which Polars counts for ``with_row_index``."""
    return frame[names] if names else frame.drop(frame.columns)


def root_columns(predicate: pl.Expr | None) -> list[str]:
    """Give the names of the columns that a predicate needs."""
    return [] if predicate is None else list(dict.fromkeys(predicate.meta.root_names()))

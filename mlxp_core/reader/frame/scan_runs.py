"""A log directory as a LazyFrame: a row a run.

The only module that uses Polars' plugin for sources, which Polars calls unstable.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
from polars.io.plugins import register_io_source

from mlxp_core.reader.cache.run_table import RunTable
from mlxp_core.reader.directory import scan_directory
from mlxp_core.reader.frame.predicate import split
from mlxp_core.reader.frame.schema import MetricColumn, Schema, take_schema
from mlxp_core.reader.load import metrics as metricfile
from mlxp_core.reader.load import ndjson
from mlxp_core.reader.load.fields import valid_text
from mlxp_core.reader.load.problem import Problem, Problems
from mlxp_core.reader.load.run import STATUS, artifact_path

# columns, predicate, limit on the rows, and how many are wanted at once
Source = Callable[[list[str] | None, pl.Expr | None, int | None, int | None], Iterator[pl.DataFrame]]

_logger = logging.getLogger(__name__)

# Runs whose metrics are in memory at once before the predicate has seen them; with a limit on the rows, those that are
# read in vain.
_RUNS_AT_ONCE = 256
_PLACE = "place"  # which run a row came from; no other column lacks a dot but id and path


def scan_runs(log_dir: str | os.PathLike[str]) -> pl.LazyFrame:
    """One row a run, ordered by id.

    Columns: ``id`` (Int64, null for a folder that the user named), ``path`` (String, absolute), ``info.*`` and
    ``config.*`` (a field of info.yaml or config.yaml each, nested names joined by dots), and for every key of every
    metric file ``<log name>.<key>``: List(Float64), or List(String) if a run logged something else than numbers, one
    value a line of the file, null in a run without that metric. ``artifact.<type>.<name>`` (String) is the path of an
    artifact, null in a run without it. ``info.status`` says where the run stands now, by all that is known of it, not
    what info.yaml says.

    Types: whole numbers Int64, with floats among them Float64, then Boolean, String, and List of these. Fields that no
    single type fits, and lists of anything else, are String: strings as they are, the rest as JSON.

    The columns are those that the directory has now. Runs, their status and values are read when the frame is
    collected. Metadata is read for all runs, metrics only of the columns asked for, and only for the runs that pass
    those conditions (joined by ``&``) that metadata alone can answer.

    What cannot be read is null, and logged as a warning; ``Reader(log_dir).problems`` lists it.

    Raises StoreError (an OSError) where the directory cannot be read, also when collecting, and there
    SchemaChangedError if a field has turned into something that its column cannot hold.
    """
    folder = os.path.abspath(log_dir)  # noqa: PTH100  (a Path would resolve nothing more)
    census = scan_directory(folder)
    schema = take_schema(census)
    for problem in (*census.problems, *schema.problems):
        warn(problem)
    return frame_of(folder, schema, warn)


def frame_of(
    log_dir: str, schema: Schema, report: Callable[[Problem], None], census: RunTable | None = None
) -> pl.LazyFrame:
    """Give the frame with the columns of ``schema``; ``report`` is told what is wrong with the metric files.

    Without a ``census`` the directory is looked at when the frame is collected.
    """
    return as_frame(_Source(log_dir, schema, report, census), schema.polars, "runs", log_dir)


def as_frame(source: Source, schema: pl.Schema, name: str, log_dir: str) -> pl.LazyFrame:
    """Give the frame that calls a source when it is collected."""
    return register_io_source(
        source,
        schema=schema,
        # one plan that uses the frame several times reads the directory once, and so sees one state of it
        is_pure=True,
        explain_name=name,
        explain_detail=valid_text(log_dir),
    )


def warn(problem: Problem) -> None:
    """Log what is wrong, where there is no Reader to ask."""
    _logger.warning("%s", problem)


class _Table:
    """The metadata of the runs: each column is made when it is first asked for, and kept."""

    def __init__(self, census: RunTable, schema: Schema) -> None:
        self.census = census
        self.schema = schema
        self._columns: dict[str, pl.Series] = {}

    def columns(self, names: Sequence[str]) -> list[pl.Series]:
        """Give metadata columns. Raises SchemaChangedError."""
        missing = [name for name in names if name not in self._columns]
        self.census.load_fields(missing)
        for name in missing:
            self._columns[name] = self._column(name)
        return [self._columns[name] for name in names]

    def passing(self, condition: pl.Expr | None, first: int | None) -> pl.Series | None:
        """Give the places of those of the first runs for which a condition on metadata is true; None for all of them.

        ``first`` is how many of the runs count, None for all.
        """
        if condition is None and first is None:
            return None
        places = pl.int_range(len(self.census), dtype=pl.UInt32, eager=True).alias(_PLACE)
        if first is not None:
            places = places.head(first)
        if condition is None:
            return places
        columns = [column.head(len(places)) for column in self.columns(root_columns(condition))]
        return pl.DataFrame([places, *columns]).filter(condition)[_PLACE]

    def _column(self, name: str) -> pl.Series:
        if name == "id":
            return self.census.ids()
        if name == "path":
            return self.census.paths()
        if name == STATUS:
            return self.census.statuses(name)
        if (file := self.schema.artifacts.get(name)) is not None:
            return self.census.artifacts(name, file, artifact_path(file))
        return self.census.field(name, self.schema.metadata[name])


_MOST_TABLES = 4
_tables: list[_Table] = []


def _table_of(census: RunTable, schema: Schema) -> _Table:
    """Give the table, the same as before where the runs are the same and unchanged."""
    for table in _tables:
        if table.schema is schema and table.census is census:
            return table
    table = _Table(census, schema)
    _tables.insert(0, table)
    del _tables[_MOST_TABLES:]
    return table


@dataclass(frozen=True)
class _Source:
    """What Polars calls to collect the frame."""

    log_dir: str
    schema: Schema
    report: Callable[[Problem], None]
    census: RunTable | None = None

    def __call__(
        self, with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, batch_size: int | None
    ) -> Iterator[pl.DataFrame]:
        """Yield those of the first ``n_rows`` rows that pass ``predicate``, about ``batch_size`` at a time.

        In this order: Polars asks for both only where ``head`` comes before ``filter``.
        """
        wanted = list(self.schema.polars) if with_columns is None else with_columns
        on_metadata, on_metrics = (None, None) if predicate is None else split(predicate, self.schema.metrics)
        used = list(dict.fromkeys([*wanted, *root_columns(on_metrics)]))
        has_metrics = not self.schema.metrics.keys().isdisjoint(used)

        table = _table_of(self.census or scan_directory(self.log_dir), self.schema)
        places = table.passing(on_metadata, n_rows)
        if places is None and wanted and not has_metrics and on_metrics is None and batch_size is None:
            yield pl.DataFrame(table.columns(wanted))
            return
        if places is None:
            places = pl.int_range(len(table.census), dtype=pl.UInt32, eager=True)
        at_once = max(batch_size or len(places), 1)
        if has_metrics:
            at_once = min(at_once, _RUNS_AT_ONCE)
        for start in range(0, len(places), at_once):
            frame = self._rows(table, used or ["id"], places[start : start + at_once])
            if on_metrics is not None:
                frame = frame.filter(on_metrics)
            yield project(frame, wanted)

    def _rows(self, table: _Table, names: Sequence[str], places: pl.Series) -> pl.DataFrame:
        metrics = {name: self.schema.metrics[name] for name in names if name in self.schema.metrics}
        columns = [column.gather(places) for column in table.columns([name for name in names if name not in metrics])]
        paths = [table.census.path(place) for place in places] if metrics else []
        return pl.DataFrame([*columns, *self._metric_columns(metrics, paths)])

    def _metric_columns(self, columns: Mapping[str, MetricColumn], paths: Sequence[str]) -> list[pl.Series]:
        """Read every log that one of the columns lies in, once a run."""
        read: dict[str, pl.Series] = {}
        for log_name in dict.fromkeys(column.log_name for column in columns.values()):
            of_log = {name: column for name, column in columns.items() if column.log_name == log_name}
            contents = [_load_content(path, log_name, self.report) for path in paths]
            read |= _fast(of_log, contents) or self._line_by_line(of_log, contents, paths)
        return [read[name] for name in columns]

    def _line_by_line(
        self, columns: Mapping[str, MetricColumn], contents: Sequence[bytes | None], paths: Sequence[str]
    ) -> dict[str, pl.Series]:
        cells: dict[str, list[list[Any] | None]] = {name: [] for name in columns}
        for path, content in zip(paths, contents, strict=True):
            log_name = next(iter(columns.values())).log_name
            lines = None if content is None else _lines(path, log_name, content, self.report)
            for name, column in columns.items():
                cells[name].append(None if lines is None else column_of(lines, column, path, self.report))
        return {name: pl.Series(name, values, dtype=columns[name].dtype) for name, values in cells.items()}


def _fast(columns: Mapping[str, MetricColumn], contents: Sequence[bytes | None]) -> dict[str, pl.Series] | None:
    if not all(column.numeric for column in columns.values()):
        return None
    lists = ndjson.read_columns(contents, {name: column.key for name, column in columns.items()})
    return None if lists is None else dict(zip(columns, lists, strict=True))


def load_lines(path: str, log_name: str, report: Callable[[Problem], None]) -> metricfile.Lines | None:
    """Read one log of one run; None where it cannot be read, and then, as with garbage in it, a problem is reported."""
    content = _load_content(path, log_name, report)
    return None if content is None else _lines(path, log_name, content, report)


def _load_content(path: str, log_name: str, report: Callable[[Problem], None]) -> bytes | None:
    place = valid_text(metricfile.metric_path(path, log_name))
    if isinstance(report, Problems):
        report.forget(place)
    try:
        content = metricfile.load_content(path, log_name)
    except OSError as error:
        report(Problem(place, f"cannot be read: {error}"))
        return None
    if content is None and not os.path.isdir(path):  # noqa: PTH112
        report(Problem(place, "cannot be read: the run folder is gone"))
    return content


def _lines(path: str, log_name: str, content: bytes, report: Callable[[Problem], None]) -> metricfile.Lines:
    lines = metricfile.read_lines(content)
    if lines.garbage:
        what = metricfile.skipped_lines(lines.garbage, "JSON object")
        report(Problem(valid_text(metricfile.metric_path(path, log_name)), what))
    return lines


def column_of(
    lines: metricfile.Lines, column: MetricColumn, path: str, report: Callable[[Problem], None]
) -> list[Any] | None:
    """Take one key out of the lines of a log; text in a column that was said to be of numbers is reported."""
    values = lines.column(column.key, numeric=column.numeric)
    if column.numeric and values is not None and None in values and (count := lines.count_non_numbers(column.key)):
        what = f"{count} values of {column.key} are no numbers, and null in a column of numbers"
        report(Problem(valid_text(metricfile.metric_path(path, column.log_name)), what))
    return values


def project(frame: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    """The frame with these columns; without any it has its rows still, which Polars counts for ``with_row_index``."""
    return frame[names] if names else frame.drop(frame.columns)


def root_columns(predicate: pl.Expr | None) -> list[str]:
    """Names of the columns that a predicate needs."""
    return [] if predicate is None else list(dict.fromkeys(predicate.meta.root_names()))

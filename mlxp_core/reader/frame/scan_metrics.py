"""Scan one log of all runs as a LazyFrame: a row a line of the metric files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import polars as pl

from mlxp_core.errors import QueryError
from mlxp_core.reader.directory import OnePath, find_log_dirs, scan_directories
from mlxp_core.reader.frame.predicate import split
from mlxp_core.reader.frame.scan_runs import load_lines, metric_values, project, root_columns, source_frame, warn
from mlxp_core.reader.frame.schema import MetricColumn, list_metrics
from mlxp_core.reader.load.fields import valid_text
from mlxp_core.reader.load.metrics import Lines
from mlxp_core.reader.load.record import Part
from mlxp_core.reader.query.suggest import suggestion

# about: a run is never cut in two
_MAX_LINES_IN_MEMORY = 500_000
_RUN_COLUMNS = {"id": pl.Int64(), "path": pl.String()}
_POSITION = "position"  # which run; a key of this name is no matter, as the frame has no key columns where it is used


def scan_metrics(log_dir: OnePath | Iterable[OnePath], log_name: str) -> pl.LazyFrame:
    """Scan ``metrics/<log_name>.json`` of all runs lazily: one row a line, ordered by run and line.

    Columns: ``id`` and ``path`` of the run as ``scan_runs`` has them; ``line`` (UInt32), from 0; ``step``: the key of
    that name if the runs log one, or else the same as ``line``; and a column for every other key: Float64, or String
    where more runs logged text alone than numbers (see ``scan_runs``), null where a line lacks it. A key that is called
    as one of the first columns has the name of the log before it: ``train.id``; once more, where that is a key, too.

    Lazy as ``scan_runs`` is: files are opened when the frame is collected, and only those of runs that pass the
    conditions on ``id`` and ``path``. Join it with ``scan_runs`` by ``path`` for configurations beside the values.

    Raises QueryError if no run has such a log, and StoreError where the directory cannot be read.
    """
    folders = find_log_dirs(log_dir)
    metrics = [column for column, _, _ in list_metrics(scan_directories(folders))]
    of_log = [column for column in metrics if column.log_name == log_name]
    if not of_log:
        raise QueryError(f"no run logs {log_name!r}{suggestion(log_name, {column.log_name for column in metrics})}")
    columns = _named(of_log)
    types = {**_RUN_COLUMNS, "line": pl.UInt32(), "step": pl.UInt32()}
    types |= {name: _type(column) for name, column in columns.items()}
    return source_frame(
        _MetricSource(folders, log_name, columns, types), pl.Schema(types), f"metrics {log_name}", folders
    )


def _named(columns: Sequence[MetricColumn]) -> dict[str, MetricColumn]:
    run_columns = {*_RUN_COLUMNS, "line"}
    names = {column.key: valid_text(column.key) for column in columns}
    taken = {name for key, name in names.items() if key not in run_columns} | run_columns
    for key in run_columns & names.keys():
        while names[key] in taken:
            names[key] = valid_text(f"{columns[0].log_name}.{names[key]}")
        taken.add(names[key])
    return {names[column.key]: column for column in columns}


def _type(column: MetricColumn) -> pl.DataType:
    return pl.Float64() if column.numeric else pl.String()


class _RunFolder(NamedTuple):
    id: int | None
    path: str
    earlier: Sequence[Part]  # of its log, by earlier attempts


@dataclass(frozen=True)
class _MetricSource:
    """Source of the frame, which Polars calls to collect it."""

    log_dirs: str | Sequence[str]
    log_name: str
    columns: Mapping[str, MetricColumn]
    types: Mapping[str, pl.DataType]

    def __call__(
        self, with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, batch_size: int | None
    ) -> Iterator[pl.DataFrame]:
        """Yield those of the first ``n_rows`` lines that pass ``predicate``.

        In this order: Polars asks for both only where ``head`` comes before ``filter``.
        """
        names = list(self.types) if with_columns is None else with_columns
        on_runs, on_lines = (None, None) if predicate is None else split(predicate, self.types.keys() - _RUN_COLUMNS)
        if n_rows is not None:  # counted over the lines of all runs
            on_runs, on_lines = None, predicate
        used = list(dict.fromkeys([*names, *root_columns(on_lines)]))
        remaining = n_rows
        for runs in self._batches(self._select_runs(on_runs), batch_size or _MAX_LINES_IN_MEMORY):
            frame = pl.concat(self._lines_frame(used, run, lines) for run, lines in runs)
            if remaining is not None:
                frame = frame.head(remaining)
                remaining -= frame.height
            if on_lines is not None:
                frame = frame.filter(on_lines)
            yield project(frame, names)
            if remaining == 0:
                return

    def _select_runs(self, condition: pl.Expr | None) -> list[_RunFolder]:
        table = scan_directories(self.log_dirs)
        runs = pl.DataFrame([table.ids(), table.paths()]).with_row_index(_POSITION)
        if condition is not None:
            runs = runs.filter(condition)
        return [
            _RunFolder(run_id, table.path(position), table.joins.get(position, {}).get(self.log_name, ()))
            for position, run_id in zip(runs[_POSITION], runs["id"], strict=True)
        ]

    def _batches(self, runs: Sequence[_RunFolder], max_lines: int) -> Iterator[list[tuple[_RunFolder, Lines]]]:
        batch: list[tuple[_RunFolder, Lines]] = []
        line_count = 0
        for run in runs:
            lines = load_lines(run.path, self.log_name, warn, run.earlier)
            if lines is None or not lines.rows:
                continue
            batch.append((run, lines))
            line_count += len(lines.rows)
            if line_count >= max_lines:
                yield batch
                batch, line_count = [], 0
        if batch:
            yield batch

    def _lines_frame(self, names: Sequence[str], run: _RunFolder, lines: Lines) -> pl.DataFrame:
        count = len(lines.rows)
        values: dict[str, pl.Series] = {}
        for name in names or ["line"]:
            column = self.columns.get(name)
            if column is not None:
                cells = metric_values(lines, column, run.path, warn) or [None] * count
                values[name] = pl.Series(name, cells, dtype=self.types[name])
            elif name in _RUN_COLUMNS:
                value = run.id if name == "id" else valid_text(run.path)
                values[name] = pl.repeat(value, count, dtype=self.types[name], eager=True).alias(name)
            else:
                values[name] = pl.Series(name, range(count), dtype=pl.UInt32)
        return pl.DataFrame(values)

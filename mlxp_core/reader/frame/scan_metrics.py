"""One log of all runs as a LazyFrame: a row a line of the metric files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import polars as pl

from mlxp_core.errors import QueryError
from mlxp_core.reader.directory import scan_directory
from mlxp_core.reader.frame.predicate import split
from mlxp_core.reader.frame.scan_runs import as_frame, column_of, load_lines, project, root_columns, warn
from mlxp_core.reader.frame.schema import MetricColumn, take_metrics
from mlxp_core.reader.load.fields import valid_text
from mlxp_core.reader.load.metrics import Lines
from mlxp_core.reader.query.suggest import close_to

# Lines that are in memory at once, about: a run is never cut in two.
_LINES_AT_ONCE = 500_000
_OF_THE_RUN = {"id": pl.Int64(), "path": pl.String()}
_PLACE = "place"  # which run; a key of this name is no matter, as the frame has no key columns where it is used


def scan_metrics(log_dir: str | os.PathLike[str], log_name: str) -> pl.LazyFrame:
    """One row a line of ``metrics/<log_name>.json``, ordered by run and line; runs without that file have none.

    Columns: ``id`` and ``path`` of the run as ``scan_runs`` has them; ``line`` (UInt32), from 0; ``step``: the key of
    that name if the runs log one, or else the same as ``line``; and a column for every other key: Float64, or String if
    a run logged something else than numbers, null where a line lacks it. A key that is called as one of the first
    columns has the name of the log before it: ``train.id``; once more, where that is a key, too.

    Lazy as ``scan_runs`` is: files are opened when the frame is collected, and only those of runs that pass the
    conditions on ``id`` and ``path``. Join it with ``scan_runs`` by ``path`` for configurations beside the values.

    Raises QueryError if no run has such a log, and StoreError where the directory cannot be read.
    """
    folder = os.path.abspath(log_dir)  # noqa: PTH100  (see scan_runs)
    metrics = [column for column, _ in take_metrics(scan_directory(folder))]
    of_log = [column for column in metrics if column.log_name == log_name]
    if not of_log:
        raise QueryError(f"no run logs {log_name!r}{close_to(log_name, {one.log_name for one in metrics})}")
    columns = _named(of_log)
    types = {**_OF_THE_RUN, "line": pl.UInt32(), "step": pl.UInt32()}
    types |= {name: _type(column) for name, column in columns.items()}
    return as_frame(_LongSource(folder, log_name, columns, types), pl.Schema(types), f"metrics {log_name}", folder)


def _named(columns: Sequence[MetricColumn]) -> dict[str, MetricColumn]:
    ours = {*_OF_THE_RUN, "line"}
    names = {column.key: valid_text(column.key) for column in columns}
    taken = {name for key, name in names.items() if key not in ours} | ours
    for key in ours & names.keys():
        while names[key] in taken:
            names[key] = valid_text(f"{columns[0].log_name}.{names[key]}")
        taken.add(names[key])
    return {names[column.key]: column for column in columns}


def _type(column: MetricColumn) -> pl.DataType:
    return pl.Float64() if column.numeric else pl.String()


class _Run(NamedTuple):
    id: int | None
    path: str


@dataclass(frozen=True)
class _LongSource:
    """What Polars calls to collect the frame."""

    log_dir: str
    log_name: str
    columns: Mapping[str, MetricColumn]
    types: Mapping[str, pl.DataType]

    def __call__(
        self, with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, batch_size: int | None
    ) -> Iterator[pl.DataFrame]:
        """Yield those of the first ``n_rows`` lines that pass ``predicate``.

        In this order: Polars asks for both only where ``head`` comes before ``filter``.
        """
        wanted = list(self.types) if with_columns is None else with_columns
        on_runs, on_lines = (None, None) if predicate is None else split(predicate, self.types.keys() - _OF_THE_RUN)
        if n_rows is not None:  # counted over the lines of all runs
            on_runs, on_lines = None, predicate
        used = list(dict.fromkeys([*wanted, *root_columns(on_lines)]))
        left = n_rows
        for runs in self._batches(self._passing(on_runs), batch_size or _LINES_AT_ONCE):
            frame = pl.concat(self._table(used, run, lines) for run, lines in runs)
            if left is not None:
                frame = frame.head(left)
                left -= frame.height
            if on_lines is not None:
                frame = frame.filter(on_lines)
            yield project(frame, wanted)
            if left == 0:
                return

    def _passing(self, condition: pl.Expr | None) -> list[_Run]:
        census = scan_directory(self.log_dir)
        ids = pl.DataFrame([census.ids(), census.paths()]).with_row_index(_PLACE)
        if condition is not None:
            ids = ids.filter(condition)
        return [_Run(run_id, census.path(place)) for place, run_id in zip(ids[_PLACE], ids["id"], strict=True)]

    def _batches(self, runs: Sequence[_Run], most: int) -> Iterator[list[tuple[_Run, Lines]]]:
        batch: list[tuple[_Run, Lines]] = []
        held = 0
        for run in runs:
            lines = load_lines(run.path, self.log_name, warn)
            if lines is None or not lines.rows:
                continue
            batch.append((run, lines))
            held += len(lines.rows)
            if held >= most:
                yield batch
                batch, held = [], 0
        if batch:
            yield batch

    def _table(self, names: Sequence[str], run: _Run, lines: Lines) -> pl.DataFrame:
        count = len(lines.rows)
        values: dict[str, pl.Series] = {}
        for name in names or ["line"]:
            column = self.columns.get(name)
            if column is not None:
                cells = column_of(lines, column, run.path, warn) or [None] * count
                values[name] = pl.Series(name, cells, dtype=self.types[name])
            elif name in _OF_THE_RUN:
                value = run.id if name == "id" else valid_text(run.path)
                values[name] = pl.repeat(value, count, dtype=self.types[name], eager=True).alias(name)
            else:
                values[name] = pl.Series(name, range(count), dtype=pl.UInt32)
        return pl.DataFrame(values)

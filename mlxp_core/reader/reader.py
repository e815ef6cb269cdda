"""Query a log directory, or several, always as they are now."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import polars as pl

from mlxp_core.reader.cache.run_table import Table
from mlxp_core.reader.directory import OnePath, count_runs, find_log_dirs, scan_directories
from mlxp_core.reader.frame.runs import Origin, Runs
from mlxp_core.reader.frame.scan_runs import report_strays, runs_frame
from mlxp_core.reader.frame.schema import Schema, infer_schema
from mlxp_core.reader.load.problem import Problem, Problems
from mlxp_core.reader.query.compiler import compile_query


class Reader:
    """A log directory. Every call reads its present state; runs that have not changed are not read again.

    Or several, one after the other: a list, or a pattern such as ``runs/*/logs``, for the folders that hold runs when
    the reader is made. Their runs may have the same ids; ``path`` tells them apart.

    Nothing is written but a cache, where that is possible: see cache/index.py.
    """

    def __init__(self, log_dir: OnePath | Iterable[OnePath]) -> None:
        """Raises StoreError (an OSError) if there is no such directory, it cannot be read, or is none of runs."""
        self._log_dirs = find_log_dirs(log_dir)
        self._problems = Problems()

    def __len__(self) -> int:
        """Count the runs."""
        return sum(map(count_runs, self._log_dirs))

    def __repr__(self) -> str:
        """Show the directory, or all of them."""
        return f"Reader({(self._log_dirs[0] if len(self._log_dirs) == 1 else list(self._log_dirs))!r})"

    @property
    def fields(self) -> pl.DataFrame:
        """All columns: ``name``, ``type`` and ``holds`` (String), ``runs``: the number of runs with a value (UInt32).

        ``type`` is that of the column; ``holds`` names what the runs wrote: ``int, text`` where they disagree and the
        column is String for that, ``metric``, ``artifact``.
        """
        _, schema = self._scan()
        return _fields_frame(schema, schema.polars)

    @property
    def searchable(self) -> pl.DataFrame:
        """The columns whose values a query can ask for, as ``fields`` has them."""
        _, schema = self._scan()
        return _fields_frame(schema, schema.metadata.keys() - schema.artifacts.keys())

    @property
    def problems(self) -> list[Problem]:
        """Problems with the directory.

        With the metadata as it is now, with what is no number among the metrics, by run, file and line, and with those
        metric files that this reader has opened.
        """
        table, schema = self._scan()
        report_strays(table, schema, self._problems)
        return [*table.problems, *schema.problems, *self._problems]

    def filter(self, query_string: str = "") -> Runs:
        """Give the runs for which a query holds; all of them for an empty one.

        ``reader.filter("info.status == 'COMPLETE' & config.optimizer.lr <= 1.")``; for the language see
        ``mlxp_core.reader.query.compiler``. Raises QueryError (a ValueError), which points at the fault in the query.
        """
        table, schema = self._scan()

        def frames(schema: Schema) -> tuple[pl.LazyFrame, pl.LazyFrame]:
            of_now = runs_frame(self._log_dirs, schema, self._problems)
            return of_now, runs_frame(self._log_dirs, schema, self._problems, table)

        runs = Runs(*frames(schema), schema, self._problems, origin=Origin(table, frames))
        if query_string.strip():
            runs = runs.where(compile_query(query_string, schema.polars, untyped=schema.untyped))
        return runs

    def _scan(self) -> tuple[Table, Schema]:
        table = scan_directories(self._log_dirs)
        return table, infer_schema(table)


def _fields_frame(schema: Schema, names: Collection[str]) -> pl.DataFrame:
    rows = [
        (name, str(dtype), schema.contents[name], schema.run_counts[name])
        for name, dtype in schema.polars.items()
        if name in names
    ]
    types = {"name": pl.String, "type": pl.String, "holds": pl.String, "runs": pl.UInt32}
    return pl.DataFrame(rows, schema=types, orient="row")

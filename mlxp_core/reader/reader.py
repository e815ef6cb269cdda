"""Query a log directory, always as it is now."""

from __future__ import annotations

import os
from collections.abc import Collection

import polars as pl

from mlxp_core.reader.cache.run_table import RunTable
from mlxp_core.reader.directory import count_runs, open_directory, scan_directory
from mlxp_core.reader.frame.runs import Origin, Runs
from mlxp_core.reader.frame.scan_runs import report_strays, runs_frame
from mlxp_core.reader.frame.schema import Schema, infer_schema
from mlxp_core.reader.load.problem import Problem, Problems
from mlxp_core.reader.query.compiler import compile_query


class Reader:
    """A log directory. Every call reads its present state; runs that have not changed are not read again.

    Nothing is written but a cache, where that is possible: see cache/index.py.
    """

    def __init__(self, log_dir: str | os.PathLike[str]) -> None:
        """Raises StoreError (an OSError) if there is no such directory, or it cannot be read."""
        self._log_dir = os.path.abspath(log_dir)  # noqa: PTH100  (see scan_runs)
        self._problems = Problems()
        with open_directory(self._log_dir):
            pass

    def __len__(self) -> int:
        """Count the runs."""
        return count_runs(self._log_dir)

    def __repr__(self) -> str:
        """Show the directory."""
        return f"Reader({self._log_dir!r})"

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
            of_now = runs_frame(self._log_dir, schema, self._problems)
            return of_now, runs_frame(self._log_dir, schema, self._problems, table)

        runs = Runs(*frames(schema), schema, self._problems, origin=Origin(table, frames))
        if query_string.strip():
            runs = runs.where(compile_query(query_string, schema.polars, untyped=schema.untyped))
        return runs

    def _scan(self) -> tuple[RunTable, Schema]:
        table = scan_directory(self._log_dir)
        return table, infer_schema(table)


def _fields_frame(schema: Schema, names: Collection[str]) -> pl.DataFrame:
    rows = [
        (name, str(dtype), schema.contents[name], schema.run_counts[name])
        for name, dtype in schema.polars.items()
        if name in names
    ]
    types = {"name": pl.String, "type": pl.String, "holds": pl.String, "runs": pl.UInt32}
    return pl.DataFrame(rows, schema=types, orient="row")

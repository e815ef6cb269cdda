"""The door of the reader: a log directory that answers queries, always as it is now."""

from __future__ import annotations

import os
from collections.abc import Collection

import polars as pl

from mlxp_core.reader.cache.run_table import RunTable
from mlxp_core.reader.directory import count_runs, open_directory, scan_directory
from mlxp_core.reader.frame.runs import Runs
from mlxp_core.reader.frame.scan_runs import frame_of
from mlxp_core.reader.frame.schema import Schema, take_schema
from mlxp_core.reader.load.problem import Problem, Problems
from mlxp_core.reader.query.compiler import compile_query


class Reader:
    """A log directory. Every call looks at it anew (what has not changed is not read again).

    Nothing is written but a cache, where that is possible: see cache/index.py.
    """

    def __init__(self, log_dir: str | os.PathLike[str]) -> None:
        """Raises StoreError (an OSError) if there is no such directory, or it cannot be read."""
        self._log_dir = os.path.abspath(log_dir)  # noqa: PTH100  (see scan_runs)
        self._met = Problems()
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
        """All columns: ``name``, ``type`` and ``holds`` (String), ``runs``: how many runs have a value there (UInt32).

        ``type`` is that of the column; ``holds`` says what the runs wrote: ``int, text`` where they disagree and the
        column is String for that, ``metric``, ``artifact``.
        """
        _, schema = self._look()
        return _table(schema, schema.polars)

    @property
    def searchable(self) -> pl.DataFrame:
        """The columns whose values a query can ask for, as ``fields`` has them."""
        _, schema = self._look()
        return _table(schema, schema.metadata.keys() - schema.artifacts.keys())

    @property
    def problems(self) -> list[Problem]:
        """What cannot be read: of the metadata as it is now, of metric files those that this reader has opened."""
        census, schema = self._look()
        return [*census.problems, *schema.problems, *self._met]

    def filter(self, query_string: str = "") -> Runs:
        """Give the runs for which a query holds; all of them for an empty one.

        ``reader.filter("info.status == 'COMPLETE' & config.optimizer.lr <= 1.")``; for the language see
        ``mlxp_core.reader.query.compiler``. Raises QueryError (a ValueError), which points at the place.
        """
        census, schema = self._look()
        frame, now = (frame_of(self._log_dir, schema, self._met, seen) for seen in (None, census))
        if query_string.strip():
            condition = compile_query(query_string, schema.polars, untyped=schema.untyped)
            frame, now = frame.filter(condition), now.filter(condition)
        return Runs(frame, now, schema, self._met)

    def _look(self) -> tuple[RunTable, Schema]:
        census = scan_directory(self._log_dir)
        return census, take_schema(census)


def _table(schema: Schema, names: Collection[str]) -> pl.DataFrame:
    rows = [
        (name, str(dtype), schema.holds[name], schema.runs_with[name])
        for name, dtype in schema.polars.items()
        if name in names
    ]
    types = {"name": pl.String, "type": pl.String, "holds": pl.String, "runs": pl.UInt32}
    return pl.DataFrame(rows, schema=types, orient="row")

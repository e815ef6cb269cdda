"""All runs of a log directory, or of several, at one moment, as columns."""

from __future__ import annotations

import bisect
import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import polars as pl

from mlxp_core.reader.cache.run_columns import RunColumns, schema_changed
from mlxp_core.reader.load.column_types import conversions
from mlxp_core.reader.load.fields import FieldSchema, valid_text
from mlxp_core.reader.load.problem import Problem
from mlxp_core.reader.load.record import Part, RunRecord, run_order

_CONFIG = "config."


class RunTable:
    """The runs of one log directory, ordered by id, then the folders that the user named, by name.

    Some are cached as RunColumns, the others are read one by one.
    """

    def __init__(
        self, log_dir: str, cached: RunColumns | None, rows: Sequence[int] | None, runs: Sequence[RunRecord]
    ) -> None:
        """``rows`` are the rows of ``cached`` that count, all of them if None; ``runs`` are the other runs."""
        self.log_dir = log_dir
        self.cached = cached
        self.rows = rows
        self.runs = runs

    def __len__(self) -> int:
        """Count the runs."""
        return self._cached_count + len(self.runs)

    @cached_property
    def _cached_count(self) -> int:
        if self.cached is None:
            return 0
        return len(self.cached) if self.rows is None else len(self.rows)

    @cached_property
    def _order(self) -> list[int] | None:
        """Positions in the cached runs followed by the others; None where that is the order already."""
        if not self.runs:
            return None
        orders = [run.order for run in self.runs]
        if self.cached is not None:
            ids, names = self._select_rows(self.cached.column("id").to_list()), self._select_rows(self.cached.names)
            orders = [*map(run_order, ids, names), *orders]
        return sorted(range(len(orders)), key=orders.__getitem__)

    def _select_rows(self, values: Sequence[Any]) -> Sequence[Any]:
        return values if self.rows is None else [values[row] for row in self.rows]

    def _ordered(self, of_cached: Sequence[Any], of_others: Sequence[Any]) -> Sequence[Any]:
        if self._order is None:
            return of_cached
        values = [*of_cached, *of_others]
        return [values[position] for position in self._order]

    @cached_property
    def names(self) -> Sequence[str]:
        """Names of the run folders."""
        names = [] if self.cached is None else self._select_rows(self.cached.names)
        return self._ordered(names, [run.name for run in self.runs])

    def path(self, position: int) -> str:
        """Give the path of a run."""
        return f"{self.log_dir}/{self.names[position]}"

    @cached_property
    def joins(self) -> dict[int, dict[str, tuple[Part, ...]]]:
        """What comes before the own lines of logs that go on from earlier attempts, by position and name of the log."""
        of_cached = {} if self.cached is None else self.cached.joins
        if not of_cached and not any(run.joins for run in self.runs):
            return {}
        rows = range(self._cached_count) if self.rows is None else self.rows
        all_joins = self._ordered([of_cached.get(row, ()) for row in rows], [run.joins for run in self.runs])
        return {position: dict(joins) for position, joins in enumerate(all_joins) if joins}

    def count_shared(self, part: str) -> list[tuple[Any, int]]:
        """Count the runs for each schema of ``config`` or ``info``, or value of ``artifacts`` or ``logs``.

        In the order in which they appear. Thousands of runs share a handful, so their columns are cheap to collect.
        """
        if not self.runs and self.rows is None:
            return [] if self.cached is None else self.cached.count_shared(part)
        objects = self.shared(part)
        by_id: dict[int, Any] = {id(shared): shared for shared in objects}
        return [(by_id[key], count) for key, count in Counter(map(id, objects)).items()]

    def shared(self, part: str) -> Sequence[Any]:
        """Give for each run what ``count_shared`` counts."""
        of_cached = [] if self.cached is None else self._select_rows(self.cached.shared(part))
        return self._ordered(of_cached, [_shared(run, part) for run in self.runs])

    def subset(self, positions: Iterable[int]) -> RunTable:
        """Give the table of the runs at these positions."""
        order = range(len(self)) if self._order is None else self._order
        chosen = sorted(order[position] for position in positions)
        rows = [index if self.rows is None else self.rows[index] for index in chosen if index < self._cached_count]
        runs = [self.runs[index - self._cached_count] for index in chosen if index >= self._cached_count]
        return RunTable(self.log_dir, self.cached, rows, runs)

    @cached_property
    def problems(self) -> list[Problem]:
        """Problems with the metadata."""
        of_cached = [] if self.cached is None else self.cached.problems(self.log_dir)
        if not self.runs and self.rows is None:
            return [problem for _, problem in of_cached]
        by_row: dict[int, list[Problem]] = {}
        for row, problem in of_cached:
            by_row.setdefault(row, []).append(problem)
        rows = range(self._cached_count) if self.rows is None else self.rows
        by_run = self._ordered([by_row.get(row, ()) for row in rows], [run.problems for run in self.runs])
        return list(itertools.chain.from_iterable(by_run))

    def load_fields(self, names: Iterable[str]) -> None:
        """Load what ``field`` needs for these, at once."""
        if self.cached is not None:
            self.cached.load_fields(names)

    def ids(self) -> pl.Series:
        """Give column ``id``."""
        return self._column("id", "id", [run.id for run in self.runs], pl.Int64())

    def paths(self) -> pl.Series:
        """Give column ``path``."""
        names = pl.Series("path", [valid_text(name) for name in self.names], dtype=pl.String)
        return pl.select(pl.lit(f"{valid_text(self.log_dir)}/") + names).to_series().alias("path")

    def statuses(self, name: str) -> pl.Series:
        """Give the column of statuses."""
        return self._column("status", name, [run.status for run in self.runs], pl.String())

    def artifacts(self, name: str, file: str, path: str) -> pl.Series:
        """Give a column of ``path`` in the run folder, null in runs without artifact ``file`` (``<type>/<name>``)."""
        of_cached = [] if self.cached is None else self._select_rows(self.cached.shared("artifacts"))
        have_file = self._ordered([file in files for files in of_cached], [file in run.artifacts for run in self.runs])
        folders = self.paths()
        mask = pl.Series(have_file, dtype=pl.Boolean)
        return pl.select(pl.when(mask).then(folders + f"/{valid_text(path)}")).to_series().alias(name)

    def field(self, name: str, dtype: pl.DataType) -> pl.Series:
        """Give the column of a field. Raises SchemaChangedError where it cannot hold one of its values."""
        of_cached = None if self.cached is None else self.cached.field(name, dtype, self.rows)
        convert = conversions(dtype)
        cells = []
        for run in self.runs:
            kind, value = (run.config if name.startswith(_CONFIG) else run.info).named(name)
            if kind not in convert:
                raise schema_changed(name, value, run.name, dtype)
            cells.append(convert[kind](value))
        return self._joined(name, of_cached, cells, dtype)

    def _column(self, cached_name: str, name: str, cells: list[Any], dtype: pl.DataType) -> pl.Series:
        of_cached = None
        if self.cached is not None:
            of_cached = self.cached.column(cached_name)
            if self.rows is not None:
                of_cached = of_cached[self.rows]
        return self._joined(name, of_cached, cells, dtype)

    def _joined(self, name: str, of_cached: pl.Series | None, cells: list[Any], dtype: pl.DataType) -> pl.Series:
        if of_cached is not None and not self.runs:
            return of_cached.alias(name)
        column = pl.Series(name, cells, dtype=dtype)
        if of_cached is not None:
            column = of_cached.alias(name).append(column)
        return column[self._order] if self._order is not None else column


class JoinedTable:
    """The runs of several log directories, one directory after the other."""

    def __init__(self, tables: Sequence[RunTable]) -> None:
        """``tables``: one at least."""
        self.tables = tables

    def __len__(self) -> int:
        """Count the runs."""
        return sum(map(len, self.tables))

    @cached_property
    def _starts(self) -> list[int]:
        """The position of the first run of each table."""
        return [0, *itertools.accumulate(map(len, self.tables[:-1]))]

    def path(self, position: int) -> str:
        """Give the path of a run."""
        of = bisect.bisect_right(self._starts, position) - 1
        return self.tables[of].path(position - self._starts[of])

    def count_shared(self, part: str) -> list[tuple[Any, int]]:
        """Count the runs for each object that ``RunTable.count_shared`` gives."""
        counts: dict[int, tuple[Any, int]] = {}
        for table in self.tables:
            for shared, count in table.count_shared(part):
                counts[id(shared)] = shared, counts.get(id(shared), (None, 0))[1] + count
        return list(counts.values())

    def shared(self, part: str) -> Sequence[Any]:
        """Give for each run what ``count_shared`` counts."""
        return [shared for table in self.tables for shared in table.shared(part)]

    @cached_property
    def joins(self) -> dict[int, dict[str, tuple[Part, ...]]]:
        """What ``RunTable.joins`` gives."""
        return {
            start + position: joins
            for start, table in zip(self._starts, self.tables, strict=True)
            for position, joins in table.joins.items()
        }

    def subset(self, positions: Iterable[int]) -> JoinedTable:
        """Give the table of the runs at these positions."""
        chosen: list[list[int]] = [[] for _ in self.tables]
        for position in positions:
            of = bisect.bisect_right(self._starts, position) - 1
            chosen[of].append(position - self._starts[of])
        return JoinedTable([table.subset(rows) for table, rows in zip(self.tables, chosen, strict=True)])

    @property
    def problems(self) -> list[Problem]:
        """Problems with the metadata."""
        return [problem for table in self.tables for problem in table.problems]

    def load_fields(self, names: Iterable[str]) -> None:
        """Load what ``field`` needs for these, at once."""
        names = list(names)
        for table in self.tables:
            table.load_fields(names)

    def ids(self) -> pl.Series:
        """Give column ``id``."""
        return pl.concat([table.ids() for table in self.tables])

    def paths(self) -> pl.Series:
        """Give column ``path``."""
        return pl.concat([table.paths() for table in self.tables])

    def statuses(self, name: str) -> pl.Series:
        """Give the column of statuses."""
        return pl.concat([table.statuses(name) for table in self.tables])

    def artifacts(self, name: str, file: str, path: str) -> pl.Series:
        """Give the column that ``RunTable.artifacts`` gives."""
        return pl.concat([table.artifacts(name, file, path) for table in self.tables])

    def field(self, name: str, dtype: pl.DataType) -> pl.Series:
        """Give the column of a field. Raises SchemaChangedError where it cannot hold one of its values."""
        return pl.concat([table.field(name, dtype) for table in self.tables])


Table = RunTable | JoinedTable


def _shared(run: RunRecord, part: str) -> FieldSchema | tuple[Any, ...]:
    if part in {"config", "info"}:
        schema: FieldSchema = getattr(run, part).schema
        return schema
    shared: tuple[Any, ...] = getattr(run, part)
    return shared

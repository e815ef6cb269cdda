"""All runs of a log directory at one moment, as columns: those of a block, and those that were read one by one."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import polars as pl

from mlxp_core.reader.cache.run_columns import RunColumns, changed
from mlxp_core.reader.load.column_types import conversions
from mlxp_core.reader.load.fields import FieldSchema, valid_text
from mlxp_core.reader.load.problem import Problem
from mlxp_core.reader.load.record import RunRecord

_CONFIG = "config."


class RunTable:
    """The runs, ordered by id, then the folders that the user named, by name."""

    def __init__(
        self, log_dir: str, block: RunColumns | None, rows: Sequence[int] | None, runs: Sequence[RunRecord]
    ) -> None:
        """``rows`` are the places of those in ``block`` that count, all of them if None; ``runs`` are the others."""
        self.log_dir = log_dir
        self.block = block
        self.rows = rows
        self.runs = runs

    def __len__(self) -> int:
        """Count the runs."""
        return self._in_block + len(self.runs)

    @cached_property
    def _in_block(self) -> int:
        if self.block is None:
            return 0
        return len(self.block) if self.rows is None else len(self.rows)

    @cached_property
    def _order(self) -> list[int] | None:
        """Places in those of the block followed by the others; None where that is the order already."""
        if not self.runs:
            return None
        orders = [run.order for run in self.runs]
        if self.block is not None:
            ids, names = self._of_block(self.block.own("id").to_list()), self._of_block(self.block.names)
            orders = [*((one is None, one or 0, name) for one, name in zip(ids, names, strict=True)), *orders]
        return sorted(range(len(orders)), key=orders.__getitem__)

    def _of_block(self, values: Sequence[Any]) -> Sequence[Any]:
        return values if self.rows is None else [values[row] for row in self.rows]

    def _ordered(self, in_block: Sequence[Any], others: Sequence[Any]) -> Sequence[Any]:
        if self._order is None:
            return in_block
        every = [*in_block, *others]
        return [every[place] for place in self._order]

    @cached_property
    def names(self) -> Sequence[str]:
        """Names of the run folders."""
        names = [] if self.block is None else self._of_block(self.block.names)
        return self._ordered(names, [run.name for run in self.runs])

    def path(self, place: int) -> str:
        """Path of a run."""
        return f"{self.log_dir}/{self.names[place]}"

    def counted(self, which: str) -> list[tuple[Any, int]]:
        """Count ``config`` or ``info`` shapes, ``artifacts`` or ``logs``, in the order in which they appear.

        Thousands of runs share a handful, which makes their columns cheap to collect.
        """
        if not self.runs and self.rows is None:
            return [] if self.block is None else self.block.counted(which)
        in_block = [] if self.block is None else self._of_block(self.block.shared(which))
        objects = self._ordered(in_block, [_shared(run, which) for run in self.runs])
        them: dict[int, Any] = {id(one): one for one in objects}
        return [(them[key], count) for key, count in Counter(map(id, objects)).items()]

    @cached_property
    def problems(self) -> list[Problem]:
        """What is wrong with the metadata."""
        in_block = [] if self.block is None else self.block.problems(self.log_dir)
        if not self.runs and self.rows is None:
            return [problem for _, problem in in_block]
        by_place: dict[int, list[Problem]] = {}
        for place, problem in in_block:
            by_place.setdefault(place, []).append(problem)
        rows = range(self._in_block) if self.rows is None else self.rows
        each = self._ordered([by_place.get(row, ()) for row in rows], [run.problems for run in self.runs])
        return list(itertools.chain.from_iterable(each))

    def prepare(self, names: Iterable[str]) -> None:
        """Load what ``column`` needs for these, at once."""
        if self.block is not None:
            self.block.prepare_fields(names)

    def ids(self) -> pl.Series:
        """Column ``id``."""
        return self._column("id", "id", [run.id for run in self.runs], pl.Int64())

    def paths(self) -> pl.Series:
        """Column ``path``."""
        names = pl.Series("path", [valid_text(name) for name in self.names], dtype=pl.String)
        return pl.select(pl.lit(f"{valid_text(self.log_dir)}/") + names).to_series().alias("path")

    def statuses(self, name: str) -> pl.Series:
        """The column of statuses."""
        return self._column("status", name, [run.status for run in self.runs], pl.String())

    def artifacts(self, name: str, file: str, path: str) -> pl.Series:
        """A column of ``path`` in the run folder, null in runs without the artifact ``file`` (``<type>/<name>``)."""
        in_block = [] if self.block is None else self._of_block(self.block.shared("artifacts"))
        have = self._ordered([file in files for files in in_block], [file in run.artifacts for run in self.runs])
        folders = self.paths()
        mask = pl.Series(have, dtype=pl.Boolean)
        return pl.select(pl.when(mask).then(folders + f"/{valid_text(path)}")).to_series().alias(name)

    def fields(self, name: str, dtype: pl.DataType) -> pl.Series:
        """The column of a field. Raises SchemaChangedError where it cannot hold one of its values."""
        in_block = None if self.block is None else self.block.cells(name, dtype, self.rows)
        convert = conversions(dtype)
        cells = []
        for run in self.runs:
            kind, value = (run.config if name.startswith(_CONFIG) else run.info).named(name)
            if kind not in convert:
                raise changed(name, value, run.name, dtype)
            cells.append(convert[kind](value))
        return self._joined(name, in_block, cells, dtype)

    def _column(self, own: str, name: str, cells: list[Any], dtype: pl.DataType) -> pl.Series:
        in_block = None
        if self.block is not None:
            in_block = self.block.own(own)
            if self.rows is not None:
                in_block = in_block[self.rows]
        return self._joined(name, in_block, cells, dtype)

    def _joined(self, name: str, in_block: pl.Series | None, cells: list[Any], dtype: pl.DataType) -> pl.Series:
        if in_block is not None and not self.runs:
            return in_block.alias(name)
        column = pl.Series(name, cells, dtype=dtype)
        if in_block is not None:
            column = in_block.alias(name).append(column)
        return column[self._order] if self._order is not None else column


def _shared(run: RunRecord, which: str) -> FieldSchema | tuple[Any, ...]:
    if which in {"config", "info"}:
        shape: FieldSchema = getattr(run, which).shape
        return shape
    shared: tuple[Any, ...] = getattr(run, which)
    return shared

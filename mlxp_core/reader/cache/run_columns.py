"""Many runs as columns, which is what an index holds. Neither opens files nor looks at the clock.

A field of the runs is a column for each kind of value that they have there, as they have it, so nothing is converted
before it is asked for. What runs share (names of fields, of logs with their keys, of artifacts) stands in a table, and
the runs say by number which of it they have.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import polars as pl

from mlxp_core.errors import SchemaChangedError
from mlxp_core.reader.load.column_types import conversions
from mlxp_core.reader.load.fields import Fields, FieldSchema, Kind, valid_text
from mlxp_core.reader.load.problem import Problem
from mlxp_core.reader.load.record import RunRecord, Signature, interned

_OWN = {
    "name": pl.String,
    "id": pl.Int64,
    "status": pl.String,
    "problems": pl.String,  # JSON
    **dict.fromkeys(("config", "info", "artifacts", "logs"), pl.UInt32),  # numbers in the tables
    "fingerprint": pl.Int64,
}
_FIELD = "field "  # begins the name of a column of values; the kind and the name of the field follow
_PLAIN: Mapping[Kind, Any] = {"bool": pl.Boolean, "int": pl.Int64, "float": pl.Float64, "text": pl.String}
# gives columns of these names; several at a time, because each call takes its time
Load = Callable[[Sequence[str]], pl.DataFrame]


def fingerprint(signature: Signature) -> int:
    """Give 64 bits for a signature: the hash of whole numbers, which is the same in every process."""
    return hash(signature)


class CachedRun(NamedTuple):
    """A run as it was read, and how its folder stood before."""

    signature: Signature
    run: RunRecord


class Tables(NamedTuple):
    """What many runs share: names and kinds of fields; artifacts, and logs with their keys."""

    shapes: list[FieldSchema]
    tuples: list[Any]

    @property
    def plain(self) -> list[Any]:
        """The same for JSON."""
        return [[shape.items for shape in self.shapes], self.tuples]

    @classmethod
    def read(cls, plain: list[Any]) -> Tables:
        """Read ``plain``. Raises TypeError or ValueError for what is none."""
        shapes, tuples = plain
        return cls(
            [FieldSchema.of(_as_tuples(items)) for items in shapes], [interned(_as_tuples(one)) for one in tuples]
        )


class RunColumns:
    """Some runs of a log directory, ordered by id."""

    def __init__(self, columns: Mapping[str, pl.DataType], tables: Tables, load: Load) -> None:
        """``columns`` are those that ``load`` can give: ``Block.of`` and ``frame`` say which those are."""
        self.columns = columns
        self.tables = tables
        self._load = load
        self._loaded: dict[str, pl.Series] = {}
        self._cells: dict[tuple[str, pl.DataType], pl.Series] = {}
        self._kinds: dict[str, list[Kind]] = {}
        for column in columns:
            if column.startswith(_FIELD):
                kind, _, name = column.removeprefix(_FIELD).partition(" ")
                self._kinds.setdefault(name, []).append(kind)

    @classmethod
    def of(cls, runs: Iterable[CachedRun]) -> RunColumns:
        """Make columns of runs. Raises ValueError or TypeError for what no column holds."""
        settled = sorted(runs, key=lambda one: one.run.order)
        shapes: dict[FieldSchema, int] = {}
        tuples: dict[Any, int] = {}
        numbers = [
            (
                shapes.setdefault(run.config.shape, len(shapes)),
                shapes.setdefault(run.info.shape, len(shapes)),
                tuples.setdefault(run.artifacts, len(tuples)),
                tuples.setdefault(run.logs, len(tuples)),
            )
            for _, run in settled
        ]
        columns: dict[str, Sequence[Any]] = {
            "name": [run.name for _, run in settled],
            "id": [run.id for _, run in settled],
            "status": [run.status for _, run in settled],
            "problems": [_problems_text(run) for _, run in settled],
            "fingerprint": [fingerprint(signature) for signature, _ in settled],
        }
        columns |= zip(("config", "info", "artifacts", "logs"), zip(*numbers, strict=True), strict=True)
        series = [pl.Series(name, values, dtype=_OWN[name]) for name, values in columns.items()]
        for which in ("config", "info"):
            series += _field_columns([getattr(run, which) for _, run in settled])
        return cls.of_frame(pl.DataFrame(series), Tables(list(shapes), list(tuples)))

    @classmethod
    def of_frame(cls, frame: pl.DataFrame, tables: Tables) -> RunColumns:
        """The runs of a frame as ``frame`` gives it."""
        return cls(frame.schema, tables, frame.select)

    def joined(self, rows: Sequence[int] | None, other: RunColumns) -> RunColumns:
        """These runs (or some of them) and others, ordered by id."""
        shapes = {shape: place for place, shape in enumerate(self.tables.shapes)}
        tuples = {one: place for place, one in enumerate(self.tables.tuples)}
        at_shape = [shapes.setdefault(shape, len(shapes)) for shape in other.tables.shapes]
        at_tuple = [tuples.setdefault(one, len(tuples)) for one in other.tables.tuples]
        renumbered = [
            pl.Series(name, [at[number] for number in other.own(name)], dtype=pl.UInt32)
            for name, at in (("config", at_shape), ("info", at_shape), ("artifacts", at_tuple), ("logs", at_tuple))
        ]
        mine = self.frame if rows is None else self.frame[rows]
        frame = pl.concat([mine, other.frame.with_columns(renumbered)], how="diagonal")
        order = sorted(range(frame.height), key=list(map(_order, frame["id"], frame["name"])).__getitem__)
        return RunColumns.of_frame(frame[order], Tables(list(shapes), list(tuples)))

    def check(self) -> None:
        """Raise ValueError or LookupError where the columns are not those that ``frame`` gives."""
        expected = {
            **_OWN,
            **{_field_column(name, kind): _type_of(kind) for name in self._kinds for kind in self._kinds[name]},
        }
        if dict(self.columns) != expected:
            raise ValueError(f"columns {self.columns}")
        self.prepare(_OWN)
        for which in ("config", "info", "artifacts", "logs"):
            numbers = self.own(which)
            if numbers.null_count() or (len(numbers) and max(numbers) >= len(self._table(which))):
                raise ValueError(f"{which} numbers that no table has")

    @property
    def frame(self) -> pl.DataFrame:
        """All columns, to be written."""
        self.prepare(self.columns)
        return pl.DataFrame([self._loaded[name] for name in self.columns])

    def __len__(self) -> int:
        """Count the runs."""
        return len(self.names)

    @cached_property
    def names(self) -> list[str]:
        """Names of the run folders."""
        return self.own("name").to_list()

    @cached_property
    def fingerprints(self) -> dict[tuple[str, int], int]:
        """For each folder, and how it stood when it was read, its place here."""
        return {key: place for place, key in enumerate(zip(self.names, self.own("fingerprint"), strict=True))}

    def prepare(self, names: Iterable[str]) -> None:
        """Load these columns, those that are not loaded yet."""
        missing = [name for name in names if name not in self._loaded]
        if missing:
            self._loaded |= {column.name: column for column in self._load(missing)}

    def prepare_fields(self, names: Iterable[str]) -> None:
        """Load what ``cells`` needs for these fields."""
        self.prepare(_field_column(name, kind) for name in names for kind in self._kinds.get(name, ()))

    def own(self, name: str) -> pl.Series:
        """Give a column that is no field."""
        self.prepare([name])
        return self._loaded[name]

    def shared(self, which: str) -> list[Any]:
        """For each run its config or info shape, artifacts, or logs: the same object where runs share it."""
        table = self._table(which)
        return [table[number] for number in self.own(which)]

    def counted(self, which: str) -> list[tuple[Any, int]]:
        """What ``shared`` gives, each once with the number of runs, in the order in which they appear."""
        table = self._table(which)
        return [(table[number], count) for number, count in Counter(self.own(which).to_list()).items()]

    def _table(self, which: str) -> list[Any]:
        return self.tables.shapes if which in {"config", "info"} else self.tables.tuples

    def problems(self, log_dir: str) -> list[tuple[int, Problem]]:
        """What is wrong, each with the place of the run; the runs lie in ``log_dir`` now."""
        texts = self.own("problems")
        if texts.null_count() == len(texts):
            return []
        return [
            (place, Problem(valid_text(f"{log_dir}/{name}") + path, what))
            for place, (name, text) in enumerate(zip(self.names, texts, strict=True))
            if text
            for path, what in json.loads(text)
        ]

    def cells(self, name: str, dtype: pl.DataType, rows: Sequence[int] | None = None) -> pl.Series:
        """Give a field as a column of a type. Raises SchemaChangedError where it cannot hold one of its values."""
        cells = self._cells.get((name, dtype))
        if cells is not None:
            return cells if rows is None else cells[rows]
        parts = []
        for kind in self._kinds.get(name, ()):
            values = self.own(_field_column(name, kind))
            if rows is not None:
                values = values[rows]
            if values.null_count() < len(values):
                parts.append(self._converted(values, kind, name, dtype, rows))
        if not parts:
            return pl.repeat(None, len(self) if rows is None else len(rows), dtype=dtype, eager=True).alias(name)
        cells = parts[0] if len(parts) == 1 else pl.select(pl.coalesce(*parts)).to_series()
        cells = cells.alias(name)
        if rows is None:
            self._cells[name, dtype] = cells
        return cells

    def _converted(
        self, values: pl.Series, kind: Kind, name: str, dtype: pl.DataType, rows: Sequence[int] | None
    ) -> pl.Series:
        if _PLAIN.get(kind) == dtype:
            return values
        if kind == "int" and dtype == pl.Float64:
            return values.cast(pl.Float64)
        convert = conversions(dtype).get(kind)
        back = _same if kind in _PLAIN else json.loads
        if convert is None:
            place = values.is_not_null().arg_max() or 0
            folder = self.names[place if rows is None else rows[place]]
            raise changed(name, back(values[place]), folder, dtype)
        return pl.Series(
            values.name, [None if value is None else convert(back(value)) for value in values], dtype=dtype
        )


def _field_column(name: str, kind: Kind) -> str:
    return f"{_FIELD}{kind} {name}"


def _type_of(kind: Kind) -> Any:
    return _PLAIN.get(kind, pl.String)  # anything else is JSON


def _field_columns(fields: Sequence[Fields]) -> list[pl.Series]:
    """Give a column for each name and kind that any of the runs has a value of."""
    by_shape: dict[FieldSchema, list[int]] = {}
    for place, one in enumerate(fields):
        by_shape.setdefault(one.shape, []).append(place)
    columns: dict[tuple[str, Kind], list[Any]] = {}
    for shape, places in by_shape.items():
        alone = len(places) == len(fields)
        values = zip(*(fields[place].values for place in places), strict=True)
        for (name, kind), cells in zip(shape.items, values, strict=True):
            if kind == "null":
                continue
            if kind not in _PLAIN:
                cells = tuple(map(json.dumps, cells))  # noqa: PLW2901
            if alone:
                columns[name, kind] = list(cells)
                continue
            column = columns.get((name, kind))
            if column is None:
                column = columns[name, kind] = [None] * len(fields)
            for place, cell in zip(places, cells, strict=True):
                column[place] = cell
    return [
        pl.Series(_field_column(name, kind), cells, dtype=_type_of(kind)) for (name, kind), cells in columns.items()
    ]


def changed(name: str, value: object, folder: str, dtype: pl.DataType) -> SchemaChangedError:
    """The error of a value that the column cannot hold."""
    return SchemaChangedError(
        f"{name} is {value!r} in run {folder}, but the column was {dtype} when the frame was built: "
        "the directory has changed since, call scan_runs (or Reader.filter) again"
    )


def _same(value: Any) -> Any:
    return value


def _order(run_id: int | None, name: str) -> tuple[bool, int, str]:
    return run_id is None, run_id or 0, name


def _problems_text(run: RunRecord) -> str | None:
    home = valid_text(run.path)  # is left out: the log directory may be moved
    return json.dumps([[one.path.removeprefix(home), one.what] for one in run.problems]) if run.problems else None


def _as_tuples(value: Any) -> Any:
    return tuple(map(_as_tuples, value)) if isinstance(value, list) else value

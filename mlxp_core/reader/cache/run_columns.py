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
from mlxp_core.reader.load.record import Joins, RunRecord, Signature, interned, run_order

_RECORD_COLUMNS = {
    "name": pl.String,
    "id": pl.Int64,
    "status": pl.String,
    "problems": pl.String,  # JSON
    "joins": pl.String,  # JSON
    **dict.fromkeys(("config", "info", "artifacts", "logs"), pl.UInt32),  # positions in the shared tables
    "fingerprint": pl.Int64,
}
_FIELD = "field "  # begins the name of a column of values; the kind and the name of the field follow
_PLAIN: Mapping[Kind, Any] = {"bool": pl.Boolean, "int": pl.Int64, "float": pl.Float64, "text": pl.String}
# gives columns of these names; several at a time, because each call takes its time
LoadColumns = Callable[[Sequence[str]], pl.DataFrame]


def fingerprint(signature: Signature) -> int:
    """Give 64 bits for a signature: the hash of whole numbers, which is the same in every process."""
    return hash(signature)


class CachedRun(NamedTuple):
    """A run as it was read, and the signature that its folder had before."""

    signature: Signature
    run: RunRecord


class SharedTables(NamedTuple):
    """Tables of what many runs share: names and kinds of fields; artifacts, and logs with their keys."""

    schemas: list[FieldSchema]
    tuples: list[Any]

    def to_json(self) -> list[Any]:
        """Give lists that JSON can hold."""
        return [[schema.items for schema in self.schemas], self.tuples]

    @classmethod
    def from_json(cls, lists: list[Any]) -> SharedTables:
        """Read what ``to_json`` gave. Raises TypeError or ValueError for anything else."""
        schemas, tuples = lists
        return cls(
            [FieldSchema.of(_as_tuples(items)) for items in schemas], [interned(_as_tuples(items)) for items in tuples]
        )


class RunColumns:
    """Some runs of a log directory, ordered by id."""

    def __init__(self, dtypes: Mapping[str, pl.DataType], tables: SharedTables, load_columns: LoadColumns) -> None:
        """``dtypes``: name and type of each column that ``load_columns`` can give."""
        self.dtypes = dtypes
        self.tables = tables
        self._load_columns = load_columns
        self._loaded: dict[str, pl.Series] = {}
        self._fields: dict[tuple[str, pl.DataType], pl.Series] = {}
        self._kinds: dict[str, list[Kind]] = {}
        for column in dtypes:
            if column.startswith(_FIELD):
                kind, _, name = column.removeprefix(_FIELD).partition(" ")
                self._kinds.setdefault(name, []).append(kind)

    @classmethod
    def from_runs(cls, runs: Iterable[CachedRun]) -> RunColumns:
        """Make columns of runs. Raises ValueError or TypeError for what no column holds."""
        ordered = sorted(runs, key=lambda cached: cached.run.order)
        schemas: dict[FieldSchema, int] = {}
        tuples: dict[Any, int] = {}
        positions = [
            (
                schemas.setdefault(run.config.schema, len(schemas)),
                schemas.setdefault(run.info.schema, len(schemas)),
                tuples.setdefault(run.artifacts, len(tuples)),
                tuples.setdefault(run.logs, len(tuples)),
            )
            for _, run in ordered
        ]
        columns: dict[str, Sequence[Any]] = {
            "name": [run.name for _, run in ordered],
            "id": [run.id for _, run in ordered],
            "status": [run.status for _, run in ordered],
            "problems": [_problems_text(run) for _, run in ordered],
            "joins": [json.dumps(run.joins) if run.joins else None for _, run in ordered],
            "fingerprint": [fingerprint(signature) for signature, _ in ordered],
        }
        columns |= zip(("config", "info", "artifacts", "logs"), zip(*positions, strict=True), strict=True)
        series = [pl.Series(name, values, dtype=_RECORD_COLUMNS[name]) for name, values in columns.items()]
        for part in ("config", "info"):
            series += _field_columns([getattr(run, part) for _, run in ordered])
        return cls.from_frame(pl.DataFrame(series), SharedTables(list(schemas), list(tuples)))

    @classmethod
    def from_frame(cls, frame: pl.DataFrame, tables: SharedTables) -> RunColumns:
        """Take the runs of a frame that ``frame`` gave."""
        columns = cls(frame.schema, tables, frame.select)
        columns._loaded = {column.name: column for column in frame.get_columns()}
        return columns

    def merged(self, rows: Sequence[int] | None, other: RunColumns) -> RunColumns:
        """Join these runs, or those in ``rows``, with others, ordered by id."""
        schemas = {schema: position for position, schema in enumerate(self.tables.schemas)}
        tuples = {items: position for position, items in enumerate(self.tables.tuples)}
        new_schemas = [schemas.setdefault(schema, len(schemas)) for schema in other.tables.schemas]
        new_tuples = [tuples.setdefault(items, len(tuples)) for items in other.tables.tuples]
        moves = (("config", new_schemas), ("info", new_schemas), ("artifacts", new_tuples), ("logs", new_tuples))
        renumbered = [
            pl.Series(name, [positions[position] for position in other.column(name)], dtype=pl.UInt32)
            for name, positions in moves
        ]
        frame = self.frame if rows is None else self.frame[rows]
        frame = pl.concat([frame, other.frame.with_columns(renumbered)], how="diagonal")
        order = sorted(range(frame.height), key=list(map(run_order, frame["id"], frame["name"])).__getitem__)
        return RunColumns.from_frame(frame[order], SharedTables(list(schemas), list(tuples)))

    def validate(self) -> None:
        """Raise ValueError or LookupError where the columns are not those that ``frame`` gives."""
        expected = {
            **_RECORD_COLUMNS,
            **{_field_column(name, kind): _type_of(kind) for name in self._kinds for kind in self._kinds[name]},
        }
        if dict(self.dtypes) != expected:
            raise ValueError(f"columns {self.dtypes}")
        self.load(_RECORD_COLUMNS)
        for part in ("config", "info", "artifacts", "logs"):
            positions = self.column(part)
            if positions.null_count() or (len(positions) and max(positions) >= len(self._table(part))):
                raise ValueError(f"{part} numbers that no table has")

    @property
    def frame(self) -> pl.DataFrame:
        """All columns, to be written."""
        self.load(self.dtypes)
        return pl.DataFrame([self._loaded[name] for name in self.dtypes])

    def __len__(self) -> int:
        """Count the runs."""
        return len(self.names)

    @cached_property
    def names(self) -> list[str]:
        """Names of the run folders."""
        return self.column("name").to_list()

    @cached_property
    def row_of(self) -> dict[tuple[str, int], int]:
        """Row of each run, by the name of its folder and the fingerprint of that folder when it was read."""
        return {key: row for row, key in enumerate(zip(self.names, self.column("fingerprint"), strict=True))}

    def load(self, names: Iterable[str]) -> None:
        """Load those of these columns that are not loaded yet."""
        missing = [name for name in names if name not in self._loaded]
        if missing:
            self._loaded |= {column.name: column for column in self._load_columns(missing)}

    def load_fields(self, names: Iterable[str]) -> None:
        """Load what ``field`` needs for these fields."""
        self.load(_field_column(name, kind) for name in names for kind in self._kinds.get(name, ()))

    def column(self, name: str) -> pl.Series:
        """Give a column that is no field."""
        self.load([name])
        return self._loaded[name]

    def shared(self, part: str) -> list[Any]:
        """Give for each run the schema of its config or info, its artifacts, or its logs: one object where shared."""
        table = self._table(part)
        return [table[position] for position in self.column(part)]

    def count_shared(self, part: str) -> list[tuple[Any, int]]:
        """Count the runs for each object that ``shared`` gives, in the order in which these appear."""
        table = self._table(part)
        return [(table[position], count) for position, count in Counter(self.column(part).to_list()).items()]

    def _table(self, part: str) -> list[Any]:
        return self.tables.schemas if part in {"config", "info"} else self.tables.tuples

    def problems(self, log_dir: str) -> list[tuple[int, Problem]]:
        """Give the problems, each with the row of the run; the runs lie in ``log_dir`` now."""
        texts = self.column("problems")
        if texts.null_count() == len(texts):
            return []
        return [
            (row, Problem(valid_text(f"{log_dir}/{name}") + path, reason))
            for row, (name, text) in enumerate(zip(self.names, texts, strict=True))
            if text
            for path, reason in json.loads(text)
        ]

    @cached_property
    def joins(self) -> dict[int, Joins]:
        """How the logs of runs go on from earlier attempts, by the row of the run."""
        texts = self.column("joins")
        if texts.null_count() == len(texts):
            return {}
        return {row: _as_tuples(json.loads(text)) for row, text in enumerate(texts) if text}

    def field(self, name: str, dtype: pl.DataType, rows: Sequence[int] | None = None) -> pl.Series:
        """Give a field as a column of a type. Raises SchemaChangedError where it cannot hold one of its values."""
        cells = self._fields.get((name, dtype))
        if cells is not None:
            return cells if rows is None else cells[rows]
        parts = []
        for kind in self._kinds.get(name, ()):
            values = self.column(_field_column(name, kind))
            if rows is not None:
                values = values[rows]
            if values.null_count() < len(values):
                parts.append(self._converted(values, kind, name, dtype, rows))
        if not parts:
            return pl.repeat(None, len(self) if rows is None else len(rows), dtype=dtype, eager=True).alias(name)
        cells = parts[0] if len(parts) == 1 else pl.select(pl.coalesce(*parts)).to_series()
        cells = cells.alias(name)
        if rows is None:
            self._fields[name, dtype] = cells
        return cells

    def _converted(
        self, values: pl.Series, kind: Kind, name: str, dtype: pl.DataType, rows: Sequence[int] | None
    ) -> pl.Series:
        if _PLAIN.get(kind) == dtype:
            return values
        if kind == "int" and dtype == pl.Float64:
            return values.cast(pl.Float64)
        convert = conversions(dtype).get(kind)
        decode = _same if kind in _PLAIN else json.loads
        if convert is None:
            index = values.is_not_null().arg_max() or 0
            folder = self.names[index if rows is None else rows[index]]
            raise schema_changed(name, decode(values[index]), folder, dtype)
        return pl.Series(
            values.name, [None if value is None else convert(decode(value)) for value in values], dtype=dtype
        )


def _field_column(name: str, kind: Kind) -> str:
    return f"{_FIELD}{kind} {name}"


def _type_of(kind: Kind) -> Any:
    return _PLAIN.get(kind, pl.String)  # anything else is JSON


def _field_columns(fields: Sequence[Fields]) -> list[pl.Series]:
    """Give a column for each name and kind that any of the runs has a value of."""
    rows_of: dict[FieldSchema, list[int]] = {}
    for row, run_fields in enumerate(fields):
        rows_of.setdefault(run_fields.schema, []).append(row)
    columns: dict[tuple[str, Kind], list[Any]] = {}
    for schema, rows in rows_of.items():
        shared_by_all = len(rows) == len(fields)
        values = zip(*(fields[row].values for row in rows), strict=True)
        for (name, kind), cells in zip(schema.items, values, strict=True):
            if kind == "null":
                continue
            if kind not in _PLAIN:
                cells = tuple(map(json.dumps, cells))  # noqa: PLW2901
            if shared_by_all:
                columns[name, kind] = list(cells)
                continue
            column = columns.get((name, kind))
            if column is None:
                column = columns[name, kind] = [None] * len(fields)
            for row, cell in zip(rows, cells, strict=True):
                column[row] = cell
    return [
        pl.Series(_field_column(name, kind), cells, dtype=_type_of(kind)) for (name, kind), cells in columns.items()
    ]


def schema_changed(name: str, value: object, folder: str, dtype: pl.DataType) -> SchemaChangedError:
    """Make the error for a value that the column cannot hold."""
    return SchemaChangedError(
        f"{name} is {value!r} in run {folder}, but the column was {dtype} when the frame was built: "
        "the directory has changed since, call scan_runs (or Reader.filter) again"
    )


def _same(value: Any) -> Any:
    return value


def _problems_text(run: RunRecord) -> str | None:
    if not run.problems:
        return None
    home = valid_text(run.path)  # is left out: the log directory may be moved
    return json.dumps([[problem.path.removeprefix(home), problem.what] for problem in run.problems])


def _as_tuples(value: Any) -> Any:
    return tuple(map(_as_tuples, value)) if isinstance(value, list) else value

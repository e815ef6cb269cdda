"""Results as MLXP has them: a list of runs, each a mapping of columns to values; metrics are read when asked for.

A map is a tuple of a function, the columns that it is given, and, if one likes, the columns that it makes. All results
are new frames; those that they are made of stay as they are.
"""

from __future__ import annotations

import os
from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, Mapping, Sequence
from typing import Any

from mlxp_core.mlxp.data_structures.artifacts import Artifact
from mlxp_core.mlxp.errors import InvalidKeyError, InvalidMapError
from mlxp_core.reader.frame.artifact import Artifact as SavedArtifact
from mlxp_core.reader.frame.scan_runs import load_lines
from mlxp_core.reader.load.attempts import parts_of
from mlxp_core.reader.load.metrics import to_float
from mlxp_core.reader.load.problem import Problems
from mlxp_core.reader.load.run import artifact_path
from mlxp_core.runs.artifact_listing import artifact_files

LAZYDATA = "METRIC"  # stands for the values of a metric
LAZYARTIFACT = "ARTIFACT"  # and for the artifacts of a folder

Map = tuple[Any, ...]
Maps = Map | list[Map]
_Calls = list[tuple[Callable[..., Any], tuple[str, ...], tuple[str, ...]]]
_NOT_FINITE = {"NaN", "Infinity", "-Infinity"}  # as our metric files have what JSON has no token for
_PER_COLUMN = {"Columnwise", "Pointwise"}
_MAP_TYPES = ("Generic", "Columnwise", "Rowwise", "Pointwise")


class DataDict(Mapping[str, Any]):
    """The columns of one run, or of one row of a result."""

    def __init__(
        self,
        flattened_dict: Mapping[str, Any],
        parent_dir: str | None = None,
        metrics: Mapping[str, tuple[str, str]] | None = None,
    ) -> None:
        """``parent_dir`` is the run's folder, where LAZYDATA and LAZYARTIFACT stand for what is read from it.

        ``metrics``: log and key of a metric's column, where they are not what its first dot parts.
        """
        self._values = dict(flattened_dict)
        self.parent_dir = parent_dir
        self._metrics = metrics or {}
        self._read: dict[str, dict[str, list[Any]]] = {}  # by log, what has been read

    def __getitem__(self, key: str) -> Any:
        """Give a value; of a metric the list of those that its lines have."""
        value = self._values[key]
        if self.parent_dir is not None and isinstance(value, str):
            if value == LAZYDATA:
                return self._metric(self.parent_dir, key)
            if value == LAZYARTIFACT:
                return _artifacts(self.parent_dir, key)
        return value

    def __iter__(self) -> Iterator[str]:
        """Go through the columns."""
        return iter(self._values)

    def __len__(self) -> int:
        """Count the columns."""
        return len(self._values)

    def __repr__(self) -> str:
        """Show what is there without reading metrics."""
        return repr(self._values)

    def keys(self) -> KeysView[str]:
        """Give the columns."""
        return self._values.keys()

    def flattened(self) -> dict[str, Any]:
        """Give all values, LAZYDATA for metrics."""
        return dict(self._values)

    def update(self, new_dict: Mapping[str, Any]) -> None:
        """Add columns, or replace them."""
        self._values.update(new_dict)

    def copied(self, more: Mapping[str, Any]) -> DataDict:
        """Give a copy with more columns."""
        return DataDict({**self._values, **more}, self.parent_dir, self._metrics)

    def free(self) -> None:
        """Keep what has been read no longer."""
        self._read.clear()

    def _metric(self, run: str, column: str) -> list[Any]:
        log_name, key = self._metrics.get(column) or tuple(column.partition(".")[::2])
        if log_name not in self._read:
            self._read[log_name] = _load_log(run, log_name)
        return self._read[log_name].get(key, [])


class DataFrame(list[DataDict]):
    """Runs, or rows of a result. ``frame["train.loss"]`` is a column, a value a row, and ``frame[0]`` a row."""

    def __init__(self, iterable: Iterable[DataDict] = ()) -> None:
        """Take rows."""
        super().__init__(iterable)

    def __getitem__(self, index: Any) -> Any:
        """Give a row, the rows of a slice, or the values of a column. Raises KeyError where a row lacks it."""
        if isinstance(index, str):
            return [row[index] for row in self]
        return DataFrame(super().__getitem__(index)) if isinstance(index, slice) else super().__getitem__(index)

    def __repr__(self) -> str:
        """Show it as pandas does."""
        return str(self.toPandas())

    def _repr_html_(self) -> str:
        """Show it as pandas does in a notebook."""
        html: str = self.toPandas()._repr_html_()
        return html

    def keys(self) -> list[str]:
        """Give the columns that some row has."""
        return list(dict.fromkeys(key for row in self for key in row))

    def diff(self, start_key: str = "config") -> list[str]:
        """Give the columns, of those that start so, whose values differ from those of the first row."""
        rows = list(self)
        columns = [key for key in self.keys() if key.startswith(start_key)]
        absent = object()
        return [key for key in columns if any(row.get(key, absent) != rows[0].get(key, absent) for row in rows[1:])]

    def toPandas(self, lazy: bool = True) -> Any:  # noqa: FBT001, FBT002, N802
        """Give a pandas DataFrame; ``lazy``: with LAZYDATA in the place of metrics."""
        import pandas as pd  # noqa: PLC0415  (an extra)

        return pd.DataFrame([row.flattened() if lazy else dict(row.items()) for row in self])

    def merge(self, new_df: Sequence[Mapping[str, Any]]) -> DataFrame:
        """Give the rows with the columns of those of another frame, one by one."""
        return DataFrame(row.copied(dict(more)) for row, more in zip(self, new_df, strict=True))

    def groupby(self, group_keys: str | list[str]) -> GroupedDataFrame:
        """Group by the values of columns. Raises InvalidKeyError for a column that no row has."""
        keys = [group_keys] if isinstance(group_keys, str) else list(group_keys)
        columns = set(self.keys())
        if unknown := [key for key in keys if key not in columns]:
            raise InvalidKeyError(f"there is no column {', '.join(unknown)}; there are {', '.join(sorted(columns))}")
        groups: dict[tuple[Any, ...], DataFrame] = {}
        for row in self:
            values = row.flattened()
            groups.setdefault(tuple(_hashable(values.get(key)) for key in keys), DataFrame()).append(row)
        return GroupedDataFrame(keys, groups)

    groupBy = groupby  # noqa: N815

    def aggregate(self, maps: Maps) -> DataFrame:
        """Give one row: each function is called with the list of a column's values, for each of its columns."""
        calls = _calls(maps, "Columnwise")
        return DataFrame([DataDict(_of_columns(self, calls))])

    def transform(self, maps: Maps) -> DataFrame:
        """Give as many rows: each function is called with the list of a column's values, and gives a list."""
        return self._of_equal_length(_of_columns(self, _calls(maps, "Columnwise")), "transform")

    def map(self, maps: Maps) -> DataFrame:
        """Give as many rows: each function is called with each value of its columns."""
        return self.apply(maps, "Pointwise")

    def apply(self, maps: Maps, map_type: str = "Generic") -> DataFrame:
        """Apply functions.

        ``map_type``: Pointwise, as ``map``; Columnwise, as ``transform`` or ``aggregate``; Rowwise, called with the
        values of a row; Generic, called with the lists of its columns' values, and giving as many rows, or one.
        """
        calls = _calls(maps, map_type)
        if map_type in {"Pointwise", "Rowwise"}:
            return DataFrame(DataDict(_of_row(row, calls, map_type)) for row in self)
        made = _of_columns(self, calls) if map_type == "Columnwise" else _of_all(self, calls)
        return self._rows(made) or DataFrame([DataDict(made)])

    def filter(self, filter_map: Maps, bygroups: str | list[str] | None = None) -> DataFrame:
        """Give the rows for which a function of columns' values gives true; ``bygroups``: called for each group."""
        if bygroups:
            filtered: DataFrame = self.groupby(bygroups).filter(filter_map).ungroup()
            return filtered
        calls = _calls(filter_map, "Generic")
        made = _of_all(self, calls)
        if len(made) != 1:
            raise InvalidMapError("a filter is one function, which gives true or false for each row")
        (chosen,) = made.values()
        if _length(chosen) != len(self):
            raise InvalidMapError(
                f"a filter gives true or false for each row: this one gave {chosen!r} for {len(self)}"
            )
        return DataFrame(row for row, is_chosen in zip(self, chosen, strict=True) if bool(is_chosen))

    def sort(self, by: str | list[str], ascending: bool = True) -> DataFrame:  # type: ignore[override]  # noqa: FBT001, FBT002
        """Give the rows sorted by columns."""
        keys = [by] if isinstance(by, str) else by
        return DataFrame(sorted(self, key=lambda row: tuple(row[key] for key in keys), reverse=not ascending))

    def _rows(self, made: Mapping[str, Any]) -> DataFrame | None:
        """Give a row for each of the values, where they are as many as the rows; None where they are fewer."""
        is_list = {_length(values) == len(self) for values in made.values()}
        if is_list == {True, False}:
            raise InvalidMapError(f"some maps give a value for each row and some do not: {', '.join(made)}")
        if is_list != {True}:
            return None
        return DataFrame(DataDict({key: values[row] for key, values in made.items()}) for row in range(len(self)))

    def _of_equal_length(self, made: Mapping[str, Any], method: str) -> DataFrame:
        rows = self._rows(made)
        if rows is None:
            raise InvalidMapError(f"{method} needs a value for each of {len(self)} rows: aggregate takes one for all")
        return rows


class GroupedDataFrame:
    """Frames by the values of the columns that they are grouped by. Its methods are those of each frame."""

    def __init__(self, group_keys: list[str], grouped_dict: Mapping[tuple[Any, ...], Any]) -> None:
        """``grouped_dict``: the values of the columns, and the frame of the rows that have them."""
        self.group_keys = group_keys
        self.grouped_dict = dict(grouped_dict)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        """Go through the groups."""
        return iter(self.grouped_dict)

    def __len__(self) -> int:
        """Count the groups."""
        return len(self.grouped_dict)

    def __getitem__(self, key: Any) -> Any:
        """Give the frame of a group."""
        return self.grouped_dict[key if isinstance(key, tuple) else (key,)]

    def __repr__(self) -> str:
        """Show it as pandas does."""
        return str(self.toPandas())

    def items(self) -> ItemsView[tuple[Any, ...], Any]:
        """Give groups and frames."""
        return self.grouped_dict.items()

    def keys(self) -> KeysView[tuple[Any, ...]]:
        """Give the groups."""
        return self.grouped_dict.keys()

    def ungroup(self) -> Any:
        """Give one frame of all rows, with the columns that they were grouped by."""
        if any(isinstance(frame, GroupedDataFrame) for frame in self.grouped_dict.values()):
            return GroupedDataFrame(self.group_keys, {key: frame.ungroup() for key, frame in self.items()})
        return DataFrame(
            row.copied(dict(zip(self.group_keys, key, strict=True))) for key, frame in self.items() for row in frame
        )

    def toPandas(self, lazy: bool = True) -> Any:  # noqa: FBT001, FBT002, N802
        """Give a pandas DataFrame with an index of the groups."""
        import pandas as pd  # noqa: PLC0415

        frames = [frame.toPandas(lazy=lazy) for frame in self.grouped_dict.values()]
        return pd.concat(frames, keys=self.grouped_dict.keys(), names=self.group_keys).sort_index(axis=0)

    def select(self, key_list: Iterable[tuple[Any, ...]]) -> GroupedDataFrame:
        """Give the groups of a list."""
        chosen = set(key_list)
        return GroupedDataFrame(self.group_keys, {key: frame for key, frame in self.items() if key in chosen})

    def aggregate(self, maps: Maps, ungroup: bool = False) -> Any:  # noqa: FBT001, FBT002
        """Aggregate each group to a row."""
        return self._each(lambda frame: frame.aggregate(maps), ungroup)

    def apply(self, maps: Maps, map_type: str = "Generic", ungroup: bool = False) -> Any:  # noqa: FBT001, FBT002
        """Apply functions to each group."""
        return self._each(lambda frame: frame.apply(maps, map_type), ungroup)

    def transform(self, maps: Maps, ungroup: bool = False) -> Any:  # noqa: FBT001, FBT002
        """Transform the columns of each group."""
        return self._each(lambda frame: frame.transform(maps), ungroup)

    def map(self, maps: Maps, ungroup: bool = False) -> Any:  # noqa: FBT001, FBT002
        """Map the values of each group."""
        return self._each(lambda frame: frame.map(maps), ungroup)

    def filter(self, filter_map: Maps, bygroups: str | list[str] | None = None, ungroup: bool = False) -> Any:  # noqa: FBT001, FBT002
        """Filter the rows of each group; ``bygroups``: of the groups by these columns instead."""
        if not bygroups:
            return self._each(lambda frame: frame.filter(filter_map), ungroup)
        filtered = self.ungroup().groupby(bygroups).filter(filter_map, ungroup=True)
        return filtered if ungroup else filtered.groupby(self.group_keys)

    def sort(self, by: str | list[str], ascending: bool = True, ungroup: bool = False) -> Any:  # noqa: FBT001, FBT002
        """Sort the rows of each group."""
        return self._each(lambda frame: frame.sort(by, ascending), ungroup)

    def groupby(self, group_keys: str | list[str]) -> GroupedDataFrame:
        """Group each group again."""
        return GroupedDataFrame(self.group_keys, {key: frame.groupby(group_keys) for key, frame in self.items()})

    groupBy = groupby  # noqa: N815

    def _each(self, change: Callable[[Any], Any], ungroup: bool) -> Any:  # noqa: FBT001
        changed = GroupedDataFrame(self.group_keys, {key: change(frame) for key, frame in self.items()})
        return changed.ungroup() if ungroup else changed


def _calls(maps: Maps, map_type: str) -> _Calls:
    """Give function, columns and names of what it makes, of each map. Raises InvalidMapError for what is none."""
    if map_type not in _MAP_TYPES:
        raise InvalidMapError(f"map_type={map_type!r}: it is one of {', '.join(_MAP_TYPES)}")
    calls: _Calls = []
    for given in maps if isinstance(maps, list) else [maps]:
        match given:
            case (function, inputs) if callable(function):
                outputs: Any = None
            case (function, inputs, outputs) if callable(function):
                pass
            case _:
                raise InvalidMapError(f"a map is a tuple of a function, its columns and, perhaps, names: not {given!r}")
        inputs = (inputs,) if isinstance(inputs, str) else tuple(inputs)
        if outputs is None:
            name = getattr(function, "__name__", type(function).__name__)
            outputs = inputs if map_type in _PER_COLUMN else ("_".join(inputs),)
            outputs = tuple(f"f{name}.{column}" for column in outputs)
        outputs = (outputs,) if isinstance(outputs, str) else tuple(outputs)
        if map_type in _PER_COLUMN and len(outputs) != len(inputs):
            raise InvalidMapError(f"{len(inputs)} columns make {len(inputs)} others: not {', '.join(outputs)}")
        calls.append((function, inputs, outputs))
    return calls


def _of_columns(frame: DataFrame, calls: _Calls) -> dict[str, Any]:
    columns = _columns(frame, calls)
    return {
        output: function(columns[column])
        for function, inputs, outputs in calls
        for column, output in zip(inputs, outputs, strict=True)
    }


def _of_all(frame: DataFrame, calls: _Calls) -> dict[str, Any]:
    columns = _columns(frame, calls)
    made: dict[str, Any] = {}
    for function, inputs, outputs in calls:
        made |= _named(function(*(columns[column] for column in inputs)), outputs)
    return made


def _of_row(row: DataDict, calls: _Calls, map_type: str) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for function, inputs, outputs in calls:
        if map_type == "Pointwise":
            made |= {output: function(row[column]) for column, output in zip(inputs, outputs, strict=True)}
        else:
            made |= _named(function(*(row[column] for column in inputs)), outputs)
    row.free()
    return made


def _columns(frame: DataFrame, calls: _Calls) -> dict[str, list[Any]]:
    """Read the columns that are needed, run by run, and nothing longer than that."""
    names = dict.fromkeys(name for _, inputs, _ in calls for name in inputs)
    columns: dict[str, list[Any]] = {name: [] for name in names}
    for row in frame:
        for name in names:
            columns[name].append(row[name])
        row.free()
    return columns


def _named(made: Any, outputs: tuple[str, ...]) -> dict[str, Any]:
    values = made if isinstance(made, tuple) else (made,)
    if len(values) != len(outputs):
        raise InvalidMapError(f"a map gave {len(values)} values for {len(outputs)} columns: {', '.join(outputs)}")
    return dict(zip(outputs, values, strict=True))


def _length(values: Any) -> int | None:
    try:
        return len(values)
    except TypeError:  # a number
        return None


def _hashable(value: Any) -> Any:
    return tuple(map(_hashable, value)) if isinstance(value, list) else value


def _load_log(run: str, log_name: str) -> dict[str, list[Any]]:
    """Give the values of each key, of those lines that have it."""
    lines = load_lines(run, log_name, Problems(), parts_of(run, log_name))
    values: dict[str, list[Any]] = {}
    for row in () if lines is None else lines.rows:
        for key, value in row.items():
            is_marked = isinstance(value, str) and value in _NOT_FINITE
            values.setdefault(key, []).append(to_float(value) if is_marked else value)
    return values


def artifact_columns(run: str) -> list[str]:
    """Give a column for each folder of artifacts of a type, as MLXP calls it: ``artifact.pickle.``, ``….epochs``."""
    return list(dict.fromkeys(_artifact_column(name)[0] for name in artifact_files(run).names))


def _artifact_column(file: str) -> tuple[str, str]:
    kind, _, name = file.partition("/")
    folder, _, base = name.rpartition("/")
    return f"artifact.{kind}.{'.' + folder.replace('/', '.') if folder else ''}", base


def _artifacts(run: str, column: str) -> dict[str, Artifact]:
    found = {}
    for file in artifact_files(run).names:
        name, base = _artifact_column(file)
        if name == column:
            kind, path = file.partition("/")[0], f"{run}/{artifact_path(file)}"
            found[base] = Artifact(base, os.path.dirname(path), _loader(kind, base))  # noqa: PTH120
    return found


def _loader(kind: str, name: str) -> Callable[[str], Any]:
    return lambda path: SavedArtifact(kind, name, path).load()

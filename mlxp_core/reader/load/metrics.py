"""Read metric files and the lists of their keys."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from mlxp_core.atomic_files import load_bytes
from mlxp_core.reader.load.fields import text_of, valid_text
from mlxp_core.reader.load.file_cache import FileCache
from mlxp_core.runs.digest import joined_kind
from mlxp_core.runs.layout import RunDir
from mlxp_core.yaml_io import read_yaml

# names of the layout, relative to a run, as text: building Path objects for 10,000 runs takes longer than the stats
_METRICS = os.fspath(RunDir(Path()).metrics)
_KEYS = os.fspath(RunDir(Path()).metric_keys)
_SUFFIX = RunDir(Path()).metric_file("log").suffix

_SEPARATOR_TEXT = "-- next line --"
_SEPARATOR = json.dumps(_SEPARATOR_TEXT).encode()

# what a writer puts where JSON has no token
_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}

_HEAD_BYTES = 4096  # some tens of lines
_HEAD_LINES = 20

_MAX_CACHED_KEYS = 10_000
_cached_keys: dict[tuple[tuple[str, str], ...], tuple[tuple[str, str], ...]] = {}


@dataclass(frozen=True)
class Keys:
    """Keys of one metric file, in the order in which they appeared, each with what it holds (see KEY_KINDS)."""

    kinds: tuple[tuple[str, str], ...]
    problem: str | None = None
    from_lines: bool = False  # taken from the metric file itself, for want of a list


@dataclass(frozen=True)
class Lines:
    """Lines of one metric file that could be read, and how many could not."""

    rows: Sequence[Mapping[str, Any]]
    garbage: int = 0
    numbers: Sequence[int] | None = None  # of the lines, from 1, where some were left out
    # where the lines are of several files: the path of each, and in which line of it they begin, and how many they are
    files: Sequence[tuple[str, int, int]] = ()

    def strays(self, key: str) -> list[int]:
        """Give the indices of the rows whose value a column of numbers has no place for."""
        values = (row.get(key) for row in self.rows)
        return [index for index, value in enumerate(values) if value is not None and to_float(value) is None]

    def line_number(self, index: int) -> int:
        """Give the number, from 1, of the line of a row, among all lines."""
        return index + 1 if self.numbers is None else self.numbers[index]

    def place(self, index: int) -> tuple[str | None, int]:
        """Give the file of a row, None for the run's own, and the number of its line there."""
        number = self.line_number(index)
        for path, begin, count in self.files:
            if number <= count:
                return path, begin + number - 1
            number -= count
        return None, number

    def column(self, key: str, *, numeric: bool) -> list[Any] | None:
        """Give one value a line: null where the line lacks the key; None for a key that no line has.

        A file without any line says nothing against the key, so there it is an empty list. ``numeric``: floats, and
        null for what is no number; otherwise text.
        """
        values = [row.get(key) for row in self.rows]
        types = set(map(type, values))
        if types == {type(None)} and not any(key in row for row in self.rows):
            return None
        if numeric and types <= {float, type(None)}:
            return values
        convert = to_float if numeric else _text
        return [convert(value) for value in values]


def read_lines(content: bytes) -> Lines:
    """Read one JSON object a line; pure.

    A last line without its newline is left out: it is being written, or was when the machine died. Any other line
    that is no JSON object counts as garbage; blank ones do not.
    """
    lines = content.split(b"\n")[:-1]
    objects = _objects(lines)
    if objects is not None:
        return Lines(objects)
    rows, numbers, garbage = [], [], 0
    for number, line in enumerate(lines, start=1):
        row = _object(line)
        if row is not None:
            rows.append(row)
            numbers.append(number)
        elif line.strip():
            garbage += 1
    return Lines(rows, garbage, numbers)


def _objects(lines: Sequence[bytes]) -> list[dict[str, Any]] | None:
    """Parse all lines at once, which takes a third of the time; None if any of them is not one JSON object.

    No line holds the separator, so if every second element is one, then each line is exactly one element: broken lines
    that only together are JSON would have a separator inside an element.
    """
    text = b",".join(line + b"," + _SEPARATOR for line in lines)
    if text.count(_SEPARATOR) != len(lines):
        return None
    try:
        elements = json.loads(f"[{text.decode('utf-8')}]")
    except (ValueError, RecursionError):
        return None
    rows, separators = elements[::2], elements[1::2]
    if len(elements) != 2 * len(lines) or any(separator != _SEPARATOR_TEXT for separator in separators):
        return None
    return rows if all(isinstance(row, dict) for row in rows) else None


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):  # not JSON, not UTF-8, a number of 5,000 digits; brackets 1,000 deep
        return None
    return row if isinstance(row, dict) else None


def to_float(value: object) -> float | None:
    """Convert a metric value to a float; None for what is no number."""
    if isinstance(value, float):
        return value
    if isinstance(value, int):
        try:
            return float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf  # as of 1e400
    return _NOT_FINITE.get(value) if isinstance(value, str) else None


def _text(value: object) -> str | None:
    return valid_text(value) if isinstance(value, str) else text_of(value)


@lru_cache(maxsize=1000)  # thousands of runs have the same list, byte by byte
def read_keys(content: bytes) -> Keys:
    """Read one ``["key", "number" or "other"]`` a line; pure. A key said to be both is mixed."""
    kinds: dict[str, str] = {}
    garbage = 0
    for line in content.split(b"\n")[:-1]:
        match _array(line):
            case [str(key), "number" | "other" as kind]:
                kinds[key] = joined_kind(kinds.get(key), kind)
            case _:
                garbage += 1
    return Keys(_interned(kinds), skipped_lines(garbage, "[key, type]") if garbage else None)


def skipped_lines(count: int, what: str) -> str:
    """Describe lines that were left out because they are no ``what``."""
    return f"1 line is no {what} and was skipped" if count == 1 else f"{count} lines are no {what} and were skipped"


def _array(line: bytes) -> object:
    try:
        return json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        return None


def infer_keys(lines: Lines) -> Keys:
    """Take the keys from the lines themselves."""
    found: dict[str, str | None] = {}
    for row in lines.rows:
        for key, value in row.items():
            found[key] = found.get(key) if value is None else joined_kind(found.get(key), _kind(value))
    kinds = {key: kind or "number" for key, kind in found.items()}
    # with keys there is a column, and whoever reads it hears of the garbage
    problem = skipped_lines(lines.garbage, "JSON object") if lines.garbage and not kinds else None
    return Keys(_interned(kinds), problem, from_lines=True)


def _kind(value: object) -> str:
    return "other" if to_float(value) is None else "number"


def _interned(kinds: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Share the tuple among runs: the keys are the same in every run of a sweep."""
    items = tuple(kinds.items())
    if len(_cached_keys) > _MAX_CACHED_KEYS:
        _cached_keys.clear()
    return _cached_keys.setdefault(items, items)


def metric_path(run: str, log_name: str) -> str:
    """Give the path of a run's metric file."""
    return f"{run}/{_METRICS}/{log_name}{_SUFFIX}"


def keys_path(run: str, log_name: str) -> str:
    """Give the path of the list of the keys in a run's metric file."""
    return f"{run}/{_KEYS}/{log_name}{_SUFFIX}"


def list_logs(run: str) -> tuple[list[str], list[str]]:
    """Give the names of a run's logs, sorted, and of those that are no files; none without a folder. Raises OSError."""
    names: list[str] = []
    others: list[str] = []
    try:
        with os.scandir(f"{run}/{_METRICS}") as entries:
            for entry in entries:
                if entry.name.endswith(_SUFFIX) and not entry.name.startswith("."):
                    (names if _is_file(entry) else others).append(entry.name.removesuffix(_SUFFIX))
    except (FileNotFoundError, NotADirectoryError):
        pass
    return sorted(names), sorted(others)


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link that leads round in a circle
        return False


def load_keys(run: str, log_name: str) -> Keys:
    """Give the keys of a metric file, without reading all of it if the writer left a list of them.

    Raises OSError where neither can be read.
    """
    keys = _keys_files.get(keys_path(run, log_name))
    if keys is None or keys == Keys(()):  # cut to nothing by a crash, perhaps
        keys = _mlxp_keys(run, log_name) or _metric_files.get(metric_path(run, log_name))
    return keys or Keys(())


def _mlxp_keys(run: str, log_name: str) -> Keys | None:
    """Take names from MLXP's list, which is YAML and has no types, and types from the first lines.

    None where there is no such list, or those lines do not show all of the keys.
    """
    names = _mlxp_keys_files.get(f"{run}/{_KEYS}/{log_name}.yaml")
    if names is None:
        return None
    head = _heads.get(metric_path(run, log_name)) or Keys(())
    types = dict(head.kinds)
    return Keys(_interned({name: types[name] for name in names})) if types.keys() >= set(names) else None


def read_head(content: bytes) -> Keys:
    """Give the keys with a value in the first of these lines, up to one that shows no other; pure."""
    kinds: dict[str, str] = {}
    for line in content.split(b"\n", _HEAD_LINES)[:-1]:
        known_count = len(kinds)
        for key, value in (_object(line) or {}).items():
            if value is not None:
                kinds[key] = joined_kind(kinds.get(key), _kind(value))
        if kinds and len(kinds) == known_count:
            break
    return Keys(_interned(kinds))


@lru_cache(maxsize=1000)  # thousands of runs have the same list, byte by byte
def read_mlxp_keys(content: bytes) -> tuple[str, ...] | None:
    """Read MLXP's list of keys, a mapping of each to nothing; None for anything else. Pure; nothing is executed."""
    try:
        return tuple(str(key) for key in read_yaml(content.decode("utf-8"), Path("keys")))
    except Exception:  # noqa: BLE001  (what PyYAML's constructors raise: see load/run.py)
        return None


def load_content(run: str, log_name: str) -> bytes | None:
    """Read a metric file up to its last newline; None where there is none. Raises OSError."""
    try:
        content = load_bytes(metric_path(run, log_name))
    except (FileNotFoundError, NotADirectoryError):
        return None
    return content[: content.rfind(b"\n") + 1]


def _keys_cache(read: Callable[[bytes], Keys]) -> FileCache[Keys]:
    return FileCache(lambda path: read(load_bytes(path)))


_keys_files = _keys_cache(read_keys)
_metric_files = _keys_cache(lambda content: infer_keys(read_lines(content)))
_mlxp_keys_files = FileCache(lambda path: read_mlxp_keys(load_bytes(path)))
_heads = FileCache(lambda path: read_head(load_bytes(path, most=_HEAD_BYTES)))

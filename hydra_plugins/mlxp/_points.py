"""Explicit sets of overrides, ``hydra.sweeper.points``: given as they are, or in a YAML or CSV file."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mlxp_core.errors import ConfigurationError
from mlxp_core.sweeps.axes import Axis

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*", re.ASCII)
_NO_TEXT = {"null", "true", "false", "nan", "inf"}


def load_points(given: Any, directory: Path, parser: OverridesParser) -> list[Axis]:
    """The axis of these points, if there are any. Raises ConfigurationError for what is none, with its place."""
    if given is None:
        return []
    option = source = "hydra.sweeper.points"
    if isinstance(given, str):
        path = directory / Path(given).expanduser()
        source, given = str(path), _read(path)
    if not isinstance(given, list) or not given:
        raise ConfigurationError(f"{source} holds no list of points, but {given!r}")
    points = [_point(point, f"{source}, point {number}", parser) for number, point in enumerate(given, start=1)]
    keys = dict.fromkeys(override.get_key_element() for point in points for override in point)
    steps = tuple(tuple(str(override.input_line) for override in point) for point in points)
    return [Axis(tuple(keys), steps, f"in {option}")]


def _read(path: Path) -> Any:
    try:
        if path.suffix in {".yaml", ".yml"}:
            # as Hydra reads its own: 1e-3 is a number
            with path.open(encoding="utf-8") as file:
                return OmegaConf.to_container(OmegaConf.load(file), resolve=False)
        if path.suffix == ".csv":
            with path.open(encoding="utf-8-sig", newline="") as file:
                rows = csv.DictReader(file, skipinitialspace=True)
                _check_header([key.strip() for key in rows.fieldnames or []], path)
                return [_row(row, path, rows.line_num) for row in rows]
    except (OSError, ValueError, OmegaConfBaseException, yaml.YAMLError, csv.Error) as error:
        raise ConfigurationError(f"the points {path} (hydra.sweeper.points) cannot be read: {error}") from error
    raise ConfigurationError(f"hydra.sweeper.points={path}: a file of points is a .yaml or a .csv")


def _check_header(keys: Sequence[str], path: Path) -> None:
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice or "" in keys:
        fault = f"{twice[0]!r} twice" if twice and twice[0] else "a column without a name"
        raise ConfigurationError(
            f"{path} has {fault} in its first row: {', '.join(map(repr, keys))}; it holds a key for each column"
        )
    if len(keys) == 1 and ";" in keys[0]:
        raise ConfigurationError(f"{path}: the cells of {keys[0]!r} must be separated by commas, not by semicolons")


def _row(row: Mapping[Any, Any], path: Path, line: int) -> list[str]:
    """Make overrides of a row: a cell holds the text behind the =, an empty one leaves its key as it is."""
    if None in row or None in row.values():
        cells = [cell for cell in row.values() if isinstance(cell, str)] + list(row.get(None, []))
        raise ConfigurationError(f"{path}, line {line}: another number of cells than in the first row: {cells}")
    return [f"{key.strip()}={cell.strip()}" for key, cell in row.items() if cell.strip()]


def _point(given: Any, where: str, parser: OverridesParser) -> list[Override]:
    lines: Iterable[str]
    if isinstance(given, dict):
        lines = [f"{key}={in_grammar(value)}" for key, value in given.items()]
    elif isinstance(given, list) and all(isinstance(line, str) for line in given):
        lines = given
    else:
        raise ConfigurationError(f"{where} is neither a mapping nor a list of overrides: {given!r}")
    try:
        overrides: Sequence[Override] = parser.parse_overrides(list(lines))
    except HydraException as error:
        raise ConfigurationError(f"{where}: {error}") from error
    for override in overrides:
        if override.is_sweep_override():
            raise ConfigurationError(f"{where}: {override.input_line} has several values; quote it if it is one")
    return list(overrides)


def in_grammar(value: Any) -> str:
    """Write a plain value as Hydra's override grammar has it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(map(in_grammar, value))}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{in_grammar(key)}:{in_grammar(item)}" for key, item in value.items()) + "}"
    text = str(value)
    if not isinstance(value, str) or (_WORD.fullmatch(text) and text.lower() not in _NO_TEXT):
        return text
    quoted: str = QuotedString(text=text, quote=Quote.single).with_quotes()
    return quoted

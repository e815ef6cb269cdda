"""Read a metric file back, for the handle of its own run; readers of log directories have the reader."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

# what metrics.py writes where JSON has no number; a text of the user's that spells the same is taken for it
_NOT_FINITE = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


def load_columns(path: Path) -> dict[str, list[Any]]:
    """Give a list for each key, all as long as there are lines; None where a line lacks the key.

    A line that is still being written, and one that was cut short, are left out. Raises FileNotFoundError.
    """
    rows = []
    garbage = 0
    for line in path.read_bytes().split(b"\n")[:-1]:
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if isinstance(row, dict):
            rows.append(row)
        elif line.strip():
            garbage += 1
    if garbage:
        log.warning("%s: lines that are no JSON objects are left out: %d", path, garbage)
    keys = dict.fromkeys(key for row in rows for key in row)
    return {key: [_value(row.get(key)) for row in rows] for key in keys}


def _value(value: Any) -> Any:
    if isinstance(value, str):
        return _NOT_FINITE.get(value, value)
    if isinstance(value, list):
        return [_value(item) for item in value]
    if isinstance(value, dict):
        return {key: _value(item) for key, item in value.items()}
    return value

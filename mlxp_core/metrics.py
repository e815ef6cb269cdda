"""Metric files: one JSON object a line. The only module that writes them.

Strict JSON: NaN and the infinities, which JSON has no number for, are written as the strings ``"NaN"``, ``"Infinity"``
and ``"-Infinity"``. A line is one write of a whole line, so every call that returned has reached the operating
system and outlives the process, however that ends.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from typing import Any

from mlxp_core.errors import MetricsError
from mlxp_core.layout import RunDir

Metrics = Mapping[str, Any]

_APPEND = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
_NUMBERS = (int, float)


def _plain(value: object) -> object:
    """Turn what JSON has no word for into what it has: scalars and arrays of numpy, torch, jax."""
    for method in ("item", "tolist"):  # item: a scalar; of an array with several values it raises ValueError
        convert = getattr(value, method, None)
        if convert is not None:
            try:
                return convert()
            except (ValueError, RuntimeError):  # RuntimeError is what torch says of a tensor with several values
                continue
    raise TypeError(f"{value!r} of type {type(value).__name__} is neither a number nor a string")


_encode = json.JSONEncoder(allow_nan=False, default=_plain).encode


def encode_line(metrics: Metrics) -> bytes:
    r"""One call's metrics as one line of strict JSON.

    >>> encode_line({"loss": float("nan"), "step": 3})
    b'{"loss": "NaN", "step": 3}\n'
    """
    try:
        return (_encode(metrics) + "\n").encode()
    except (ValueError, TypeError):  # a non-finite number, a key that is no string, a Mapping that is no dict
        return (_encode({str(key): _finite(value) for key, value in metrics.items()}) + "\n").encode()


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float):
        if math.isnan(value):
            return "NaN"
        return float(value) if math.isfinite(value) else ("Infinity" if value > 0 else "-Infinity")
    if value is None or isinstance(value, (str, int)):
        return value
    return _finite(_plain(value))


def type_of(value: object) -> str:
    """``number`` or ``other``: which column type a reader gives the key."""
    if isinstance(value, _NUMBERS):
        return "number"
    if isinstance(value, (str, bytes, dict, list, tuple)):
        return "other"
    return type_of(_plain(value))


class MetricsFile:
    """Appends to ``metrics/<log_name>.json`` of one run; a forked child may as well, whole lines stay whole."""

    __slots__ = ("_fd", "_keys_fd", "_known", "path")

    def __init__(self, run: RunDir, log_name: str) -> None:
        """Open or create the file; what is there already stays."""
        if not log_name or log_name != os.path.basename(log_name) or log_name.startswith("."):  # noqa: PTH119
            raise MetricsError(f"log_name={log_name!r} cannot name a file: use letters, digits, '_', '-' and '.'")
        self.path = run.metric_file(log_name)
        self._known: set[str] = set()
        run.metric_keys.mkdir(parents=True, exist_ok=True)
        self._keys_fd = os.open(run.metric_keys_file(log_name), _APPEND, 0o666)
        self._fd = os.open(self.path, _APPEND, 0o666)
        end = self.size()
        if end and os.pread(self._fd, 1, end - 1) != b"\n":
            os.write(self._fd, b"\n")  # a line that a full disk cut short must not swallow the next one

    def append(self, metrics: Metrics) -> None:
        """Write one line; once this has returned, the line outlives the process."""
        line = encode_line(metrics)
        if not metrics.keys() <= self._known:
            self._learn(metrics)
        if os.write(self._fd, line) != len(line):
            raise MetricsError(f"{self.path}: the disk took only a part of a line; is it full?")

    def size(self) -> int:
        """Bytes in the file."""
        return os.fstat(self._fd).st_size

    def close(self) -> None:
        """Close the files; everything is on disk already."""
        os.close(self._fd)
        os.close(self._keys_fd)

    def _learn(self, metrics: Metrics) -> None:
        # before the line itself: a reader that knows a key with no line yet is right, the reverse is not
        # None has no type: the key is learnt with its first value
        new = {key: type_of(value) for key, value in metrics.items() if key not in self._known and value is not None}
        os.write(self._keys_fd, "".join(json.dumps([str(key), kind]) + "\n" for key, kind in new.items()).encode())
        self._known.update(new)

"""Write metric files: one JSON object a line.

Strict JSON: NaN and the infinities, which JSON has no number for, are written as the strings ``"NaN"``, ``"Infinity"``
and ``"-Infinity"``. A line is one write of a whole line, so every call that returned has reached the operating
system and outlives the process, however that ends.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any, NoReturn, Protocol

from mlxp_core.atomic_files import take_back
from mlxp_core.errors import MetricsError, MetricsTypeError
from mlxp_core.plain_values import PlainValueError, spell_key, to_metric, unwrap
from mlxp_core.runs.digest import announce

Metrics = Mapping[str, Any]

_NUMBERS = (int, float)
_OTHERS = (str, bytes, dict, list, tuple)


def _encoder() -> Callable[[Any], str]:
    """What JSONEncoder.encode does, with the parts that it makes anew at each call (0.7 of 1.7 µs) made once."""
    slow = json.JSONEncoder(allow_nan=False, default=unwrap)
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:  # not CPython
        return slow.encode
    chunks = make(
        markers=None,  # a structure that contains itself is a RecursionError
        default=unwrap,
        encoder=json.encoder.encode_basestring_ascii,
        indent=None,
        key_separator=slow.key_separator,
        item_separator=slow.item_separator,
        sort_keys=False,
        skipkeys=False,
        allow_nan=False,
    )
    return lambda value: "".join(chunks(value, 0))


_encode = _encoder()


def encode_line(metrics: Metrics) -> bytes:
    r"""Encode one call's metrics as one line of strict JSON.

    >>> encode_line({"loss": float("nan"), "step": 3})
    b'{"loss": "NaN", "step": 3}\n'
    """
    try:
        return (_encode(metrics) + "\n").encode()
    except (ValueError, TypeError, RecursionError):  # a non-finite number, a key that is no string, a Mapping, a cycle
        # not to_metric(metrics): two keys of one spelling are MetricsFile's to refuse
        return (_encode({spell_key(key): to_metric(value) for key, value in metrics.items()}) + "\n").encode()


@cache
def line_encoder() -> Callable[[Metrics], bytes]:
    """Give ``encode_line``, or where orjson is installed what writes lines with the same values in a tenth of the time.

    Spaces, escapes and exponents may differ. Called with the first line and not at the start of a run: it imports.
    """
    try:
        import orjson  # noqa: PLC0415
    except ImportError:
        return encode_line
    dumps = orjson.dumps
    # as json has it: no words for a date or a dataclass, and subclasses of str or dict by their own rules
    options = (
        orjson.OPT_APPEND_NEWLINE
        | orjson.OPT_PASSTHROUGH_DATACLASS
        | orjson.OPT_PASSTHROUGH_DATETIME
        | orjson.OPT_PASSTHROUGH_SUBCLASS
    )

    alike = {float, int, str, bool, type(None), dict, list, tuple}  # types that both write in the same way

    def encode(metrics: Metrics) -> bytes:
        try:
            if not alike.issuperset(map(type, metrics.values())):
                kinds = set(map(type, metrics.values()))
                if any(issubclass(kind, Enum) or kind.__module__ == "uuid" for kind in kinds):  # no option leaves these
                    return encode_line(metrics)
                alike.update(kinds)
            line = dumps(metrics, unwrap, options)
        except TypeError:  # an integer of more than 64 bits, a lone surrogate, a key that is no string, a Mapping
            return encode_line(metrics)
        # which it writes for a number that is not finite, too
        return line if line.find(b"null") < 0 else encode_line(metrics)

    return encode


def type_of(value: object) -> str | None:
    """Return ``number`` or ``other``, the kind of column that a reader makes of the key; None for a missing value."""
    if value is None:
        return None
    if isinstance(value, _NUMBERS):
        return "number"
    if isinstance(value, _OTHERS):
        return "other"
    return type_of(unwrap(value))


def text_log_name(log_name: object) -> str:
    """Give the text of a log's name that is of a subclass of str. Raises MetricsTypeError for anything else."""
    if isinstance(log_name, str):
        return str.__str__(log_name)
    hint = (
        'write run.log_metrics({"loss": 0.1}, log_name="train"), the metrics first'
        if isinstance(log_name, Mapping)
        else f"write log_name={str(log_name)!r}"
    )
    raise MetricsTypeError(f"log_name={log_name!r} is no text but {type(log_name).__name__}: {hint}")


def refuse_half_a_line(descriptor: int, written: int, path: Path) -> NoReturn:
    """Take back what a disk has taken of a line, or it would swallow the next one. Raises MetricsError."""
    take_back(descriptor, written)
    raise MetricsError(f"{path}: the disk took only a part of a line; is it full?")


class LogFiles(Protocol):
    """The folder that a log's file and the list of its keys lie in."""

    def path_of(self, name: str) -> Path:
        """Give the path of a log's file, for messages."""

    def open_file(self, name: str) -> int:
        """Open or make the file of one log, to append to it, and give the descriptor."""

    def add_keys(self, name: str, kinds: Mapping[str, str]) -> None:
        """Add keys, with their types, to the list of one log."""


class MetricsFile:
    """Appends to ``metrics/<log_name>.json`` of one run; a forked child may as well, whole lines stay whole.

    There is no close(): the descriptor goes with the last reference. Another thread that is about to write has one, so
    that its line never gets into whatever file is opened next under the same number.
    """

    __slots__ = ("_descriptor", "_encode", "_folder", "_keys", "_known", "_name", "path")

    def __init__(self, folder: LogFiles, name: str, known: dict[str, str]) -> None:
        """Open or make the file; what is in it already stays. ``known`` are the keys that its list has from here."""
        self._folder, self._name, self.path = folder, name, folder.path_of(name)
        self._encode = line_encoder()
        self._known = known  # the type recorded for a key; "other" is final
        self._keys = set(known)  # the same keys, for a quick look
        self._descriptor = fd = folder.open_file(name)
        end = os.fstat(fd).st_size
        if end and os.pread(fd, 1, end - 1) != b"\n":
            os.write(fd, b"\n")  # a line that a full disk cut short must not swallow the next one

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        """Close the file; every line is on disk already."""
        fd = getattr(self, "_descriptor", None)
        if fd is not None:
            close(fd)

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled or copied: the descriptor would be a number of another file."""
        raise TypeError(f"the open file {self.path} cannot be pickled: pickle the run, which opens its files again")

    def append(self, metrics: Metrics) -> None:
        """Write one line; once this has returned, the line outlives the process."""
        if type(metrics) is not dict and not isinstance(metrics, Mapping):
            raise self._not_a_mapping(metrics)
        try:
            line = self._encode(metrics)
        except TypeError as error:
            raise self._refusal(metrics, error) from None
        # a line of known keys and of numbers, which most are, has no quotes but those of its keys, and no array
        plain = line.count(b'"') == 2 * len(metrics) and line.find(b"[") < 0  # quicker than `in`
        if not self._keys.issuperset(metrics) or (not plain and self._type_changed(metrics)):
            self._record_keys(metrics)
        try:
            written = os.write(self._descriptor, line)
        except OSError as error:
            error.filename = str(self.path)  # a full disk's does not say
            raise
        if written != len(line):
            refuse_half_a_line(self._descriptor, written, self.path)

    def replaced(self) -> bool:
        """Return True where another file is in its place: ``continue_from`` of another process has put it there."""
        return os.fstat(self._descriptor).st_nlink == 0

    def _type_changed(self, metrics: Metrics) -> bool:
        """Return True where a key that was a number holds something else; of many lines, so no value is converted."""
        return any(
            # an array has dimensions, a scalar of numpy or torch has none
            (isinstance(value, _OTHERS) or getattr(value, "ndim", None)) and self._known[key] == "number"
            for key, value in metrics.items()
        )

    def _record_keys(self, metrics: Metrics) -> None:
        # before the line itself: a reader that knows a key with no line yet is right, the reverse is not
        # None has no type: the key is learnt with its first value
        kinds = {key: kind for key, value in self._spelled(metrics).items() if (kind := type_of(value)) is not None}
        new = {key: kind for key, kind in kinds.items() if self._known.get(key) not in {kind, "other"}}
        self._folder.add_keys(self._name, new)
        self._known.update(new)
        self._keys.update(new)  # text alone: a key that is none is looked at each time
        if new:
            announce(self.path.parent)

    def _spelled(self, metrics: Metrics) -> dict[str, object]:
        """Spell the keys as they are in the line, which two of them must not share."""
        spelled: dict[str, object] = {}
        keys: dict[str, object] = {}
        for key, value in metrics.items():
            name = spell_key(key)
            if name in spelled:
                raise MetricsError(
                    f"log {self.path.stem!r}: the keys {keys[name]!r} and {key!r} are both written {name!r}: "
                    "rename one of them"
                )
            spelled[name], keys[name] = value, key
        return spelled

    def _not_a_mapping(self, metrics: object) -> MetricsTypeError:
        log_name = self.path.stem
        shown = repr(metrics) if isinstance(metrics, (int, float)) else "…"
        return MetricsTypeError(
            f"log_metrics takes a mapping of names to values, not {type(metrics).__name__}: "
            f'write run.log_metrics({{"{log_name}": {shown}}}, log_name={log_name!r})'
        )

    def _refusal(self, metrics: Metrics, error: TypeError) -> MetricsTypeError:
        """Name the value that cannot be written, with its key and log."""
        for key, value in metrics.items():
            try:
                to_metric(value)
            except PlainValueError as reason:
                reason.path.insert(0, key)
                return MetricsTypeError(
                    f"{reason.place('metrics')} of log {self.path.stem!r}: {reason}; write a number, a text, or lists "
                    "and mappings of these: float(x), str(x), sorted(x)"
                )
        return MetricsTypeError(f"log {self.path.stem!r}: {error}")

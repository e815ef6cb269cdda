"""Read digests of runs, as far as they still hold.

See mlxp_core.runs.digest for their contents. A digest is only an offer: whatever is wrong with it, the answer is None,
and the YAML and the folders are read instead.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from mlxp_core.atomic_files import checksum, load_bytes, stamp_at
from mlxp_core.reader.load.fields import FieldLayout, read_fields
from mlxp_core.reader.load.info_fields import SUBMISSION_KEYS
from mlxp_core.reader.load.record import KEY_KINDS, SCALARS, Document, Logs, Signature, interned
from mlxp_core.runs.digest import VERSION
from mlxp_core.runs.layout import RunDir

_HOME = RunDir(Path())
_DIGEST = os.fspath(_HOME.digest)
_SUBMISSION = os.fspath(_HOME.submission)
_ARTIFACTS = os.fspath(_HOME.artifacts)
_FILES = {"config": os.fspath(_HOME.config), "info": os.fspath(_HOME.info)}
_SHARED_LINES = 4
_FACTS = frozenset(SUBMISSION_KEYS)
_MAX_BYTES = 1 << 24
_parse = json.JSONDecoder().raw_decode


class _ValueLayout(NamedTuple):
    """Positions of the values in the list that a digest has of one document."""

    fields: FieldLayout
    pick: Callable[[list[Any]], tuple[Any, ...]]  # takes the values of the fields out of the list
    size: int  # of the list
    raw: tuple[tuple[str, int], ...]  # keys whose values are wanted as they are
    claimed_twice: tuple[str, ...]


class Digest:
    """The digest of one run."""

    def __init__(self, path: str, entries: dict[str, Any], shared: Sequence[str], *, ascii_only: bool) -> None:
        """``entries`` is the first line, parsed, ``shared`` the others; ``ascii_only``: the first line is ASCII."""
        self._path = path
        self._entries = entries
        self._config, self._info, self._logs, self._artifacts = shared
        self._ascii_only = ascii_only

    @property
    def unscripted(self) -> bool:
        """True if there is no script.sh, so that there is neither a submission nor an exit code."""
        return self._entries.get("script") is False

    def document(
        self, part: str, stamp: Signature, raw_keys: tuple[str, ...] = (), hidden: str = ""
    ) -> Document | None:
        """Give ``config`` or ``info``, whose file has ``stamp`` now; None if the digest is of another file.

        ``raw_keys`` are keys whose values are given as they are, too; ``hidden`` is one that becomes no field.
        """
        try:
            entry = self._entries[part]
            # elsewhere than where it was written, after a copy, the stamps are others
            written = entry["stamp"]
            if written != [*stamp] and (written[1] != stamp[1] or entry["checksum"] != self._checksum(part)):
                return None
            layout = _layout(part, self._info if part == "info" else self._config, raw_keys, hidden)
            values = entry["values"]
            if type(values) is not list or len(values) != layout.size:
                return None
            fields = layout.fields.fields(layout.pick(values), ascii_only=self._ascii_only)
            raw = {key: values[index] for key, index in layout.raw if isinstance(values[index], SCALARS)}
            if layout.claimed_twice:
                return Document.of(f"{self._path}/{_FILES[part]}", fields, raw, layout.claimed_twice)
            return Document(fields, raw)
        except (LookupError, TypeError, ValueError, AttributeError, OSError, RecursionError):
            return None

    def _checksum(self, part: str) -> str:
        return checksum(load_bytes(f"{self._path}/{_FILES[part]}"))

    def submission(self) -> Document | None:
        """Give submission.yaml, without fields; None where the file has changed since."""
        try:
            entry = self._entries["submission"]
            facts = entry["facts"]
            # a digest of an earlier version lacks some
            if not facts.keys() >= _FACTS or entry["stamp"] != [*stamp_at(f"{self._path}/{_SUBMISSION}")]:
                return None
            return Document(raw={key: value for key, value in facts.items() if isinstance(value, SCALARS)})
        except (LookupError, TypeError, AttributeError, OSError):
            return None

    def logs(self, stamp: Signature) -> Logs | None:
        """Give the logs and their keys; None unless the folder ``metrics``, which has ``stamp`` now, is unchanged."""
        try:
            return _logs(self._logs) if self._entries["metrics"] == [*stamp] else None
        except (LookupError, TypeError, ValueError, RecursionError):
            return None

    def artifacts(self, stamp: Signature) -> tuple[str, ...] | None:
        """Give the artifacts; None unless ``artifacts``, which has ``stamp`` now, and its folders are unchanged."""
        try:
            folders = self._entries["artifacts"]
            for folder, written in folders:
                if written != [*(stamp if folder == _ARTIFACTS else stamp_at(f"{self._path}/{folder}"))]:
                    return None
            return _artifacts(self._artifacts) if folders else None
        except (LookupError, TypeError, ValueError, OSError, RecursionError):
            return None


def load_digest(path: str, name: str, folder: int) -> Digest | None:
    """Read the digest of the run ``name`` at ``path``, in the log directory that is open as ``folder``.

    None where there is none, or none that is whole.
    """
    try:
        content = load_bytes(f"{name}/{_DIGEST}", folder=folder, most=_MAX_BYTES)
        first, *shared, end = content.decode("utf-8").split("\n")
        entries = _parse(first)[0]
    except (OSError, ValueError, RecursionError):
        return None
    if end or len(shared) != _SHARED_LINES or type(entries) is not dict or entries.get("version") != VERSION:
        return None
    return Digest(path, entries, shared, ascii_only="\\" not in first and first.isascii())


@lru_cache(maxsize=1000)  # thousands of runs have the same
def _layout(prefix: str, text: str, raw_keys: tuple[str, ...], hidden: str) -> _ValueLayout:
    counter = itertools.count()
    indices = _numbered(json.loads(text), counter)
    raw = tuple((key, indices[key]) for key in raw_keys if type(indices.get(key)) is int)
    indices.pop(hidden, None)
    fields, claimed_twice = read_fields(prefix, indices)
    names = [name for name, _ in fields.schema.items]
    size = next(counter)
    if fields.values == tuple(range(size)):
        pick: Any = tuple
    elif len(names) > 1:
        pick = itemgetter(*fields.values)
    else:  # of one index itemgetter would give the bare value
        pick = lambda values: tuple(values[index] for index in fields.values)  # noqa: E731
    return _ValueLayout(FieldLayout(names), pick, size, raw, tuple(claimed_twice))


def _numbered(form: dict[str, Any], counter: Iterator[int]) -> dict[str, Any]:
    """Number the values, in the order in which the digest lists them. Raises AttributeError for what is no mapping."""
    return {key: next(counter) if value is None else _numbered(value, counter) for key, value in form.items()}


@lru_cache(maxsize=1000)
def _logs(text: str) -> Logs:
    logs = tuple(
        (_checked(name, str), tuple((_checked(key, str), _checked_kind(kind)) for key, kind in keys))
        for name, keys in json.loads(text)
    )
    return interned(logs)


def _checked_kind(kind: Any) -> str:
    if kind is True:  # as it was spelt at first; false was said both of what is mixed and of what is not
        return "number"
    if kind not in KEY_KINDS:
        raise ValueError(f"{kind!r} is no kind of a key")
    return str(kind)


@lru_cache(maxsize=1000)
def _artifacts(text: str) -> tuple[str, ...]:
    return interned(tuple(_checked(name, str) for name in json.loads(text)))


def _checked(value: Any, expected: type) -> Any:
    if type(value) is not expected:
        raise ValueError(f"{value!r} is no {expected}")
    return value

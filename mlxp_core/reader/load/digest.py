"""The digest of a run: what it may be asked for, and whether that still holds. The only module that opens digests.

See mlxp_core.runs.digest for what one says. A digest is only an offer: whatever is wrong with it, the answer is None,
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
from mlxp_core.reader.load.record import SCALARS, Document, Logs, Signature, interned
from mlxp_core.runs.digest import VERSION
from mlxp_core.runs.layout import RunDir

_HOME = RunDir(Path())
_DIGEST = os.fspath(_HOME.digest)
_SUBMISSION = os.fspath(_HOME.submission)
_ARTIFACTS = os.fspath(_HOME.artifacts)
_FILES = {"config": os.fspath(_HOME.config), "info": os.fspath(_HOME.info)}
_SHARED = 4  # lines
_MOST = 1 << 24  # bytes
_parse = json.JSONDecoder().raw_decode


class _Form(NamedTuple):
    form: FieldLayout
    pick: Callable[[list[Any]], tuple[Any, ...]]  # the values of the fields, of those in the digest
    size: int  # how many these are
    facts: tuple[tuple[str, int], ...]
    claimed_twice: tuple[str, ...]


class Digest:
    """The digest of one run."""

    def __init__(self, path: str, own: dict[str, Any], shared: Sequence[str], *, ascii_only: bool) -> None:
        """``own`` is the first line, parsed, ``shared`` the others. ``ascii_only``: in all of the text of ``own``."""
        self._path = path
        self._own = own
        self._config, self._info, self._logs, self._artifacts = shared
        self._ascii_only = ascii_only

    @property
    def unscripted(self) -> bool:
        """Whether there is no script.sh, so that no scheduler and no exit code have anything to say."""
        return self._own.get("script") is False

    def document(self, part: str, stamp: Signature, facts: tuple[str, ...] = (), hidden: str = "") -> Document | None:
        """Give what ``config`` or ``info`` holds, which stands as ``stamp`` says; None if that is not known here.

        ``facts`` are keys whose values are given as they are, too; ``hidden`` is one that becomes no field.
        """
        try:
            said = self._own[part]
            # elsewhere than where it was written, after a copy, the stamps are others
            if said["stamp"] != [*stamp] and (said["stamp"][1] != stamp[1] or said["checksum"] != self._checksum(part)):
                return None
            form = _form(part, self._info if part == "info" else self._config, facts, hidden)
            values = said["values"]
            if type(values) is not list or len(values) != form.size:
                return None
            fields = form.form.fields(form.pick(values), ascii_only=self._ascii_only)
            its_facts = {name: values[place] for name, place in form.facts if isinstance(values[place], SCALARS)}
            if form.claimed_twice:
                return Document.of(f"{self._path}/{_FILES[part]}", fields, its_facts, form.claimed_twice)
            return Document(fields, its_facts)
        except (LookupError, TypeError, ValueError, AttributeError, OSError, RecursionError):
            return None

    def _checksum(self, part: str) -> str:
        return checksum(load_bytes(f"{self._path}/{_FILES[part]}"))

    def submission(self) -> Document | None:
        """Give what submission.yaml says, where it stands as it did; without fields."""
        try:
            said = self._own["submission"]
            if said["stamp"] != [*stamp_at(f"{self._path}/{_SUBMISSION}")]:
                return None
            return Document(facts={name: fact for name, fact in said["facts"].items() if isinstance(fact, SCALARS)})
        except (LookupError, TypeError, AttributeError, OSError):
            return None

    def logs(self, stamp: Signature) -> Logs | None:
        """Give the logs and their keys, where ``metrics`` stands as ``stamp`` says."""
        try:
            return _logs(self._logs) if self._own["metrics"] == [*stamp] else None
        except (LookupError, TypeError, ValueError, RecursionError):
            return None

    def artifacts(self, stamp: Signature) -> tuple[str, ...] | None:
        """Give the artifacts, where ``artifacts`` stands as ``stamp`` says, and the folders in it as they did."""
        try:
            folders = self._own["artifacts"]
            for folder, at in folders:
                if at != [*(stamp if folder == _ARTIFACTS else stamp_at(f"{self._path}/{folder}"))]:
                    return None
            return _artifacts(self._artifacts) if folders else None
        except (LookupError, TypeError, ValueError, OSError, RecursionError):
            return None


def load_digest(path: str, name: str, folder: int) -> Digest | None:
    """Read the digest of the run ``name`` at ``path``, in the log directory that is open as ``folder``.

    None where there is none, or nothing whole.
    """
    try:
        content = load_bytes(f"{name}/{_DIGEST}", folder=folder, most=_MOST)
        first, *shared, end = content.decode("utf-8").split("\n")
        own = _parse(first)[0]
    except (OSError, ValueError, RecursionError):
        return None
    if end or len(shared) != _SHARED or type(own) is not dict or own.get("version") != VERSION:
        return None
    return Digest(path, own, shared, ascii_only="\\u" not in first and first.isascii())


@lru_cache(maxsize=1000)  # thousands of runs have the same
def _form(prefix: str, text: str, facts: tuple[str, ...], hidden: str) -> _Form:
    numbers = itertools.count()
    form = _numbered(json.loads(text), numbers)
    places = tuple((name, form[name]) for name in facts if type(form.get(name)) is int)
    form.pop(hidden, None)
    fields, claimed_twice = read_fields(prefix, form)
    names = [name for name, _ in fields.shape.items]
    count = next(numbers)
    if fields.values == tuple(range(count)):
        pick: Any = tuple
    elif len(names) > 1:
        pick = itemgetter(*fields.values)
    else:  # of one place itemgetter would give the bare value
        pick = lambda values: tuple(values[place] for place in fields.values)  # noqa: E731
    return _Form(FieldLayout(names), pick, count, places, tuple(claimed_twice))


def _numbered(form: dict[str, Any], numbers: Iterator[int]) -> dict[str, Any]:
    """Number the values, in the order in which the digest lists them. Raises AttributeError for what is no mapping."""
    return {key: next(numbers) if one is None else _numbered(one, numbers) for key, one in form.items()}


@lru_cache(maxsize=1000)
def _logs(text: str) -> Logs:
    logs = tuple(
        (_checked(name, str), tuple((_checked(key, str), _checked(numeric, bool)) for key, numeric in keys))
        for name, keys in json.loads(text)
    )
    return interned(logs)


@lru_cache(maxsize=1000)
def _artifacts(text: str) -> tuple[str, ...]:
    return interned(tuple(_checked(name, str) for name in json.loads(text)))


def _checked(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise ValueError(f"{value!r} is no {kind}")
    return value

"""The digest of a run: what it may be asked for, and whether that still holds. The only module that opens digests.

See mlxp_core.digest for what one says. A digest is only an offer: whatever is wrong with it, the answer is None, and
the YAML and the folders are read instead.
"""

from __future__ import annotations

import json
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from mlxp_core.files import NOT_THERE, checksum, stamp_of
from mlxp_core.layout import RunDir
from mlxp_core.reader.record import Logs, interned

_DIGEST = os.fspath(RunDir(Path()).digest)
_ARTIFACTS = os.fspath(RunDir(Path()).artifacts)
_VERSION = 1
_MOST = 1 << 24  # bytes

Stamp = tuple[int, ...]


class Digest:
    """The digest of one run."""

    def __init__(self, content: dict[str, Any]) -> None:
        """``content`` as it was parsed; anything may be in it."""
        self._content = content

    def mapping(self, part: str, stamp: Stamp, path: str) -> dict[str, Any] | None:
        """Give what the YAML file at ``path`` holds, which stands as ``stamp`` says; None if that is not known here."""
        try:
            said = self._content[part]
            holds = said["holds"]
            # elsewhere than where it was written, after a copy, the stamps are others
            same = said["stamp"] == [*stamp] or (said["stamp"][1] == stamp[1] and said["checksum"] == _checksum(path))
        except (LookupError, TypeError, OSError):
            return None
        return holds if same and type(holds) is dict else None

    def logs(self, stamp: Stamp) -> Logs | None:
        """Give the logs and their keys, where ``metrics`` stands as ``stamp`` says."""
        try:
            at, text = self._content["metrics"]
            return _logs(text) if at == [*stamp] else None
        except (LookupError, TypeError, ValueError, RecursionError):
            return None

    def artifacts(self, path: str, stamp: Stamp) -> tuple[str, ...] | None:
        """Give the artifacts of the run at ``path``, where ``artifacts`` stands as ``stamp`` says."""
        try:
            folders, text = self._content["artifacts"]
            for folder, at in folders:
                if at != [*(stamp if folder == _ARTIFACTS else _stamp(f"{path}/{folder}"))]:
                    return None
            return _artifacts(text) if folders else None
        except (LookupError, TypeError, ValueError, OSError, RecursionError):
            return None


def load_digest(path: str) -> Digest | None:
    """Read the digest of the run at ``path``; None where there is none, or nothing whole."""
    try:
        content = json.loads(_content(f"{path}/{_DIGEST}"))
    except (OSError, ValueError, RecursionError):
        return None
    if type(content) is not dict or content.get("version") != _VERSION:
        return None
    return Digest(content)


def _content(path: str) -> bytes:
    # not by a file object, which takes twice as long; O_NONBLOCK: a pipe would block for ever
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        content = os.read(descriptor, 1 << 16)
        if len(content) == 1 << 16:
            while len(content) < _MOST and (more := os.read(descriptor, 1 << 20)):
                content += more
        return content
    finally:
        os.close(descriptor)


def _checksum(path: str) -> str:
    return checksum(_content(path))


def _stamp(path: str) -> Stamp:
    try:
        return stamp_of(os.stat(path))  # noqa: PTH116
    except (FileNotFoundError, NotADirectoryError):
        return NOT_THERE


@lru_cache(maxsize=1000)  # thousands of runs have the same
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

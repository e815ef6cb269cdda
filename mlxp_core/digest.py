"""What a run's metadata says, once more and in JSON, so that readers need not parse YAML. Its only writer.

``metadata/digest.json`` is an object. ``config`` and ``info`` say what config.yaml and info.yaml hold, each with the
stamp of that file (files.stamp_of) and its checksum; ``metrics`` and ``artifacts`` what a run that has ended has
logged, each with the stamps of the folders. What is not as it was when the digest was made has another stamp: then the YAML
counts, and the folders. A digest may be missing, or old; nothing but readers depends on it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from mlxp_core.artifacts import artifact_files
from mlxp_core.files import NOT_THERE, Stamp, checksum, dump_yaml, stamp_of, write_stamped, write_whole
from mlxp_core.layout import RunDir

VERSION = 1
_PLAIN = frozenset({str, int, float, bool, type(None)})


class Part(NamedTuple):
    """A YAML file that was written."""

    content: Mapping[str, Any]
    text: bytes
    stamp: Stamp

    @property
    def plain(self) -> dict[str, Any] | None:
        """What the digest says of it; None where JSON has no words for all of the content."""
        if not _is_plain(self.content):
            return None
        return {"stamp": self.stamp, "checksum": checksum(self.text), "holds": self.content}


def write_config(run: RunDir, config: Mapping[str, Any], text: str | None = None) -> Part:
    """Write config.yaml; ``text`` is the YAML of it where that is known. ``write_info`` then writes the digest."""
    encoded = (dump_yaml(config) if text is None else text).encode()
    return Part(config, encoded, write_stamped(run.config, encoded))


def write_info(run: RunDir, info: Mapping[str, Any], *, config: Part | None = None, ended: bool = False) -> None:
    """Write info.yaml, and the digest.

    Without ``config`` what the digest has said of it stays. ``ended``: nothing is logged any more.
    """
    encoded = dump_yaml(info).encode()
    part = Part(info, encoded, write_stamped(run.info, encoded))
    with suppress(OSError, ValueError, RecursionError):  # it only saves time, later
        digest = {
            "version": VERSION,
            "config": _config_of(run) if config is None else config.plain,
            "info": part.plain,
            **(_logged(run) if ended else {}),
        }
        write_whole(run.digest, json.dumps(digest, separators=(",", ":")) + "\n")


def _config_of(run: RunDir) -> Any:
    try:
        return json.loads(run.digest.read_bytes())["config"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


def _is_plain(value: object) -> bool:
    """Whether JSON gives the very same value back."""
    if type(value) in _PLAIN:  # exactly these: JSON would give a plain value back for one of a subclass
        return True
    if isinstance(value, dict):
        return all(type(key) is str and _is_plain(one) for key, one in value.items())
    return isinstance(value, list) and all(map(_is_plain, value))


def _logged(run: RunDir) -> dict[str, Any]:
    """Logs with their keys, and artifacts. What is not as this package writes it is left out, for readers to see."""
    # JSON in JSON: what runs share is the same text, and parsed once
    found: dict[str, Any] = {}
    with suppress(OSError, ValueError):
        stamp = _stamp(run.metrics)
        found["metrics"] = [stamp, json.dumps(_keys(run))]
    files = artifact_files(str(run.path))
    if not files.problems:
        found["artifacts"] = [files.folders, json.dumps(files.names)]
    return found


def _keys(run: RunDir) -> list[tuple[str, list[tuple[str, bool]]]]:
    """Each log, by name, with its keys and whether they hold numbers only. Raises OSError or ValueError."""
    logs = []
    for name in sorted(os.listdir(run.metrics)) if run.metrics.exists() else ():  # noqa: PTH208
        log_name = os.path.splitext(name)[0]  # noqa: PTH122
        if name.startswith(".") or run.metric_file(log_name).name != name:
            continue
        numbers: dict[str, bool] = {}
        for line in run.metric_keys_file(log_name).read_bytes().splitlines():
            key, kind = json.loads(line)
            numbers[key] = numbers.get(key, True) and kind == "number"
        logs.append((log_name, list(numbers.items())))
    return sorted(logs)


def _stamp(path: Path) -> Stamp:
    try:
        return stamp_of(path.stat())
    except FileNotFoundError:
        return NOT_THERE

"""Write the digest of a run: its metadata once more, in JSON, so that readers need not parse YAML.

``metadata/digest.jsonl`` has five lines, each JSON. The first is what is a run's own: ``config`` and ``info`` are
config.yaml and info.yaml, with the stamp of the file (files.stamp_of), its checksum, and its values in a list;
``script``, whether the run has a script.sh, without which no scheduler knows it; and of a run that has ended,
``submission``, what submission.yaml said then, with its stamp, ``metrics`` and ``artifacts``, the stamps of the
folders. The others are what runs of a sweep share, so that readers parse them once: config.yaml with null for each
value; the same of info.yaml; the logs with their keys and what these hold (``number``, ``other``, or ``mixed``); the
names of the artifacts. null stands for what is not said.

What is not as it was when the digest was made has another stamp: then the YAML counts, and the folders. A digest may be
missing, or old; nothing but readers depends on it. Stamps do not show a change in place, of the same length, within the
tick of the clock (a jiffy on ext4, a second on old NFS) in which the file was written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from mlxp_core.atomic_files import Stamp, checksum, stamp_at, write_atomic, write_atomic_stamped
from mlxp_core.runs.artifact_listing import artifact_files
from mlxp_core.runs.layout import RunDir
from mlxp_core.yaml_io import dump_yaml, load_yaml

VERSION = 1
_encode = json.JSONEncoder(separators=(",", ":")).encode
# what readers want of submission.yaml
_FACTS = ("state", "attempt", "scheduler", "job_id", "array_index", "name", "hostname")
_PLAIN = frozenset({str, int, float, bool, type(None)})


class WrittenYaml(NamedTuple):
    """A YAML file that was written."""

    content: Mapping[str, Any]
    text: bytes
    stamp: Stamp

    def lines(self) -> tuple[Any, Any]:
        """What the digest says of it, its own and what others share; nothing where JSON has no words for all of it."""
        if not _is_plain(self.content):
            return None, None
        values: list[Any] = []
        form = _form(self.content, values)
        return {"stamp": self.stamp, "checksum": checksum(self.text), "values": values}, form


def write_config(run: RunDir, config: Mapping[str, Any], text: str | None = None) -> WrittenYaml:
    """Write config.yaml; ``text`` is the YAML of it where that is known. ``write_info`` then writes the digest."""
    encoded = (dump_yaml(config) if text is None else text).encode()
    return WrittenYaml(config, encoded, write_atomic_stamped(run.config, encoded))


def write_info(run: RunDir, info: Mapping[str, Any], *, config: WrittenYaml | None = None, ended: bool = False) -> None:
    """Write info.yaml, and the digest.

    Without ``config`` what the digest has said of it stays. ``ended``: nothing is logged any more.
    """
    encoded = dump_yaml(info).encode()
    part = WrittenYaml(info, encoded, write_atomic_stamped(run.info, encoded))
    # it only saves time, later: whatever stands in the files of the run, its end is to be recorded
    with suppress(OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        own_config, config_form = _before(run) if config is None else config.lines()
        own_info, info_form = part.lines()
        metrics, logs = _metrics(run) if ended else (None, None)
        folders, names = _artifacts(run) if ended else (None, None)
        own = {
            "version": VERSION,
            "config": own_config,
            "info": own_info,
            "script": run.script.exists(),
            "submission": _submission(run) if ended else None,
            "metrics": metrics,
            "artifacts": folders,
        }
        write_atomic(run.digest, "".join(f"{_encode(line)}\n" for line in (own, config_form, info_form, logs, names)))


def announce(folder: Path) -> None:
    """Let readers look again at a run after something was put into ``metrics`` or ``artifacts``, ``folder`` being that.

    Keys are appended to a file, and artifacts put into a folder of their type, which neither of the two folders shows.
    A run that has ended is not read again while they stay as they are, so they are touched. To be called after the
    change: what is read in between is read once more. Never raises: what was asked for has been done.
    """
    with suppress(OSError, ValueError, LookupError, TypeError, RecursionError):
        before = stamp_at(folder)
        os.utime(folder)
        if stamp_at(folder) == before:  # within one tick of the clock, perhaps that of the run's end
            run = RunDir(folder.parent)
            own = json.loads(run.digest.read_bytes().partition(b"\n")[0])
            said = own[folder.name] if folder == run.metrics else dict(own[folder.name])[folder.name]
            if said == [*before]:
                run.digest.unlink()


def joined_kind(first: str | None, second: str) -> str:
    """Give the kind of a key that holds values of both: ``mixed`` where they are not of one kind."""
    return second if first in {None, second} else "mixed"


def _form(content: Mapping[str, Any], values: list[Any]) -> dict[str, Any]:
    """Put the values of a mapping, and of those in it, into a list, and null in their places."""
    form: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, dict):
            form[key] = _form(value, values)
        else:
            form[key] = None
            values.append(value)
    return form


def _before(run: RunDir) -> tuple[Any, Any]:
    """What the digest says of config.yaml now."""
    try:
        first, form, *_ = run.digest.read_bytes().splitlines()
        own = json.loads(first)
        return (own["config"], json.loads(form)) if own["version"] == VERSION else (None, None)
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None, None


def _is_plain(value: object) -> bool:
    """Whether JSON gives the very same value back."""
    if type(value) in _PLAIN:  # exactly these: JSON would give a plain value back for one of a subclass
        return True
    if isinstance(value, dict):
        return all(type(key) is str and _is_plain(one) for key, one in value.items())
    return isinstance(value, list) and all(map(_is_plain, value))


# what is not as this package writes it is not said, for readers to see


def _submission(run: RunDir) -> Any:
    try:
        stamp = stamp_at(run.submission)
        note = load_yaml(run.submission)
    except (OSError, ValueError):
        return None
    return {"stamp": stamp, "facts": {name: note.get(name) for name in _FACTS if type(note.get(name)) in _PLAIN}}


def _metrics(run: RunDir) -> tuple[Any, Any]:
    try:
        return stamp_at(run.metrics), _keys(run)  # in this order: what comes in between is then seen
    except (OSError, ValueError):
        return None, None


def _artifacts(run: RunDir) -> tuple[Any, Any]:
    files = artifact_files(str(run.path))
    return (None, None) if files.problems else (files.folders, files.names)


def _keys(run: RunDir) -> list[tuple[str, list[tuple[str, str]]]]:
    """Each log, by name, with its keys and the kind of their values. Raises OSError or ValueError."""
    logs = []
    for name in os.listdir(run.metrics) if run.metrics.exists() else ():  # noqa: PTH208
        log_name = os.path.splitext(name)[0]  # noqa: PTH122
        if name.startswith(".") or run.metric_file(log_name).name != name:
            continue
        kinds: dict[str, str] = {}
        for line in run.metric_keys_file(log_name).read_bytes().splitlines():
            key, kind = json.loads(line)
            kinds[key] = joined_kind(kinds.get(key), kind)
        logs.append((log_name, list(kinds.items())))
    return sorted(logs)

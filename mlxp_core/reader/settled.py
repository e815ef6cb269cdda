"""Runs that have ended and are not read again until their folder changes. The only module that keeps an index on disk.

How it is known that they have not changed: a job says in info.yaml that it has ended, as the last thing that it writes.
After that this package only ever replaces or adds files, which changes the time of their folder. So info.yaml,
config.yaml and the folders metadata, metrics and artifacts, five ``stat`` calls in all, tell whether anything has
happened: a later attempt, a submission again, an edit by hand, a metric file that arrives with a copy. What they do not
tell is a submission.yaml or a list of keys of an ended run that was edited in place, by hand.

The index is a cache of the same, for the next process: in ``.mlxp`` of the log directory where that can be written, or
else among the user's caches. One that is missing, torn, of another version or that of another directory is not used;
each run in it is compared as above. It is JSON: nothing in it is executed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from pathlib import Path
from typing import Any

import platformdirs

from mlxp_core.files import write_whole
from mlxp_core.layout import LogDir, RunDir
from mlxp_core.reader.fields import Fields, Shape
from mlxp_core.reader.problem import Problem
from mlxp_core.reader.record import RunRecord, interned

_logger = logging.getLogger(__name__)

_HOME = RunDir(Path())
_FILES = tuple(os.fspath(path) for path in (_HOME.info, _HOME.config))
_FOLDERS = tuple(os.fspath(path) for path in (_HOME.metadata, _HOME.metrics, _HOME.artifacts))
_VERSION = "1"
# as in filecache.py: what was read sooner than this after the last change is not kept
_UNSETTLED_NS = 2_000_000_000
# An index is written when so many runs, and so large a part of them, are new: reading fewer again takes less time.
_FEWEST_NEW = 32
_SMALLEST_PART = 0.05
_MOST_DIRECTORIES = 16

Signature = tuple[int, ...]


def signature_of(path: str) -> Signature:
    """Say how a run folder stands: three numbers each for two files and three folders, zeros where there is none."""
    numbers: list[int] = []
    for name in (*_FILES, *_FOLDERS):
        try:
            status = os.stat(f"{path}/{name}")  # noqa: PTH116  (a Path costs more than the stat)
        except OSError:
            numbers += (0, 0, 0)
        else:
            numbers += (status.st_mtime_ns, status.st_size, status.st_ino)
    return tuple(numbers)


class SettledRuns:
    """The runs of one log directory that are not read again until their signature changes.

    The signature is taken before a run is read: if the run changes in between, the new content is kept under the old
    signature, and the next look reads again. Safe in threads: two that meet read a run twice, and keep the same.
    """

    def __init__(self, log_dir: str) -> None:
        """Begin with what the index has."""
        self._log_dir = log_dir
        self._runs: dict[str, tuple[Signature, RunRecord]] = {}
        self._indexed: dict[str, tuple[Signature, list[Any]]] = {}
        self._tables: _Tables = _Tables()
        self._new = 0
        for place in _places(log_dir):
            if self._load(place):
                break

    def get(self, name: str, signature: Signature) -> RunRecord | None:
        """The run as it was read, or None if it has to be read (again)."""
        kept = self._runs.get(name)
        if kept is not None:
            return kept[1] if kept[0] == signature else None
        indexed = self._indexed.get(name)
        if indexed is None or indexed[0] != signature:
            return None
        try:
            run = self._tables.record(f"{self._log_dir}/{name}", indexed[1])
        except (LookupError, TypeError, ValueError):  # JSON, and whole, but not as we write it
            del self._indexed[name]
            return None
        self._runs[name] = signature, run
        return run

    def keep(self, name: str, signature: Signature, run: RunRecord) -> None:
        """Keep a run that has ended, unless it has only just changed."""
        if time.time_ns() - max(signature[::3]) > _UNSETTLED_NS:
            self._runs[name] = signature, run
            self._new += 1
        else:
            self._runs.pop(name, None)
            self._indexed.pop(name, None)

    def save(self) -> None:
        """Write the index, if that is worth it and there is a place that can be written."""
        if self._new < max(_FEWEST_NEW, _SMALLEST_PART * len(self._runs)):
            return
        tables = _Tables()
        # a copy: another thread may be looking, too
        body = {name: [signature, tables.row(run)] for name, (signature, run) in list(self._runs.items())}
        text = json.dumps({"runs": body, **tables.content()}, separators=(",", ":"))
        self._new = 0
        beside, cached = _places(self._log_dir)
        for place in (beside, cached):
            try:
                # a log directory that has just been deleted must not come back
                place.parent.mkdir(parents=place is cached, exist_ok=True)
                write_whole(place, f"{_head(text)}\n{text}")
            except (OSError, UnicodeEncodeError) as error:
                _logger.debug("no index at %s: %s", place, error)
            else:
                return

    def _load(self, place: Path) -> bool:
        try:
            head, _, text = place.read_text(encoding="utf-8", errors="surrogateescape").partition("\n")
            if head != _head(text):
                return False
            content = json.loads(text)
            self._tables = _Tables.load(content)
            self._indexed = {name: (tuple(signature), row) for name, (signature, row) in content["runs"].items()}
        except (OSError, LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
            _logger.debug("no index from %s: %s", place, error)
            return False
        return True


class _Tables:
    """What many runs have in common, by number: names of fields, of logs and keys, of artifacts."""

    def __init__(self) -> None:
        self._shapes: dict[Shape, int] = {}
        self._tuples: dict[Any, int] = {}
        self._shape_at: list[Shape] = []
        self._tuple_at: list[Any] = []

    def row(self, run: RunRecord) -> list[Any]:
        problems = [[problem.path, problem.what] for problem in run.problems]
        config, info = (
            [self._shapes.setdefault(fields.shape, len(self._shapes)), fields.values]
            for fields in (run.config, run.info)
        )
        shared = [self._tuples.setdefault(one, len(self._tuples)) for one in (run.artifacts, run.logs)]
        return [run.id, run.status, config, info, problems, *shared]

    def content(self) -> dict[str, Any]:
        return {"shapes": [shape.items for shape in self._shapes], "tuples": list(self._tuples)}

    @classmethod
    def load(cls, content: dict[str, Any]) -> _Tables:
        tables = cls()
        tables._shape_at = [Shape.of(_as_tuples(items)) for items in content["shapes"]]
        tables._tuple_at = [interned(_as_tuples(items)) for items in content["tuples"]]
        return tables

    def record(self, path: str, row: list[Any]) -> RunRecord:
        run_id, status, config, info, problems, artifacts, logs = row
        return RunRecord(
            path=path,
            id=run_id,
            status=status,
            config=Fields(self._shape_at[config[0]], tuple(config[1])),
            info=Fields(self._shape_at[info[0]], tuple(info[1])),
            problems=tuple(Problem(where, what) for where, what in problems),
            artifacts=self._tuple_at[artifacts],
            logs=self._tuple_at[logs],
            ended=True,
        )


def _as_tuples(value: Any) -> Any:
    return tuple(_as_tuples(item) for item in value) if isinstance(value, list) else value


def _head(text: str) -> str:
    checksum = hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
    return f"hydra-mlxp reader index {_VERSION} {checksum}"


def _places(log_dir: str) -> list[Path]:
    name = hashlib.sha256(os.fsencode(log_dir)).hexdigest()[:32]
    return [
        LogDir(Path(log_dir)).reader_index,
        Path(platformdirs.user_cache_dir("hydra-mlxp")) / "reader" / f"{name}.json",
    ]


_directories: dict[str, SettledRuns] = {}


def runs_of(log_dir: str) -> SettledRuns:
    """The settled runs of a log directory, for as long as this process lives."""
    kept = _directories.get(log_dir)
    if kept is None:
        if len(_directories) >= _MOST_DIRECTORIES:
            _directories.clear()
        kept = _directories[log_dir] = SettledRuns(log_dir)
    return kept

"""Record launches that have not submitted all of their runs, so that the same command again submits exactly the rest.

A launch records its runs before it writes and submits them, and removes the record when all are submitted.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from mlxp_core import nested
from mlxp_core.plain_values import to_builtins
from mlxp_core.runs import info
from mlxp_core.runs.allocation import allocate_numbered_dir
from mlxp_core.runs.layout import LaunchDir, LogDir, RunDir
from mlxp_core.runs.process import is_alive, this_process
from mlxp_core.runs.state import RunState
from mlxp_core.yaml_io import load_yaml, write_yaml

log = logging.getLogger(__name__)

_YOUNG = 600.0  # seconds; twice as long as a launch tries to submit, by default


@dataclass(frozen=True)
class PendingLaunch:
    """One launch, recorded in a folder of its own."""

    folder: LaunchDir
    runs: tuple[RunDir, ...]
    time: str

    def done(self) -> None:
        """Remove the record: all runs are submitted."""
        shutil.rmtree(self.folder.path, ignore_errors=True)


def fingerprint(**parts: Any) -> str:
    """Hash what two launches have in common if they are the same: plain values."""
    plain = to_builtins(parts)
    # quick, for thousands of jobs; but where they are keys, JSON spells 1 and "1", true and "true" in the same way
    text = json.dumps(plain, sort_keys=True) if nested.has_text_keys(plain) else nested.canonical_json(plain)
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def record_launch(log_dir: LogDir, identity: str, runs: Sequence[RunDir]) -> PendingLaunch:
    """Record a launch, before anything of its runs is written."""
    folder = LaunchDir(allocate_numbered_dir(log_dir.launches))
    launch = PendingLaunch(folder, tuple(runs), info.now())
    _write(launch, identity)
    return launch


def resume_launch(log_dir: LogDir, identity: str) -> PendingLaunch | None:
    """Take over the earlier launch of the same identity that did not come to its end.

    None where there is none, or where its process still runs.
    """
    for folder, record in sorted(_records(log_dir), key=lambda item: item[1]["time"], reverse=True):
        alive = is_alive(record["process"])
        if record.get("identity") != identity or alive:
            continue
        if alive is None and record["process"].get("hostname") != os.uname().nodename:
            log.warning(
                "a launch of the same command on %s at %s did not submit all of its runs, or is still at it; once it "
                "has ended, `mlxp rerun` submits the rest",
                record["process"].get("hostname"),
                record["time"],
            )
            continue
        launch = PendingLaunch(folder, tuple(RunDir(Path(run)) for run in record["runs"]), record["time"])
        if all(run.path.is_dir() for run in launch.runs):
            _write(launch, identity)
            return launch
    return None


def runs_being_launched(log_dir: LogDir) -> dict[RunDir, str]:
    """The runs that a launch is about to submit, with what is known of that launch.

    One on another host counts as long as it is young: nobody can see from here whether it still lives.
    """
    runs: dict[RunDir, str] = {}
    for _, record in _records(log_dir):
        process = record["process"]
        alive = is_alive(process)
        if alive is None and process.get("hostname") != os.uname().nodename:
            alive = time.time() - datetime.fromisoformat(record["time"]).timestamp() < _YOUNG
        if alive and process.get("process_id") != os.getpid():
            who = f"a launch is at it (process {process.get('process_id')} on {process.get('hostname')})"
            runs.update({RunDir(Path(run)): who for run in record["runs"]})
    return runs


def remove_finished(log_dir: LogDir) -> None:
    """Remove the records of launches whose runs are all in a queue now, or have been."""
    for folder, record in _records(log_dir):
        if is_alive(record["process"]):
            continue
        if all(RunState.load(RunDir(Path(run))).is_submitted for run in record["runs"]):
            shutil.rmtree(folder.path, ignore_errors=True)


def forget_launches(log_dir: LogDir, removed: set[RunDir]) -> tuple[RunDir, ...]:
    """Forget the launches that made runs which are removed: the same command cannot take up what is gone.

    Returns the runs of these launches that are there and were never submitted.
    """
    left: dict[RunDir, None] = {}
    for folder, record in _records(log_dir):
        runs = [RunDir(Path(run)) for run in record["runs"]]
        if not is_alive(record["process"]) and not removed.isdisjoint(runs):
            shutil.rmtree(folder.path, ignore_errors=True)
            left |= dict.fromkeys(run for run in runs if run.info.exists() and not RunState.load(run).is_submitted)
    return tuple(left)


def _records(log_dir: LogDir) -> Iterator[tuple[LaunchDir, dict[str, Any]]]:
    """The records that can be used: a launch may end while this looks, and a record be another user's."""
    for path in sorted(log_dir.launches.iterdir()) if log_dir.launches.is_dir() else ():
        folder = LaunchDir(path)
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            record = load_yaml(folder.record)
            aware = datetime.fromisoformat(record["time"]).tzinfo is not None
            inside = all(_is_inside(Path(run), log_dir.path) for run in record["runs"])
            if aware and inside and isinstance(record["process"], dict):
                yield folder, record


def _is_inside(run: Path, folder: Path) -> bool:
    """Tell whether a path leads into a folder; by its words, and without a ``..`` that leads out again."""
    return run.is_relative_to(folder) and ".." not in run.relative_to(folder).parts


def _write(launch: PendingLaunch, identity: str) -> None:
    runs = [str(run.path) for run in launch.runs]
    record = {"identity": identity, "time": launch.time, "process": this_process(), "runs": runs}
    write_yaml(launch.folder.record, record)

"""Launches that have not submitted all of their runs: by them the same command again submits exactly the rest.

A launch notes its runs before it writes and submits them, and takes the note away when all are submitted.
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
from mlxp_core.runs import info
from mlxp_core.runs.allocation import allocate_numbered_dir
from mlxp_core.runs.layout import LogDir, RunDir
from mlxp_core.runs.process import is_alive, this_process
from mlxp_core.yaml_io import load_yaml, load_yaml_or_empty, write_yaml

log = logging.getLogger(__name__)

_YOUNG = 600.0  # seconds; twice as long as a launch tries to submit, by default


@dataclass(frozen=True)
class PendingLaunch:
    """One launch, noted in a folder of its own."""

    folder: Path
    runs: tuple[RunDir, ...]
    time: str

    def done(self) -> None:
        """All runs are submitted: nothing is left to remember."""
        shutil.rmtree(self.folder, ignore_errors=True)


def fingerprint(**what: Any) -> str:
    """By what two launches are the same: plain values."""
    try:
        text = json.dumps(nested.to_builtins(what), sort_keys=True)  # fast, for thousands of jobs
    except TypeError:  # keys of several types have no order
        text = nested.canonical_json(what)
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def record_launch(log_dir: LogDir, identity: str, runs: Sequence[RunDir]) -> PendingLaunch:
    """Note a launch, before anything of its runs is written."""
    folder = allocate_numbered_dir(log_dir.launches)
    launch = PendingLaunch(folder, tuple(runs), info.now())
    _write(launch, identity)
    return launch


def resume_launch(log_dir: LogDir, identity: str) -> PendingLaunch | None:
    """The earlier launch of the same identity that did not come to its end, now this process's own.

    None where there is none, or where its process still runs.
    """
    for path, note in sorted(_notes(log_dir), key=lambda found: found[1]["time"], reverse=True):
        alive = is_alive(note["process"])
        if note.get("identity") != identity or alive:
            continue
        if alive is None and note["process"].get("hostname") != os.uname().nodename:
            log.warning(
                "a launch of the same command on %s at %s did not submit all of its runs, or is still at it; once it "
                "has ended, `mlxp rerun` submits the rest",
                note["process"].get("hostname"),
                note["time"],
            )
            continue
        launch = PendingLaunch(path.parent, tuple(RunDir(Path(run)) for run in note["runs"]), note["time"])
        if all(run.path.is_dir() for run in launch.runs):
            _write(launch, identity)
            return launch
    return None


def runs_being_launched(log_dir: LogDir) -> dict[RunDir, str]:
    """The runs that a launch is about to submit, with what is known of that launch.

    One on another host counts as long as it is young: nobody can see from here whether it still lives.
    """
    runs: dict[RunDir, str] = {}
    for _, note in _notes(log_dir):
        process = note["process"]
        alive = is_alive(process)
        if alive is None and process.get("hostname") != os.uname().nodename:
            alive = time.time() - datetime.fromisoformat(note["time"]).timestamp() < _YOUNG
        if alive and process.get("process_id") != os.getpid():
            who = f"a launch is at it (process {process.get('process_id')} on {process.get('hostname')})"
            runs.update({RunDir(Path(run)): who for run in note["runs"]})
    return runs


def remove_finished(log_dir: LogDir) -> None:
    """Remove the notes of launches whose runs are all in a queue now, or have been."""
    for path, note in _notes(log_dir):
        if is_alive(note["process"]):
            continue
        submissions = (load_yaml_or_empty(RunDir(Path(run)).submission) for run in note["runs"])
        if all(submission.get("job_id") is not None for submission in submissions):
            shutil.rmtree(path.parent, ignore_errors=True)


def _notes(log_dir: LogDir) -> Iterator[tuple[Path, dict[str, Any]]]:
    """What is noted, and can be used: a launch may end while this looks, and a note be another user's."""
    for path in sorted(log_dir.launches.glob("*/launch.yaml")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            note = load_yaml(path)
            aware = datetime.fromisoformat(note["time"]).tzinfo is not None
            inside = all(Path(run).is_relative_to(log_dir.path) for run in note["runs"])
            if aware and inside and isinstance(note["process"], dict):
                yield path, note


def _write(launch: PendingLaunch, identity: str) -> None:
    runs = [str(run.path) for run in launch.runs]
    note = {"identity": identity, "time": launch.time, "process": this_process(), "runs": runs}
    write_yaml(launch.folder / "launch.yaml", note)

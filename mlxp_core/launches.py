"""Launches that have not submitted all of their runs: by them the same command again submits exactly the rest.

A launch notes its runs before it writes and submits them, and takes the note away when all are submitted.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlxp_core import metadata
from mlxp_core.files import load_yaml, write_yaml
from mlxp_core.layout import LogDir, RunDir
from mlxp_core.process import is_alive, this_process
from mlxp_core.store import numbered_folder

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Launch:
    """One launch, noted in a folder of its own."""

    folder: Path
    runs: tuple[RunDir, ...]
    time: str

    def done(self) -> None:
        """All runs are submitted: nothing is left to remember."""
        shutil.rmtree(self.folder, ignore_errors=True)


def fingerprint(**what: Any) -> str:
    """By what two launches are the same: plain values."""
    text = json.dumps(metadata.to_plain(what), sort_keys=True)
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def note_launch(log_dir: LogDir, identity: str, runs: Sequence[RunDir]) -> Launch:
    """Note a launch, before anything of its runs is written."""
    folder = numbered_folder(log_dir.launches)
    launch = Launch(folder, tuple(runs), metadata.now())
    _write(launch, identity)
    return launch


def take_up(log_dir: LogDir, identity: str) -> Launch | None:
    """The earlier launch of the same identity that did not come to its end, now this process's own.

    None where there is none, or where its process still runs.
    """
    for path in sorted(log_dir.launches.glob("*/launch.yaml"), key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            note = load_yaml(path)
        except (OSError, ValueError):
            continue
        if note.get("identity") != identity or is_alive(note.get("process", {})):
            continue
        if is_alive(note.get("process", {})) is None and note["process"].get("hostname") != os.uname().nodename:
            log.warning(
                "a launch of the same command on %s at %s did not submit all of its runs, or is still at it; once it "
                "has ended, `mlxp rerun` submits the rest",
                note["process"].get("hostname"),
                note.get("time"),
            )
            continue
        launch = Launch(path.parent, tuple(RunDir(Path(run)) for run in note["runs"]), note["time"])
        if all(run.path.is_dir() for run in launch.runs):
            _write(launch, identity)
            return launch
    return None


def _write(launch: Launch, identity: str) -> None:
    runs = [str(run.path) for run in launch.runs]
    note = {"identity": identity, "time": launch.time, "process": this_process(), "runs": runs}
    write_yaml(launch.folder / "launch.yaml", note)

"""What a run's submission.yaml says, checked. The only module that reads it.

A log directory may be another user's, and a job's id goes into commands: what is not as the submitting side writes it
is not used.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from mlxp_core.errors import ConfigurationError
from mlxp_core.runs.layout import RunDir
from mlxp_core.scheduler import SCHEDULERS, load_scheduler
from mlxp_core.yaml_io import load_yaml_or_empty

Note = Mapping[str, Any]


@dataclass(frozen=True)
class QueuedJob:
    """A run in a scheduler's queue."""

    run: RunDir
    scheduler: str
    job_id: str
    array_index: int | None


def load_submission(run: RunDir) -> dict[str, Any]:
    """Read a run's submission.yaml; nothing where there is none. Raises ConfigurationError where it cannot be used."""
    try:
        note = load_yaml_or_empty(run.submission)
    except ValueError as error:
        raise ConfigurationError(str(error)) from error
    for field, value in note.items():
        check = _FIELDS.get(field)
        if check is not None and value is not None and not check(value):
            raise ConfigurationError(f"{run.submission}: {field} is {value!r}, which hydra-mlxp does not write")
    if note.get("job_id") is not None or note.get("script"):
        missing = [field for field in ("scheduler", "time") if note.get(field) is None]
        if missing:
            raise ConfigurationError(f"{run.submission} does not say {' and '.join(missing)}")
    job_id, scheduler = note.get("job_id"), note.get("scheduler")
    # of a scheduler that this version does not know, no command is made
    if job_id is not None and scheduler in SCHEDULERS and not load_scheduler(scheduler).is_job_id(str(job_id)):
        raise ConfigurationError(f"{run.submission}: job_id is {job_id!r}, which hydra-mlxp does not write")
    return note


def is_unresolved(note: Note) -> bool:
    """Whether it is not known what became of a submission: it was cut short, or had no clear answer."""
    return bool(note.get("script")) and note.get("job_id") is None and note.get("state") is None


def queued_job(run: RunDir, note: Note) -> QueuedJob | None:
    """The run's place in a queue, if it has one."""
    if note.get("job_id") is None:
        return None
    return QueuedJob(run, note["scheduler"], str(note["job_id"]), note.get("array_index"))


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_number(value: object) -> bool:
    return isinstance(value, int) and value > 0


def _is_id(value: object) -> bool:
    return isinstance(value, int | str) and value is not True and value is not False


def _is_time(value: object) -> bool:
    try:
        return isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


_FIELDS: dict[str, Callable[[object], bool]] = {
    **dict.fromkeys(("scheduler", "script", "name", "hostname", "user", "own_id"), _is_text),
    **dict.fromkeys(("array_index", "packed", "attempt"), _is_number),
    **dict.fromkeys(("time", "state_time", "cancel_time"), _is_time),
    "job_id": _is_id,
}


def read_manifest(folder: Path) -> list[RunDir]:
    """The runs of a submission, in the order of its indices; none where that cannot be read."""
    try:
        lines = os.fsdecode((folder / "manifest").read_bytes()).splitlines()
    except OSError:
        return []
    return [RunDir(Path(line)) for line in lines]

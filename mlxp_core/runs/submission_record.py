"""Read, check and write a run's submission.yaml.

A log directory may be another user's, and a job's id goes into commands: what is not as the submitting side writes it
is not used.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from mlxp_core.errors import ConfigurationError
from mlxp_core.runs.layout import RunDir, SubmissionDir
from mlxp_core.scheduler import SCHEDULERS, load_scheduler
from mlxp_core.yaml_io import load_yaml_or_empty, write_yaml


@dataclass(frozen=True)
class SubmissionRecord:
    """What the submitting side knows of a run: its job, and what the scheduler last said of it."""

    scheduler: str | None = None
    script: str | None = None  # that was submitted
    name: str | None = ""  # of the job; None: nothing in the queue tells it from others; empty: not recorded
    hostname: str | None = None
    user: str | None = None
    time: str | None = None  # this and the other times: ISO 8601 with zone
    job_id: str | None = None
    state: str | None = None  # the status that the scheduler was last seen to imply
    error: str | None = None  # why it was not submitted
    array_index: int | None = None
    packed: int | None = None  # runs that share the job
    attempt: int | None = None  # that `state` speaks of
    own_id: str | None = None  # of a task that was started again under another id than its array's
    reason: str | None = None  # the scheduler's word
    stuck: bool | None = None  # the scheduler holds the job in an error state
    state_time: str | None = None
    cancel_time: str | None = None
    unknown: Mapping[str, Any] = field(default_factory=dict, hash=False)  # keys of later versions
    keys: tuple[str, ...] = field(default=(), compare=False, repr=False)  # in the order in which they were recorded

    @classmethod
    def from_yaml(cls, content: Mapping[str, Any], path: Path) -> SubmissionRecord:
        """Check what stands in a file. Raises ConfigurationError where it cannot be used."""
        known = {key: value for key, value in content.items() if key in _KEYS}
        for key, value in known.items():
            check = _CHECKS.get(key)
            if check is not None and value is not None and not check(value):
                raise ConfigurationError(f"{path}: {key} is {value!r}, which hydra-mlxp does not write")
        if known.get("job_id") is not None or known.get("script"):
            missing = [key for key in ("scheduler", "time") if known.get(key) is None]
            if missing:
                raise ConfigurationError(f"{path} does not say {' and '.join(missing)}")
        for key, convert in _CONVERSIONS.items():
            if known.get(key) is not None:
                known[key] = convert(known[key])
        job_id, scheduler = known.get("job_id"), known.get("scheduler")
        # of a scheduler that this version does not know, no command is made
        if job_id is not None and scheduler in SCHEDULERS and not load_scheduler(scheduler).is_job_id(job_id):
            raise ConfigurationError(f"{path}: job_id is {content['job_id']!r}, which hydra-mlxp does not write")
        unknown = {key: value for key, value in content.items() if key not in _KEYS}
        return cls(**known, unknown=unknown, keys=tuple(content))

    @classmethod
    def load(cls, run: RunDir) -> SubmissionRecord:
        """Read a run's submission.yaml; an empty record where there is none. Raises as ``from_yaml``."""
        try:
            content = load_yaml_or_empty(run.submission)
        except ValueError as error:
            raise ConfigurationError(str(error)) from error
        return cls.from_yaml(content, run.submission)

    def as_yaml(self) -> dict[str, Any]:
        """The record in plain values; None only where a reader goes by it."""
        values = {**{key: getattr(self, key) for key in _KEYS}, **self.unknown}
        nullable = {key for key in _NULLABLE if self.script or key in self.keys}
        return {
            key: values[key]
            for key in dict.fromkeys((*self.keys, *values))
            if (values[key] is not None or key in nullable) and not (key == "name" and self.name == "")
        }

    def save(self, run: RunDir) -> None:
        """Write it as the run's submission.yaml."""
        write_yaml(run.submission, self.as_yaml())

    def updated(self, **changes: Any) -> SubmissionRecord:
        """A record with other values of some fields."""
        return replace(self, **changes, keys=tuple(dict.fromkeys((*self.keys, *changes))))

    @property
    def is_empty(self) -> bool:
        """Whether nothing has been recorded."""
        return not self.as_yaml()

    @property
    def is_submitted(self) -> bool:
        """Whether a scheduler has given it a job."""
        return self.job_id is not None

    @property
    def is_unresolved(self) -> bool:
        """Whether the outcome of a submission is not known: it was cut short, or had no clear answer."""
        return bool(self.script) and self.job_id is None and self.state is None

    @property
    def submitted_at(self) -> datetime | None:
        """When it was submitted, or was to be."""
        return None if self.time is None else datetime.fromisoformat(self.time)

    @property
    def folder(self) -> SubmissionDir | None:
        """The folder of its submission."""
        return SubmissionDir.of_script(self.script) if self.script else None

    @property
    def output(self) -> Path | None:
        """Where the scheduler itself has its say on the job, if it has one."""
        if self.folder is None or self.array_index is None or self.scheduler not in SCHEDULERS:
            return None if self.folder is None else self.folder.output(self.array_index)
        # OAR's first task has the id of its array
        values = {"index": self.array_index, "own_id": self.own_id or self.job_id}
        return self.folder.path / load_scheduler(self.scheduler).task_output.format(**values)


@dataclass(frozen=True)
class QueuedJob:
    """A run in a scheduler's queue."""

    run: RunDir
    scheduler: str
    job_id: str
    array_index: int | None

    @classmethod
    def from_record(cls, run: RunDir, record: SubmissionRecord) -> QueuedJob | None:
        """The run's place in a queue, if it has one."""
        if record.job_id is None or record.scheduler is None:
            return None
        return cls(run, record.scheduler, record.job_id, record.array_index)

    @property
    def task(self) -> tuple[str, int | None]:
        """Job id and index, by which a scheduler is asked for it."""
        return self.job_id, self.array_index

    @property
    def task_label(self) -> str:
        """Job id and index as one text, such as ``123_4``."""
        return self.job_id if self.array_index is None else f"{self.job_id}_{self.array_index}"

    @property
    def label(self) -> str:
        """Scheduler and job, such as ``slurm 123_4``."""
        return f"{self.scheduler} {self.task_label}"


def read_manifest(folder: SubmissionDir) -> list[RunDir]:
    """The runs of a submission, in the order of its indices; none where that cannot be read."""
    try:
        lines = os.fsdecode(folder.manifest.read_bytes()).splitlines()
    except OSError:
        return []
    return [RunDir(Path(line)) for line in lines]


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_number(value: object) -> bool:
    return isinstance(value, int) and value is not True and value > 0


def _is_id(value: object) -> bool:
    return isinstance(value, int | str) and value is not True and value is not False


def _is_time(value: object) -> bool:
    try:
        return isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


_KEYS = tuple(item.name for item in fields(SubmissionRecord) if item.name not in {"unknown", "keys"})
_NULLABLE = ("job_id", "state", "name", "array_index")  # written as null where a reader goes by it
_CHECKS: dict[str, Callable[[object], bool]] = {
    **dict.fromkeys(("scheduler", "script", "name", "hostname", "user", "own_id"), _is_text),
    **dict.fromkeys(("array_index", "packed", "attempt"), _is_number),
    **dict.fromkeys(("time", "state_time", "cancel_time"), _is_time),
    "job_id": _is_id,
}
_CONVERSIONS: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("job_id", "state", "error", "reason"), str),
    "stuck": bool,
}

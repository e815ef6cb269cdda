"""The state of a run, by one reading of its folder: its status, since when, and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from mlxp_core.atomic_files import Stamp, stamp_at
from mlxp_core.runs.info import newer_format
from mlxp_core.runs.layout import RunDir
from mlxp_core.runs.process import is_alive
from mlxp_core.runs.reason import describe_reason, first_line
from mlxp_core.runs.status import ENDED, ExitCode, Status, derive_status, read_exit_code
from mlxp_core.runs.submission_record import QueuedJob, SubmissionRecord
from mlxp_core.runs.times import parse_time
from mlxp_core.yaml_io import load_yaml_or_empty

_Content = TypeVar("_Content")


@dataclass(frozen=True)
class RunState:
    """One run, as its folder had it when it was read. What follows from that is derived once."""

    run: RunDir
    info: Mapping[str, Any]
    submission: SubmissionRecord = field(default_factory=SubmissionRecord)
    exit_code: ExitCode | None = None
    process_alive: bool | None = None  # the process that info.yaml names; None: it is not known from here
    problem: str = ""  # a file that cannot be read
    is_current: bool = True  # False: the scheduler has not answered, this is the last known state

    @classmethod
    def load(cls, run: RunDir) -> RunState:
        """Read a run's folder; what cannot be read of it is its ``problem``."""
        info, alive, problem = _read_info(run)
        record, other = _read(run.submission, lambda: SubmissionRecord.load(run), SubmissionRecord())
        return cls(run, info, record, read_exit_code(run), alive, problem or other)

    def with_submission(self, record: SubmissionRecord) -> RunState:
        """The run with another submission record."""
        return replace(self, submission=record)

    def with_is_current(self, *, is_current: bool) -> RunState:
        """The run, and whether its scheduler has answered."""
        return replace(self, is_current=is_current)

    @cached_property
    def status(self) -> Status:
        """The run's status."""
        return derive_status(
            self.info,
            exit_code=self.exit_code,
            scheduler_state=self.submission.state,
            process_alive=lambda _: self.process_alive,
            said_attempt=self.submission.attempt,
        )

    @cached_property
    def attempt(self) -> int:
        """The latest attempt, which may not have started."""
        ended = self.exit_code.attempt if self.exit_code else None
        return max(_number(self.info.get("attempt")), _number(self.submission.attempt), _number(ended))

    @cached_property
    def attempt_info(self) -> Mapping[str, Any]:
        """info.yaml, where it speaks of the latest attempt; else nothing."""
        return self.info if _number(self.info.get("attempt")) == self.attempt else {}

    @property
    def exit_status(self) -> int | None:
        """The exit code of the latest attempt."""
        known = self.exit_code is not None and self.exit_code.attempt in {None, self.attempt}
        return self.exit_code.code if self.exit_code is not None and known else None

    @property
    def scheduler_status(self) -> str | None:
        """What the scheduler last said of the latest attempt, as a status."""
        return self.submission.state if _number(self.submission.attempt) == self.attempt else None

    @property
    def has_ended(self) -> bool:
        """Whether nothing more is to come."""
        return self.status in ENDED

    @property
    def may_change(self) -> bool:
        """Whether the scheduler may have something to say that the folder does not know yet."""
        if not self.is_submitted and not self.submission_unresolved:
            return False  # was not submitted
        if self.scheduler_status in ENDED:
            return False
        # what the job said of its own end stands, unless it was ended from outside and does not know why
        explained = self.attempt_info.get("status") == Status.FAILED and bool(self.attempt_info.get("error"))
        return not self.has_ended or not (self.status is Status.COMPLETE or explained)

    @property
    def is_submitted(self) -> bool:
        """Whether a scheduler has given it a job."""
        return self.submission.is_submitted

    @property
    def submission_unresolved(self) -> bool:
        """Whether the outcome of its submission is not known: it was cut short, or had no clear answer."""
        return self.submission.is_unresolved

    @property
    def job(self) -> QueuedJob | None:
        """Its place in a queue, if it has or had one."""
        return QueuedJob.from_record(self.run, self.submission)

    @property
    def job_label(self) -> str | None:
        """Scheduler and job, such as ``slurm 123_4``."""
        return self.job.label if self.job else None

    @cached_property
    def start(self) -> datetime | None:
        """When the latest attempt started, in the zone of this machine."""
        return _time(self.attempt_info.get("start_time"))

    @property
    def submitted(self) -> datetime | None:
        """When it was last submitted, in the zone of this machine."""
        return _time(self.submission.time or self.info.get("submit_time"))

    @cached_property
    def end(self) -> datetime | None:
        """When it ended, as far as anything says so."""
        if not self.has_ended:
            return None
        if recorded := _time(self.attempt_info.get("end_time")):
            return recorded
        try:  # killed before it could say so: script.sh has outlived it
            return datetime.fromtimestamp(self.run.exit_code.stat().st_mtime).astimezone()
        except OSError:
            return None

    @cached_property
    def reason(self) -> str:
        """Why it has this status, on one line; empty where there is nothing to say."""
        if self.problem or self.newer_format:
            return self.problem or self.newer_format
        if self.status is Status.PENDING and self.submission.is_empty and "order" in self._settings:
            return "not submitted"
        return describe_reason(
            self.status,
            self.submission,
            attempt_info=self.attempt_info,
            exit_status=self.exit_status,
            scheduler_status=self.scheduler_status,
        )

    @property
    def newer_format(self) -> str:
        """Why this version of the package leaves the run alone: a later one wrote it. Empty where it does not."""
        return newer_format(self.info)

    @property
    def overrides(self) -> list[str]:
        """What its command line sets, where Hydra started it."""
        hydra = self.info.get("hydra")
        overrides = hydra.get("overrides") if isinstance(hydra, Mapping) else None
        return [str(override) for override in overrides] if isinstance(overrides, list) else []

    @property
    def scheduler_output(self) -> Path | None:
        """Where the scheduler itself has its say on the job, if it has one."""
        return self.submission.output

    @property
    def _settings(self) -> Mapping[str, Any]:
        nothing: dict[str, Any] = {}
        return _read(self.run.settings, lambda: load_yaml_or_empty(self.run.settings), nothing)[0]


def load_status(run: RunDir) -> Status:
    """Derive a run's status from its folder."""
    return RunState.load(run).status


def _read_info(run: RunDir) -> tuple[Mapping[str, Any], bool | None, str]:
    """info.yaml, whether its process is alive (where it says that it runs), and why it cannot be read."""

    def read() -> tuple[dict[str, Any], str]:
        return _read(run.info, lambda: load_yaml_or_empty(run.info), {})

    stamp = _stamp(run.info)
    info, problem = read()
    if info.get("status") != Status.RUNNING:
        return info, None, problem
    alive = is_alive(info)
    if alive is not False or _stamp(run.info) == stamp:
        return info, alive, problem
    # it has ended, and written how, since the file was read; or the next attempt has begun
    process = [info.get(key) for key in ("process_id", "process_start")]
    info, problem = read()
    return info, False if process == [info.get(key) for key in ("process_id", "process_start")] else None, problem


def _stamp(path: Path) -> Stamp | None:
    try:
        return stamp_at(path)
    except OSError:  # reading the file says what is wrong with it
        return None


def _read(path: Path, load: Callable[[], _Content], nothing: _Content) -> tuple[_Content, str]:
    """What a file says, and why that is nothing if it cannot be used."""
    try:
        return load(), ""
    except (OSError, ValueError) as error:
        return nothing, f"{path.name} cannot be read: {first_line(str(error))}"


def _number(value: object) -> int:
    return value if isinstance(value, int) else 1


def _time(text: object) -> datetime | None:
    try:
        return parse_time(text).astimezone() if isinstance(text, str) else None
    except ValueError:
        return None

"""What a run's folder says of it, read once: where it stands, since when, and why."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from mlxp_core.runs.layout import RunDir
from mlxp_core.runs.process import is_alive
from mlxp_core.runs.status import ENDED, ExitCode, Status, derive_status, read_exit_code
from mlxp_core.runs.submission_record import is_unresolved, load_submission
from mlxp_core.scheduler import SCHEDULERS, load_scheduler
from mlxp_core.yaml_io import load_yaml_or_empty

# what says no more than the status does
_EMPTY = {"", "none", "completed", "failed", "cancelled", "running", "pending", "timeout"}
_PYTHONS_OWN = "builtins."
_OWN_CODES = range(128)  # above it is a signal


@dataclass
class RunState:
    """One run, as its folder had it when it was looked at."""

    run: RunDir
    info: Mapping[str, Any]
    submission: Mapping[str, Any]
    exit_code: ExitCode | None = None
    problem: str = ""  # a file that cannot be read
    is_current: bool = field(default=True)  # False: the scheduler has not answered, this is the last known state

    @classmethod
    def load(cls, run: RunDir) -> RunState:
        """Read a run's folder; what cannot be read of it is its ``problem``."""
        info, problem = _read(run.info, lambda: load_yaml_or_empty(run.info))
        submission, other = _read(run.submission, lambda: load_submission(run))
        problem = problem or other
        return cls(run, info, submission, read_exit_code(run), problem)

    @property
    def attempt(self) -> int:
        """The latest attempt, which may not have started."""
        ended = self.exit_code.attempt if self.exit_code else None
        return max(_number(self.info.get("attempt")), _number(self.submission.get("attempt")), _number(ended))

    @property
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
        state = self.submission.get("state")
        return state if isinstance(state, str) and _number(self.submission.get("attempt")) == self.attempt else None

    @property
    def status(self) -> Status:
        """Where the run stands."""
        return derive_status(
            self.info,
            exit_code=self.exit_code,
            scheduler_state=self.submission.get("state"),
            process_alive=is_alive,
            said_attempt=self.submission.get("attempt"),
        )

    @property
    def has_ended(self) -> bool:
        """Whether nothing more is to come."""
        return self.status in ENDED

    @property
    def is_submitted(self) -> bool:
        """Whether a scheduler has given it a job."""
        return self.submission.get("job_id") is not None

    @property
    def submission_unresolved(self) -> bool:
        """Whether it is not known what became of its submission: it was cut short, or had no clear answer."""
        return is_unresolved(self.submission)

    @property
    def job_label(self) -> str | None:
        """Scheduler and job, such as ``slurm 123_4``."""
        if not self.is_submitted:
            return None
        index = self.submission.get("array_index")
        return f"{self.submission.get('scheduler')} {self.submission['job_id']}{'' if index is None else f'_{index}'}"

    @property
    def start(self) -> datetime | None:
        """When the latest attempt started."""
        return _time(self.attempt_info.get("start_time"))

    @property
    def end(self) -> datetime | None:
        """When it ended, as far as anything says so."""
        if not self.has_ended:
            return None
        if noted := _time(self.attempt_info.get("end_time")):
            return noted
        try:  # killed before it could say so: script.sh has outlived it
            return datetime.fromtimestamp(self.run.exit_code.stat().st_mtime).astimezone()
        except OSError:
            return None

    @property
    def reason(self) -> str:
        """Why it stands there, on one line; empty where there is nothing to say."""
        if self.problem:
            return self.problem
        if not self.is_submitted and self.submission.get("error"):
            return _first_line(str(self.submission["error"]))
        if self.submission_unresolved:
            return "it is not known whether it was submitted"
        status, scheduler_says = self.status, self._scheduler_says()
        if status not in ENDED:
            if self.submission.get("cancel_time"):
                return "cancelled, and has not ended yet"
            unsubmitted = status is Status.PENDING and not self.submission and "order" in self.settings
            return "not submitted" if unsubmitted else scheduler_says if status is Status.PENDING else ""
        if status is Status.COMPLETE:
            return ""
        code = f"exit code {self.exit_status}" if self.exit_status else ""
        if not self._is_explained() and self._ran_out_of_memory():
            scheduler_says = "out of memory"
        error = self.attempt_info.get("error")
        if isinstance(error, Mapping):
            message = _first_line(str(error.get("message") or ""))
            own = str(error.get("type")).removeprefix(_PYTHONS_OWN)
            known = own if not message or own.startswith("SIG") else f"{own}: {message}"
            return ", ".join(part for part in (scheduler_says, known) if part)
        return ", ".join(part for part in (scheduler_says, code) if part)

    @property
    def settings(self) -> Mapping[str, Any]:
        """This package's own settings for the run, mlxp.yaml."""
        try:
            return load_yaml_or_empty(self.run.settings)
        except (OSError, ValueError):
            return {}

    @property
    def overrides(self) -> list[str]:
        """What its command line sets, where Hydra started it."""
        hydra = self.info.get("hydra")
        overrides = hydra.get("overrides") if isinstance(hydra, Mapping) else None
        return [str(one) for one in overrides] if isinstance(overrides, list) else []

    @property
    def scheduler_output(self) -> Path | None:
        """Where the scheduler itself has its say on the job, if it has one."""
        script, index = self.submission.get("script"), self.submission.get("array_index")
        return Path(script).with_name("job.out" if index is None else f"{index}.out") if script else None

    def _is_explained(self) -> bool:
        """Whether the job itself could say how it ended."""
        return self.exit_status in _OWN_CODES or self.attempt_info.get("status") in {Status.FAILED, Status.COMPLETE}

    def _ran_out_of_memory(self) -> bool:
        """Whether the scheduler's output says so, where its reason may not (JobLaunchFailure without cgroups)."""
        name = self.submission.get("scheduler")
        if name not in SCHEDULERS:
            return False
        try:
            with (self.scheduler_output or Path(os.devnull)).open(encoding="utf-8", errors="replace") as file:
                return load_scheduler(name).out_of_memory.search(file.read(1 << 16)) is not None
        except OSError:
            return False

    def _scheduler_says(self) -> str:
        reason = _first_line(str(self.submission.get("reason") or "")) if self.scheduler_status else ""
        if reason.startswith("exit ") or reason.lower() in _EMPTY:
            return ""
        name = self.submission.get("scheduler")
        return load_scheduler(name).in_words(reason) if name in SCHEDULERS else reason


def load_status(run: RunDir) -> Status:
    """Where a run stands, by its folder."""
    return RunState.load(run).status


def _read(path: Path, load: Callable[[], dict[str, Any]]) -> tuple[dict[str, Any], str]:
    """What a file says, and why that is nothing if it cannot be used."""
    try:
        return load(), ""
    except (OSError, ValueError) as error:
        return {}, f"{path.name} cannot be read: {_first_line(str(error))}"


def _number(value: object) -> int:
    return value if isinstance(value, int) else 1


def _time(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None


def _first_line(text: str) -> str:
    return text.strip().split("\n", 1)[0].strip()


def is_open(one: RunState) -> bool:
    """Whether the scheduler may have something to say that the folder does not know yet."""
    if not one.is_submitted and not one.submission_unresolved:
        return False  # was not submitted
    if one.scheduler_status in ENDED:
        return False
    status = one.status
    # what the job said of its own end stands, unless it was ended from outside and does not know why
    return status not in ENDED or not (status is Status.COMPLETE or _is_explained(one))


def _is_explained(one: RunState) -> bool:
    return one.attempt_info.get("status") == Status.FAILED and bool(one.attempt_info.get("error"))

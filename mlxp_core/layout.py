"""The run folder: where everything lies, and what its files together say. The contract of writer and reader.

The only module that knows names of files in a log directory. It opens none but the one-number exit_code.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class Status(str, enum.Enum):
    """Where a run stands."""

    PENDING = "PENDING"  # submitted, not started
    RUNNING = "RUNNING"
    COMPLETE = "COMPLETE"  # the task function returned, or the program exited with 0
    FAILED = "FAILED"  # an exception, or an exit code other than 0
    CANCELLED = "CANCELLED"  # stopped on request: Ctrl-C, SIGTERM, a cancelled job
    TIMEOUT = "TIMEOUT"  # the scheduler's time limit
    PREEMPTED = "PREEMPTED"  # gave way to another job
    LOST = "LOST"  # gone without a word: killed, or its machine died

    def __str__(self) -> str:
        """Give the bare name, on every Python version."""
        return self.value


_STOPPED = (128 + 2, 128 + 15)  # what a shell says of a program that SIGINT or SIGTERM ended
ENDED = frozenset(Status) - {Status.PENDING, Status.RUNNING}


@dataclass(frozen=True)
class RunDir:
    """One run's folder, ``<log_dir>/<id>``."""

    path: Path

    @property
    def id(self) -> int | None:
        """The run's id, or None for a folder that the user named."""
        return int(self.path.name) if is_run_id(self.path.name) else None

    @property
    def script(self) -> Path:
        """The job as submitted; running it by hand runs this job."""
        return self.path / "script.sh"

    @property
    def stdout(self) -> Path:
        """What the job printed."""
        return self.path / "log.stdout"

    @property
    def stderr(self) -> Path:
        """What the job printed to stderr."""
        return self.path / "log.stderr"

    @property
    def metadata(self) -> Path:
        """The folder of the files below."""
        return self.path / "metadata"

    @property
    def config(self) -> Path:
        """The composed configuration, resolved."""
        return self.metadata / "config.yaml"

    @property
    def config_unresolved(self) -> Path:
        """The composed configuration with its interpolations."""
        return self.metadata / "config_unresolved.yaml"

    @property
    def info(self) -> Path:
        """Status, times, host, process, command, code version; written by the job once it runs."""
        return self.metadata / "info.yaml"

    @property
    def submission(self) -> Path:
        """Scheduler, job id, array index, what the scheduler last said; written by the submitting side."""
        return self.metadata / "submission.yaml"

    @property
    def exit_code(self) -> Path:
        """The exit code of the job's command, written by script.sh."""
        return self.metadata / "exit_code"

    @property
    def starts(self) -> Path:
        """A line for each time that script.sh has started: time, host, the scheduler's job id."""
        return self.metadata / "starts"

    @property
    def settings(self) -> Path:
        """This package's own settings for the run, and how it is submitted."""
        return self.metadata / "mlxp.yaml"

    @property
    def environment(self) -> Path:
        """Software and hardware that the run met."""
        return self.metadata / "environment.yaml"

    def earlier(self, attempt: int) -> RunDir:
        """What an earlier attempt left, laid out like a run: its metrics, its ``metadata/info.yaml``."""
        return RunDir(self.metadata / "attempts" / str(attempt))

    @property
    def metrics(self) -> Path:
        """One file for each log name."""
        return self.path / "metrics"

    @property
    def metric_keys(self) -> Path:
        """Which keys the metric files hold, so that a reader need not open them to know."""
        return self.metrics / ".keys"

    @property
    def artifacts(self) -> Path:
        """Artifacts, by type and name."""
        return self.path / "artifacts"

    def metric_file(self, log_name: str) -> Path:
        """``metrics/<log_name>.json``: one JSON object a line."""
        return self.metrics / f"{log_name}.json"

    def metric_keys_file(self, log_name: str) -> Path:
        """``metrics/.keys/<log_name>.json``: one ``[key, type]`` a line, type ``number`` or ``other``."""
        return self.metric_keys / f"{log_name}.json"

    def artifact_file(self, artifact_type: str, name: str) -> Path:
        """``artifacts/<type>/<name>``."""
        return self.artifacts / artifact_type / name


@dataclass(frozen=True)
class LogDir:
    """A log directory: run folders named 1, 2, 3, … and the package's own ``.mlxp``."""

    path: Path

    @property
    def own(self) -> Path:
        """What belongs to the package and not to a run."""
        return self.path / ".mlxp"

    @property
    def last_id(self) -> Path:
        """A hint: every id up to this one is taken."""
        return self.own / "last_id"

    @property
    def submissions(self) -> Path:
        """One numbered folder for each submission: its script, its manifest of runs, its job id."""
        return self.own / "submissions"

    @property
    def launches(self) -> Path:
        """A numbered folder for each launch that has not submitted all of its runs."""
        return self.own / "launches"

    @property
    def lock(self) -> Path:
        """Held by whoever submits runs of this directory again."""
        return self.own / "lock"

    @property
    def code(self) -> Path:
        """Copies of the code, one folder for each version."""
        return self.own / "code"

    def run(self, run_id: int) -> RunDir:
        """The folder of one run."""
        return RunDir(self.path / str(run_id))


def is_run_id(name: str) -> bool:
    """Whether a folder's name is a run id: 1, 2, 3, … without leading zeros."""
    return name.isascii() and name.isdigit() and name[0] != "0"


def read_exit_code(run: RunDir) -> int | None:
    """What script.sh recorded of the job's command; None where there is nothing, or nothing whole."""
    try:
        return int(run.exit_code.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def read_starts(run: RunDir) -> int:
    """How often script.sh has started: the number of attempts there have been."""
    try:
        return run.starts.read_bytes().count(b"\n")
    except OSError:
        return 0


def derive_status(
    info: Mapping[str, Any],
    *,
    exit_code: int | None,
    scheduler_state: str | None,
    process_alive: Callable[[Mapping[str, Any]], bool | None],
) -> Status:
    """Say where a run stands, from everything its folder holds.

    ``info`` is info.yaml, ``exit_code`` what script.sh recorded, ``scheduler_state`` the status that the
    scheduler was last seen to imply, ``process_alive`` tells whether the process of ``info`` still runs
    (None: it cannot be known from here). What the job itself said of its end counts most; a job stopped
    from outside does not know why, so there the scheduler's word counts more.
    """
    recorded = _status(info.get("status")) or Status.PENDING
    said = _status(scheduler_state)
    if recorded is Status.CANCELLED and said in {Status.TIMEOUT, Status.PREEMPTED}:
        return said
    if recorded in ENDED:
        return recorded
    if said in ENDED and said is not Status.COMPLETE:
        return said
    if exit_code in _STOPPED:
        return Status.CANCELLED
    if exit_code is not None:
        # with 0 from a program that never said that it started, something else has run
        return Status.COMPLETE if exit_code == 0 and recorded is Status.RUNNING else Status.FAILED
    if said is Status.COMPLETE:
        return said
    if recorded is Status.RUNNING and process_alive(info) is False:
        return Status.LOST
    return recorded


def _status(name: object) -> Status | None:
    return Status(name) if isinstance(name, str) and name in Status.__members__ else None

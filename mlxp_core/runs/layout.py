"""The run folder: where everything lies, and what its files together say. The contract of writer and reader.

The only module that knows names of files in a log directory. It opens none but the two that script.sh writes.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple


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


ENDED = frozenset(Status) - {Status.PENDING, Status.RUNNING}
# what a shell says of a program that a signal ended, on Linux: SIGHUP, SIGINT, SIGTERM; SIGUSR1, SIGUSR2
_BY_SIGNAL = {
    **dict.fromkeys((128 + 1, 128 + 2, 128 + 15), Status.CANCELLED),
    **dict.fromkeys((128 + 10, 128 + 12), Status.PREEMPTED),
}
# what a scheduler knows better of a job that was stopped from outside. FAILED is not among them: it is what a scheduler
# makes of the exit code with which a preempted run leaves.
_REASONS = {
    Status.CANCELLED: (Status.TIMEOUT, Status.PREEMPTED, Status.LOST),  # LOST: a node that was given up could still say
    Status.PREEMPTED: (Status.TIMEOUT, Status.CANCELLED),
}


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
    def digest(self) -> Path:
        """What config.yaml and info.yaml say, in JSON, and what a run has logged that has ended; see digest.py."""
        return self.metadata / "digest.jsonl"

    @property
    def submission(self) -> Path:
        """Scheduler, job id, array index, what the scheduler last said; written by the submitting side."""
        return self.metadata / "submission.yaml"

    @property
    def exit_code(self) -> Path:
        """The exit code of the job's command and the attempt that it is of, written by script.sh."""
        return self.metadata / "exit_code"

    @property
    def starts(self) -> Path:
        """A line for each start of script.sh: when, on which host, as which process, in which job."""
        return self.metadata / "starts"

    @property
    def settings(self) -> Path:
        """This package's own settings for the run, and how it is submitted."""
        return self.metadata / "mlxp.yaml"

    @property
    def environment(self) -> Path:
        """Software and hardware that the run met."""
        return self.metadata / "environment.yaml"

    @property
    def diff(self) -> Path:
        """What the run's code has changed of the commit that it was taken from, where it has."""
        return self.metadata / "uncommitted.diff"

    @property
    def returned(self) -> Path:
        """What the task function returned, as JSON, where it is a plain value."""
        return self.metadata / "return_value.json"

    @property
    def payload(self) -> Path:
        """The job's own part of a task function that is no program: its configuration, pickled."""
        return self.metadata / "payload.pkl"

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
    def metrics_continued(self) -> Path:
        """From which earlier attempt the metrics go on, and how many bytes of its lines each file starts with."""
        return self.metrics / ".continued"

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
    def scripts(self) -> Path:
        """For each mlxpsub whose script had several programs the commands in which they came up, a number a line."""
        return self.own / "scripts"

    @property
    def lock(self) -> Path:
        """Held by whoever submits runs of this directory again."""
        return self.own / "lock"

    @property
    def code(self) -> Path:
        """Copies of the code, one folder for each version."""
        return self.own / "code"

    @property
    def payloads(self) -> Path:
        """Task functions that are no programs, pickled; each once, named by its hash."""
        return self.own / "payloads"

    @property
    def reader_index(self) -> Path:
        """What the reader keeps of runs that do not change; a cache."""
        return self.own / "reader-index"

    def run(self, run_id: int) -> RunDir:
        """The folder of one run."""
        return RunDir(self.path / str(run_id))


def is_run_id(name: str) -> bool:
    """Whether a folder's name is a run id: 1, 2, 3, … without leading zeros."""
    return name.isascii() and name.isdigit() and name[0] != "0"


class ExitCode(NamedTuple):
    """What script.sh recorded of the job's command."""

    code: int
    attempt: int | None = None  # None: written before attempts were counted


def read_exit_code(run: RunDir) -> ExitCode | None:
    """What script.sh recorded of the job's command; None where there is nothing, or nothing whole."""
    try:
        return exit_code_of(run.exit_code.read_bytes())
    except OSError:
        return None


def exit_code_of(text: bytes) -> ExitCode | None:
    """What this text, of the file that script.sh writes, says."""
    try:
        numbers = [int(word) for word in text.decode("ascii").split()]
    except ValueError:
        return None
    return ExitCode(*numbers) if 1 <= len(numbers) <= 2 else None  # noqa: PLR2004


def read_attempts_started(run: RunDir) -> int:
    """How often script.sh has started, whether a program of its came up or not."""
    try:
        return run.starts.read_bytes().count(b"\n")
    except OSError:
        return 0


def read_job_started(run: RunDir, attempt: int) -> str | None:
    """The id of the job that has started an attempt; None where it has not started, or outside of a job."""
    try:
        lines = run.starts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    words = lines[attempt - 1].split() if 0 < attempt <= len(lines) else []
    return words[3] if len(words) > 3 else None  # noqa: PLR2004  (when, where, which process, in which job)


def derive_status(
    info: Mapping[str, Any],
    *,
    exit_code: ExitCode | None,
    scheduler_state: str | None,
    process_alive: Callable[[Mapping[str, Any]], bool | None],
    said_attempt: int | None = None,
) -> Status:
    """Say where a run stands, from everything its folder holds.

    ``info`` is info.yaml, ``exit_code`` what script.sh recorded, ``scheduler_state`` the status that the
    scheduler was last seen to imply, and ``said_attempt`` the attempt that it spoke of (None: it is not known),
    ``process_alive`` tells whether the process of ``info`` still runs (None: it cannot be known from here).

    The latest attempt that any of them knows of counts. Of its end, what the job itself said counts most; a job
    stopped from outside does not know why, so there the scheduler's word counts more.
    """
    attempt = _number(info.get("attempt")) or 1
    ended_in = attempt if exit_code is None or exit_code.attempt is None else exit_code.attempt
    said_in = _number(said_attempt) or max(attempt, ended_in)
    latest = max(attempt, ended_in, said_in)
    # where the program of the latest attempt has not come up, it waits, is in its set-up lines, or did not get so far
    recorded = (_status(info.get("status")) if attempt == latest else None) or Status.PENDING
    code = exit_code.code if exit_code is not None and ended_in == latest else None
    said = _status(scheduler_state) if said_in == latest else None

    if said is not None and said in _REASONS.get(recorded, ()):
        return said
    if recorded in ENDED:
        return recorded
    if said in ENDED and said not in {Status.COMPLETE, Status.FAILED}:
        return said
    if code in _BY_SIGNAL:  # of which some schedulers know no more than that it is not 0
        return _BY_SIGNAL[code]
    if said is Status.FAILED:
        return said
    if code is not None:
        # with 0 from a program that never said that it started, something else has run
        return Status.COMPLETE if code == 0 and recorded is Status.RUNNING else Status.FAILED
    if said is Status.COMPLETE or (said is Status.RUNNING and attempt < latest):
        return said
    if recorded is Status.RUNNING and process_alive(info) is False:
        return Status.LOST
    return recorded


def _number(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _status(name: object) -> Status | None:
    return Status(name) if isinstance(name, str) and name in Status.__members__ else None

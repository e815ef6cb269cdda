"""The status of a run, derived from what its folder holds. Opens no file but the two that script.sh writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from mlxp_core.runs.layout import RunDir
from mlxp_core.statuses import ENDED as ENDED  # noqa: PLC0414  (part of this module for its importers)
from mlxp_core.statuses import Status as Status  # noqa: PLC0414

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


def count_starts(run: RunDir) -> int:
    """How often script.sh has started, whether a program of its came up or not."""
    try:
        return run.starts.read_bytes().count(b"\n")
    except OSError:
        return 0


def started_job_id(run: RunDir, attempt: int) -> str | None:
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
    """Derive a run's status from everything its folder holds.

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
    ended = _ended_as(recorded, said, code)
    if ended is not None:
        return ended
    if said is Status.RUNNING and attempt < latest:
        return said
    return Status.LOST if recorded is Status.RUNNING and process_alive(info) is False else recorded


def _ended_as(recorded: Status, said: Status | None, code: int | None) -> Status | None:
    """Derive how an attempt ended; None where nothing says that it has.

    ``recorded`` is what its program wrote, ``said`` the scheduler's word, ``code`` what script.sh recorded.
    """
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
    if code is not None or said is Status.COMPLETE:
        # where a program never said that it started, something else has ended well
        return Status.COMPLETE if not code and recorded is Status.RUNNING else Status.FAILED
    return None


def _number(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _status(name: object) -> Status | None:
    return Status(name) if isinstance(name, str) and name in Status.__members__ else None

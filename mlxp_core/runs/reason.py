"""The reason for a run's status, in one line for its user."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlxp_core.runs.status import ENDED, Status
from mlxp_core.runs.submission_record import SubmissionRecord
from mlxp_core.scheduler import SCHEDULERS, load_scheduler

# scheduler's words that say no more than the status does
_EMPTY = {"", "none", "completed", "failed", "cancelled", "running", "pending", "timeout", "lost"}
_BUILTIN = "builtins."  # what info.yaml once wrote before the name of Python's own exceptions
_OWN_CODES = range(128)  # above it is a signal


def describe_reason(
    status: Status,
    record: SubmissionRecord,
    *,
    attempt_info: Mapping[str, Any],
    exit_status: int | None,
    scheduler_status: str | None,
) -> str:
    """Say why a run has this status; empty where there is nothing to say.

    ``attempt_info``, ``exit_status`` and ``scheduler_status`` speak of the latest attempt; see RunState.
    """
    if not record.is_submitted and record.error:
        return first_line(record.error)
    if record.is_unresolved:
        return "it is not known whether it was submitted"
    scheduler_says = _in_words(record) if scheduler_status else ""
    if status not in ENDED:
        if record.cancel_time:
            return "cancelled, and has not ended yet"
        return scheduler_says if status is Status.PENDING else ""
    if status is Status.COMPLETE:
        return ""
    explained = exit_status in _OWN_CODES or attempt_info.get("status") in {Status.FAILED, Status.COMPLETE}
    if not explained and _ran_out_of_memory(record):
        scheduler_says = "out of memory"
    job_says = _describe_error(attempt_info.get("error"), exit_status)
    said = ", ".join(text for text in (scheduler_says, job_says) if text)
    ended_well = exit_status == 0 or (exit_status is None and scheduler_status == Status.COMPLETE)
    if not said and status is Status.FAILED and ended_well:
        return "its job has ended well, and its program had not started"
    return said


def first_line(text: str) -> str:
    """The first line of a message, without blanks around it."""
    return text.strip().split("\n", 1)[0].strip()


def _describe_error(error: object, exit_status: int | None) -> str:
    """What the job itself has said of its end: its exception, or else its exit code."""
    if not isinstance(error, Mapping):
        return f"exit code {exit_status}" if exit_status else ""
    message = first_line(str(error.get("message") or ""))
    kind = str(error.get("type")).removeprefix(_BUILTIN)
    return kind if not message or kind.startswith("SIG") else f"{kind}: {message}"


def _in_words(record: SubmissionRecord) -> str:
    reason = first_line(record.reason or "")
    if reason.startswith("exit ") or reason.lower() in _EMPTY:
        return ""
    return load_scheduler(record.scheduler).in_words(reason) if record.scheduler in SCHEDULERS else reason


def _ran_out_of_memory(record: SubmissionRecord) -> bool:
    """Look into the scheduler's output, where its reason may not say so (JobLaunchFailure without cgroups)."""
    if record.scheduler not in SCHEDULERS:
        return False
    output = record.output or Path(os.devnull)
    try:
        with output.open(encoding="utf-8", errors="replace") as file:
            return load_scheduler(record.scheduler).out_of_memory.search(file.read(1 << 16)) is not None
    except OSError:
        return False

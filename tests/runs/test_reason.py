"""Why a run has its status, in one line: records in, words out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mlxp_core.runs import reason
from mlxp_core.runs.reason import describe_reason, first_line
from mlxp_core.runs.status import Status
from mlxp_core.runs.submission_record import SubmissionRecord

TIME = "2026-11-25T18:00:00+00:00"
QUEUED: dict[str, Any] = {
    "scheduler": "slurm",
    "script": "/logs/.mlxp/submissions/1/job.sh",
    "time": TIME,
    "job_id": "7",
}
KEY_ERROR = {"type": "builtins.KeyError", "message": " 'lr'\nmore"}


def said(
    status: Status, raised: Any = None, exit_status: int | None = None, *, told: str | None = "FAILED", **record: Any
) -> str:
    """The reason of a run that was submitted, unless the record says otherwise."""
    return describe_reason(
        status,
        SubmissionRecord(**{**QUEUED, **record}),
        attempt_info={"error": raised, "status": str(status)} if raised else {},
        exit_status=exit_status,
        scheduler_status=told,
    )


@pytest.mark.parametrize(
    ("error", "exit_status", "words"),
    [
        (KEY_ERROR, 1, "KeyError: 'lr'"),
        ({"type": "torch.cuda.OutOfMemoryError", "message": "CUDA"}, 1, "torch.cuda.OutOfMemoryError: CUDA"),
        ({"type": "SIGTERM", "message": "killed by a signal"}, 143, "SIGTERM"),
        ({"type": "builtins.AssertionError", "message": ""}, 1, "AssertionError"),
        ({"type": "builtins.AssertionError", "message": None}, 1, "AssertionError"),
        ({"type": "x.SIGError", "message": "m"}, 1, "x.SIGError: m"),
        (None, 3, "exit code 3"),
        (None, 137, "exit code 137"),
        (None, 0, "its job has ended well, and its program had not started"),
        (None, None, ""),
        ("a text", 2, "exit code 2"),
    ],
)
def test_a_job_that_failed_says_it_by_its_exception_or_its_exit_code(
    error: Any, exit_status: int | None, words: str
) -> None:
    """Bug: `builtins.` before each exception, a signal with its text, a message of ten lines, "exit code None"."""
    assert said(Status.FAILED, error, exit_status, told=None) == words


@pytest.mark.parametrize(
    ("status", "native", "told", "words"),
    [
        (Status.FAILED, "NodeFail", "FAILED", "node failure, KeyError: 'lr'"),
        (Status.FAILED, "NodeFail", None, "KeyError: 'lr'"),  # of an earlier attempt
        (Status.FAILED, "Failed", "FAILED", "KeyError: 'lr'"),  # no more than the status
        (Status.FAILED, "exit 1", "FAILED", "KeyError: 'lr'"),
        (Status.FAILED, None, "FAILED", "KeyError: 'lr'"),
        (Status.FAILED, "exits early\nor so", "FAILED", "exits early, KeyError: 'lr'"),
        (Status.PENDING, "Resources", "PENDING", "Resources"),
        (Status.PENDING, "Resources", None, ""),
        (Status.RUNNING, "NodeFail", "RUNNING", ""),
        (Status.COMPLETE, "NodeFail", "FAILED", ""),
    ],
)
def test_the_schedulers_word_comes_first_where_it_says_more_than_the_status(
    status: Status, native: str | None, told: str | None, words: str
) -> None:
    """Bug: "failed, FAILED"; the reason of an earlier attempt; why a run waited beside that it is complete."""
    assert said(status, KEY_ERROR, 1, told=told, reason=native) == words


def test_a_job_that_never_came_to_its_program_says_so() -> None:
    """Bug: FAILED without a word, for a template whose `exec` or `exit 0` stands before the program."""
    words = "its job has ended well, and its program had not started"
    assert said(Status.FAILED, told="COMPLETE", reason="Completed") == words
    assert said(Status.FAILED, exit_status=0, told=None) == words
    assert said(Status.FAILED, exit_status=3, told="COMPLETE") == "exit code 3"
    assert said(Status.FAILED, told="FAILED") == ""
    assert said(Status.LOST, exit_status=0, told=None) == ""


@pytest.mark.parametrize("status", [Status.PENDING, Status.RUNNING])
def test_a_run_that_was_cancelled_and_lives_says_so(status: Status) -> None:
    """Bug: cancelled for an hour, and nobody can see that it was asked for."""
    assert said(status, reason="Resources", cancel_time=TIME) == "cancelled, and has not ended yet"
    assert said(Status.CANCELLED, cancel_time=TIME, reason="by ada") == "by ada"


def test_what_was_not_submitted_says_why_or_that_nobody_knows() -> None:
    """Bug: the reason of a refusal is lost; or one is made up where it is open whether the job was taken."""
    error = "not submitted: slurm refused the submission:\n  command: sbatch"
    assert said(Status.FAILED, job_id=None, script=None, error=error) == "not submitted: slurm refused the submission:"
    assert said(Status.FAILED, job_id=None) == "it is not known whether it was submitted"
    assert said(Status.FAILED, KEY_ERROR, error="an older one") == "KeyError: 'lr'"  # submitted since


@pytest.mark.parametrize(
    ("error", "exit_status", "words"),
    [
        (None, 137, "out of memory, exit code 137"),
        (None, None, "out of memory"),
        (None, 127, "exit code 127"),
        (KEY_ERROR, 1, "KeyError: 'lr'"),
        (KEY_ERROR, 137, "KeyError: 'lr'"),
    ],
)
def test_memory_is_the_reason_where_the_job_has_none_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Any, exit_status: int | None, words: str
) -> None:
    """Bug: a run that raised is "out of memory", as a child of it was killed for that and caught; or it never is."""
    output = tmp_path / "slurm.out"
    output.write_text("slurmstepd: error: Detected 1 oom_kill event in StepId=7.0\n")
    monkeypatch.setattr(SubmissionRecord, "output", output)
    assert said(Status.FAILED, error, exit_status, told=None) == words
    output.write_text("nothing of that kind\n")
    assert "memory" not in said(Status.FAILED, error, exit_status, told=None)
    output.unlink()
    assert "memory" not in said(Status.FAILED, error, exit_status, told=None)


def test_a_scheduler_of_a_later_version_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: KeyError of `mlxp status` for one run that a newer version has submitted."""
    monkeypatch.setattr(SubmissionRecord, "output", tmp_path / "none")
    assert said(Status.FAILED, scheduler="novel", reason="Evicted") == "Evicted"
    assert not reason._ran_out_of_memory(SubmissionRecord(**{**QUEUED, "scheduler": "novel"}))


def test_a_line_is_the_first_that_says_something() -> None:
    """Bug: an empty reason, as a message begins with a line break."""
    assert [first_line(text) for text in ("a\nb", "\n  a  \nb", "", " \n ")] == ["a", "a", "", ""]

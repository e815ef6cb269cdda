"""What is made of a command's end: its exit code, its words, and a child of it that stays."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlxp_core.errors import CommandError, SubmissionBusyError, SubmissionRefusedError, SubmissionUnclearError
from mlxp_core.scheduler import client, load_scheduler
from mlxp_core.scheduler.base import ArrayLimit, NativeJob, QueueQuery, StatusQuery, any_of, line_pattern

SLURM = load_scheduler("slurm")


def test_a_child_that_holds_the_pipe_keeps_nobody_waiting() -> None:
    """Bug: a client that is killed at its limit, and a launcher that reads from what it has left for ever."""
    script = "setsid sh -c 'echo child $$; exec sleep 600' & echo whole; echo half >&2; sleep 600"
    began = time.monotonic()
    answer = client.run_command(("sh", "-c", script), limit=0.3)
    assert time.monotonic() - began < 300
    lines = sorted(answer.stdout.splitlines())
    os.kill(int(lines[0].split()[1]), signal.SIGKILL)
    assert (answer.code, lines[1:], answer.stderr) == (None, ["whole"], "half\n")
    assert "no answer within 0.3 s" in str(answer)


def test_of_a_client_that_is_killed_no_zombie_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: a dead process, or an open pipe, more for each query of a waiting launcher; a client that says nothing."""
    started = []
    start = client.subprocess.Popen

    def kept(*args: Any, **options: Any) -> Any:
        started.append(start(*args, **options))
        return started[-1]

    monkeypatch.setattr(client.subprocess, "Popen", kept)
    answer = client.run_command(
        ("sh", "-c", "setsid sleep 60 & echo $! > pid; sleep 60"), limit=0.2, directory=tmp_path
    )
    (process,) = started
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    assert (answer.code, answer.stdout, answer.stderr) == (None, "", "")
    assert (process.returncode, process.stdout.closed, process.stderr.closed) == (-signal.SIGKILL, True, True)


def test_a_client_that_is_too_slow_goes_with_all_that_it_has_started(tmp_path: Path) -> None:
    """Bug: an `ssh` of a wrapper around sbatch that submits after it was given up."""
    began = time.monotonic()
    answer = client.run_command(("sh", "-c", f"sh -c 'sleep 600; touch {tmp_path}/late' & echo $!; wait"), limit=0.2)
    assert time.monotonic() - began < 300
    assert answer.code is None
    child = Path(f"/proc/{answer.stdout.strip()}/stat")
    end = time.monotonic() + 300
    while child.exists() and child.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_command_is_run_where_and_with_what_it_is_told(tmp_path: Path) -> None:
    """Bug: a submit command in the directory of the launcher; PWD of another one, by which OAR goes; no stdin."""
    (tmp_path / "script").write_text("#!/bin/sh\n")
    answer = client.run_command(
        ("sh", "-c", 'pwd; echo "$A"; cat; exit 3'),
        limit=10,
        environment={"A": "b"},
        directory=tmp_path,
        stdin=tmp_path / "script",
    )
    assert (answer.code, answer.stdout) == (3, f"{tmp_path}\nb\n#!/bin/sh\n")
    assert f"PWD={tmp_path}" in client.run_command(("env",), limit=10, directory=tmp_path).stdout.splitlines()
    assert client.run_command(("cat",), limit=10).stdout == ""


def test_a_long_answer_is_shown_by_its_beginning() -> None:
    """Bug: an error of a megabyte, for a queue of thousands."""
    shown = str(client.CommandResult(("squeue", "a b"), 1, "x" * 2100, " \n", 5.0))
    assert (
        shown == f"  command: squeue 'a b'\n  exit code 1\n  stdout: {'x' * 2000} … (100 characters more)\n  stderr: "
    )
    assert "more" not in str(client.CommandResult(("squeue",), 1, "x" * 2000, "", 5.0))


def answering(
    monkeypatch: pytest.MonkeyPatch, code: int | None, stdout: str = "", stderr: str = ""
) -> list[dict[str, object]]:
    """Have every command end like this; gives the calls."""
    calls: list[dict[str, object]] = []

    def run_command(command: tuple[str, ...], **options: object) -> client.CommandResult:
        calls.append({"command": command, **options})
        return client.CommandResult(command, code, stdout, stderr, 1.0)

    monkeypatch.setattr(client, "run_command", run_command)
    return calls


@pytest.mark.parametrize(
    ("code", "stdout", "stderr", "error"),
    [
        (0, "42\n", "", None),
        (0, "sbatch: something new\n42;cluster\n", "a warning", None),
        (1, "42\n", "", SubmissionRefusedError),  # it says that it has failed
        (0, "", "", SubmissionUnclearError),  # and has not said which job
        (0, "", "job submit limit", SubmissionUnclearError),
        (None, "42\n", "", SubmissionUnclearError),
        (None, "", "job submit limit", SubmissionUnclearError),
        (1, "", "job submit limit", SubmissionBusyError),
        (1, "job submit limit", "", SubmissionBusyError),
        (1, "", "Socket timed out", SubmissionUnclearError),
        (1, "", "job submit limit, and then the socket timed out", SubmissionBusyError),
        (9, "", "Invalid qos", SubmissionUnclearError),  # a code that leaves it open, as OAR has
        (9, "", "job submit limit", SubmissionUnclearError),
        (1, "", "Invalid qos", SubmissionRefusedError),
    ],
)
def test_an_answer_is_a_job_a_refusal_or_neither(
    monkeypatch: pytest.MonkeyPatch, code: int | None, stdout: str, stderr: str, error: type[CommandError] | None
) -> None:
    """Bug: a refusal for a job that was taken, and that the same command submits again."""
    answering(monkeypatch, code, stdout, stderr)
    scheduler = replace(SLURM, unclear_codes=frozenset({9}))
    if error is None:
        assert client.submit(scheduler, Path("/x/job.sh"), limit=5) == "42"
        return
    with pytest.raises(error) as caught:
        client.submit(scheduler, Path("/x/job.sh"), limit=5)
    assert type(caught.value) is error
    assert "command: sbatch --parsable /x/job.sh" in str(caught.value)


@pytest.mark.parametrize("on_stdin", [False, True])
def test_a_script_is_the_last_argument_or_the_input(monkeypatch: pytest.MonkeyPatch, on_stdin: bool) -> None:
    """Bug: `bsub script` of LSF, which runs it without reading its directives; options behind the script."""
    calls = answering(monkeypatch, 0, "42\n")
    scheduler, script = replace(SLURM, script_on_stdin=on_stdin), Path("/x/job.sh")
    client.submit(scheduler, script, extra=("-J", "n[1-2]"), directory=Path("/work"), limit=5)
    command = ("sbatch", "--parsable", "-J", "n[1-2]")
    assert calls == [
        {
            "command": command if on_stdin else (*command, "/x/job.sh"),
            "limit": 5,
            "environment": {"SBATCH_IGNORE_PBS": "1"},
            "directory": Path("/work"),
            "stdin": script if on_stdin else None,
        }
    ]


@pytest.mark.parametrize(
    ("code", "stdout", "error"), [(0, "42\n", client.InterruptedSubmission), (1, "42\n", client.InterruptedCommand)]
)
def test_what_was_submitted_before_an_interrupt_is_told(
    monkeypatch: pytest.MonkeyPatch, code: int, stdout: str, error: type[KeyboardInterrupt]
) -> None:
    """Bug: Ctrl-C, and a job that nobody knows of; or an id of one that was refused."""

    def interrupted(command: tuple[str, ...], **_: object) -> client.CommandResult:
        raise client.InterruptedCommand(client.CommandResult(command, code, stdout, "", 1.0))

    monkeypatch.setattr(client, "run_command", interrupted)
    with pytest.raises(KeyboardInterrupt) as caught:
        client.submit(SLURM, Path("/x/job.sh"), limit=5)
    assert type(caught.value) is error


JOB = NativeJob("7", 1, "RUNNING")


def read(text: str) -> list[NativeJob]:
    if "garbage" in text:
        raise KeyError("id")
    return [JOB] if text.strip() else []


HOW = StatusQuery(
    lambda what: ("squeue", what.user),
    read,
    codes=frozenset({0, 3}),
    nothing=any_of("no such job"),
    no_answer=any_of("DBD::"),
)


@pytest.mark.parametrize(
    ("code", "stdout", "stderr", "jobs"),
    [
        (0, "7\n", "", [JOB]),
        (3, "7\n", "", [JOB]),
        (3, "7\n", "no such job 8", [JOB]),  # of one of two jobs
        (3, "", "no such job", []),
        (1, "", "no such job", []),
        (1, "No such job\n", "", []),
        (0, "", "", []),
        (1, "7\n", "", "does not say what is in its queue"),
        (None, "7\n", "", "no answer within"),
        (None, "", "no such job", "no answer within"),
        (0, "7\n", "DBD::Pg failed", "DBD::Pg failed"),
        (0, "garbage\n", "", "no answer that can be understood"),
    ],
)
def test_an_answer_of_the_queue_is_jobs_nothing_or_none(
    monkeypatch: pytest.MonkeyPatch, code: int | None, stdout: str, stderr: str, jobs: list[NativeJob] | str
) -> None:
    """Bug: half an answer, or none, taken for a queue in which there is nothing: every job is LOST."""
    calls = answering(monkeypatch, code, stdout, stderr)
    if isinstance(jobs, str):
        with pytest.raises(CommandError, match=jobs):
            client.query(SLURM, HOW, QueueQuery("ada"), limit=5)
    else:
        assert client.query(SLURM, HOW, QueueQuery("ada"), limit=5) == jobs
    assert calls == [{"command": ("squeue", "ada"), "limit": 5}]


@pytest.mark.parametrize(("code", "works"), [(0, True), (6, True), (1, False), (None, False)])
def test_a_cancellation_that_did_not_work_says_so(
    monkeypatch: pytest.MonkeyPatch, code: int | None, works: bool
) -> None:
    """Bug: a job that goes on, and a run that is CANCELLED."""
    calls = answering(monkeypatch, code, "", "not yours")
    scheduler = replace(SLURM, cancel_codes=frozenset({0, 6}))
    if works:
        client.cancel(scheduler, [("7", 1), ("8", None)], limit=5)
    else:
        with pytest.raises(CommandError, match=r"(?s)did not cancel all of it.*not yours"):
            client.cancel(scheduler, [("7", 1), ("8", None)], limit=5)
    assert calls == [{"command": ("scancel", "7_1", "8"), "limit": 5}]


CONFIG = line_pattern(r"^MaxArraySize\s*=\s*(?P<n>\d+)")


@pytest.mark.parametrize(
    ("limit", "stdout", "number"),
    [
        (ArrayLimit(2, ("scontrol",), CONFIG, above=1), "Max = 3\nMaxArraySize = 1001\n", 1000),
        (ArrayLimit(2, ("scontrol",), CONFIG), "MaxArraySize = 1001\n", 1001),
        (ArrayLimit(2, ("scontrol",), CONFIG, above=1), "MaxArraySize = 1\n", None),  # no arrays
        (ArrayLimit(2, ("scontrol",), CONFIG), "", None),
        (None, "MaxArraySize = 1001\n", None),
    ],
)
def test_the_largest_array_is_read_of_the_sites_configuration(
    monkeypatch: pytest.MonkeyPatch, limit: ArrayLimit | None, stdout: str, number: int | None
) -> None:
    """Bug: one job too many in each array, or arrays of none."""
    answering(monkeypatch, 0, stdout)
    assert client.array_limit(replace(SLURM, limit=limit), limit=5) == number


def test_a_site_that_cannot_be_asked_for_its_limit_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: a launch that fails, as scontrol is not on the login node."""

    def absent(*_: object, **__: object) -> client.CommandResult:
        raise CommandError("scontrol is not on this machine's PATH")

    monkeypatch.setattr(client, "run_command", absent)
    assert client.array_limit(SLURM, limit=5) is None


@pytest.mark.parametrize(("limit", "waited"), [(60.0, [60.0, 10.0]), (2.0, [2.0, 2.0])])
def test_after_an_interrupt_an_answer_is_worth_a_moment(
    monkeypatch: pytest.MonkeyPatch, limit: float, waited: list[float]
) -> None:
    """Bug: Ctrl-C, and a minute of waiting for a controller that hangs; or longer than the command may take."""
    timeouts: list[float] = []

    class Process:
        returncode = 0

        def communicate(self, timeout: float) -> tuple[bytes, bytes]:
            timeouts.append(timeout)
            if len(timeouts) == 1:
                raise KeyboardInterrupt
            return b"42\n", b""

    monkeypatch.setattr(client, "_start", lambda *_, **__: Process())
    with pytest.raises(client.InterruptedCommand) as caught:
        client.run_command(("sbatch",), limit=limit)
    assert (timeouts, caught.value.answer.stdout) == (waited, "42\n")

"""Where a run stands, from all that its folder says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from machines import Host

from mlxp_core.runs.layout import RunDir
from mlxp_core.runs.process import is_alive, start_time, this_process
from mlxp_core.runs.state import load_status
from mlxp_core.runs.status import ExitCode, Status, count_starts, derive_status, read_exit_code
from mlxp_core.yaml_io import write_yaml


@pytest.mark.parametrize(
    ("recorded", "exit_code", "scheduler", "alive", "status"),
    [
        ("PENDING", None, None, None, "PENDING"),
        ("PENDING", None, "PENDING", None, "PENDING"),
        ("RUNNING", None, None, True, "RUNNING"),
        ("RUNNING", None, None, None, "RUNNING"),  # on another host: not to be known from here
        ("RUNNING", None, None, False, "LOST"),  # SIGKILL, a machine that went down
        ("RUNNING", 137, None, False, "FAILED"),  # script.sh outlived its program
        ("RUNNING", 0, None, False, "COMPLETE"),  # the program left by os._exit(0)
        ("PENDING", 1, None, None, "FAILED"),  # the set-up lines failed
        ("PENDING", 0, None, None, "FAILED"),  # the command ended well, and was not the program
        ("PENDING", 143, None, None, "CANCELLED"),  # stopped before Python was up
        ("RUNNING", 130, None, False, "CANCELLED"),
        ("PENDING", 143, "FAILED", None, "CANCELLED"),  # what TORQUE makes of the script's exit code
        ("PENDING", 137, "FAILED", None, "FAILED"),
        ("PENDING", None, "CANCELLED", None, "CANCELLED"),  # cancelled while queued
        ("PENDING", None, "FAILED", None, "FAILED"),  # refused
        ("RUNNING", None, "LOST", None, "LOST"),
        ("CANCELLED", 143, "LOST", None, "LOST"),  # by SIGTERM, as its node was given up
        ("CANCELLED", 143, "TIMEOUT", False, "TIMEOUT"),  # the job knows of a SIGTERM, the scheduler of the reason
        ("CANCELLED", 143, "PREEMPTED", False, "PREEMPTED"),
        ("CANCELLED", 143, "CANCELLED", False, "CANCELLED"),
        ("PENDING", 138, None, None, "PREEMPTED"),  # a warning before Python was up
        ("PREEMPTED", 0, None, False, "PREEMPTED"),
        ("PREEMPTED", 0, "FAILED", False, "PREEMPTED"),  # what Slurm makes of its exit code 75
        ("PREEMPTED", 0, "CANCELLED", False, "CANCELLED"),  # scancel: it left in order, and was cancelled
        ("PREEMPTED", None, "TIMEOUT", False, "TIMEOUT"),
        ("COMPLETE", 0, "LOST", False, "COMPLETE"),  # forgotten by the queue since
        ("FAILED", 1, "COMPLETE", False, "FAILED"),  # a template whose last line is an echo
        ("COMPLETE", None, None, False, "COMPLETE"),
        ("RUNNING", None, "COMPLETE", None, "COMPLETE"),  # a script.sh that could not keep its exit code
        ("RUNNING", 1, "COMPLETE", None, "FAILED"),
        ("PENDING", None, "COMPLETE", None, "FAILED"),  # the job ended well, and never came to the program
        ("PENDING", 0, "COMPLETE", None, "FAILED"),
        ("frobnicating", None, None, None, "PENDING"),
        (None, None, None, None, "PENDING"),
        (["RUNNING"], None, {"a": 1}, None, "PENDING"),  # anything may stand in a file
    ],
)
def test_the_folder_says_where_a_run_stands(
    recorded: str | None, exit_code: int | None, scheduler: str | None, alive: bool | None, status: str
) -> None:
    """Bug: RUNNING for ever, or a job's own COMPLETE overwritten by a queue that has forgotten it."""
    code = None if exit_code is None else ExitCode(exit_code)
    derived = derive_status(
        {"status": recorded}, exit_code=code, scheduler_state=scheduler, process_alive=lambda _: alive
    )
    assert derived is Status(status)


@pytest.mark.parametrize(
    ("recorded", "exit_code", "scheduler", "status"),
    # each with the attempt that it is of
    [
        (("PREEMPTED", 1), None, ("PENDING", 2), "PENDING"),  # waits for its next attempt
        (("FAILED", 1), (1, 1), (None, 2), "PENDING"),  # submitted again
        (("FAILED", 1), (1, 1), ("RUNNING", 2), "RUNNING"),  # in its set-up lines
        (("FAILED", 1), (1, 1), ("CANCELLED", 2), "CANCELLED"),  # while it waited
        (("PREEMPTED", 1), (0, 1), ("FAILED", 1), "PREEMPTED"),
        (("PREEMPTED", 1), (1, 2), (None, None), "FAILED"),  # the set-up lines of the second failed
        (("COMPLETE", 1), (143, 2), ("TIMEOUT", 2), "TIMEOUT"),  # in the set-up lines
        (("COMPLETE", 1), (143, 2), ("TIMEOUT", None), "TIMEOUT"),  # of which it speaks is not known: of the latest
        (("COMPLETE", 1), (1, 2), ("COMPLETE", 1), "FAILED"),  # the scheduler's word is of the first
        (("RUNNING", 1), (137, 2), ("TIMEOUT", None), "TIMEOUT"),  # of which attempt it is not known: of the latest
        (("RUNNING", 2), (137, 1), ("TIMEOUT", None), "TIMEOUT"),
        (("PENDING", 1), (1, 1), ("PENDING", 2), "PENDING"),
        (("RUNNING", 2), (143, 1), (None, None), "RUNNING"),  # the older copy's exit code
        (("RUNNING", 2), None, ("TIMEOUT", 1), "RUNNING"),
        (("RUNNING", 2), (137, 2), ("LOST", 1), "FAILED"),
        (("RUNNING", "x"), None, ("PENDING", "y"), "RUNNING"),
    ],
)
def test_the_latest_attempt_that_anything_speaks_of_counts(
    recorded: tuple[str, int], exit_code: tuple[int, int] | None, scheduler: tuple[str | None, int | None], status: str
) -> None:
    """Bug: a run that waits for its second attempt is FAILED, by the first; or its exit code ends the second."""
    derived = derive_status(
        {"status": recorded[0], "attempt": recorded[1]},
        exit_code=None if exit_code is None else ExitCode(*exit_code),
        scheduler_state=scheduler[0],
        said_attempt=scheduler[1],
        process_alive=lambda _: True,
    )
    assert derived is Status(status)


@pytest.mark.parametrize(
    ("text", "read"),
    [("3 2\n", (3, 2)), ("143\n", (143, None)), ("0 \n", (0, None)), ("", None), ("x 1\n", None), ("1 2 3\n", None)],
)
def test_an_exit_code_is_read_with_its_attempt_and_without(
    tmp_path: Path, text: str, read: tuple[int, int | None] | None
) -> None:
    """Bug: a folder written before attempts were counted has no exit code any more."""
    run = RunDir(tmp_path)
    assert (read_exit_code(run), count_starts(run)) == (None, 0)
    run.metadata.mkdir()
    run.exit_code.write_text(text)
    run.starts.write_text("a\nb\n")
    assert (read_exit_code(run), count_starts(run)) == (read, 2)


def test_a_process_is_told_from_a_later_one_with_its_pid() -> None:
    """Bug: a recycled pid keeps a dead run RUNNING."""
    info = this_process()
    assert info["process_id"] == os.getpid()
    assert is_alive(info) is True
    assert is_alive({**info, "process_start": info["process_start"] - 1}) is False
    assert is_alive({**info, "hostname": "elsewhere.example"}) is None
    assert is_alive({}) is None


def record_running(run: RunDir) -> None:
    run.metadata.mkdir()
    write_yaml(run.info, {"status": "RUNNING", "attempt": 1, **this_process()})


def test_only_the_host_of_a_process_can_say_that_it_has_gone(tmp_path: Path, two_hosts: tuple[Host, Host]) -> None:
    """Bug: a login node finds no such process in its own /proc, and a run that computes on a node is LOST."""
    node, login = two_hosts
    run = RunDir(tmp_path)
    node.call(record_running, run)  # by a process that is gone after this
    assert login.call(load_status, run) == "RUNNING"
    assert node.call(load_status, run) == "LOST"


def test_a_process_that_has_ended_is_not_alive_even_as_a_zombie() -> None:
    """Bug: /proc/<pid> is there until the parent has asked."""
    with subprocess.Popen([sys.executable, "-c", "pass"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert start_time(process.pid) is None

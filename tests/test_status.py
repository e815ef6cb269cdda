"""Where a run stands, from all that its folder says."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from mlxp_core.layout import Status, derive_status
from mlxp_core.process import is_alive, start_time, this_process


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
        ("PENDING", None, "CANCELLED", None, "CANCELLED"),  # cancelled while queued
        ("PENDING", None, "FAILED", None, "FAILED"),  # refused
        ("RUNNING", None, "LOST", None, "LOST"),
        ("CANCELLED", 143, "TIMEOUT", False, "TIMEOUT"),  # the job knows of a SIGTERM, the scheduler of the reason
        ("CANCELLED", 143, "PREEMPTED", False, "PREEMPTED"),
        ("CANCELLED", 143, "CANCELLED", False, "CANCELLED"),
        ("COMPLETE", 0, "LOST", False, "COMPLETE"),  # forgotten by the queue since
        ("FAILED", 1, "COMPLETE", False, "FAILED"),  # a template whose last line is an echo
        ("COMPLETE", None, None, False, "COMPLETE"),
        ("frobnicating", None, None, None, "PENDING"),
        (None, None, None, None, "PENDING"),
        (["RUNNING"], None, {"a": 1}, None, "PENDING"),  # anything may stand in a file
    ],
)
def test_the_folder_says_where_a_run_stands(
    recorded: str | None, exit_code: int | None, scheduler: str | None, alive: bool | None, status: str
) -> None:
    """Bug: RUNNING for ever, or a job's own COMPLETE overwritten by a queue that has forgotten it."""
    derived = derive_status(
        {"status": recorded}, exit_code=exit_code, scheduler_state=scheduler, process_alive=lambda _: alive
    )
    assert derived is Status(status)


def test_a_process_is_told_from_a_later_one_with_its_pid() -> None:
    """Bug: a recycled pid keeps a dead run RUNNING."""
    info = this_process()
    assert info["process_id"] == os.getpid()
    assert is_alive(info) is True
    assert is_alive({**info, "process_start": info["process_start"] - 1}) is False
    assert is_alive({**info, "hostname": "elsewhere.example"}) is None
    assert is_alive({}) is None


def test_a_process_that_has_ended_is_not_alive_even_as_a_zombie() -> None:
    """Bug: /proc/<pid> is there until the parent has asked."""
    with subprocess.Popen([sys.executable, "-c", "pass"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert start_time(process.pid) is None

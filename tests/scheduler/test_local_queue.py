"""The local queue's spool: ids that count on, and what ended long ago."""

from __future__ import annotations

import argparse
import fcntl
import os
import sys
import time
import warnings
from pathlib import Path

import pytest

from mlxp_core.scheduler import local_queue


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLXP_LOCAL_SPOOL", str(tmp_path / "spool"))
    return local_queue.spool()


@pytest.mark.parametrize(("there", "expected"), [((), 1), (("1", "3"), 4), (("9", "10"), 11), (("2", "x", ".5"), 3)])
def test_a_job_has_the_id_after_the_highest(spool: Path, there: tuple[str, ...], expected: int) -> None:
    """Bug: an id twice, whose run then has another job's state; or a search through all that ever was."""
    for name in there:
        (spool / name).mkdir()
    assert local_queue.new_job() == (expected, spool / str(expected))
    assert local_queue.new_job()[0] == expected + 1


def test_an_id_that_another_has_just_taken_is_passed_over(spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: two launches at once in one folder."""
    for name in ("1", "2"):
        (spool / name).mkdir()
    monkeypatch.setattr(Path, "iterdir", lambda _: iter(()))  # as it was before
    assert local_queue.new_job()[0] == 3


def test_what_ended_long_ago_is_forgotten_but_for_the_newest(spool: Path) -> None:
    """Bug: ids from 1 again after a week; a job that still runs without its folder; a spool that only grows."""
    week = time.time() - 8 * 24 * 3600
    for number in (1, 2, 9, 10, 11):
        (spool / str(number)).mkdir()
        (spool / str(number) / "states").write_text("|COMPLETED|\n")
    lock = os.open(spool / "2" / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    for number in (1, 2, 10, 11):
        os.utime(spool / str(number), (week, week))
    local_queue.forget_old()
    assert sorted(os.listdir(spool), key=int) == ["2", "9", "11"]  # one is held, one is young
    assert local_queue.new_job()[0] == 12
    os.close(lock)
    os.utime(spool / "2", (week, week))
    local_queue.forget_old()
    assert "2" not in os.listdir(spool)


@pytest.mark.parametrize(
    ("directives", "count", "parallel"),
    [
        ("", None, 7),
        ("#LOCAL --array=1-3\n", 3, 7),
        ("#LOCAL --array=1-3%2\n#LOCAL --job-name='a b' # x\n", 3, 2),
        ("#LOCAL\t--output=x\n\n# a\n#LOCAL --array=1-12%1\necho\n#LOCAL --array=1-3\n", 12, 1),
        ("#LOCALX --array=1-3\n", None, 7),
    ],
)
def test_directives_are_read_up_to_the_first_command(
    monkeypatch: pytest.MonkeyPatch, directives: str, count: int | None, parallel: int
) -> None:
    """Bug: all tasks at once on eight processors; a directive in the middle of a script that counts."""
    monkeypatch.setattr(local_queue, "cpus", lambda: 7)
    options = local_queue.read_directives(f"#!/bin/bash\n{directives}")
    assert (options.count, options.parallel) == (count, parallel)


@pytest.mark.parametrize("wrong", ["--array=0-3", "--array=1-0", "--array=1-3%0", "--array=2-3", "--array=3", "--foo"])
def test_a_directive_that_means_nothing_ends_the_submission(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Bug: one task, or none, where an array was asked for."""
    with pytest.raises(SystemExit):
        local_queue.read_directives(f"#!/bin/bash\n#LOCAL {wrong}\n")
    assert wrong in capsys.readouterr().err


def test_states_are_the_last_words_and_lost_without_a_queue(spool: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Bug: the first word of a task, or that of its neighbour; a submission in the making ends the status of all."""
    folder = spool / "2"
    folder.mkdir()
    (spool / "10").mkdir()  # being made
    (folder / "job.json").write_text('{"script": "/x/job|.sh", "count": 3}')
    (folder / "states").write_text("1|RUNNING|\n2|RUNNING|\n1|FAILED|exit 3\n")
    assert local_queue.status() == 0
    assert capsys.readouterr().out == "2|1|FAILED|exit 3|/x/job|.sh\n2|2|LOST||/x/job|.sh\n2|3|LOST||/x/job|.sh\n"
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    local_queue.status()
    os.close(lock)
    states = [line.split("|")[2] for line in capsys.readouterr().out.splitlines()]
    assert states == ["FAILED", "RUNNING", "PENDING"]


@pytest.mark.parametrize(("error", "code"), [(None, 0), (ValueError("no luck"), 1), (SystemExit(0), 1)])
def test_a_queue_ends_with_its_submission_and_says_why_it_failed(
    spool: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException | None, code: int
) -> None:
    """Bug: a second launcher, which goes on where the first has forked its queue; or no word of why one died."""
    options = argparse.Namespace(count=2, parallel=1)

    def run(queue: local_queue.Queue) -> None:
        print("queue of", queue.waiting, flush=True)
        if error is not None:
            raise error

    monkeypatch.setattr(local_queue.Queue, "run", run)
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of xdist's threads
        pid = os.fork()
    if pid == 0:
        try:
            with (
                open(1, "w", 1, closefd=False) as sys.stdout,
                open(2, "w", 1, closefd=False) as sys.stderr,
            ):  # not pytest's
                local_queue.run_detached(spool, {}, options, write)
        finally:
            os._exit(42)
    os.close(write)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == code
    with open(read, "rb") as pipe:
        ready = pipe.read()
    log = (spool / "log").read_text()
    assert (ready, (spool / "pid").read_text()) == (b"!", str(pid))
    assert log.startswith("queue of [1, 2]\n")
    assert ("Traceback" in log, "no luck" in log) == (error is not None, isinstance(error, ValueError))

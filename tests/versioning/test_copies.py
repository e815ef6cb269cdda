"""Which copies of the code may go, and when: decided in process, of files alone. With programs: test_prune.py."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from mlxp_core.runs.layout import RunDir
from mlxp_core.runs.state import RunState
from mlxp_core.versioning import copies, prune

A, B = "a" * 40, "b" * 40
HOUR = 3600
GONE = 4_194_305  # more than a pid can be: https://man7.org/linux/man-pages/man5/proc_sys_kernel.5.html
TIME = "time: '2026-11-25T18:00:00+00:00'"
QUEUED = f"scheduler: slurm, script: /job.sh, job_id: '7', {TIME}"


@pytest.mark.parametrize(
    ("info", "submission", "is_current", "may_run"),
    [
        ("status: COMPLETE", QUEUED, True, False),
        ("status: COMPLETE", QUEUED, False, True),  # its scheduler has not answered
        ("status: COMPLETE", f"scheduler: slurm, script: /job.sh, job_id: null, {TIME}", True, True),  # perhaps again
        ("status: FAILED, error: {type: KeyError}", QUEUED, True, False),
        ("status: FAILED", QUEUED, True, True),  # killed, so it may be started again
        ("status: FAILED", f"{QUEUED}, state: FAILED", True, False),
        ("status: FAILED", f"{QUEUED}, state: FAILED, stuck: true", True, True),
        ("status: RUNNING, hostname: elsewhere", QUEUED, True, True),
        ("status: PENDING", "", True, True),  # not submitted: `mlxp rerun` may
    ],
)
def test_a_copy_is_needed_by_what_may_still_run(
    tmp_path: Path, info: str, submission: str, *, is_current: bool, may_run: bool
) -> None:
    """Bug: the code of a job that gave way is removed while it waits to go on; or none is ever removed."""
    run = RunDir(tmp_path)
    run.metadata.mkdir()
    run.info.write_text(f"{{{info}}}")
    run.submission.write_text(f"{{{submission}}}")
    state = RunState.load(run).with_is_current(is_current=is_current)
    assert state.problem == ""
    assert copies._may_still_run(state) is may_run


def aged(path: Path, age: float) -> Path:
    path.mkdir()
    os.utime(path, (time.time() - age,) * 2)
    return path


@pytest.mark.parametrize(
    ("name", "age", "own", "is_leftover"),
    [
        (f".{A}.{GONE}.01234567", HOUR + 60, True, True),
        (f".{A}.{GONE}.01234567.index.lock", HOUR + 60, True, True),
        (f".{A}.{GONE}.01234567", HOUR - 60, True, False),  # its process may be on another host
        (f".{A}.OURS.01234567", HOUR + 60, True, False),
        (f".{A}.OURS.01234567", 24 * HOUR - 60, True, False),
        (f".{A}.OURS.01234567", 24 * HOUR + 60, True, True),  # or another process has this number now
        (f".{A}.pruned.1.01234567", 0, True, True),
        (f".{A}.pruned.1.01234567", 2 * HOUR, False, False),  # it has just been renamed
        (f"{A}.diff", HOUR + 60, True, True),
        (f"{A}.diff", HOUR - 60, True, False),
        (f"{B}.diff", HOUR + 60, True, False),  # of a copy that there is
        (A, 48 * HOUR, True, False),
        ("notes.diff", 48 * HOUR, True, False),
        (f".{A[:12]}.{GONE}.01234567", 48 * HOUR, True, False),
    ],
)
def test_what_a_killed_launch_has_left_goes_after_an_hour_or_a_day(
    tmp_path: Path, name: str, age: float, *, own: bool, is_leftover: bool
) -> None:
    """Bug: a launch on another host loses the copy that it is making; a disk fills with halves of copies."""
    (tmp_path / B).mkdir()
    path = aged(tmp_path / name.replace("OURS", str(os.getpid())), age)
    assert prune._is_leftover(path, {B}, own=own) is is_leftover


def test_a_copy_is_young_for_an_hour(tmp_path: Path) -> None:
    """Bug: the code that a launch has chosen goes before its jobs are written."""
    assert prune._is_young(aged(tmp_path / A, HOUR - 60))
    assert not prune._is_young(aged(tmp_path / B, HOUR + 60))


def test_the_size_is_that_on_disk_and_the_times_are_of_the_oldest_file_and_the_last_choice(tmp_path: Path) -> None:
    """Bug: bytes of files and not of blocks, folders left out, or the first launch forgotten with the last."""
    now = time.time()
    (tmp_path / "pkg" / "deep").mkdir(parents=True)
    for name, age in (("a.py", 300), ("pkg/b.py", 500), ("pkg/deep/c.py", 400)):
        (tmp_path / name).write_bytes(b"x" * 5000)
        os.utime(tmp_path / name, (now - age,) * 2)
    os.utime(tmp_path, (now - 100,) * 2)
    parts = (tmp_path, *tmp_path.rglob("*"))
    blocks = sum(path.stat().st_blocks for path in parts)
    assert len(parts) == 6
    size, made, used = copies._measure(tmp_path)
    assert size == 512 * blocks
    assert (made, used) == (pytest.approx(now - 500, abs=1e-3), pytest.approx(now - 100, abs=1e-3))

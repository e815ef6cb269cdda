"""Runs on a disk that is full, or that fills up while they run."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from machines import SmallDisk

from mlxp_core import start_run
from mlxp_core.errors import MetricsError
from mlxp_core.reader import scan_runs


def log_until_full(disk: SmallDisk, logs: Path, taken: list[int]) -> None:
    with start_run(logs) as run:
        disk.fill(left=3)
        for step in itertools.count():
            run.log_metrics({"step": step, "text": "x" * 100}, log_name="train")
            taken.append(step)


def test_metrics_that_were_taken_are_read_and_the_half_line_is_not(small_disk: SmallDisk) -> None:
    """Bug: a half line that is read as a number, or that hides those before it; a step that is dropped in silence."""
    logs, taken = small_disk.path / "logs", list[int]()
    # the end of the run finds no room either, and says which file that is
    with pytest.raises(OSError, match=r"No space left on device.*1/metadata/info\.yaml") as ended:
        log_until_full(small_disk, logs, taken)
    assert ended.value.__cause__ is not None
    why = ended.value.__cause__.__context__
    assert isinstance(why, MetricsError)
    assert str(why) == f"{logs}/1/metrics/train.json: the disk took only a part of a line; is it full?"
    assert not (logs / "1/metrics/train.json").read_text().endswith("\n")
    steps = scan_runs(logs).select("train.step").collect()["train.step"][0].to_list()
    assert steps == taken
    assert taken


def test_a_run_that_cannot_be_begun_says_so_and_the_next_one_can(small_disk: SmallDisk) -> None:
    """Bug: half an info.yaml that is read as a run; a number that is given twice once there is room again."""
    logs = small_disk.path / "logs"
    small_disk.fill(left=4)
    no_room = pytest.raises(OSError, match=r"No space left on device.*1/metadata/info\.yaml")
    with no_room, start_run(logs, {"text": "x" * 5_000}):
        pytest.fail("the run has begun")
    assert list((logs / "1" / "metadata").glob("*info*")) == []
    assert scan_runs(logs).collect()["id"].to_list() == []
    small_disk.empty()
    with start_run(logs, {"text": "x" * 5_000}):
        pass
    frame = scan_runs(logs).select("id", "info.status").collect()
    assert frame.rows() == [(2, "COMPLETE")]

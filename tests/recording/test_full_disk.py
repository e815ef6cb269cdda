"""Runs on a disk that is full, or that fills up while they run."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from machines import SmallDisk

from mlxp_core import start_run
from mlxp_core.errors import MetricsError
from mlxp_core.reader import scan_runs
from mlxp_core.recording.run import Run


def log_until_full(disk: SmallDisk, logs: Path, taken: list[int]) -> None:
    with start_run(logs) as run:
        disk.fill(left=3)
        for step in itertools.count():
            run.log_metrics({"step": step, "text": "x" * 100}, log_name="train")
            taken.append(step)


def test_metrics_that_were_taken_are_read_and_no_half_line_stays(small_disk: SmallDisk) -> None:
    """Bug: a half line that is read as a number, or that hides those before it; a step that is dropped in silence."""
    logs, taken = small_disk.path / "logs", list[int]()
    # the end of the run finds no room either, and says which file that is
    with pytest.raises(OSError, match=r"No space left on device.*1/metadata/info\.yaml") as ended:
        log_until_full(small_disk, logs, taken)
    assert ended.value.__cause__ is not None
    why = ended.value.__cause__.__context__
    assert isinstance(why, MetricsError)
    assert str(why) == f"{logs}/1/metrics/train.json: the disk took only a part of a line; is it full?"
    assert (logs / "1/metrics/train.json").read_text().endswith("}\n")
    steps = scan_runs(logs).select("train.step").collect()["train.step"][0].to_list()
    assert steps == taken
    assert taken


def log_many_keys_until_full(disk: SmallDisk, run: Run, taken: list[int]) -> None:
    disk.fill(left=3)
    for step in itertools.count():
        run.log_metrics({"step": step, **{f"{step}-{number}-{'x' * 50}": 0 for number in range(9)}}, "keys")
        taken.append(step)


def log_long_lines_until_full(disk: SmallDisk, run: Run, taken: list[int]) -> None:
    disk.fill(left=3)
    for step in itertools.count():
        run.log_metrics({"step": step, "text": "x" * 100}, "lines")
        taken.append(step)


@pytest.mark.parametrize(
    ("log_name", "log"), [("lines", log_long_lines_until_full), ("keys", log_many_keys_until_full)]
)
def test_a_run_goes_on_once_there_is_room_again(
    small_disk: SmallDisk, log_name: str, log: Callable[[SmallDisk, Run, list[int]], None]
) -> None:
    """Bug: a half line, or a half list of keys, that swallows what the same handle writes next: no step, no columns."""
    logs, taken = small_disk.path / "logs", list[int]()
    with start_run(logs) as run:
        with pytest.raises((MetricsError, OSError)):
            log(small_disk, run, taken)
        small_disk.empty()
        for step in (1_000, 1_001):
            run.log_metrics({"step": step, f"new {step}": 0}, log_name)
        assert run.metrics(log_name)["step"] == [*taken, 1_000, 1_001]
    assert {f"{log_name}.new 1000", f"{log_name}.new 1001"} <= set(scan_runs(logs).collect().columns)


def test_what_finds_no_room_is_named_and_the_earlier_artifact_stays(small_disk: SmallDisk) -> None:
    """Bug: `No space left on device` of a program that writes to several; half an artifact in the place of a whole."""
    with start_run(small_disk.path / "logs") as run:
        run.log_artifacts({"a": 1}, "x", "json")
        run.log_checkpoint({"epoch": 1})
        run.log_metrics({"step": 1}, "train")
        small_disk.fill()
        calls = {
            "artifacts/json/x": lambda: run.log_artifacts(list(range(5_000)), "x", "json"),
            "artifacts/text/new": lambda: run.log_artifacts("x" * 5_000, "new", "text"),
            "artifacts/pickle/checkpoint": lambda: run.log_checkpoint(b"x" * 5_000),
            "metrics/.keys/val.json": lambda: run.log_metrics({"step": 1}, "val"),
        }
        for path, call in calls.items():
            with pytest.raises(OSError, match=r"No space left on device: .*/1/") as error:
                call()
            assert error.value.filename == str(run.dir / path)
        small_disk.empty()
        assert (run.load_artifacts("x"), run.load_checkpoint()) == ({"a": 1}, {"epoch": 1})
    assert scan_runs(small_disk.path / "logs").collect()["info.status"].to_list() == ["COMPLETE"]


def test_a_run_that_cannot_be_begun_says_so_and_the_next_one_can(small_disk: SmallDisk) -> None:
    """Bug: half an info.yaml that is read as a run; a number that is given twice once there is room again."""
    logs = small_disk.path / "logs"
    small_disk.fill(left=5)
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

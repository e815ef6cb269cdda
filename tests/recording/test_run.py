"""The run that a process records: opened, closed, taken over by a later attempt."""

from __future__ import annotations

import argparse
import dataclasses
import enum
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from metric_lines import steps
from support import read_yaml, until

from mlxp_core import current_run, start_run
from mlxp_core.errors import ConfigurationError, NoActiveRunError, SupersededError
from mlxp_core.reader import scan_runs
from mlxp_core.recording.lifecycle import finish, start_recording
from mlxp_core.runs.layout import RunDir


def test_an_attempt_that_loads_no_checkpoint_starts_its_metrics_anew(tmp_path: Path) -> None:
    """Bug: a rerun from scratch appended to what the first attempt wrote."""
    layout = RunDir(tmp_path / "1")
    for _ in range(2):
        run = start_recording(layout, config={})
        run.log_metrics({"step": 0}, log_name="train")
        finish(run, "COMPLETE")
    assert steps(layout) == [0]


def test_an_attempt_believed_dead_cannot_write_over_the_one_that_took_over(tmp_path: Path) -> None:
    """Bug: seen on Slurm after a node failure: two copies of a job, the older one says COMPLETE for both."""
    layout = RunDir(tmp_path / "1")
    older = start_recording(layout, config={})
    older.log_metrics({"step": 0}, log_name="train")
    newer = start_recording(layout, config={})
    older.log_metrics({"step": 99}, log_name="train")
    newer.log_metrics({"step": 1}, log_name="train")
    finish(older, "COMPLETE")
    assert read_yaml(layout.info)["status"] == "RUNNING"
    assert steps(layout) == [1]
    finish(newer, "FAILED")
    assert read_yaml(layout.info)["status"] == "FAILED"


def test_an_attempt_that_has_been_superseded_saves_nothing_more_and_says_why(tmp_path: Path) -> None:
    """Bug: two copies of a job: the older replaces the checkpoint that the newer has just made."""
    layout = RunDir(tmp_path / "1")
    older = start_recording(layout, config={})
    older.log_checkpoint("older")
    newer = start_recording(layout, config={})
    newer.log_checkpoint("newer")
    with pytest.raises(SupersededError, match="attempt 2 has taken over"):
        older.log_checkpoint("older again")
    with pytest.raises(SupersededError, match="attempt 2"):
        older.log_artifacts([1], "x", "json")
    older.log_metrics({"step": 7}, log_name="begins late")  # a log that neither has opened yet
    assert not layout.metric_file("begins late").exists()
    assert older.load_checkpoint() == "newer"  # which must not bring the newer one's metrics anywhere
    finish(older, "COMPLETE")
    with pytest.raises(SupersededError, match="attempt 2"):
        older.log_metrics({"step": 8}, log_name="train")
    assert newer.load_checkpoint() == "newer"
    assert os.listdir(layout.artifacts) == ["pickle"]
    finish(newer, "COMPLETE")


def test_a_start_of_the_script_that_came_to_nothing_is_an_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: the info of the attempt before is taken for the new one's; a program below the job inherits its number."""
    layout = RunDir(tmp_path / "1")
    monkeypatch.setenv("MLXP_ATTEMPT", "3")
    own = start_recording(RunDir(tmp_path / "2"), config={})  # not the launched one
    assert (own.attempt, os.environ["MLXP_ATTEMPT"]) == (1, "3")
    finish(own, "COMPLETE")
    launched = start_recording(layout, config=None)
    assert (launched.attempt, read_yaml(layout.info)["attempt"]) == (3, 3)
    assert "MLXP_ATTEMPT" not in os.environ
    finish(launched, "FAILED")
    monkeypatch.setenv("MLXP_ATTEMPT", "2")
    again = start_recording(layout, config=None)
    assert again.attempt == 4
    finish(again, "COMPLETE")


def test_without_a_run_the_error_says_how_to_switch_one_on() -> None:
    """Bug: AttributeError: 'NoneType' object has no attribute 'log_metrics'."""
    with pytest.raises(NoActiveRunError, match=r"hydra/callbacks=mlxp.*mlxp_slurm.*start_run"):
        current_run()


def test_start_run_records_how_its_block_ended(tmp_path: Path) -> None:
    """Bug: a notebook's run that is RUNNING for ever."""
    with start_run(tmp_path, {"lr": 0.1, "path": Path("/data")}) as run:
        assert current_run() is run
        assert read_yaml(tmp_path / "1" / "metadata" / "info.yaml")["status"] == "RUNNING"
    with pytest.raises(ZeroDivisionError), start_run(tmp_path):
        1 / 0  # noqa: B018
    infos = [read_yaml(tmp_path / name / "metadata" / "info.yaml") for name in "12"]
    assert [info["status"] for info in infos] == ["COMPLETE", "FAILED"]
    assert infos[1]["error"]["type"] == "ZeroDivisionError"
    assert infos[1]["error"]["message"] == "division by zero"
    assert "test_start_run" in infos[1]["error"]["traceback"]
    assert read_yaml(tmp_path / "1" / "metadata" / "config.yaml") == {"lr": 0.1, "path": "/data"}
    with pytest.raises(NoActiveRunError):
        current_run()


def test_a_child_process_that_is_terminated_does_not_end_its_parents_run(tmp_path: Path) -> None:
    """Bug: DataLoader workers are ended by SIGTERM and inherit the handler: the run said CANCELLED."""
    program = f"""
import multiprocessing, time
from mlxp_core import start_run
if __name__ == "__main__":
    multiprocessing.set_start_method("fork")
    with start_run({str(tmp_path)!r}, {{}}) as run:
        child = multiprocessing.Process(target=time.sleep, args=(60,))
        child.start()
        child.terminate()
        child.join()
        assert child.exitcode == -15, child.exitcode
        print(open(run.layout.info).read())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "status: RUNNING" in done.stdout
    assert read_yaml(tmp_path / "1" / "metadata" / "info.yaml")["status"] == "COMPLETE"


def test_a_handler_of_the_users_own_stays_in_charge(tmp_path: Path) -> None:
    """Bug: importing or starting replaces the SIGTERM handler of the training framework."""

    def own(number: int, frame: object) -> None: ...

    before = signal.signal(signal.SIGTERM, own)
    try:
        with start_run(tmp_path):
            assert signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGTERM, before)
    with start_run(tmp_path):
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_run_may_be_recorded_from_a_thread(tmp_path: Path) -> None:
    """Bug: signal only works in main thread."""
    done = []

    def work() -> None:
        with start_run(tmp_path) as run:
            run.log_metrics({"a": 1}, log_name="train")
        done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    until(lambda: not thread.is_alive())
    assert done == [True]


class Optimizer(str, enum.Enum):
    ADAM = "adam"


@dataclasses.dataclass
class Spec:
    lr: float = 0.1


def test_a_configuration_of_foreign_values_is_numbers_lists_and_text(tmp_path: Path) -> None:
    """Bug: a seed of numpy's that is text, and sorts as text; a set that makes groups of equal runs."""
    config = {"seed": np.int64(10), "lr": np.float32(0.5), "layers": np.array([1, 2]), "tags": {"b", "a"}}
    config |= {"kind": Optimizer.ADAM, "path": Path("a/b"), "name": "1e-3", "masked": np.ma.masked, 1: {None: 2}}
    with start_run(tmp_path, config) as run:
        pass
    assert read_yaml(run.layout.config) == {
        "seed": 10,
        "lr": 0.5,
        "layers": [1, 2],
        "tags": ["a", "b"],
        "kind": "adam",
        "path": "a/b",
        "name": "1e-3",
        "masked": None,
        1: {"null": 2},
    }
    row = scan_runs(tmp_path).collect().row(0, named=True)
    assert (row["config.seed"], row["config.lr"], row["config.layers"]) == (10, 0.5, [1, 2])
    assert (row["config.name"], row["config.1.null"]) == ("1e-3", 2)


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (argparse.Namespace(lr=1), "not Namespace: write start_run(log_dir, vars(config))"),
        (Spec(), "not Spec: write start_run(log_dir, dataclasses.asdict(config))"),
        ([1], 'not list: write start_run(log_dir, {"lr": 0.1})'),
        ("logs", 'not str: write start_run(log_dir, {"lr": 0.1})'),
        ({"m": {None: 1, "null": 2}}, "config['m']['null']: the keys None and 'null' are both written 'null'"),
        ({"data": np.zeros((1000, 101))}, "config['data'] holds 102,001 values"),
    ],
    ids=["namespace", "dataclass", "list", "text", "keys", "data"],
)
def test_a_configuration_that_cannot_be_kept_is_refused_before_there_is_a_run(
    tmp_path: Path, config: Any, sentence: str
) -> None:
    """Bug: `'Namespace' object has no attribute 'items'`, and a run folder that says RUNNING for ever."""
    with pytest.raises(ConfigurationError, match=re.escape(sentence)):
        start_run(tmp_path, config).__enter__()
    assert [path.name for path in tmp_path.iterdir()] in ([], [".mlxp"])

"""Handles of a run that travel: in a pickle, a copy, a checkpoint; to a worker, a later attempt, another machine."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import cloudpickle
import pytest
from metric_lines import lines, steps
from support import read_yaml

from mlxp_core import current_run, start_run
from mlxp_core.errors import MetricsError, RunError, StoreError, SupersededError
from mlxp_core.recording import lifecycle
from mlxp_core.recording import run as run_module
from mlxp_core.recording.lifecycle import finish, start_recording
from mlxp_core.recording.metrics_folder import MetricsFolder
from mlxp_core.recording.run import Run
from mlxp_core.runs.layout import RunDir
from mlxp_core.runs.process import this_process
from mlxp_core.yaml_io import write_yaml


class Trainer:
    """What holds its logger, as many do."""

    def __init__(self, run: Run) -> None:
        self.run, self.step = run, 0

    def train(self, *steps: int) -> None:
        for self.step in steps:
            self.run.log_metrics({"step": self.step}, log_name="train")


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Callable[[object], Any]:
    """Pickle something, and load it as another process does, which has no handle of the run yet."""

    def send(value: object) -> Any:
        data = pickle.dumps(value)
        monkeypatch.setattr(run_module, "_handles", weakref.WeakValueDictionary())
        return pickle.loads(data)

    return send


WAYS: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "deepcopy of what holds it": lambda run: copy.deepcopy(Trainer(run)).run,
    **{f"pickle {n}": lambda run, n=n: pickle.loads(pickle.dumps(run, n)) for n in range(pickle.HIGHEST_PROTOCOL + 1)},
    "pickle of what holds it": lambda run: pickle.loads(pickle.dumps([{"trainer": Trainer(run)}]))[0]["trainer"].run,
    "cloudpickle": lambda run: pickle.loads(cloudpickle.dumps(lambda: run))(),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_copy_within_the_process_is_the_run_itself(tmp_path: Path, way: str) -> None:
    """Bug: a copied model writes by a descriptor that is another file's once the run has closed it."""
    with start_run(tmp_path) as run:
        run.log_metrics({"step": 0}, log_name="train")
        copied = WAYS[way](run)
        assert copied is run
        run.close()
        with (tmp_path / "results.csv").open("w"):  # gets the number that the log had
            copied.log_metrics({"step": 1}, log_name="train")
    copied.log_metrics({"step": 2}, log_name="train")
    assert steps(run.layout) == [0, 1, 2]
    assert (tmp_path / "results.csv").read_text() == ""


def test_another_process_opens_the_files_again_and_ends_nothing(tmp_path: Path) -> None:
    """Bug: a spawned worker's lines go into whatever it has open under that number, or end in EBADF."""
    worker = """
import pickle, sys
own = [open(f"own-{number}.csv", "w") for number in range(20)]
with open("run.pkl", "rb") as file:
    run = pickle.load(file)
for name in ("train", "test", "of the worker"):
    run.log_metrics({"step": 1}, log_name=name)
run.log_artifacts([1], "list", "json")
print(run.config, run.metrics("train"), run.attempt, run.id, run.original_path("data"))
try:
    run.finish()
except RuntimeError as error:
    print(type(error).__name__)
"""
    with start_run(tmp_path / "logs", {"lr": 0.5}) as run:
        for name in ("train", "test"):
            run.log_metrics({"step": 0}, log_name=name)
        (tmp_path / "run.pkl").write_bytes(pickle.dumps(run))
        done = subprocess.run([sys.executable, "-c", worker], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert read_yaml(run.layout.info)["status"] == "RUNNING"
        run.log_metrics({"step": 2}, log_name="train")
    expected = f"{{'lr': 0.5}} {{'step': [0, 1]}} 1 1 {Path.cwd() / 'data'}\nRunError\n"
    assert done.stdout == expected
    assert [steps(run.layout, name) for name in ("train", "test", "of the worker")] == [[0, 1, 2], [0, 1], [1]]
    assert {path.read_text() for path in tmp_path.glob("own-*.csv")} == {""}
    assert read_yaml(run.layout.info)["status"] == "COMPLETE"


def test_a_worker_has_one_handle_of_a_run_however_often_it_is_sent(run: Run, sent: Callable[[object], Any]) -> None:
    """Bug: a descriptor for each task that a pool's worker is given."""
    run.log_metrics({"step": 0}, log_name="train")
    data = pickle.dumps(run)
    handles = [sent(run), pickle.loads(data), copy.deepcopy(pickle.loads(data))]
    assert handles[0] is not run
    assert handles == [handles[0]] * 3


@pytest.mark.parametrize("moved", [False, True])
def test_a_run_in_a_checkpoint_becomes_the_attempt_that_loads_it(tmp_path: Path, moved: bool) -> None:
    """Bug: the trainer is of attempt 1 for ever: its lines are lost, its next checkpoint is a SupersededError."""
    layout = RunDir(tmp_path / "logs" / "1")
    first = start_recording(layout, config={})
    trainer = Trainer(first)
    trainer.train(1, 2)
    first.log_checkpoint(trainer)
    trainer.train(3)
    finish(first, "FAILED")
    if moved:  # or it is mounted elsewhere on the second node
        layout = RunDir((tmp_path / "logs").rename(tmp_path / "elsewhere") / "1")
    second = start_recording(layout, config={})
    resumed = second.load_checkpoint()
    assert resumed.run is second
    resumed.train(resumed.step + 1, resumed.step + 2)
    resumed.run.log_checkpoint(resumed)
    finish(second, "COMPLETE")
    assert steps(layout) == [1, 2, 3, 4]


def test_so_does_a_run_in_a_checkpoint_that_the_program_saves_and_loads_itself(tmp_path: Path) -> None:
    """Bug: the same by torch.save, Lightning, joblib: they know nothing of ours."""
    layout = RunDir(tmp_path / "1")
    first = start_recording(layout, config={})
    (tmp_path / "last.ckpt").write_bytes(pickle.dumps(Trainer(first)))
    finish(first, "FAILED")
    second = start_recording(layout, config={})
    trainer = pickle.loads((tmp_path / "last.ckpt").read_bytes())
    trainer.train(1)
    assert (trainer.run, trainer.run.attempt, steps(layout)) == (second, 2, [1])
    finish(second, "COMPLETE")


def test_an_attempt_that_was_superseded_gets_no_handle_of_the_one_that_took_over(tmp_path: Path) -> None:
    """Bug: a node believed dead loads the newer checkpoint, and by the handle in it writes into the newer's files."""
    layout = RunDir(tmp_path / "1")
    older = start_recording(layout, config={})
    newer = start_recording(layout, config={})
    newer.log_metrics({"step": 1}, log_name="train")
    newer.log_checkpoint(Trainer(newer))
    data = pickle.dumps(newer)
    run_module._handles[os.path.realpath(layout.path)] = older  # as on that node
    assert older.load_checkpoint().run is older
    assert pickle.loads(data) is older
    with pytest.raises(SupersededError):
        older.load_checkpoint().run.log_checkpoint(0)
    assert steps(layout) == [1]
    finish(newer, "COMPLETE")
    finish(older, "COMPLETE")


def test_a_checkpoint_of_another_run_says_where_its_handle_logs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Bug: a fine-tuning whose curve is found at the end of that of the run which it began from."""
    with start_run(tmp_path) as pretrained:
        pretrained.log_checkpoint(Trainer(pretrained))
    with start_run(tmp_path) as run:
        trainer = run.load_checkpoint(root=pretrained.dir)
        assert trainer.run is pretrained
        (message,) = caplog.messages
        assert f"{pretrained!r}: what is logged to it goes there, and not to {run!r}" in message
        assert run.load_checkpoint(root=pretrained.dir).run is pretrained
        caplog.clear()
        run.log_checkpoint(Trainer(run))
        assert run.load_checkpoint().run is run
        assert caplog.messages == []


def test_where_the_folder_cannot_be_reached_logging_is_refused(tmp_path: Path, sent: Callable[[object], Any]) -> None:
    """Bug: a worker on another machine makes a folder of that name on its own disk, and all lines are lost."""
    with start_run(tmp_path / "logs") as run:
        handle = sent(run)
    (tmp_path / "logs").rename(tmp_path / "unreachable")
    for log in (
        lambda: handle.log_metrics({"a": 1}, log_name="train"),
        lambda: handle.log_artifacts([1], "list", "json"),
        lambda: handle.log_checkpoint(0),
    ):
        with pytest.raises(StoreError, match=r"its folder is not there on .* log to it where"):
            log()
    assert not (tmp_path / "logs").exists()


def test_a_handle_of_an_attempt_that_was_superseded_writes_nothing(
    tmp_path: Path, sent: Callable[[object], Any]
) -> None:
    """Bug: a worker of the attempt that was killed writes into the files of the next one."""
    layout = RunDir(tmp_path / "1")
    first = start_recording(layout, config={})
    handle = sent(first)
    finish(first, "FAILED")
    second = start_recording(layout, config={})
    with pytest.raises(SupersededError, match="attempt 2 has taken over"):
        handle.log_metrics({"step": 9}, log_name="train")
    second.log_metrics({"step": 1}, log_name="train")
    assert steps(layout) == [1]
    finish(second, "COMPLETE")


def test_a_checkpoint_loaded_by_the_job_moves_the_files_of_its_workers_too(
    tmp_path: Path, sent: Callable[[object], Any]
) -> None:
    """Bug: a spawned worker goes on in a file that nobody reads any more."""
    layout = RunDir(tmp_path / "1")
    first = start_recording(layout, config={})
    first.log_metrics({"step": 0}, log_name="train")
    first.log_checkpoint(0)
    finish(first, "FAILED")
    second = start_recording(layout, config={})
    worker = sent(second)
    worker.log_metrics({"step": 1}, log_name="train")
    second.load_checkpoint()
    worker.log_metrics({"step": 2}, log_name="train")
    assert steps(layout) == [0, 1, 2]
    finish(second, "COMPLETE")


def test_an_open_file_of_metrics_is_no_part_of_a_pickle(run: Run) -> None:
    """Bug: a descriptor that becomes that of another file."""
    run.log_metrics({"a": 1}, log_name="train")
    for copied in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="pickle the run"):
            copied(run._files["train"])


def test_a_forked_child_cannot_finish_the_run(tmp_path: Path) -> None:
    """Bug: COMPLETE by a worker, while its parent trains."""
    with start_run(tmp_path) as run:
        child = os.fork()
        if child == 0:
            try:
                current_run().finish()
            except RunError:
                os._exit(3)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
        assert read_yaml(run.layout.info)["status"] == "RUNNING"
        run.log_metrics({"a": 1}, log_name="train")
    assert lines(run) == [{"a": 1}]


def test_a_run_whose_folder_is_gone_is_not_recorded_any_more(tmp_path: Path) -> None:
    """Bug: OSError of a program's end where somebody has removed the folder of the run."""
    layout = RunDir(tmp_path / "1")
    run = start_recording(layout, config={})
    assert run.is_recorded
    layout.path.rename(tmp_path / "elsewhere")
    assert not run.is_recorded
    (tmp_path / "elsewhere").rename(layout.path)
    finish(run, "COMPLETE")
    assert not run.is_recorded


@pytest.mark.parametrize(
    ("found", "status"),
    [
        ({}, "FAILED"),
        ({"parent_process_id": 1}, "RUNNING"),  # the child of another process, perhaps of another host
        ({"status": "COMPLETE"}, "COMPLETE"),
        (this_process() | {"parent_process_id": os.getpid()}, "RUNNING"),  # it lives
    ],
)
def test_the_outcome_of_a_killed_child_is_written_by_its_parent_alone(
    tmp_path: Path, found: dict[str, Any], status: str
) -> None:
    """Bug: a run of somebody else's, or one that goes on, is FAILED as another one's worker has died."""
    layout = RunDir(tmp_path / "1")
    child = os.fork()
    if child == 0:
        start_recording(layout, config={})
        os._exit(9)
    os.waitpid(child, 0)
    write_yaml(layout.info, {**read_yaml(layout.info), **found})
    lifecycle.close_for_dead_child(layout, RuntimeError("killed"))
    assert read_yaml(layout.info)["status"] == status


def test_what_cannot_be_added_at_the_end_is_a_warning(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Bug: a training that is done is FAILED by what an attempt before it has left."""
    run.log_metrics({"step": 1}, log_name="train")
    for error in (MetricsError("no line"), OSError(28, "No space left on device"), ValueError("not JSON")):
        monkeypatch.setattr(MetricsFolder, "add_all_missed", Mock(side_effect=error))
        run.log_metrics({"step": 2}, log_name="train")
        run.close()
        assert str(error) in caplog.records[-1].getMessage()

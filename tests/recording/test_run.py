"""The current run: metrics, artifacts, checkpoints, attempts."""

from __future__ import annotations

import datetime
import json
import math
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
from collections import UserDict
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from support import read_yaml, until

from mlxp_core import current_run, start_run
from mlxp_core.errors import ArtifactError, ArtifactNotFoundError, MetricsError, NoActiveRunError, SupersededError
from mlxp_core.reader import scan_runs
from mlxp_core.recording.lifecycle import finish, start_recording
from mlxp_core.recording.metrics import encode_line, line_encoder
from mlxp_core.recording.run import Run
from mlxp_core.runs.layout import RunDir


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(RunDir(tmp_path / "1"))


def lines(run: Run, log_name: str = "train") -> list[object]:
    """Metric lines, by a strict reader: Python's own takes NaN for JSON."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    text = (run.dir / "metrics" / f"{log_name}.json").read_text(encoding="utf-8")
    return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


def test_each_call_is_a_line(run: Run) -> None:
    """Bug: a list rewritten as a whole, or keys in another order."""
    run.log_metrics({"loss": 0.5, "step": 1}, log_name="train")
    run.log_metrics({"loss": 0.25, "step": 2, "note": "ünï\n"}, log_name="train")
    run.log_metrics({"acc": 1}, log_name="test")
    assert lines(run) == [{"loss": 0.5, "step": 1}, {"loss": 0.25, "step": 2, "note": "ünï\n"}]
    assert lines(run, "test") == [{"acc": 1}]


def test_a_diverged_loss_is_kept_in_strict_json(run: Run) -> None:
    """Bug: the token NaN, which is no JSON and which Polars refuses; or null, which is not NaN."""
    run.log_metrics({"a": math.nan, "b": math.inf, "c": -math.inf, "d": [1.0, math.nan]}, log_name="train")
    assert lines(run) == [{"a": "NaN", "b": "Infinity", "c": "-Infinity", "d": [1.0, "NaN"]}]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.float32(0.5), b"0.5"),
        (np.float64(0.1), b"0.1"),
        (np.int64(7), b"7"),
        (np.array(2.5), b"2.5"),
        (np.array([1, 2]), b"[1, 2]"),
        (np.float32("nan"), b'"NaN"'),
        (np.bool_(True), b"true"),
        (10**20, b"100000000000000000000"),
    ],
)
def test_numbers_of_numpy_are_numbers(value: object, text: bytes) -> None:
    """Bug: `Object of type float32 is not JSON serializable` after hours of training."""
    assert encode_line({"x": value}) == b'{"x": ' + text + b"}\n"


class Text(str):
    __slots__ = ()


@pytest.mark.parametrize(
    "metrics",
    [
        {"loss": 0.1, "step": 3, "note": "ünï\n\u2028", "done": True, "none": None},
        {"huge": 1e300, "tiny": 5e-324, "least": -0.0, "exponent": 1e16, "third": 1 / 3},
        {"nan": math.nan, "inf": math.inf, "minus": -math.inf, "list": [1.0, math.nan], "in": {"a": -math.inf}},
        {"a": np.float32(0.1), "b": np.float64(0.1), "c": np.int64(7), "d": np.bool_(True), "e": np.float64("nan")},
        {"a": np.array([1, 2]), "b": np.array([[0.5, math.inf]]), "c": np.array(2.5), "d": np.float32("nan")},
        {"bits": 2**63, "more": 2**64, "most": -(10**30)},
        {0: 0.5, None: 1, 2.5: 2, True: 3},
        {1: "a", "1": "b"},
        {"lone": "\ud800", "\udcff": 1},
        {Text("key"): Text("value"), "tuple": (1, (2, 3)), "null": "null"},
        UserDict({"loss": 0.5}),
        {},
    ],
    ids=lambda metrics: "-".join(map(ascii, metrics)),
)
def test_a_line_has_the_same_values_with_orjson_and_without(metrics: Mapping[str, object]) -> None:
    """Bug: null for NaN, a line that is refused, or another number, because a package is installed."""
    pytest.importorskip("orjson")
    assert line_encoder() is not encode_line
    line, expected = line_encoder()(metrics), encode_line(metrics)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert json.loads(line, object_pairs_hook=repr) == json.loads(expected, object_pairs_hook=repr)
    assert line.count(b'"') == expected.count(b'"')  # by which its keys are known to be of numbers


@pytest.mark.parametrize(
    "value",
    [object(), datetime.date(2026, 1, 1), {1, 2}, b"bytes", Decimal(1), ArtifactError()],
    ids=lambda value: type(value).__name__,
)
def test_what_is_refused_without_orjson_is_refused_with_it(value: object) -> None:
    """Bug: a date that is text on one machine, and an error on the next."""
    pytest.importorskip("orjson")
    for encode in (encode_line, line_encoder()):
        with pytest.raises(TypeError, match="neither a number nor a string"):
            encode({"x": value})


def test_what_is_neither_number_nor_string_is_refused_by_name_and_nothing_is_written(run: Run) -> None:
    """Bug: str(object) in a metric file, or half a line."""
    run.log_metrics({"a": 1}, log_name="train")
    with pytest.raises(TypeError, match="object"):
        run.log_metrics({"a": object()}, log_name="train")
    run.log_metrics({"a": 2}, log_name="train")
    assert lines(run) == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize("name", ["", "a/b", "../x", ".keys"])
def test_a_log_name_that_leaves_the_folder_is_refused(run: Run, name: str) -> None:
    """Bug: a metric file outside of its run."""
    with pytest.raises(MetricsError, match="log_name"):
        run.log_metrics({"a": 1}, log_name=name)


def test_the_keys_of_a_log_are_listed_beside_it_each_once(run: Run) -> None:
    """Bug: a reader that must open every metric file to know its columns; None taken for a text."""
    run.log_metrics({"loss": None}, log_name="train")
    run.log_metrics({"loss": 1.0}, log_name="train")
    run.log_metrics({"loss": math.nan, "late": "text"}, log_name="train")
    run.log_metrics({"loss": 2, "late": "text"}, log_name="train")
    keys = (run.dir / "metrics" / ".keys" / "train.json").read_text().splitlines()
    assert [json.loads(key) for key in keys] == [["loss", "number"], ["late", "other"]]


def test_a_line_cut_short_by_a_full_disk_does_not_swallow_the_next(run: Run) -> None:
    """Bug: `{"a": 1}{"a": 2}` after a restart."""
    (run.dir / "metrics").mkdir(parents=True)
    (run.dir / "metrics" / "train.json").write_text('{"a": 1}\n{"a": 2')
    run.log_metrics({"a": 3}, log_name="train")
    written = (run.dir / "metrics" / "train.json").read_text()
    assert written.replace('"a":3', '"a": 3') == '{"a": 1}\n{"a": 2\n{"a": 3}\n'  # orjson puts no spaces


def test_every_call_that_returned_survives_sigkill(tmp_path: Path) -> None:
    """Bug: a buffer. The program says how many calls have returned, and is killed in the middle of the next."""
    program = f"""
import os, sys
from mlxp_core import start_run
with start_run({str(tmp_path)!r}, {{}}) as run:
    for step in range(10**9):
        run.log_metrics({{"loss": step / 7, "step": step}}, log_name="train")
        os.write(1, b"%d\\n" % step)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        for _ in range(2000):
            process.stdout.readline()
        process.kill()
        returned = [int(line) for line in process.stdout.read().split(b"\n")[:-1]]  # the last may be cut
    written = (tmp_path / "1" / "metrics" / "train.json").read_bytes().split(b"\n")[:-1]
    assert len(written) >= max(returned, default=1999) + 1
    assert [json.loads(line)["step"] for line in written] == list(range(len(written)))


@pytest.mark.parametrize(
    ("kind", "artifact"),
    [
        ("pickle", {"a": (1, 2)}),
        ("json", {"a": [1, 2]}),
        ("text", "ünï\r\nline"),
        ("numpy", np.arange(6).reshape(2, 3)),
    ],
)
def test_artifacts_come_back_as_they_were(run: Run, kind: str, artifact: object) -> None:
    """Bug: np.save adds .npy to the name; text mode changes line ends."""
    path = run.log_artifacts(artifact, "thing", kind)
    assert path == run.dir / "artifacts" / kind / "thing"
    assert os.listdir(path.parent) == ["thing"]
    np.testing.assert_equal(run.load_artifacts("thing"), artifact)


def test_arrays_by_name_come_back_by_name(run: Run) -> None:
    """Bug: a lazy NpzFile whose file is closed or stays open."""
    run.log_artifacts({"w": np.ones(3), "b": np.zeros(1)}, "weights", "numpy")
    loaded = run.load_artifacts("weights", "numpy")
    assert sorted(loaded) == ["b", "w"]
    np.testing.assert_array_equal(loaded["w"], np.ones(3))


def test_a_failed_save_leaves_the_earlier_artifact(run: Run) -> None:
    """Bug: open(path, "w") first, serialise afterwards."""
    run.log_artifacts({"a": 1}, "thing", "json")
    with pytest.raises(TypeError):
        run.log_artifacts({"a": object()}, "thing", "json")
    assert run.load_artifacts("thing") == {"a": 1}
    assert os.listdir(run.dir / "artifacts" / "json") == ["thing"]


def test_unknown_types_missing_artifacts_and_escapes_are_errors_that_say_what_there_is(run: Run) -> None:
    """Bug: KeyError: 'pickel'."""
    run.log_artifacts([1], "thing", "json")
    with pytest.raises(ArtifactError, match="known ones are pickle, json"):
        run.log_artifacts(1, "x", "pickel")
    with pytest.raises(FileNotFoundError, match="there are: json/thing"):
        run.load_artifacts("other")
    with pytest.raises(ArtifactError, match="outside"):
        run.log_artifacts(1, "../../../etc/x", "json")
    with pytest.raises(ArtifactNotFoundError, match="no checkpoint"):
        run.load_checkpoint()


def test_an_own_type_of_artifact_is_saved_and_loaded_by_its_functions(run: Run) -> None:
    """Bug: a type that only the saving process can find."""

    def save(text: str, path: str) -> None:
        Path(path).write_text(text.upper())

    run.register_artifact_type("shout", save, lambda path: Path(path).read_text() + "!")
    run.log_artifacts("hey", "x", "shout")
    assert run.load_artifacts("x") == "HEY!"


def test_a_checkpoint_is_a_plain_pickle_and_the_newer_replaces_the_older(run: Run) -> None:
    """Bug: a checkpoint that needs this package to be read, or the older one coming back."""
    run.log_checkpoint({"epoch": 1})
    path = run.log_checkpoint({"epoch": 2})
    with path.open("rb") as file:
        assert pickle.load(file) == {"epoch": 2}
    assert run.load_checkpoint() == {"epoch": 2}
    assert os.listdir(path.parent) == ["checkpoint"]


def steps(layout: RunDir) -> list[int]:
    return [json.loads(line)["step"] for line in layout.metric_file("train").read_text().splitlines()]


def test_a_resumed_run_has_each_step_once(tmp_path: Path) -> None:
    """Bug: epochs 3 and 4, logged after the last checkpoint, come twice; the killed attempt's output is gone."""
    layout = RunDir(tmp_path / "1")
    first = start_recording(layout, config={})
    for step in range(5):
        first.log_metrics({"step": step}, log_name="train")
        if step == 2:
            first.log_checkpoint({"next": 3})
    finish(first, "CANCELLED")  # or killed: the folder says RUNNING, which is no other case
    second = start_recording(layout, config={})
    assert second.attempt == 2
    checkpoint = second.load_checkpoint()
    for step in range(checkpoint["next"], 6):
        second.log_metrics({"step": step}, log_name="train")
    second.load_checkpoint()  # again, say to evaluate it: the metrics stay
    finish(second, "COMPLETE")
    assert steps(layout) == [0, 1, 2, 3, 4, 5]
    assert steps(layout.attempt_dir(1)) == [0, 1, 2, 3, 4]
    assert read_yaml(layout.attempt_dir(1).info)["status"] == "CANCELLED"


def test_an_attempt_that_loads_no_checkpoint_starts_its_metrics_anew(tmp_path: Path) -> None:
    """Bug: a rerun from scratch appended to what the first attempt wrote."""
    layout = RunDir(tmp_path / "1")
    for _ in range(2):
        run = start_recording(layout, config={})
        run.log_metrics({"step": 0}, log_name="train")
        finish(run, "COMPLETE")
    assert steps(layout) == [0]


def test_a_third_attempt_resumes_from_a_checkpoint_of_the_first(tmp_path: Path) -> None:
    """Bug: looking for the checkpoint's metrics in the attempt just before, which died at once."""
    layout = RunDir(tmp_path / "1")
    first = start_recording(layout, config={})
    first.log_metrics({"step": 0}, log_name="train")
    first.log_checkpoint({})
    first.log_metrics({"step": 1}, log_name="train")
    finish(first, "FAILED")
    finish(start_recording(layout, config={}), "FAILED")
    third = start_recording(layout, config={})
    third.load_checkpoint()
    third.log_metrics({"step": 1}, log_name="train")
    finish(third, "COMPLETE")
    assert third.attempt == 3
    assert steps(layout) == [0, 1]


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


def attempt(layout: RunDir, *logged: int, load: tuple[str, ...] = (), save: str = "", log_name: str = "train") -> Run:
    """One attempt: loads checkpoints, logs steps, saves a checkpoint."""
    run = start_recording(layout, config={})
    for name in load:
        run.load_checkpoint(name)
    for step in logged:
        run.log_metrics({"step": step}, log_name=log_name)
    if save:
        run.log_checkpoint(0, save)
    return run


def test_of_several_checkpoints_the_furthest_is_where_the_metrics_go_on(tmp_path: Path) -> None:
    """Bug: `best` is looked at before `last` is resumed from, and the steps between them are missing."""
    for number, order in enumerate([("best", "last"), ("last", "best"), ("last", "last")]):
        layout = RunDir(tmp_path / str(number))
        first = attempt(layout, 0, 1, save="best")
        first.log_metrics({"step": 2}, log_name="train")
        first.log_checkpoint(0, "last")
        first.log_metrics({"step": 3}, log_name="train")
        finish(first, "FAILED")
        finish(attempt(layout, 3, load=order), "FAILED")  # dies without a checkpoint of its own
        assert steps(layout) == [0, 1, 2, 3]
        finish(attempt(layout, 3, 4, load=order, save="last"), "FAILED")
        assert steps(layout) == [0, 1, 2, 3, 4]
        finish(attempt(layout, 5, load=order), "COMPLETE")  # of the first attempt, and of the third
        assert steps(layout) == [0, 1, 2, 3, 4, 5]


def test_metrics_logged_before_the_checkpoint_is_loaded_come_after_its_own(tmp_path: Path) -> None:
    """Bug: they are lost, or the open file goes on where nobody reads."""
    layout = RunDir(tmp_path / "1")
    finish(attempt(layout, 0, 1, save="checkpoint"), "FAILED")
    second = attempt(layout, 10)
    second.load_checkpoint()
    second.log_metrics({"step": 11}, log_name="train")
    second.load_checkpoint()
    assert steps(layout) == [0, 1, 10, 11]
    keys = layout.metric_keys_file("train").read_text().splitlines()
    assert {json.loads(key)[0] for key in keys} == {"step"}
    finish(second, "COMPLETE")


def test_a_log_of_a_forked_child_is_resumed_and_one_that_began_too_late_is_not(tmp_path: Path) -> None:
    """Bug: the parent's checkpoint knows only the files that the parent has opened."""
    layout = RunDir(tmp_path / "1")
    first = attempt(layout, 0)
    child = os.fork()
    if child == 0:
        first.log_metrics({"step": 0}, log_name="child")
        os._exit(0)
    os.waitpid(child, 0)
    first.log_checkpoint(0)
    first.log_metrics({"step": 0}, log_name="late")
    finish(first, "FAILED")
    second = attempt(layout, 1, load=("checkpoint",))
    assert steps(layout) == [0, 1]
    assert layout.metric_file("child").read_text().replace(":0", ": 0") == '{"step": 0}\n'
    assert not layout.metric_file("late").exists()
    finish(second, "COMPLETE")


def test_a_forked_child_that_resumes_does_it_for_its_parent_too(tmp_path: Path) -> None:
    """Bug: each process that loads the checkpoint puts its metrics there once more."""
    layout = RunDir(tmp_path / "1")
    finish(attempt(layout, 0, 1, save="checkpoint"), "FAILED")
    second = attempt(layout, 10)
    child = os.fork()
    if child == 0:
        second.load_checkpoint()
        os._exit(0)
    os.waitpid(child, 0)
    second.load_checkpoint()
    child = os.fork()
    if child == 0:
        second.log_metrics({"step": 11}, log_name="train")
        os._exit(0)
    os.waitpid(child, 0)
    assert steps(layout) == [0, 1, 10, 11]
    finish(second, "COMPLETE")


def test_metrics_that_are_gone_do_not_look_like_a_missing_checkpoint(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Bug: FileNotFoundError of another file: the program begins from scratch, over the checkpoint that was there."""
    layout = RunDir(tmp_path / "1")
    finish(attempt(layout, 0, save="checkpoint"), "FAILED")
    second = start_recording(layout, config={})
    shutil.rmtree(layout.attempt_dir(1).metrics)
    assert second.load_checkpoint() == 0
    assert "are not there" in caplog.text
    finish(second, "COMPLETE")


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


def test_a_number_that_becomes_text_is_noted(tmp_path: Path) -> None:
    """Bug: a column of numbers in which the text is null, for its type was that of the first line."""
    with start_run(tmp_path, {}) as run:
        for value in (1, 2.5, None, np.float32(3), "diverged", 4):
            run.log_metrics({"a": value, "b": 1}, log_name="train")
    (column,) = scan_runs(tmp_path).collect()["train.a"].to_list()
    assert column == ["1", "2.5", None, "3.0", "diverged", "4"]
    with start_run(tmp_path, {}) as run:
        for value in (1, np.array([2.0, 3.0])):
            run.log_metrics({"c": value}, log_name="train")
    assert scan_runs(tmp_path).collect()["train.c"].to_list()[1] == ["1", "[2.0, 3.0]"]

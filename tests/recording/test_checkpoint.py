"""Checkpoints, and the metrics of the attempts that go on from them."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from metric_lines import steps
from support import read_yaml

from mlxp_core.errors import ArtifactTypeError, SupersededError
from mlxp_core.recording import current, signals
from mlxp_core.recording import run as run_module
from mlxp_core.recording.lifecycle import finish, start_recording
from mlxp_core.recording.metrics_folder import MetricsFolder
from mlxp_core.recording.run import Run
from mlxp_core.runs import pickles
from mlxp_core.runs.layout import RunDir


def test_a_checkpoint_is_a_plain_pickle_and_the_newer_replaces_the_older(run: Run) -> None:
    """Bug: a checkpoint that needs this package to be read, or the older one coming back."""
    run.log_checkpoint({"epoch": 1})
    path = run.log_checkpoint({"epoch": 2})
    with path.open("rb") as file:
        assert pickle.load(file) == {"epoch": 2}
    assert run.load_checkpoint() == {"epoch": 2}
    assert os.listdir(path.parent) == ["checkpoint"]


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


def test_a_forked_child_goes_on_in_the_file_that_its_parent_has_resumed(tmp_path: Path) -> None:
    """Bug: what a worker logs after the checkpoint was loaded goes into a file that is gone, or is an error."""
    layout = RunDir(tmp_path / "1")
    finish(attempt(layout, 0, 1, save="checkpoint"), "FAILED")
    second = attempt(layout, 10)
    resumed, resumes = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.read(resumed, 1)
            for step in (11, 12):
                second.log_metrics({"step": step}, log_name="train")
            os._exit(0)
        finally:
            os._exit(1)
    second.load_checkpoint()
    os.write(resumes, b"!")
    assert os.waitpid(child, 0)[1] == 0
    second.log_metrics({"step": 13}, log_name="train")
    assert steps(layout) == [0, 1, 10, 11, 12, 13]
    os.close(resumed)
    os.close(resumes)
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


def test_however_often_checkpoints_are_loaded_in_one_attempt_each_step_is_there_once(tmp_path: Path) -> None:
    """Bug: the third load finds what the second has written behind what the first had; or lines come twice."""
    layout = RunDir(tmp_path / "1")
    first = attempt(layout, *range(100, 105), save="best")
    first.log_metrics({"step": 105}, log_name="train")
    finish(first, "FAILED")
    finish(attempt(layout, 0, save="last"), "FAILED")  # from scratch: fewer lines, so that what is noted gets shorter
    third = start_recording(layout, config={})
    third.log_metrics({"step": 9}, log_name="train")
    found = []
    for name in ("best", "best", "last", "best", "last", "last"):
        third.load_checkpoint(name)
        found.append(steps(layout))
    assert found == [[*range(100, 105), 9]] * 2 + [[0, 9]] * 4  # that of the later attempt counts, once it is known
    finish(third, "COMPLETE")
    assert json.loads(layout.metrics_continued.read_text())["attempt"] == 2


def test_of_several_logs_each_goes_on_where_it_stood(tmp_path: Path) -> None:
    """Bug: a log that a later checkpoint does not know of keeps an earlier attempt's lines, or one loses its own."""
    layout = RunDir(tmp_path / "1")
    first = start_recording(layout, config={})
    for step in range(3):
        first.log_metrics({"step": step}, log_name="train")
    first.log_metrics({"step": 0}, log_name="test")
    first.log_checkpoint(0, "both")
    finish(first, "FAILED")
    second = start_recording(layout, config={})
    second.log_metrics({"step": 7}, log_name="train")
    second.log_checkpoint(0, "train")
    second.log_metrics({"step": 8}, log_name="train")
    finish(second, "FAILED")
    third = start_recording(layout, config={})
    third.log_metrics({"step": 9}, log_name="test")
    third.load_checkpoint("both")
    assert (steps(layout), steps(layout, "test")) == ([0, 1, 2], [0, 9])
    third.load_checkpoint("train")
    assert (steps(layout), steps(layout, "test")) == ([7], [9])
    third.log_metrics({"step": 8}, log_name="train")
    third.log_metrics({"step": 10}, log_name="test")
    third.load_checkpoint("both")
    assert (steps(layout), steps(layout, "test")) == ([7, 8], [9, 10])
    finish(third, "COMPLETE")


def test_a_checkpoint_that_cannot_be_made_leaves_the_earlier_one(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Bug: half a checkpoint over a whole one; or files of the attempts to make it, that fill the disk."""
    run.log_checkpoint({"epoch": 1})
    before = (tmp_path / "1" / "artifacts" / "pickle" / "checkpoint").read_bytes()
    with pytest.raises(ArtifactTypeError, match=r"artifacts/pickle/checkpoint cannot be saved as a pickle: .*lock"):
        run.log_checkpoint({"epoch": 2, "x": threading.Lock()})

    def full(_: object) -> bytes:
        raise OSError("No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(run_module.json, "dumps", full)
        with pytest.raises(OSError, match="No space"):
            run.log_checkpoint({"epoch": 2})
    assert os.listdir(tmp_path / "1" / "artifacts" / "pickle") == ["checkpoint"]
    assert (tmp_path / "1" / "artifacts" / "pickle" / "checkpoint").read_bytes() == before
    assert run.load_checkpoint() == {"epoch": 1}


def test_an_attempt_that_is_overtaken_while_it_saves_does_not_replace_the_checkpoint(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: a node believed dead comes back, and its checkpoint, an hour in the making, is put over the newer one."""
    path = run.log_checkpoint({"epoch": 1})
    run.layout.metadata.mkdir(exist_ok=True)

    dump = pickles.dump

    def slow(*arguments: Any) -> None:
        dump(*arguments)
        run.layout.info.write_text("attempt: 2\nhostname: n2\nstart_time: now\n")

    monkeypatch.setattr(pickles, "dump", slow)
    with pytest.raises(SupersededError, match="attempt 2 has taken over"):
        run.log_checkpoint({"epoch": 2})
    with path.open("rb") as file:
        assert pickle.load(file) == {"epoch": 1}
    with pytest.raises(SupersededError):
        run.log_artifacts({"a": 1}, "report", "json")
    assert not (tmp_path / "1" / "artifacts" / "json").exists()


def test_metrics_that_cannot_be_continued_halfway_are_continued_by_the_next_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: killed, or a full disk, between two logs: the next load puts the first log's lines there twice."""
    layout = RunDir(tmp_path / "1")
    first = start_recording(layout, config={})
    for name in ("a", "b", "c"):
        first.log_metrics({"step": 0}, log_name=name)
    first.log_checkpoint(0)
    finish(first, "FAILED")
    second = start_recording(layout, config={})
    for name in ("a", "b", "c"):
        second.log_metrics({"step": 1}, log_name=name)
    replace = MetricsFolder._replace
    for failing in range(6):  # lines and keys of three logs
        count = iter(range(6))

        def full(folder: MetricsFolder, name: str, content: bytes) -> None:
            if next(count) == failing:  # noqa: B023
                raise OSError("No space left on device")
            replace(folder, name, content)

        with monkeypatch.context() as patched:
            patched.setattr(MetricsFolder, "_replace", full)
            with pytest.raises(OSError, match="No space"):
                second.load_checkpoint()
    second.load_checkpoint()
    assert [steps(layout, name) for name in ("a", "b", "c")] == [[0, 1]] * 3
    finish(second, "COMPLETE")


def test_a_checkpoint_of_this_attempt_or_of_another_run_moves_no_metrics(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Bug: a warning that metrics are gone at each look at one's own best; another run's steps before those of this."""
    other = RunDir(tmp_path / "2")
    finish(attempt(other, 7, save="checkpoint"), "FAILED")
    finish(attempt(other), "FAILED")  # so that what its checkpoint knows is that of an earlier attempt
    layout = RunDir(tmp_path / "1")
    finish(attempt(layout), "FAILED")
    run = attempt(layout, 0, save="checkpoint")
    run.log_metrics({"step": 1}, log_name="train")
    assert (run.load_checkpoint(), run.load_checkpoint(root=other.path)) == (0, 0)
    run.log_metrics({"step": 2}, log_name="train")
    assert (steps(layout), caplog.messages) == ([0, 1, 2], [])
    assert not layout.metrics_continued.exists()
    finish(run, "COMPLETE")


def test_a_checkpoint_with_functions_of_its_own_resumes_its_metrics(tmp_path: Path) -> None:
    """Bug: LambdaLR's schedule is refused, or what stands behind the pickle is not found again."""
    layout = RunDir(tmp_path / "1")
    first = attempt(layout, 0, 1)
    first.log_checkpoint({"schedule": lambda epoch: 0.5**epoch, "epoch": 1})
    first.log_metrics({"step": 2}, log_name="train")
    finish(first, "FAILED")
    second = start_recording(layout, config={})
    assert second.load_checkpoint()["schedule"](2) == 0.25
    second.log_metrics({"step": 2}, log_name="train")
    assert steps(layout) == [0, 1, 2]
    finish(second, "COMPLETE")


def test_a_pickle_that_knows_of_no_metrics_is_a_checkpoint_as_well(run: Run) -> None:
    """Bug: JSONDecodeError for what the user has copied there."""
    path = run.layout.artifact_file("pickle", "checkpoint")
    path.parent.mkdir(parents=True)
    path.write_bytes(pickle.dumps({"epoch": 3}))
    assert run.load_checkpoint() == {"epoch": 3}


def test_what_a_killed_process_left_behind_the_state_of_a_load_is_passed_over(tmp_path: Path) -> None:
    """Bug: killed between the write of a shorter state and the cut of the file: no checkpoint loads any more."""
    layout = RunDir(tmp_path / "1")
    finish(attempt(layout, 0, 1, save="checkpoint"), "FAILED")
    second = start_recording(layout, config={})
    second.load_checkpoint()
    with layout.metrics_continued.open("a") as file:
        file.write('9}, "attempt": 1}')  # the end of a longer one
    second.load_checkpoint()
    assert steps(layout) == [0, 1]
    finish(second, "COMPLETE")


def resumed(layout: RunDir, earlier: list[Any], *later: dict[str, Any], log_name: str = "train") -> list[Any]:
    """Log lines, and "save" among them saves a checkpoint; then resume, and log others. Gives (attempt, line) each."""
    first = start_recording(layout, config={})
    for line in earlier:
        if line == "save":
            first.log_checkpoint({})
        else:
            first.log_metrics({**line, "attempt": 1}, log_name)
    finish(first, "FAILED")
    second = start_recording(layout, config={})
    second.load_checkpoint()
    for line in later:
        second.log_metrics({**line, "attempt": 2}, log_name)
    finish(second, "COMPLETE")
    rows = map(json.loads, layout.metric_file(log_name).read_text().splitlines())
    return [(row.pop("attempt"), *row.values()) for row in rows]


def at(*steps: float, key: str = "step") -> list[dict[str, Any]]:
    return [{key: step} for step in steps]


@pytest.mark.parametrize(
    ("earlier", "later", "expected"),
    [
        # saved before the step is logged, as in a loop that ends with log_metrics
        (["save", *at(1), "save", *at(2)], at(3, 4), [(1, 1), (1, 2), (2, 3), (2, 4)]),
        ([*at(1), "save", *at(2, 3, 4)], at(3), [(1, 1), (1, 2), (2, 3)]),
        ([*at(1), "save", *at(2, 3, 4)], at(2), [(1, 1), (2, 2)]),
        ([*at(1), "save", *at(2, 3)], at(9), [(1, 1), (1, 2), (1, 3), (2, 9)]),  # logs less often now
        (["save", *at(1, 2)], at(2), [(1, 1), (2, 2)]),  # the checkpoint knew of no line
        ([*at(1), "save", *at(2), {"loss": 5}, *at(3)], at(4), [(1, 1), (1, 2), (2, 4)]),  # no step tells from there
        ([*at(1), "save", *at(2)], [{"loss": 3}, *at(3)], [(1, 1), (2, 3), (2, 3)]),  # nor here
        ([{"loss": 1}, "save", {"loss": 2}], [{"loss": 3}], [(1, 1), (2, 3)]),
        ([*at(1), "save", *at(2, float("nan"), 3)], at(4), [(1, 1), (1, 2), (2, 4)]),
        ([*at(1, key="Epoch"), "save", *at(2, key="Epoch")], at(3, key="Epoch"), [(1, 1), (1, 2), (2, 3)]),
        ([*at(1), "save", *at(2)], at(3, key="epoch"), [(1, 1), (2, 3)]),  # counts something else
    ],
)
def test_steps_that_were_logged_after_the_checkpoint_of_them_are_not_missed(
    tmp_path: Path, earlier: list[Any], later: list[Any], expected: list[Any]
) -> None:
    """Bug: a loop that saves a checkpoint and then logs the step loses that step at each resumption, in silence."""
    assert resumed(RunDir(tmp_path / "1"), earlier, *later) == expected


def test_each_log_misses_nothing_of_its_own_and_each_line_is_there_once(tmp_path: Path) -> None:
    """Bug: lines come twice where a checkpoint is loaded again, after logging has begun, or by a forked child."""
    layout = RunDir(tmp_path / "1")
    first = start_recording(layout, config={})
    for step in (1, 2):
        first.log_checkpoint({})
        first.log_metrics({"step": step}, "train")
        first.log_metrics({"step": 10 * step}, "val")
    finish(first, "FAILED")
    second = start_recording(layout, config={})
    second.log_metrics({"step": 3}, "train")  # before it is loaded
    second.load_checkpoint()
    second.log_metrics({"step": 4}, "train")
    second.load_checkpoint()
    pid = os.fork()
    if pid == 0:
        second.log_metrics({"step": 20}, "val")
        os._exit(0)
    os.waitpid(pid, 0)
    second.log_metrics({"step": 30}, "val")
    second.log_metrics({"step": 5}, "train")
    finish(second, "FAILED")
    assert [steps(layout, name) for name in ("train", "val")] == [[1, 2, 3, 4, 5], [10, 20, 30]]
    third = start_recording(layout, config={})
    third.load_checkpoint()  # still of the first attempt
    third.log_metrics({"step": 3}, "train")
    finish(third, "COMPLETE")
    assert [steps(layout, name) for name in ("train", "val")] == [[1, 2, 3], [10]]
    for name in ("train", "val"):
        assert layout.metric_keys_file(name).read_text().splitlines() == ['["step", "number"]'] * (2 - (name == "val"))


def go_on(layout: RunDir, stop: int | None, *, end: bool = False) -> None:
    """Go on for 12 steps, save each before it is logged, and evaluate every fifth; stopped after ``stop``."""
    run = start_recording(layout, config={})
    try:
        start = run.load_checkpoint()
    except FileNotFoundError:
        start = 0
    for step in range(start, 12):
        run.log_checkpoint(step + 1)
        run.log_metrics({"step": step}, "train")
        if step % 5 == 0:
            run.log_metrics({"step": step, f"acc{step}": 1}, "val")
        if step == stop:
            break
    if stop is None or end:
        finish(run, "COMPLETE" if stop is None else "PREEMPTED")
    else:  # killed: its folder says RUNNING, and this process knows no more of it
        current.pop(id(run))
        signals.remove(run)


@pytest.mark.parametrize("end", [False, True])
@pytest.mark.parametrize("stops", [(0, 3), (5, 6, 7), (5, 5), (10,), (11,), (10, 11), (0, 2, 4, 6, 8, 10)])
def test_steps_after_a_checkpoint_are_there_however_the_run_goes_on(
    tmp_path: Path, stops: tuple[int, ...], end: bool
) -> None:
    """Bug: a log's last line is lost where no later one follows it: in the attempt that resumed, or in all of them."""
    layout = RunDir(tmp_path / "1")
    for stop in (*stops, None):
        go_on(layout, stop, end=end)
    assert (steps(layout, "train"), steps(layout, "val")) == (list(range(12)), [0, 5, 10])
    keys = {json.loads(line)[0] for line in layout.metric_keys_file("val").read_text().splitlines()}
    assert keys == {"step", "acc0", "acc5", "acc10"}


def test_what_the_later_attempt_has_not_logged_again_is_not_added_beyond_its_steps(tmp_path: Path) -> None:
    """Bug: an event of steps that another attempt has gone through anew, or lines that no step tells, in the curve."""
    layout = RunDir(tmp_path / "1")
    first = start_recording(layout, config={})
    first.log_checkpoint({})
    for step in (1, 2, 3):
        first.log_metrics({"step": step}, "train")
        first.log_metrics({"step": step}, "event")
        first.log_metrics({"loss": step}, "other")
    finish(first, "FAILED")
    second = start_recording(layout, config={})
    second.load_checkpoint()
    second.log_metrics({"step": 3}, "train")
    finish(second, "COMPLETE")
    assert [steps(layout, name) for name in ("train", "event")] == [[1, 2, 3], [1, 2]]
    assert not layout.metric_file("other").exists()

"""A run that was resumed by somebody else's checkpoint has its whole curve, each step once."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
from reader_caches import forget

from mlxp_core import start_run
from mlxp_core.errors import MetricsError
from mlxp_core.reader import AvgStd, Last, Reader, scan_runs
from mlxp_core.reader.cache import run_cache
from mlxp_core.reader.frame.scan_metrics import scan_metrics
from mlxp_core.reader.load import file_cache
from mlxp_core.recording.lifecycle import finish, start_recording
from mlxp_core.runs.layout import RunDir
from mlxp_core.runs.status import Status


def steps(*numbers, key="step", **more):
    """Lines of a log, with a value that tells the attempt (tens) and the step apart."""
    return [
        {key: number, **{name: values[place] for name, values in more.items()}} for place, number in enumerate(numbers)
    ]


def write(layout, *attempts, config=None):
    """Record the attempts of a run: of each its logs; ``said`` is the step of resume_metrics. The last is COMPLETE."""
    for number, logs in enumerate(attempts, 1):
        run = start_recording(layout, config={} if config is None else config[number - 1])
        assert run.attempt == number
        if "said" in logs:
            run.resume_metrics(step=logs["said"])
        for name, lines in logs.items():
            for line in lines if name != "said" else ():
                run.log_metrics({**line, "attempt": number}, name)
        finish(run, Status.COMPLETE if number == len(attempts) else Status.FAILED)
    return run


def curve(logs, name="train", key="step"):
    """(step, attempt) of each line of the one run."""
    frame = scan_runs(logs.path).collect()
    if f"{name}.attempt" not in frame.columns or frame[f"{name}.attempt"][0] is None:
        return []
    keys = frame[f"{name}.{key}"][0] if f"{name}.{key}" in frame.columns else [None] * len(frame[f"{name}.attempt"][0])
    return [(step, attempt) for step, attempt in zip(keys, frame[f"{name}.attempt"][0], strict=True)]


def of(attempt, *numbers):
    return [(number, attempt) for number in numbers]


FIVES = range(5, 35, 5)
# the attempts, and the lines that count, each once
JOINED = {
    "from the middle": (
        [{"train": steps(*range(5, 40, 5))}, {"train": steps(35, 40)}],
        [*of(1, *FIVES), *of(2, 35, 40)],
    ),
    "from behind the last line": ([{"train": steps(0, 1, 2)}, {"train": steps(3, 4)}], [*of(1, 0, 1, 2), *of(2, 3, 4)]),
    "from its first step on": ([{"train": steps(0, 1)}, {"train": steps(1, 2, 3)}], [*of(1, 0), *of(2, 1, 2, 3)]),
    "anew": ([{"train": steps(0, 1, 2)}, {"train": steps(0, 1)}], of(2, 0, 1)),
    "anew, from before the first": ([{"train": steps(10, 20)}, {"train": steps(5, 10)}], of(2, 5, 10)),
    "three attempts": (
        [{"train": steps(0, 1, 2, 3)}, {"train": steps(2, 3, 4, 5)}, {"train": steps(5, 6)}],
        [*of(1, 0, 1), *of(2, 2, 3, 4), *of(3, 5, 6)],
    ),
    "the third goes back before the second": (
        [{"train": steps(0, 1, 2, 3)}, {"train": steps(3, 4, 5)}, {"train": steps(2, 3)}],
        [*of(1, 0, 1), *of(3, 2, 3)],
    ),
    "the second anew, the third from it": (
        [{"train": steps(0, 1, 2, 3)}, {"train": steps(0, 1)}, {"train": steps(1, 2)}],
        [*of(2, 0), *of(3, 1, 2)],
    ),
    "the second logs nothing": (
        [{"train": steps(0, 1, 2)}, {}, {"train": steps(2, 3)}],
        [*of(1, 0, 1), *of(3, 2, 3)],
    ),
    "the last logs nothing": ([{"train": steps(0, 1, 2)}, {}], of(1, 0, 1, 2)),
    "floats": ([{"train": steps(0.5, 1.0, 1.5)}, {"train": steps(1.0, 1.5)}], [*of(1, 0.5), *of(2, 1.0, 1.5)]),
    "lines without a step go with the one before": (
        [{"train": [*steps(0, 1), {"val": 1}, *steps(2), {"val": 2}]}, {"train": steps(2, 3)}],
        [*of(1, 0, 1, None), *of(2, 2, 3)],
    ),
    "lines of two processes that change places": (
        [{"train": steps(0, 1, 0, 1, 2, 3, 2, 4, 3)}, {"train": steps(3, 3, 4)}],
        [*of(1, 0, 1, 0, 1, 2, 2), *of(2, 3, 3, 4)],
    ),
    "a program that has gone back by itself": (
        [{"train": steps(0, 1, 2, 3, 4, 3, 4, 5)}, {"train": steps(5, 6)}],
        [*of(1, 0, 1, 2, 3, 4, 3, 4), *of(2, 5, 6)],
    ),
    "said where": (
        [{"train": steps(*range(10))}, {"said": 6, "train": steps(10, 15)}],
        [*of(1, *range(6)), *of(2, 10, 15)],
    ),
    "said where, and logged before": (
        [{"train": steps(*range(5))}, {"said": 6, "train": steps(3, 4)}],
        [*of(1, 0, 1, 2), *of(2, 3, 4)],
    ),
    "said, and nothing logged": ([{"train": steps(0, 1, 2, 3)}, {"said": 2}], of(1, 0, 1)),
    "said that it is anew": ([{"train": steps(0, 1, 2)}, {"said": 0, "train": steps(10, 20)}], of(2, 10, 20)),
}


@pytest.mark.parametrize("case", JOINED)
def test_attempts_are_joined_by_their_steps(logs, case):
    """Bug: a COMPLETE run whose curve begins at step 35, averaged at step 0 with others."""
    attempts, expected = JOINED[case]
    write(RunDir(logs.path / "1"), *attempts)
    assert curve(logs) == expected
    assert Reader(logs.path).problems == []


@pytest.mark.parametrize("key", ["epoch", "iteration", "global_step", "trainer/global_step", "_step", "Epoch"])
def test_whatever_counts_the_steps_joins_them(logs, key):
    """Bug: only logs with `step`."""
    write(RunDir(logs.path / "1"), {"train": steps(1, 2, 3, key=key)}, {"train": steps(3, 4, key=key)})
    assert curve(logs, key=key) == [*of(1, 1, 2), *of(2, 3, 4)]


def epochs(*pairs):
    return [{"step": step} if epoch is None else {"epoch": epoch, "step": step} for epoch, step in pairs]


@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [
        # steps within the epoch
        ([(0, 0), (0, 1), (1, 0), (1, 1)], [(1, 1), (2, 0)], 3),
        ([(0, 0), (0, 1)], [(1, 0), (1, 1)], 2),  # which begins at step 0, and not anew
        ([(0, 0), (0, 1), (0, 2)], [(0, 2), (1, 0)], 2),
        ([(0, 0), (0, 1), (1, 0)], [(0, 0), (0, 1)], 0),
        # steps that go on, also where the epoch is counted from the resumption on
        ([(0, 0), (0, 10), (1, 20)], [(1, 20), (2, 30)], 2),
        ([(0.0, 0), (0.5, 10), (1.0, 20)], [(1.0, 20), (1.5, 30)], 2),
        ([(0, 0), (0, 10), (1, 20)], [(0, 20), (1, 30)], 2),
        # an epoch that comes once it has ended: the first steps are of none that is known
        ([(None, 0), (None, 10), (None, 20), (1, 30)], [(2, 20), (2, 30)], 2),
    ],
)
def test_epoch_and_step_are_told_apart(logs, first, second, kept):
    """Bug: a step that begins anew with each epoch taken for an attempt that does."""
    write(RunDir(logs.path / "1"), {"train": epochs(*first)}, {"train": epochs(*second)})
    assert curve(logs) == [*of(1, *(step for _, step in first[:kept])), *of(2, *(step for _, step in second))]
    assert Reader(logs.path).problems == []


def test_logs_that_the_later_attempt_has_not_logged_yet_are_there_up_to_where_it_goes_on(logs):
    """Bug: the evaluations before the kill are gone; or those that will come again are there twice."""
    first = {"train": steps(*range(10)), "val": steps(4, 9), "epochs": steps(1, 2, key="epoch"), "once": [{"size": 7}]}
    layout = RunDir(logs.path / "1")
    write(layout, first, {"train": steps(6, 7)})
    assert curve(logs) == [*of(1, *range(6)), *of(2, 6, 7)]
    assert curve(logs, "val") == of(1, 4)
    assert curve(logs, "epochs", "epoch") == of(1, 1, 2)
    assert logs.column("once.size") == [[7.0]]
    write(RunDir(logs.path / "2"), first, {"train": steps(0, 1)})  # anew
    frame = scan_runs(logs.path).filter(id=2).collect()
    assert frame.select("val.step", "epochs.epoch", "once.size").row(0) == (None, None, None)
    assert Reader(logs.path).problems == []


def problem(logs):
    (found,) = Reader(logs.path).problems
    assert found.path == str(logs.path / "1/metrics/train.json")
    assert Reader(logs.path).filter().problems == [found]
    return found.what


def test_a_curve_that_begins_late_without_a_step_is_a_problem_of_the_run(logs):
    """Bug: three of ten losses, and nothing says so."""
    losses = [{"loss": 1.0}] * 4
    write(RunDir(logs.path / "1"), {"train": losses}, {"train": losses[:3]})
    assert logs.column("train.loss") == [[1.0] * 3]
    assert problem(logs).startswith("begins late, or anew, with attempt 2: no step tells where, so 4 earlier lines")


@pytest.mark.parametrize(
    ("attempts", "reason"),
    [
        # the other log tells that it goes on
        (
            [{"train": [{"loss": 1}] * 4, "val": steps(0, 1)}, {"train": [{"loss": 1}] * 9, "val": steps(1, 2)}],
            "begins late",
        ),
        (
            [{"train": [{"step": step, "loss": 1} for step in [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]]}, {"train": steps(2, 3)}],
            "begins late",
        ),
        ([{"train": steps(5, 10, 15)}, {"train": steps(60, 65)}], "step jumps from 15 to 60 where attempt 2 begins"),
        ([{"train": steps(5)}, {"train": steps(60, 65)}], "step jumps from 5 to 60 where attempt 2 begins"),
        ([{}, {"train": steps(35, 40, 45)}], "begins late: step is 35 first, of attempt 2, and no earlier one"),
    ],
)
def test_a_curve_that_cannot_be_joined_is_a_problem_that_says_why(logs, attempts, reason):
    """Bug: silence where a log has no step, one that counts anew in each epoch, or lines that are gone."""
    write(RunDir(logs.path / "1"), *attempts)
    assert problem(logs).startswith(reason)


@pytest.mark.parametrize(
    "attempts",
    [
        [{"train": [{"loss": 1}] * 4, "val": steps(0, 1)}, {"train": [{"loss": 1}] * 4, "val": steps(0, 1)}],
        [{"train": [{"loss": 1}] * 4}, {"said": 0, "train": [{"loss": 1}] * 4}],
        [{"train": [{"size": 1}]}, {"train": [{"size": 1}]}],  # no curves
        [{}, {"train": steps(10, 20, 30)}],
    ],
)
def test_a_curve_that_is_whole_is_no_problem(logs, attempts):
    """Bug: a warning for each run that was started again from its beginning."""
    write(RunDir(logs.path / "1"), *attempts)
    assert Reader(logs.path).problems == []
    assert {attempt for _, attempt in curve(logs)} == {2}


def test_a_first_attempt_begins_where_it_likes(logs):
    """Bug: a fine-tuning that counts on from its model's steps is a problem."""
    write(RunDir(logs.path / "1"), {"train": steps(1000, 1001)})
    assert Reader(logs.path).problems == []


def test_another_configuration_that_logs_at_other_steps_is_joined_to_nothing(logs):
    """Bug: the folder is named again for another run, and the first line of the one before stands before its own."""
    layout = RunDir(logs.path / "1")
    write(layout, {"train": steps(5, 10, 15, 20)}, {"train": steps(10, 20, 30)}, config=[{"lr": 1}, {"lr": 2}])
    assert curve(logs) == of(2, 10, 20, 30)
    # one that was resumed with another one, which says where from
    write(RunDir(logs.path / "2"), {"train": steps(5, 10, 15)}, {"train": steps(15, 20)}, config=[{}, {"resume": True}])
    assert scan_runs(logs.path).filter(id=2).collect()["train.step"].to_list() == [[5, 10, 15, 20]]


def checkpointed(layout, *attempts):
    """Attempts: whether each loads our checkpoint, its steps before it makes one, whether it does, and those after."""
    for loads, before, saves, after in attempts:
        run = start_recording(layout, config={})
        if loads:
            run.load_checkpoint()
        for line in steps(*before):
            run.log_metrics({**line, "attempt": run.attempt}, "train")
        if saves:
            run.log_checkpoint(0)
        for line in steps(*after):
            run.log_metrics({**line, "attempt": run.attempt}, "train")
        finish(run, Status.FAILED)


@pytest.mark.parametrize(
    ("attempts", "expected"),
    [
        # by our checkpoints alone: lines are not joined twice
        ([(False, [0, 1], True, [2]), (True, [], False, [2, 3])], [*of(1, 0, 1), *of(2, 2, 3)]),
        # which is what load_checkpoint says, also where steps would say something else
        ([(False, [0, 1], True, [2]), (True, [], False, [1, 5])], [*of(1, 0, 1), *of(2, 1, 5)]),
        # theirs, then ours of the attempt that theirs resumed
        (
            [(False, [0, 1, 2], False, []), (False, [2, 3], True, [4]), (True, [4, 5], False, [])],
            [*of(1, 0, 1), *of(2, 2, 3), *of(3, 4, 5)],
        ),
        # ours, then theirs
        (
            [(False, [0, 1], True, [2]), (True, [2, 3], False, []), (False, [3, 4], False, [])],
            [*of(1, 0, 1), *of(2, 2), *of(3, 3, 4)],
        ),
        # ours of the first, past the second
        (
            [(False, [0, 1], True, [2]), (False, [7], False, []), (True, [2, 3], False, [])],
            [*of(1, 0, 1), *of(3, 2, 3)],
        ),
    ],
)
def test_checkpoints_of_ours_and_of_others_follow_each_other(logs, attempts, expected):
    """Bug: lines that load_checkpoint has put there are joined once more; or those before it are not."""
    checkpointed(RunDir(logs.path / "1"), *attempts)
    assert curve(logs) == expected


def test_every_way_of_reading_has_the_joined_curve(logs, monkeypatch):
    """Bug: cached and uncached reads, runs one by one, lines, and averages disagree."""
    monkeypatch.setattr(file_cache, "RACY_NS", 0)
    monkeypatch.setattr(run_cache, "_MIN_NEW", 1)
    whole = [{"step": step, "loss": float(step)} for step in range(6)]
    for run_id in (1, 2):
        write(RunDir(logs.path / str(run_id)), {"train": whole})
    write(RunDir(logs.path / "3"), {"train": whole[:4]}, {"train": [*whole[2:], {"step": 6, "new": 1.0}]})

    def read():
        forget()
        reader = Reader(logs.path)
        runs = reader.filter()
        return [
            scan_runs(logs.path).select("id", "train.loss").collect().rows(),
            runs[2]["train.loss"],
            runs[2]["train.new"],
            scan_metrics(logs.path, "train").filter(id=3).collect().select("line", "step", "loss").rows(),
            runs.aggregate(AvgStd("train.loss")).collect().rows(),
            reader.filter("id == 3").collect()["train.loss"].to_list(),
            reader.fields.rows(),
            reader.problems,
        ]

    first = read()
    assert first[1] == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, None]
    assert first[0][2] == (3, first[1])
    assert first[3] == [(step, step, float(step) if step < 6 else None) for step in range(7)]
    assert (first[4][0][0][:6], first[4][0][2]) == ([0.0, 1.0, 2.0, 3.0, 4.0, 5.0], [3, 3, 3, 3, 3, 3, 0])
    assert (logs.path / ".mlxp/reader-index").exists()
    assert read() == first
    os.unlink(logs.path / ".mlxp/reader-index")
    for run_id in (1, 2, 3):
        os.unlink(logs.path / f"{run_id}/metadata/digest.jsonl")
    assert read() == first


def test_a_running_attempt_is_joined_at_each_look(logs):
    """Bug: the curve of a run that goes on is whole only at its end; or one that has just been read stays as it was."""
    layout = RunDir(logs.path / "1")
    write(layout, {"train": steps(0, 1, 2, 3), "val": steps(3)})
    run = start_recording(layout, config={})
    assert curve(logs) == of(1, 0, 1, 2, 3)
    run.log_metrics({"step": 2, "attempt": 2}, "train")
    assert (curve(logs), curve(logs, "val")) == ([*of(1, 0, 1), *of(2, 2)], [])
    run.log_metrics({"step": 3, "attempt": 2}, "val")
    assert (curve(logs), curve(logs, "val")) == ([*of(1, 0, 1), *of(2, 2)], of(2, 3))
    finish(run, Status.COMPLETE)
    assert (curve(logs), curve(logs, "val")) == ([*of(1, 0, 1), *of(2, 2)], of(2, 3))


def test_a_long_log_whose_steps_come_late_is_joined(logs):
    """Bug: only the beginning of the file is looked at for its first step."""
    layout = RunDir(logs.path / "1")
    notes = [{"note": "x" * 1000}] * 80
    write(layout, {"train": steps(0, 1, 2)}, {"train": [*notes, *steps(2, 3)]})
    assert curve(logs) == [*of(1, 0, 1), *of(2, *[None] * 80, 2, 3)]


def test_a_last_line_that_was_cut_short_is_not_there(logs):
    """Bug: half a line of a killed attempt, and the next attempt's first one behind it."""
    layout = RunDir(logs.path / "1")
    write(layout, {"train": steps(0, 1, 2)})
    with layout.metric_file("train").open("a") as file:
        file.write('{"step": 3, "att')
    second = start_recording(layout, config={})
    second.log_metrics({"step": 4, "attempt": 2}, "train")
    finish(second, Status.COMPLETE)
    assert curve(logs) == [*of(1, 0, 1, 2), *of(2, 4)]


def test_a_stray_value_of_an_earlier_attempt_is_named_in_its_own_file(logs):
    """Bug: a line of the joined curve, which no file has."""
    first = [{"step": 0, "loss": 1.0}, {"step": 1, "loss": "diverged"}]
    write(RunDir(logs.path / "1"), {"train": first}, {"train": [{"step": 2, "loss": 1.0}, {"step": 3, "loss": [1]}]})
    (found,) = Reader(logs.path).problems
    assert found.path == str(logs.path / "1/metadata/attempts/1/metrics/train.json")
    assert found.what.startswith("line 2: loss is 'diverged', which is no number, as in 1 more")
    assert logs.column("train.loss") == [[1.0, None, 1.0, None]]


def test_earlier_lines_that_are_gone_are_told(logs):
    """Bug: FileNotFoundError for all runs, or a curve that is shorter than it was without a word."""
    layout = RunDir(logs.path / "1")
    write(layout, {"train": steps(0, 1, 2)}, {"train": steps(2, 3)})
    runs = Reader(logs.path).filter()
    shutil.rmtree(layout.attempt_dir(1).metrics)
    assert runs.aggregate(Last("train.step")).collect()["train.step_last"].to_list() == [[None]]
    assert "cannot be read" in runs.problems[0].what


@pytest.mark.parametrize("step", [3, 3.0, np.int64(3), np.array(3)])
def test_resuming_is_said_once_and_for_all(logs, step):
    """Bug: said again, as each of several processes does, it says something else; numpy's numbers are refused."""
    layout = RunDir(logs.path / "1")
    write(layout, {"train": steps(0, 1, 2, 3, 4)})
    run = start_recording(layout, config={})
    for _ in range(3):
        run.resume_metrics(step=step)
    note = layout.metrics_continued.read_bytes()
    run.resume_metrics(step=step)
    assert layout.metrics_continued.read_bytes() == note
    run.log_metrics({"step": 9, "attempt": 2}, "train")
    finish(run, Status.COMPLETE)
    run.resume_metrics(step=step)
    run.close()
    assert curve(logs) == [*of(1, 0, 1, 2), *of(2, 9)]


def test_lines_without_steps_are_one_a_step_where_they_are_as_many(logs, caplog):
    """Bug: resume_metrics that has no effect, or an effect on a log of each tenth step, and says nothing."""
    losses = [{"loss": float(step)} for step in range(6)]
    every_tenth = {"train": [{"loss": 1.0}] * 4}
    write(RunDir(logs.path / "1"), {"train": losses, "val": steps(4)}, {"said": 3, "train": losses[3:]})
    assert logs.column("train.loss") == [[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]]
    assert Reader(logs.path).problems == []
    assert "no step in log train, so the first 3 lines of its earlier attempts count as one a step" in caplog.text
    write(RunDir(logs.path / "2"), every_tenth, {"said": 31, "train": [{"loss": 2.0}]})
    assert logs.column("train.loss")[1] == [2.0]
    (found,) = Reader(logs.path).problems
    assert found.path.endswith("2/metrics/train.json")
    assert found.what.startswith("begins late, or anew, with attempt 2")
    caplog.clear()
    write(RunDir(logs.path / "3"), every_tenth, {"said": 0, "train": [{"loss": 2.0}]})
    assert caplog.messages == []


@pytest.mark.parametrize("step", [-1, float("nan"), float("inf"), "35", None, True, np.array([1, 2])])
def test_what_is_no_step_is_refused(logs, step):
    """Bug: a curve that is cut at NaN, where no step is."""
    run = start_recording(RunDir(logs.path / "1"), config={})
    with pytest.raises(MetricsError, match="give the step at which the run goes on"):
        run.resume_metrics(step=step)
    finish(run, Status.COMPLETE)


def test_in_the_first_attempt_resuming_says_nothing(logs):
    """Bug: a program that always says where it begins has problems, or no curve."""
    write(RunDir(logs.path / "1"), {"said": 0, "train": steps(0, 1)})
    write(RunDir(logs.path / "2"), {"said": 7, "train": steps(7, 8)})
    assert scan_runs(logs.path).collect()["train.step"].to_list() == [[0, 1], [7, 8]]
    assert Reader(logs.path).problems == []


def test_attempts_and_strays_of_several_log_directories_are_each_their_own(tmp_path):
    """Bug: the beginning of one directory's run before another's lines; a stray value that is named elsewhere."""
    for place, folder in enumerate(("a", "empty", "b")):
        (tmp_path / folder).mkdir()
        if folder == "empty":
            continue
        write(RunDir(tmp_path / folder / "1"), {"train": steps(10 * place + 1)})
        write(RunDir(tmp_path / folder / "2"), {"train": steps(1, 2, 3)}, {"train": steps(3, 4)})
    with start_run(tmp_path / "b", {"kind": "stray"}) as run:
        run.log_metrics({"step": 1, "attempt": "diverged"}, "train")
    for given in (["a", "empty", "b"], ["b", "a"]):
        reader = Reader([tmp_path / name for name in given])
        frame = reader.filter("config.kind is null").sort("path").collect()
        assert frame["train.step"].to_list() == [[1], [1, 2, 3, 4], [21], [1, 2, 3, 4]]
        assert frame["train.attempt"].to_list() == [[1], [1, 1, 2, 2], [1], [1, 1, 2, 2]]
        assert reader.filter("config.kind is null").problems == []
        (problem,) = reader.filter().problems
        assert problem.path == str(tmp_path / "b" / "3" / "metrics" / "train.json")
        lines = scan_metrics([tmp_path / name for name in given], "train").collect()
        own = lines.filter(lines["path"] == str(tmp_path / "b" / "2"))
        assert own["attempt"].to_list() == [1.0, 1.0, 2.0, 2.0]

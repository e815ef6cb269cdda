"""Aggregations along the steps that the user counts, against numbers worked out by hand and against numpy."""

from __future__ import annotations

import math
import warnings

import numpy as np
import polars as pl
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st

from mlxp_core.errors import QueryError, StatisticsWarning
from mlxp_core.reader import AvgStd, Best, Last, MeanCI, Median, Quantiles, Reader

ENGINES = ("in-memory", "streaming")


def write(logs, *curves, log="train", key="loss", by="step"):
    """Write a run for each curve, a list of (step, value)."""
    for number, curve in enumerate(curves, 1):
        lines = [{by: step, key: value} for step, value in curve]
        logs.run(number, {"group": "a", "seed": number}, metrics={log: lines})
    return logs


def one_row(logs, *aggregations, engine="in-memory"):
    groups = Reader(logs.path).filter().group_by("config.group")
    (row,) = groups.aggregate(aggregations).collect(engine=engine).iter_rows(named=True)
    return row


@pytest.fixture
def uneven(logs):
    """Three runs of loss = 100 - step: every 10 steps, every 20 steps, and from step 20 on."""
    steps = [range(0, 50, 10), range(0, 50, 20), range(20, 50, 10)]
    return write(logs, *([(step, 100 - step) for step in of_run] for of_run in steps))


@pytest.mark.parametrize("engine", ENGINES)
def test_values_of_one_step_are_averaged_wherever_their_lines_are(uneven, engine):
    """Bug: line 1 of every run averaged, which is step 10, 20 and 30; n = 3 everywhere."""
    row = one_row(uneven, AvgStd("train.loss", by="step"), engine=engine)
    assert row["train.loss_step"] == [0, 10, 20, 30, 40]
    assert row["train.loss_avg"] == [100, 90, 80, 70, 60]
    assert row["train.loss_n"] == [2, 1, 3, 2, 3]
    assert row["train.loss_std"] == [0, None, 0, 0, 0]


@pytest.mark.parametrize("engine", ENGINES)
def test_between_its_steps_a_run_is_interpolated_and_never_beyond_them(uneven, engine):
    """Bug: the run from step 20 on taken for what it was not at 0 and 10; a step that is held instead of a line."""
    row = one_row(uneven, AvgStd("train.loss", by="step", fill="interpolate"), engine=engine)
    assert row["train.loss_avg"] == [100, 90, 80, 70, 60]
    assert row["train.loss_n"] == [2, 2, 3, 3, 3]


@pytest.mark.parametrize(
    ("aggregation", "columns"),
    [
        (AvgStd("train.loss", by="step"), ["avg", "std", "n", "step"]),
        (Median("train.loss", by="step"), ["median", "median_n", "median_step"]),
        (Quantiles("train.loss", [0.5], by="step"), ["q50", "q_n", "q_step"]),
        (MeanCI("train.loss", by="step"), ["mean", "ci_low", "ci_high", "ci_n", "ci_method", "ci_step"]),
        (
            MeanCI("train.loss", by="step", method="bootstrap", force=True),
            ["mean", "ci_low", "ci_high", "ci_n", "ci_method", "ci_step"],
        ),
    ],
)
def test_every_aggregation_goes_by_step_and_gives_the_steps(uneven, aggregation, columns):
    """Bug: an aggregation that was forgotten, or one without its axis; names that clash side by side."""
    names = [f"train.loss_{name}" for name in columns]
    assert aggregation.columns == names
    row = one_row(uneven, aggregation)
    assert list(row) == ["config.group", *names]
    assert row[names[-1]] == [0, 10, 20, 30, 40]
    assert row[names[0]] == pytest.approx([100, 90, 80, 70, 60])


def test_they_stand_side_by_side_and_any_expression_along_the_lines_has_steps(uneven):
    """Bug: a key of one log taken for another's; an expression that has no steps for it is not the name of a column."""
    doubled = pl.col("train.loss").list.eval(pl.element() * 2).alias("doubled")
    row = one_row(uneven, AvgStd("train.loss", by="step"), Median("train.loss", by="step"), AvgStd(doubled, by="step"))
    assert row["doubled_avg"] == [200, 180, 160, 140, 120]
    assert row["doubled_step"] == row["train.loss_median_step"]
    shorter = pl.col("train.loss").list.drop_nulls().list.head(1).alias("shorter")
    with pytest.raises(QueryError, match=r"shorter has 1 values in run 1, and train\.step has 5"):
        one_row(uneven, AvgStd(shorter, by="step"))


def test_ragged_goes_by_steps_too(uneven):
    """Bug: the shortest number of lines cuts, where there is no line in common."""
    row = one_row(uneven, AvgStd("train.loss", by="step", ragged="truncate"))
    assert (row["train.loss_step"], row["train.loss_n"]) == ([20, 40], [3, 3])
    row = one_row(uneven, AvgStd("train.loss", by="step", ragged="truncate", fill="interpolate"))
    assert row["train.loss_step"] == [20, 30, 40]
    with pytest.raises(QueryError, match=r"train\.loss has step 0 in 2 of 3 runs of a group"):
        one_row(uneven, AvgStd("train.loss", by="step", ragged="error"))


def test_missing_values_are_no_steps_and_not_a_number_is_one(logs):
    """Bug: a null that counts in n, or a diverged run that leaves the average; a NaN that does not spread."""
    write(logs, [(0, 1.0), (5, None), (10, "NaN"), (20, 3.0)], [(0, 3.0), (5, 4.0), (10, 5.0), (15, 1.0), (20, 5.0)])
    row = one_row(logs, AvgStd("train.loss", by="step"))
    assert row["train.loss_n"] == [2, 1, 2, 1, 2]
    assert row["train.loss_avg"][:2] == [2.0, 4.0]
    assert math.isnan(row["train.loss_avg"][2])
    row = one_row(logs, AvgStd("train.loss", by="step", fill="interpolate"))
    assert row["train.loss_n"] == [2, 2, 2, 2, 2]
    assert [math.isnan(value) for value in row["train.loss_avg"]] == [False, True, True, True, False]


def test_steps_may_be_text_or_fractions_and_match_where_they_are_equal(logs):
    """Bug: whole numbers alone; text interpolated."""
    write(logs, [("warm", 1), ("main", 2)], [("main", 4)], by="phase")
    row = one_row(logs, AvgStd("train.loss", by="phase"))
    assert (row["train.loss_step"], row["train.loss_avg"]) == (["main", "warm"], [3, 1])
    for aggregation in (AvgStd("train.loss", by="phase", fill="interpolate"), Best("train.loss", by="phase")):
        with pytest.raises(QueryError, match=r"needs a column of numbers: train\.phase is List"):
            one_row(logs, aggregation)


@pytest.mark.parametrize(
    ("aggregation", "message"),
    [
        (
            AvgStd("train.loss", by="stp"),
            "log 'train' has no key 'stp' by which to align train.loss: did you mean 'step'?",
        ),
        (AvgStd("config.seed", by="step"), "by='step' is for metrics, which have steps: config.seed is none"),
        (Best("train.los", by="step"), "no column 'train.los': did you mean 'train.loss'?"),
        (Best("train.loss", by="epoch"), "log 'train' has no key 'epoch' by which to align train.loss: there is step"),
        (Last("config.seed", by="step"), "by='step' is for metrics, which have steps: config.seed is none"),
        (
            AvgStd(pl.lit(1).alias("one"), by="step"),
            "by='step' is for lists of values along the steps of one log, and one is none",
        ),
    ],
)
def test_a_step_that_is_no_key_of_the_log_is_an_error_at_once(uneven, aggregation, message):
    """Bug: nulls, or the steps of another log."""
    with pytest.raises(QueryError) as error:
        Reader(uneven.path).filter().group_by("config.group").aggregate(aggregation)
    assert str(error.value) == message


def test_the_log_of_a_metric_is_known_whatever_dots_are_in_its_name(logs):
    """Bug: the steps of log ``train`` for a metric of log ``train.ood``, which is cut at the wrong dot."""
    for number in (1, 2):
        metrics = {
            "train": [{"step": 7, "ood.acc": 1}],
            "train.ood": [{"epoch": number, "loss.total": number}],
        }
        logs.run(number, {"group": "a", "seed": number}, metrics=metrics)
    row = one_row(logs, AvgStd("train.ood.loss.total", by="epoch"), AvgStd("train.ood.acc", by="step"))
    assert row["train.ood.loss.total_step"] == [1, 2]
    assert row["train.ood.acc_step"] == [7]
    with pytest.raises(QueryError, match=r"log 'train\.ood' has no key 'step'"):
        one_row(logs, AvgStd("train.ood.loss.total", by="step"))


@given(
    st.lists(
        st.dictionaries(st.integers(0, 12), st.floats(-1e3, 1e3, allow_subnormal=False), min_size=1, max_size=8),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from([None, "interpolate"]),
)
@examples(60)
def test_steps_and_interpolation_agree_with_numpy(new_logs, curves, fill):
    """Bug: whatever the cases above do not have."""
    logs = write(new_logs(), *(sorted(curve.items()) for curve in curves))
    row = one_row(logs, AvgStd("train.loss", by="step", fill=fill))
    steps = sorted({step for curve in curves for step in curve})
    assert row["train.loss_step"] == steps
    for step, average, number in zip(steps, row["train.loss_avg"], row["train.loss_n"], strict=True):
        own = [curve for curve in curves if (min(curve) <= step <= max(curve) if fill else step in curve)]
        values = [np.interp(step, sorted(curve), [curve[at] for at in sorted(curve)]) for curve in own]
        assert number == len(values)
        assert average == pytest.approx(np.mean(values), rel=1e-9, abs=1e-9)


# --- a run that was resumed ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_what_is_logged_again_counts_and_the_run_is_named(logs, engine):
    """Bug: both, at a step; the first; what had been logged beyond the step that the run went back to; no word."""
    first = [(0, 9.0), (1, 8.0), (2, 7.0), (3, 6.0)]
    write(logs, [*first, (2, 70.0), (2.5, 65.0)], [(0, 7.0), (1, 6.0), (2, 5.0), (3, 4.0)])
    with pytest.warns(StatisticsWarning, match=r"^train\.step goes back, or stays, in run 1: train\.loss is what was"):
        row = one_row(logs, AvgStd("train.loss", by="step"), engine=engine)
    assert row["train.loss_step"] == [0, 1, 2, 2.5, 3]
    assert row["train.loss_avg"] == [8, 7, 37.5, 65, 4]
    assert row["train.loss_n"] == [2, 2, 2, 1, 1]


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [
        (Best("train.loss", by="step"), {"train.loss_best": 5.0, "train.loss_best_step": 1.0}),
        (Best("train.loss", mode="max", by="step"), {"train.loss_best": 9.0, "train.loss_best_step": 0.0}),
        (Last("train.loss", by="step"), {"train.loss_last": [8.0], "train.loss_last_step": [2.0]}),
        (Median(Last("train.loss", by="step")), {"train.loss_last_median": 8.0, "train.loss_last_step_median": 2.0}),
    ],
)
def test_the_best_is_none_that_was_done_again(logs, aggregation, expected):
    """Bug: the best step of an attempt whose checkpoint is gone; a warning for each of the numbers."""
    write(logs, [(0, 9.0), (1, 4.0), (2, 3.0), (1, 5.0), (2, 8.0)])
    with pytest.warns(StatisticsWarning) as warned:
        row = one_row(logs, aggregation)
    assert len(warned) == 1
    assert expected.items() <= row.items()


def test_several_keys_logged_in_turn_are_no_step_back(logs):
    """Bug: a line of another key that comes late taken for a resumption; a null that is the last at its step."""
    lines = [{"step": 1, "loss": 1}, {"step": 2, "loss": 2}, {"step": 1, "acc": 0.5}, {"step": 2, "acc": 0.6}]
    logs.run(1, {"group": "a"}, metrics={"train": lines})
    row = one_row(logs, AvgStd("train.loss", by="step"), AvgStd("train.acc", by="step"))
    assert (row["train.loss_avg"], row["train.acc_avg"]) == ([1, 2], [0.5, 0.6])


def test_a_value_without_a_step_is_an_error_that_names_the_run(logs):
    """Bug: a value that is in no average, and in no message."""
    write(logs, [(0, 1.0)], [(0, 2.0), (None, 3.0)], [(0, 2.0), ("NaN", 3.0)])
    with pytest.raises(QueryError, match=r"runs 2 and 3 logged train\.loss in lines without train\.step"):
        one_row(logs, AvgStd("train.loss", by="step"))
    logs.run(4, {"group": "b"}, metrics={"train": [{"loss": 1}]})
    runs = Reader(logs.path).filter("config.group == 'b'")
    with pytest.raises(QueryError, match=r"run 4 logged train\.loss without train\.step"):
        runs.aggregate(AvgStd("train.loss", by="step")).collect()


# --- best, last ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_at_the_best_step_is_the_value_at_it_or_the_last_before(logs, engine):
    """Bug: the test metric of line 1, which is epoch 10, for the best epoch 2; that of epoch 5 for epoch 4."""
    accuracies = {1: [0.1, 0.9, 0.5, 0.4, 0.3, 0.2], 2: [0.1, 0.2, 0.3, 0.4, 0.3, 0.7], 3: [0.1, 0.2, 0.3, 0.4]}
    for number, values in accuracies.items():
        val = [{"acc": value, "epoch": epoch} for epoch, value in enumerate(values, 1)]
        test = [{"acc": epoch / 10, "epoch": epoch} for epoch in (3, 5, 10)]
        logs.run(number, {"group": "a", "seed": number}, metrics={"val": val, "test": test})
    best = Best("val.acc", mode="max", also=["test.acc", "test.epoch", "config.seed"], by="epoch")
    runs = Reader(logs.path).filter()
    rows = [runs.where(pl.col("id") == number).aggregate(best).collect(engine=engine).row(0) for number in accuracies]
    assert rows == [(0.9, 2.0, None, None, 1, 1), (0.7, 6.0, 0.5, 5.0, 2, 2), (0.4, 4.0, 0.3, 3.0, 3, 3)]
    row = one_row(logs, AvgStd(best), engine=engine)
    assert row["val.acc_best_step_avg"] == 4.0
    assert (row["test.acc_at_best_avg"], row["test.acc_at_best_n"]) == (0.4, 2)


def test_the_first_of_equal_steps_is_the_best_and_nothing_is_best_of_nothing(logs):
    """Bug: a tie that the order of the machine decides; NaN that wins; a run without values that is lost."""
    write(logs, [(10, 1.0), (20, "NaN"), (30, 2.0), (40, 2.0)], [(10, "NaN")], [])
    row = one_row(logs, Best("train.loss", mode="max", by="step"), AvgStd(Best("train.loss", mode="max", by="step")))
    assert (row["train.loss_best"], row["train.loss_best_step"], row["train.loss_best_id"]) == (2.0, 30.0, 1)
    assert row["train.loss_best_n"] == 1


# --- without by ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key", ["step", "epoch", "iteration", "iter", "global_step", "trainer/global_step", "_step", "Epoch"]
)
@pytest.mark.parametrize("engine", ENGINES)
def test_steps_that_disagree_are_an_error_that_says_what_to_write(logs, key, engine):
    """Bug: a wrong number in silence."""
    write(logs, [(0, 1.0), (10, 2.0)], [(0, 1.0), (20, 2.0)], by=key)
    with pytest.raises(QueryError) as error:
        one_row(logs, AvgStd("train.loss"), engine=engine)
    assert str(error.value).splitlines()[0] == (
        f"train.{key} is 10 in line 2 of run 1 and 20 in that of run 2, so that train.loss cannot be taken line by "
        f"line: write AvgStd('train.loss', by={key!r})"
    )


@pytest.mark.parametrize(
    "aggregation",
    [
        Median("train.loss"),
        Quantiles("train.loss"),
        MeanCI("train.loss"),
        MeanCI("train.loss", method="bootstrap", force=True),
        AvgStd(pl.col("train.loss").list.eval(pl.element() * 2)),
        AvgStd(Best("train.loss")),  # the average of the lines, which are called steps
        Median("train.loss", ragged="truncate"),
    ],
)
def test_no_aggregation_mixes_steps(uneven, aggregation):
    """Bug: an aggregation that was forgotten."""
    with pytest.raises(QueryError, match=r"train\.step is 10 in line 2 of run 1 and 20 in that of run 2.*by='step'\)"):
        one_row(uneven, aggregation)


def test_what_mixes_no_steps_is_no_error(uneven):
    """Bug: the last values, the best value of a group, or runs one by one, refused."""
    runs = Reader(uneven.path).filter()
    row = (
        runs.aggregate([Last("train.loss"), AvgStd(Last("train.loss")), Best("train.loss")])
        .collect()
        .row(0, named=True)
    )
    assert (row["train.loss_last"], row["train.loss_last_avg"], row["train.loss_best"]) == ([60.0] * 3, 60, 60)
    table = runs.group_by("config.seed").aggregate(AvgStd("train.loss")).collect()
    assert table["train.loss_avg"].list.len().to_list() == [5, 3, 3]


@pytest.mark.parametrize(
    "curves",
    [
        [[(0, 1.0), (10, 2.0)], [(0, 1.0), (10, 2.0), (20, 3.0)], []],
        [[(0, 1.0), (None, 2.0), (20, 3.0)], [(0, 1.0), (10, 2.0)]],
        [[(0, 1.0), (2, 2.0), (1, 3.0)], [(0, 1.0), (2, 2.0), (1, 3.0)]],
    ],
    ids=["of other length", "of which one is missing", "that go back alike"],
)
def test_steps_that_agree_line_by_line_are_aggregated_as_lines(logs, curves):
    """Bug: a run refused for want of a step, or for it is shorter."""
    write(logs, *curves)
    row = one_row(logs, AvgStd("train.loss"))
    assert row["train.loss_avg"] == [1, 2, 3]


def test_a_metric_whose_name_ends_like_a_step_is_none(logs):
    """Bug: Lightning's ``train_loss_step`` and ``train_loss_epoch``, and seconds, taken for steps."""
    for number in (1, 2):
        line = {"loss": 1, "train_loss_step": number, "train_loss_epoch": number, "seconds_per_step": number}
        logs.run(number, {"group": "a", "seed": number}, metrics={"train": [line]})
    assert one_row(logs, AvgStd("train.loss"))["train.loss_avg"] == [1.0]


def test_lines_of_two_logs_are_compared_in_each_run(logs):
    """Bug: the test metric of another epoch at the best step, as the test log is sparser."""
    val = [{"acc": value, "epoch": epoch} for epoch, value in enumerate([0.1, 0.9, 0.5], 1)]
    logs.run(1, {"group": "a"}, metrics={"val": val, "test": [{"acc": 1, "epoch": 5}]})
    for also in (["test.acc"], ["config.group", "test.epoch"]):
        with pytest.raises(QueryError, match=r"line 1 of run 1 is 1 in val\.epoch and 5 in test\.epoch.*by='epoch'\)"):
            one_row(logs, Best("val.acc", mode="max", also=also))
    difference = (pl.col("val.acc").list.first() - pl.col("test.acc").list.first()).alias("gap")
    assert one_row(logs, AvgStd(difference))["gap_avg"] == pytest.approx(-0.9)


@pytest.mark.parametrize("engine", ENGINES)
def test_one_run_of_many_that_disagrees_is_found(logs, engine):
    """Bug: runs compared within each batch that is read, of which there are several here."""
    curves = [[(0, 1.0), (10, 2.0)]] * 300
    write(logs, *curves, [(0, 1.0), (20, 2.0)])
    with pytest.raises(QueryError, match="10 in line 2 of run 1 and 20 in that of run 301"):
        one_row(logs, AvgStd("train.loss"), engine=engine)


def test_nothing_is_read_before_the_result_is_collected(uneven):
    """Bug: steps read to build the frame; files read once for each aggregation, or once for each number of a run."""
    groups = Reader(uneven.path).filter().group_by("config.group")
    with uneven.metric_files_opened() as opened, warnings.catch_warnings():
        table = groups.aggregate([AvgStd("train.loss", by="step"), Best("train.loss", by="step"), Median("train.loss")])
        assert table.collect_schema()["train.loss_step"] == pl.List(pl.Float64)
    assert opened == []
    with uneven.metric_files_opened() as opened:
        groups.aggregate([AvgStd("train.step", by="step"), AvgStd(Best("train.loss", by="step"))]).collect()
    assert opened == ["1/train", "2/train", "3/train"]


def test_a_run_that_holds_no_number_needs_no_step(logs):
    """Bug: a run that logged "diverged" alone, without a step, kept all others from being averaged by theirs."""
    write(logs, [(0, 1.0), (10, 3.0)], [(0, 3.0), (10, 5.0)])
    logs.run(3, {"group": "a", "seed": 3}, metrics={"train": [{"loss": "diverged"}]})
    for fill in (None, "interpolate"):
        row = one_row(logs, AvgStd("train.loss", by="step", fill=fill))
        assert (row["train.loss_avg"], row["train.loss_n"], row["train.loss_step"]) == ([2.0, 4.0], [2, 2], [0.0, 10.0])


def test_a_log_without_any_other_key_is_not_called_empty(logs):
    """Bug: "no run has logged anything", of a log that every run has written, though without a step."""
    logs.run(1, {"group": "a"}, metrics={"train": [{"loss": 1.0}]})
    with pytest.raises(QueryError, match=r"has no key 'step' by which to align train\.loss: it has no other key$"):
        Reader(logs.path).filter().aggregate(AvgStd("train.loss", by="step"))

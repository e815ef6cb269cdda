"""Best, Last, Median, Quantiles, MeanCI and what they are composed of, against numbers worked out by hand."""

from __future__ import annotations

import math
import statistics

import polars as pl
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st

from mlxp_core.errors import QueryError
from mlxp_core.reader import AvgStd, Best, Last, MeanCI, Median, Quantiles, Reader
from mlxp_core.reader.statistics.student_t import two_sided

ENGINES = ("in-memory", "streaming")
NAN = math.nan


def table(runs_of, *aggregations, keys="config.group", engine="in-memory"):
    return Reader(runs_of.path).filter().group_by(keys).aggregate(aggregations).collect(engine=engine)


def one_row(*arguments, **options):
    (row,) = table(*arguments, **options).iter_rows(named=True)
    return row


def write(logs, *runs):
    """Write runs, each given as (group, losses)."""
    for number, (group, values) in enumerate(runs, 1):
        lines = None if values is None else {"train": [{"loss": value} for value in values]}
        logs.run(number, {"group": group, "cost": number * 10}, metrics=lines)
    return logs


# --- runs of unequal length ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_truncate_keeps_the_steps_that_all_runs_of_the_group_have(logs, engine):
    """Bug: the shortest run of all groups cuts every group, or a run without the metric cuts to nothing."""
    write(logs, ("a", [1, 2, 3]), ("a", [3, 4]), ("a", None), ("b", [5, 6, 7]))
    result = table(logs, AvgStd("train.loss", ragged="truncate"), engine=engine)
    assert result["train.loss_avg"].to_list() == [[2.0, 3.0], [5.0, 6.0, 7.0]]
    assert result["train.loss_n"].to_list() == [[2, 2], [1, 1, 1]]


@pytest.mark.parametrize("engine", ENGINES)
def test_error_names_the_lengths_that_differ(logs, engine):
    """Bug: a comparison that was to be of equal runs, made of unequal ones without a word."""
    write(logs, ("a", [1, 2]), ("a", [3]), ("b", [5, 6, 7]))
    lazy = Reader(logs.path).filter().group_by("config.group").aggregate([AvgStd("train.loss", ragged="error")])
    with pytest.raises(QueryError, match=r"train\.loss has 1 steps in one run of a group and 2 in another"):
        lazy.collect(engine=engine)


def test_error_is_silent_where_the_runs_of_each_group_are_equal(logs):
    """Bug: lengths compared between groups, or with runs that have no such metric."""
    write(logs, ("a", [1, 2]), ("a", [3, 4]), ("a", None), ("b", [5, 6, 7]))
    result = table(logs, AvgStd("train.loss", ragged="error"))
    assert result["train.loss_avg"].to_list() == [[2.0, 3.0], [5.0, 6.0, 7.0]]


# --- median, quantiles -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_median_and_quantiles_step_by_step(logs, engine):
    """Bug: values of other steps mixed in. Step 0: 1, 2, 9 (median 2; 0.25: 1.5); step 1: 4, 8 (6; 5)."""
    write(logs, ("a", [1, 8]), ("a", [9]), ("a", [2, 4]))
    row = one_row(logs, Median("train.loss"), Quantiles("train.loss", quantiles=[0, 0.25, 0.975]), engine=engine)
    assert row["train.loss_median"] == [2.0, 6.0]
    assert row["train.loss_median_n"] == row["train.loss_q_n"] == [3, 2]
    assert row["train.loss_q0"] == [1.0, 4.0]
    assert row["train.loss_q25"] == [1.5, 5.0]
    # 0.975 of the way from the first to the last: 2 + 0.95 * 7, and 4 + 0.975 * 4
    assert row["train.loss_q97.5"] == [pytest.approx(8.65), pytest.approx(7.9)]


def test_a_diverged_run_makes_the_median_not_a_number(logs):
    """Bug: NaN ordered above all numbers, and so taken for a large loss."""
    write(logs, ("a", ["NaN", 1]), ("a", [1, 2]), ("a", [2, 3]))
    row = one_row(logs, Median("train.loss"), Quantiles("train.loss"))
    assert math.isnan(row["train.loss_median"][0])
    assert math.isnan(row["train.loss_q25"][0])
    assert row["train.loss_median"][1] == 2.0


def test_the_median_of_scalars_is_a_scalar(logs):
    """Bug: a list where there is one number a run."""
    write(logs, ("a", None), ("a", None), ("a", None), ("b", None))
    result = table(logs, Median("config.cost"))
    assert result.rows() == [("a", 20.0, 3), ("b", 40.0, 1)]


# --- best and last ---------------------------------------------------------------------------------------------------


@pytest.fixture
def trained(logs):
    """Three runs: val.acc best at steps 1 (0.9), 2 (0.7), and never; test.acc is 10 times the run plus the step."""
    for number, accuracies in enumerate([[0.5, 0.9, "NaN", 0.9], [0.1, None, 0.7], []], 1):
        val = [{"acc": value} for value in accuracies]
        test = [{"acc": number * 10 + step} for step in range(3)]
        logs.run(number, {"group": "a" if number < 3 else "b", "seed": number}, metrics={"val": val, "test": test})
    return logs


@pytest.mark.parametrize("engine", ENGINES)
def test_early_stopping_takes_the_test_metric_at_the_best_step_of_each_run(trained, engine):
    """Bug: one step for all runs; NaN the best of all; the later of two equal steps; a null that shifts the steps."""
    row = table(trained, AvgStd(Best("val.acc", mode="max", also=["test.acc"])), engine=engine).row(0, named=True)
    assert row["val.acc_best_avg"] == pytest.approx(0.8)
    assert row["val.acc_best_step_avg"] == 1.5
    assert row["test.acc_at_best_avg"] == 16.5  # 11 and 22
    assert row["test.acc_at_best_std"] == pytest.approx(math.sqrt(2 * 5.5**2))
    assert row["test.acc_at_best_n"] == 2


@pytest.mark.parametrize("engine", ENGINES)
def test_best_alone_is_the_best_run_of_the_group(trained, engine):
    """Bug: the run of another step, an average; a run without any value that wins."""
    result = table(trained, Best("val.acc", mode="max", also="test.acc"), engine=engine)
    assert result.columns == [
        "config.group",
        "val.acc_best",
        "val.acc_best_step",
        "test.acc_at_best",
        "val.acc_best_id",
    ]
    assert result.rows() == [("a", 0.9, 1, 11.0, 1), ("b", None, None, None, None)]
    result = table(trained, Best("val.acc", also=["test.acc"]), engine=engine)
    assert result.rows() == [("a", 0.1, 0, 20.0, 2), ("b", None, None, None, None)]


def test_at_the_best_step_of_a_longer_log_the_other_is_missing(logs):
    """Bug: an IndexError, or the value of another step."""
    logs.run(1, {"group": "a"}, metrics={"val": [{"acc": 1}, {"acc": 2}], "test": [{"acc": 7}]})
    assert one_row(logs, Best("val.acc", mode="max", also=["test.acc"]))["test.acc_at_best"] is None


@pytest.mark.parametrize("engine", ENGINES)
def test_the_last_value_of_each_run(logs, engine):
    """Bug: a step that another key was logged at, or a short run that has none; NaN passed over."""
    logs.run(1, {"group": "a", "seed": 1}, metrics={"train": [{"loss": 1}, {"loss": 5}, {"acc": 0}]})
    logs.run(2, {"group": "a", "seed": 2}, metrics={"train": [{"loss": 3}]})
    logs.run(3, {"group": "a", "seed": 3}, metrics={"train": []})
    logs.run(4, {"group": "b"}, metrics={"train": [{"loss": 3}, {"loss": "NaN"}]})
    result = table(logs, Last("train.loss"), AvgStd(Last("train.loss")), engine=engine)
    first, second = result.iter_rows(named=True)
    assert first["train.loss_last"] == [5.0, 3.0, None]
    assert (first["train.loss_last_avg"], first["train.loss_last_n"]) == (4.0, 2)
    assert math.isnan(second["train.loss_last_avg"])


def test_best_and_last_of_a_scalar_are_itself(logs):
    """Bug: list functions on a number."""
    write(logs, ("a", None), ("a", None))
    row = one_row(
        logs, Best("config.cost"), Last("config.cost"), AvgStd(Best("config.cost")), Median(Last("config.cost"))
    )
    assert (row["config.cost_best"], row["config.cost_best_id"], row["config.cost_last"]) == (10.0, 1, [10, 20])
    assert (row["config.cost_best_avg"], row["config.cost_last_median"]) == (15.0, 15.0)


def test_any_expression_over_the_columns_of_a_run_can_be_aggregated(logs):
    """Bug: aggregations for what this package has thought of, and no others."""
    write(logs, ("a", [4, 1, 7]), ("a", [3, 2]))
    lowest = pl.col("train.loss").list.min().alias("lowest")
    doubled = (pl.col("train.loss").list.eval(pl.element() * 2)).alias("doubled")
    row = one_row(logs, AvgStd(lowest), AvgStd(doubled))
    assert (row["lowest_avg"], row["lowest_n"]) == (1.5, 2)
    assert row["doubled_avg"] == [7.0, 3.0, 14.0]


# --- confidence intervals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("level", "freedom", "expected"),
    [  # the table of any textbook
        (0.95, 1, 12.706),
        (0.95, 2, 4.303),
        (0.95, 3, 3.182),
        (0.95, 4, 2.776),
        (0.95, 9, 2.262),
        (0.95, 10, 2.228),
        (0.95, 29, 2.045),
        (0.95, 30, 2.042),
        (0.95, 120, 1.980),
        (0.90, 1, 6.314),
        (0.90, 5, 2.015),
        (0.99, 1, 63.657),
        (0.99, 2, 9.925),
        (0.99, 7, 3.499),
        (0.999, 3, 12.924),
    ],
)
def test_quantiles_of_students_t_are_those_of_the_table(level, freedom, expected):
    """Bug: a series that is one term short, or for even degrees of freedom only."""
    assert two_sided(level, freedom) == pytest.approx(expected, abs=6e-4)


def test_students_t_has_its_closed_forms_and_its_limit():
    """Bug: digits lost. One degree: tan(pi * level / 2); two: level * sqrt(2 / (1 - level**2)); many: normal."""
    for level in (0.01, 0.5, 0.95, 0.999):
        assert two_sided(level, 1) == pytest.approx(math.tan(math.pi * level / 2), rel=1e-10)
        assert two_sided(level, 2) == pytest.approx(level * math.sqrt(2 / (1 - level**2)), rel=1e-10)
    assert two_sided(0.95, 100_000) == pytest.approx(statistics.NormalDist().inv_cdf(0.975), rel=1e-4)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_interval_of_students_t_step_by_step(logs, engine):
    """Bug: n for n - 1, the quantile of another step. 1, 2, 6: mean 3, std sqrt(7), t 4.3027; then 5, 7: 12.7062."""
    write(logs, ("a", [1, 5, 3]), ("a", [2, 7]), ("a", [6]))
    row = one_row(logs, MeanCI("train.loss"), engine=engine)
    halves = [4.3027 * math.sqrt(7 / 3), 12.7062 * math.sqrt(2 / 2)]
    assert row["train.loss_mean"] == [3.0, 6.0, 3.0]
    assert row["train.loss_ci_low"] == [
        pytest.approx(3 - halves[0], abs=1e-3),
        pytest.approx(6 - halves[1], abs=1e-3),
        None,
    ]
    assert row["train.loss_ci_high"][1] == pytest.approx(6 + halves[1], abs=1e-3)
    assert row["train.loss_ci_n"] == [3, 2, 1]
    assert row["train.loss_ci_method"] == "95%, Student's t"


@pytest.mark.parametrize("engine", ENGINES)
def test_the_bootstrap_interval_of_two_values_is_their_range(logs, engine):
    """Bug: draws without replacement. Of two values a quarter of the samples is the lower one twice."""
    write(logs, ("a", [1, 4]), ("a", [3]))
    row = one_row(logs, MeanCI("train.loss", method="bootstrap", level=0.4, force=True), engine=engine)
    assert (row["train.loss_ci_low"], row["train.loss_ci_high"]) == ([2.0, None], [2.0, None])
    row = one_row(logs, MeanCI("train.loss", method="bootstrap", force=True), engine=engine)
    assert (row["train.loss_ci_low"], row["train.loss_ci_high"]) == ([1.0, None], [3.0, None])
    assert row["train.loss_ci_method"] == (
        "95%, bootstrap of 2000 resamples, seed 0, of fewer than 10 values: covers less than it says"
    )


def test_a_bootstrap_of_few_values_is_refused_or_labelled(logs):
    """Bug: 95 % that are 75 to 90 %, shown as 95 %. At step 1 nine runs are left of ten; one has no interval."""
    for number in range(10):
        values = [number, number][: 1 + (number > 0)] + [number] * (number == 1)
        lines = [{"loss": value} for value in values]
        logs.run(number + 1, {"group": "a", "seed": number}, metrics={"train": lines})
    with pytest.raises(QueryError, match=r"MeanCI of train\.loss has 9 values in a group.*method='t', or force=True"):
        table(logs, MeanCI("train.loss", method="bootstrap"))
    row = one_row(logs, MeanCI("train.loss", method="bootstrap", ragged="truncate"))
    assert row["train.loss_ci_n"] == [10]
    assert row["train.loss_ci_method"] == "95%, bootstrap of 2000 resamples, seed 0"
    row = one_row(logs, MeanCI("train.loss", method="bootstrap", force=True))
    assert row["train.loss_ci_n"] == [10, 9, 1]
    assert row["train.loss_ci_low"][2] is None
    assert row["train.loss_ci_method"].endswith("of fewer than 10 values: covers less than it says")
    with pytest.raises(QueryError, match="has 9 values"):
        table(logs, MeanCI(pl.col("train.loss").list.get(1, null_on_oob=True).alias("second"), method="bootstrap"))


def test_the_bootstrap_has_the_quantiles_of_all_samples_and_keeps_digits(logs):
    """Bug: an edge of another resampling; digits lost beside 1e9. Ten values: offset + 1e-3 times 0 or 1, five each.

    The sum of a sample is binomial (10, 1/2): P(<= 1) = 11/1024, P(<= 2) = 56/1024, so that the quantile 0.025 is 2,
    and that of 0.975 is 8.
    """
    for number in range(10):
        logs.run(number + 1, {"group": "a", "seed": number, "cost": 2.0**30 + 2.0**-10 * (number % 2)})
    row = one_row(logs, MeanCI("config.cost", method="bootstrap"))
    assert row["config.cost_ci_low"] - 2.0**30 == pytest.approx(0.2 * 2**-10, rel=1e-3)
    assert row["config.cost_ci_high"] - 2.0**30 == pytest.approx(0.8 * 2**-10, rel=1e-3)


def test_the_bootstrap_agrees_with_the_normal_where_it_should(logs):
    """Bug: quantiles of the values instead of their means. 200 values 0..199: mean 99.5, std of the mean 4.08."""
    for number in range(200):
        logs.run(number + 1, {"group": "a", "cost": number})
    row = one_row(logs, MeanCI("config.cost", method="bootstrap"))
    deviation = math.sqrt((200**2 - 1) / 12 / 200)
    assert row["config.cost_ci_low"] == pytest.approx(99.5 - 1.96 * deviation, abs=0.7)
    assert row["config.cost_ci_high"] == pytest.approx(99.5 + 1.96 * deviation, abs=0.7)


@pytest.mark.parametrize("method", ["t", "bootstrap"])
def test_a_diverged_run_makes_the_interval_not_a_number(logs, method):
    """Bug: an interval of the runs that did not diverge, shown as that of all."""
    write(logs, ("a", ["NaN"]), ("a", [1]), ("a", [2]))
    row = one_row(logs, MeanCI("train.loss", method=method, force=True))
    assert all(math.isnan(row[f"train.loss_{name}"][0]) for name in ("mean", "ci_low", "ci_high"))
    assert row["train.loss_ci_n"] == [3]


# --- mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Best("x", mode="lowest"), "mode='lowest' of Best: it is 'min' or 'max'"),
        (lambda: AvgStd("x", ragged="cut"), "ragged='cut': it is 'reached', 'truncate' or 'error'"),
        (lambda: Quantiles("x", quantiles=[25]), "25 is no quantile: they are between 0 and 1"),
        (lambda: MeanCI("x", level=1), "level=1 of MeanCI: it is between 0 and 1, as 0.95"),
        (lambda: MeanCI("x", level=0.0), "level=0.0 of MeanCI: it is between 0 and 1, as 0.95"),
        (lambda: MeanCI("x", level=95), "level=95 of MeanCI: it is between 0 and 1, as 0.95"),
        (lambda: MeanCI("x", method="normal"), "method='normal' of MeanCI: it is 't' or 'bootstrap'"),
        (lambda: AvgStd("x", by=0), "by=0: it is the key of the log that counts the steps, as by='step'"),
        (lambda: Last("x", by=""), "by='': it is the key of the log that counts the steps, as by='step'"),
        (lambda: AvgStd("x", by="step", fill="nearest"), "fill='nearest': it is 'interpolate' or None"),
        (
            lambda: Median("x", fill="interpolate"),
            "fill='interpolate' is between steps: name the key that counts them, as by='step'",
        ),
        (
            lambda: AvgStd(Last("x"), by="step"),
            "Last(key='x', by=None) gives one value a run, which has no steps: write by= in it, Last(…, by='step')",
        ),
    ],
)
def test_an_option_that_makes_no_sense_is_an_error_at_once(make, message):
    """Bug: an option misspelt that is taken for the default."""
    with pytest.raises(QueryError) as error:
        make()
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("aggregation", "message"),
    [
        (Best("train.los"), r"no column 'train\.los': did you mean 'train\.loss'"),
        (AvgStd(Best("train.loss", also=["config.grup"])), r"did you mean 'config\.group'"),
        (Last("train.los"), "did you mean"),
        (Median(Last("config.group")), r"Median needs a column of numbers: config\.group_last is String"),
        (Best("config.group"), r"Best needs a column of numbers: config\.group is String"),
    ],
)
def test_a_column_that_cannot_be_used_is_an_error_at_once(logs, aggregation, message):
    """Bug: nulls, or an error long after the mistake."""
    write(logs, ("a", [1]))
    groups = Reader(logs.path).filter().group_by("config.group")
    with pytest.raises(QueryError, match=message):
        groups.aggregate([aggregation])


@given(
    st.lists(st.lists(st.none() | st.floats(-1e3, 1e3, allow_subnormal=False), max_size=4), min_size=1, max_size=6),
    st.sampled_from(["min", "max"]),
)
@examples(30)
def test_best_last_and_median_agree_with_plain_python(new_logs, runs, mode):
    """Bug: whatever the cases above do not have: nulls, ties and lengths in any combination."""
    logs = new_logs()
    logs.run(100, {"group": "b"}, metrics={"train": [{"n": 0, "loss": 1.5}]})
    for number, values in enumerate(runs, 1):
        lines = [{"n": 0} if value is None else {"n": 0, "loss": value} for value in values]
        logs.run(number, {"group": "a", "seed": number}, metrics={"train": lines})
    row = table(logs, Best("train.loss", mode=mode), Last("train.loss"), Median("train.loss")).row(0, named=True)
    pick = max if mode == "max" else min
    there = [
        (value, run, step)
        for run, values in enumerate(runs, 1)
        for step, value in enumerate(values)
        if value is not None
    ]
    if there:
        best = pick(value for value, _, _ in there)
        _, run, step = next(one for one in there if one[0] == best)
        assert (row["train.loss_best"], row["train.loss_best_id"], row["train.loss_best_step"]) == (best, run, step)
    else:
        assert row["train.loss_best"] is row["train.loss_best_id"] is None
    lasts = [[value for value in values if value is not None][-1:] for values in runs]
    assert row["train.loss_last"] == [last[0] if last else None for last in lasts]
    for step, median in enumerate(row["train.loss_median"] or []):
        values = [run[step] for run in runs if len(run) > step and run[step] is not None]
        assert median == (pytest.approx(statistics.median(values)) if values else None)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: AvgStd(AvgStd("t.a")), "AvgStd takes the name of a column"),
        (lambda: AvgStd(["t.a", "t.b"]), "write an aggregation for each column"),
        (lambda: Median(None), "Median takes the name of a column"),
        (lambda: AvgStd("t.a", "truncate"), "ddof='truncate'"),
        (lambda: AvgStd("t.a", ddof=-1), "ddof=-1"),
    ],
)
def test_what_is_no_aggregation_is_said_when_it_is_made(make, said):
    """Bug: an AttributeError from the depths, or a typing error that becomes a number."""
    with pytest.raises(QueryError, match=said):
        make()

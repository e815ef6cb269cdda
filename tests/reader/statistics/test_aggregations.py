"""AvgStd, against numbers worked out by hand and against the statistics module."""

from __future__ import annotations

import math
import statistics
from fractions import Fraction

import polars as pl
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st

from mlxp_core.errors import QueryError
from mlxp_core.reader import AvgStd, MeanCI, Reader
from mlxp_core.reader.statistics.student_t import two_sided

ENGINES = ("in-memory", "streaming")


def table(runs_of, *aggregations, keys="config.group", engine="in-memory"):
    return Reader(runs_of.path).filter().group_by(keys).aggregate(aggregations).collect(engine=engine)


def losses(logs, *groups):
    """Write runs, each given as (group, losses)."""
    for number, (group, values) in enumerate(groups, 1):
        lines = None if values is None else {"train": [{"loss": value} for value in values]}
        logs.run(number, {"group": group, "cost": number}, metrics=lines)
    return logs


@pytest.mark.parametrize("engine", ENGINES)
def test_lists_are_averaged_step_by_step(logs, engine):
    """Catches: an average along the steps, steps out of order, the wrong divisor.

    Group a: steps (1, 3), (2, 6): means 2, 4; deviations sqrt(1+1) and sqrt(4+4). Group b has one run.
    """
    losses(logs, ("a", [1, 2]), ("b", [5, 6]), ("a", [3, 6]))
    result = table(logs, AvgStd("train.loss"), engine=engine)
    assert result.columns == ["config.group", "train.loss_avg", "train.loss_std", "train.loss_n"]
    assert result.schema["train.loss_avg"] == result.schema["train.loss_std"] == pl.List(pl.Float64)
    assert result["config.group"].to_list() == ["a", "b"]
    assert result["train.loss_avg"].to_list() == [[2.0, 4.0], [5.0, 6.0]]
    assert result["train.loss_std"][0].to_list() == pytest.approx([math.sqrt(2), math.sqrt(8)])
    assert result["train.loss_std"][1].to_list() == [None, None]
    assert result["train.loss_n"].to_list() == [[2, 2], [1, 1]]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_step_counts_the_runs_that_reached_it(logs, engine):
    """Catches: lists cut to the shortest, or short runs that count as zero.

    Step 0: 1, 2, 6 (mean 3, deviation sqrt((4+1+9)/2)); step 1: 4, 8 (6, sqrt(8)); step 2: 9 alone.
    """
    losses(logs, ("a", [1]), ("a", [2, 4, 9]), ("a", [6, 8]))
    (row,) = table(logs, AvgStd("train.loss"), engine=engine).iter_rows(named=True)
    assert row["train.loss_avg"] == [3.0, 6.0, 9.0]
    assert row["train.loss_std"] == [pytest.approx(math.sqrt(7)), pytest.approx(math.sqrt(8)), None]
    assert row["train.loss_n"] == [3, 2, 1]


def test_missing_values_are_left_out_and_keep_their_step(logs):
    """Catches: a null that moves later values forward, or makes the mean null."""
    logs.run(1, {"group": "a", "seed": 1}, metrics={"train": [{"loss": 1}, {"acc": 0}, {"loss": 5}]})
    logs.run(2, {"group": "a", "seed": 2}, metrics={"train": [{"loss": 3}, {"acc": 0}, {"acc": 1}]})
    (row,) = table(logs, AvgStd("train.loss")).iter_rows(named=True)
    assert row["train.loss_avg"] == [2.0, None, 5.0]
    assert row["train.loss_std"] == [pytest.approx(math.sqrt(2)), None, None]
    assert row["train.loss_n"] == [2, 0, 1]


def test_not_a_number_and_infinity_go_through(logs):
    """Catches: a diverged run that disappears from the average."""
    losses(logs, ("a", ["NaN", "Infinity", 1]), ("a", [1, 1, 2]))
    (row,) = table(logs, AvgStd("train.loss")).iter_rows(named=True)
    assert math.isnan(row["train.loss_avg"][0])
    assert row["train.loss_avg"][1:] == [math.inf, 1.5]
    assert math.isnan(row["train.loss_std"][0])
    assert math.isnan(row["train.loss_std"][1])


def test_groups_without_a_value_stay_in_the_table(logs):
    """Catches: a group that vanishes because none of its runs has the metric yet."""
    losses(logs, ("a", None), ("b", []), ("c", [1]))
    result = table(logs, AvgStd("train.loss"))
    assert result.rows() == [("a", None, None, None), ("b", None, None, None), ("c", [1.0], [None], [1])]


def test_scalars_are_averaged_to_scalars(logs):
    """Catches: a list where there is one number a run. Costs 1, 2, 6 and 4: mean 3, deviation sqrt(7)."""
    for number, (group, cost) in enumerate([("a", 1), ("a", 2), ("a", 6), ("b", 4), ("b", None)], 1):
        logs.run(number, {"group": group, "cost": cost})
    result = table(logs, AvgStd("config.cost"))
    assert result.schema["config.cost_avg"] == pl.Float64
    assert result.rows() == [("a", 3.0, pytest.approx(math.sqrt(7)), 3), ("b", 4.0, None, 1)]


def test_ddof_zero_divides_by_the_number_of_runs(logs):
    """Catches: an option that is not passed on. Values 1 and 3: deviation 1; one value: 0."""
    losses(logs, ("a", [1, 5]), ("a", [3]))
    (row,) = table(logs, AvgStd("train.loss", ddof=0)).iter_rows(named=True)
    assert row["train.loss_std"] == [1.0, 0.0]


@pytest.mark.parametrize("engine", ENGINES)
def test_several_aggregations_stand_side_by_side(logs, engine):
    """Catches: rows of one aggregation joined to another group's, missing keys that do not join."""
    for number, (group, loss, acc) in enumerate([("b", 1, 10), (None, 2, 20), ("b", 3, 30)], 1):
        logs.run(number, {"group": group, "cost": number}, metrics={"train": [{"loss": loss}], "val": [{"acc": acc}]})
    two = math.sqrt(2)
    result = table(logs, AvgStd("train.loss"), AvgStd("val.acc"), AvgStd("config.cost"), engine=engine)
    approx = pytest.approx
    assert result.rows() == [
        ("b", [2.0], [approx(two)], [2], [20.0], [approx(10 * two)], [2], 2.0, approx(two), 2),
        (None, [2.0], [None], [1], [20.0], [None], [1], 2.0, None, 1),
    ]


def test_rows_are_ordered_by_several_keys(logs):
    """Catches: the order of a hash table."""
    for number, (group, seed) in enumerate([("b", 1), ("a", 2), ("b", 0), ("a", 10)], 1):
        logs.run(number, {"group": group, "seed": seed}, metrics={"train": [{"loss": number}]})
    result = table(logs, AvgStd("train.loss"), keys=["config.group", "config.seed"])
    assert result.select("config.group", "config.seed").rows() == [("a", 2), ("a", 10), ("b", 0), ("b", 1)]
    assert result["train.loss_avg"].to_list() == [[2.0], [4.0], [3.0], [1.0]]


def test_a_key_column_can_be_averaged_too(logs):
    """Catches: a clash of the column with itself."""
    losses(logs, ("a", [1]), ("a", [2]))
    assert table(logs, AvgStd("config.cost"), keys="config.cost").rows() == [(1, 1.0, None, 1), (2, 2.0, None, 1)]


def test_nothing_is_read_before_the_result_is_collected(logs):
    """Catches: an aggregation that is no longer lazy."""
    losses(logs, ("a", [1]))
    with logs.metric_files_opened() as opened:
        lazy = Reader(logs.path).filter().group_by("config.group").aggregate([AvgStd("train.loss")])
        assert isinstance(lazy, pl.LazyFrame)
        assert lazy.collect_schema()["train.loss_avg"] == pl.List(pl.Float64)
    assert opened == []


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("train.los", "no column 'train.los': did you mean 'train.loss'?"),
        ("config.group", "AvgStd needs a column of numbers: config.group is String"),
        ("path", "AvgStd needs a column of numbers: path is String"),
    ],
)
def test_a_column_without_numbers_is_an_error_at_once(logs, key, message):
    """Catches: a column of nulls, or an error only when the result is collected."""
    losses(logs, ("a", [1]))
    groups = Reader(logs.path).filter().group_by("config.group")
    with pytest.raises(QueryError) as error:
        groups.aggregate([AvgStd(key)])
    assert str(error.value) == message


@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.lists(st.none() | st.floats(-1e6, 1e6, allow_subnormal=False), max_size=5)),
        min_size=1,
        max_size=6,
    )
)
@examples(40)
def test_avgstd_agrees_with_the_statistics_module(new_logs, runs):
    """Catches: whatever the cases above do not: lengths, nulls and groups in any combination."""
    logs = new_logs()
    for number, (group, values) in enumerate(runs, 1):
        # the line is there whether or not it has the key
        lines = [{"n": 0} if value is None else {"n": 0, "loss": value} for value in values]
        logs.run(number, {"group": group, "seed": number}, metrics={"train": lines, "other": [{"n": 0}]})
    if not any(value is not None for _, values in runs for value in values):
        return
    rows = {row[0]: row[1:] for row in table(logs, AvgStd("train.loss")).iter_rows()}
    assert rows.keys() == {group for group, _ in runs}
    for group, (averages, deviations, numbers) in rows.items():
        lists = [values for name, values in runs if name == group and set(values) != {None} and values]
        steps = max(map(len, lists), default=None)
        if steps is None:
            assert averages is None
            continue
        for step in range(steps):
            values = [run[step] for run in lists if len(run) > step and run[step] is not None]
            assert numbers[step] == len(values)
            assert averages[step] == (pytest.approx(statistics.mean(values), abs=1e-6) if values else None)
            expected = pytest.approx(statistics.stdev(values), rel=1e-6, abs=1e-4) if len(values) > 1 else None
            assert deviations[step] == expected
        assert len(averages) == len(deviations) == steps


def exact_deviation(values: list[float]) -> float:
    """Standard deviation of these floats, rounded once: by whole numbers and fractions."""
    mean = sum(map(Fraction, values)) / len(values)
    variance = sum((Fraction(value) - mean) ** 2 for value in values) / (len(values) - 1)
    scale = Fraction(2) ** 400  # of the square, so that the root of the whole number has 50 digits and more
    return float(Fraction(math.isqrt(int(variance * scale)), 2**200))


@pytest.mark.parametrize(
    "values",
    [
        [1e9 - 1e-4, 1e9, 1e9 + 1e-4],
        [1e9 - 1e-4, 1e9 + 1e-4],
        [-1e12 + 0.25, -1e12 - 0.5, -1e12 + 3],
        [0.1, 0.1, 0.1],
        [1e-9, 1e9],
    ],
)
@pytest.mark.parametrize("kind", ["avgstd", "interval"])
def test_the_deviation_keeps_its_digits_beside_a_large_mean(logs, values, kind):
    """Bug: one pass, which loses all digits but three at 1e9 ± 1e-4; below zero by rounding, and its root NaN."""
    for number, value in enumerate(values, 1):
        logs.run(number, {"group": "a", "cost": value, "seed": number}, metrics={"train": [{"loss": value}]})
    if kind == "avgstd":
        (row,) = table(logs, AvgStd("train.loss"), AvgStd("config.cost")).iter_rows(named=True)
        found = [row["train.loss_std"][0], row["config.cost_std"]]
    else:
        interval = MeanCI("train.loss", level=0.5)
        (row,) = table(logs, interval).iter_rows(named=True)
        half = (row["train.loss_ci_high"][0] - row["train.loss_ci_low"][0]) / 2
        found = [half * math.sqrt(len(values)) / two_sided(0.5, len(values) - 1)]
        if max(map(abs, values)) > 1e3 * exact_deviation(values):  # the edges themselves have no more digits
            return
    assert found == pytest.approx([exact_deviation(values)] * len(found), rel=1e-12, abs=1e-16)


@given(
    st.lists(st.floats(-1, 1, allow_subnormal=False), min_size=2, max_size=8),
    st.sampled_from([0.0, 1.0, 1e3, -1e6, 1e9, 1e15]),
    st.sampled_from([1.0, 1e-4, 1e4]),
)
@examples(100)
def test_the_deviation_is_exact_at_any_offset(offsets, mean, scale):
    """Bug: as above. The floats are what is measured, as they are after the sum was rounded."""
    values = [mean + scale * offset for offset in offsets]
    frame = pl.LazyFrame({"g": [0] * len(values), "x": values})
    schema = {"g": pl.Int64(), "x": pl.Float64()}
    (deviation,) = AvgStd("x").over_groups(frame, ["g"], schema).collect()["x_std"]
    assert deviation == pytest.approx(exact_deviation(values), rel=1e-12, abs=1e-50)

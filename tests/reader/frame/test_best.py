"""The best run and the best groups: NaN and missing values come last, whichever way is up."""

from __future__ import annotations

import math
import re

import polars as pl
import pytest
from support import ROOT

from mlxp_core.errors import QueryError, StatisticsWarning
from mlxp_core.reader import AvgStd, Best, Last, Reader

NAN = math.nan


@pytest.fixture
def sweep(logs):
    """Models a and b, of two rates and two seeds each. The last accuracy: a diverges at 1.0, of b nothing is left.

    Means: (a, 0.01): 0.8, (a, 0.1): 0.9, (a, 1.0): NaN, (b, 0.1): NaN, (b, 1.0): missing.
    """
    accuracy = {("a", 0.01): [0.7, 0.9], ("a", 0.1): [0.9, 0.9], ("a", 1.0): ["NaN", 0.99], ("b", 0.1): ["NaN"] * 2}
    number = 0
    for (model, lr), values in (accuracy | {("b", 1.0): [None, None]}).items():
        for seed, value in enumerate(values):
            number += 1
            config = {"model": {"num_units": model}, "optimizer": {"lr": lr}, "seed": seed}
            line = {} if value is None else {"acc": value, "loss": value}
            logs.run(
                number, config, metrics={"val": [line], "train": [line], "test": [{"acc": number, "loss": number}]}
            )
    return logs


@pytest.mark.parametrize("mode", ["min", "max"])
def test_a_run_that_diverged_is_never_the_best(sweep, mode):
    """Bug: NaN, which Polars sorts above all numbers, wins where a metric is to be large."""
    runs = Reader(sweep.path).filter()
    best = runs.best("val.acc", mode=mode)
    assert (best["id"], best["val.acc"]) == {"min": (1, [0.7]), "max": (6, [0.99])}[mode]
    assert runs.best(Last("val.acc"), mode=mode)["id"] == best["id"]
    assert runs.best(Best("val.acc", mode=mode))["id"] == best["id"]
    assert runs.best("config.optimizer.lr", mode=mode)["id"] == {"min": 1, "max": 5}[mode]
    assert runs.best("val.acc")["id"] == 1


def test_of_equal_runs_the_first_is_the_best(sweep):
    """Bug: a tie decided by chance, or by another order than that of the runs."""
    runs = Reader(sweep.path).filter("config.optimizer.lr == 0.1 & config.model.num_units == 'a'")
    assert [run["id"] for run in runs] == [3, 4]
    assert runs.best("val.acc", mode="max")["id"] == runs.best("val.acc")["id"] == 3
    assert runs.sort("id", descending=True).best("val.acc")["id"] == 4


def test_the_best_is_the_best_of_all_steps_and_the_last_is_said(logs):
    """Bug: the last value where the best is asked for, or a NaN at the end that hides it."""
    for number, values in enumerate([[0.1, 0.9, 0.2], [0.3, 0.4, 0.5], [0.95, "NaN"]], 1):
        logs.run(number, {"seed": number}, metrics={"val": [{"acc": value} for value in values]})
    runs = Reader(logs.path).filter()
    assert runs.best("val.acc", mode="max")["id"] == 3
    assert runs.best(Last("val.acc"), mode="max")["id"] == 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda runs: runs.best("val.ac"),
            r"no column 'val\.ac': did you mean 'val\.acc'\?; the metrics are .*val\.acc",
        ),
        (lambda runs: runs.best("accuracy"), r"no column 'accuracy'.*; the metrics are .*train\.acc, .*val\.loss"),
        (lambda runs: runs.best("config.model.num_units"), r"Best needs a column of numbers: .* is String"),
        (lambda runs: runs.best(Last("config.model.num_units")), r"best needs a column of numbers"),
        (lambda runs: runs.best("val.acc", mode="largest"), r"mode='largest'.*it is 'min' or 'max'"),
        (lambda runs: runs.best(Last("val.acc"), mode="largest"), r"mode='largest' of best: it is 'min' or 'max'"),
        (
            lambda runs: runs.best(Best("val.acc", mode="max"), mode="min"),
            r"mode='min' of best, and Best\(.*mode='max'",
        ),
        (lambda runs: runs.best(Best), r"best takes the name of a column, Best\(…\) or Last\(…\), and not <class"),
        (
            lambda runs: runs.where(pl.col("id") > 6).best("val.acc"),
            r"none of these 4 runs has a number in val\.acc: there is .*train\.acc",
        ),
        (lambda runs: runs.where(pl.col("id") > 99).best("val.acc"), r"none of these 0 runs has a number"),
        (lambda runs: runs.group_by("config.seed").best("val.ac"), r"the metrics are"),
        (lambda runs: runs.group_by("config.seed").best("val.acc", per="id"), r"per='id' is no key: .* config\.seed"),
        (
            lambda runs: runs.where(pl.col("id") > 6).group_by("config.seed").best(Last("val.acc")),
            r"none of these 2 groups has a number in val\.acc: there is",
        ),
    ],
)
def test_what_has_no_best_is_an_error_that_says_what_there_is(sweep, call, message):
    """Bug: an error of Polars' own, a run by chance, or None long after the mistake."""
    with pytest.raises(QueryError, match=message):
        call(Reader(sweep.path).filter())


@pytest.mark.parametrize(("mode", "winner"), [("max", ("a", 0.1)), ("min", ("a", 0.01))])
def test_a_group_in_which_a_run_diverged_is_never_the_best(sweep, mode, winner):
    """Bug: the diverged configuration wins; it is ranked by the runs that did not diverge; a model lost in silence."""
    methods = Reader(sweep.path).filter().group_by(["config.model.num_units", "config.optimizer.lr"])
    assert list(methods.best(Last("val.acc"), mode=mode)) == [winner]
    with pytest.warns(
        StatisticsWarning, match=r"^no group where config\.model\.num_units is b has a number in val\.acc: none"
    ):
        winners = methods.best(Last("val.acc"), mode=mode, per="config.model.num_units")
    assert list(winners) == [winner]
    table = winners.aggregate(AvgStd(Last("test.acc"))).collect()
    assert table["test.acc_last_avg"].to_list() == [{"max": 3.5, "min": 1.5}[mode]]


def test_the_best_of_each_is_the_first_of_equal_groups_and_runs_are_read_lazily(logs):
    """Bug: a tie that the order of a hash table decides."""
    for number, (model, lr) in enumerate([("b", 3), ("a", 2), ("b", 1), ("a", 1), ("c", 5)], 1):
        logs.run(number, {"model": model, "lr": lr}, metrics={"val": [{"acc": 0.5}], "test": [{"acc": number}]})
    methods = Reader(logs.path).filter().group_by(["config.model", "config.lr"])
    for mode in ("min", "max"):
        assert list(methods.best("val.acc", mode=mode, per=["config.model"])) == [("a", 1), ("b", 1), ("c", 5)]
    with logs.metric_files_opened() as opened:
        methods.best("val.acc")
    assert {name.split("/")[1] for name in opened} == {"val"}


def test_the_readmes_recipe_for_the_winners_holds_whichever_way_is_up(sweep, monkeypatch, capsys):
    """Bug: the recipe that people copy, with another metric and ``descending=True``: the diverged one wins."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (recipe,) = re.findall(r"^```python\n(methods = .*?)^```", readme, re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(sweep.path.parent)
    largest = recipe.replace('"train.loss")', '"train.loss"), mode="max"')
    assert largest != recipe
    for program, winner in ((recipe, 0.01), (largest, 0.1)):
        namespace = {"Reader": Reader, "AvgStd": AvgStd, "Last": Last, "pl": pl}
        with pytest.warns(StatisticsWarning):
            exec(program, namespace)
        assert list(namespace["winners"]) == [("a", winner)]
        assert "shape: (1, 5)" in capsys.readouterr().out


@pytest.mark.parametrize("descending", [False, True])
def test_runs_are_sorted_with_nan_and_missing_values_last(logs, descending):
    """Bug: NaN first, where the largest come first; the order of equal ones lost."""
    for number, value in enumerate([NAN, 1.0, None, 3.0, NAN, 3.0], 1):
        logs.run(number, {"x": value})
    runs = Reader(logs.path).filter().sort("config.x", descending=descending)
    assert [run["id"] for run in runs] == ([4, 6, 2, 1, 3, 5] if descending else [2, 4, 6, 1, 3, 5])
    assert runs.collect()["id"].to_list() == [run["id"] for run in runs]


def test_a_run_that_wrote_diverged_in_words_does_not_win_in_silence(logs):
    """Bug: text is passed over as missing: the last number before it made the diverged configuration the best."""
    for number, (lr, *values) in enumerate([(0.1, 0.5, 0.6), (1.0, 0.9, "diverged"), (1.0, 0.8, "diverged")], 1):
        logs.run(number, {"lr": lr, "seed": number}, metrics={"val": [{"acc": value} for value in values]})
    runs = Reader(logs.path).filter()
    said = r"2/metrics/val.json: line 2: acc is 'diverged', .* and 1 more such runs .* ranked by its numbers"
    with pytest.warns(StatisticsWarning, match=said) as warned:
        runs.group_by("config.lr").best(Last("val.acc"), mode="max")
    assert warned[0].filename == __file__
    with pytest.warns(StatisticsWarning, match=said):
        runs.best("val.acc", mode="max")
    assert runs.where(pl.col("config.lr") < 1).best("val.acc", mode="max")["id"] == 1  # without a warning

"""Flattening configurations: names of fields, and values that YAML has and JSON has not."""

from __future__ import annotations

import math

import pytest

from mlxp_core.reader import Reader, scan_runs


def test_non_finite_numbers_in_a_configuration_stay_numbers(logs):
    """Catches: `.nan` or `.inf` of YAML turned into null or text."""
    logs.run(1, {"x": math.nan, "y": -math.inf})
    row = scan_runs(logs.path).collect().row(0, named=True)
    assert math.isnan(row["config.x"])
    assert row["config.y"] == -math.inf


def test_non_finite_numbers_within_lists_are_named(logs):
    """Catches: NaN in the text of a list, which no JSON parser takes; or null, or a finite neighbour changed."""
    logs.run(1, {"x": [1.5, math.nan, {"high": math.inf, "low": [-math.inf, 2, "a", None, True]}]})
    text = scan_runs(logs.path).collect()["config.x"].item()
    assert text == '[1.5, "NaN", {"high": "Infinity", "low": ["-Infinity", 2, "a", null, true]}]'


def test_dates_are_iso_text(logs):
    """Catches: YAML's own time stamps, which are no strings, crashing the column or being dropped."""
    run = logs.run(1)
    (run / "metadata/config.yaml").write_text("day: 2026-01-02\ntime: 2026-01-02 03:04:05\n")
    row = scan_runs(logs.path).collect().row(0, named=True)
    assert (row["config.day"], row["config.time"]) == ("2026-01-02", "2026-01-02T03:04:05")


def test_sets_are_lists_in_one_order(logs):
    """Bug: a set of YAML without a value, or in another order in each process: equal runs in several groups."""
    run = logs.run(1)
    (run / "metadata/config.yaml").write_text("tags: !!set {b, a, c}\nsizes: !!set {10, 9}\n")
    row = scan_runs(logs.path).collect().row(0, named=True)
    assert (row["config.tags"], row["config.sizes"]) == (["a", "b", "c"], [10, 9])  # by their text


def test_unicode_dots_and_numbers_in_keys_make_columns(logs):
    """Catches: keys taken to be ASCII identifiers; a number as a key; an escape of the name."""
    logs.run(1, {"größe": {"学习 率": 1}, 3: {True: "x"}})
    assert set(scan_runs(logs.path).collect_schema()) >= {"config.größe.学习 率", "config.3.true"}


@pytest.mark.parametrize("config", [{"a": {"b": 1}, "a.b": 2}, {"a.b": 2, "a": {"b": 1}}])
def test_of_two_values_with_one_name_the_deeper_counts_and_a_problem_says_so(logs, config):
    """Catches: a column that means one thing in one run and another in the next, by the order in the file."""
    logs.run(1, config)
    assert logs.column("config.a.b") == [1]
    assert [problem.what for problem in Reader(logs.path).problems] == [
        "two values claim config.a.b; the deeper one counts"
    ]

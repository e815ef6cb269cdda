"""Queries of jobs, in process: of several jobs those for which one holds."""

from __future__ import annotations

from typing import Any

import pytest

from hydra_plugins.mlxp._job_filter import matching
from mlxp_core.errors import QueryError

CONFIGS: list[dict[str, Any]] = [
    {"lr": 0.1, "model": {"name": "mlp", "width": 2}, "seed": 0},
    {"lr": 1, "model": {"name": "cnn"}, "seed": None},
    {"lr": 0.01, "model": {"name": "mlp", "width": 8}, "seed": 2},
]
OVERRIDES: list[dict[str, Any]] = [{"model": "mlp", "x": 1}, {"model": "cnn", "x": "a"}, {"model": "mlp", "lr": 0.01}]


@pytest.mark.parametrize(
    ("query", "jobs"),
    [
        ("config.lr < 1", {0, 2}),
        ("config.lr <= 1", {0, 1, 2}),  # 1 beside 0.1 is a number of the same column
        ("config.model.name == 'mlp'", {0, 2}),
        ("config.model.width == 8", {2}),  # which the second job does not have
        ("model == 'cnn'", {1}),
        ("config.seed == 0", {0}),
        ("lr == 0.01", {2}),
        ("x == 1", {0}),  # a number in one job, text in another
        ("x == 'a'", {1}),
        ("config.lr > 5", set()),
    ],
)
def test_a_query_holds_for_the_jobs_that_have_the_value(query: str, jobs: set[int]) -> None:
    """Bug: the value of another job, or of another key; a job without the key for which a comparison holds."""
    assert matching(CONFIGS, OVERRIDES, query) == jobs


@pytest.mark.parametrize(
    ("query", "said"),
    [("config.sed == 0", "config.seed"), ("config.model.name > 3", "text"), ("model >", "model >")],
)
def test_a_query_that_means_nothing_is_refused(query: str, said: str) -> None:
    """Bug: a sweep of no job, for a key was mistyped."""
    with pytest.raises(QueryError) as caught:
        matching(CONFIGS, OVERRIDES, query)
    assert said in str(caught.value)


def test_text_is_compared_as_text_where_all_of_it_is_text() -> None:
    """Bug: '10' and '9' compared as numbers, since some column has several types."""
    assert matching([{"a": "10"}, {"a": "9"}], [{"b": 1}, {"b": "x"}], "config.a == '9'") == {1}
    with pytest.raises(QueryError):
        matching([{"a": "10"}, {"a": "9"}], [{}, {}], "config.a > 9")


def test_a_field_of_the_configuration_is_not_hidden_by_an_override() -> None:
    """Bug: `config.a=5` of an application whose own node is called config, in the place of its `a`."""
    assert matching([{"a": 1}], [{"config.a": 5}], "config.a == 1") == {0}


def test_values_that_no_column_holds_are_passed_over() -> None:
    """Bug: `+new={a:10}`, or a number beyond 64 bits, ends the sweep with a stack trace."""
    overrides: list[dict[str, Any]] = [{"new": {"a": 10}, "big": 2**70, "l": [1, "x"]}, {"new": None, "big": 1}]
    assert matching([{"a": 1}, {"a": 2}], overrides, "config.a == 2") == {1}
    assert matching([{"a": 1}, {"a": 2}], overrides, "big == 1") == {1}

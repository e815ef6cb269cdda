"""Nested plain values: walked through, looked up."""

from __future__ import annotations

from mlxp_core.nested import interpolations, leaves, value_at

NESTED = {"a": {"b": [1, {"c": "${x}"}]}, "empty": {}, "none": None, 3: "three"}


def test_leaves_have_their_paths_and_empty_containers_are_leaves() -> None:
    """Bug: `data: {}` and no `data` taken for the same configuration."""
    assert list(leaves(NESTED)) == [
        (("a", "b", 0), 1),
        (("a", "b", 1, "c"), "${x}"),
        (("empty",), {}),
        (("none",), None),
        ((3,), "three"),
    ]
    assert list(leaves({})) == []
    assert list(interpolations(NESTED)) == [(("a", "b", 1, "c"), "${x}")]


def test_a_path_that_leads_nowhere_gives_the_default() -> None:
    """Bug: a KeyError; or the third letter of a text taken for an item of a list."""
    assert value_at(NESTED, ("a", "b", 1, "c")) == "${x}"
    absent = object()
    for path in (("a", "x"), ("a", "b", 7), ("a", "b", "c"), ("none", "x"), (3, 0)):
        assert value_at(NESTED, path, absent) is absent
    assert value_at(NESTED, ("x",)) is None

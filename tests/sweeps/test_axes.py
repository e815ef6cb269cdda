"""The jobs of a sweep: axes zipped, multiplied, sampled."""

from __future__ import annotations

import pytest

from mlxp_core.errors import ConfigurationError
from mlxp_core.sweeps.axes import Axis, check_keys, product, repeat_axes, sample, zip_axes


def axis(key: str, *values: int) -> Axis:
    return Axis((key,), tuple((f"{key}={value}",) for value in values))


def test_groups_of_lists_are_walked_side_by_side() -> None:
    """Bug: the second group walked with the first; the order of the arguments lost."""
    axes = [axis("a", 1, 2), axis("+b", 3, 4), axis("c", 5, 6), axis("d", 7, 8), axis("e", 9)]
    joined = zip_axes(axes, [["a", "d"], ["b", "c"]])
    assert product(joined) == [
        ["a=1", "d=7", "+b=3", "c=5", "e=9"],
        ["a=1", "d=7", "+b=4", "c=6", "e=9"],
        ["a=2", "d=8", "+b=3", "c=5", "e=9"],
        ["a=2", "d=8", "+b=4", "c=6", "e=9"],
    ]
    with pytest.raises(ConfigurationError, match="needs lists of the same length: a has 2, b has 3"):
        zip_axes([axis("a", 1, 2), axis("b", 1, 2, 3)], [["a", "b"]])
    with pytest.raises(ConfigurationError, match="b is walked with others already"):
        zip_axes([axis("a", 1, 2), axis("b", 1, 2)], [["a", "b"], ["b", "a"]])


def test_a_key_may_be_given_twice_in_one_place_alone() -> None:
    """Bug: of `+x=1 x=2,3`, which is for Hydra to apply, one is refused; or a seed is swept, and counted as well."""
    given = [axis("+x", 1), axis("x", 2, 3), axis("~seed", 0), axis("y", 1)]
    check_keys([*given, *repeat_axes({"z": 2})])
    with pytest.raises(ConfigurationError, match=r"^seed is given twice, on the command line .*repeat: leave it out"):
        check_keys([*given, *repeat_axes({"z": 2, "seed": 2})])
    for count in (0, -1):
        with pytest.raises(ConfigurationError, match=rf"repeat={{seed: {count}}}: a job is run once at least"):
            repeat_axes({"seed": count})
    assert [step for one in repeat_axes({"seed": 2, "z": 1}) for step in one.steps] == [
        ("seed=0",),
        ("seed=1",),
        ("z=0",),
    ]


def test_a_sample_keeps_the_order_and_never_asks_for_more_than_there_is() -> None:
    """Bug: a ValueError for a small sweep."""
    jobs = [[str(number)] for number in range(10)]
    assert sample(jobs, 20, 0) == jobs
    some = sample(jobs, 4, 0)
    assert some == sorted(some)
    assert len(some) == 4

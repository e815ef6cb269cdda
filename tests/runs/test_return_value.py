"""What a task function returned: kept as it was, or not kept, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
import pytest

from mlxp_core.runs.layout import RunDir
from mlxp_core.runs.return_value import ReturnValueNotStoredError, load_return_value, save_return_value


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    run = RunDir(tmp_path)
    run.metadata.mkdir()
    return run


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (0.5, 0.5),
        (False, False),
        ((1, [2, "x"]), [1, [2, "x"]]),
        ({"a": {"b": (None,)}}, {"a": {"b": [None]}}),
        (numpy.float64(0.5), 0.5),
        ({"a": numpy.int64(3)}, {"a": 3}),
        ([numpy.ma.masked], [None]),
    ],
)
def test_a_plain_value_is_kept(run: RunDir, value: Any, kept: Any) -> None:
    """Bug: a sweeper that optimises gets a text; a number of NumPy's that is none."""
    save_return_value(run, value)
    found = load_return_value(run)
    assert (found, type(found)) == (kept, type(kept))


def test_a_value_that_is_not_finite_is_strict_json(run: RunDir) -> None:
    """Bug: a bare NaN, for which jq refuses the file."""
    save_return_value(run, [float("inf"), "NaN", -1e400])
    assert load_return_value(run) == [float("inf"), "NaN", float("-inf")]
    assert run.return_value.read_text() == '{"value": ["Infinity", "\\u004eaN", "-Infinity"]}'


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ({"a": 1, 2: 3}, "keys that are no strings"),
        ({2: 3, "a": 1}, "keys that are no strings"),
        ([1, {"a": {1}}], "a set is no plain value"),
        (numpy.array([1, 2]), "a ndarray is no plain value"),
        ("x" * (1 << 21), "bytes of JSON, more than"),
    ],
)
def test_of_any_other_value_it_is_said_why_it_is_not_kept(run: RunDir, value: Any, why: str) -> None:
    """Bug: half of it, by other keys; or None, as if it had returned nothing."""
    save_return_value(run, value)
    with pytest.raises(ReturnValueNotStoredError, match=why):
        load_return_value(run)


def test_an_attempt_that_returns_nothing_does_not_return_what_the_one_before_did(run: RunDir) -> None:
    """Bug: the objective of an earlier attempt."""
    assert load_return_value(run) is None
    save_return_value(run, 3)
    save_return_value(run, None)
    assert load_return_value(run) is None


@pytest.mark.parametrize("text", ["", "{", "[1]", "{}", '{"x": 1}'])
def test_a_file_that_nobody_of_us_wrote_is_no_value(run: RunDir, text: str) -> None:
    """Bug: a stack trace of the launcher, for one of a thousand files."""
    run.return_value.write_text(text)
    with pytest.raises(ReturnValueNotStoredError):
        load_return_value(run)

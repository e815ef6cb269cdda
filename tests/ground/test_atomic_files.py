"""Files that are whole, and YAML that is the YAML library's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from examples import examples
from hypothesis import given
from hypothesis import strategies as st

from mlxp_core.atomic_files import write_atomic
from mlxp_core.yaml_io import _Dumper, dump_yaml, load_yaml

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=["Cs"]))
KEYS = st.text(st.characters(exclude_categories=["Cs"]), max_size=140) | st.integers(-3, 3) | st.booleans()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3))


def by_the_library(content: dict[Any, Any]) -> str:
    text: str = yaml.dump(
        content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000, default_flow_style=False
    )
    return text


@examples(200)
@given(st.dictionaries(KEYS, VALUES, max_size=4))
def test_yaml_is_what_the_library_writes(content: dict[Any, Any]) -> None:
    """Bug: keys that are put into words one by one come out in another way than together."""
    assert dump_yaml(content) == by_the_library(content)


def test_equal_values_of_different_types_stay_different() -> None:
    """Bug: 1, 1.0, true, 0.0 and -0.0 are one key of a cache, and each run gets the words of the first."""
    texts = [dump_yaml({"x": value}) for value in (1, 1.0, True, 0.0, -0.0, [1], [True], {1: 2}, {True: 2}, "1")]
    assert texts == [
        *("x: 1\n", "x: 1.0\n", "x: true\n", "x: 0.0\n", "x: -0.0\n"),
        *("x:\n- 1\n", "x:\n- true\n", "x:\n  1: 2\n", "x:\n  true: 2\n", "x: '1'\n"),
    ]


def test_a_changed_value_has_new_words() -> None:
    """Bug: the words of a list or a mapping are found again by what it is, and not by what it holds."""
    value = {"lr": [0.1]}
    assert dump_yaml({"x": value}) == "x:\n  lr:\n  - 0.1\n"
    value["lr"].append(0.2)
    assert dump_yaml({"x": value}) == "x:\n  lr:\n  - 0.1\n  - 0.2\n"


def test_what_yaml_has_no_words_for_is_refused() -> None:
    """Bug: an object whose text, or whose class, comes into a file."""

    class Text(str):
        __slots__ = ()

    for value in (object(), Text("a"), [Path("a")]):
        with pytest.raises(yaml.representer.RepresenterError):
            dump_yaml({"x": value})


def test_a_large_file_is_whole_and_keeps_the_mode_that_the_user_asks_for(tmp_path: Path) -> None:
    """Bug: a write that takes a part only; a file that others of the group cannot read, whatever the umask says."""
    path, beside = tmp_path / "a file.yaml", tmp_path / "beside"
    text = "x: " + "é" * 3_000_000 + "\n"
    write_atomic(path, text)
    beside.touch()
    assert path.read_text() == text
    assert path.stat().st_mode == beside.stat().st_mode
    assert sorted(tmp_path.iterdir()) == [path, beside]
    write_atomic(path, "x: 1\n")
    assert load_yaml(path) == {"x": 1}

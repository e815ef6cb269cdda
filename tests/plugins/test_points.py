"""Points of a sweep: YAML, CSV and lists in, overrides out. In a sweep: test_sweeper.py."""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from hydra_plugins.mlxp._points import in_grammar, load_points
from mlxp_core.errors import ConfigurationError

PARSER = OverridesParser.create()


def steps(given: Any, folder: Path) -> tuple[tuple[str, ...], ...]:
    (axis,) = load_points(given, folder, PARSER)
    return axis.steps


@pytest.mark.parametrize(
    ("name", "text", "points"),
    [
        ("a.csv", "lr,wd\n0.1,1\n0.2,2\n", (("lr=0.1", "wd=1"), ("lr=0.2", "wd=2"))),
        ("a.csv", " lr , wd \n 0.1 ,\n\n,2\n", (("lr=0.1",), ("wd=2",))),  # an empty cell leaves its key as it is
        ("a.csv", 'lr,x\n0.1,"[1,2]"\n', (("lr=0.1", "x=[1,2]"),)),
        ("a.csv", codecs.BOM_UTF8.decode() + "lr\r\n0.1\r\n", (("lr=0.1",),)),  # as a spreadsheet writes it
        ("a.csv", "+lr\n0.1\n", (("+lr=0.1",),)),
        ("a.yaml", "- {lr: 1e-3, flag: true, none: null}\n", (("lr=0.001", "flag=true", "none=null"),)),
        ("a.yaml", "- [wd=2, msg=x]\n- []\n", (("wd=2", "msg=x"), ())),
        ("a.yml", "- {msg: 'a b', x: [1, {y: z}]}\n", (("msg='a b'", "x=[1,{y:z}]"),)),
    ],
)  # fmt: skip
def test_each_row_or_mapping_is_a_point(
    tmp_path: Path, name: str, text: str, points: tuple[tuple[str, ...], ...]
) -> None:
    """Bug: a cell in the column of another; a number that becomes text on the way."""
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    assert steps(name, tmp_path) == points
    assert steps(str(tmp_path / name), Path("/")) == points


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", f"lr\n{'1' * 200_000}\n", "cannot be read: field larger than field limit"),
        ("a.csv", None, "cannot be read: [Errno 2]"),
        ("a.csv", "lr,,lr\n1,2,3\n", "has 'lr' twice in its first row: 'lr', '', 'lr'"),
        ("a.csv", "lr,\n1,2\n", "has a column without a name"),
        ("a.csv", "lr;wd\n1;2\n", "the cells of 'lr;wd' must be separated by commas"),
        ("a.csv", "lr,wd\n1,2\n3\n", "line 3: another number of cells than in the first row: ['3']"),
        ("a.csv", "lr\n1,2\n", "line 2: another number of cells than in the first row: ['1', '2']"),
        ("a.csv", "lr\n", "holds no list of points, but []"),
        ("a.yaml", "a: [", "cannot be read"),
        ("a.yaml", "\xff", "cannot be read"),
        ("a.yaml", "a: 1\n", "holds no list of points, but {'a': 1}"),
        ("a.yaml", "- 3\n", "point 1 is neither a mapping nor a list of overrides: 3"),
        ("a.yaml", "- [lr=1]\n- [1]\n", "point 2 is neither a mapping nor a list of overrides: [1]"),
        ("a.yaml", "- ['lr=1,2']\n", "point 1: lr=1,2 has several values"),
        ("a.yaml", "- ['lr=[']\n", "point 1: "),
        ("a.txt", "lr\n1\n", "a file of points is a .yaml or a .csv"),
    ],
)
def test_what_is_none_is_refused_with_its_place(tmp_path: Path, name: str, text: str | None, said: str) -> None:
    """Bug: a stack trace of csv or YAML; or fewer points than the file has rows."""
    if text is not None:
        (tmp_path / name).write_text(text, encoding="latin-1")
    with pytest.raises(ConfigurationError) as caught:
        load_points(name, tmp_path, PARSER)
    assert said in str(caught.value)


def test_the_axis_has_the_keys_of_all_points_once(tmp_path: Path) -> None:
    """Bug: a key that a later point alone has is swept elsewhere, too, and nobody says so."""
    assert load_points(None, tmp_path, PARSER) == []
    (axis,) = load_points([{"lr": 1}, {"wd": 2, "lr": 3}, ["~msg"]], tmp_path, PARSER)
    assert axis.keys == ("lr", "wd", "~msg")
    with pytest.raises(ConfigurationError, match=r"hydra\.sweeper\.points holds no list of points, but \[\]"):
        load_points([], tmp_path, PARSER)


@pytest.mark.parametrize(
    "value", ["a b", "null", "True", "nan", "1", "a,b", "it's", "a/b.c-d", "", "ä", "${x}", 1.5, None, False]
)
def test_a_value_comes_back_from_hydras_grammar_as_it_was(value: Any) -> None:
    """Bug: the text "null" is nothing, "1" a number, and a comma makes two jobs of one."""
    (override,) = PARSER.parse_overrides([f"x={in_grammar(value)}"])
    parsed = override.value()
    assert (getattr(parsed, "text", parsed), type(getattr(parsed, "text", parsed))) == (value, type(value))

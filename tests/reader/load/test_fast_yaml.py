"""The fast reader of plain YAML reads what PyYAML reads, or declines."""

from __future__ import annotations

import math
import string

import pytest
import yaml
from examples import examples
from hypothesis import given
from hypothesis import strategies as st

from mlxp_core.reader.load.fast_yaml import read_plain
from mlxp_core.yaml_io import dump_yaml

MLXP = """\
status: COMPLETE
start_time: '18:46:14'
end_date: 25/11/2026
logger:
  log_id: 1
  log_dir: /tmp/a b/logs/1
scheduler: null
lr: 1.0e-05
neg: -3
layers:
- 1
- 2.5
empty: []
nothing: {}
deep:
  down:
    x: true
  list:
  - a
last:
"""


def same(one, other):
    """Equal, with NaN equal to NaN, and of the same types."""
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one):
        return math.isnan(other)
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


def test_what_dumpers_write_is_read():
    """Bug: a fast path that is never taken."""
    assert read_plain(MLXP) == {
        "status": "COMPLETE",
        "start_time": "18:46:14",
        "end_date": "25/11/2026",
        "logger": {"log_id": 1, "log_dir": "/tmp/a b/logs/1"},
        "scheduler": None,
        "lr": 1e-05,
        "neg": -3,
        "layers": [1, 2.5],
        "empty": [],
        "nothing": {},
        "deep": {"down": {"x": True}, "list": ["a"]},
        "last": None,
    }


def test_what_is_read_twice_is_not_shared():
    """Bug: a list of one run that changes with that of another."""
    first = read_plain("a: []\nb: {}\n")
    first["a"].append(1)
    first["b"]["x"] = 1
    assert read_plain("a: []\nb: {}\n") == {"a": [], "b": {}}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "- 1\n",
        "a: &x 1\n",
        "a: *x\n",
        "a: !!int 1\n",
        "a: [1]\n",
        "a: {b: 1}\n",
        "a: 1 # no\n",
        "# no\na: 1\n",
        "---\na: 1\n",
        "a: |\n  x\n",
        "a: >-\n  x\n",
        "a: one\n  two\n",
        "a: 'one\n  two'\n",
        "a: it's: x\n",
        "a: b:\n",
        "yes: 1\n",
        "NULL: 1\n",
        "a: yes\n",
        "a: Off\n",
        "a: ~\n",
        "a: 012\n",
        "a: 1_000\n",
        "a: 12:30\n",
        "a: 1e5\n",
        "a: 2026-11-25\n",
        "a: 0x1F\n",
        "a: .5\n",
        "a: +1\n",
        'a: "x\\n"\n',
        "a: 'it''s'\n",
        "a: é\n",
        "a:\tb\n",
        "a: b \n",
        "a:  b\n",
        "a:b\n",
        "a : b\n",
        "1: 2\n",
        "? a\n: b\n",
        "a: =\n",
        "<<: 1\n",
        "a: @x\n",
        "a: `x`\n",
        "a: 1\n b: 2\n",
        "  a: 1\nb: 2\n",
        "a:\n  b: 1\n c: 2\n",
        "a:\n- b: 1\n",
        "a:\n- - 1\n",
        "a:\n - 1\n  - 2\n",
        "a: 1\n\nb: 2\n",
        "a: 1\r\n",
        "a: %x\n",
        "a: x\x00\n",
        "a: -\n",
        "a:\n-\n",
        "a: - b\n",
        "a: ? b\n",
        "a:\n- 1\nb: 2\n",
        "a:\n    b: 1\n    c:\n        - 1\n",
        "a: '# no comment'\n",
        "a: x#y\n",
        "a: http://x.y/z\n",
        "a: x,y [z] {w}\n",
        "a: 1\na: 2\n",
        "a:\n- 1\n  b: 2\n",
        "a:\n  - 1\n- 2\n",
        "a: ''\n",
        'a: ""\n',
        "a.b/c-d: 1\n",
        "a: .NaN\n",
        "a: -0\n",
        "a: 00.5\n",
        "a: 1.\n",
        "a: 1:\n",
        "a: -x:\n",
        "a: 1.5e3\n",
        "a: ...\n",
        "...\na: 1\n",
        "a: 1\n...\n",
        "a: 1\n---\nb: 2\n",
        "a: !x\n",
    ],
)
def test_anything_else_is_declined_or_read_as_pyyaml_reads_it(text):
    """Bug: text that means something else to YAML."""
    check(text)


def check(text):
    found = read_plain(text)
    if found is not None:
        assert same(found, yaml.load(text, Loader=yaml.CSafeLoader)), text


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(
        ["yes", "null", "~", "1e5", "1_0", "012", "a: b", "a #b", "2026-11-25", "it's", "", " ", "-", "[x]"]
    )
)
KEYS = st.text(alphabet=string.ascii_letters + "_./-0123456789", min_size=1, max_size=6) | st.sampled_from(
    ["yes", "null", "a b", "é", "1"]
)


@given(
    st.dictionaries(
        KEYS,
        st.recursive(
            SCALARS, lambda one: st.lists(one, max_size=3) | st.dictionaries(KEYS, one, max_size=3), max_leaves=8
        ),
        max_size=6,
    )
)
@examples(300)
def test_whatever_is_dumped_comes_back_or_is_declined(content):
    """Bug: a value that the dumper quotes in a way that was not thought of."""
    check(dump_yaml(content))
    check(yaml.dump(content))


@given(st.text(alphabet="ab1:-. '\"\n#[]{}&*!|>%~?,yn=<\t", max_size=30))
@examples(1000)
def test_no_text_is_read_otherwise_than_pyyaml_reads_it(text):
    """Bug: a corner of YAML that was not thought of, or a text that PyYAML refuses and this one reads."""
    found = read_plain(text)
    if found is not None:
        assert same(found, yaml.load(text, Loader=yaml.CSafeLoader))

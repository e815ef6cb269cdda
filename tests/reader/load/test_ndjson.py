"""Many files at once give what the same files give line by line, or are declined."""

from __future__ import annotations

import json
import struct

import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st

from mlxp_core.reader.load.metrics import read_lines
from mlxp_core.reader.load.ndjson import read_columns

KEYS = {"log.x": "a", "log.y": "b"}


def slowly(contents):
    return [
        [None if content is None else read_lines(content).column(key, numeric=True) for content in contents]
        for key in KEYS.values()
    ]


def exact(columns):
    """Bits instead of numbers: -0.0 is not 0.0, and the last digit counts."""
    return [
        [
            None if cells is None else [None if one is None else struct.pack("d", one) for one in cells]
            for cells in column
        ]
        for column in columns
    ]


def check(contents):
    found = read_columns(contents, KEYS)
    if found is not None:
        assert exact(column.to_list() for column in found) == exact(slowly(contents)), contents
    return found


def test_plain_numbers_are_read_at_once():
    """Bug: a fast path that is never taken; lists given to other files; null, none and empty mixed up."""
    contents = [b'{"a": 1, "b": 0.5}\n{"a": 2}\n', None, b"", b'{"c": 1}\n', b'{"b": -1e-3}\n']
    first, second = check(contents)
    assert first.to_list() == [[1.0, 2.0], None, [], None, None]
    assert second.to_list() == [[0.5, None], None, [], None, [-0.001]]


@pytest.mark.parametrize(
    "content",
    [
        b'{"a": "NaN"}\n',
        b'{"a": NaN}\n',
        b'{"a": null}\n',
        b'{"a": 1, "a": 2}\n',
        b'{"a": 1}{"a": 2}\n',
        b'{"a": 1}, {"a": 2}\n',
        b'\n{"a": 1}\n',
        b'{"a": [1\n2]}\n',
        b'{"a": {"b": 1}}\n',
        b'{"a": 1e999}\n',
        b'{"a": "text"}\n',
        b'{"c": "a", "a": 1}\n',
        b"[1]\n",
        b'{"a": "\xff"}\n',
        b' {"a": 1}\n',
        b'{"a": true}\n',
        b'{"a": null}\n{"\\u0061": 1}\n',
    ],
)
def test_what_is_in_doubt_is_declined(content):
    """Bug: a value, or a line, that Polars' parser reads in another way."""
    assert check([b'{"a": 1}\n', content]) is None


NUMBERS = st.integers(-(10**25), 10**25) | st.floats(allow_nan=False, allow_infinity=False)
LINES = st.dictionaries(st.sampled_from(["a", "b", "c"]), NUMBERS, max_size=3).map(lambda line: json.dumps(line) + "\n")
ODD = st.sampled_from(
    [
        '{"a": null}\n',
        '{"a": "x"}\n',
        "{}\n",
        "\n",
        '{"b": 1}}\n',
        '{"a": 5, "a": 6}\n',
        '{"a": 1.}\n',
        '{"\\u0061": 1}\n',
    ]
)


@given(st.lists(st.none() | st.lists(LINES, max_size=5).map("".join), min_size=1, max_size=5))
@examples(300)
def test_any_numbers_are_the_same_to_the_last_bit(texts):
    """Bug: a parser that rounds, an integer column that becomes one of floats and loses a digit."""
    check([None if text is None else text.encode() for text in texts])


@given(st.lists(st.lists(LINES | ODD, max_size=5).map("".join), min_size=1, max_size=4))
@examples(300)
def test_odd_lines_among_them_are_declined_or_read_the_same(texts):
    """Bug: lines that only together look whole."""
    check([text.encode() for text in texts])


@given(st.text(alphabet='{}"ab:, 1.e-+\n[]', max_size=40))
@examples(500)
def test_no_text_is_read_otherwise(text):
    """Bug: whatever the cases above do not have."""
    check([b'{"a": 1}\n', text.encode()[: text.encode().rfind(b"\n") + 1]])

"""Strict JSON, whatever stands in it."""

from __future__ import annotations

import json
from typing import Any

from examples import examples
from hypothesis import given
from hypothesis import strategies as st

from mlxp_core.runs import strict_json

WORDS = st.lists(st.sampled_from(["NaN", "Infinity", "-", '"', "\\", ":", ",", " ", "[", "u004e", "ü"]), max_size=5)
SCALARS = WORDS.map("".join) | st.floats() | st.integers() | st.booleans() | st.none()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS.map("".join), inner, max_size=3)
)


def refuse(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


@examples(300)
@given(VALUES, st.sampled_from([None, 1]))
def test_any_value_survives_in_json_that_every_program_reads(value: Any, indent: int | None) -> None:
    """Bug: a text that reads like NaN becomes a number, a key is changed, or a quotation mark ends a text too early."""
    text = strict_json.strict(json.dumps(value, indent=indent))
    json.loads(text, parse_constant=refuse)
    assert repr(strict_json.loads(text)) == repr(value)

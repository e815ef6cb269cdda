"""What of a YAML file JSON can say as well."""

from __future__ import annotations

from datetime import date
from enum import Enum
from typing import Any

import pytest

from mlxp_core.runs.digest import WrittenYaml


class Color(str, Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("content", "plain"),
    [
        ({}, True),
        ({"a": 1, "b": [1, "x", None, True, 1.5], "c": {"d": [{}]}}, True),
        ({"a": 1, 2: 3}, False),  # JSON would make the key a text
        ({1: 2, "b": 3}, False),
        ({"a": {"b": 1, True: 2}}, False),
        ({"a": [1, date(2026, 11, 25)]}, False),
        ({"a": [date(2026, 11, 25), 1]}, False),
        ({"a": [[1, (2,)]]}, False),
        ({"a": 1, "b": Color.RED}, False),
    ],
)
def test_only_what_json_gives_back_as_it_was_is_in_a_digest(content: dict[Any, Any], plain: bool) -> None:
    """Bug: a reader that goes by the digest has other types than one that reads the YAML, for one value of many."""
    own, form = WrittenYaml(content, b"text", (1, 2, 3)).lines()
    assert ((own, form) != (None, None)) is plain
    if plain:
        assert (own["stamp"], len(own["checksum"])) == ((1, 2, 3), 32)

"""YAML that every reader takes for the same: OmegaConf, PyYAML, this package's own, and those of YAML 1.1 and 1.2."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
import yaml
from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from mlxp_core.reader.load.fast_yaml import read_plain
from mlxp_core.yaml_io import dump_yaml

# the core schema of YAML 1.2.2, 10.3.2
CORE = r"""
    null | Null | NULL | ~ |
  | true | True | TRUE | false | False | FALSE
  | [-+]?[0-9]+ | 0o[0-7]+ | 0x[0-9a-fA-F]+
  | [-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?
  | [-+]?(\.inf|\.Inf|\.INF) | \.nan | \.NaN | \.NAN
"""
# the pages of yaml.org/type, which YAML 1.1 refers to; by whose letter "." and ".." are numbers, too
TYPES_OF_1_1 = r"""
    null | Null | NULL | ~ |
  | y | Y | yes | Yes | YES | n | N | no | No | NO | true | True | TRUE | false | False | FALSE
  | on | On | ON | off | Off | OFF
  | [-+]?0b[0-1_]+ | [-+]?0[0-7_]+ | [-+]?(0|[1-9][0-9_]*) | [-+]?0x[0-9a-fA-F_]+ | [-+]?[1-9][0-9_]*(:[0-5]?[0-9])+
  | [-+]?(?=[.0-9_]*[0-9])([0-9][0-9_]*)?\.[0-9.]*([eE][-+][0-9]+)? | [-+]?[0-9][0-9_]*(:[0-5]?[0-9])+\.[0-9_]*
  | [-+]?\.(inf|Inf|INF) | \.(nan|NaN|NAN)
  | [0-9]{4}-[0-9]{2}-[0-9]{2}
  | [0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt]|[\ \t]+)[0-9]{1,2}:[0-9]{2}:[0-9]{2}(\.[0-9]*)?
    ([\ \t]*(Z|[-+][0-9]{1,2}(:[0-9]{2})?))?
  | << | =
"""


def _reader(words: str) -> type[yaml.SafeLoader]:
    """A loader to which a plain scalar is text, or else the object NO_TEXT, by one expression."""

    class Reader(yaml.SafeLoader):
        yaml_implicit_resolvers = {None: [("!no-text", re.compile(f"(?:{words})$", re.VERBOSE))]}  # noqa: RUF012

    Reader.add_constructor("!no-text", lambda *_: NO_TEXT)
    return Reader


NO_TEXT = object()
READERS = [_reader(CORE), _reader(TYPES_OF_1_1)]

WORDS = [
    *(
        "1e-3",
        "1E5",
        "+1.e3",
        "-.5",
        "1.5e3",
        ".5e1",
        "1_000",
        "1_0.5e3",
        "1e1_0",
        "12e03",
        "-_1",
        "0.",
        ".",
        "1.2.3",
        "..1",
    ),
    *("008", "007", "0o17", "0x1F", "-0b1", "0B1", "1:30", "01:30", "1:30.5", "190:20:30", "+0", "-0", "1e", "e1"),
    *("2026-01-02", "2026-1-2", "2026-01-02 03:04:05", "2026-01-02T03:04:05.6+00:00", "2026-01-02T03:04:05Z"),
    *("y", "Y", "n", "No", "on", "OFF", "yes", "true", "FALSE", "null", "Null", "~", "", "<<", "=", "nan", "inf"),
    *(".inf", "-.Inf", "+.INF", ".nan", ".NaN", "-.nan", "- 1", "1 # x", "a: b", "'1e-3'", '"1"', "1\n", " 1e3", "---"),
    *("\u2028", "é1", "\U0001f600", "\x85", "\t1", "!!int 1", "&a", "*a", "?", "@", "`", "%x", "[1]", "{a: 1}", ","),
]
NUMBERLIKE = st.text(alphabet="0123456789+-._eExob:TZ ,", min_size=1, max_size=8)
TEXTS = st.sampled_from(WORDS) | NUMBERLIKE | st.text(max_size=8).filter(lambda text: "${" not in text)
VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS


def _check(content: dict[str, Any], readers: list[type[yaml.SafeLoader]]) -> None:
    text = dump_yaml(content)
    assert yaml.safe_load(text) == content
    assert OmegaConf.to_container(OmegaConf.load(io.StringIO(text))) == content
    assert read_plain(text) in (None, content)
    for reader in readers:
        assert yaml.load(text, Loader=reader) == content


@pytest.mark.parametrize("text", WORDS)
def test_text_that_a_reader_would_take_for_something_else_is_quoted(text: str) -> None:
    """Bug: the name '1e-3' comes back as 0.001, the subject '008' as 8, from the configuration of a run."""
    _check({"a": text, "b": [text], "c": {"d": text}, f"{text} ": "key", text: "key"}, READERS)


@given(st.dictionaries(TEXTS, TEXTS | st.lists(TEXTS, max_size=3), max_size=4))
@examples(500)
def test_text_stays_text_to_every_reader(content: dict[str, Any]) -> None:
    """Bug: a spelling of a number that was not thought of."""
    _check(_encodable(content), READERS)


@given(st.dictionaries(TEXTS, VALUES | st.lists(VALUES, max_size=3), max_size=4))
@examples(300)
def test_numbers_bools_and_null_stay_what_they_are(content: dict[str, Any]) -> None:
    """Bug: 1e+16, which a reader takes for text, or a number that is quoted, for fear of text that looks like it."""
    _check(_encodable(content), [])


def _encodable(value: Any) -> Any:
    """Leave lone surrogates out, which no file can hold: dump_yaml writes them in words."""
    if isinstance(value, dict):
        return {_encodable(key): _encodable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_encodable(item) for item in value]
    return value.encode(errors="ignore").decode() if isinstance(value, str) else value

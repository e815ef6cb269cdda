"""Strict JSON in which numbers that are not finite survive.

JSON has no NaN, and a file with a bare one is refused by browsers, jq and most languages. It is written as the string
``"NaN"``, as in metrics; a string of the user's that reads the same is written with an escape, which readers of JSON do
not see.
"""

from __future__ import annotations

import json
import re
from typing import Any

_NOT_FINITE = ("NaN", "Infinity", "-Infinity")
_TOKENS = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"(?:\s*:)?|-?Infinity|NaN')  # strings, keys, and what is no JSON
# a quotation mark inside of a string has a backslash before it, so these are whole strings; with a colon they are keys
_WORDS = re.compile(r'(?<!\\)"(NaN|-?Infinity)"(?!\s*:)')


def strict(text: str) -> str:
    """Turn the bare ``NaN``, ``Infinity`` and ``-Infinity`` that json.dumps writes into strings."""
    return _TOKENS.sub(_strict_token, text) if _has_words(text) else text


def loads(text: str) -> Any:
    """Read what ``strict`` gives, and any other JSON; bare words for numbers that are not finite, too."""
    return json.loads(_WORDS.sub(r"\1", text) if _has_words(text) else text)


def _has_words(text: str) -> bool:
    return "NaN" in text or "Infinity" in text


def _strict_token(match: re.Match[str]) -> str:
    token = match.group()
    if token in _NOT_FINITE:
        return f'"{token}"'
    if token[1:-1] in _NOT_FINITE:
        return f'"\\u{ord(token[1]):04x}{token[2:]}'
    return token

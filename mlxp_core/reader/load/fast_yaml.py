"""Read YAML as dumpers write it, line by line: some ten times faster than the full language. Pure.

Nested mappings in block style with plain keys, scalars on one line, and lists of such scalars: what Hydra, OmegaConf,
MLXP and this package write for most runs. Anything else (anchors, tags, flow style, comments, text on several lines,
other characters than printable ASCII) is declined, and left to a real YAML parser. What is not declined is read as
PyYAML's safe loader reads it, which a test compares.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

from mlxp_core.yaml_io import read_yaml

_LINE = re.compile(r"( *)(?:(-) |([A-Za-z_][A-Za-z0-9_./-]*):(?: |$))(.*)")
_INT = re.compile(r"-?(?:0|[1-9][0-9]*)")
_FLOAT = re.compile(r"-?[0-9]+\.[0-9]+(?:e[-+][0-9]+)?")
_TEXT = re.compile(r"[A-Za-z_/][!-~]*(?: [!-~]+)*")
_ODD_WORD = re.compile(r"[0-9.+-][!-~]*")
_QUOTED = re.compile(r"'([ -&(-~]*)'|\"([ !#-\[\]-~]*)\"")
# words that YAML 1.1 takes for something else than text, in some spelling
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})
_VALUE_OF_WORD = {
    "null": None,
    "true": True,
    "false": False,
    ".nan": float("nan"),
    ".inf": float("inf"),
    "-.inf": -float("inf"),
}
_MAX_DIGITS = 4000  # Python refuses to read more
_MAX_CACHED_LINES = 100_000


class _Line(NamedTuple):
    indent: int
    key: str | None  # None: an item of a list
    value: Any  # _NESTED: what follows is the value


class _Declined(Exception):  # noqa: N818  (no error: a YAML parser reads it)
    """The text needs the full language."""


_NESTED = object()
_cached_lines: dict[str, _Line] = {}  # runs of a sweep differ in a few lines


def read_plain(text: str) -> dict[str, Any] | None:
    """Read a mapping; None for what is declined."""
    if not text.isascii() or not text:
        return None
    try:
        lines = [_cached_lines.get(line) or _read_line(line) for line in text.removesuffix("\n").split("\n")]
        content, end = _mapping(lines, 0, 0)
    except _Declined:
        return None
    return content if end == len(lines) else None


def _mapping(lines: list[_Line], index: int, indent: int) -> tuple[dict[str, Any], int]:
    """Read the mapping of this indentation that starts at ``index``; return it and the index of the line behind it."""
    content: dict[str, Any] = {}
    line_count, key_count = len(lines), 0
    while index < line_count:
        line = lines[index]
        if line.indent != indent or line.key is None:  # of a mapping around this one, or of none
            break
        index += 1
        value = line.value
        if value is _NESTED:
            value = None  # a key with nothing behind it
            if index < line_count:
                below = lines[index]
                if below.key is None and below.indent >= indent:
                    value, index = _items(lines, index, below.indent)
                elif below.indent > indent:
                    value, index = _mapping(lines, index, below.indent)
        elif type(value) is list or type(value) is dict:
            value = value.copy()  # lines are remembered, and what they stand for may be changed
        content[line.key] = value
        key_count += 1
    if len(content) < key_count:
        raise _Declined  # a key that is given twice
    return content, index


def _items(lines: list[_Line], index: int, indent: int) -> tuple[list[Any], int]:
    items = []
    while index < len(lines) and lines[index].key is None and lines[index].indent == indent:
        items.append(lines[index].value)
        index += 1
    return items, index


def _read_line(line: str) -> _Line:
    match = _LINE.fullmatch(line)
    if match is None:
        raise _Declined
    spaces, item, key, text = match.groups()
    if key is not None and key.lower() in _WORDS:
        raise _Declined
    if text or item:
        value = _scalar(text)
        if item and type(value) in {list, dict}:
            raise _Declined
    else:
        value = _NESTED
    parsed = _Line(len(spaces), key, value)
    if len(_cached_lines) > _MAX_CACHED_LINES:
        _cached_lines.clear()
    _cached_lines[line] = parsed
    return parsed


def _scalar(text: str) -> Any:
    if _TEXT.fullmatch(text) and text.lower() not in _WORDS:
        if ": " in text or " #" in text or text.endswith(":"):
            raise _Declined
        return text
    if text in _VALUE_OF_WORD:
        return _VALUE_OF_WORD[text]
    if len(text) < _MAX_DIGITS:
        if _INT.fullmatch(text):
            return int(text)
        if _FLOAT.fullmatch(text):
            return float(text)
    if quoted := _QUOTED.fullmatch(text):
        return quoted[2] if quoted[1] is None else quoted[1]
    if text in {"[]", "{}"}:
        return [] if text == "[]" else {}
    if _ODD_WORD.fullmatch(text):
        return _read_with_pyyaml(text)
    raise _Declined


def _read_with_pyyaml(text: str) -> Any:
    """Read a word that starts as a number does: a commit, a version, a date with slashes."""
    try:
        value = read_yaml(f"a: {text}", Path("a"))["a"]
    except Exception:  # noqa: BLE001  (what PyYAML's constructors raise: see load/run.py)
        raise _Declined from None
    if type(value) not in {str, int, float}:
        raise _Declined
    return value

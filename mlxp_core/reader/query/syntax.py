"""Parse queries by the grammar in query.lark, and point at faults in them. Pure: text in, tree or error out."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from functools import cache
from importlib import resources

import lark

from mlxp_core.errors import QueryError
from mlxp_core.reader.load.fields import valid_text

Node = lark.Tree[lark.Token] | lark.Token  # a part of a query

_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", "'": "'", '"': '"'}
# the parser's terminals, in words for an error
_TERMINAL_NAMES = {
    "OPERATOR": "== != < > <= >=",
    "MATCH": "=~ !~",
    "STARTSWITH": "startswith",
    "ENDSWITH": "endswith",
    "IN": "in",
    "IS": "is",
    "NOT": "not",
    "NAME": "a column",
    "QUOTED_NAME": "a column",
    "NUMBER": "a number",
    "STRING": "a quoted string",
    "TRUE": "true",
    "FALSE": "false",
    "NULL": "null",
    "AMPERSAND": "&",
    "AND": "&",
    "VBAR": "|",
    "OR": "|",
    "TILDE": "~",
    "LPAR": "(",
    "RPAR": ")",
    "LSQB": "[",
    "RSQB": "]",
    "COMMA": ",",
    "$END": "the end",
}
_VALUES = {"a number", "a quoted string", "true", "false", "null"}
_SURROGATES = re.compile("[\ud800-\udbff][\udc00-\udfff]")  # as JSON writes what is beyond 16 bits


class Fault(Exception):  # noqa: N818  (becomes an error where the query is known)
    """A fault in a query: the part of it, and what is wrong with that."""

    def __init__(self, node: Node, what: str) -> None:
        """``node`` is the part to point at."""
        super().__init__(what)
        self.node = node

    def error(self, query: str) -> QueryError:
        """Make the error that points at the part."""
        position = self.node if isinstance(self.node, lark.Token) else self.node.meta
        start, end = position.start_pos or 0, position.end_pos or 0
        return _error(query, start, end - start, str(self))


def parse(query: str) -> lark.Tree[lark.Token]:
    """Parse a query. Raises QueryError, which points at the fault."""
    try:
        return _parser().parse(query)
    except lark.UnexpectedCharacters as error:
        raise _syntax_error(query, error.pos_in_stream or 0, 1, error.allowed) from None
    except lark.UnexpectedToken as error:
        if error.token.type == "$END":
            raise _syntax_error(query, len(query.rstrip()), 1, error.accepts) from None
        raise _syntax_error(query, error.pos_in_stream or 0, len(error.token), error.accepts) from None


def text_of(node: Node) -> str:
    """Give a part of a query as it is written, about."""
    if isinstance(node, lark.Token):
        return str(node)
    words = [text_of(child) for child in node.children if child is not None]
    return f"{words[0]}({', '.join(words[1:])})" if node.data == "call" else "=".join(words)


def string_of(token: lark.Token) -> str:
    """Give the text of a quoted string. Raises Fault for an escape that means nothing."""

    def character(match: re.Match[str]) -> str:
        code = match[1]
        if len(code) > 1:
            return chr(int(code[1:], 16))
        if code not in _ESCAPES:
            raise Fault(token, f"unknown escape {match[0]} (a backslash itself is written \\\\)")
        return _ESCAPES[code]

    text = re.sub(r"\\(u[0-9a-fA-F]{4}|.)", character, token[1:-1], flags=re.DOTALL)
    return valid_text(_SURROGATES.sub(lambda pair: pair[0].encode("utf-16", "surrogatepass").decode("utf-16"), text))


@cache
def _parser() -> lark.Lark:
    grammar = resources.files(__package__).joinpath("query.lark").read_text(encoding="utf-8")
    return lark.Lark(grammar, parser="lalr", propagate_positions=True)


def _syntax_error(query: str, start: int, length: int, expected: Collection[str]) -> QueryError:
    rest = query[start : start + length]
    if rest in {"'", '"', "`"}:
        return _error(query, start, 1, f"this {rest} is never closed")
    if rest == "=":
        return _error(query, start, 1, "no comparison: equality is ==")
    words = list(dict.fromkeys(word for name, word in _TERMINAL_NAMES.items() if name in expected))
    reason = f"{rest!r} is not understood here" if rest else "the query ends too early"
    return _error(query, start, length, f"{reason}: expected {' or '.join(_shortened(words))}")


def _shortened(words: list[str]) -> list[str]:
    """Say "a value" for all that is one, where a column would do, too."""
    if not {"a column", *_VALUES}.issubset(words):
        return words
    return [word for word in words if word not in _VALUES] + ["a value"]


def _error(query: str, start: int, length: int, what: str) -> QueryError:
    """Make an error that shows the line of the query and underlines the fault."""
    line_start = query.rfind("\n", 0, start) + 1
    line = query[line_start:].split("\n", 1)[0]
    before, marked = line[: start - line_start], query[start : start + max(length, 1)] or " "
    marked = marked.split("\n", 1)[0] or " "
    pad = "".join("\t" if character == "\t" else " " * _width(character) for character in before)
    return QueryError(f"{what}\n    {line}\n    {pad}{'^' * sum(map(_width, marked))}")


def _width(character: str) -> int:
    """Give the number of terminal columns that a character takes."""
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1

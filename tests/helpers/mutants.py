"""Mutants of a Python source: each is one change at one place. Pure: text in, mutants out; tests/mutation.py runs them.

Changed are comparisons, conditions, boolean and arithmetic operators, whole numbers, True and False, min/max, any/all,
sorted, filters of comprehensions, slices, strings that something is looked up by or compared with, caught exceptions,
default arguments, and statements, which are deleted. Left alone is what no test should hold to: docstrings, log lines,
wording of errors and help texts, annotations, decorators, strict=True of zip(), floats (pauses and limits, nearly all);
and the inside of f-strings, whose places Python 3.11 does not know.
"""

from __future__ import annotations

import ast
import hashlib
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from random import Random
from typing import Any

_COMPARISONS = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
}
_ARITHMETIC = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "//"),
    ast.FloorDiv: ("//", "*"),
    ast.Div: ("/", "*"),
    ast.Mod: ("%", "*"),
    ast.BitOr: ("|", "&"),
    ast.BitAnd: ("&", "|"),
}
_OPPOSITES = {"min": "max", "max": "min", "any": "all", "all": "any"}
# methods whose first argument is looked up, or looked for
_LOOK_UPS = re.compile("get|pop|setdefault|(starts|ends)with|r?(split|partition|find)|remove(pre|suf)fix")
_LOGGERS = {"log", "_log", "_logger", "logger", "logging", "warnings"}


@dataclass(frozen=True)
class Mutant:
    """One change: bytes from start to end of the source of ``path`` become ``new``."""

    path: str
    operator: str
    start: int
    end: int
    new: str
    where: str  # the function or class around it, "" at the top
    statement: int  # the line at which the innermost statement begins
    last: int  # the line in which the change ends
    at_import: bool  # outside of functions
    line: str = ""  # the first line that changes, and what it becomes
    mutated: str = ""
    nth: int = 0  # of those that the other fields do not tell apart

    @property
    def key(self) -> str:
        """Name of the mutant, which stays when lines are added above it."""
        return f"{self.path}::{self.where}: {self.line} -> {self.mutated}" + (f" #{self.nth}" if self.nth else "")

    def apply(self, source: bytes) -> bytes:
        return source[: self.start] + self.new.encode() + source[self.end :]


def mutants_of(path: str, source: bytes) -> list[Mutant]:
    """All mutants of a file, in order of their place. Not each parses: see ``parses()``."""
    found = [_with_lines(mutant, source) for mutant in _Walk(path, source).mutants()]
    found.sort(key=lambda mutant: (mutant.start, mutant.end, mutant.new))
    seen: Counter[str] = Counter()
    for number, mutant in enumerate(found):
        found[number] = replace(mutant, nth=seen[mutant.key])
        seen[mutant.key] += 1
    return found


def parses(mutant: Mutant, source: bytes) -> bool:
    """Whether a mutant is a program, and another one than the source."""
    try:
        tree = ast.parse(mutant.apply(source))
        compile(tree, "mutant", "exec")
    except SyntaxError:
        return False
    return ast.dump(tree) != ast.dump(ast.parse(source))


def sample(sources: dict[str, bytes], count: int, seed: int) -> list[Mutant]:
    """Choose mutants at random: from each file as many as it has of all, but for rounding.

    Which of a file depends on the seed and on each mutant alone, so that a change of the product leaves most of them.
    """
    pools = {path: mutants_of(path, sources[path]) for path in sorted(sources)}
    step = sum(map(len, pools.values())) / count
    place = Random(seed).uniform(0, step)
    chosen: list[Mutant] = []
    for path, pool in pools.items():
        pool.sort(key=lambda mutant: hashlib.sha256(f"{seed} {mutant.key}".encode()).digest())
        wanted = math.ceil((len(pool) - place) / step) if place < len(pool) else 0
        place += wanted * step - len(pool)
        chosen += islice((mutant for mutant in pool if parses(mutant, sources[path])), wanted)
    return chosen


def _with_lines(mutant: Mutant, source: bytes) -> Mutant:
    begin = source.rfind(b"\n", 0, mutant.start) + 1
    line, mutated = (text[begin:].split(b"\n", 1)[0].decode().strip() for text in (source, mutant.apply(source)))
    return replace(mutant, line=line, mutated=mutated)


Change = tuple[str, int, int, str]  # operator, start, end, new text


class _Walk:
    """Goes through a file, and knows where it is."""

    def __init__(self, path: str, source: bytes) -> None:
        self._path, self._source = path, source
        self._begins = [0, *(match.end() for match in re.finditer(rb"\n", source))]

    def mutants(self) -> Iterator[Mutant]:
        yield from self._visit(ast.parse(self._source), (), 1, in_function=False)

    def _visit(self, node: ast.AST, names: tuple[str, ...], statement: int, *, in_function: bool) -> Iterator[Mutant]:
        if isinstance(node, ast.stmt):
            statement = node.lineno
        below = (*names, node.name) if isinstance(node, (ast.FunctionDef, ast.ClassDef)) else names
        inside = in_function or isinstance(node, (ast.FunctionDef, ast.Lambda))
        for operator, start, end, new in _changes(node, self):  # those of a function itself are within it
            first, last = (self._source.count(b"\n", 0, place) + 1 for place in (start, end))
            first = first if isinstance(node, ast.FunctionDef) else statement
            yield Mutant(self._path, operator, start, end, new, ".".join(below), first, last, not inside)
        for child in _children(node):
            if (
                isinstance(node, (ast.FunctionDef, ast.ClassDef)) and child not in node.body
            ):  # defaults: evaluated outside
                yield from self._visit(child, names, statement, in_function=in_function)
            else:
                yield from self._visit(child, below, statement, in_function=inside)

    def span(self, node: Any) -> tuple[int, int]:
        """Bytes of a node."""
        return (
            self._begins[node.lineno - 1] + node.col_offset,
            self._begins[node.end_lineno - 1] + node.end_col_offset,
        )

    def operand(self, node: ast.AST) -> tuple[int, int]:
        """Bytes of one of several operands, with the parentheses around it."""
        start, end = self.span(node)
        while (before := re.search(rb"\(\s*$", self._source[:start])) and (
            after := re.match(rb"\s*\)", self._source[end:])
        ):
            start, end = before.start(), end + after.end()
        return start, end

    def text(self, node: ast.AST) -> str:
        start, end = self.span(node)
        return self._source[start:end].decode()

    def token(self, left: ast.AST, right: ast.AST, token: str, new: str) -> Iterator[tuple[int, int, str]]:
        """Replace the operator between two operands."""
        start, end = self.span(left)[1], self.span(right)[0]
        pattern = token.replace(" ", r"\s+") if token[0].isalpha() else re.escape(token)
        if found := re.search(rf"(?<!\w){pattern}(?!\w)".encode(), self._source[start:end]):
            yield start + found.start(), start + found.end(), new


def _children(node: ast.AST) -> Iterator[ast.AST]:
    """What is to be changed below a node."""
    if isinstance(node, ast.JoinedStr) or _is_log_line(node):
        return
    if isinstance(node, ast.If) and re.search("TYPE_CHECKING|__name__", ast.unparse(node.test)):
        yield from node.orelse
        return
    skipped = {"annotation", "returns", "decorator_list", "bases", "keywords" if isinstance(node, ast.ClassDef) else ""}
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "zip":
        skipped |= {"keywords"}  # strict=True, which checks what never happens
    if isinstance(node, ast.Raise):  # the wording of errors
        skipped |= {"exc", "cause"}
    for name, value in ast.iter_fields(node):
        if name not in skipped:
            yield from (
                child for child in (value if isinstance(value, list) else [value]) if isinstance(child, ast.AST)
            )


def _is_log_line(node: ast.AST) -> bool:
    if isinstance(node, ast.Expr):
        node = node.value
    function = node.func if isinstance(node, ast.Call) else None
    value = function.value if isinstance(function, ast.Attribute) else None
    return isinstance(value, ast.Name) and value.id in _LOGGERS


def _changes(node: ast.AST, walk: _Walk) -> Iterator[Change]:
    for kind, operator in _OPERATORS:
        if isinstance(node, kind):
            yield from operator(node, walk)


def _comparison(node: ast.Compare, walk: _Walk) -> Iterator[Change]:
    operands = [node.left, *node.comparators]
    for left, operator, right in zip(operands, node.ops, operands[1:], strict=False):
        for change in walk.token(left, right, *_COMPARISONS[type(operator)]):
            yield ("comparison", *change)
    for operand in operands:
        yield from _string(operand, walk)


def _boolean(node: ast.BoolOp, walk: _Walk) -> Iterator[Change]:
    words = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
    for left, right in zip(node.values, node.values[1:], strict=False):
        for change in walk.token(left, right, *words):
            yield ("boolean", *change)
    spans = [walk.operand(value) for value in node.values]
    for number, (start, end) in enumerate(spans):  # an operand is left out
        if number + 1 < len(spans):
            yield "operand", start, spans[number + 1][0], ""
        else:
            yield "operand", spans[number - 1][1], end, ""


def _condition(node: ast.If | ast.While | ast.IfExp | ast.Assert, walk: _Walk) -> Iterator[Change]:
    """Negate a condition, which also swaps the branches."""
    test = node.test
    simple = (ast.Eq, ast.NotEq, ast.In, ast.NotIn, ast.Is, ast.IsNot)
    covered = isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], simple)
    if covered or isinstance(test, (ast.Constant, ast.UnaryOp)) or re.search("TYPE_CHECKING|__name__", walk.text(test)):
        return
    yield "condition", *walk.span(test), f"(not ({walk.text(test)}))"


def _not(node: ast.UnaryOp, walk: _Walk) -> Iterator[Change]:
    if isinstance(node.op, ast.Not):
        yield "condition", walk.span(node)[0], walk.operand(node.operand)[0], ""


def _filter(node: ast.comprehension, walk: _Walk) -> Iterator[Change]:
    for condition in node.ifs:
        yield "filter", *walk.span(condition), "True"


def _arithmetic(node: ast.BinOp, walk: _Walk) -> Iterator[Change]:
    """Not where it would only be a TypeError: texts, paths, types."""
    sides = (node.left, node.right)
    number = any(isinstance(side, ast.Constant) and isinstance(side.value, (int, float)) for side in sides)
    if any(isinstance(side, (ast.JoinedStr, ast.List, ast.Tuple, ast.Dict)) for side in sides):
        return
    if any(isinstance(side, ast.Constant) and isinstance(side.value, (str, bytes, type(None))) for side in sides):
        return
    if isinstance(node.op, ast.Div) and not number:  # a path
        return
    if isinstance(node.op, ast.BitOr) and any(isinstance(side, ast.Name) and side.id[0].isupper() for side in sides):
        return
    if type(node.op) in _ARITHMETIC:
        for change in walk.token(node.left, node.right, *_ARITHMETIC[type(node.op)]):
            yield ("arithmetic", *change)


def _constant(node: ast.Constant, walk: _Walk) -> Iterator[Change]:
    if isinstance(node.value, bool):
        yield "boolean constant", *walk.span(node), str(not node.value)
    elif isinstance(node.value, int):
        yield "number", *walk.span(node), str(node.value + 1)
        yield "number", *walk.span(node), f"({node.value - 1})" if node.value == 0 else str(node.value - 1)


def _string(node: ast.AST | None, walk: _Walk) -> Iterator[Change]:
    """Change a text; only where the caller knows that something hangs on it."""
    if isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes)):
        text = walk.text(node)
        quotes = re.fullmatch(r"""(?s)[a-zA-Z]*("{3}|'{3}|"|').*?(\1)""", text)
        if quotes:
            end = walk.span(node)[1] - len(quotes[1])
            yield "string", end, end, "X"


def _call(node: ast.Call, walk: _Walk) -> Iterator[Change]:
    name = node.func.id if isinstance(node.func, ast.Name) else ""
    if name in _OPPOSITES:
        yield "min, max, any, all", *walk.span(node.func), _OPPOSITES[name]
    if name == "sorted" and not any(keyword.arg == "reverse" for keyword in node.keywords):
        start, end = walk.span(node)
        yield "order", start, end, f"list(reversed({walk.text(node)}))"
    if isinstance(node.func, ast.Attribute) and node.args and _LOOK_UPS.fullmatch(node.func.attr):
        yield from _string(node.args[0], walk)


def _subscript(node: ast.Subscript, walk: _Walk) -> Iterator[Change]:
    if not (isinstance(node.value, ast.Name) and node.value.id == "Literal"):
        yield from _string(node.slice, walk)


def _slice(node: ast.Slice, walk: _Walk) -> Iterator[Change]:
    for bound in (node.lower, node.upper):
        if bound is not None:
            yield "slice", *walk.operand(bound), ""


def _dict(node: ast.Dict, walk: _Walk) -> Iterator[Change]:
    for key in node.keys:
        yield from _string(key, walk)


def _pattern(node: ast.MatchValue, walk: _Walk) -> Iterator[Change]:
    yield from _string(node.value, walk)


def _defaults(node: ast.arguments, walk: _Walk) -> Iterator[Change]:
    for default in (*node.defaults, *node.kw_defaults):
        yield from _string(default, walk)


def _except(node: ast.ExceptHandler, walk: _Walk) -> Iterator[Change]:
    kinds = node.type.elts if isinstance(node.type, ast.Tuple) else []
    if node.type is not None and not kinds:
        yield "exception", *walk.span(node.type), "()"
    for left_out in kinds:
        rest = "".join(f"{walk.text(kind)}, " for kind in kinds if kind is not left_out)
        yield "exception", *walk.span(node.type), f"({rest.rstrip()})"


def _statement(node: ast.stmt, walk: _Walk) -> Iterator[Change]:
    if isinstance(node, ast.Return) and node.value is not None:
        if not (isinstance(node.value, ast.Constant) and not node.value.value):
            yield "return", *walk.span(node.value), "None"
    elif isinstance(node, (ast.Break, ast.Continue)):
        yield "jump", *walk.span(node), "continue" if isinstance(node, ast.Break) else "break"
    elif (
        (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and not _is_log_line(node))
        or (isinstance(node, ast.Assign) and all(isinstance(it, (ast.Attribute, ast.Subscript)) for it in node.targets))
        or isinstance(node, (ast.AugAssign, ast.Delete, ast.Raise, ast.Return))
    ):
        yield "deleted statement", *walk.span(node), "pass"


def _augmented(node: ast.AugAssign, walk: _Walk) -> Iterator[Change]:
    if type(node.op) in _ARITHMETIC and not isinstance(node.value, (ast.JoinedStr, ast.List, ast.Tuple)):
        old, new = _ARITHMETIC[type(node.op)]
        for change in walk.token(node.target, node.value, f"{old}=", f"{new}="):
            yield ("arithmetic", *change)


def _function(node: ast.FunctionDef, walk: _Walk) -> Iterator[Change]:
    """Delete assignments to names that have a value already: to others it is a NameError."""
    arguments = node.args
    bound = {argument.arg for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
    own = [child for child in ast.walk(node) if isinstance(child, ast.Assign)]
    for child in sorted(own, key=lambda child: child.lineno):
        names = {name.id for target in child.targets for name in ast.walk(target) if isinstance(name, ast.Name)}
        if names and names <= bound and all(isinstance(target, (ast.Name, ast.Tuple)) for target in child.targets):
            yield "deleted statement", *walk.span(child), "pass"
        bound |= names


_OPERATORS: list[tuple[Any, Callable[[Any, _Walk], Iterator[Change]]]] = [
    (ast.Compare, _comparison),
    (ast.BoolOp, _boolean),
    ((ast.If, ast.While, ast.IfExp, ast.Assert), _condition),
    (ast.UnaryOp, _not),
    (ast.comprehension, _filter),
    (ast.BinOp, _arithmetic),
    (ast.Constant, _constant),
    (ast.Call, _call),
    (ast.Subscript, _subscript),
    (ast.Slice, _slice),
    (ast.Dict, _dict),
    (ast.MatchValue, _pattern),
    (ast.arguments, _defaults),
    (ast.ExceptHandler, _except),
    (ast.stmt, _statement),
    (ast.AugAssign, _augmented),
    (ast.FunctionDef, _function),
]

"""Foreign values as plain ones, the same in every process. Real ones of Python and numpy, stand-ins of the others."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import enum
import math
import subprocess
import sys
import types
from array import array
from collections import UserDict, deque, namedtuple
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from mlxp_core.plain_values import PlainValueError, spell_key, to_builtins, to_json, to_metric


class Optimizer(str, enum.Enum):
    ADAM = "adam"


class Level(enum.IntEnum):
    HIGH = 2


class Colour(enum.Enum):
    RED = 1


@dataclasses.dataclass
class Model:
    width: int
    path: PurePosixPath
    kind: Optimizer = Optimizer.ADAM
    constant: Any = None


Pair = namedtuple("Pair", "first second")  # noqa: PYI024  (as users have them)


class Attrs:
    """What attrs makes of a class, as far as it is looked at."""

    __attrs_attrs__ = (types.SimpleNamespace(name="x"), types.SimpleNamespace(name="y"))

    def __init__(self) -> None:
        self.x, self.y = np.int64(1), {2}


class Pydantic:
    """As pydantic 2 has it."""

    model_fields: dict[str, Any] = {"x": None}  # noqa: RUF012

    def __init__(self) -> None:
        self.x = Decimal("0.5")


class Tensor:
    """As torch has it: item of several values is a RuntimeError; its text loses its middle."""

    def __init__(self, values: Any) -> None:
        self.values = values
        self.ndim = 1 if isinstance(values, list) else 0

    def tolist(self) -> Any:
        return self.values

    def __repr__(self) -> str:
        return "tensor([0, ..., 9])"


class EagerTensor:
    """As TensorFlow has it: neither item nor tolist."""

    def numpy(self) -> Any:
        return np.float32(0.5)


class PolarsSeries:
    """As Polars has it: item of several values is a ValueError."""

    def item(self) -> Any:
        raise ValueError

    def to_list(self) -> list[int]:
        return [1, 2]


class Tracer:
    """As jax has it under jit: there is no value."""

    def tolist(self) -> Any:
        raise TypeError("Abstract tracer value")

    item = __float__ = __index__ = tolist

    def __repr__(self) -> str:
        return "Traced<float32[]>"


def pandas_missing() -> Any:
    """As pandas has it, in a module of its own."""
    return type("NAType", (), {"__module__": "pandas._libs.missing"})()


class PandasTimestamp(datetime.datetime):
    """As pandas has it: a datetime with nanoseconds."""

    def isoformat(self, *_: Any) -> str:  # type: ignore[override]
        return "2026-01-02T03:04:05.123456789"


class Frame:
    """As pandas and Polars have it."""

    columns = ("a", "b")

    def __getitem__(self, name: str) -> Any:
        return {"a": np.arange(2), "b": PolarsSeries()}[name]

    def to_dict(self) -> Any:
        raise AssertionError


SAME_EVERYWHERE: list[tuple[Any, Any]] = [
    (np.int64(42), 42),
    (np.uint64(2**64 - 1), 2**64 - 1),
    (np.float32(0.5), 0.5),
    (np.float64(0.1), 0.1),
    (np.longdouble(0.25), 0.25),
    (np.bool_(True), True),
    (np.str_("x"), "x"),
    (np.arange(6).reshape(2, 3), [[0, 1, 2], [3, 4, 5]]),
    (np.arange(3000), list(range(3000))),
    (np.array(2.5), 2.5),
    (np.array([0.25], dtype=np.longdouble), [0.25]),
    (np.ma.masked, None),
    (np.ma.array([1, 2, 3], mask=[False, True, False]), [1, None, 3]),
    (np.ma.array([[1.5]], mask=[[True]]), [[None]]),
    (Optimizer.ADAM, "adam"),
    (Level.HIGH, 2),
    (Tensor(1.5), 1.5),
    (Tensor([1, 2]), [1, 2]),
    (EagerTensor(), 0.5),
    (PolarsSeries(), [1, 2]),
    (pandas_missing(), None),
    (array("d", [1.0]), [1.0]),
    (Pair(1, (2, 3)), [1, [2, 3]]),
    (UserDict({"a": np.int64(1)}), {"a": 1}),
    ({Optimizer.ADAM: 1, None: 2}, {"adam": 1, "null": 2}),
    (2**70, 2**70),
]
IN_FILES: list[tuple[Any, Any]] = [
    (np.datetime64("2026-01-02T03:04:05.123456789"), "2026-01-02T03:04:05.123456789"),
    (np.datetime64("NaT"), None),
    (np.array(["2026-01-02", "NaT"], dtype="M8[s]"), ["2026-01-02T00:00:00", None]),
    (np.timedelta64(1500, "ms"), 1.5),
    (np.array([(1, 2.5)], dtype=[("a", int), ("b", float)]), [{"a": 1, "b": 2.5}]),
    (np.array([Optimizer.ADAM, None, {3, 1}], dtype=object), ["adam", None, [1, 3]]),
    ({3, 1, 2}, [1, 2, 3]),
    ({10, 9, 2.5}, [2.5, 9, 10]),
    (frozenset({"b", "a"}), ["a", "b"]),
    ({"a", 1, None, (1, 2), 0.5, b"x"}, [None, 0.5, 1, "a", "b'x'", [1, 2]]),
    ({frozenset({2, 1}), frozenset({0})}, [[0], [1, 2]]),
    ({"b": 1, "a": 2}.keys(), ["b", "a"]),
    (deque([1, Level.HIGH]), [1, 2]),
    (range(3), [0, 1, 2]),
    (OmegaConf.create({"a": [1, {"b": "${c}"}], "c": 3}), {"a": [1, {"b": 3}], "c": 3}),
    (Model(np.int64(3), PurePosixPath("a/b")), {"width": 3, "path": "a/b", "kind": "adam", "constant": None}),
    (Attrs(), {"x": 1, "y": [2]}),
    (Pydantic(), {"x": 0.5}),
    (argparse.Namespace(lr=np.float32(0.5)), {"lr": 0.5}),
    (types.SimpleNamespace(a=(1,)), {"a": [1]}),
    (Frame(), {"a": [0, 1], "b": [1, 2]}),
    (PurePosixPath("a/b"), "a/b"),
    (datetime.date(2026, 1, 2), "2026-01-02"),
    (datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc), "2026-01-02T03:04:05+00:00"),
    (PandasTimestamp(2026, 1, 2), "2026-01-02T03:04:05.123456789"),
    (datetime.time(3, 4), "03:04:00"),
    (datetime.timedelta(minutes=1.5), 90.0),
    (Decimal("0.1"), 0.1),
    (Decimal("1.0"), 1.0),
    (Decimal(12345678901234567890), 12345678901234567890),
    (Decimal("1e1000000"), "1E+1000000"),
    (Fraction(1, 4), 0.25),
    (Fraction(4, 1), 4),
    (b"abc", "b'abc'"),
    (bytearray(b"\xff"), "b'\\xff'"),
    (Colour.RED, "Colour.RED"),
]


def typed(value: Any) -> Any:
    """A value with its types, so that 1 is not 1.0 and not True."""
    if isinstance(value, dict):
        return [(type(key), key, typed(item)) for key, item in value.items()]
    return [typed(item) for item in value] if isinstance(value, list) else (type(value), value)


@pytest.mark.parametrize(("value", "plain"), [*SAME_EVERYWHERE, *IN_FILES])
def test_a_value_becomes_what_it_is(value: Any, plain: Any) -> None:
    """Bug: a seed that is text, an array without its middle, 0.0 for what is masked, a set in an order of its own."""
    for convert in (to_builtins, to_json):
        assert typed(convert(value)) == typed(plain)
        assert typed(convert({"a": [value]})) == typed({"a": [plain]})


@pytest.mark.parametrize(("value", "plain"), SAME_EVERYWHERE)
def test_numbers_and_arrays_are_metrics_too(value: Any, plain: Any) -> None:
    """Bug: another number in a metric file than in the configuration."""
    assert typed(to_metric([value])) == typed([plain])


@pytest.mark.parametrize("value", [object(), len, Colour, 1j, Tracer()])
def test_what_has_no_plain_form_is_text_in_a_configuration_and_refused_elsewhere(value: Any) -> None:
    """Bug: text in a JSON artifact for what cannot be read back; a run that is refused for an option of its user."""
    assert isinstance(to_builtins(value), str)
    for convert in (to_json, to_metric):
        with pytest.raises(PlainValueError) as refused:
            convert({"a": [1, {"b": value}]})
        assert refused.value.place("x") == "x['a'][1]['b']"
        assert type(value).__name__ in str(refused.value)


@pytest.mark.parametrize(
    ("value", "text"), [(float("nan"), "NaN"), (np.float32("inf"), "Infinity"), (-math.inf, "-Infinity")]
)
def test_what_is_not_finite_is_a_number_in_files_and_has_a_name_in_metrics(value: Any, text: str) -> None:
    """Bug: the token NaN, which is no JSON."""
    assert to_metric({"a": [value]}) == {"a": [text]}
    assert repr(to_builtins(value)) == repr(to_json(value)) == repr(float(value))


@pytest.mark.parametrize(
    ("key", "text"),
    [
        *[("a", "a"), (True, "true"), (False, "false"), (None, "null"), (1, "1"), (2.5, "2.5"), (1e-5, "1e-05")],
        *[(math.inf, "Infinity"), (Optimizer.ADAM, "adam"), (Level.HIGH, "2"), (Colour.RED, "Colour.RED")],
        *[
            (np.int64(7), "7"),
            (np.bool_(True), "true"),
            (np.float32(0.1), "0.1"),
            (b"k", "b'k'"),
            ((1, "a"), "(1, 'a')"),
        ],
        *[(PurePosixPath("p"), "p"), (frozenset({2, 1}), "(1, 2)"), (datetime.date(2026, 1, 2), "2026-01-02")],
    ],
)
def test_a_key_has_one_spelling(key: Any, text: str) -> None:
    """Bug: `true` in a line, `True` in the list of keys: the column is null, and nothing says so."""
    assert spell_key(key) == text
    assert list(to_json({key: 1})) == [text]


def test_keys_of_a_configuration_keep_the_types_that_yaml_has() -> None:
    """Bug: `{1: a}` and `{'1': a}` taken for the same configuration; `Optimizer.ADAM` for a key."""
    plain = to_builtins({1: 0, "1": 0, 2.5: 0, False: 0, Optimizer.ADAM: 0, None: 0, np.int64(9): 0, (1, 2): 0})
    assert [*map(type, plain)] == [int, str, float, bool, str, str, int, str]
    assert [*plain] == [1, "1", 2.5, False, "adam", "null", 9, "(1, 2)"]


@pytest.mark.parametrize(
    ("convert", "value"),
    [
        (to_builtins, {None: 1, "null": 2}),
        (to_builtins, {PurePosixPath("a"): 1, "a": 2}),
        (to_json, {1: "a", "1": "b"}),
        (to_json, {"true": 1, True: 2}),
        (to_metric, {1: "a", "1": "b"}),
    ],
)
def test_two_keys_of_one_spelling_are_refused(convert: Callable[[Any], Any], value: Any) -> None:
    """Bug: one of two values is gone, in silence."""
    with pytest.raises(PlainValueError, match=r"are both written .*: rename one of them"):
        convert([value])


def test_what_contains_itself_is_refused() -> None:
    """Bug: a stack trace of a thousand lines."""
    around: list[Any] = []
    around.append({"again": around})
    for convert in (to_builtins, to_json, to_metric):
        with pytest.raises(PlainValueError, match="contains itself"):
            convert(around)


def test_equal_values_are_equal_in_another_process() -> None:
    """Bug: three runs with the same configuration are three groups, for a set has another order in each process."""
    program = """
import functools
from mlxp_core.plain_values import to_builtins
class Thing: pass
def function(): pass
print(to_builtins({"set": {"a", "b", "c", "d", 1, 2.5, None, ("x", 1)}, "keys": {frozenset({"x", "y", "z"}): 1},
    "things": [Thing(), function, functools.partial(function, 1), Thing]}))
"""
    seen = {
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(seen) == 1
    assert "0x" not in seen.pop()

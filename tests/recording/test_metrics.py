"""Metric files: strict JSON, whole lines, a list of keys."""

from __future__ import annotations

import datetime
import enum
import json
import math
import os
import re
import subprocess
import sys
import threading
import uuid
from collections import UserDict
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from metric_lines import lines

from mlxp_core import start_run
from mlxp_core.errors import ArtifactError, MetricsError
from mlxp_core.reader import scan_runs
from mlxp_core.recording.metrics import encode_line, line_encoder
from mlxp_core.recording.run import Run


def test_each_call_is_a_line(run: Run) -> None:
    """Bug: a list rewritten as a whole, or keys in another order."""
    run.log_metrics({"loss": 0.5, "step": 1}, log_name="train")
    run.log_metrics({"loss": 0.25, "step": 2, "note": "ünï\n"}, log_name="train")
    run.log_metrics({"acc": 1}, log_name="test")
    assert lines(run) == [{"loss": 0.5, "step": 1}, {"loss": 0.25, "step": 2, "note": "ünï\n"}]
    assert lines(run, "test") == [{"acc": 1}]


def test_a_diverged_loss_is_kept_in_strict_json(run: Run) -> None:
    """Bug: the token NaN, which is no JSON and which Polars refuses; or null, which is not NaN."""
    run.log_metrics({"a": math.nan, "b": math.inf, "c": -math.inf, "d": [1.0, math.nan]}, log_name="train")
    assert lines(run) == [{"a": "NaN", "b": "Infinity", "c": "-Infinity", "d": [1.0, "NaN"]}]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.float32(0.5), b"0.5"),
        (np.float64(0.1), b"0.1"),
        (np.int64(7), b"7"),
        (np.array(2.5), b"2.5"),
        (np.array([1, 2]), b"[1, 2]"),
        (np.float32("nan"), b'"NaN"'),
        (np.bool_(True), b"true"),
        (10**20, b"100000000000000000000"),
    ],
)
def test_numbers_of_numpy_are_numbers(value: object, text: bytes) -> None:
    """Bug: `Object of type float32 is not JSON serializable` after hours of training."""
    assert encode_line({"x": value}) == b'{"x": ' + text + b"}\n"


class Text(str):
    __slots__ = ()


@pytest.mark.parametrize(
    "metrics",
    [
        {"loss": 0.1, "step": 3, "note": "ünï\n\u2028", "done": True, "none": None},
        {"huge": 1e300, "tiny": 5e-324, "least": -0.0, "exponent": 1e16, "third": 1 / 3},
        {"nan": math.nan, "inf": math.inf, "minus": -math.inf, "list": [1.0, math.nan], "in": {"a": -math.inf}},
        {"a": np.float32(0.1), "b": np.float64(0.1), "c": np.int64(7), "d": np.bool_(True), "e": np.float64("nan")},
        {"a": np.array([1, 2]), "b": np.array([[0.5, math.inf]]), "c": np.array(2.5), "d": np.float32("nan")},
        {"bits": 2**63, "more": 2**64, "most": -(10**30)},
        {0: 0.5, None: 1, 2.5: 2, True: 3},
        {1: "a", "1": "b"},
        {"lone": "\ud800", "\udcff": 1},
        {Text("key"): Text("value"), "tuple": (1, (2, 3)), "null": "null"},
        UserDict({"loss": 0.5}),
        {},
    ],
    ids=lambda metrics: "-".join(map(ascii, metrics)),
)
def test_a_line_has_the_same_values_with_orjson_and_without(metrics: Mapping[str, object]) -> None:
    """Bug: null for NaN, a line that is refused, or another number, because a package is installed."""
    pytest.importorskip("orjson")
    assert line_encoder() is not encode_line
    line, expected = line_encoder()(metrics), encode_line(metrics)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert json.loads(line, object_pairs_hook=repr) == json.loads(expected, object_pairs_hook=repr)
    assert line.count(b'"') == expected.count(b'"')  # by which its keys are known to be of numbers


@pytest.mark.parametrize(
    "value",
    [object(), datetime.date(2026, 1, 1), {1, 2}, b"bytes", Decimal(1), ArtifactError()],
    ids=lambda value: type(value).__name__,
)
def test_what_is_refused_without_orjson_is_refused_with_it(value: object) -> None:
    """Bug: a date that is text on one machine, and an error on the next."""
    pytest.importorskip("orjson")
    for encode in (encode_line, line_encoder()):
        with pytest.raises(TypeError, match="neither a number nor a string"):
            encode({"x": value})


def test_what_is_neither_number_nor_string_is_refused_by_name_and_nothing_is_written(run: Run) -> None:
    """Bug: str(object) in a metric file, or half a line."""
    run.log_metrics({"a": 1}, log_name="train")
    with pytest.raises(TypeError, match="object"):
        run.log_metrics({"a": object()}, log_name="train")
    run.log_metrics({"a": 2}, log_name="train")
    assert lines(run) == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize("name", ["", "a/b", "../x", ".keys"])
def test_a_log_name_that_leaves_the_folder_is_refused(run: Run, name: str) -> None:
    """Bug: a metric file outside of its run."""
    with pytest.raises(MetricsError, match="log_name"):
        run.log_metrics({"a": 1}, log_name=name)


def test_the_keys_of_a_log_are_listed_beside_it_each_once(run: Run) -> None:
    """Bug: a reader that must open every metric file to know its columns; None taken for a text."""
    run.log_metrics({"loss": None}, log_name="train")
    run.log_metrics({"loss": 1.0}, log_name="train")
    run.log_metrics({"loss": math.nan, "late": "text"}, log_name="train")
    run.log_metrics({"loss": 2, "late": "text"}, log_name="train")
    keys = (run.dir / "metrics" / ".keys" / "train.json").read_text().splitlines()
    assert [json.loads(key) for key in keys] == [["loss", "number"], ["late", "other"]]


def test_a_line_cut_short_by_a_full_disk_does_not_swallow_the_next(run: Run) -> None:
    """Bug: `{"a": 1}{"a": 2}` after a restart."""
    (run.dir / "metrics").mkdir(parents=True)
    (run.dir / "metrics" / "train.json").write_text('{"a": 1}\n{"a": 2')
    run.log_metrics({"a": 3}, log_name="train")
    written = (run.dir / "metrics" / "train.json").read_text()
    assert written.replace('"a":3', '"a": 3') == '{"a": 1}\n{"a": 2\n{"a": 3}\n'  # orjson puts no spaces


def test_every_call_that_returned_survives_sigkill(tmp_path: Path) -> None:
    """Bug: a buffer. The program says how many calls have returned, and is killed in the middle of the next."""
    program = f"""
import os, sys
from mlxp_core import start_run
with start_run({str(tmp_path)!r}, {{}}) as run:
    for step in range(10**9):
        run.log_metrics({{"loss": step / 7, "step": step}}, log_name="train")
        os.write(1, b"%d\\n" % step)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        for _ in range(2000):
            process.stdout.readline()
        process.kill()
        returned = [int(line) for line in process.stdout.read().split(b"\n")[:-1]]  # the last may be cut
    written = (tmp_path / "1" / "metrics" / "train.json").read_bytes().split(b"\n")[:-1]
    assert len(written) >= max(returned, default=1999) + 1
    assert [json.loads(line)["step"] for line in written] == list(range(len(written)))


def test_a_number_that_becomes_text_is_noted(tmp_path: Path) -> None:
    """Bug: the type is that of the first line for good, and nobody who looks at the list of keys hears of the text."""
    with start_run(tmp_path, {}) as run:
        for value in (1, 2.5, None, np.float32(3), "diverged", 4):
            run.log_metrics({"a": value, "b": 1}, log_name="train")
    keys = run.layout.metric_keys_file("train").read_text().splitlines()
    assert keys == ['["a", "number"]', '["b", "number"]', '["a", "other"]']
    (column,) = scan_runs(tmp_path).collect()["train.a"].to_list()
    assert column == [1.0, 2.5, None, 3.0, None, 4.0]
    with start_run(tmp_path, {}) as run:
        for value in (1, np.array([2.0, 3.0])):
            run.log_metrics({"c": value}, log_name="train")
    assert scan_runs(tmp_path).collect()["train.c"].to_list()[1] == [1.0, None]


def open_descriptors() -> int:
    return len(os.listdir("/dev/fd"))


def test_a_run_with_many_logs_gives_their_descriptors_back(run: Run) -> None:
    """Bug: two descriptors for each name, for ever: `Too many open files` at the 510th; or each key listed again."""
    run.log_metrics({"loss": 0}, log_name="first")
    before = open_descriptors()
    for step in range(2):
        for number in range(300):
            run.log_metrics({"step": step, "loss": None if step else 0.5}, log_name=f"layer-{number}")
    assert open_descriptors() - before < 100
    assert all(lines(run, f"layer-{n}") == [{"step": 0, "loss": 0.5}, {"step": 1, "loss": None}] for n in range(300))
    assert (run.dir / "metrics" / ".keys" / "layer-7.json").read_text().count("\n") == 2
    run.close()
    assert open_descriptors() < before


def test_a_line_of_a_thread_never_gets_into_another_threads_log(run: Run) -> None:
    """Bug: a file that is given back while a thread is about to write to it, whose number another one has by then."""
    logs = [f"layer-{number}" for number in range(80)]

    def work(thread: int) -> None:
        for step in range(10):
            for log_name in logs[thread::4] + logs[:20]:
                run.log_metrics({"log": log_name, "step": step, "thread": thread}, log_name=log_name)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {row["log"] for name in logs for row in lines(run, name) if row["log"] != name} == set()
    assert sum(len(lines(run, name)) for name in logs) == 4 * 10 * (20 + 20)


class Key(str, enum.Enum):
    LOSS = "loss"


class Kind(enum.Enum):
    A = 1


def test_a_key_has_one_spelling_in_the_line_the_list_and_the_column(tmp_path: Path) -> None:
    """Bug: `true` in the line and `True` in the list: the column is null, and nothing says so; `null` and `None`."""
    keys = [Key.LOSS, True, None, 3, 2.5, np.int64(7), np.str_("text"), (1, 2), Kind.A, b"x", np.float32(0.5)]
    names = ["loss", "true", "null", "3", "2.5", "7", "text", "(1, 2)", "Kind.A", "b'x'", "0.5"]
    with start_run(tmp_path, {}) as run:
        for value in (1.0, math.nan):  # which takes another way
            run.log_metrics(dict.fromkeys(keys, value), log_name="all")
            for key in keys:
                run.log_metrics({key: value}, log_name="each")
            run.log_metrics({"in": dict.fromkeys(keys, value)}, log_name="nested")
    assert [list(line) for line in lines(run, "all")] == [names, names]
    assert [key for line in lines(run, "each")[: len(keys)] for key in line] == names
    assert [list(line["in"]) for line in lines(run, "nested")] == [names, names]
    for log_name in ("all", "each"):
        listed = (run.dir / "metrics" / ".keys" / f"{log_name}.json").read_text().splitlines()
        assert [json.loads(line) for line in listed] == [[name, "number"] for name in names]
        frame = scan_runs(tmp_path).collect()
        assert [len(frame[f"{log_name}.{name}"][0].drop_nulls()) for name in names] == [2] * len(names)


@pytest.mark.parametrize(
    "metrics", [{1: 0.5, "1": 1.5}, {"true": 1, True: 2}, {None: 1, "null": 2}, {Path("a"): 1, "a": 2}]
)
def test_two_keys_of_one_spelling_are_refused_whenever_they_come(run: Run, metrics: dict[object, float]) -> None:
    """Bug: `{"1": 0.5, "1": 1.5}` in the line, of which a reader keeps one in silence."""
    for _ in range(2):
        with pytest.raises(MetricsError, match=r"log 'train': the keys .* are both written .*: rename one of them"):
            run.log_metrics(metrics, log_name="train")
        assert lines(run) == []
        (run.dir / "metrics" / "train.json").write_bytes(b"")
    for key, value in metrics.items():
        run.log_metrics({key: value}, log_name="other")
    with pytest.raises(MetricsError, match="both written"):
        run.log_metrics(metrics, log_name="other")  # each is known by now
    assert len(lines(run, "other")) == 2


@pytest.mark.parametrize("name", ["config", "info", "artifact", "config.model", "info.x"])
def test_a_log_whose_columns_are_taken_is_refused(run: Run, name: str) -> None:
    """Bug: metrics that are written and then hidden behind the configuration, said by the reader and to nobody."""
    with pytest.raises(MetricsError, match=f"use another name, such as '{name}_metrics'"):
        run.log_metrics({"lr": 1}, log_name=name)
    run.log_metrics({"lr": 1}, log_name=f"{name.partition('.')[0]}_metrics")


def test_a_refused_value_is_named_by_its_key_and_its_log(run: Run) -> None:
    """Bug: `Type is not JSON serializable: Figure`, of which of forty keys in which of three logs?"""
    run.log_metrics({"a": 1, "b": {"c": [1]}}, log_name="train")
    for metrics, place in (
        ({"a": object()}, "metrics['a']"),
        ({"b": {"c": [1, {2}]}}, "metrics['b']['c'][1]"),
        ({"new": datetime.date(2026, 1, 1)}, "metrics['new']"),
        ({"a": Kind.A}, "metrics['a']"),
        ({"a": uuid.UUID(int=1)}, "metrics['a']"),
        ({"a": np.array([b"x"])}, "metrics['a'][0]"),
    ):
        with pytest.raises(MetricsError, match=re.escape(f"{place} of log 'train': ")) as error:
            run.log_metrics(metrics, log_name="train")
        assert isinstance(error.value, TypeError)
        assert "neither a number nor a string" in str(error.value)
    assert len(lines(run)) == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((0.3, "loss"), "write run.log_metrics({\"loss\": 0.3}, log_name='loss')"),
        (([0.3], "loss"), 'not list: write run.log_metrics({"loss": …}'),
        (("abc", "loss"), "not str: write run.log_metrics("),
        ((np.float32(0.5), "loss"), "not float32: write run.log_metrics("),
        ((None, "loss"), "not NoneType: write run.log_metrics("),
        (({"loss": 1}, 3), "log_name=3 is no text but int: write log_name='3'"),
        (({"loss": 1}, None), "log_name=None is no text"),
        (("train", {"loss": 1}), 'write run.log_metrics({"loss": 0.1}, log_name="train"), the metrics first'),
    ],
    ids=repr,
)
def test_a_call_that_is_mistaken_is_told_what_to_write(run: Run, arguments: tuple[Any, Any], sentence: str) -> None:
    """Bug: `object of type 'float' has no len()`, or the letters of a text taken for keys."""
    for _ in range(2):  # also where the log is open
        with pytest.raises(MetricsError, match=re.escape(sentence)) as error:
            run.log_metrics(*arguments)
        assert isinstance(error.value, TypeError)
        run.log_metrics({"loss": 1}, log_name=Key.LOSS)
    assert lines(run, "loss") == [{"loss": 1}, {"loss": 1}]


def test_what_is_masked_or_missing_is_null(tmp_path: Path) -> None:
    """Bug: 0.0 for numpy's masked value, which item() gives; a column of text for a number that was missing once."""
    with start_run(tmp_path, {}) as run:
        run.log_metrics({"a": np.ma.masked, "b": 1}, log_name="train")
        run.log_metrics({"a": 2.0, "b": np.ma.array([3], mask=[True])[0]}, log_name="train")
        run.log_metrics({"v": np.ma.array([1.0, 2.0], mask=[False, True])}, log_name="train")
    assert lines(run) == [{"a": None, "b": 1}, {"a": 2.0, "b": None}, {"v": [1.0, None]}]
    frame = scan_runs(tmp_path).collect()
    assert (frame["train.a"].to_list(), frame["train.b"].to_list()) == ([[None, 2.0, None]], [[1.0, None, None]])


@pytest.mark.parametrize("value", [2**53 + 1, -(2**53) - 1, 2**63 - 1, 2**64 - 1, 10**30 + 1])
def test_whole_numbers_keep_their_digits(run: Run, value: int) -> None:
    """Bug: 9007199254740993 written as a float, by one of the two writers or on the way of what is not finite."""
    for metrics in ({"n": value}, {"n": value, "x": math.nan}, {"n": [value]}, {"n": {"m": value}}):
        for encode in (encode_line, line_encoder()):
            assert str(value) in encode(metrics).decode()
    if value < 2**63:
        assert str(value) in encode_line({"n": np.int64(value)}).decode()

"""Metric columns: what the lines of a metric file become."""

from __future__ import annotations

import math

import polars as pl
import pytest

from mlxp_core.reader import Reader, scan_runs
from mlxp_core.reader.load.metrics import list_logs


def column(logs, name):
    return scan_runs(logs.path).collect()[name].to_list()


def test_non_finite_numbers_survive(logs):
    """Catches: a diverged loss read as null, or a column that turns into text because of it."""
    logs.run(1, metrics={"train": [{"loss": "NaN"}, {"loss": "Infinity"}, {"loss": "-Infinity"}, {"loss": 1}]})
    assert scan_runs(logs.path).collect_schema()["train.loss"] == pl.List(pl.Float64)
    ((first, *rest),) = column(logs, "train.loss")
    assert math.isnan(first)
    assert rest == [math.inf, -math.inf, 1.0]


def test_an_integer_that_becomes_a_float_is_no_break(logs):
    """Catches: a type taken from the first line."""
    logs.run(1, metrics={"train": [{"loss": 1}, {"loss": 0.5}, {"loss": True}]})
    assert column(logs, "train.loss") == [[1.0, 0.5, 1.0]]


def test_a_key_that_appears_late_is_null_before(logs):
    """Catches: values that move to other lines, so that two keys of a log no longer belong together."""
    logs.run(1, metrics={"train": [{"loss": 1}, {"loss": 2, "acc": 0.5}, {"acc": 0.75}]})
    assert column(logs, "train.loss") == [[1.0, 2.0, None]]
    assert column(logs, "train.acc") == [[None, 0.5, 0.75]]


def test_a_run_without_the_metric_has_no_list(logs):
    """Catches: "never logged" that looks like "logged nothing yet"."""
    logs.run(1, metrics={"train": [{"loss": 1}]})
    logs.run(2, metrics={"train": [{"acc": 1}]})
    logs.run(3)
    logs.run(4, metrics={"train": []})
    assert column(logs, "train.loss") == [[1.0], None, None, []]


@pytest.mark.parametrize("torn", ['{"loss": 2', '{"loss": 2}', '{"lo', "\x00\x00"])
def test_a_torn_last_line_is_not_read_and_is_no_problem(logs, torn):
    """Catches: a run that is writing now reported as broken, or half a number taken for a whole one."""
    logs.run(1, metrics={"train": [{"loss": 1}, torn]})
    reader = Reader(logs.path)
    assert reader.filter().collect()["train.loss"].to_list() == [[1.0]]
    assert reader.problems == []


@pytest.mark.parametrize("garbage", ["{{{\n", "[1]\n", "7\n", "\x00\n", '{"loss": 2}{"loss": 3}\n', "[" * 9999 + "\n"])
def test_a_garbage_line_is_skipped_and_reported(logs, garbage):
    """Catches: one bad line that loses the file, or that is passed over in silence."""
    logs.run(1, metrics={"train": [{"loss": 1}, garbage, {"loss": 2}]})
    reader = Reader(logs.path)
    assert reader.filter().collect()["train.loss"].to_list() == [[1.0, 2.0]]
    assert [str(problem) for problem in reader.problems] == [
        f"{logs.path}/1/metrics/train.json: 1 line is no JSON object and was skipped"
    ]


def test_broken_lines_that_are_json_together_are_garbage_each(logs):
    """Catches: lines parsed all at once, where two halves make one object and one line makes two."""
    lines = ['{"loss": [1\n', "2]}\n", '{"loss": 3}, {"loss": 4}\n', {"loss": 5}]
    logs.run(1, metrics={"train": lines})
    logs.run(2, metrics={"train": [*lines[:2], '{"loss": 3},"-- next line --",{"loss": 4}\n', {"loss": 5}]})
    reader = Reader(logs.path)
    assert reader.filter().collect()["train.loss"].to_list() == [[5.0], [5.0]]
    assert [problem.what[:7] for problem in reader.problems] == ["3 lines", "3 lines"]


def test_line_separators_inside_a_string_do_not_end_a_line(logs):
    """Catches: splitting at what Python, but not JSON Lines, takes for an end of line."""
    logs.run(1, metrics={"train": ['{"note": "a\u2028b\x85c"}\n', '{"note": "d"}\n']}, keys=False)
    assert column(logs, "train.note") == [["a\u2028b\x85c", "d"]]


def test_bytes_that_are_not_utf8_spoil_only_their_line(logs):
    """Catches: a file given up for one bad byte."""
    run = logs.run(1, metrics={"train": [{"loss": 1}]})
    (run / "metrics/train.json").write_bytes(b'{"loss": 1}\n{"loss": "\xff"}\n{"loss": 3}\n')
    assert column(logs, "train.loss") == [[1.0, 3.0]]


def test_a_number_column_has_null_for_what_is_no_number(logs):
    """Catches: a crash, or the whole column turned to text after it was said to be numbers."""
    run = logs.run(1)
    logs.log(run, "train", [{"loss": 1}, {"loss": "bad"}, {"loss": None}, {"loss": [2]}], keys=False)
    (run / "metrics/.keys/train.json").write_text('["loss", "number"]\n')
    assert column(logs, "train.loss") == [[1.0, None, None, None]]


def test_a_key_with_other_values_alone_in_most_runs_is_text_in_all(logs):
    """Catches: a type taken from the first run; or texts of many runs lost for a number in one."""
    numbers, others = [{"note": 1.5}, {"note": True}], [{"note": "a"}, {"note": {"b": [1]}}, {"note": None}]
    for number, lines in enumerate([numbers, others, others, [{"note": "a"}, {"note": 2}], others], 1):
        logs.run(number, metrics={"train": lines})
    text = ["a", '{"b": [1]}', None]
    assert column(logs, "train.note") == [["1.5", "true"], text, text, ["a", "2"], text]


@pytest.mark.parametrize("lines", [[{"note": "a"}, {"note": 2}], [{"note": 2}, {"note": "a"}]])
def test_a_key_with_numbers_and_other_values_in_one_run_is_of_numbers(logs, lines):
    """Catches: the last word of a list of keys taken for the only one."""
    logs.run(1, metrics={"train": lines})
    assert sorted(column(logs, "train.note")[0], key=str) == [2.0, None]


def test_integers_beyond_every_float_become_infinite(logs):
    """Catches: an OverflowError on a number that JSON allows."""
    logs.run(1, metrics={"train": [{"n": 10**400}, {"n": -(10**400)}]})
    assert column(logs, "train.n") == [[math.inf, -math.inf]]


def test_tokens_that_json_does_not_have_are_read_all_the_same(logs):
    """Catches: files of MLXP and of json.dumps, which write NaN bare, taken for garbage."""
    logs.run(1, metrics={"train": ['{"loss": NaN}\n', '{"loss": -Infinity}\n']}, keys=False)
    ((first, second),) = column(logs, "train.loss")
    assert math.isnan(first)
    assert second == -math.inf


def test_without_a_list_of_keys_the_metric_file_tells_them(logs):
    """Catches: metrics that do not exist for the reader because another writer wrote them."""
    logs.run(1, metrics={"train": [{"loss": 1}, {"note": "x"}]}, keys=False)
    schema = scan_runs(logs.path).collect_schema()
    assert schema["train.loss"] == pl.List(pl.Float64)
    assert schema["train.note"] == pl.List(pl.String)


def test_keys_hold_any_characters(logs):
    """Catches: keys with dots, quotes, spaces or no ASCII lost or split."""
    keys = ["a.b", "größe", "损失", "with space", 'quo"te', ""]
    logs.run(1, metrics={"train": [dict.fromkeys(keys, 1)]})
    frame = scan_runs(logs.path).collect()
    assert [frame[f"train.{key}"].to_list() for key in keys] == [[[1.0]]] * len(keys)


def test_of_two_metrics_with_one_name_one_is_left_out_and_named(logs):
    """Catches: log a.b with key c and log a with key b.c, which would be two columns of one name."""
    logs.run(1, metrics={"a.b": [{"c": 1}], "a": [{"b.c": 2}]})
    assert column(logs, "a.b.c") == [[2.0]]
    assert [str(problem) for problem in Reader(logs.path).problems] == [
        "a.b.c: the name is taken: key 'c' of log 'a.b' is in no column"
    ]


def test_a_folder_in_place_of_a_metric_file_is_no_log(logs):
    """Catches: an IsADirectoryError from one odd run."""
    run = logs.run(1, metrics={"train": [{"loss": 1}]})
    (run / "metrics/val.json").mkdir()
    assert scan_runs(logs.path).collect().columns == ["id", "path", "info.status", "train.loss"]


def test_a_log_is_a_json_file_that_is_not_hidden(tmp_path):
    """Catches: a column for a file that is being written, for a user's notes, or for the lists of keys."""
    for name in ("val.json", "a b.json", ".json", ".train.json-x1", ".hidden.json", "train.json.swp", "notes"):
        (tmp_path / "metrics" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "metrics" / name).touch()
    (tmp_path / "metrics" / "test.json").mkdir()
    (tmp_path / "metrics" / ".keys").mkdir()
    assert list_logs(str(tmp_path)) == (["a b", "val"], ["test"])
    (tmp_path / "file").mkdir()
    (tmp_path / "file" / "metrics").touch()
    assert [list_logs(str(tmp_path / name)) for name in ("none", "file")] == [([], []), ([], [])]


def test_a_metric_file_that_goes_away_leaves_null(logs):
    """Catches: a crash when a run is deleted between two looks."""
    run = logs.run(1, metrics={"train": [{"loss": 1}]})
    frame = scan_runs(logs.path)
    (run / "metrics/train.json").unlink()
    assert frame.collect()["train.loss"].to_list() == [None]

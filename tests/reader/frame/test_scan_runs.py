"""scan_runs: rows, columns, types, and what becomes of broken folders."""

from __future__ import annotations

import json
import math
import os
import socket
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxp_core.errors import SchemaChangedError, StoreError
from mlxp_core.reader import Reader, scan_runs
from mlxp_core.reader.load import file_cache


def one_column(logs, name):
    return scan_runs(logs.path).collect()[name].to_list()


def test_a_run_is_a_row_with_nested_names_joined_by_dots(logs):
    """Catches: lost nesting, a wrong prefix, lost rows, columns in another order than promised."""
    logs.run(1, {"optimizer": {"lr": 0.5, "name": "sgd"}, "seed": 3}, {"status": "FAILED", "hostname": "n1"})
    frame = scan_runs(logs.path).collect()
    expected = pl.DataFrame(
        {
            "id": [1],
            "path": [str(logs.path / "1")],
            "info.status": ["FAILED"],
            "info.hostname": ["n1"],
            "config.optimizer.lr": [0.5],
            "config.optimizer.name": ["sgd"],
            "config.seed": [3],
        }
    )
    assert frame.equals(expected)
    assert frame.schema == expected.schema


def test_runs_are_ordered_by_id_and_then_by_name(logs):
    """Catches: order of the file system, or of text: 10 before 9."""
    for name in ("10", "b", "9", "a", "007"):
        logs.run(name)
    frame = scan_runs(logs.path).collect()
    assert frame["id"].to_list() == [9, 10, None, None, None]
    assert [Path(path).name for path in frame["path"]] == ["9", "10", "007", "a", "b"]


def test_folders_that_are_no_runs_are_left_out(logs):
    """Catches: the package's own folder, files, or half-made folders taken for runs."""
    logs.run(1)
    logs.run(".mlxp")
    (logs.path / "2/metadata").mkdir(parents=True)
    (logs.path / "notes.txt").write_text("x")
    assert one_column(logs, "id") == [1]
    assert len(Reader(logs.path)) == 1


@pytest.mark.parametrize(
    ("values", "dtype", "cells"),
    [
        ([1, 2], pl.Int64, [1, 2]),
        ([1, 0.5], pl.Float64, [1.0, 0.5]),
        ([True, False], pl.Boolean, [True, False]),
        (["a", None], pl.String, ["a", None]),
        ([None, None], pl.String, [None, None]),
        ([1, "a"], pl.String, ["1", "a"]),
        ([True, 0.5], pl.String, ["true", "0.5"]),
        ([True, 1], pl.String, ["true", "1"]),
        ([2**70, 1], pl.String, ["1180591620717411303424", "1"]),
        ([[1, 2], [3]], pl.List(pl.Int64), [[1, 2], [3]]),
        ([[1, None], [0.5]], pl.List(pl.Float64), [[1.0, None], [0.5]]),
        ([[], ["a"]], pl.List(pl.String), [[], ["a"]]),
        ([[True], None], pl.List(pl.Boolean), [[True], None]),
        ([[1], ["a"]], pl.String, ["[1]", '["a"]']),
        ([[1, "a"], ["b"]], pl.String, ['[1, "a"]', '["b"]']),
        ([[{"a": float("nan")}], None], pl.String, ['[{"a": "NaN"}]', None]),
        ([[1], 1], pl.String, ["[1]", "1"]),
    ],
)
def test_a_column_has_the_one_type_that_holds_all_its_values(logs, values, dtype, cells):
    """Catches: a type taken from the first run, integers that stay integers beside floats, mixes that crash."""
    for place, value in enumerate(values, 1):
        logs.run(place, {"x": value})
    frame = scan_runs(logs.path).collect()
    assert frame.schema["config.x"] == dtype
    assert frame["config.x"].to_list() == cells


def test_non_finite_numbers_in_a_configuration_stay_numbers(logs):
    """Catches: `.nan` or `.inf` of YAML turned into null or text."""
    logs.run(1, {"x": math.nan, "y": -math.inf})
    row = scan_runs(logs.path).collect().row(0, named=True)
    assert math.isnan(row["config.x"])
    assert row["config.y"] == -math.inf


def test_dates_are_iso_text(logs):
    """Catches: YAML's own time stamps, which are no strings, crashing the column or being dropped."""
    run = logs.run(1)
    (run / "metadata/config.yaml").write_text("day: 2026-01-02\ntime: 2026-01-02 03:04:05\n")
    row = scan_runs(logs.path).collect().row(0, named=True)
    assert (row["config.day"], row["config.time"]) == ("2026-01-02", "2026-01-02T03:04:05")


def test_unicode_dots_and_numbers_in_keys_make_columns(logs):
    """Catches: keys taken to be ASCII identifiers; a number as a key; an escape of the name."""
    logs.run(1, {"größe": {"学习 率": 1}, 3: {True: "x"}})
    assert set(scan_runs(logs.path).collect_schema()) >= {"config.größe.学习 率", "config.3.true"}


@pytest.mark.parametrize("config", [{"a": {"b": 1}, "a.b": 2}, {"a.b": 2, "a": {"b": 1}}])
def test_of_two_values_with_one_name_the_deeper_counts_and_a_problem_says_so(logs, config):
    """Catches: a column that means one thing in one run and another in the next, by the order in the file."""
    logs.run(1, config)
    assert one_column(logs, "config.a.b") == [1]
    assert [problem.what for problem in Reader(logs.path).problems] == [
        "two values claim config.a.b; the deeper one counts"
    ]


@pytest.mark.parametrize(
    "garbage",
    [
        b"a: [1",
        b"\xff\xfe\x00",
        b"",
        b"just text",
        b"- 1\n",
        b"a: !!python/object/apply:os.system ['touch /tmp/owned']",
        b"a: !!bool x",
        b"a: !!timestamp x",
        b"a: !!int ''",
        b"a: 2024-99-99",
        b"a: &x [*x]",
        b"a: &x {b: *x}",
        (
            b"a: &a [1,1,1,1,1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\n"
            b"c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\n"
            b"e: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e]"
        ),
    ],
)
@pytest.mark.parametrize("file", ["config", "info"])
def test_a_corrupt_yaml_leaves_the_row_and_is_reported(logs, file, garbage):
    """Catches: one bad file that takes the table down, a run that vanishes without a word, code that is executed."""
    logs.run(1, {"x": 1})
    bad = logs.run(2, {"x": 2}, {"status": "COMPLETE", "hostname": "n2"}) / f"metadata/{file}.yaml"
    bad.write_bytes(garbage)
    frame = scan_runs(logs.path).collect()
    assert frame["id"].to_list() == [1, 2]
    assert frame["config.x"].to_list() == ([1, None] if file == "config" else [1, 2])
    assert frame["info.status"].to_list() == (["COMPLETE", None] if file == "info" else ["COMPLETE", "COMPLETE"])
    (problem,) = Reader(logs.path).problems
    assert problem.path == str(bad)
    assert problem.what.startswith("cannot be read: ")


def test_what_scan_runs_cannot_read_is_logged(logs, caplog):
    """Catches: silence where there is no Reader to ask."""
    (logs.run(1) / "metadata/config.yaml").write_text("a: [")
    scan_runs(logs.path)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert str(logs.path / "1/metadata/config.yaml") in record.getMessage()


def test_a_pipe_in_place_of_a_file_does_not_hang_the_reader(logs):
    """Catches: opening whatever has the name."""
    run = logs.run(1)
    (run / "metadata/config.yaml").unlink()
    os.mkfifo(run / "metadata/config.yaml")
    assert one_column(logs, "id") == [1]


def test_a_missing_log_directory_is_named(tmp_path):
    """Catches: an empty table for a mistyped path."""
    for read in (scan_runs, Reader):
        with pytest.raises(StoreError, match=r"cannot read the log directory .*nowhere: No such file") as error:
            read(tmp_path / "nowhere")
        assert isinstance(error.value, OSError)


def test_a_file_in_place_of_the_log_directory_is_an_error(tmp_path):
    """Catches: an empty table for the path of a file."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="Not a directory"):
        scan_runs(tmp_path / "file")


def test_an_empty_log_directory_is_an_empty_table(logs):
    """Catches: a crash where nothing was launched yet."""
    frame = scan_runs(logs.path).collect()
    assert frame.schema == {"id": pl.Int64, "path": pl.String, "info.status": pl.String}
    assert frame.height == 0
    assert len(Reader(logs.path).filter()) == 0


def test_status_is_what_the_whole_folder_says(logs):
    """Catches: the raw field of info.yaml shown as the status, so that a killed run says RUNNING for ever."""
    for name in range(1, 6):
        logs.run(name, info={"status": "RUNNING", "hostname": "elsewhere"})
    (logs.path / "1/metadata/exit_code").write_text("0\n")
    (logs.path / "2/metadata/exit_code").write_text("137\n")
    (logs.path / "3/metadata/submission.yaml").write_text("state: TIMEOUT\n")
    (logs.path / "4/metadata/exit_code").write_text("")
    (logs.path / "5/metadata/submission.yaml").write_text("state: [odd]\n")
    # a process that was started before this one has this pid, so the run's own is gone
    logs.run(
        6, info={"status": "RUNNING", "hostname": socket.gethostname(), "process_id": os.getpid(), "process_start": 1}
    )
    logs.run(7, info={"status": ["odd"]})
    expected = ["COMPLETE", "FAILED", "TIMEOUT", "RUNNING", "RUNNING", "LOST", "PENDING"]
    assert one_column(logs, "info.status") == expected


@pytest.mark.parametrize("status", [7, ["odd"], {"a": 1}, "UNHEARD OF", None])
def test_a_status_that_is_none_is_pending_and_leaves_no_column_of_its_own(logs, status):
    """Catches: the raw field deciding the type of the column, or making others beside it."""
    logs.run(1, info={"status": status})
    frame = scan_runs(logs.path).collect()
    assert frame.columns == ["id", "path", "info.status"]
    assert frame["info.status"].to_list() == ["PENDING"]


def test_a_frame_shows_new_runs_and_new_status_when_it_is_collected(logs):
    """Catches: answers kept from the time the frame was built."""
    run = logs.run(1, {"x": 1}, {"status": "RUNNING", "hostname": "elsewhere"})
    frame = scan_runs(logs.path)
    assert frame.collect()["info.status"].to_list() == ["RUNNING"]
    logs.run(2, {"x": 2, "unseen": 1})
    (run / "metadata/info.yaml").write_text("status: FAILED\n")
    later = frame.collect()
    assert later["info.status"].to_list() == ["FAILED", "COMPLETE"]
    assert later["config.x"].to_list() == [1, 2]
    assert "config.unseen" not in later.columns
    assert "config.unseen" in scan_runs(logs.path).collect_schema()


def test_a_value_that_no_longer_fits_its_column_is_an_error_that_says_so(logs):
    """Catches: null or a wrong value for a run that came after the frame was built."""
    logs.run(1, {"x": 1})
    frame = scan_runs(logs.path)
    logs.run(2, {"x": "auto"})
    with pytest.raises(
        SchemaChangedError, match=r"config.x is 'auto' in run 2, but the column was Int64 .* call scan_runs"
    ):
        frame.collect()
    assert frame.select("id").collect()["id"].to_list() == [1, 2]


def test_a_run_that_is_deleted_is_gone(logs):
    """Catches: metadata remembered for folders that are not there any more."""
    run = logs.run(1)
    logs.run(2)
    frame = scan_runs(logs.path)
    assert frame.collect().height == 2
    (run / "metadata/info.yaml").unlink()
    assert frame.collect()["id"].to_list() == [2]


def test_a_file_is_not_parsed_again_until_it_changes(logs, monkeypatch):
    """Catches: 10,000 YAML files parsed at every look; and a cache that does not see an edit of the same length."""
    run = logs.run(1, {"x": 1}, {"status": "RUNNING", "hostname": "elsewhere"})
    config = run / "metadata/config.yaml"
    monkeypatch.setattr(file_cache, "RACY_NS", 0)  # nothing counts as just written
    opened = []
    frame = scan_runs(logs.path)
    frame.collect()
    from mlxp_core.reader.load import run as folders

    load, folders._load_yaml = folders._load_yaml, lambda path: opened.append(path) or load(path)
    try:
        assert frame.collect()["config.x"].to_list() == [1]
        assert opened == []
        config.write_text("x: 2\n")
        assert frame.collect()["config.x"].to_list() == [2]
        assert opened == [str(config)]
    finally:
        folders._load_yaml = load


def test_a_file_rewritten_within_the_same_tick_is_read_again(logs):
    """Catches: trust in a time stamp that two versions of a file share."""
    config = logs.run(1, {"x": 1}) / "metadata/config.yaml"
    frame = scan_runs(logs.path)
    assert frame.collect()["config.x"].to_list() == [1]
    stat = config.stat()
    config.write_text("x: 2\n")  # in place: the same inode, the same size
    os.utime(config, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert frame.collect()["config.x"].to_list() == [2]


def test_two_hundred_runs_are_all_there_with_their_own_values(logs):
    """Catches: runs mixed up or lost where they are read in batches."""
    for number in range(1, 201):
        logs.run(number, {"x": number * 2}, metrics={"train": [{"loss": number}, {"loss": number + 0.5}]})
    for engine in ("in-memory", "streaming"):
        frame = scan_runs(logs.path).collect(engine=engine)
        assert frame["id"].to_list() == list(range(1, 201))
        assert frame["config.x"].to_list() == list(range(2, 401, 2))
        assert frame["train.loss"].to_list() == [[float(number), number + 0.5] for number in range(1, 201)]


def test_reading_writes_nothing(logs):
    """Catches: an index or a lock left in the user's log directory."""
    logs.run(1, {"x": 1}, metrics={"train": [{"loss": 1}]})
    before = sorted(logs.path.rglob("*"))
    reader = Reader(logs.path)
    reader.filter("config.x == 1").group_by("config.x").aggregate([]).collect()
    scan_runs(logs.path).collect()
    assert (reader.problems, len(reader), reader.fields.height) == ([], 1, 5)
    assert sorted(logs.path.rglob("*")) == before


def test_a_field_that_two_sources_claim_stays_metadata(logs):
    """Catches: two columns of one name, which Polars refuses, for a log called config."""
    logs.run(1, {"x": 1}, metrics={"config": [{"x": 5, "y": 6}]})
    frame = scan_runs(logs.path).collect()
    assert frame["config.x"].to_list() == [1]
    assert frame["config.y"].to_list() == [[6.0]]
    assert len(Reader(logs.path).problems) == 1


def test_names_that_are_no_text_do_not_break_the_table(logs):
    """Catches: a folder name that is not UTF-8, which no Polars column can hold, or a lone surrogate in JSON."""
    logs.run(1, metrics={"train": [json.dumps({"\ud800": "\udfff"}) + "\n"]}, keys=False)
    logs.run("x").rename(os.fsdecode(os.fsencode(logs.path / "x") + b"\xff"))
    frame = scan_runs(logs.path).collect()
    assert frame.height == 2
    assert frame["train.\\ud800"].to_list() == [["\\udfff"], None]


@given(
    config=st.binary(max_size=60),
    info=st.binary(max_size=60) | st.sampled_from([b"status: COMPLETE", b"status: [a]", b"process_id: x"]),
    others=st.lists(st.binary(max_size=40), min_size=4, max_size=4),
)
@settings(max_examples=150, deadline=None)
@pytest.mark.filterwarnings("ignore")  # what libyaml says of odd text is not the matter here
def test_no_bytes_in_any_file_stop_the_reader(new_logs, config, info, others):
    """Catches: an exception that a parser may raise and nobody thought of."""
    logs = new_logs()
    run = logs.run(1, metrics={"train": []})
    good = logs.run(2, {"x": 1})
    (run / "metadata/config.yaml").write_bytes(config)
    (run / "metadata/info.yaml").write_bytes(info)
    names = ["metrics/train.json", "metrics/.keys/train.json", "metadata/exit_code", "metadata/submission.yaml"]
    for name, content in zip(names, others, strict=True):
        (run / name).write_bytes(content)
    reader = Reader(logs.path)
    frame = reader.filter().collect()
    assert frame["path"].to_list() == [str(run), str(good)]
    assert frame["config.x"].to_list()[1] is not None
    assert isinstance(reader.problems, list)

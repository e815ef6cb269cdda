"""scan_runs: rows and columns, and a directory that changes between building and collecting a frame."""

from __future__ import annotations

import json
import os

import polars as pl
import pytest

from mlxp_core.errors import SchemaChangedError
from mlxp_core.reader import Reader, scan_runs


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


def test_what_scan_runs_cannot_read_is_logged(logs, caplog):
    """Catches: silence where there is no Reader to ask."""
    (logs.run(1) / "metadata/config.yaml").write_text("a: [")
    scan_runs(logs.path)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert str(logs.path / "1/metadata/config.yaml") in record.getMessage()


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


def test_a_metric_that_polars_takes_for_a_pattern_is_a_problem_and_no_other(logs):
    """Bug: `pl.col("^x.a$")` selects other columns in silence; or a metric like `^x.a` is left out, too."""
    logs.run(1, metrics={"^x": [{"a$": 1, "a": 2}], "x": [{"a$": 3}]})
    assert (logs.column("^x.a"), logs.column("x.a$")) == ([[2.0]], [[3.0]])
    assert "^x.a$" not in scan_runs(logs.path).collect_schema()
    assert [(problem.path, problem.what) for problem in Reader(logs.path).problems] == [
        ("^x.a$", "Polars takes such a name for a pattern: it is in no column")
    ]

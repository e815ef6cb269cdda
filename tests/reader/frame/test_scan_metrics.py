"""scan_metrics: a row a line."""

from __future__ import annotations

import math

import polars as pl
import pytest

from mlxp_core.errors import QueryError
from mlxp_core.reader import scan_metrics, scan_runs

ENGINES = ("in-memory", "streaming")


@pytest.fixture
def three(logs):
    """Run 1: two lines; run 2: no such log; run x: one line, another key."""
    logs.run(1, {"seed": 7}, metrics={"train": [{"loss": 1}, {"loss": "NaN", "note": "a"}]})
    logs.run(2, metrics={"val": [{"acc": 1}]})
    logs.run("x", metrics={"train": [{"lr": 0.5}, '{"torn']})
    return logs


@pytest.mark.parametrize("engine", ENGINES)
def test_every_line_is_a_row(three, engine):
    """Bug: runs without the log as rows of nulls, values moved to other lines, the torn line read."""
    frame = scan_metrics(three.path, "train").collect(engine=engine)
    one, other = str(three.path / "1"), str(three.path / "x")
    assert frame.schema == {
        "id": pl.Int64,
        "path": pl.String,
        "line": pl.UInt32,
        "step": pl.UInt32,
        "loss": pl.Float64,
        "note": pl.String,
        "lr": pl.Float64,
    }
    assert frame.drop("loss").rows() == [
        (1, one, 0, 0, None, None),
        (1, one, 1, 1, "a", None),
        (None, other, 0, 0, None, 0.5),
    ]
    first, second, third = frame["loss"]
    assert (first, third) == (1.0, None)
    assert math.isnan(second)


def test_the_users_own_step_is_the_step(logs):
    """Bug: a step counted by us over one that the user gave."""
    logs.run(1, metrics={"train": [{"step": 10, "loss": 1}, {"step": 20, "loss": 2}, {"loss": 3}]})
    frame = scan_metrics(logs.path, "train").collect()
    assert frame["step"].to_list() == [10.0, 20.0, None]
    assert frame["line"].to_list() == [0, 1, 2]


def test_keys_that_are_called_as_our_columns_have_the_log_before_them(logs):
    """Bug: two columns of one name, or the run's id lost."""
    logs.run(1, metrics={"train": [{"id": 5, "path": "p", "line": 3}]})
    (row,) = scan_metrics(logs.path, "train").collect().iter_rows(named=True)
    assert row == {
        "id": 1,
        "path": str(logs.path / "1"),
        "line": 0,
        "step": 0,
        "train.id": 5.0,
        "train.path": "p",
        "train.line": 3.0,
    }


@pytest.mark.parametrize("engine", ENGINES)
def test_only_files_of_runs_that_pass_are_opened(three, engine):
    """Bug: every file read for the lines of one run."""
    frame = scan_metrics(three.path, "train").filter((pl.col("id") == 1) & (pl.col("line") > 0)).select("note", "id")
    with three.metric_files_opened() as opened:
        assert frame.collect(engine=engine).rows() == [("a", 1)]
    assert opened == ["1/train"]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_predicate_over_columns_that_are_not_asked_for_is_right(three, engine):
    """Bug: a column dropped before the predicate needs it."""
    frame = scan_metrics(three.path, "train").filter(pl.col("lr").is_null()).select("id")
    assert frame.collect(engine=engine)["id"].to_list() == [1, 1]
    assert scan_metrics(three.path, "train").select(pl.len()).collect(engine=engine).item() == 3
    assert scan_metrics(three.path, "train").head(2).collect(engine=engine)["id"].to_list() == [1, 1]


def test_the_source_itself_limits_before_the_predicate(logs):
    """Bug: head(5).filter(...), which Polars 2.1 asks for as both, gives five that pass; a batch that loses lines."""
    from mlxp_core.reader.frame.scan_metrics import _MetricSource
    from mlxp_core.reader.frame.schema import MetricColumn

    for number in range(1, 5):
        logs.run(number, metrics={"train": [{"n": step} for step in range(3)]})
    types = {"id": pl.Int64(), "path": pl.String(), "line": pl.UInt32(), "step": pl.UInt32(), "n": pl.Float64()}
    source = _MetricSource(str(logs.path), "train", {"n": MetricColumn("train", "n", numeric=True)}, types)
    batches = list(source(["id"], pl.col("n") > 0, 5, 1))
    assert [batch["id"].to_list() for batch in batches] == [[1, 1], [2]]


@pytest.mark.parametrize("engine", ENGINES)
def test_filters_limits_and_places_are_applied_as_they_are_written(three, engine):
    """Bug: the first lines that pass, for those of the first lines that do; no row where only places are asked for."""
    frame = scan_metrics(three.path, "train")  # id, line: (1, 0), (1, 1), (null, 0)
    asked = {
        "head, filter": (frame.head(2).filter(pl.col("line") == 0), 1),
        "head, filter on runs": (frame.head(2).filter(pl.col("path").str.ends_with("x")), 0),
        "filter, head": (frame.filter(pl.col("line") == 0).head(2), 2),
        "filter, head, filter": (frame.filter(pl.col("line") == 0).head(1).filter(pl.col("id").is_null()), 0),
        "places": (frame.with_row_index("place").select("place"), 3),
        "places, filter": (frame.with_row_index("place").filter(pl.col("line") == 0).select("place"), 2),
    }
    found = {what: one.collect(engine=engine).height for what, (one, _) in asked.items()}
    assert found == {what: count for what, (_, count) in asked.items()}


def test_it_joins_with_the_runs(three):
    """Bug: paths written in two ways."""
    runs = scan_runs(three.path).select("path", "config.seed")
    joined = scan_metrics(three.path, "train").join(runs, on="path", how="left", maintain_order="left").collect()
    assert joined["config.seed"].to_list() == [7, 7, None]


def test_a_frame_shows_what_was_logged_when_it_is_collected(three):
    """Bug: lines kept from the time the frame was built."""
    frame = scan_metrics(three.path, "train").select(pl.len())
    assert frame.collect().item() == 3
    with (three.path / "1/metrics/train.json").open("a") as file:
        file.write('{"loss": 3}\n')
    assert frame.collect().item() == 4


@pytest.mark.parametrize(
    ("name", "message"),
    [("trian", "no run logs 'trian': did you mean 'train'?"), ("zzz", "no run logs 'zzz': there is train, val")],
)
def test_a_log_that_no_run_has_is_an_error(three, name, message):
    """Bug: an empty table for a mistyped name."""
    with pytest.raises(QueryError) as error:
        scan_metrics(three.path, name)
    assert str(error.value) == message


def test_every_key_of_a_log_is_a_column_whatever_it_is_called(logs):
    """Bug: a key that is lost for the name of another; a log that is not there, for its name is that of metadata."""
    lines = [{"id": 1, "t.id": 2, "t.t.id": 3, "line": 4}]
    logs.run(1, {"lr": 1}, metrics={"t": lines, "config": [{"lr": 5}]})
    frame = scan_metrics(logs.path, "t").collect()
    assert frame.select("id", "t.id", "t.t.id", "t.t.t.id", "t.line").row(0) == (1, 2.0, 3.0, 1.0, 4.0)
    assert scan_metrics(logs.path, "config").collect()["lr"].to_list() == [5.0]

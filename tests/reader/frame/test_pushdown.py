"""Pushdown: files that are not needed are not opened, and the answer is the same as if they were."""

from __future__ import annotations

import polars as pl
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st

from mlxp_core.reader import AvgStd, Reader, scan_runs
from mlxp_core.reader.directory import scan_directory
from mlxp_core.reader.frame.scan_runs import _RunSource
from mlxp_core.reader.frame.schema import infer_schema

ENGINES = ("in-memory", "streaming")


def source_of(logs):
    """Get what Polars would call."""
    schema = infer_schema(scan_directory(str(logs.path)))
    return _RunSource(str(logs.path), schema, report=lambda problem: None)


@pytest.fixture
def six(logs):
    """Runs 1 to 6: x is 1 to 6, odd ones COMPLETE; train.loss is [x, x + 1], in two logs of two keys."""
    for number in range(1, 7):
        lines = [{"loss": number, "acc": 0}, {"loss": number + 1, "acc": 1}]
        status = "COMPLETE" if number % 2 else "FAILED"
        logs.run(number, {"x": number}, {"status": status}, {"train": lines, "test": lines})
    return logs


def test_building_a_frame_opens_no_metric_file(six):
    """Catches: 100,000 metric files read to learn the names of the columns."""
    with six.metric_files_opened() as opened:
        assert "train.loss" in scan_runs(six.path).collect_schema()
        assert Reader(six.path).fields.height == 8
    assert opened == []


def test_metadata_alone_opens_no_metric_file(six):
    """Catches: metrics read to show ids."""
    with six.metric_files_opened() as opened:
        assert scan_runs(six.path).select("id", "config.x").collect().height == 6
        assert scan_runs(six.path).select(pl.len()).collect().item() == 6
    assert opened == []


@pytest.mark.parametrize("engine", ENGINES)
def test_only_the_log_asked_for_is_opened_and_only_in_the_runs_that_pass(six, engine):
    """Catches: a projection or a predicate that is applied after everything was read."""
    frame = scan_runs(six.path).filter(pl.col("config.x") > 4).select("id", "train.loss")
    with six.metric_files_opened() as opened:
        result = frame.collect(engine=engine)
    assert result.rows() == [(5, [5.0, 6.0]), (6, [6.0, 7.0])]
    assert opened == ["5/train", "6/train"]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("metadata_first", [True, False])
def test_of_a_mixed_predicate_the_metadata_part_is_applied_first(six, engine, metadata_first):
    """Catches: all metric files opened as soon as one condition is about a metric."""
    parts = [pl.col("info.status") == "COMPLETE", pl.col("train.loss").list.max() > 4]
    one, other = parts if metadata_first else reversed(parts)
    frame = scan_runs(six.path).filter(one & other & (pl.col("config.x") < 6)).select("id")
    with six.metric_files_opened() as opened:
        result = frame.collect(engine=engine)
    assert result["id"].to_list() == [5]
    assert opened == ["1/train", "3/train", "5/train"]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_predicate_that_cannot_be_split_is_still_right(six, engine):
    """Catches: one side of an `or` taken for a condition on all rows."""
    frame = scan_runs(six.path).filter((pl.col("config.x") == 1) | (pl.col("train.loss").list.max() > 6))
    assert frame.select("id").collect(engine=engine)["id"].to_list() == [1, 6]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.filterwarnings("ignore::polars.exceptions.PolarsInefficientMapWarning")
def test_a_predicate_in_python_is_right(six, engine):
    """Catches: a predicate that cannot be looked into dropped, or applied to the wrong columns."""
    is_even = pl.col("config.x").map_elements(lambda x: x % 2 == 0, return_dtype=pl.Boolean)
    rises = pl.col("train.loss").map_elements(lambda values: values[1] > 4, return_dtype=pl.Boolean)
    frame = scan_runs(six.path).filter(is_even & rises).select("id")
    assert frame.collect(engine=engine)["id"].to_list() == [4, 6]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_a_limit_counts_the_rows_that_pass(six, engine, n):
    """Catches: n rows taken before the predicate, so that too few are left."""
    frame = scan_runs(six.path).filter(pl.col("train.loss").list.max() > 4).select("id").head(n)
    assert frame.collect(engine=engine)["id"].to_list() == [4, 5, 6][:n]


def test_the_source_itself_limits_before_the_predicate(six):
    """Bug: head(3).filter(...), which Polars 2.1 asks for as both, gives the first three that pass."""
    source = source_of(six)
    for predicate in (pl.col("config.x") > 2, pl.col("train.loss").list.max() > 3):
        for batch_size in (None, 1, 2, 100):
            batches = list(source(["id"], predicate, 4, batch_size))
            assert pl.concat(batches)["id"].to_list() == [3, 4]
            assert all(batch.height <= (batch_size or 6) for batch in batches)


def _even(number):
    return str(number)[-1] in "02468"  # Polars warns of what it could have done itself


_LONG = pl.col("train.loss").list.len() > 1
_STEPS = {
    "x": lambda frame: frame.filter(pl.col("config.x") > 2),
    "metric": lambda frame: frame.filter(pl.col("train.loss").list.max() > 3),
    "both": lambda frame: frame.filter((pl.col("id") < 6) & _LONG),
    "python": lambda frame: frame.filter(pl.col("id").map_elements(_even, return_dtype=pl.Boolean)),
    "mean": lambda frame: frame.filter(pl.col("id") > pl.col("id").mean()),
    "rank": lambda frame: frame.filter(pl.col("train.loss").list.first().rank() > 1),
    "head": lambda frame: frame.head(4),
    "tail": lambda frame: frame.tail(3),
    "slice": lambda frame: frame.slice(1, 3),
    "sort": lambda frame: frame.sort("config.x", descending=True),
    "more": lambda frame: frame.with_columns(z=pl.col("test.acc").list.sum()),
    "places": lambda frame: frame.with_row_index("place") if "place" not in frame.collect_schema() else frame,
}
_ENDS = {
    "all": lambda frame: frame,
    "some": lambda frame: frame.select("test.loss", "id"),
    "count": lambda frame: frame.select(pl.len()),
    "only places": lambda frame: frame.with_row_index("where").select("where"),
    "groups": lambda frame: frame.group_by(pl.col("id") % 2).agg(pl.len(), pl.col("train.loss").first()).sort("id"),
}


@given(st.lists(st.sampled_from(sorted(_STEPS)), max_size=4), st.sampled_from(sorted(_ENDS)), st.sampled_from(ENGINES))
@examples(150)
def test_whatever_is_asked_the_answer_is_that_of_the_whole_table(six, steps, end, engine):
    """Bug: a limit, a filter and a projection that are applied in another order than they were written."""
    lazy, whole = scan_runs(six.path), scan_runs(six.path).collect().lazy()
    for step in steps:
        lazy, whole = _STEPS[step](lazy), _STEPS[step](whole)
    assert _ENDS[end](lazy).collect(engine=engine).equals(_ENDS[end](whole).collect())


def test_a_limit_ends_the_reading(six):
    """Catches: all metric files read for the first row."""
    source = source_of(six)
    with six.metric_files_opened() as opened:
        assert [batch["train.loss"].to_list() for batch in source(["train.loss"], None, 1, 1)] == [[[1.0, 2.0]]]
    assert opened == ["1/train"]


def test_metrics_of_all_runs_are_never_in_memory_at_once(logs):
    """Catches: a predicate on a metric that has to wait until the whole directory was read."""
    for number in range(1, 301):
        logs.run(number, metrics={"train": [{"loss": number}]})
    with logs.metric_files_opened() as opened:
        batch = next(source_of(logs)(["id"], pl.col("train.loss").list.first() == 1, None, 100_000))
    assert batch["id"].to_list() == [1]
    assert len(opened) == 256


def test_explain_shows_what_is_pushed_down(six):
    """Catches: a plan in which Polars filters and selects itself."""
    plan = scan_runs(six.path).filter(pl.col("config.x") > 4).select("id").explain()
    assert "PYTHON[runs] SCAN" in plan
    assert 'SELECTION: col("config.x") > 4' in plan
    assert "PROJECT 2/8 COLUMNS" in plan
    assert "FILTER" not in plan


@pytest.mark.parametrize("engine", ENGINES)
def test_aggregations_open_each_file_once_and_no_other(six, engine):
    """Catches: the directory read once for each aggregation, or logs that none of them names."""
    runs = Reader(six.path).filter("config.x <= 4")
    frame = runs.group_by("info.status").aggregate([AvgStd("train.loss"), AvgStd("train.acc"), AvgStd("config.x")])
    with six.metric_files_opened() as opened:
        assert frame.collect(engine=engine).height == 2
    assert opened == ["1/train", "2/train", "3/train", "4/train"]


def test_one_run_reads_the_metric_asked_for(six):
    """Catches: runs[i] that loads the run."""
    runs = Reader(six.path).filter("config.x > 2")
    with six.metric_files_opened() as opened:
        assert (len(runs), runs[1]["config.x"]) == (4, 4)
        assert "LAZYDATA" in repr(runs)
        assert [run["id"] for run in runs] == [3, 4, 5, 6]
        assert runs[1]["test.loss"] == [4.0, 5.0]
    assert opened == ["4/test"]

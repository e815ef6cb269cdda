"""One run logs "diverged" where the others log numbers: it, and nobody else, hears of that."""

from __future__ import annotations

import math
import os
import statistics

import polars as pl
import pytest
from reader_caches import forget

from mlxp_core.reader import AvgStd, Reader, scan_runs
from mlxp_core.reader.cache import run_cache
from mlxp_core.reader.frame.scan_metrics import scan_metrics
from mlxp_core.reader.load import file_cache
from mlxp_core.recording.lifecycle import start_run

NUMBERS, TEXT = pl.List(pl.Float64), pl.List(pl.String)
LOSSES = {1: [3.0, 2.0, 1.0], 2: [5.0, 4.0, 3.0], 4: [1.0, 0.0, 2.0]}
# what the third run logs in the place of its losses; the cells of the column; the line and the value of the first stray
STRAYS = {
    "at the end": ([1.0, 2.0, "diverged"], [1.0, 2.0, None], 3, "'diverged'"),
    "at the beginning": (["warming up", 2.0, 1.0], [None, 2.0, 1.0], 1, "'warming up'"),
    "alone": (["diverged"], [None], 1, "'diverged'"),
    "everywhere": (["off", "off", "off"], [None, None, None], 1, "'off'"),
    "a list": ([1.0, [0.5, 0.25], 3.0], [1.0, None, 3.0], 2, "[0.5, 0.25]"),
    "a mapping": ([{"mean": 1.0}, 2.0, 3.0], [None, 2.0, 3.0], 1, "{'mean': 1.0}"),
    "a number in quotes": ([1.0, "2.0", 3.0], [1.0, None, 3.0], 2, "'2.0'"),
}


@pytest.fixture(params=["recorded", "by hand", "without keys"])
def directory(request, logs):
    """Make a directory of four runs with a log of losses, the third with these."""

    def make(third):
        losses = LOSSES | {3: third}
        for run_id in sorted(losses):
            lines = [{"step": step, "loss": loss} for step, loss in enumerate(losses[run_id])]
            if request.param == "recorded":
                with start_run(logs.path, {"i": run_id}) as run:
                    for line in lines:
                        run.log_metrics(line, "train")
            else:
                logs.run(run_id, {"i": run_id}, metrics={"train": lines}, keys=request.param == "by hand")
        return logs.path

    return make


@pytest.mark.parametrize("stray", STRAYS)
def test_a_stray_value_is_null_and_named_and_the_others_stay_numbers(directory, stray):
    """Bug: the metric is text for all runs, AvgStd refuses, list.mean() gives null, and problems is empty."""
    third, cells, line, value = STRAYS[stray]
    path = directory(third)
    frame = scan_runs(path).select("id", "train.loss").collect()
    assert frame.schema["train.loss"] == NUMBERS
    assert dict(frame.rows()) == LOSSES | {3: cells}
    means = dict(frame.select("id", pl.col("train.loss").list.mean()).rows())
    numbers = [cell for cell in cells if cell is not None]
    assert means == {1: 2.0, 2: 4.0, 4: 1.0, 3: statistics.mean(numbers) if numbers else None}

    reader = Reader(path)
    (problem,) = reader.problems  # nothing was opened yet
    assert problem.path == str(path / "3/metrics/train.json")
    assert problem.what.startswith(f"line {line}: loss is {value}, which is no number")
    row = reader.filter().aggregate([AvgStd("train.loss")]).collect().to_dicts()[0]
    columns = [
        [run[step] for run in [*LOSSES.values(), cells] if step < len(run) and run[step] is not None]
        for step in range(3)
    ]
    assert row["train.loss_avg"] == pytest.approx([statistics.mean(column) for column in columns])
    assert row["train.loss_std"] == pytest.approx([statistics.stdev(column) for column in columns])
    assert row["train.loss_n"] == [len(column) for column in columns]
    assert reader.filter().problems == [problem]
    assert reader.filter("id != 3").problems == []
    assert scan_metrics(path, "train").filter(pl.col("id") == 3).collect()["loss"].to_list() == cells


def test_types_are_those_of_the_runs_that_are_looked_at(logs):
    """Bug: a column is text for runs that were filtered out; or numbers for runs that have nothing but text."""
    for run_id in range(1, 8):
        lines = [{"phase": "warm-up"}] if run_id <= 4 else [{"phase": run_id}, {"phase": run_id + 1}]
        logs.run(
            run_id,
            {"kind": "text" if run_id <= 4 else "number", "i": run_id % 2, "seed": run_id},
            metrics={"train": lines},
        )
    runs = Reader(logs.path).filter()
    assert (runs.schema["train.phase"], scan_runs(logs.path).collect_schema()["train.phase"]) == (TEXT, TEXT)
    assert runs.collect()["train.phase"].to_list()[3:5] == [["warm-up"], ["5", "6"]]
    assert runs.problems == []  # nothing is lost

    numbers = Reader(logs.path).filter("config.kind == 'number'")
    derived = {
        "filter": numbers,
        "where": runs.where(pl.col("config.kind") == "number"),
        "slice": runs[4:],
        "slice backwards": runs[:3:-1],
        "sorted, then filtered": runs.sort("id", descending=True).where(pl.col("id") > 4),
        "filtered, then sorted": numbers.sort("config.i"),
        "selected, then filtered": runs.select("id", "train.phase").where(pl.col("id") > 4),
        "a group": runs.group_by("config.kind")["number"],
    }
    for way, chosen in derived.items():
        assert chosen.schema["train.phase"] == NUMBERS, way
        frame = chosen.lazy().collect()
        assert frame.schema["train.phase"] == NUMBERS, way
        assert dict(frame.select("id", "train.phase").rows()) == {5: [5.0, 6.0], 6: [6.0, 7.0], 7: [7.0, 8.0]}, way
        assert chosen[0]["train.phase"] == frame["train.phase"][0].to_list(), way
        row = chosen.aggregate(AvgStd("train.phase")).collect().to_dicts()[0]
        assert (row["train.phase_avg"], row["train.phase_n"]) == ([6.0, 7.0], [3, 3]), way
    assert [run["id"] for run in derived["slice backwards"]] == [7, 6, 5]
    assert [run["id"] for run in derived["sorted, then filtered"]] == [7, 6, 5]
    grouped = numbers.group_by("config.i").aggregate(AvgStd("train.phase")).collect()
    assert grouped["train.phase_avg"].to_list() == [[6.0, 7.0], [6.0, 7.0]]
    assert runs.group_by("config.kind")["text"].schema["train.phase"] == TEXT
    assert Reader(logs.path).filter("id == 1 | id >= 5").schema["train.phase"] == NUMBERS
    assert Reader(logs.path).filter("id > 100").schema["train.phase"] == TEXT  # none of which anything is known


def test_a_condition_on_the_metric_itself_keeps_the_type_that_it_was_written_for(logs):
    """Bug: an expression over text that is given numbers once it has been applied."""
    for run_id, value in enumerate(["a", "b", 3.0], 1):
        logs.run(run_id, metrics={"train": [{"x": value}]})
    runs = Reader(logs.path).filter()
    chosen = runs.where(pl.col("train.x").list.first() == "3.0")
    assert (chosen.schema["train.x"], chosen.lazy().collect()["train.x"].to_list()) == (TEXT, [["3.0"]])


def test_one_number_takes_no_texts_from_the_others(logs):
    """Bug: the same fault the other way round: labels of nine runs are null for a class number in one."""
    for run_id in range(1, 11):
        logs.run(run_id, metrics={"train": [{"label": 7 if run_id == 3 else "cat"}]})
    reader = Reader(logs.path)
    assert reader.filter().collect()["train.label"].to_list() == [["7" if i == 3 else "cat"] for i in range(1, 11)]
    assert reader.filter("id == 3").collect()["train.label"].to_list() == [[7.0]]
    assert reader.problems == []


def test_the_line_is_the_files_own_and_more_of_them_are_counted(logs):
    """Bug: lines counted without those that are blank or broken."""
    lines = ['{"x": 1}\n', "\n", "garbage\n", '{"y": 1}\n', '{"x": "a"}\n', '{"x": "NaN"}\n', '{"x": "b"}\n']
    logs.run(7, metrics={"t": lines}, keys=False)
    logs.run(8, metrics={"t": [{"x": 1}]})
    assert {problem.what for problem in Reader(logs.path).problems} == {
        "1 line is no JSON object and was skipped",
        "line 5: x is 'a', which is no number, as in 1 more: null in this column of numbers",
    }
    (cells, _) = logs.column("t.x")
    assert [cell for cell in cells if cell is None or not math.isnan(cell)] == [1.0, None, None, None]


def test_a_run_that_comes_while_the_frame_is_kept_raises_nothing(logs):
    """Bug: a stray value in a run that has ended since is an error for all."""
    logs.run(1, metrics={"t": [{"x": 1}]})
    reader = Reader(logs.path)
    lazy = reader.filter().lazy()
    logs.run(2, metrics={"t": [{"x": "diverged"}]})
    assert lazy.collect()["t.x"].to_list() == [[1.0], [None]]
    (problem,) = reader.problems
    assert problem.path.endswith("/2/metrics/t.json")


def test_cached_and_uncached_reads_agree_on_strays(logs, monkeypatch):
    """Bug: an index, or a digest, that says of a key only whether it is one of numbers."""
    for run_id, values in enumerate([[1.0], [2.0, "diverged"], ["diverged"], [4.0]], 1):
        with start_run(logs.path, {"i": run_id}) as run:
            for value in values:
                run.log_metrics({"x": value}, "t")
    monkeypatch.setattr(file_cache, "RACY_NS", 0)
    monkeypatch.setattr(run_cache, "_MIN_NEW", 1)

    def read():
        forget()
        reader = Reader(logs.path)
        runs = [reader.filter(), reader.filter("id == 3"), reader.filter("id < 3")]
        return [[run.collect().select("id", "t.x").to_dict(as_series=False) for run in runs], reader.problems]

    first = read()
    assert (logs.path / ".mlxp/reader-index").exists()
    assert first[0] == [
        {"id": [1, 2, 3, 4], "t.x": [[1.0], [2.0, None], [None], [4.0]]},
        {"id": [3], "t.x": [["diverged"]]},
        {"id": [1, 2], "t.x": [[1.0], [2.0, None]]},
    ]
    assert [problem.path for problem in first[1]] == [str(logs.path / f"{run_id}/metrics/t.json") for run_id in (2, 3)]
    assert read() == first  # by the index
    os.unlink(logs.path / ".mlxp/reader-index")
    for run_id in range(1, 5):
        os.unlink(logs.path / f"{run_id}/metadata/digest.jsonl")
    assert read() == first  # by the folders


def test_a_digest_that_says_only_what_is_not_of_numbers_alone_is_not_trusted(logs):
    """Bug: directories of earlier versions: a metric with one stray value is text there."""
    with start_run(logs.path, {}) as run:
        run.log_metrics({"x": 1.0}, "t")
        run.log_metrics({"x": "diverged"}, "t")
    digest = run.layout.digest
    digest.write_text(digest.read_text().replace('[["x","mixed"]]', '[["x",false]]'))
    assert '[["x",false]]' in digest.read_text()
    assert logs.column("t.x") == [[1.0, None]]
    digest.write_text(digest.read_text().replace('[["x",false]]', '[["x",true]]'))
    assert logs.column("t.x") == [[1.0, None]]

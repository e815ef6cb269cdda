"""Log directories of MLXP 1.0, written here file by file as MLXP 1.0.5 was seen to write them."""

from __future__ import annotations

import json
import marshal
import math
import pickle

import mlxp_queries
import polars as pl
import pytest
import yaml

from mlxp_core.errors import StatisticsWarning
from mlxp_core.reader import AvgStd, Reader, scan_metrics, scan_runs

INFO = """\
status: {status}
current_file_path: /work/main.py
executable: /usr/bin/python
hostname: vm
process_id: 14284
start_date: 25/11/2026
start_time: '18:46:14'
end_date: 25/11/2026
end_time: '18:46:14'
work_dir: /work
logger:
  log_id: {number}
  log_dir: /work/logs/{number}
  metrics_dir: /work/logs/{number}/metrics
  metadata_dir: /work/logs/{number}/metadata
  artifacts_dir: /work/logs/{number}/artifacts
scheduler: null
version_manager: null
"""


def mlxp_run(logs, number, config, metrics, status="COMPLETE"):
    run = logs.path / str(number)
    (run / "metadata").mkdir(parents=True)
    (run / "metadata/config.yaml").write_text(yaml.safe_dump(config))
    (run / "metadata/info.yaml").write_text(INFO.format(status=status, number=number))
    (run / "metrics/.keys").mkdir(parents=True)
    for name, lines in metrics.items():
        (run / f"metrics/{name}.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
        keys = {key: "" for line in lines for key in line}
        (run / f"metrics/.keys/{name}.yaml").write_text(yaml.dump(keys))
    return run


@pytest.fixture
def theirs(logs):
    for number, (lr, losses) in enumerate([(1.0, [1, math.nan]), (0.1, [3, 4]), (0.1, [5, 6])], 1):
        train = [{"loss": loss, "epoch": epoch} for epoch, loss in enumerate(losses)]
        mlxp_run(logs, number, {"optimizer": {"lr": lr}}, {"train": train}, "FAILED" if number == 1 else "COMPLETE")
    (logs.path / "database.json").write_text("{}")
    return logs


def test_a_directory_of_mlxp_reads_as_ours(theirs):
    """Bug: numbers taken for text for want of types, bare NaN taken for garbage, their database for a run."""
    reader = Reader(theirs.path)
    assert len(reader) == 3
    assert reader.problems == []
    schema = scan_runs(theirs.path).collect_schema()
    assert schema["train.loss"] == schema["train.epoch"] == pl.List(pl.Float64)
    assert schema["info.logger.log_id"] == pl.Int64
    runs = reader.filter("info.status == 'COMPLETE' & config.optimizer.lr <= 1.")
    assert [run["id"] for run in runs] == [2, 3]
    assert runs[0]["train.loss"] == [3.0, 4.0]
    assert math.isnan(reader.filter("id == 1")[0]["train.loss"][1])
    with pytest.warns(StatisticsWarning, match="runs 2 and 3"):  # their configurations are equal
        groups = runs.groupby("config.optimizer.lr")
    (row,) = groups.aggregate([AvgStd("train.loss")]).collect().iter_rows(named=True)
    assert row["train.loss_avg"] == [4.0, 5.0]
    assert scan_metrics(theirs.path, "train").filter(pl.col("id") == 2).collect()["loss"].to_list() == [3.0, 4.0]


@pytest.fixture(scope="module")
def queried_logs(tmp_path_factory):
    path = tmp_path_factory.mktemp("queried") / "logs"
    mlxp_queries.write(path)
    return path


@pytest.mark.parametrize("query", mlxp_queries.ANSWERS)
def test_a_query_gives_the_runs_that_mlxps_reader_gives(queried_logs, query):
    """Bug: other results after moving over: another precedence, 1 that is not 1.0, a missing field that passes."""
    assert [run["id"] for run in Reader(queried_logs).filter(query)] == mlxp_queries.ANSWERS[query]


def test_types_come_from_the_first_lines_and_the_rest_is_not_read(logs):
    """Bug: every metric file parsed to the end to learn the names of its keys."""
    from mlxp_core.reader.load import metrics as metricfile

    lines = [{"loss": 0.5, "note": "x"}] * 10_000
    mlxp_run(logs, 1, {}, {"train": lines})
    read = []
    original = metricfile.read_lines
    metricfile.read_lines = lambda content: read.append(len(content)) or original(content)
    try:
        schema = scan_runs(logs.path).collect_schema()
    finally:
        metricfile.read_lines = original
    assert schema["train.loss"] == pl.List(pl.Float64)
    assert schema["train.note"] == pl.List(pl.String)
    assert read == []


def test_a_key_that_the_first_lines_do_not_show_is_found_in_the_others(logs):
    """Bug: a key that appears late lost, or guessed to be a number."""
    lines = [{"loss": 0.5}] * 1000 + [{"note": "late"}]
    mlxp_run(logs, 1, {}, {"train": lines})
    assert scan_runs(logs.path).collect_schema()["train.note"] == pl.List(pl.String)


def test_text_after_numbers_is_reported_where_the_type_was_a_guess(logs):
    """Bug: a value that becomes null without a word."""
    mlxp_run(logs, 1, {}, {"train": [{"loss": 0.5}] * 1000 + [{"loss": "diverged"}]})
    reader = Reader(logs.path)
    assert reader.filter()[0]["train.loss"][-1] is None
    assert [problem.what for problem in reader.problems] == [
        "line 1001: loss is 'diverged', which is no number: null in this column of numbers"
    ]


def test_their_artifacts_are_references_and_their_byte_code_is_never_looked_at(logs, tmp_path):
    """Bug: MLXP's reader runs the marshalled functions that it finds in custom_types.yaml."""
    run = mlxp_run(logs, 1, {}, {})
    mark = tmp_path / "owned"
    code = marshal.dumps(compile(f"open({str(mark)!r}, 'w')", "x", "exec"))
    (run / "artifacts/.keys").mkdir(parents=True)
    (run / "artifacts/.keys/custom_types.yaml").write_text(yaml.dump({"mine": {"load": code, "save": code}}))
    (run / "artifacts/.keys/artifacts.yaml").write_text("mine:\n  ? ''\n  : h.txt: ''\n")
    (run / "artifacts/mine").mkdir()
    (run / "artifacts/mine/h.txt").write_text("hello")
    (run / "artifacts/pickle").mkdir()
    (run / "artifacts/pickle/last.pkl").write_bytes(pickle.dumps({"w": 1}))
    (found,) = Reader(logs.path).filter()
    assert found["artifact.mine.h.txt"].path == str(run / "artifacts/mine/h.txt")
    assert found["artifact.pickle.last.pkl"].load() == {"w": 1}
    assert [name for name in found if name.startswith("artifact")] == [
        "artifact.mine.h.txt",
        "artifact.pickle.last.pkl",
    ]
    assert not mark.exists()


@pytest.mark.parametrize(
    "garbage", [b"", b"[1]", b"a: [", b"\xff", b"a: !!python/object/apply:os.getpid []", b"a: !!bool x"]
)
def test_a_list_of_keys_that_is_none_leaves_it_to_the_metric_file(logs, garbage):
    """Bug: metrics that do not exist for the reader because the list beside them is broken."""
    run = mlxp_run(logs, 1, {}, {"train": [{"loss": 1}]})
    (run / "metrics/.keys/train.yaml").write_bytes(garbage)
    assert scan_runs(logs.path).collect()["train.loss"].to_list() == [[1.0]]


def test_a_run_that_is_starting_is_pending(logs):
    """Bug: a status that this package does not know."""
    mlxp_run(logs, 1, {}, {}, status="STARTING")
    assert scan_runs(logs.path).collect()["info.status"].to_list() == ["PENDING"]

"""mlxp.Reader and its data frames give what MLXP 1.0.5 gave for the 18 runs of its tutorial.

tutorial.json holds the runs (units, learning rate and seed; losses of train and test), as MLXP 1.0.5 has written them,
and what its own reader made of them by the calls below.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from mlxp_core import mlxp, start_run
from mlxp_core.mlxp.data_structures.dataframe import DataDict, DataFrame
from mlxp_core.mlxp.errors import InvalidKeyError, InvalidMapError

RECORDED = json.loads((Path(__file__).parent / "tutorial.json").read_text())
UNITS, RATE, SEED = "config.model.num_units", "config.optimizer.lr", "config.seed"


def write_ours(log_dir: Path) -> None:
    """The tutorial's runs as this pack records them."""
    for (units, rate, seed), train, test in RECORDED["runs"]:
        config = {"seed": seed, "num_epoch": 10, "model": {"num_units": units}, "data": {"d_int": 10, "device": "cpu"}}
        with start_run(log_dir, {**config, "optimizer": {"lr": rate}}) as run:
            for epoch, (one, other) in enumerate(zip(train, test, strict=True)):
                run.log_metrics({"loss": one, "epoch": epoch}, log_name="train")
                run.log_metrics({"loss": other, "epoch": epoch}, log_name="test")
            run.log_checkpoint({"epoch": epoch}, "last_ckpt.pkl")


def write_theirs(log_dir: Path) -> None:
    """The same as MLXP 1.0.5 writes them."""
    for number, ((units, rate, seed), train, test) in enumerate(RECORDED["runs"], start=1):
        run = log_dir / str(number)
        for folder in ("metadata", "metrics/.keys", "artifacts/.keys", "artifacts/pickle"):
            (run / folder).mkdir(parents=True)
        config = {"seed": seed, "num_epoch": 10, "model": {"num_units": units}, "data": {"d_int": 10, "device": "cpu"}}
        (run / "metadata/config.yaml").write_text(yaml.safe_dump({**config, "optimizer": {"lr": rate}}))
        info = {"status": "COMPLETE", "logger": {"log_id": number, "log_dir": str(run)}}
        (run / "metadata/info.yaml").write_text(yaml.safe_dump(info))
        (run / "artifacts/pickle/last_ckpt.pkl").write_bytes(b"\x80\x04}\x94.")
        for name, losses in (("train", train), ("test", test)):
            lines = (json.dumps({"loss": loss, "epoch": epoch}) + "\n" for epoch, loss in enumerate(losses))
            (run / f"metrics/{name}.json").write_text("".join(lines))
            (run / f"metrics/.keys/{name}.yaml").write_text("epoch: ''\nloss: ''\n")


@pytest.fixture(scope="module", params=[write_ours, write_theirs], ids=["ours", "theirs"])
def log_dir(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("logs")
    write: Callable[[Path], None] = request.param
    write(folder)
    return folder


@pytest.fixture
def results(log_dir: Path) -> DataFrame:
    found: DataFrame = mlxp.Reader(log_dir, refresh=True).filter(f"info.status == 'COMPLETE' & {UNITS} < 128")
    return found.sort(by=[UNITS, RATE, SEED])


def mean(values: list[Any]) -> Any:
    return np.mean(np.array(values), axis=0)


def argmin(values: list[Any]) -> Any:
    last = np.array(values)[:, -1]
    return last == np.min(last)


def groups(frame: Any, column: str) -> list[Any]:
    return sorted([list(key), [float(value) for value in rows[0][column]]] for key, rows in frame.items())


def test_the_runs_and_their_metrics_are_mlxps(results: DataFrame) -> None:
    """Bug: a run is left out, or a number is another one, after the change of one line."""
    rows = [[[row[UNITS], row[RATE], row[SEED]], row["train.loss"], row["test.loss"]] for row in results]
    assert rows == RECORDED["runs"]
    assert results["train.loss"] == results[:]["train.loss"] == [train for _, train, _ in RECORDED["runs"]]
    assert results[0]["train.epoch"] == list(range(10))
    assert sorted(results.diff()) == RECORDED["diff"]
    columns = results.keys()
    assert [key for key in columns if not key.startswith("info.")] == RECORDED["keys"]
    assert list(results[0]["artifact.pickle."]) == ["last_ckpt.pkl"]


def test_groups_filters_and_aggregations_are_mlxps(results: DataFrame) -> None:
    """Bug: the tutorial's best learning rates are others than MLXP's, or their curves."""
    grouped = results.groupBy([UNITS, RATE])
    best = grouped.aggregate((mean, "train.loss")).filter((argmin, "fmean.train.loss"), bygroups=[UNITS])
    assert groups(best, "fmean.train.loss") == RECORDED["best"]
    chosen = grouped.select(best.keys()).aggregate((mean, "test.loss"))
    assert groups(chosen, "fmean.test.loss") == RECORDED["test"]
    assert list(chosen.toPandas().index.names) == [UNITS, RATE, None]
    ungrouped = grouped.aggregate((mean, "test.loss"), ungroup=True)
    assert ungrouped.keys() == ["fmean.test.loss", UNITS, RATE]
    assert len(ungrouped) == len(grouped) == 6


def test_maps_are_mlxps(results: DataFrame) -> None:
    """Bug: a map is given another value, or its column is called otherwise."""
    last = results.map((lambda values: values[-1], "train.loss", "last"))
    assert last["last"] == RECORDED["map"]
    rows = results.apply((lambda one, other: one[-1] - other[-1], ("train.loss", "test.loss"), "d"), map_type="Rowwise")
    assert rows["d"] == RECORDED["row"]
    total = results.apply(
        (lambda *both: [float(np.sum(np.subtract(*map(np.array, both))))], ("train.loss", "test.loss"))
    )
    assert total[0][total.keys()[0]] == RECORDED["gen"]
    ranks = results.transform((lambda values: list(range(len(values))), "config.seed", "rank"))
    assert ranks["rank"] == list(range(18))
    assert results.merge(ranks)[3]["rank"] == 3
    assert not {"rank"}.intersection(results.keys())


def test_pandas_frames_are_mlxps(log_dir: Path) -> None:
    """Bug: metrics are missing, or marks stand in their place."""
    reader = mlxp.Reader(str(log_dir))
    assert len(reader) == 18
    frame = reader.filter(f"{SEED} in [1, 3] & ~ {RATE} > 1.", result_format="pandas")
    assert list(frame.shape)[:1] == RECORDED["pandas"]
    assert isinstance(frame["train.loss"][0], list)
    lazy = reader.filter().toPandas()
    assert set(lazy["train.loss"]) == {"METRIC"}
    assert set(lazy["artifact.pickle."]) == {"ARTIFACT"}
    assert reader.fields.loc["train.loss", "Type"] == "METRIC"
    assert reader.fields.loc["artifact.pickle.", "Type"] == "Artifact"
    assert reader.searchable.loc[SEED, "Type"] == "<class 'int'>"
    assert all(reader.searchable.index.str.startswith(("info.", "config.")))


def test_a_function_without_a_name_is_one(results: DataFrame) -> None:
    """Bug: AttributeError for functools.partial, or for an object that can be called."""
    assert results.aggregate((partial(np.max, axis=0), "config.seed")).keys() == ["fpartial.config.seed"]


def test_metrics_that_are_not_finite_are_numbers_and_lines_without_a_key_are_left_out(tmp_path: Path) -> None:
    """Bug: the text 'NaN' in a mean; a list that is as long as the log for a key of every second line."""
    with start_run(tmp_path) as run:
        for step in range(4):
            run.log_metrics({"loss": math.inf if step else math.nan, **({"acc": step} if step % 2 else {})}, "a.b")
        run.log_artifacts({"x": 1}, "epochs/3/weights", "json")
    (row,) = mlxp.Reader(tmp_path).filter()
    assert math.isnan(row["a.b.loss"][0])
    assert (row["a.b.loss"][1:], row["a.b.acc"]) == ([math.inf] * 3, [1, 3])
    assert row["artifact.json..epochs.3"]["weights"].load() == {"x": 1}


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda rows: rows.groupby("config.sed"), InvalidKeyError, "no column config.sed; there are"),
        (lambda rows: rows.aggregate("mean"), InvalidMapError, "a tuple of a function"),
        (lambda rows: rows.aggregate((mean, ("a", "b"), "c")), InvalidMapError, "2 columns make 2"),
        (
            lambda rows: rows.filter((lambda values: True, "config.seed")),
            InvalidMapError,
            "true or false for each row: this one gave True for 18",
        ),
        (lambda rows: rows.filter([(mean, "config.seed"), (len, "config.seed")]), InvalidMapError, "one function"),
        (lambda rows: rows.transform((sum, "config.seed")), InvalidMapError, "a value for each of 18 rows"),
        (lambda rows: rows.apply((sum, "config.seed"), map_type="Row"), InvalidMapError, "Rowwise"),
        (lambda rows: rows.apply([(list, "config.seed"), (sum, "config.seed")]), InvalidMapError, "some do not"),
        (lambda rows: rows["train.acc"], KeyError, "train.acc"),
    ],
)
def test_what_cannot_be_done_is_refused(results: DataFrame, call: Any, error: type, message: str) -> None:
    """Bug: an AssertionError without a word, as of MLXP, or a number."""
    with pytest.raises(error, match=message):
        call(results)


def test_groups_of_runs_without_a_value_are_groups_of_their_own() -> None:
    """Bug of MLXP 1.0.5: a value that is missing is left out of the key, and (None, 1) is the group (1, None)."""
    rows = DataFrame([DataDict({"a": None, "b": 1}), DataDict({"a": 1, "b": None})])
    grouped = rows.groupby(["a", "b"])
    assert list(grouped) == [(None, 1), (1, None)]
    assert [dict(row) for row in grouped.ungroup()] == [dict(row) for row in rows]

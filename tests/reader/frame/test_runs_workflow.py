"""Runs in use: show, sort, select, compare, group; and the paper's tutorial."""

from __future__ import annotations

import sys
from types import ModuleType

import polars as pl
import pytest

from mlxp_core.errors import QueryError
from mlxp_core.reader import AvgStd, Best, Last, Reader


@pytest.fixture
def sweep(logs):
    """Units 2, 4 and lr 0.1, 1.0 and seeds 1, 2: runs 1 to 8. The last train loss is what the tutorial asks for.

    last train loss, mean of the seeds: (2, 0.1): 3, (2, 1.0): 2, (4, 0.1): 1, (4, 1.0): 5; so (2, 1.0) and (4, 0.1)
    win. Their test losses: 30 and 40, mean 35; 50 and 60, mean 55.
    """
    last = {(2, 0.1): 3, (2, 1.0): 2, (4, 0.1): 1, (4, 1.0): 5}
    number = 0
    for units in (2, 4):
        for lr in (0.1, 1.0):
            for seed in (1, 2):
                number += 1
                config = {"model": {"num_units": units}, "optimizer": {"lr": lr}, "seed": seed}
                train = [{"loss": 100}, {"loss": last[units, lr] + (0.5 if seed == 1 else -0.5)}]
                logs.run(number, config, metrics={"train": train, "test": [{"loss": number * 10}]})
    return logs


def ids(runs):
    return [run["id"] for run in runs]


def test_the_papers_tutorial_best_hyperparameters_then_the_test_metric_of_the_winners(sweep):
    """Bug: winners over all methods instead of for each; the test metric of all runs instead of the winners'."""
    results = Reader(sweep.path).filter("info.status == 'COMPLETE'")
    methods = results.group_by(["config.model.num_units", "config.optimizer.lr"])
    winners = (
        methods.aggregate([AvgStd(Last("train.loss"))])
        .sort("train.loss_last_avg")
        .unique("config.model.num_units", keep="first", maintain_order=True)
    )
    best = methods.select(winners)
    assert list(best) == [(2, 1.0), (4, 0.1)]
    assert {group: ids(runs) for group, runs in best.items()} == {(2, 1.0): [3, 4], (4, 0.1): [5, 6]}
    table = best.aggregate([AvgStd(Last("test.loss"))]).collect()
    assert table.select(pl.exclude("test.loss_last_std")).rows() == [(2, 1.0, 35.0, 2), (4, 0.1, 55.0, 2)]


def test_the_listings_of_the_paper_run_as_they_are(sweep):
    """Bug: a name or a spelling of MLXP's reader that is not there. Only the imports are ours."""
    parent_log_dir = str(sweep.path)
    reader = Reader(parent_log_dir)
    assert len(reader) == 8
    query = "info.status == 'COMPLETE' & config.optimizer.lr <= 1."
    results = reader.filter(query_string=query)
    assert "LAZYDATA" in repr(results)
    assert results[0]["train.loss"] == [100.0, 3.5]
    group_keys = ["config.optimizer.lr"]
    grouped_results = results.groupBy(group_keys)
    agg_maps = [AvgStd("train.loss"), AvgStd("test.loss")]
    agg_results = grouped_results.aggregate(agg_maps).collect()
    assert agg_results["config.optimizer.lr"].to_list() == [0.1, 1.0]
    # 0.1: 3.5, 2.5, 1.5, 0.5; 1.0: 2.5, 1.5, 5.5, 4.5
    assert agg_results["train.loss_avg"].to_list() == [[100.0, 2.0], [100.0, 3.5]]


def test_diff_names_what_varies_with_its_values(sweep):
    """Bug: constants among them, a value missing in some runs that is not seen."""
    runs = Reader(sweep.path).filter("config.optimizer.lr < 1")
    assert runs.diff() == {"config.model.num_units": [2, 4], "config.seed": [1, 2]}
    sweep.run(9, {"optimizer": {"lr": 0.1}, "seed": 1, "layers": [1]})
    runs = Reader(sweep.path).filter("config.seed == 1 & config.optimizer.lr < 1")
    assert runs.diff() == {"config.model.num_units": [2, 4, None], "config.layers": [None, [1]]}
    assert runs.diff(start_key="info.status") == {}


def test_runs_are_sorted_with_missing_values_last(sweep):
    """Bug: nulls first, an unstable order, an order that collect() does not have."""
    sweep.run(9, {"seed": 3})
    runs = Reader(sweep.path).filter()
    ordered = runs.sort(["config.optimizer.lr", "config.seed"], descending=[True, False])
    assert ids(ordered) == [3, 7, 4, 8, 1, 5, 2, 6, 9]
    assert ordered.collect()["id"].to_list() == ids(ordered)
    with pytest.raises(QueryError, match=r"train\.loss is a metric: runs are sorted by columns of config and info"):
        runs.sort("train.loss")


def test_selected_columns_are_the_ones_shown_and_read(sweep):
    """Bug: metrics of other logs read, a column that is still there or no longer groups."""
    runs = Reader(sweep.path).filter("config.seed == 1").select("id", ["train.loss"])
    assert runs.columns == list(runs[0]) == runs.collect().columns == ["id", "train.loss"]
    with sweep.metric_files_opened() as opened:
        assert runs.collect().height == 4
    assert {name.split("/")[1] for name in opened} == {"train"}
    assert list(runs.group_by("config.optimizer.lr")) == [(0.1,), (1.0,)]
    assert list(runs.sort("config.optimizer.lr")[0]) == ["id", "train.loss"]
    with pytest.raises(KeyError, match="no column"):
        runs[0]["config.seed"]
    with pytest.raises(QueryError, match=r"did you mean 'train\.loss'"):
        runs.select("train.los")


def test_runs_are_html_in_a_notebook_and_read_no_metric(sweep):
    """Bug: text in a notebook, or metrics read to show it."""
    runs = Reader(sweep.path).filter().select("config.seed", "train.loss")
    with sweep.metric_files_opened() as opened:
        html = runs._repr_html_()
    assert opened == []
    assert "<table" in html
    assert "LAZYDATA" in html
    assert "train.loss" in html


def test_groups_are_found_by_value_and_by_tuple(sweep):
    """Bug: a tuple needed where there is one key; a group that is not there found."""
    groups = Reader(sweep.path).filter().groupby("config.optimizer.lr")
    assert ids(groups[0.1]) == ids(groups[(0.1,)]) == [1, 2, 5, 6]
    assert 1.0 in groups
    assert 7.0 not in groups
    with pytest.raises(KeyError):
        groups[7.0]


def test_selected_groups_are_still_lazy_and_read_once(sweep):
    """Bug: the directory read once for each group, or files of groups that were left."""
    groups = Reader(sweep.path).filter().group_by("config.optimizer.lr")
    with sweep.metric_files_opened() as opened:
        table = groups.select([0.1]).aggregate(AvgStd("train.loss"))
        assert opened == []
        assert table.collect()["train.loss_avg"].to_list() == [[100.0, 2.0]]
    assert opened == ["1/train", "2/train", "5/train", "6/train"]
    assert groups.select([]).aggregate(AvgStd("train.loss")).collect().height == 0
    with pytest.raises(KeyError, match="there is no group"):
        groups.select([(7.0,)])
    with pytest.raises(QueryError, match=r"no column 'config\.optimizer\.lr', by which"):
        groups.select(pl.DataFrame({"x": [1]}))


def test_all_runs_together_are_one_row(sweep):
    """Bug: no way to average without a group; no row for no run."""
    runs = Reader(sweep.path).filter("config.seed == 1")
    table = runs.aggregate([AvgStd("test.loss"), Best("train.loss")]).collect()
    # test losses 10, 30, 50, 70; the best train loss of seed 1 is 1.5, in run 5 at step 1
    assert table["test.loss_avg"].to_list() == [[40.0]]
    assert table.select("train.loss_best", "train.loss_best_step", "train.loss_best_id").rows() == [(1.5, 1, 5)]
    nobody = Reader(sweep.path).filter("config.seed == 99").aggregate(AvgStd("config.seed")).collect()
    assert nobody.rows() == [(None, None, None)]


def test_searchable_are_the_columns_whose_values_a_query_compares(sweep):
    """Bug: metrics listed, which a query cannot ask for."""
    (sweep.path / "1/artifacts/json").mkdir(parents=True)
    (sweep.path / "1/artifacts/json/x").write_text("1")
    reader = Reader(sweep.path)
    searchable = reader.searchable["name"].to_list()
    assert searchable == ["id", "path", "info.status", "config.model.num_units", "config.optimizer.lr", "config.seed"]
    assert set(reader.fields["name"]) - set(searchable) == {"artifact.json.x", "train.loss", "test.loss"}


def test_fields_that_disagree_are_listed_with_their_types(logs):
    """Bug: a column of text without a word on what the runs wrote."""
    for number, value in enumerate([1, "auto", 0.5], 1):
        logs.run(number, {"x": value})
    (row,) = Reader(logs.path).fields.filter(pl.col("name") == "config.x").rows()
    assert row == ("config.x", "String", "float, int, text", 3)


def test_to_pandas_says_what_to_install(sweep, monkeypatch):
    """Bug: an error of Polars' own about a package that it needs."""
    runs = Reader(sweep.path).filter("id <= 2")
    for missing in ("pandas", "pyarrow"):
        with monkeypatch.context() as patched:
            for name in ("pandas", "pyarrow"):
                patched.setitem(sys.modules, name, None if name == missing else ModuleType(name))
            with pytest.raises(ImportError, match=rf"{missing}.*pip install 'hydra-mlxp\[pandas\]'"):
                runs.to_pandas()


def test_to_pandas_gives_the_chosen_runs_and_takes_polars_options(sweep, monkeypatch):
    """Bug: None, all runs, or an option of the user's that is dropped. With stand-ins for both packages."""
    given = []
    for name in ("pandas", "pyarrow"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setattr(pl.DataFrame, "to_pandas", lambda frame, **options: given.append(options) or frame.to_dicts())
    made = Reader(sweep.path).filter("id <= 2").select("id", "train.loss").to_pandas(use_pyarrow_extension_array=True)
    assert made == [{"id": 1, "train.loss": [100.0, 3.5]}, {"id": 2, "train.loss": [100.0, 2.5]}]
    assert given == [{"use_pyarrow_extension_array": True}]


# --- artifacts -------------------------------------------------------------------------------------------------------

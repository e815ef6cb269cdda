"""Reader, Runs, Run and groups."""

from __future__ import annotations

import math
import re
import subprocess
import sys

import polars as pl
import pytest

import mlxp_core.reader
from mlxp_core.errors import QueryError, StoreError
from mlxp_core.reader import AvgStd, Reader


@pytest.fixture
def four(logs):
    """Four runs: lr 1.0 (seeds 0 and 1), 0.1 (seed 0) and none at all (seed 1)."""
    for number, (lr, seed) in enumerate([(1.0, 0), (1.0, 1), (0.1, 0), (None, 1)], 1):
        config = {"lr": lr, "seed": seed, "layers": [seed, 8]}
        logs.run(number, config, metrics={"train": [{"loss": number}, {"loss": number * 10}]})
    return logs


def test_fields_lists_every_column_with_its_type_and_how_many_runs_have_it(four):
    """Catches: a field of one run only that is not listed, null counted as a value."""
    assert Reader(four.path).fields.rows() == [
        ("id", "Int64", "int", 4),
        ("path", "String", "text", 4),
        ("info.status", "String", "text", 4),
        ("config.lr", "Float64", "float", 3),
        ("config.seed", "Int64", "int", 4),
        ("config.layers", "List(Int64)", "list of int", 4),
        ("train.loss", "List(Float64)", "metric", 4),
    ]


def test_a_filter_selects_runs_and_they_can_be_indexed_sliced_and_gone_through(four):
    """Catches: runs in another order, negative indices, slices, an index past the end that wraps."""
    runs = Reader(four.path).filter("config.seed == 0")
    assert len(runs) == 2
    assert [run["id"] for run in runs] == [1, 3]
    assert [run["id"] for run in runs[:1]] == [1]
    assert runs[-1]["id"] == 3
    with pytest.raises(TypeError, match=r"runs.select\('train.loss'\) of all"):
        runs["train.loss"]
    with pytest.raises(IndexError, match="no run 2: these are 2 runs"):
        runs[2]
    assert runs.lazy().collect().equals(runs.collect())
    assert runs.collect()["train.loss"].to_list() == [[1.0, 10.0], [3.0, 30.0]]


def test_a_slice_of_runs_is_runs(four):
    """Bug: a bare list, without table, group or aggregate; the order of the runs lost; a run that came later in it."""
    runs = Reader(four.path).filter().sort("config.seed", descending=True)
    order = runs.collect()["id"].to_list()
    assert sorted(order) == [1, 2, 3, 4]
    for some in (slice(1, 3), slice(None, None, 2), slice(None, None, -1), slice(-1, 0, -2), slice(3, 1), slice(9)):
        assert runs[some].collect()["id"].to_list() == order[some]
        assert [run["id"] for run in runs[some]] == order[some]
    first = runs[:2].select("id", "train.loss")
    assert first.columns == ["id", "train.loss"]
    four.run(5)
    assert len(first.collect()) == 2
    assert runs[:2].aggregate(AvgStd("config.seed")).collect()["config.seed_n"].to_list() == [2]


def test_a_run_is_known_by_its_public_name(four):
    """Bug: `isinstance(run, mlxp_core.reader.Run)` of a user that fails because the class has moved."""
    assert "Run" in mlxp_core.reader.__all__
    assert isinstance(Reader(four.path).filter()[0], mlxp_core.reader.Run)


def test_a_run_is_a_mapping_of_all_its_columns(four):
    """Catches: a metric missing among the keys, or read as something else than a list; an error without a guess."""
    run = Reader(four.path).filter("id == 4")[0]
    assert dict(run) == {
        "id": 4,
        "path": str(four.path / "4"),
        "info.status": "COMPLETE",
        "config.lr": None,
        "config.seed": 1,
        "config.layers": [1, 8],
        "train.loss": [4.0, 40.0],
    }
    with pytest.raises(KeyError, match=r"did you mean 'train\.loss'"):
        run["train.los"]


def test_a_run_whose_folder_is_gone_says_so(four):
    """Catches: "no such metric" for a run that was deleted."""
    run = Reader(four.path).filter("id == 4")[0]
    (four.path / "4").rename(four.path.parent / "elsewhere")
    with pytest.raises(StoreError, match=r"cannot read train\.loss: the run folder .*/4 is gone"):
        run["train.loss"]


def test_a_reader_sees_what_is_new_without_being_told(four):
    """Catches: runs, columns or status remembered from the time the reader was made."""
    reader = Reader(four.path)
    assert len(reader.filter("config.seed == 1")) == 2
    four.run(5, {"seed": 1, "new": "x"}, {"status": "FAILED"})
    assert len(reader) == 5
    assert len(reader.filter("config.seed == 1")) == 3
    assert reader.filter("config.new == 'x' & info.status == 'FAILED'")[0]["id"] == 5


def test_runs_stay_the_same_once_they_were_looked_at(four):
    """Catches: runs[i] that is another run than a moment ago."""
    runs = Reader(four.path).filter("config.seed == 1")
    assert len(runs) == 2
    four.run("0extra", {"seed": 1})
    four.run(3000, {"seed": 1})
    assert (len(runs), runs[1]["id"]) == (2, 4)
    assert runs.collect()["id"].to_list() == [2, 4, 3000, None]


def test_the_runs_of_an_empty_directory_stay_none(logs):
    """Bug: a table without runs that is taken for none, so that runs appear which came after the filter."""
    runs = Reader(logs.path).filter()
    logs.run(1)
    assert len(runs) == 0
    assert runs.lazy().collect()["id"].to_list() == [1]


def test_runs_print_as_a_table_with_metrics_left_lazy(four):
    """Catches: a representation that reads metrics or shows an address."""
    with pl.Config(tbl_cols=20, tbl_width_chars=200):
        shown = repr(Reader(four.path).filter("id == 3"))
    assert "LAZYDATA" in shown
    assert "config.lr" in shown
    assert "0.1" in shown


class ArrowStream:
    """What a reader of Arrow sees of an object: its stream."""

    def __init__(self, source):
        self.__arrow_c_stream__ = source.__arrow_c_stream__


@pytest.mark.parametrize("is_installed", [True, False])
def test_runs_are_a_table_for_whatever_reads_arrow(four, monkeypatch, is_installed):
    """Bug: DuckDB, pyarrow and pandas do not know what Runs are, and list() of them loses the types."""
    if is_installed:
        pytest.importorskip("pyarrow")
    else:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    runs = Reader(four.path).filter("config.lr > 0.5").select("id", "config.lr", "train.loss")
    frame = pl.DataFrame(ArrowStream(runs))
    assert frame.to_dict(as_series=False) == {
        "id": [1, 2],
        "config.lr": [1.0, 1.0],
        "train.loss": [[1.0, 10.0], [2.0, 20.0]],
    }


def test_pandas_takes_runs_as_an_arrow_table(four):
    """Bug: Polars' own stream holds views of text, for which pandas has no type in a list."""
    pyarrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pandas")
    four.run(5, {"names": ["adam", "sgd"]})
    frame = pyarrow.table(Reader(four.path).filter()).to_pandas()
    assert list(frame["config.names"][4]) == ["adam", "sgd"]


def test_groups_show_in_a_notebook_as_a_table_of_keys_and_runs(four):
    """Bug: an address, or thousands of tuples on one line; a group that is named by its first run only."""
    runs = Reader(four.path).filter()
    html = runs.group_by(["config.lr", "config.layers"])._repr_html_()
    rows = re.findall(r"<tr>(.*?)</tr>", html.replace("&quot;", ""))
    cells = [re.findall(r"<t[hd]>(.*?)</t[hd]>", row) for row in rows]
    assert cells[0] == ["config.lr", "config.layers", "n", "runs"]
    assert cells[2:] == [
        ["0.1", "[0, 8]", "1", "3"],
        ["1.0", "[0, 8]", "1", "1"],
        ["1.0", "[1, 8]", "1", "2"],
        ["null", "[1, 8]", "1", "4"],
    ]
    assert "<td>1-2</td>" in runs.group_by("config.lr")._repr_html_().replace("&quot;", "")
    chosen = runs.group_by("config.lr").select([0.1])._repr_html_().replace("&quot;", "")
    assert ("<td>3</td>" in chosen, "1-2" in chosen) == (True, False)
    assert "path" in runs.group_by("path")._repr_html_()
    assert "config.lr" in Reader(four.path).filter("id == 99").group_by("config.lr")._repr_html_()


def test_a_table_of_groups_tells_which_runs_they_are(new_logs):
    """Bug: of two directories n is 3 and the runs are 1-2; of many runs the first few are shown, and an ellipsis."""
    one, other = new_logs(), new_logs()
    for number in range(1, 41, 2):
        one.run(number, {"lr": 0.1, "seed": number})
    for number in (1, 2):
        other.run(number, {"lr": 0.1, "seed": 100 + number})
    odd = ", ".join(map(str, range(1, 41, 2)))
    assert odd in Reader(one.path).filter().group_by("config.lr")._repr_html_()
    both = Reader([one.path, other.path]).filter()
    common = one.path.parent.parent
    shown = f"{one.path.relative_to(common)}: {odd}; {other.path.relative_to(common)}: 1-2"
    assert shown in both.group_by("config.lr")._repr_html_()


def test_groups_are_a_mapping_of_values_to_runs(four):
    """Catches: groups in random order, a missing value that loses its runs, a key that is no tuple."""
    groups = Reader(four.path).filter().group_by("config.lr")
    assert list(groups) == [(0.1,), (1.0,), (None,)]
    assert {key: [run["id"] for run in runs] for key, runs in groups.items()} == {
        (0.1,): [3],
        (1.0,): [1, 2],
        (None,): [4],
    }
    assert (1.0,) in groups
    assert (7.0,) not in groups


def test_groups_of_several_keys_and_of_lists(four):
    """Catches: keys in another order than given; a list, which no dictionary takes as a key."""
    runs = Reader(four.path).filter("config.lr is not null")
    assert list(runs.group_by(["config.seed", "config.lr"])) == [(0, 0.1), (0, 1.0), (1, 1.0)]
    groups = runs.group_by(["config.layers"])
    assert {key: [run["id"] for run in group] for key, group in groups.items()} == {((0, 8),): [1, 3], ((1, 8),): [2]}


def test_a_group_is_still_lazy(four):
    """Catches: metrics read to make groups."""
    with four.metric_files_opened() as opened:
        groups = Reader(four.path).filter().group_by("config.seed")
        group = groups[(1,)]
        assert len(group) == 2
    assert opened == []
    assert group.lazy().select("train.loss").collect().rows() == [([2.0, 20.0],), ([4.0, 40.0],)]


def test_not_a_number_is_a_group(logs):
    """Catches: a group that its own value does not find, since NaN is not equal to itself."""
    logs.run(1, {"lr": math.nan})
    logs.run(2, {"lr": 1.0})
    groups = Reader(logs.path).filter().group_by("config.lr")
    assert [[run["id"] for run in runs] for runs in groups.values()] == [[2], [1]]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("config.lrr", "no column 'config.lrr': did you mean 'config.lr'?"),
        ([], "group_by needs at least one column"),
        (pl.col("config.lr"), 'group_by takes names of columns, and not col("config.lr"): for expressions see lazy()'),
        (["config.lr", "train.loss"], "train.loss is a metric: runs are grouped by columns of config and info"),
    ],
)
def test_keys_that_cannot_be_grouped_by_are_errors(four, keys, message):
    """Catches: an error of Polars' own, long after the mistake."""
    with pytest.raises(QueryError) as error:
        Reader(four.path).filter().group_by(keys)
    assert str(error.value) == message


def test_what_cannot_be_aggregated_is_an_error(four):
    """Catches: one aggregation that silently replaces the other; an AttributeError for a name."""
    groups = Reader(four.path).filter().group_by("config.lr")
    for given in ("train.loss", ["train.loss"]):
        with pytest.raises(QueryError, match=r"'train.loss' is no aggregation: write AvgStd\('train.loss'\)"):
            groups.aggregate(given)
    with pytest.raises(QueryError, match=r"two columns .* named train.loss_avg, train.loss_n, train.loss_std"):
        groups.aggregate([AvgStd("train.loss"), AvgStd("train.loss", ddof=0)])


def test_the_reader_needs_polars_and_no_other_heavy_package():
    """Catches: an import that makes the reader useless on a laptop without Hydra, or slow to start."""
    names = ["hydra", "omegaconf", "git", "numpy", "pandas", "pyarrow", "torch"]
    code = f"import sys, mlxp_core.reader; print([name for name in {names} if name in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={
            "PYTHONPATH": str(mlxp_core.reader.__path__[0]).removesuffix("mlxp_core/reader"),
        },
    )
    assert result.stdout == "[]\n"


def test_a_group_of_lists_with_nan_in_them_is_found(logs):
    """Bug: a group that is listed and not there, for NaN is not equal to itself."""
    for number in (1, 2):
        logs.run(number, {"b": [1.0, float("nan")], "seed": number}, metrics={"t": [{"a": number}]})
    groups = Reader(logs.path).filter().group_by("config.b")
    assert len(groups.select(groups.aggregate([AvgStd("t.a")]))) == 1

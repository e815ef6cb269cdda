"""Listing a log directory: which folders are runs, in which order, and what is no log directory."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from mlxp_core.errors import StoreError
from mlxp_core.reader import Reader, scan_runs


def test_runs_are_ordered_by_id_and_then_by_name(logs):
    """Catches: order of the file system, or of text: 10 before 9; no id for Hydra's own first folder, 0."""
    for name in ("10", "b", "9", "a", "007", "0"):
        logs.run(name)
    frame = scan_runs(logs.path).collect()
    assert frame["id"].to_list() == [0, 9, 10, None, None, None]
    assert [Path(path).name for path in frame["path"]] == ["0", "9", "10", "007", "a", "b"]
    assert [Path(run["path"]).name for run in Reader(logs.path).filter("id < 10")] == ["0", "9"]


def test_folders_that_are_no_runs_are_left_out(logs):
    """Catches: the package's own folder, files, or half-made folders taken for runs."""
    logs.run(1)
    logs.run(".mlxp")
    (logs.path / "2/metadata").mkdir(parents=True)
    (logs.path / "notes.txt").write_text("x")
    assert logs.column("id") == [1]
    assert len(Reader(logs.path)) == 1


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


def test_a_run_that_is_deleted_is_gone(logs):
    """Catches: metadata remembered for folders that are not there any more."""
    run = logs.run(1)
    logs.run(2)
    frame = scan_runs(logs.path)
    assert frame.collect().height == 2
    (run / "metadata/info.yaml").unlink()
    assert frame.collect()["id"].to_list() == [2]


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

"""Listing a log directory: which folders are runs, in which order, and what is no log directory."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from mlxp_core.errors import StoreError
from mlxp_core.reader import Reader, scan_metrics, scan_runs


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


@pytest.fixture
def several(logs, tmp_path):
    """Log directories as Hydra's multiruns leave them, a day and a time each; and one of attempts in a run."""
    for name, lr in (("day1/10-00", 0.5), ("day1/11-00", 1), ("day2/09-00", 2)):
        (tmp_path / "multirun" / name).parent.mkdir(parents=True, exist_ok=True)
        day = type(logs)(tmp_path / "multirun" / name)
        day.run(0, {"lr": lr}, metrics={"train": [{"loss": lr}]})
        run = day.run(1, {"lr": lr * 10, name: "x"})
        (run / "metadata/attempts/1/metadata").mkdir(parents=True)
        (run / "metadata/attempts/1/metadata/info.yaml").write_text("status: FAILED\n")
    return tmp_path / "multirun"


def test_several_log_directories_are_one_table(several):
    """Bug: a list of paths is a TypeError of os.path; ids taken for names of runs, of which two are the same."""
    days = [several / "day1/10-00", several / "day2/09-00"]
    reader = Reader(days)
    assert len(reader) == 4
    assert repr(reader) == f"Reader({[str(day) for day in days]})"
    runs = reader.filter("config.lr >= 2")
    assert [(run["id"], run["config.lr"], run["path"]) for run in runs] == [
        (1, 5.0, str(days[0] / "1")),
        (0, 2.0, str(days[1] / "0")),
        (1, 20.0, str(days[1] / "1")),
    ]
    assert runs[1]["train.loss"] == [2.0]
    assert [run["config.lr"] for run in reader.filter("last(train.loss) > 1")] == [2.0]
    frame = scan_runs(days).collect()
    assert frame["train.loss"].to_list() == [[0.5], None, [2.0], None]
    assert frame["config.day1/10-00"].to_list() == [None, "x", None, None]
    assert scan_metrics(days, "train").collect().select("path", "loss").rows() == [
        (str(days[0] / "0"), 0.5),
        (str(days[1] / "0"), 2.0),
    ]
    fields = {row[0]: row[3] for row in reader.fields.rows()}
    assert (fields["config.lr"], fields["train.loss"]) == (4, 2)
    assert reader.problems == []
    (days[1] / "1/metadata/config.yaml").write_text("a: [")
    assert [problem.path for problem in reader.problems] == [str(days[1] / "1/metadata/config.yaml")]


def test_the_same_directory_given_twice_counts_once(several):
    """Bug: each run twice, by a link or by another spelling: n = 2 of one run."""
    (several / "latest").symlink_to("day2/09-00")
    assert len(Reader([several / "day2/09-00", several / "latest", f"{several}/day1/../day2/09-00/"])) == 2


def test_a_pattern_stands_for_the_folders_that_hold_runs(several, monkeypatch):
    """Bug: a pattern is a path that is not there; a run's attempts, or its other folders, taken for runs."""
    (several / "day3/empty").mkdir(parents=True)
    assert len(Reader(several / "*/*")) == 6
    assert len(Reader([str(several / "day1/*")])) == 4
    assert len(Reader(f"{several}/**")) == 6
    monkeypatch.chdir(several)
    assert len(Reader("day[12]/09*")) == 2
    Path("logs[1]").mkdir()
    assert len(Reader("logs[1]")) == 0  # as it is called


def test_a_tilde_is_the_home_of_the_user(several, monkeypatch):
    """Bug: `~/logs` in a script, where no shell expands it: no such directory."""
    monkeypatch.setenv("HOME", str(several))
    assert len(Reader("~/day1/10-00")) == 2
    assert len(Reader([Path("~/day1/10-00"), "~/day2/*"])) == 4
    assert scan_runs("~/day1/10-00").collect().height == 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            "{}",
            """{0} holds no runs, but {0}/day1/10-00, {0}/day1/11-00, {0}/day2/09-00 below it: give one of these; \
the reader also takes a list, or a pattern such as '{0}/*/*'""",
        ),
        ("{}/day1", "{0}/day1 holds no runs, but {0}/day1/10-00, {0}/day1/11-00 below it"),
        ("{}/day?", "{0}/day1 holds no runs, but {0}/day1/10-00"),
        (
            "{}/day1/10-00/1",
            "{0}/day1/10-00/1 is a run and no log directory: give the folder that it lies in, {0}/day1/10-00",
        ),
        (
            "{}/day1/10-00/*",
            "{0}/day1/10-00/* matches runs, {0}/day1/10-00/0 first: give the folder that they lie in, ",
        ),
        ("{}/night*", "no folder that holds runs matches {0}/night*"),
    ],
)
def test_what_is_no_log_directory_says_where_the_runs_are(several, given, message):
    """Bug: 0 runs, in silence, for the parent of the log directories, or for one run."""
    for read in (Reader, scan_runs, lambda path: scan_metrics(path, "train"), lambda path: Reader([path])):
        with pytest.raises(StoreError) as error:
            read(given.format(several))
        assert str(error.value).startswith(message.format(several))


def test_the_pattern_that_is_proposed_is_one_that_matches(several):
    """Bug: below a folder that a sweep over lists has named, the pattern of the error message matched nothing."""
    home = several / "x=[1,2]"
    home.mkdir()
    for day in ("day1", "day2"):
        (several / day).rename(home / day)
    with pytest.raises(StoreError, match="a pattern such as") as error:
        Reader(home)
    assert len(Reader(str(error.value).rpartition("such as ")[2].strip("'"))) == 6


def test_what_is_no_path_at_all_is_refused_in_words(several):
    """Bug: the words of os.path, or an open descriptor for a number."""
    for given in (3, None):
        with pytest.raises(TypeError, match="give the path of a log directory, a pattern, or a list of these, and not"):
            Reader(given)
    with pytest.raises(StoreError, match="the list is empty"):
        Reader([])
    assert len(Reader(bytes(several / "day1/10-00"))) == 2


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

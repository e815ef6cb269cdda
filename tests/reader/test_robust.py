"""Large, odd and disappearing: what a log directory of a few years holds."""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading

import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st

from mlxp_core.errors import StoreError
from mlxp_core.reader import AvgStd, Best, Reader, scan_metrics, scan_runs


def test_a_million_lines_are_read(logs):
    """Bug: minutes, or a limit on lines. The sum of 0 to 999,999 is 499,999,500,000."""
    run = logs.run(1, metrics={"train": [{"n": 0}]})
    (run / "metrics/train.json").write_bytes(b"".join(b'{"n": %d}\n' % number for number in range(1_000_000)))
    (values,) = scan_runs(logs.path).collect()["train.n"]
    assert len(values) == 1_000_000
    assert values.sum() == 499_999_500_000
    assert scan_metrics(logs.path, "train").head(3).collect()["n"].to_list() == [0.0, 1.0, 2.0]


def test_a_thousand_keys_are_a_thousand_columns(logs):
    """Bug: a cost that grows with the square of the keys, keys lost, values in the wrong column."""
    keys = {f"k{number}": number for number in range(1000)}
    for number in range(1, 4):
        logs.run(number, keys, metrics={"train": [keys, {"k5": 7}]})
    frame = scan_runs(logs.path).collect()
    assert len([name for name in frame.columns if name.startswith("train.")]) == 1000
    assert frame["train.k999"].to_list() == [[999.0, None]] * 3
    assert frame["train.k5"].to_list() == [[5.0, 7.0]] * 3
    assert frame["config.k999"].to_list() == [999] * 3


def test_a_directory_that_vanishes_while_it_is_read_is_an_error_that_says_so_or_an_answer(logs):
    """Bug: any exception out of the middle of the reader; rows of two directories."""
    for number in range(1, 201):
        logs.run(number, {"x": number}, metrics={"train": [{"loss": number}]})
    frame = scan_runs(logs.path)

    def remove():
        while logs.path.exists():  # a reader that puts its index there in this moment keeps the folder once
            shutil.rmtree(logs.path, ignore_errors=True)

    remover = threading.Thread(target=remove)
    remover.start()
    seen = []
    while remover.is_alive():
        try:
            seen.append(frame.collect())
        except StoreError as error:
            assert "cannot read the log directory" in str(error)  # noqa: PT017  (an answer is right, too)
    remover.join()
    for one in seen:
        assert set(one["config.x"]) - {None} <= set(range(1, 201))
    with pytest.raises(StoreError, match="cannot read the log directory"):
        frame.collect()


def test_runs_that_vanish_one_by_one_leave_the_others(logs):
    """Bug: a run deleted between the look at the folder and the look into it, which takes the table down."""
    for number in range(1, 61):
        logs.run(number, {"x": number}, metrics={"train": [{"loss": number}]})
    frame = scan_runs(logs.path)

    def remove():
        for number in range(1, 31):
            shutil.rmtree(logs.path / str(number))

    remover = threading.Thread(target=remove)
    remover.start()
    while remover.is_alive():
        rest = frame.collect()["id"].to_list()
        assert set(range(31, 61)) <= set(rest)
    remover.join()
    assert frame.collect()["id"].to_list() == list(range(31, 61))


def test_a_run_being_written_now_grows_from_look_to_look(logs):
    """Bug: half lines, or lines that were there before and are gone."""
    run = logs.run(1, info={"status": "RUNNING", "hostname": "elsewhere"}, metrics={"train": [{"loss": 0}]})
    frame = scan_runs(logs.path).select("train.loss")
    done = threading.Event()

    def write():
        with (run / "metrics/train.json").open("ab", buffering=0) as file:
            for number in range(1, 500):
                line = json.dumps({"loss": number}).encode() + b"\n"
                file.write(line[:5])
                file.write(line[5:])
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    length = 0
    while not done.is_set():
        (values,) = frame.collect()["train.loss"].to_list()
        assert values == [float(number) for number in range(len(values))]
        assert len(values) >= length
        length = len(values)
    writer.join()
    assert frame.collect()["train.loss"].to_list() == [[float(number) for number in range(500)]]


def test_an_unreadable_file_is_a_problem_and_no_end(logs):
    """Bug: a PermissionError; here a folder in place of each file, as root may read everything."""
    for place in ("metadata/config.yaml", "metrics/.keys/train.json", "metrics/train.json"):
        run = logs.run(place.replace("/", "-"), {"x": 1}, metrics={"train": [{"loss": 1}]})
        (run / place).unlink()
        (run / place).mkdir()
    logs.run(1, {"x": 1}, metrics={"train": [{"loss": 1}]})
    frame = scan_runs(logs.path).collect()
    assert frame.height == 4
    assert frame["train.loss"].to_list()[0] == [1.0]
    assert len(Reader(logs.path).problems) >= 1


def test_a_folder_that_may_not_be_entered_is_a_run_with_a_problem(logs, monkeypatch):
    """Bug: a colleague's runs missing without a word. (By hand, as root may enter everything.)"""
    logs.run(1, {"x": 1})
    logs.run(2, {"x": 2})
    (logs.path / "circle").symlink_to("circle")
    stat = os.stat

    def closed(path, *rest, **more):
        if str(path).startswith(("2/", f"{logs.path}/2/")):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return stat(path, *rest, **more)

    monkeypatch.setattr(os, "stat", closed)
    assert scan_runs(logs.path).collect()["id"].to_list() == [1, 2]
    problem, *_ = Reader(logs.path).problems
    assert problem.path == str(logs.path / "2/metadata/info.yaml")
    assert "Permission denied" in problem.what


FILES = [
    "metadata/config.yaml",
    "metadata/info.yaml",
    "metadata/exit_code",
    "metadata/submission.yaml",
    "metrics/train.json",
    "metrics/.keys/train.json",
    "metrics/.keys/train.yaml",
    "artifacts/.keys/custom_types.yaml",
    "artifacts/json/x",
]
PIECES = st.sampled_from(
    [
        b"{",
        b"}",
        b'"loss"',
        b": ",
        b"1",
        b"NaN",
        b"\n",
        b"- ",
        b"a",
        b"&x ",
        b"*x",
        b"!!python/name:os.system",
        b"\xff",
        b"'",
    ]
)


@given(st.dictionaries(st.sampled_from(FILES), st.lists(PIECES, max_size=12).map(b"".join) | st.binary(max_size=30)))
@examples(150)
@pytest.mark.filterwarnings("ignore")  # what libyaml says of odd text is not the matter here
def test_no_content_of_any_file_stops_any_part_of_the_reader(new_logs, contents):
    """Bug: an exception that nobody thought of, in what users call: long form, groups, aggregations, printing."""
    logs = new_logs()
    run = logs.run(1, {"x": 1}, metrics={"train": [{"loss": 1}]})
    logs.run(2, {"x": 2}, metrics={"train": [{"loss": 1.5}, {"loss": 2}]})
    for name, content in contents.items():
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_bytes(content)
    reader = Reader(logs.path)
    runs = reader.filter()
    assert len(runs) == len(runs.collect()) == 2
    numeric = [
        name for name, dtype in runs.schema.items() if name.startswith("train.loss") and dtype.inner.is_numeric()
    ]
    runs.group_by("info.status").aggregate([one(name) for name in numeric for one in (AvgStd, Best)]).collect()
    assert scan_metrics(logs.path, "train").collect().height >= 2
    assert dict(runs[0])
    assert repr(runs)
    assert runs._repr_html_()
    assert isinstance(runs.diff(), dict)
    assert isinstance(reader.problems, list)
    assert reader.searchable.height >= 3
    assert os.listdir(logs.path)


def test_what_is_no_metric_file_is_reported_and_the_others_are_read(logs):
    """Bug: a log that is gone without a word; one unreadable file that takes the other logs of its run with it."""
    run = logs.run(1, metrics={"b": [{"loss": 1}], "d": [{"loss": 2}]})
    os.mkfifo(run / "metrics/a.json")
    (run / "metrics/c.json").mkdir()
    (run / "metrics/e.json").symlink_to("nothing")
    (run / "metrics/.keys/d.json").unlink()
    (run / "metrics/.keys/d.json").symlink_to("d.json")  # a loop: an error when it is opened
    reader = Reader(logs.path)
    metrics = [name for name in reader.filter().collect().columns if name.endswith(".loss")]
    assert metrics == ["b.loss"]
    loop = f"[Errno 40] Too many levels of symbolic links: '{run}/metrics/.keys/d.json'"
    assert [str(problem) for problem in reader.problems] == [
        f"{run}/metrics/d.json: cannot be read: {loop}",
        *(f"{run}/metrics/{name}.json: is no regular file" for name in "ace"),
    ]


def test_a_run_that_cannot_be_entered_is_counted_and_reported(logs, monkeypatch):
    """Bug: two runs by len(reader), three in its table."""
    for number in range(1, 4):
        logs.run(number)
    really = os.stat

    def stat(path, **options):  # as for others than root, in whose way no permission stands
        if str(path).startswith("2/"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return really(path, **options)

    monkeypatch.setattr(os, "stat", stat)
    reader = Reader(logs.path)
    assert len(reader) == len(reader.filter()) == 3


def problems(reader):
    return {(problem.path.rpartition("/logs/")[2], problem.what) for problem in reader.problems}


def test_every_problem_of_a_metric_file_is_known_until_it_is_repaired(logs):
    """Bug: the last one alone; one that is told for ever, also of a file that has been read again without it."""
    broken = ['{"a": 1}\n', "garbage\n", '{"a": "x"}\n']
    run = logs.run(1, metrics={"t": broken}, keys=False)
    (run / "metrics/.keys/t.json").write_text('["a", "number"]\n')
    reader = Reader(logs.path)
    reader.filter().collect()
    name = "1/metrics/t.json"
    assert problems(reader) == {
        (name, "1 line is no JSON object and was skipped"),
        (name, "line 3: a is 'x', which is no number: null in this column of numbers"),
    }
    (run / "metrics/t.json").write_text('{"a": 1}\n')
    assert reader.filter()[0]["t.a"] == [1.0]
    assert reader.problems == []


def test_a_log_of_nothing_but_garbage_and_a_list_of_keys_that_was_cut_to_nothing(logs):
    """Bug: a metric file that is dropped without a word."""
    run = logs.run(1, metrics={"t": ["garbage\n", "more\n"]}, keys=False)
    assert problems(Reader(logs.path)) == {("1/metrics/t.json", "2 lines are no JSON object and were skipped")}
    (run / "metrics/t.json").write_text('{"b": 1}\n')
    assert Reader(logs.path).problems == []
    logs.log(run, "u", [{"a": 1}, "garbage\n"], keys=False)
    (run / "metrics/.keys/u.json").touch()
    reader = Reader(logs.path)
    assert reader.filter()[0]["u.a"] == [1.0]
    assert problems(reader) == {("1/metrics/u.json", "1 line is no JSON object and was skipped")}
    assert len(reader.problems) == 1


def test_keys_given_twice_and_statuses_that_are_none_are_reported(logs):
    """Bug: values that are lost, and a run that counts as not yet started, without a word."""
    run = logs.run(1, info={"status": "COMPL", "x": 1})
    (run / "metadata/config.yaml").write_text("b:\n  c: 1\nl: [{d: 1, d: 2}]\nb:\n  d: 2\n")
    (run / "metadata/info.yaml").write_text("status: COMPL\nx: 1\nx: 2\n")
    found = sorted(problems(Reader(logs.path)))
    assert found[:2] == [("1/metadata/config.yaml", f"{key} is given twice; the last one counts") for key in "bd"]
    assert found[2][1].startswith("the status 'COMPL' is none of CANCELLED, COMPLETE, FAILED")
    assert found[3] == ("1/metadata/info.yaml", "x is given twice; the last one counts")


def test_runs_that_went_away_leave_a_problem_and_not_just_a_null(logs):
    """Bug: a row of nulls for the mean of runs that nobody can read any more."""
    for number in (1, 2):
        logs.run(number, metrics={"t": [{"a": number}]})
    reader = Reader(logs.path)
    runs = reader.filter()
    assert len(runs) == 2
    shutil.rmtree(logs.path / "2")
    assert runs.aggregate(AvgStd("t.a")).collect()["t.a_n"].to_list() == [[1]]
    assert ("2/metrics/t.json", "cannot be read: the run folder is gone") in problems(reader)


def test_a_folder_whose_name_is_no_text_is_read_run_by_run_too(tmp_path):
    """Bug: a run that is in the table, and gone when it is asked for a metric or an artifact."""
    home = os.fsdecode(os.fsencode(str(tmp_path)) + b"/l\xff")
    run = os.path.join(home, "1")
    os.makedirs(os.path.join(run, "metadata"))
    os.makedirs(os.path.join(run, "metrics"))
    os.makedirs(os.path.join(run, "artifacts/json"))
    files = {"metadata/info.yaml": "status: COMPLETE\n", "metrics/t.json": '{"a": 1}\n', "artifacts/json/w.json": "5"}
    for name, text in files.items():
        with open(os.path.join(run, name), "w", encoding="utf-8") as file:
            file.write(text)
    (one,) = Reader(home).filter()
    assert one["t.a"] == [1.0]
    assert one["artifact.json.w.json"].load() == 5


def test_links_that_lead_nowhere_take_nothing_else_with_them(logs):
    """Bug: one circular link in a folder, and no metric is left of the run; a configuration without a word."""
    run = logs.run(1, {"x": 1}, metrics={"t": [{"a": 1}]})
    (run / "metrics/loop.json").symlink_to("loop.json")
    (run / "metadata/config.yaml").unlink()
    (run / "metadata/config.yaml").symlink_to("purged.yaml")
    reader = Reader(logs.path)
    assert reader.filter()[0]["t.a"] == [1.0]
    assert problems(reader) == {
        ("1/metrics/loop.json", "is no regular file"),
        ("1/metadata/config.yaml", "cannot be read: it is a link to what is not there"),
    }

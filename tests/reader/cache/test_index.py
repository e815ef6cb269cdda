"""The index is a cache: whatever becomes of it, the answers are those of the directory as it is now."""

from __future__ import annotations

import io
import json
import os
import sys
import threading

import polars as pl
import pytest
from reader_caches import forget

from mlxp_core.reader import Reader, scan_runs
from mlxp_core.reader.cache import index, run_cache
from mlxp_core.reader.load import file_cache

LONG_AGO = 1_000_000_000


def age(path):
    """Let everything be old, as far as a program may say so."""
    for folder, _, names in os.walk(path):
        for name in (".", *names):
            os.utime(os.path.join(folder, name), (LONG_AGO, LONG_AGO))


@pytest.fixture
def forty(logs, monkeypatch, tmp_path):
    """Forty runs that have ended, by which nothing counts as just written; x is the number of the run."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(file_cache, "RACY_NS", 0)
    for number in range(1, 41):
        run = logs.run(number, {"x": number, "nan": float("nan")}, metrics={"train": [{"loss": number}]})
        if number == 3:
            (run / "artifacts/json").mkdir(parents=True)
            (run / "artifacts/json/w").write_text("1")
            (run / "metadata/config.yaml").write_text('a: {b: 1}\n"a.b": 2\nx: 3\n')
    age(logs.path)
    forget()
    return logs


def read_all(logs):
    frame = scan_runs(logs.path).collect()
    return dict(zip(frame["id"], zip(frame["info.status"], frame["config.x"], strict=True), strict=True))


def index_of(logs):
    return logs.path / ".mlxp/reader-index"


def yaml_files_read(work):
    """Do something as a new process would, and count the YAML files that it opens."""
    from mlxp_core.reader.load import run as folders

    forget()
    read = []
    original = folders._load

    def load(path, prefix):
        read.append(path)
        return original(path, prefix)

    folders._load = load
    try:
        result = work()
    finally:
        folders._load = original
    return result, len(read)


def test_a_second_process_reads_no_yaml_and_says_the_same(forty):
    """Bug: an index that is written and not used, or that loses types, problems, artifacts or keys of metrics."""
    first = scan_runs(forty.path).collect()
    problems = Reader(forty.path).problems
    assert len(problems) == 1
    assert index_of(forty).exists()
    second, count = yaml_files_read(lambda: scan_runs(forty.path).collect())
    assert count == 0
    assert second.equals(first)
    assert second.schema == first.schema
    assert Reader(forty.path).problems == problems
    assert Reader(forty.path).filter("id == 3")[0]["artifact.json.w"].load() == 1


def test_a_few_runs_are_no_reason_to_write_anything(logs):
    """Bug: a file of ours in every folder that somebody looks at."""
    logs.run(1)
    age(logs.path)
    scan_runs(logs.path).collect()
    assert os.listdir(logs.path) == ["1"]


def replace(path, text):
    """Write a new file and rename it into place, as this package and most editors do."""
    path.with_name("new").write_text(text)
    path.with_name("new").rename(path)


def with_time_put_back(path, text):
    """Write in place, then put the time back, as a program that keeps the times of files does."""
    path.write_text(text)
    os.utime(path, (LONG_AGO, LONG_AGO))


@pytest.mark.parametrize("new_process", [True, False])
@pytest.mark.parametrize("write", [replace, lambda path, text: path.write_text(text), with_time_put_back])
def test_a_run_that_has_ended_and_changes_is_seen(forty, write, new_process):
    """Bug: trust in an index, or in memory, over the folder: replaced files and such that were edited in place."""
    assert read_all(forty)[7] == ("COMPLETE", 7)
    write(forty.path / "7/metadata/config.yaml", "x: 70\n")
    write(forty.path / "8/metadata/info.yaml", "status: FAILED\n")
    if new_process:
        forget()
    after = read_all(forty)
    assert (after[7], after[8], after[9]) == (("COMPLETE", 70), ("FAILED", 8), ("COMPLETE", 9))


@pytest.mark.parametrize("new_process", [True, False])
def test_a_run_that_is_submitted_again_and_runs_again_is_seen(forty, new_process):
    """Bug: COMPLETE for ever, once that was seen. submission.yaml's attempt goes up, then the job starts, then ends."""
    assert read_all(forty)[7] == ("COMPLETE", 7)
    stations = [
        ("submission.yaml", "state: PENDING\nattempt: 2\n", "PENDING"),
        ("info.yaml", "status: RUNNING\nattempt: 2\nhostname: elsewhere\n", "RUNNING"),
        ("exit_code", "1 2\n", "FAILED"),
    ]
    for name, text, status in stations:
        replace(forty.path / "7/metadata" / name, text)
        if new_process:
            forget()
        assert read_all(forty)[7] == (status, 7)


def test_new_logs_keys_and_artifacts_types_of_an_ended_run_are_seen(forty):
    """Bug: a folder that is still being copied taken for whole, because its info.yaml came first."""
    read_all(forty)
    forty.log(forty.path / "7", "late", [{"acc": 1}])
    (forty.path / "7/artifacts/json").mkdir(parents=True)
    (forty.path / "7/artifacts/json/x").write_text("5")
    (run,) = Reader(forty.path).filter("id == 7")
    assert run["late.acc"] == [1.0]
    assert run["artifact.json.x"].load() == 5


def test_a_run_that_goes_and_one_that_comes_are_seen(forty):
    """Bug: rows of folders that are not there any more; new ones only after the index was deleted."""
    read_all(forty)
    (forty.path / "7/metadata/info.yaml").unlink()
    forty.run(41, {"x": 41})
    forget()
    after = read_all(forty)
    assert 7 not in after
    assert after[41] == ("COMPLETE", 41)


def test_a_run_under_way_is_never_in_the_index(logs, monkeypatch, tmp_path):
    """Bug: RUNNING for ever; metrics with keys that appear late."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for number in range(1, 41):
        logs.run(number, {"x": number}, {"status": "RUNNING", "hostname": "elsewhere"})
    logs.run(41, {"x": 41}, {"status": "RUNNING", "hostname": "elsewhere"})
    (logs.path / "41/metadata/submission.yaml").write_text("state: TIMEOUT\n")
    age(logs.path)
    forget()
    assert read_all(logs)[41] == ("TIMEOUT", 41)
    assert not index_of(logs).exists()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: content[:-2],
        lambda content: content[:-100] + bytes([content[-100] ^ 1]) + content[-99:],
        lambda content: content.replace(b"index 5 ", b"index 4 ", 1),
        lambda content: bytes(100),
        lambda content: b"[" * 100_000,
        lambda content: whole(b"[1]"),
        lambda content: whole(b"[[], []]"),
        lambda content: whole(b"[0, [], []]"),
        lambda content: whole(b"[4, [], []]", b"ARRO"),
    ],
)
def test_an_index_that_is_not_whole_or_not_ours_is_not_used(forty, spoil):
    """Bug: a crash, or wrong answers, for a torn, foreign or edited index."""
    before = read_all(forty)
    index_of(forty).write_bytes(spoil(index_of(forty).read_bytes()))
    after, count = yaml_files_read(lambda: read_all(forty))
    assert after == before
    assert count > 0
    again, count = yaml_files_read(lambda: read_all(forty))
    assert (again, count) == (before, 0)  # and a whole one has come in its place


def whole(head, tables=b""):
    """An index whose checksum is right."""
    return f"{index._VERSION} {len(head)} {index._checksum(head + tables)}\n".encode() + head + tables


@pytest.mark.parametrize(
    "change",
    [
        lambda frame: frame.drop("status"),
        lambda frame: frame.with_columns(pl.col("name").cast(pl.Binary)),
        lambda frame: frame.with_columns(pl.lit(99, pl.UInt32).alias("logs")),
        lambda frame: frame.with_columns(pl.lit(None, pl.UInt32).alias("config")),
        lambda frame: frame.with_columns(pl.lit("1").alias("field int config.x")),
        lambda frame: frame.with_columns(pl.lit("1").alias("other")),
    ],
)
def test_an_index_with_columns_of_another_form_is_not_used(forty, change):
    """Bug: a whole file by its checksum, with something else in it."""
    before = read_all(forty)
    content = index_of(forty).read_bytes()
    columns = index.read_index(content)
    frame, schema, stream = change(columns.frame), io.BytesIO(), io.BytesIO()
    frame.clear().write_ipc_stream(schema)
    frame.write_ipc_stream(stream)
    head = json.dumps([len(schema.getvalue()), *columns.tables.to_json()]).encode()
    index_of(forty).write_bytes(whole(head, schema.getvalue() + stream.getvalue()))
    after, count = yaml_files_read(lambda: read_all(forty))
    assert after == before
    assert count > 0


def test_a_deleted_index_is_made_again(forty):
    """Bug: an error for a file that is a cache."""
    before = read_all(forty)
    index_of(forty).unlink()
    forget()
    assert read_all(forty) == before
    assert index_of(forty).exists()


def test_where_the_log_directory_cannot_be_written_the_users_cache_is(forty, tmp_path):
    """Bug: an error on a read-only directory, or each process slow. (.mlxp is a file: root may write anywhere.)"""
    (forty.path / ".mlxp").write_text("in the way")
    before = read_all(forty)
    assert len(os.listdir(tmp_path / "cache/hydra-mlxp/reader")) == 1
    after, count = yaml_files_read(lambda: read_all(forty))
    assert (after, count) == (before, 0)


def test_where_nothing_can_be_written_reading_goes_on(forty, tmp_path):
    """Bug: an OSError out of a cache."""
    (forty.path / ".mlxp").write_text("in the way")
    (tmp_path / "cache").write_text("in the way")
    assert read_all(forty)[7] == ("COMPLETE", 7)


def test_a_deleted_log_directory_does_not_come_back(forty):
    """Bug: an index written into folders that are made for it."""
    read_all(forty)
    columns = index.load_index(str(forty.path))
    forty.path.rename(forty.path.with_name("elsewhere"))
    index.save_index(str(forty.path), columns)
    assert not forty.path.exists()


def test_what_is_kept_of_ended_runs_is_kept_once(forty):
    """Bug: half a gigabyte of parsed YAML beside the columns that were made of it."""
    from mlxp_core.reader.load import run as folders

    read_all(forty)
    assert [path for path in folders._config_files._values if path.startswith(str(forty.path))] == []


def test_what_has_just_been_written_is_not_trusted(forty, monkeypatch):
    """Bug: two versions within one tick of the clock, with the same times and sizes."""
    monkeypatch.setattr(file_cache, "RACY_NS", 3600 * 10**9)
    read_all(forty)
    assert not index_of(forty).exists()


def test_old_rows_and_new_ones_are_one_index(forty, monkeypatch):
    """Bug: rows out of order, or with values of others, once some runs came or changed after the index was written."""
    monkeypatch.setattr(run_cache, "_MIN_NEW", 1)
    read_all(forty)
    replace(forty.path / "7/metadata/config.yaml", "x: [1, 2]\nlate: 1\n")
    for number in (41, 42, 43):
        forty.run(number, {"x": number, "late": 2.5}, metrics={"val": [{"acc": 1}]})
    forty.run("named", {"x": 0})
    (forty.path / "9/metadata/info.yaml").unlink()
    forget()
    first = scan_runs(forty.path).collect()
    second, count = yaml_files_read(lambda: scan_runs(forty.path).collect())
    assert count == 0
    assert second.equals(first)
    assert first["id"].to_list() == [*range(1, 9), *range(10, 44), None]
    assert first["config.x"].to_list() == [*"123456", "[1, 2]", "8", *map(str, [*range(10, 44), 0])]
    assert dict(zip(first["id"], first["config.late"], strict=True)) == {
        **dict.fromkeys([*range(1, 9), *range(10, 41), None]),
        7: 1.0,
        **dict.fromkeys([41, 42, 43], 2.5),
    }


def test_a_directory_that_was_moved_is_read_by_its_index_and_says_where_it_is_now(forty, tmp_path):
    """Bug: paths of before, of runs, artifacts or problems."""
    read_all(forty)
    forty.path = forty.path.rename(tmp_path / "moved")
    frame, count = yaml_files_read(lambda: scan_runs(forty.path).collect())
    assert count == 0
    assert frame["path"].to_list()[2] == str(tmp_path / "moved/3")
    assert frame["artifact.json.w"].to_list()[2] == str(tmp_path / "moved/3/artifacts/json/w")
    assert [problem.path for problem in Reader(forty.path).problems] == [str(tmp_path / "moved/3/metadata/config.yaml")]


def test_a_directory_that_takes_the_place_of_another_is_read(forty, new_logs):
    """Bug: the runs of a directory that was here before."""
    read_all(forty)
    other = new_logs()
    for number in range(1, 41):
        other.run(number, {"x": -number}, metrics={"train": [{"loss": number}]})
    age(other.path)
    (other.path / ".mlxp").mkdir()
    index_of(other).write_bytes(index_of(forty).read_bytes())
    forget()
    assert read_all(other)[7] == ("COMPLETE", -7)


def test_four_processes_and_threads_at_once_are_right(forty, four_ranks):
    """Bug: an index that one writes while the other reads."""
    code = (
        "import sys; from mlxp_core.reader import scan_runs; "
        "print(scan_runs(sys.argv[1]).collect()['config.x'].to_list())"
    )
    seen = []
    threads = [threading.Thread(target=lambda: seen.append(read_all(forty))) for _ in range(4)]
    for thread in threads:
        thread.start()
    ranks = four_ranks.run([sys.executable, "-c", code, forty.path])
    for thread in threads:
        thread.join()
    expected = list(range(1, 41))
    assert [rank.stdout for rank in ranks] == [f"{expected}\n"] * 4
    assert seen == [{number: ("COMPLETE", number) for number in expected}] * 4


def test_five_stats_a_run_and_nothing_else_where_nothing_has_changed(forty):
    """Bug: files opened, or folders listed, run by run; on NFS each of these calls is a round trip."""
    read_all(forty)
    calls = []
    stat, scandir, listdir = os.stat, os.scandir, os.listdir
    listed = []
    frame = scan_runs(forty.path).select("id", "config.x", "info.status")
    forget()
    os.stat = lambda path, *rest, **more: calls.append(path) or stat(path, *rest, **more)
    os.scandir = lambda path: listed.append(path) or scandir(path)
    os.listdir = lambda path: listed.append(path) or listdir(path)
    try:
        with forty.files_opened() as opened:
            frame.collect()
    finally:
        os.stat, os.scandir, os.listdir = stat, scandir, listdir
    assert len(listed) == 1
    assert sorted(opened) == ["", ".mlxp/reader-index"]
    assert len([path for path in calls if str(path)[0].isdigit()]) == 5 * 40


def test_an_index_is_its_users_own(forty, another_user, open_folder):
    """Bug: what one user may not read is missing for all, or what only one may read is there for all to see."""
    forty.path = forty.path.rename(open_folder / "logs")
    forget()
    own = forty.path / ".mlxp"
    own.mkdir()
    own.chmod(0o777)
    (forty.path / "7/metadata/config.yaml").chmod(0o600)
    imports = "import sys; from mlxp_core.reader import Reader; from mlxp_core.reader.load import file_cache"
    program = "file_cache.RACY_NS = 0\nprint(Reader(sys.argv[1]).filter().metadata['config.x'].null_count())"

    def other():
        done = another_user.python(imports, program, forty.path)
        return done.stdout.strip() or done.stderr

    assert other() == "1"
    assert not index_of(forty).exists()
    assert list((another_user.home / ".cache/hydra-mlxp/reader").iterdir())
    assert read_all(forty)[7] == ("COMPLETE", 7)
    assert index_of(forty).stat().st_mode & 0o777 == 0o600
    assert other() == "1"
    (forty.path / "7/metadata/config.yaml").chmod(0o644)
    assert other() == "0"  # what was out of reach has not become a fact


def test_a_user_without_a_home_reads_all_the_same(forty, monkeypatch):
    """Bug: a container without a passwd entry, and a RuntimeError."""
    monkeypatch.setattr(index, "cache_dir", lambda: None)
    assert len(read_all(forty)) == 40
    assert index_of(forty).exists()


def test_a_pipe_in_the_place_of_the_index_keeps_nobody_waiting(forty):
    """Bug: a reader that waits for somebody to write into it."""
    (forty.path / ".mlxp").mkdir()
    os.mkfifo(index_of(forty))
    assert len(read_all(forty)) == 40

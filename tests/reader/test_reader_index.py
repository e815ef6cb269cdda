"""The index is a cache: whatever becomes of it, the answers are those of the directory as it is now."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading

import pytest

from mlxp_core.reader import Reader, scan_runs, settled

LONG_AGO = 1_000_000_000


def age(path):
    """Let everything be old, so that nothing counts as just written."""
    for folder, _, names in os.walk(path):
        for name in (".", *names):
            os.utime(os.path.join(folder, name), (LONG_AGO, LONG_AGO))


def forget():
    """As a new process would have it."""
    settled._directories.clear()
    from mlxp_core.reader import folders, metricfile

    for cache in (folders._info_files, folders._config_files, folders._submission_files, metricfile._keys_files):
        cache._kept.clear()


@pytest.fixture
def forty(logs, monkeypatch, tmp_path):
    """Forty runs that have ended long ago; x is the number of the run."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for number in range(1, 41):
        run = logs.run(number, {"x": number, "nan": float("nan")}, metrics={"train": [{"loss": number}]})
        if number == 3:
            (run / "artifacts/json").mkdir(parents=True)
            (run / "artifacts/json/w").write_text("1")
            (run / "metadata/config.yaml").write_text('a: {b: 1}\n"a.b": 2\nx: 3\n')
    age(logs.path)
    forget()
    return logs


def look(logs):
    frame = scan_runs(logs.path).collect()
    return dict(zip(frame["id"], zip(frame["info.status"], frame["config.x"], strict=True), strict=True))


def index_of(logs):
    return logs.path / ".mlxp/reader-index.json"


def yaml_files_read(work):
    """Do something as a new process would, and count the YAML files that it opens."""
    from mlxp_core.reader import folders

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
    """As this package and most editors do it."""
    path.with_name("new").write_text(text)
    path.with_name("new").rename(path)


@pytest.mark.parametrize("new_process", [True, False])
@pytest.mark.parametrize("write", [replace, lambda path, text: path.write_text(text)])
def test_a_run_that_has_ended_and_changes_is_seen(forty, write, new_process):
    """Bug: trust in an index, or in memory, over the folder: replaced files and such that were edited in place."""
    assert look(forty)[7] == ("COMPLETE", 7)
    write(forty.path / "7/metadata/config.yaml", "x: 70\n")
    write(forty.path / "8/metadata/info.yaml", "status: FAILED\n")
    if new_process:
        forget()
    after = look(forty)
    assert (after[7], after[8], after[9]) == (("COMPLETE", 70), ("FAILED", 8), ("COMPLETE", 9))


@pytest.mark.parametrize("new_process", [True, False])
def test_a_run_that_is_submitted_again_and_runs_again_is_seen(forty, new_process):
    """Bug: COMPLETE for ever, once that was seen. submission.yaml's attempt goes up, then the job starts, then ends."""
    assert look(forty)[7] == ("COMPLETE", 7)
    stations = [
        ("submission.yaml", "state: PENDING\nattempt: 2\n", "PENDING"),
        ("info.yaml", "status: RUNNING\nattempt: 2\nhostname: elsewhere\n", "RUNNING"),
        ("exit_code", "1 2\n", "FAILED"),
    ]
    for name, text, status in stations:
        replace(forty.path / "7/metadata" / name, text)
        if new_process:
            forget()
        assert look(forty)[7] == (status, 7)


def test_new_logs_keys_and_artifacts_types_of_an_ended_run_are_seen(forty):
    """Bug: a folder that is still being copied taken for whole, because its info.yaml came first."""
    look(forty)
    forty.log(forty.path / "7", "late", [{"acc": 1}])
    (forty.path / "7/artifacts/json").mkdir(parents=True)
    (forty.path / "7/artifacts/json/x").write_text("5")
    (run,) = Reader(forty.path).filter("id == 7")
    assert run["late.acc"] == [1.0]
    assert run["artifact.json.x"].load() == 5


def test_a_run_that_goes_and_one_that_comes_are_seen(forty):
    """Bug: rows of folders that are not there any more; new ones only after the index was deleted."""
    look(forty)
    (forty.path / "7/metadata/info.yaml").unlink()
    forty.run(41, {"x": 41})
    forget()
    after = look(forty)
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
    assert look(logs)[41] == ("TIMEOUT", 41)
    assert not index_of(logs).exists()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: text[:-2],
        lambda text: text.replace('"COMPLETE"', '"FAILED"', 1),
        lambda text: text.replace("index 1 ", "index 2 ", 1),
        lambda text: "\x00" * 100,
        lambda text: "[" * 100_000,
        lambda text: settled._head("[1]") + "\n[1]",
        lambda text: settled._head("{}") + "\n{}",
    ],
)
def test_an_index_that_is_not_whole_or_not_ours_is_not_used(forty, spoil):
    """Bug: a crash, or wrong answers, for a torn, foreign or edited index."""
    before = look(forty)
    index_of(forty).write_text(spoil(index_of(forty).read_text()))
    after, count = yaml_files_read(lambda: look(forty))
    assert after == before
    assert count > 0
    again, count = yaml_files_read(lambda: look(forty))
    assert (again, count) == (before, 0)  # and a whole one has come in its place


def test_an_index_with_rows_of_another_form_is_not_used(forty):
    """Bug: a whole file by its checksum, with something else in it."""
    before = look(forty)
    content = json.loads(index_of(forty).read_text().partition("\n")[2])
    for place, row in enumerate(content["runs"].values()):
        row[1] = [[], row[1][:3], None, [*row[1][:6], 99]][place % 4]
    text = json.dumps(content)
    index_of(forty).write_text(f"{settled._head(text)}\n{text}")
    forget()
    assert look(forty) == before


def test_a_deleted_index_is_made_again(forty):
    """Bug: an error for a file that is a cache."""
    before = look(forty)
    index_of(forty).unlink()
    forget()
    assert look(forty) == before
    assert index_of(forty).exists()


def test_where_the_log_directory_cannot_be_written_the_users_cache_is(forty, tmp_path):
    """Bug: an error on a read-only directory, or each process slow. (.mlxp is a file: root may write anywhere.)"""
    (forty.path / ".mlxp").write_text("in the way")
    before = look(forty)
    (index,) = (tmp_path / "cache/hydra-mlxp/reader").iterdir()
    assert index.suffix == ".json"
    after, count = yaml_files_read(lambda: look(forty))
    assert (after, count) == (before, 0)


def test_where_nothing_can_be_written_reading_goes_on(forty, tmp_path):
    """Bug: an OSError out of a cache."""
    (forty.path / ".mlxp").write_text("in the way")
    (tmp_path / "cache").write_text("in the way")
    assert look(forty)[7] == ("COMPLETE", 7)


def test_a_deleted_log_directory_does_not_come_back(forty, monkeypatch):
    """Bug: an index written into folders that are made for it."""
    kept = settled.SettledRuns(str(forty.path))
    monkeypatch.setattr(kept, "_new", 1000)
    forty.path.rename(forty.path.with_name("elsewhere"))
    kept.save()
    assert not forty.path.exists()


def test_a_directory_that_takes_the_place_of_another_is_read(forty, new_logs):
    """Bug: the runs of a directory that was here before."""
    look(forty)
    other = new_logs()
    for number in range(1, 41):
        other.run(number, {"x": -number}, metrics={"train": [{"loss": number}]})
    age(other.path)
    (other.path / ".mlxp").mkdir()
    index_of(other).write_text(index_of(forty).read_text())
    forget()
    assert look(other)[7] == ("COMPLETE", -7)


def test_two_processes_and_threads_at_once_are_right(forty):
    """Bug: an index that one writes while the other reads."""
    code = (
        "import sys; from mlxp_core.reader import scan_runs; "
        "print(scan_runs(sys.argv[1]).collect()['config.x'].to_list())"
    )
    command = [sys.executable, "-c", code, str(forty.path)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    seen = []
    threads = [threading.Thread(target=lambda: seen.append(look(forty))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = list(range(1, 41))
    assert [process.communicate(timeout=60)[0] for process in processes] == [f"{expected}\n"] * 3
    assert seen == [{number: ("COMPLETE", number) for number in expected}] * 4


def test_five_stats_a_run_and_nothing_else_where_nothing_has_changed(forty):
    """Bug: files opened, or folders listed, run by run; on NFS each of these calls is a round trip."""
    look(forty)
    calls = []
    stat, scandir = os.stat, os.scandir
    opened = []
    frame = scan_runs(forty.path).select("id", "config.x", "info.status")
    os.stat = lambda path, *rest, **more: calls.append(path) or stat(path, *rest, **more)
    os.scandir = lambda path: opened.append(path) or scandir(path)
    try:
        frame.collect()
    finally:
        os.stat, os.scandir = stat, scandir
    assert opened == [str(forty.path)]
    assert len([path for path in calls if str(path).startswith(str(forty.path))]) == 5 * 40

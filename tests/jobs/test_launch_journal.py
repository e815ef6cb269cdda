"""Launches on record: taken up when they are dead, left alone while they live, forgotten when all is submitted."""

from __future__ import annotations

import os
import socket
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import read_yaml

from mlxp_core.jobs import launch_journal
from mlxp_core.jobs.launch_journal import (
    fingerprint,
    record_launch,
    remove_finished,
    resume_launch,
    runs_being_launched,
)
from mlxp_core.runs.layout import LogDir, RunDir
from mlxp_core.runs.process import start_time, this_process

HERE = socket.gethostname()
DEAD = {"hostname": HERE, "process_id": os.getpid(), "process_start": 1}  # a process of our pid that started at boot
ALIVE = {"hostname": HERE, "process_id": os.getppid(), "process_start": start_time(os.getppid())}
ELSEWHERE = {"hostname": "elsewhere.example", "process_id": 77, "process_start": 1}


@pytest.fixture
def log_dir(tmp_path: Path) -> LogDir:
    return LogDir(tmp_path / "logs")


def ago(seconds: float) -> str:
    return (datetime.now().astimezone() - timedelta(seconds=seconds)).isoformat()


def recorded(log_dir: LogDir, number: int, *runs: int, **change: Any) -> Path:
    """The record of a dead launch of some runs, whose folders are there."""
    folders = [log_dir.run(run).path for run in runs or (number,)]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    path = log_dir.launches / str(number) / "launch.yaml"
    path.parent.mkdir(parents=True)
    record = {"identity": "i", "time": ago(60), "process": DEAD, "runs": [str(folder) for folder in folders]}
    path.write_text(yaml.safe_dump({**record, **change}))
    return path


def submitted(run: RunDir, job_id: str | None) -> None:
    run.metadata.mkdir(parents=True, exist_ok=True)
    record = {"scheduler": "slurm", "script": "/x/job.sh", "time": ago(60), "job_id": job_id}
    run.submission.write_text(yaml.safe_dump(record))


def test_a_launch_that_takes_up_a_dead_one_says_so(log_dir: LogDir) -> None:
    """Bug: the dead process stays on record, so that a third launch takes the same runs from the second."""
    path = recorded(log_dir, 1, 1, 2)
    before = read_yaml(path)
    taken = resume_launch(log_dir, "i")
    assert taken is not None
    assert (taken.runs, taken.time) == ((log_dir.run(1), log_dir.run(2)), before["time"])
    assert read_yaml(path) == {**before, "process": this_process()}
    assert resume_launch(log_dir, "i") is None
    path.write_text(yaml.safe_dump(before))  # that one has died as well
    again = resume_launch(log_dir, "i")
    assert again is not None
    assert (again.runs, again.time) == (taken.runs, taken.time)


def test_of_several_dead_launches_the_latest_of_the_same_identity_is_taken_up(log_dir: LogDir) -> None:
    """Bug: the runs of last week's launch, for its folder is listed first; or none, for the first is another's."""
    recorded(log_dir, 1, time=ago(100))
    recorded(log_dir, 2, time=ago(50))
    recorded(log_dir, 3, time=ago(200))
    recorded(log_dir, 4, time=ago(10), identity="another")
    recorded(log_dir, 5, time=ago(20), process=ALIVE)
    found = []
    for _ in range(4):
        launch = resume_launch(log_dir, "i")
        found.append(launch and launch.runs)
    assert found == [(log_dir.run(2),), (log_dir.run(1),), (log_dir.run(3),), None]


def test_a_launch_of_which_a_folder_is_gone_is_not_taken_up(log_dir: LogDir) -> None:
    """Bug: a run is written into a folder that was removed, since another of the launch's is there."""
    recorded(log_dir, 1, 1, time=ago(100))
    recorded(log_dir, 2, 2, 3)
    log_dir.run(3).path.rmdir()
    launch = resume_launch(log_dir, "i")
    assert launch is not None
    assert launch.runs == (log_dir.run(1),)


def test_a_launch_of_another_host_is_named_and_left(log_dir: LogDir, caplog: pytest.LogCaptureFixture) -> None:
    """Bug: the runs of a launch that goes on elsewhere are taken from it; or a dead one of here is not looked at."""
    recorded(log_dir, 1, time=ago(100))
    path = recorded(log_dir, 2, process=ELSEWHERE)
    launch = resume_launch(log_dir, "i")
    assert launch is not None
    assert launch.runs == (log_dir.run(1),)
    assert f"a launch of the same command on elsewhere.example at {read_yaml(path)['time']} did not" in caplog.text


@pytest.mark.parametrize(
    "outside",
    ["/etc", "{logs}/../somebody else's", "{logs}/1/../../x", "logs/2"],
    ids=["elsewhere", "up", "up from within", "relative"],
)
def test_a_record_that_leads_outside_with_one_of_its_runs_is_not_used(log_dir: LogDir, outside: str) -> None:
    """Bug: a launch writes its runs where somebody else's record leads, since the first of them lies inside."""
    log_dir.run(1).path.mkdir(parents=True)
    for runs in ([str(log_dir.run(1).path), outside], [outside, str(log_dir.run(1).path)]):
        path = recorded(log_dir, 1, runs=[run.format(logs=log_dir.path) for run in runs], process=ALIVE)
        assert runs_being_launched(log_dir) == {}
        path.write_text(yaml.safe_dump({**read_yaml(path), "process": DEAD}))
        assert resume_launch(log_dir, "i") is None
        path.unlink()
        path.parent.rmdir()


@pytest.mark.parametrize(
    "change",
    [
        {"time": None},
        {"time": 3},
        {"time": "yesterday"},
        {"time": "2126-01-01T00:00:00"},  # of which zone?
        {"process": None},
        {"process": [1]},
        {"runs": None},
        {"runs": 3},
        {"runs": [None]},
        {"runs": [["/x"]]},
    ],
)
def test_a_record_with_a_bad_value_does_not_hide_a_good_one(log_dir: LogDir, change: dict[str, Any]) -> None:
    """Bug: a stack trace for a file that was edited, or a record beside it that is not found."""
    recorded(log_dir, 1, **change)
    recorded(log_dir, 2, time=ago(100))  # so that it is looked at last
    launch = resume_launch(log_dir, "i")
    assert launch is not None
    assert launch.runs == (log_dir.run(2),)


def test_runs_are_being_launched_while_their_launch_lives_or_is_young_elsewhere(log_dir: LogDir) -> None:
    """Bug: `mlxp rerun` submits what a launch is about to; or never again what one on another host left."""
    recorded(log_dir, 1, 1, 2, process=ALIVE)
    recorded(log_dir, 3, process=DEAD)
    recorded(log_dir, 4, process=this_process())
    recorded(log_dir, 5, process=ELSEWHERE, time=ago(590))
    recorded(log_dir, 6, process=ELSEWHERE, time=ago(610))
    here = f"a launch is at it (process {os.getppid()} on {HERE})"
    there = "a launch is at it (process 77 on elsewhere.example)"
    assert runs_being_launched(log_dir) == {log_dir.run(1): here, log_dir.run(2): here, log_dir.run(5): there}


def test_a_record_goes_when_all_of_its_runs_are_submitted(log_dir: LogDir) -> None:
    """Bug: a launch of two of which one is submitted is forgotten, and the other never is; or a live one is."""
    for number in (1, 2, 3, 5):
        submitted(log_dir.run(number), "7")
    submitted(log_dir.run(4), None)
    recorded(log_dir, 1, 1, 2)
    recorded(log_dir, 2, 3, 4)
    recorded(log_dir, 3, 4, 3)
    recorded(log_dir, 4, 5, process=ALIVE)
    remove_finished(log_dir)
    assert sorted(os.listdir(log_dir.launches)) == ["2", "3", "4"]


def test_a_launch_that_is_done_leaves_nothing(log_dir: LogDir) -> None:
    """Bug: the same command, meant as a second sweep, takes up one that has submitted all of its runs."""
    runs = [log_dir.run(number) for number in (1, 2)]
    for run in runs:
        run.path.mkdir(parents=True)
    launch = record_launch(log_dir, "i", runs)
    record = read_yaml(log_dir.launches / "1" / "launch.yaml")
    assert (record["identity"], record["process"]) == ("i", this_process())
    assert record["runs"] == [str(run.path) for run in runs]
    assert abs(datetime.fromisoformat(record["time"]).timestamp() - time.time()) < 60
    launch.done()
    launch.done()  # `mlxp rerun` may have been quicker
    assert os.listdir(log_dir.launches) == []


def test_a_launch_that_ends_before_it_is_on_record_is_passed_over(
    log_dir: LogDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: a stack trace ever after, for a numbered folder with nothing in it."""

    def full(*_: object) -> None:
        raise OSError("No space left on device")

    log_dir.run(1).path.mkdir(parents=True)
    with monkeypatch.context() as patched:
        patched.setattr(launch_journal, "write_yaml", full)
        with pytest.raises(OSError, match="No space"):
            record_launch(log_dir, "i", [log_dir.run(1)])
    assert (resume_launch(log_dir, "i"), runs_being_launched(log_dir)) == (None, {})
    remove_finished(log_dir)
    assert record_launch(log_dir, "i", [log_dir.run(1)]).folder.path == log_dir.launches / "2"


def test_a_fingerprint_is_of_the_values_and_not_of_their_order() -> None:
    """Bug: a TypeError for keys of several types; two launches that differ in one value taken for the same."""
    mixed = {1: "a", "b": [1, {None: 2, "x": 3}]}
    assert fingerprint(jobs=mixed) == fingerprint(jobs={"b": [1, {"x": 3, None: 2}], 1: "a"})
    assert fingerprint(a=1, b={"x": 1, "y": 2}) == fingerprint(b={"y": 2, "x": 1}, a=1)
    different = [
        mixed,
        {1: "a", "b": [1, {None: 2, "x": 4}]},
        {2: "a", "b": [1, {None: 2, "x": 3}]},
        {"1": "a", "b": [1, {None: 2, "x": 3}]},
        {"b": 1},
        {"b": "1"},
        {"b": True},
        {"b": {1: "a"}},
        {"b": {"1": "a"}},
        {"b": [{True: "a"}]},
        {"b": [{"true": "a"}]},
        {"b": {1: "a", "1": "b"}},
        {"b": {1: "b", "1": "a"}},
        [1, 2],
        [2, 1],
    ]
    assert len({fingerprint(jobs=value) for value in different}) == len(different)

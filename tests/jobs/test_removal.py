"""Which runs are removed, what goes with them, and what stays; each rule by itself, in process."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlxp_core.jobs.cancel import cancel_runs
from mlxp_core.jobs.launch_journal import resume_launch
from mlxp_core.jobs.removal import plan_removal, remove_runs
from mlxp_core.reader import Reader
from mlxp_core.runs.allocation import RunAllocator
from mlxp_core.runs.layout import LogDir, RunDir
from mlxp_core.runs.process import current_user, start_time, this_process

FIRST, SECOND = "1" * 40, "2" * 40
DEAD = {"hostname": socket.gethostname(), "process_id": os.getpid(), "process_start": 1}
JOB = {"scheduler": "slurm", "user": current_user(), "attempt": 1, "job_id": "7", "state": "COMPLETE"}
Make = Callable[..., RunDir]


def ago(seconds: float) -> str:
    return (datetime.now().astimezone() - timedelta(seconds=seconds)).isoformat()


@pytest.fixture
def log_dir(tmp_path: Path) -> LogDir:
    return LogDir(tmp_path / "logs")


@pytest.fixture
def make(log_dir: LogDir) -> Make:
    """Make a run with a metric; by default a complete one, of the first version of the code."""

    def made(name: int | str, status: str = "COMPLETE", commit: str = FIRST, **change: Any) -> RunDir:
        run = RunDir(log_dir.path / str(name))
        run.metadata.mkdir(parents=True)
        run.metrics.mkdir()
        run.metric_file("train").write_text('{"loss": 1.0}\n')
        version = {"commit_hash": commit, "copy": str(log_dir.code / commit), "repo_path": "/nowhere"}
        info = {"status": status, "attempt": 1, "submit_time": ago(60), "version_manager": version, **change}
        run.info.write_text(yaml.safe_dump(info))
        run.config.write_text("lr: 0.1\n")
        return run

    return made


def submitted(log_dir: LogDir, *runs: RunDir, pack: int = 1, **change: Any) -> Path:
    """Have runs be of one submission; gives its folder."""
    folder = log_dir.submissions / "1"
    folder.mkdir(parents=True)
    (folder / "job.sh").touch()
    (folder / "manifest").write_text("".join(f"{run.path}\n" for run in runs))
    for index, run in enumerate(runs):
        record = {
            **JOB,
            "script": str(folder / "job.sh"),
            "time": ago(60),
            "packed": pack,
            "array_index": index // pack + 1,
        }
        run.submission.write_text(yaml.safe_dump({**record, **change}))
    return folder


def copy(log_dir: LogDir, commit: str, seconds: float = 3600) -> Path:
    """A copy of a version, chosen that long ago; read-only, as they are."""
    path = log_dir.code / commit
    path.mkdir(parents=True)
    (path / "main.py").touch()
    (log_dir.code / f"{commit}.diff").touch()
    (log_dir.code / f"{commit}.path").mkdir()
    os.utime(path, (time.time() - seconds,) * 2)
    path.chmod(0o555)
    return path


LIVING: dict[str, tuple[dict[str, Any], dict[str, Any] | None, str]] = {
    "it runs here": ({"status": "RUNNING", **this_process()}, None, "RUNNING"),
    "it runs elsewhere": ({"status": "RUNNING", "hostname": "elsewhere", "process_id": 1}, None, "RUNNING"),
    "it waits in a queue": ({"status": "PENDING"}, {"state": "PENDING", "scheduler": "unknown"}, "PENDING"),
    "nobody knows": (
        {"status": "PENDING"},
        {"state": None, "job_id": None, "scheduler": "unknown"},
        "not known whether",
    ),
    "it gave way": ({"status": "PREEMPTED"}, {"state": "RUNNING", "scheduler": "unknown"}, "may start it again"),
    "it is held": ({"status": "FAILED"}, {"state": "FAILED", "stuck": True}, "still in the queue, and held"),
    "another user's": ({"status": "RUNNING"}, {"state": "RUNNING", "user": "another"}, "cannot be asked from here"),
}


@pytest.mark.parametrize(("info", "submission", "reason"), LIVING.values(), ids=LIVING)
def test_what_may_still_run_is_left_alone(
    log_dir: LogDir, make: Make, info: dict[str, Any], submission: dict[str, Any] | None, reason: str
) -> None:
    """Bug: the folder of a job is taken away from under it."""
    living, ended = make(1, **info), make(2)
    if submission is not None:
        submitted(log_dir, living, **submission)
    assert reason in plan_removal(log_dir, [living, ended]).kept[living]
    result = remove_runs(log_dir, [living, ended])
    assert (result.runs, list(result.kept)) == ((ended,), [living])
    assert living.info.exists()
    assert not ended.path.exists()


def test_a_run_of_which_nothing_can_be_read_or_that_is_a_link_is_left(log_dir: LogDir, make: Make) -> None:
    """Bug: whatever cannot be read has ended; what a link leads to is removed, or the link alone."""
    broken, elsewhere = make(1), make("../elsewhere")
    broken.info.write_text("a: b: c")
    linked = log_dir.run(2)
    linked.path.symlink_to(elsewhere.path)
    result = remove_runs(log_dir, [broken, linked])
    assert result.runs == ()
    assert "whether it runs is not known: info.yaml cannot be read" in result.kept[broken]
    assert f"it is a link to {elsewhere.path}" in result.kept[linked]
    assert elsewhere.info.exists()


@pytest.mark.parametrize("status", ["COMPLETE", "FAILED", "CANCELLED", "TIMEOUT", "PENDING"])
def test_what_has_ended_or_was_never_submitted_is_removed_whole(log_dir: LogDir, make: Make, status: str) -> None:
    """Bug: what a launch that was refused has left can never be removed; half a run is left for the reader."""
    run, other = make(1, status), make("base line")
    (run.path / "read only").mkdir()
    (run.path / "read only" / "x").touch()
    (run.path / "read only").chmod(0o555)
    (run.path / "outside").symlink_to(other.path)
    assert remove_runs(log_dir, [run]).runs == (run,)
    assert sorted(os.listdir(log_dir.path)) == [".mlxp", "base line"]
    assert other.metric_file("train").exists()
    assert os.listdir(log_dir.removed) == []


def test_an_id_is_not_given_again(log_dir: LogDir, make: Make) -> None:
    """Bug: notes about run 3 are about another run; where the hint is behind, or there is none."""
    for number in (1, 2, 3):
        make(number)
    remove_runs(log_dir, [log_dir.run(3)])
    with RunAllocator(log_dir.path) as allocator:
        assert allocator.allocate().id == 4
    log_dir.last_id.write_bytes(b"%020d\n" % 2)  # of two launches at once the earlier wrote last
    make(5)
    remove_runs(log_dir, [log_dir.run(5), log_dir.run(1)])
    with RunAllocator(log_dir.path) as allocator:
        assert allocator.allocate().id == 6


@pytest.mark.parametrize(
    ("others", "gone"),
    [
        ([], True),
        ([{"commit": SECOND}], True),
        ([{}], False),
        ([{"status": "FAILED"}], False),  # a rerun needs it
        ([{"version_manager": None}], True),
    ],
)
def test_a_copy_goes_with_the_last_run_that_has_it(
    log_dir: LogDir, make: Make, others: list[dict[str, Any]], *, gone: bool
) -> None:
    """Bug: the copy that a failed run is to be run again with is gone; or copies nobody has are kept for ever."""
    path, second = copy(log_dir, FIRST), copy(log_dir, SECOND)
    removed = make(1)
    for number, other in enumerate(others, start=2):
        make(number, **other)
    result = remove_runs(log_dir, [removed])
    assert result.copies == ((path,) if gone else ())
    left = [name for name in os.listdir(log_dir.code) if name.startswith(FIRST)]
    assert sorted(left) == ([] if gone else [FIRST, f"{FIRST}.diff", f"{FIRST}.path"])
    assert second.exists()


@pytest.mark.parametrize(("chosen", "gone"), [(61.0, True), (30.0, False), (7200.0, True)])
def test_a_copy_that_a_launch_has_chosen_since_stays(log_dir: LogDir, make: Make, chosen: float, *, gone: bool) -> None:
    """Bug: a launch that has chosen the copy and not yet written its runs finds it gone; a copy made just now stays."""
    path = copy(log_dir, FIRST, chosen)
    remove_runs(log_dir, [make(1)])  # submitted 60 s ago
    assert path.exists() is not gone


def test_runs_of_one_job_stay_while_one_of_them_lives(log_dir: LogDir, make: Make) -> None:
    """Bug: a packed job that the scheduler starts again finds a run of its own gone; one that is gone bars the rest."""
    runs = [make(number) for number in (1, 2, 3, 4)]
    submitted(log_dir, *runs, pack=2, scheduler="unknown")
    runs[1].info.write_text("status: RUNNING\nhostname: elsewhere\nprocess_id: 1\n")
    runs[1].submission.write_text(runs[1].submission.read_text().replace("state: COMPLETE", "state: RUNNING"))
    result = remove_runs(log_dir, [runs[0], runs[2]])
    assert result.kept == {runs[0]: "it shares its job with run 2, which has not ended"}
    assert result.runs == (runs[2],)
    assert remove_runs(log_dir, [runs[3]]).runs == (runs[3],)


def test_a_run_that_is_gone_does_not_bar_the_rest_of_its_job(
    log_dir: LogDir, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: "run 2 shares its job with run 1: name them all", and run 1 cannot be named any more."""
    runs = [make(1), make(2, "RUNNING", hostname="elsewhere", process_id=1)]
    submitted(log_dir, *runs, pack=2, state="RUNNING")
    (runs[0].path).rename(log_dir.path.parent / "by hand")
    cancelled: list[Any] = []
    monkeypatch.setattr("mlxp_core.scheduler.client.cancel", lambda *words, **_: cancelled.append(words))
    assert cancel_runs([runs[1]]) == [runs[1]]
    assert len(cancelled) == 1


def test_the_script_of_a_submission_goes_with_its_last_run_and_its_number_stays(log_dir: LogDir, make: Make) -> None:
    """Bug: a queue that still knows the old job shows it as that of a new submission of the same name."""
    runs = [make(1), make(2)]
    folder = submitted(log_dir, *runs)
    remove_runs(log_dir, runs[:1])
    assert sorted(os.listdir(folder)) == ["job.sh", "manifest"]
    remove_runs(log_dir, runs[1:])
    assert os.listdir(folder) == []


def test_a_launch_whose_run_is_gone_is_not_taken_up(log_dir: LogDir, make: Make) -> None:
    """Bug: the same command fails over the folder that is gone; or the runs it has left are forgotten in silence."""
    runs = [make(1), make(2, "PENDING"), make(3)]
    submitted(log_dir, runs[0])
    for number, names in ((1, runs[:2]), (2, runs[2:])):
        record = {"identity": "i", "time": ago(60), "process": DEAD, "runs": [str(run.path) for run in names]}
        path = log_dir.launches / str(number) / "launch.yaml"
        path.parent.mkdir(parents=True)
        path.write_text(yaml.safe_dump(record))
    assert remove_runs(log_dir, runs[:1]).dismissed == (runs[1],)
    taken = resume_launch(log_dir, "i")
    assert taken is not None
    assert taken.runs == (runs[2],)


def test_a_run_that_is_being_launched_is_left_alone(log_dir: LogDir, make: Make) -> None:
    """Bug: the folders of a launch that is at it."""
    run = make(1, "PENDING")
    living = {"hostname": socket.gethostname(), "process_id": os.getppid(), "process_start": start_time(os.getppid())}
    record = {"identity": "i", "time": ago(1), "process": living, "runs": [str(run.path)]}
    (log_dir.launches / "1").mkdir(parents=True)
    (log_dir.launches / "1" / "launch.yaml").write_text(yaml.safe_dump(record))
    assert "a launch is at it" in remove_runs(log_dir, [run]).kept[run]


def test_readers_do_not_see_a_run_that_is_gone(log_dir: LogDir, make: Make) -> None:
    """Bug: a row of the index for a run that is not there; an error over its metrics."""
    for number in (1, 2, 3):
        make(number)
    reader = Reader(log_dir.path)
    assert sorted(reader.filter("").lazy().collect()["id"]) == [1, 2, 3]
    remove_runs(log_dir, [log_dir.run(2)])
    for fresh in (reader, Reader(log_dir.path)):
        table = fresh.filter("").lazy().select("id", "train.loss").collect()
        assert sorted(table["id"]) == [1, 3]


def test_what_cannot_be_removed_is_said_and_stays_whole(
    log_dir: LogDir, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: a run of another user is half gone, or said to be gone; its copy goes all the same."""
    path, first, second = copy(log_dir, FIRST), make(1), make(2, commit=SECOND)
    rename = Path.rename

    def refuse(place: Path, target: Path) -> Path:
        if place == first.path:
            raise PermissionError(13, "Permission denied")
        return rename(place, target)

    monkeypatch.setattr(Path, "rename", refuse)
    result = remove_runs(log_dir, [first, second])
    assert result.runs == (second,)
    assert "Permission denied" in result.failed[first]
    assert first.metric_file("train").exists()
    assert path.exists()


def test_what_a_killed_removal_has_left_goes_with_the_next(log_dir: LogDir, make: Make) -> None:
    """Bug: gigabytes of a run that nobody sees any more."""
    (log_dir.removed / "1.77.abcd" / "metrics").mkdir(parents=True)
    remove_runs(log_dir, [make(2)])
    assert os.listdir(log_dir.removed) == []

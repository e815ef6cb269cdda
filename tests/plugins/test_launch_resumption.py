"""A launch on record, step by step in this process: what is on the disk when it dies, and what the next one does."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from fake_scheduler import Clock, FakeClient
from filelock import FileLock, Timeout
from support import read_yaml

from hydra_plugins.mlxp import _launch
from hydra_plugins.mlxp._names import RUN_ID
from mlxp_core.errors import ConfigurationError
from mlxp_core.jobs import reconcile
from mlxp_core.jobs.launch_journal import resume_launch
from mlxp_core.runs.layout import LogDir, RunDir
from mlxp_core.runs.submission_record import QueuedJob
from mlxp_core.scheduler.base import NativeJob

TIME = "2026-11-25T18:00:00+00:00"


class Launcher:
    """Launches of three jobs in one log directory, whose submissions the test decides on."""

    def __init__(self, log_dir: LogDir, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log_dir = log_dir
        self.jobs = [self.job(RUN_ID) for _ in range(3)]
        self.submit: Callable[[dict[int, RunDir]], None] = lambda _: None  # what happens before the jobs are there
        self.new: list[dict[int, RunDir]] = []
        self.told: list[list[int]] = []
        self.identity = "i"
        monkeypatch.setattr(_launch, "job_code", lambda *_: SimpleNamespace(commit=None))
        monkeypatch.setattr(_launch, "identity", lambda *_: self.identity)
        monkeypatch.setattr(_launch, "_submit_new", self.submit_new)
        monkeypatch.setattr(_launch, "log_submitted", self.log_submitted)

    @staticmethod
    def job(subdir: str) -> Any:
        return SimpleNamespace(raw=lambda _: subdir, hydra=lambda _: subdir)

    def submit_new(self, context: Any, batch: Any, runs: dict[int, RunDir], code: Any) -> list[QueuedJob]:
        self.new.append(runs)
        self.submit(runs)
        return [self.submitted(run) for run in runs.values()]

    def submitted(self, run: RunDir, job_id: str | None = "", **more: Any) -> QueuedJob:
        """Have a run's folder say that it is submitted; by default as a job of its own name."""
        job_id = run.path.name if job_id == "" else job_id
        run.metadata.mkdir(exist_ok=True)
        script = self.log_dir.submissions / run.path.name / "job.sh"
        record = {"scheduler": "slurm", "script": str(script), "time": TIME, "job_id": job_id, "attempt": 1, **more}
        run.submission.write_text(yaml.safe_dump(record))
        return QueuedJob(run, "slurm", str(job_id), None)

    def log_submitted(self, jobs: Sequence[Any], submitted: Sequence[QueuedJob], log_dir: LogDir) -> None:
        assert len(jobs) == len(submitted)
        self.told.append([self.jobs.index(job) for job in jobs])

    def launch(self, on_submitted: Callable[[Sequence[QueuedJob]], None] = lambda _: None) -> list[tuple[str, str]]:
        """Launch; give run and job of each."""
        context: Any = SimpleNamespace(options=SimpleNamespace(command_timeout=5.0))
        batch: Any = SimpleNamespace(jobs=self.jobs, log_dir=self.log_dir)
        return [(job.run.path.name, job.job_id) for job in _launch._submit(context, batch, on_submitted)]

    def records(self) -> list[Path]:
        return sorted(self.log_dir.launches.glob("*/launch.yaml")) if self.log_dir.launches.is_dir() else []

    def die(self) -> None:
        """Have the processes on record be dead ones."""
        for path in self.records():
            record = read_yaml(path)
            record["process"]["process_start"] = 1
            path.write_text(yaml.safe_dump(record))


@pytest.fixture
def launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Launcher:
    return Launcher(LogDir(tmp_path / "logs"), monkeypatch)


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    monkeypatch.setattr(reconcile, "time", Clock())
    return FakeClient().install(monkeypatch)


def fail(error: BaseException) -> Callable[[Any], None]:
    def failing(_: Any) -> None:
        raise error

    return failing


def test_a_launch_is_on_record_from_before_its_first_run_until_after_its_last(launcher: Launcher) -> None:
    """Bug: a launch that is killed early leaves folders that nobody takes up; one that is done is taken up."""
    seen = []

    def on_record(_: Any) -> None:
        (path,) = launcher.records()
        seen.append([Path(run).name for run in read_yaml(path)["runs"]])

    launcher.submit = on_record
    assert launcher.launch(on_record) == [("1", "1"), ("2", "2"), ("3", "3")]
    assert not any((launcher.log_dir.run(number).metadata / "attempts").exists() for number in (1, 2, 3))
    assert seen == [["1", "2", "3"]] * 2
    assert launcher.records() == []
    assert launcher.launch() == [("4", "4"), ("5", "5"), ("6", "6")]
    assert launcher.told == [[0, 1, 2]] * 2


def test_after_a_death_in_the_middle_the_rest_is_submitted_by_its_place(launcher: Launcher, client: FakeClient) -> None:
    """Bug: the configuration of the first job in the folder of the second; results in another order; six folders."""

    def second_alone(runs: dict[int, RunDir]) -> None:
        launcher.submitted(runs[1], "22")
        raise KeyboardInterrupt

    launcher.submit = second_alone
    with pytest.raises(KeyboardInterrupt):
        launcher.launch()
    launcher.die()
    launcher.submit = lambda _: None
    assert launcher.launch() == [("1", "1"), ("2", "22"), ("3", "3")]
    assert launcher.new[-1] == {0: launcher.log_dir.run(1), 2: launcher.log_dir.run(3)}
    assert launcher.told == [[0, 2]]
    assert launcher.records() == []
    assert sorted(name for name in os.listdir(launcher.log_dir.path) if name.isdigit()) == ["1", "2", "3"]


def test_a_launch_can_be_taken_up_again_and_again(launcher: Launcher, client: FakeClient) -> None:
    """Bug: the third launch has new folders, since the second has not left a record of its own."""
    for number in (1, 2, 3):
        launcher.submit = lambda runs, number=number: (
            launcher.submitted(launcher.log_dir.run(number)) and fail(OSError("full"))(runs)
        )
        with pytest.raises(OSError, match="full"):
            launcher.launch()
        assert [[Path(run).name for run in read_yaml(path)["runs"]] for path in launcher.records()] == [["1", "2", "3"]]
        launcher.die()
    launcher.submit = lambda _: None
    assert launcher.launch() == [("1", "1"), ("2", "2"), ("3", "3")]
    assert [sorted(runs) for runs in launcher.new] == [[0, 1, 2], [1, 2], [2], []]


def test_what_is_told_once_all_is_submitted_is_told_again_where_that_failed(
    launcher: Launcher, client: FakeClient
) -> None:
    """Bug: mlxpsub never hears of a launch whose last step was interrupted, and its next call submits it again."""
    with pytest.raises(KeyboardInterrupt):
        launcher.launch(fail(KeyboardInterrupt()))
    launcher.die()
    told: list[list[str]] = []
    launcher.launch(lambda queued: told.append([job.run.path.name for job in queued]))
    assert told == [["1", "2", "3"]]
    assert launcher.new[-1] == {}
    assert launcher.records() == []


def test_what_is_unclear_is_looked_for_before_anything_is_submitted(launcher: Launcher, client: FakeClient) -> None:
    """Bug: a job that was taken as its launch was killed is submitted once more."""

    def dies(runs: dict[int, RunDir]) -> None:
        launcher.submitted(runs[0], None)
        launcher.submitted(runs[1], None, state="FAILED", error="refused")
        raise KeyboardInterrupt

    launcher.submit = dies
    with pytest.raises(KeyboardInterrupt):
        launcher.launch()
    launcher.die()
    script = str(launcher.log_dir.submissions / "1" / "job.sh")
    client.queue = [[NativeJob("41", None, "PENDING", script=script)]]
    launcher.submit = lambda _: None
    assert launcher.launch() == [("1", "41"), ("2", "2"), ("3", "3")]


def test_another_command_and_a_live_twin_have_folders_of_their_own(launcher: Launcher) -> None:
    """Bug: the runs of a launch that goes on, or of another command, are written anew."""
    launcher.submit = fail(OSError("full"))
    with pytest.raises(OSError, match="full"):
        launcher.launch()  # this process lives
    launcher.submit = lambda _: None
    assert launcher.launch() == [("4", "4"), ("5", "5"), ("6", "6")]
    launcher.die()
    launcher.identity = "j"
    assert launcher.launch()[0] == ("7", "7")
    assert resume_launch(launcher.log_dir, "i") is not None


def test_only_a_launch_that_is_taken_up_waits_for_a_rerun(launcher: Launcher, client: FakeClient) -> None:
    """Bug: every launch waits for `mlxp rerun`; or one that is taken up submits what `mlxp rerun` is at."""
    held: list[bool] = []

    def is_held(_: Any) -> None:
        try:
            with FileLock(launcher.log_dir.lock, timeout=0, is_singleton=False):
                held.append(False)
        except Timeout:
            held.append(True)

    launcher.submit = lambda runs: (is_held(runs), fail(OSError("full"))(runs))[0]
    with pytest.raises(OSError, match="full"):
        launcher.launch()
    launcher.die()
    launcher.submit = is_held
    launcher.launch()
    assert held == [False, True]


def named(launcher: Launcher, *names: str) -> None:
    """The user's own hydra.sweep.subdir."""
    launcher.jobs = [launcher.job(name) for name in names]


def test_a_folder_that_is_used_again_is_emptied_before_the_launch_is_on_record(
    launcher: Launcher, client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: the checkpoint of another configuration in the next run; or its own is put away as it is taken up."""
    named(launcher, "a", "b")
    run = RunDir(launcher.log_dir.path / "b")
    checkpoint = run.artifacts / "pickle" / "checkpoint"

    def has_run(_: Any = None) -> None:
        (launcher.log_dir.path / "a").mkdir(exist_ok=True, parents=True)
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        checkpoint.write_text("old")
        run.metadata.mkdir(exist_ok=True)
        run.info.write_text("status: COMPLETE\nattempt: 1\n")
        run.exit_code.write_text("0 1\n")
        run.starts.write_text("a start\n")

    has_run()
    there = []
    record = _launch.record_launch
    monkeypatch.setattr(_launch, "record_launch", lambda *given: there.append(checkpoint.exists()) or record(*given))

    def writes(runs: Any) -> None:
        has_run()
        run.metrics.mkdir()
        raise OSError("full")

    launcher.submit = writes
    with pytest.raises(OSError, match="full"):
        launcher.launch()
    assert there == [False]
    assert (run.attempt_dir(1).artifacts / "pickle" / "checkpoint").read_text() == "old"
    launcher.die()
    launcher.submit = lambda _: None
    assert launcher.launch() == [("a", "a"), ("b", "b")]
    assert (checkpoint.exists(), run.metrics.exists()) == (True, True)


@pytest.mark.parametrize(
    ("names", "said"),
    [(("a", "a"), "gives several jobs the same folder"), (("a", "b\nc"), "a folder with a line break")],
)
def test_folders_that_jobs_cannot_have_are_refused(launcher: Launcher, names: tuple[str, ...], said: str) -> None:
    """Bug: two runs in one folder; a manifest with a line too many."""
    named(launcher, *names)
    with pytest.raises(ConfigurationError, match=said):
        launcher.launch()
    assert (launcher.new, launcher.records()) == ([], [])


def test_one_folder_of_several_that_holds_a_run_is_refused(launcher: Launcher) -> None:
    """Bug: the second job's folder is overwritten, since the first one's is free."""
    named(launcher, "a", "b")
    old = RunDir(launcher.log_dir.path / "b")
    old.metadata.mkdir(parents=True)
    old.info.write_text("status: RUNNING\nattempt: 1\n")
    with pytest.raises(ConfigurationError, match=r"logs/b holds a run already.*it is RUNNING"):
        launcher.launch()
    assert (launcher.new, launcher.records()) == ([], [])


def test_one_job_with_a_folder_of_its_users_gets_it(launcher: Launcher) -> None:
    """Bug: a number for it, since another one's subdir asks for that."""
    named(launcher, "b", RUN_ID)
    launcher.submit = lambda runs: [run.path.mkdir(exist_ok=True) for run in runs.values()] and None
    assert launcher.launch()[0] == ("b", "b")


@pytest.mark.parametrize(("names", "warned"), [(("a", "b"), False), (("a", "x/b"), True), (("a", "../b"), True)])
def test_runs_that_nobody_will_find_are_said_to_be_deeper(
    launcher: Launcher, names: tuple[str, ...], warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Bug: a run of several that lies elsewhere, and that `mlxp status` does not list, without a word."""
    named(launcher, *names)
    launcher.submit = lambda runs: [run.path.mkdir(parents=True, exist_ok=True) for run in runs.values()] and None
    launcher.launch()
    assert ("puts runs deeper than" in caplog.text) is warned

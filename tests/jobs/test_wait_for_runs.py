"""Waiting for runs, by a clock: their folders are read often, their schedulers are asked seldom."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_scheduler import Clock

from mlxp_core.jobs import wait
from mlxp_core.jobs.refresh import UnreachableScheduler
from mlxp_core.jobs.wait import wait_for_runs
from mlxp_core.runs.layout import RunDir
from mlxp_core.runs.status import Status
from mlxp_core.runs.submission_record import QueuedJob


class Site:
    """Runs that end at times of a clock."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.clock = Clock(0.0)
        self.ends: list[tuple[float, Callable[[], Any]]] = []
        self.asked: list[tuple[float, list[str]]] = []
        self.silent: list[UnreachableScheduler] = []
        monkeypatch.setattr(wait, "time", self.clock)
        monkeypatch.setattr(self.clock, "sleep", self.sleep)
        monkeypatch.setattr(wait, "refresh_runs", self.refresh)

    def sleep(self, seconds: float) -> None:
        self.clock.slept.append(seconds)
        self.clock.now += seconds
        for end in [end for end in self.ends if end[0] <= self.clock.now]:
            self.ends.remove(end)
            end[1]()

    def refresh(self, runs: Iterable[RunDir]) -> list[UnreachableScheduler]:
        self.asked.append((self.clock.now, [run.path.name for run in runs]))
        return self.silent

    def job(self, number: int, scheduler: str = "local") -> QueuedJob:
        run = RunDir(self.folder / str(number))
        run.metadata.mkdir(parents=True)
        run.info.write_text("status: RUNNING\nattempt: 1\n")
        self.note(run, state=None, scheduler=scheduler)
        return QueuedJob(run, scheduler, "7", number)

    def note(self, run: RunDir, **change: Any) -> None:
        record = {"scheduler": "local", "script": "/x/job.sh", "time": "2026-11-25T18:00:00+00:00", "job_id": "7"}
        run.submission.write_text(yaml.safe_dump({**record, "attempt": 1, **change}))

    def at(self, when: float, run: RunDir, status: str, code: int | None = 0) -> None:
        """A run ends by itself; without an exit code its scheduler alone says so."""

        def end() -> None:
            if code is None:
                self.note(run, state=status)
            else:
                run.info.write_text(f"status: {status}\nattempt: 1\n")
                run.exit_code.write_text(f"{code} 1\n")

        self.ends.append((when, end))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(tmp_path, monkeypatch)


def test_runs_are_told_as_they_end_and_given_in_order(site: Site) -> None:
    """Bug: statuses in the order of the ends; a run that is told twice, or with all others at the end."""
    jobs = [site.job(number) for number in (1, 2, 3)]
    site.at(3.0, jobs[0].run, "FAILED", 1)
    site.at(0.5, jobs[1].run, "COMPLETE")
    site.at(2.0, jobs[2].run, "PREEMPTED", 0)
    told: list[tuple[str, Status]] = []
    looked: list[list[str]] = []
    statuses = wait_for_runs(
        jobs,
        lambda run, status: told.append((run.path.name, status)),
        lambda left: looked.append([run.path.name for run in left]),
    )
    assert statuses == [Status.FAILED, Status.COMPLETE, Status.PREEMPTED]
    assert told == [("2", Status.COMPLETE), ("3", Status.PREEMPTED), ("1", Status.FAILED)]
    assert [names for index, names in enumerate(looked) if names != looked[index - 1] or not index] == [
        ["1", "2", "3"],
        ["1", "3"],
        ["1"],
    ]


def test_the_pauses_grow_to_a_second_and_no_further(site: Site) -> None:
    """Bug: a busy loop over thousands of folders; or one that notices the end a minute later."""
    job = site.job(1)
    site.at(8.0, job.run, "COMPLETE")
    wait_for_runs([job], lambda *_: None)
    assert site.clock.slept[:3] == pytest.approx([0.05, 0.075, 0.1125])
    assert site.clock.slept == sorted(site.clock.slept)
    assert set(site.clock.slept[-4:]) == {1.0}
    assert site.clock.now < 9.1


def test_of_several_schedulers_the_slowest_sets_the_pace(site: Site) -> None:
    """Bug: Slurm asked each second, as the local queue may be; or what has ended asked for."""
    jobs = [site.job(1), site.job(2, "slurm"), site.job(3, "slurm")]
    site.at(5.0, jobs[2].run, "COMPLETE")
    site.at(25.0, jobs[0].run, "COMPLETE")
    site.at(26.0, jobs[1].run, "COMPLETE")
    wait_for_runs(jobs, lambda *_: None)
    assert [names for _, names in site.asked] == [["1", "2"]] * 2
    assert [10 <= when < 11.1 or 20 <= when < 22.2 for when, _ in site.asked] == [True, True]


@pytest.mark.parametrize(("state", "ends"), [("CANCELLED", True), ("LOST", True), ("RUNNING", False), (None, False)])
def test_a_job_that_ends_without_a_word_is_known_from_its_scheduler(site: Site, state: str | None, ends: bool) -> None:
    """Bug: a launcher that waits for ever for what was cancelled in the queue; or gives up what still runs."""
    job = site.job(1)
    job.run.info.write_text("status: PENDING\nattempt: 1\n")
    site.at(0.5, job.run, state, None)  # type: ignore[arg-type]
    site.at(7.0, job.run, "COMPLETE")
    assert wait_for_runs([job], lambda *_: None) == [Status(state) if ends and state else Status.COMPLETE]
    assert (site.clock.now < 3) is ends


def test_a_preempted_run_is_waited_for_until_its_scheduler_says_that_it_has_ended(site: Site) -> None:
    """Bug: PREEMPTED for a job that its script is about to requeue."""
    job = site.job(1)
    job.run.info.write_text("status: PREEMPTED\nattempt: 1\n")  # no exit code: script.sh goes on
    site.at(4.0, job.run, "COMPLETE")
    assert wait_for_runs([job], lambda *_: None) == [Status.COMPLETE]


def test_what_has_ended_before_an_interruption_is_not_told_again(site: Site) -> None:
    """Bug: a second `run 1 is COMPLETE` after Ctrl-C and `go on waiting`."""
    jobs = [site.job(1), site.job(2)]
    ended: dict[RunDir, Status] = {}
    told: list[str] = []
    site.at(0.5, jobs[0].run, "COMPLETE")
    site.at(1.5, jobs[1].run, "FAILED", 1)

    def interrupt(left: Any) -> None:
        if len(left) == 1 and len(told) == 1 and site.clock.now < 1.0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        wait_for_runs(jobs, lambda run, _: told.append(run.path.name), interrupt, ended)
    assert ended == {jobs[0].run: Status.COMPLETE}
    jobs[0].run.exit_code.write_text("")  # it is not looked at again
    statuses = wait_for_runs(jobs, lambda run, _: told.append(run.path.name), ended=ended)
    assert (statuses, told) == ([Status.COMPLETE, Status.FAILED], ["1", "2"])


def test_a_scheduler_that_is_silent_is_named_and_waited_for(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """Bug: a launcher that ends, or says nothing, while its scheduler is down."""
    job = site.job(1)
    site.silent = [UnreachableScheduler("local", "the queue is away", None)]
    site.at(2.5, job.run, "COMPLETE")
    assert wait_for_runs([job], lambda *_: None) == [Status.COMPLETE]
    assert set(caplog.messages) == {"the queue is away"}

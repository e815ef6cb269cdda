"""What Hydra and the user are told of submitted jobs, in process: handles, values, failures, whether to wait."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra.core.utils import JobStatus
from omegaconf import OmegaConf

from hydra_plugins.mlxp import _results
from hydra_plugins.mlxp._names import SWEEPER
from mlxp_core.jobs import live_table
from mlxp_core.runs import return_value
from mlxp_core.runs.layout import LogDir, RunDir
from mlxp_core.runs.status import Status
from mlxp_core.runs.submission_record import QueuedJob

OTHER_SWEEPER = "hydra_plugins.hydra_optuna_sweeper.optuna_sweeper.OptunaSweeper"
HYDRAS_SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"


def job(*overrides: str) -> Any:
    return SimpleNamespace(
        overrides=list(overrides),
        hydra=lambda path: f"value of {path}",
        config=lambda: OmegaConf.create({"x": 1, "hydra": {"job": {"num": 3}}}),
    )


def queued(log_dir: Path, number: int, index: int | None = None) -> QueuedJob:
    run = RunDir(log_dir / str(number))
    run.metadata.mkdir(parents=True)
    return QueuedJob(run, "slurm", str(100 + number), index)


def context(wait: Any, sweeper: str | None = OTHER_SWEEPER) -> Any:
    config = OmegaConf.create({"hydra": {"sweeper": {"_target_": sweeper} if sweeper else {}}})
    return SimpleNamespace(options=SimpleNamespace(wait=wait), config=config)


@pytest.mark.parametrize(
    ("wait", "sweeper", "waits"),
    [
        (True, HYDRAS_SWEEPER, True),
        (True, SWEEPER, True),
        (False, OTHER_SWEEPER, False),
        ("auto", HYDRAS_SWEEPER, False),
        ("auto", SWEEPER, False),
        ("auto", OTHER_SWEEPER, True),
        ("auto", None, True),
    ],
)
def test_a_launch_waits_where_it_is_told_to_or_where_values_are_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wait: Any, sweeper: str | None, waits: bool
) -> None:
    """Bug: Optuna is given a handle for a number; or a login node is kept busy for a day for nothing."""
    waited: list[list[QueuedJob]] = []

    def ended(submitted: list[QueuedJob], *_: Any) -> list[Status]:
        waited.append(submitted)
        return [Status.COMPLETE for _ in submitted]

    monkeypatch.setattr(live_table, "wait_with_progress", ended)
    jobs = [queued(tmp_path, 4)]
    (result,) = _results.results(context(wait, sweeper), [job("a=1")], jobs)
    assert waited == ([jobs] if waits else [])
    if waits:
        assert result.return_value is None
    else:
        assert isinstance(result.return_value, _results.SubmittedJob)


def test_without_jobs_nothing_is_waited_for() -> None:
    """Bug: a sweep of which all is complete stays for ever, or fails on an empty list."""
    assert _results.results(context(True), [], []) == []


def test_what_jobs_have_returned_is_theirs_and_what_failed_says_where_to_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Bug: a value under another job's name; a trial that failed has the value of one that did not."""
    jobs = [queued(tmp_path, number) for number in (3, 4, 5, 6, 9)]
    return_value.save_return_value(jobs[0].run, 0.25)
    return_value.save_return_value(jobs[2].run, {"loss": [1, 2]})
    return_value.save_return_value(jobs[3].run, object())
    statuses = [Status.COMPLETE, Status.FAILED, Status.COMPLETE, Status.COMPLETE, Status.LOST]
    shown: dict[RunDir, str] = {}

    def ended(submitted: Any, overrides: dict[RunDir, str], tell: Any) -> list[Status]:
        shown.update(overrides)
        return statuses

    monkeypatch.setattr(live_table, "wait_with_progress", ended)
    overrides = [["a=1", "b=2"], ["a=2"], [], ["a=4"], ["a=5"]]
    with caplog.at_level(logging.INFO):
        results = _results.results(context(True), [job(*words) for words in overrides], jobs)
    assert shown == {queued.run: " ".join(words) for queued, words in zip(jobs, overrides, strict=True)}
    assert [results[0].return_value, results[2].return_value] == [0.25, {"loss": [1, 2]}]
    completed, failed = JobStatus.COMPLETED, JobStatus.FAILED
    assert [result.status for result in results] == [completed, failed, completed, completed, failed]
    with pytest.raises(_results.JobDidNotCompleteError) as first:
        _ = results[1].return_value
    assert str(first.value).startswith(f"run {jobs[1].run.path} is FAILED. What it printed: {jobs[1].run.stderr} and")
    assert str(first.value).endswith("In all 2 of 5 jobs did not complete: run 4, 9")
    assert "builtins.object" in repr(results[3].return_value)
    with pytest.raises(TypeError, match=r"run 6, slurm job 106; what it returned was not kept: .*is no number"):
        float(results[3].return_value)
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.startswith("what the task function returned was not kept, of run 6: builtins.object")


def test_of_the_only_job_that_failed_no_others_are_spoken_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: "in all 1 of 1 jobs"."""
    monkeypatch.setattr(live_table, "wait_with_progress", lambda *_: [Status.CANCELLED])
    (result,) = _results.results(context(True), [job()], [queued(tmp_path, 1)])
    with pytest.raises(_results.JobDidNotCompleteError, match=r"1 is CANCELLED\. (?!.*In all)"):
        _ = result.return_value


def test_a_handle_says_which_job_it_is_and_is_no_number(tmp_path: Path) -> None:
    """Bug: a sweeper that takes a handle for an objective of 0; the whole array for one of its tasks."""
    handle = _results.SubmittedJob(queued(tmp_path, 7, index=3))
    assert (handle.run_id, handle.run_dir, handle.scheduler) == (7, tmp_path / "7", "slurm")
    assert (handle.job_id, handle.array_index) == ("107", 3)
    assert repr(handle) == "<SubmittedJob run 7, slurm job 107_3; left without waiting for its value>"
    with pytest.raises(TypeError, match=r"needs hydra\.launcher\.wait=true"):
        float(handle)


@pytest.mark.parametrize(
    ("count", "words"), [(1, "1 job submitted; its run is in"), (2, "2 jobs submitted; their runs are in")]
)
def test_each_submitted_job_is_told_with_what_it_runs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, count: int, words: str
) -> None:
    """Bug: a launch of one speaks of several; the overrides of another job."""
    jobs = [job(f"a={number}", "b=1") for number in range(count)]
    with caplog.at_level(logging.INFO):
        _results.log_submitted(jobs, [queued(tmp_path, 5 + number) for number in range(count)], LogDir(tmp_path))
    told = [record.getMessage() for record in caplog.records]
    assert told == [
        *(f"run {5 + number} : a={number} b=1 : slurm job {105 + number}" for number in range(count)),
        f"{words} {tmp_path}",
    ]


def test_a_result_has_the_configuration_of_its_job_when_somebody_looks(tmp_path: Path) -> None:
    """Bug: Hydra's part in the application's configuration, or all of thousands kept in memory."""
    (result,) = _results.submitted_results([job("a=1")], [queued(tmp_path, 2)])
    assert (result.working_dir, result.task_name, result.overrides) == (
        str(tmp_path / "2"),
        "value of job.name",
        ["a=1"],
    )
    assert "cfg" not in vars(result)
    assert result.cfg == {"x": 1}
    assert result.hydra_cfg == {"hydra": {"job": {"num": 3}}}
    (planned,) = _results.dry_run_results([job("a=1")])
    assert (planned.working_dir, planned.return_value) == ("", None)

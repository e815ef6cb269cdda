"""What `mlxp rerun` asks for and says, in process. With jobs: test_cli.py; which runs go: jobs/test_resubmit.py."""

from __future__ import annotations

import importlib
import io
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from mlxp_core.cli import app
from mlxp_core.jobs import live_table, refresh
from mlxp_core.jobs import resubmit as resubmitting
from mlxp_core.jobs.resubmit import Resubmission
from mlxp_core.runs.layout import LogDir, RunDir
from mlxp_core.runs.status import Status
from mlxp_core.runs.submission_record import QueuedJob


@dataclass
class Asked:
    """What the command has asked of others, in order."""

    calls: list[Any] = field(default_factory=list)
    outcome: Callable[[list[RunDir]], Resubmission] = lambda runs: Resubmission(tuple(runs), (), {}, {})
    waited: list[Status] | type[BaseException] = field(default_factory=list)


def names(runs: Any) -> list[str]:
    return [run.path.name for run in runs]


@pytest.fixture
def log_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LogDir:
    log_dir = LogDir(tmp_path / "logs")
    for number, status in enumerate(("FAILED", "COMPLETE", "FAILED", "PENDING"), start=1):
        log_dir.run(number).metadata.mkdir(parents=True)
        log_dir.run(number).info.write_text(f"status: {status}\n")
    monkeypatch.chdir(tmp_path)
    return log_dir


@pytest.fixture
def asked(log_dir: LogDir, monkeypatch: pytest.MonkeyPatch) -> Asked:
    asked = Asked()

    def resubmit(given: LogDir, runs: list[RunDir], *, complete: bool, dry_run: bool) -> Resubmission:
        assert given == log_dir
        asked.calls.append((names(runs), complete, dry_run))
        return asked.outcome(runs)

    def wait(jobs: list[QueuedJob], overrides: Mapping[RunDir, str], tell: Callable[[str], None]) -> list[Status]:
        asked.calls.append(("wait", names(job.run for job in jobs), overrides))
        tell("they wait")
        if isinstance(asked.waited, list):
            return asked.waited
        raise asked.waited

    monkeypatch.setattr(refresh, "refresh_runs", lambda runs: asked.calls.append(("refresh", names(runs))))
    monkeypatch.setattr(resubmitting, "resubmit", resubmit)
    monkeypatch.setattr(live_table, "wait_with_progress", wait)
    return asked


def rerun(*words: str) -> Result:
    return CliRunner().invoke(app, ["rerun", *words])


def submitted(*, blocked: bool = False, nothing: bool = False) -> Callable[[list[RunDir]], Resubmission]:
    """Runs 1 and 3 have jobs, 2 is complete and 4 waits; or the last is blocked."""

    def outcome(runs: list[RunDir]) -> Resubmission:
        one, two, three, four = runs
        jobs = () if nothing else (QueuedJob(one, "slurm", "7", 1), QueuedJob(three, "oar", "8", None))
        left = {two: "COMPLETE"} if blocked else {two: "COMPLETE", four: "PENDING"}
        return Resubmission((one, three), jobs, left, {four: "its code is gone"} if blocked else {})

    return outcome


def test_each_job_is_named_and_what_was_left_and_why(asked: Asked) -> None:
    """Bug: a run that is left alone without a word; a run that could not be submitted, and exit code 0."""
    asked.outcome = submitted()
    done = rerun("1-4")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "run 1: slurm job 7_1",
        "run 3: oar job 8",
        "submitted: 1, 3",
        "left alone: 2: COMPLETE",
        "left alone: 4: PENDING",
    ]
    asked.outcome = submitted(blocked=True)
    failed = rerun("1-4")
    assert failed.exit_code == 1
    assert failed.stdout.splitlines()[-1] == "left alone: 2: COMPLETE"
    assert failed.stderr == "cannot be submitted again: 4: its code is gone\n"
    assert asked.calls == [(["1", "2", "3", "4"], False, False)] * 2


def test_runs_with_the_same_reason_are_named_together(asked: Asked) -> None:
    """Bug: a thousand lines of "COMPLETE"."""
    asked.outcome = lambda runs: Resubmission((), (), dict(zip(runs, "abaa", strict=True)), {})
    assert rerun("1-4").stdout.splitlines() == ["submitted: none", "left alone: 1, 3-4: a", "left alone: 2: b"]


def test_options_are_handed_on_and_a_dry_run_is_called_one(asked: Asked) -> None:
    """Bug: --dry-run that submits, or says that it has; complete runs again, unasked."""
    assert rerun("2", "--complete").exit_code == 0
    assert rerun("1,3", "--dry-run").stdout == "would be submitted: 1, 3\n"
    assert asked.calls == [(["2"], True, False), (["1", "3"], False, True)]


def test_a_query_is_about_the_state_now(asked: Asked) -> None:
    """Bug: what failed a minute ago is not found; or the scheduler is asked where nobody has to know."""
    rerun("-q", "info.status == 'FAILED'")
    rerun("2-4", "-q", "info.status == 'FAILED'")
    assert asked.calls == [
        ("refresh", ["1", "2", "3", "4"]),
        (["1", "3"], False, False),
        ("refresh", ["2", "3", "4"]),
        (["3"], False, False),
    ]
    done = rerun()
    assert done.exit_code == 2
    assert "say which runs to rerun: ids, as in `mlxp rerun 3-9`" in done.stderr
    assert len(asked.calls) == 4


@pytest.mark.parametrize(
    ("statuses", "blocked", "code"),
    [
        ([Status.COMPLETE, Status.COMPLETE], False, 0),
        ([Status.COMPLETE, Status.COMPLETE], True, 1),
        ([Status.FAILED, Status.COMPLETE], False, 1),
        (KeyboardInterrupt, False, 130),
    ],
)
def test_waiting_fails_with_the_first_that_did_not_complete(
    asked: Asked, statuses: Any, blocked: bool, code: int
) -> None:
    """Bug: `mlxp rerun --wait && next` goes on after a failure; a stack trace at Ctrl-C."""
    asked.outcome, asked.waited = submitted(blocked=blocked), statuses
    done = rerun("1-4", "--wait")
    assert done.exit_code == code
    assert done.stdout.endswith("they wait\n")
    assert asked.calls[1:] == [("wait", ["1", "3"], {})]
    assert done.stderr == ("cannot be submitted again: 4: its code is gone\n" if blocked else "")


def test_what_is_told_while_it_waits_is_seen_while_it_waits(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: `mlxp rerun --wait | tee log` is silent for the days that jobs take."""
    raw = io.BytesIO()
    seen: list[bytes] = []

    def wait(_: object, __: object, tell: Callable[[str], None]) -> list[Status]:
        tell("run 1: COMPLETE")
        seen.append(raw.getvalue())
        return [Status.COMPLETE]

    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="utf-8"))
    monkeypatch.setattr(live_table, "wait_with_progress", wait)
    asked.outcome = submitted()
    app(["rerun", "1-4", "--wait"], standalone_mode=False)
    assert seen[0].endswith(b"left alone: 4: PENDING\nrun 1: COMPLETE\n")


def test_ctrl_c_ends_the_waiting_with_its_own_code(asked: Asked) -> None:
    """Bug: exit code 1, as of a run that has failed; or typer's "Aborted!", as if the jobs were."""
    asked.waited = KeyboardInterrupt
    with pytest.raises(typer.Exit) as left:
        importlib.import_module("mlxp_core.cli.rerun")._complete([])
    assert left.value.exit_code == 130


def test_what_was_not_submitted_is_not_waited_for(asked: Asked) -> None:
    """Bug: ValueError over the largest of no intervals; waiting where nobody asked for it."""
    asked.outcome = submitted(nothing=True)
    assert rerun("1-4", "--wait").exit_code == 0
    asked.outcome = submitted()
    assert rerun("1-4").exit_code == 0
    assert [call for call in asked.calls if call[0] == "wait"] == []

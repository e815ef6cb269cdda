"""The state of a run: read once, and derived once."""

from __future__ import annotations

import dataclasses
import socket
from pathlib import Path
from typing import Any

import pytest

from mlxp_core.cli.status import status
from mlxp_core.runs import state as state_module
from mlxp_core.runs.layout import RunDir
from mlxp_core.runs.process import current_user, this_process
from mlxp_core.runs.state import RunState
from mlxp_core.runs.status import ExitCode
from mlxp_core.runs.submission_record import SubmissionRecord
from mlxp_core.yaml_io import write_yaml


def running(log_dir: Path, number: int) -> RunDir:
    run = RunDir(log_dir / str(number))
    run.metadata.mkdir(parents=True)
    write_yaml(run.info, {"status": "RUNNING", "attempt": 1, **this_process()})
    return run


@pytest.mark.parametrize("as_json", [True, False])
def test_status_asks_for_each_process_once_and_derives_each_state_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, as_json: bool
) -> None:
    """Bug: a row that mixes two moments, for /proc is asked four times a run, and five statuses are derived."""
    asked: list[Any] = []
    derived: list[Any] = []
    loaded: list[RunState] = []
    is_alive, derive, load, replace = (
        state_module.is_alive,
        state_module.derive_status,
        RunState.load,
        dataclasses.replace,
    )

    def counted(counts: list[Any], function: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            result = function(*arguments, **named)
            counts.append(result)
            return result

        return call

    runs = [running(tmp_path, number) for number in range(1, 5)]
    job = SubmissionRecord(scheduler="local", script="/job.sh", user=current_user(), hostname="elsewhere", job_id="7")
    for run in runs[2:]:
        dataclasses.replace(job, time="2026-11-25T18:00:00+00:00", attempt=1).save(run)
    monkeypatch.setattr(state_module, "is_alive", counted(asked, is_alive))
    monkeypatch.setattr(state_module, "derive_status", counted(derived, derive))
    monkeypatch.setattr(state_module, "replace", counted(loaded, replace))
    monkeypatch.setattr(RunState, "load", counted(loaded, load))
    status(folder=tmp_path, as_json=as_json, watch=False)
    assert asked == [True] * 4
    assert len(loaded) == 6  # those of another host are no longer current
    assert len(derived) == len({id(state) for state in loaded})
    assert capsys.readouterr().out.count("RUNNING") == 4


def test_a_state_is_a_value(tmp_path: Path) -> None:
    """Bug: a state that changes under who holds it, such as a plan that was made by it."""
    state = RunState.load(running(tmp_path, 1))
    with pytest.raises(dataclasses.FrozenInstanceError):
        state.is_current = False  # type: ignore[misc]
    write_yaml(state.run.info, {"status": "COMPLETE", "attempt": 1})
    assert state.status == "RUNNING"
    later = state.with_submission(SubmissionRecord(scheduler="slurm", job_id="7", state="TIMEOUT", attempt=2))
    assert (state.status, later.status, later.job_label) == ("RUNNING", "TIMEOUT", "slurm 7")


def test_a_run_that_ends_while_it_is_looked_at_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: LOST for a run that wrote COMPLETE, and ended, between info.yaml's reading and the look at its process."""
    run = running(tmp_path, 1)

    def ends(_: object) -> bool:
        write_yaml(run.info, {"status": "COMPLETE", "attempt": 1, "hostname": socket.gethostname()})
        return False

    monkeypatch.setattr(state_module, "is_alive", ends)
    assert RunState.load(run).status == "COMPLETE"


def test_a_folder_that_may_not_be_looked_into_is_a_problem_and_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: a command that ends with PermissionError for one run of a colleague's."""
    run = running(tmp_path, 1)

    def refuse(*_: object) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(state_module, "stamp_at", refuse)
    monkeypatch.setattr(state_module, "load_yaml_or_empty", refuse)
    assert "info.yaml cannot be read" in RunState.load(run).problem


def test_a_next_attempt_that_starts_while_it_is_looked_at_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: the end of one process taken for that of the next."""
    run = running(tmp_path, 1)

    def starts_again(info: dict[str, Any]) -> bool:
        write_yaml(run.info, {**info, "process_id": 1, "attempt": 2})
        return False

    monkeypatch.setattr(state_module, "is_alive", starts_again)
    assert RunState.load(run).status == "RUNNING"


def test_a_lost_run_gives_no_reason_that_says_no_more_than_its_status(tmp_path: Path) -> None:
    """Bug: LOST as the reason of LOST."""
    run = running(tmp_path, 1)
    record = SubmissionRecord(scheduler="local", script="/job.sh", time="2026-11-25T18:00:00+00:00", job_id="7")
    record.updated(state="LOST", reason="LOST").save(run)
    state = RunState.load(run)
    assert (state.status, state.reason) == ("LOST", "")


@pytest.mark.parametrize(
    ("told", "submitted", "ended", "latest"),
    [(1, 2, 3, 3), (3, 2, 1, 3), (1, 3, 2, 3), (2, None, None, 2), (None, None, None, 1), ("x", 2, None, 2)],
)
def test_the_latest_attempt_is_the_latest_that_anything_knows_of(
    tmp_path: Path, told: Any, submitted: int | None, ended: int | None, latest: int
) -> None:
    """Bug: the first of three numbers; what an earlier attempt has left is taken for the latest's."""
    state = RunState(
        RunDir(tmp_path),
        {"attempt": told, "start_time": "2026-11-25T18:00:00+00:00"},
        SubmissionRecord(attempt=submitted, state="TIMEOUT"),
        None if ended is None else ExitCode(3, ended),
    )
    assert state.attempt == latest
    assert bool(state.attempt_info) is (told == latest or (latest == 1 and told is None))
    assert state.exit_status == (3 if ended == latest else None)
    assert state.scheduler_status == ("TIMEOUT" if (submitted or 1) == latest else None)

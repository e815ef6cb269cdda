"""Which jobs are cancelled: of runs that live, by their scheduler, together with those that share one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import read_yaml

from mlxp_core.errors import CommandError, ConfigurationError
from mlxp_core.jobs.cancel import cancel_jobs, cancel_runs
from mlxp_core.runs.layout import LogDir, RunDir
from mlxp_core.runs.state import RunState
from mlxp_core.scheduler import client
from mlxp_core.scheduler.base import Scheduler, Task


@pytest.fixture
def log_dir(tmp_path: Path) -> LogDir:
    return LogDir(tmp_path / "logs")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[Task], float]]:
    """Calls of cancel commands: scheduler, tasks, limit. That of Grid Engine does not work."""
    made: list[tuple[str, list[Task], float]] = []

    def cancel(scheduler: Scheduler, jobs: Sequence[Task], *, limit: float) -> None:
        made.append((scheduler.name, list(jobs), limit))
        if scheduler.name == "sge":
            raise CommandError("qmaster is away")

    monkeypatch.setattr(client, "cancel", cancel)
    return made


def submitted(log_dir: LogDir, number: int, *, status: str = "PENDING", submission: int = 1, **change: Any) -> RunDir:
    run = log_dir.run(number)
    run.metadata.mkdir(parents=True)
    run.info.write_text(f"status: {status}\nattempt: 1\n")
    folder = log_dir.submissions / str(submission)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "manifest").open("a") as file:
        file.write(f"{run.path}\n")
    record = {"scheduler": "slurm", "script": str(folder / "job.sh"), "time": "2026-11-25T18:00:00+00:00", "attempt": 1}
    run.submission.write_text(yaml.safe_dump({**record, "job_id": "7", "array_index": number, "packed": 1, **change}))
    return run


def cancelled_at(run: RunDir) -> float | None:
    said = read_yaml(run.submission).get("cancel_time")
    return None if said is None else datetime.fromisoformat(said).timestamp()


def test_only_what_lives_is_cancelled_each_by_its_scheduler(log_dir: LogDir, calls: list[Any]) -> None:
    """Bug: scancel of an id of OAR; a run that has ended, or was never submitted, counts as cancelled."""
    runs = [
        submitted(log_dir, 1),
        submitted(log_dir, 2, status="COMPLETE"),
        submitted(log_dir, 3, scheduler="oar", job_id="9", array_index=None),
        submitted(log_dir, 4, status="RUNNING"),
        submitted(log_dir, 5, job_id=None, state="FAILED"),
        submitted(log_dir, 6, job_id="8", array_index=None),
        submitted(log_dir, 7, scheduler="novel"),
        submitted(log_dir, 8, job_id=None, state=None),
    ]
    assert cancel_runs(runs, limit=5) == [runs[index] for index in (0, 2, 3, 5, 6)]
    assert calls == [("slurm", [("7", 1), ("7", 4), ("8", None)], 5), ("oar", [("9", None)], 5)]
    times = [cancelled_at(run) for run in runs]
    assert [when is not None for when in times] == [True, False, True, True, False, True, False, False]
    assert all(abs(when - time.time()) < 60 for when in times if when is not None)


def test_the_wish_is_on_record_before_the_command_and_stays_if_that_fails(log_dir: LogDir, calls: list[Any]) -> None:
    """Bug: a job that is gone without a word after `mlxp cancel` is LOST; or another scheduler's are marked."""
    first, second = submitted(log_dir, 1, scheduler="sge"), submitted(log_dir, 2)
    with pytest.raises(CommandError, match="away"):
        cancel_runs([first, second])
    assert [cancelled_at(run) is None for run in (first, second)] == [False, True]
    assert calls == [("sge", [("7", 1)], 60.0)]


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ((3, 4), None),
        ((3,), r"run 3 shares its job with run 4 \(hydra\.launcher\.pack\)"),
        ((1,), None),  # its neighbour has ended
        ((5,), None),  # the last one, alone in its job
        ((1, 3, 5), r"run 3 shares its job with run 4"),
        ((1, 3, 4, 5), None),
    ],
)
def test_runs_that_share_a_job_are_named_together(
    log_dir: LogDir, calls: list[Any], named: tuple[int, ...], said: str | None
) -> None:
    """Bug: of five runs in three jobs the neighbour of another job is asked for; or one is cancelled unasked."""
    packed = {"packed": 2}
    runs = {
        1: submitted(log_dir, 1, **packed, array_index=1),
        2: submitted(log_dir, 2, **packed, array_index=1, status="COMPLETE"),
        3: submitted(log_dir, 3, **packed, array_index=2),
        4: submitted(log_dir, 4, **packed, array_index=2, status="RUNNING"),
        5: submitted(log_dir, 5, packed=1, array_index=3),
    }
    chosen = [runs[number] for number in named]
    if said is None:
        assert cancel_runs(chosen) == chosen
        (call,) = calls
        assert call[1] == sorted({("7", {1: 1, 3: 2, 4: 2, 5: 3}[number]) for number in named})
    else:
        with pytest.raises(ConfigurationError, match=said):
            cancel_runs(chosen)
        assert calls == []
        assert [cancelled_at(run) for run in chosen] == [None] * len(chosen)


def test_neighbours_that_cannot_be_read_are_not_cancelled_unasked(log_dir: LogDir, calls: list[Any]) -> None:
    """Bug: three runs that nobody has named, as the folder of the submission was removed."""
    run = submitted(log_dir, 1, packed=4, array_index=None)
    manifest = log_dir.submissions / "1" / "manifest"
    manifest.unlink()
    with pytest.raises(ConfigurationError, match=f"which these are cannot be read: {manifest}"):
        cancel_runs([run])
    assert calls == []


def test_what_is_held_is_cancelled_although_it_has_ended(log_dir: LogDir, calls: list[Any]) -> None:
    """Bug: a job in an error state starts beside its rerun, as soon as somebody clears that."""
    run = submitted(log_dir, 1, status="FAILED", stuck=True)
    cancel_jobs([RunState.load(run)], limit=5)
    assert calls == [("slurm", [("7", 1)], 5)]
    assert cancelled_at(run) is not None

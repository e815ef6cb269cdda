"""What `mlxp cancel` asks and says, in process. With jobs: test_cli.py; which jobs end: jobs/test_cancel.py."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from mlxp_core.jobs import cancel as cancelling
from mlxp_core.jobs import refresh as refreshing
from mlxp_core.jobs.refresh import UnreachableScheduler
from mlxp_core.runs.layout import LogDir, RunDir
from mlxp_core.runs.state import RunState

cancel = importlib.import_module("mlxp_core.cli.cancel")  # as an attribute of its package it is the command


@dataclass
class World:
    """What others do, and what they were asked to."""

    log_dir: LogDir
    cancelled: list[list[str]] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)
    yes: bool = True
    spared: set[str] = field(default_factory=set)  # that end before they can be cancelled
    unreachable: list[UnreachableScheduler] = field(default_factory=list)

    def add(self, name: int, status: str, submission: dict[str, Any] | None = None) -> None:
        run = self.log_dir.run(name)
        run.metadata.mkdir(parents=True)
        run.info.write_text(f"status: {status}\n")
        if submission is not None:
            record = {"scheduler": "slurm", "script": "/s/job.sh", "time": "2026-11-25T18:00:00+00:00", "job_id": "7"}
            run.submission.write_text(yaml.safe_dump({**record, **submission}))


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Runs that wait (1, 2), have ended (3), are not submitted (4), or nobody knows whether they are (5)."""
    made = World(LogDir(tmp_path / "logs"))
    for name, status, submission in (
        (1, "PENDING", {}),
        (2, "RUNNING", {}),
        (3, "COMPLETE", {}),
        (4, "PENDING", None),
        (5, "PENDING", {"job_id": None}),
        (6, "FAILED", None),
    ):
        made.add(name, status, submission)

    def refresh(states: Iterable[RunState]) -> tuple[list[RunState], list[UnreachableScheduler]]:
        return list(states), made.unreachable

    def cancel_runs(runs: list[RunDir]) -> list[RunDir]:
        made.cancelled.append([run.path.name for run in runs])
        return [run for run in runs if run.path.name not in made.spared]

    def confirm(question: str) -> bool:
        made.questions.append(question)
        return made.yes

    monkeypatch.setattr(refreshing, "refresh", refresh)
    monkeypatch.setattr(cancelling, "cancel_runs", cancel_runs)
    monkeypatch.setattr(cancel, "confirm", confirm)
    return made


UNCLEAR = "not known whether submitted, so nothing was cancelled (`mlxp rerun` finds out)"


def test_only_what_lives_is_cancelled_and_the_rest_is_said(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Bug: a run that has ended, or that is in no queue, counts as cancelled."""
    world.spared = {"2"}
    cancel.cancel(["1-6"], folder=world.log_dir.path)
    assert world.cancelled == [["1", "2"]]
    assert capsys.readouterr() == (
        f"cancelled: 1\nhad ended already: 2-3, 6\n{UNCLEAR}: 5\nin no queue: not submitted, or run by hand: 4\n",
        "",
    )
    cancel.cancel(["3"], folder=world.log_dir.path)
    assert capsys.readouterr().out == "had ended already: 3\n"
    assert len(world.cancelled) == 1  # nobody was asked to cancel nothing


def test_a_query_chooses_and_may_choose_none(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Bug: the query is forgotten, and all is cancelled; silence where it chooses nothing."""
    cancel.cancel(query="info.status == 'RUNNING'", folder=world.log_dir.path)
    assert world.cancelled == [["2"]]
    cancel.cancel(["3-6"], query="info.status == 'RUNNING'", folder=world.log_dir.path)
    assert capsys.readouterr().out == "cancelled: 2\nno run matches\n"
    with pytest.raises(typer.BadParameter, match="say which runs to cancel"):
        cancel.cancel(folder=world.log_dir.path)
    assert len(world.cancelled) == 1


@pytest.mark.parametrize(
    ("names", "options", "at_terminal", "asks"),
    [
        (["1-2"], {}, True, True),
        (["1-2"], {"yes": True}, True, False),
        (["1-2"], {}, False, False),  # a script
        (["1", "3"], {}, True, False),  # one that lives
    ],
)
def test_several_runs_are_cancelled_after_a_question(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    names: list[str],
    options: dict[str, bool],
    at_terminal: bool,
    asks: bool,
) -> None:
    """Bug: a slip of the finger ends a week of work; a script that hangs; -y that asks all the same."""
    monkeypatch.setattr(cancel.sys.stdin, "isatty", lambda: at_terminal, raising=False)
    cancel.cancel(names, folder=world.log_dir.path, **options)
    assert world.questions == (["Cancel 2 runs (1-2)?"] if asks else [])
    assert len(world.cancelled) == 1
    world.yes = False
    if asks:
        with pytest.raises(typer.Exit) as left:
            cancel.cancel(names, folder=world.log_dir.path)
        assert left.value.exit_code == 1
        assert len(world.cancelled) == 1


def test_a_scheduler_that_does_not_answer_is_said_before(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Bug: what is last known taken for what is, without a word."""
    world.unreachable = [UnreachableScheduler("slurm", "slurm does not answer", None)]
    cancel.cancel(["1"], folder=world.log_dir.path)
    assert capsys.readouterr() == ("cancelled: 1\n", "mlxp: slurm does not answer\n")

"""What `mlxp snapshots` and its prune ask for and say, in process. What they print of copies: test_snapshots.py."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from mlxp_core.cli import app, snapshots
from mlxp_core.jobs import refresh as refreshing
from mlxp_core.jobs.refresh import UnreachableScheduler
from mlxp_core.runs import lock
from mlxp_core.runs.layout import LogDir, RunDir
from mlxp_core.runs.state import RunState
from mlxp_core.versioning import copies
from mlxp_core.versioning import prune as pruning
from mlxp_core.versioning.copies import CodeCopy, Inventory
from mlxp_core.versioning.prune import PruneResult

MADE = datetime(2026, 11, 25, 18, 0, 5, 123456, tzinfo=timezone.utc)
USED = datetime(2026, 11, 26, 18, 0, 5, tzinfo=timezone.utc)
RUNS = (RunDir(Path("/logs/1")), RunDir(Path("/logs/2")))
COPY = CodeCopy(Path("/lögs/.mlxp/code") / ("a" * 40), True, "commit", MADE, USED, 2048, RUNS, RUNS[1:], "")
LOST = replace(COPY, path=COPY.path.with_name("b" * 40), snapshot=None, runs=(), needed=(), problem="it is lost")
SILENT = UnreachableScheduler("slurm", "command: squeue", None)


@dataclass
class World:
    """What others answer, and what they were asked."""

    log_dir: LogDir
    copies: tuple[CodeCopy, ...] = (COPY, LOST)
    result: PruneResult = field(default_factory=lambda: PruneResult((LOST,), {str(COPY.path): (COPY, "x")}, {}, ()))
    unreachable: list[UnreachableScheduler] = field(default_factory=list)
    asked: list[Any] = field(default_factory=list)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(LogDir(tmp_path / "logs"))
    for folder in (made.log_dir.run(1), made.log_dir.run(2), LogDir(tmp_path / "other").run(3)):
        folder.metadata.mkdir(parents=True)
        folder.info.write_text("status: COMPLETE\n")
    monkeypatch.chdir(tmp_path)

    def refresh(states: Iterable[RunState]) -> tuple[list[RunState], list[UnreachableScheduler]]:
        known = list(states)
        made.asked.append(("refresh", [state.run.path.name for state in known]))
        return known, made.unreachable

    def list_copies(log_dir: LogDir, states: list[RunState]) -> Inventory:
        made.asked.append(("list", log_dir.path.name, [state.run.path.name for state in states]))
        return Inventory(made.copies, frozenset())

    def prune(log_dir: LogDir, states: list[RunState], *, elsewhere: bool, dry_run: bool) -> PruneResult:
        made.asked.append(("prune", log_dir.path.name, [state.run.path.name for state in states], elsewhere, dry_run))
        return made.result

    @contextmanager
    def exclusive(log_dir: LogDir) -> Iterator[None]:
        made.asked.append("locked")
        yield
        made.asked.append("unlocked")

    monkeypatch.setattr(refreshing, "refresh", refresh)
    monkeypatch.setattr(copies, "list_copies", list_copies)
    monkeypatch.setattr(pruning, "prune", prune)
    monkeypatch.setattr(lock, "exclusive", exclusive)
    return made


def call(*words: str, **variables: str) -> Result:
    return CliRunner().invoke(app, ["snapshots", *words], env=variables)


def test_programs_get_a_line_a_copy_and_people_the_sum(world: World) -> None:
    """Bug: the sum among the rows, where `cut` takes it for a copy; a list that is of other states than are known."""
    done = call()
    assert done.exit_code == 0
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert [line[0] for line in lines] == ["version", "a" * 40, "b" * 40]
    assert done.stderr == "2 copies, 4.0 KiB\n"
    assert world.asked == [("refresh", ["1", "2"]), ("list", "logs", ["1", "2"])]


def test_json_has_whole_values(world: World) -> None:
    """Bug: a path in escapes; a count where the runs are; microseconds; no answer where git has lost it."""
    done = call("--json")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert rows[0] == {
        "version": "a" * 40,
        "snapshot": "commit",
        "made": "2026-11-25T18:00:05+00:00",
        "used": "2026-11-26T18:00:05+00:00",
        "size": 2048,
        "runs": ["1", "2"],
        "needed_by": ["2"],
        "problem": "",
        "path": str(COPY.path),
    }
    assert [rows[1][key] for key in ("snapshot", "runs", "problem")] == [None, [], "it is lost"]
    assert "/lögs/" in done.stdout
    assert done.stderr == ""


def test_at_a_terminal_it_is_a_table(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bug: tabs for people."""
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    app(["snapshots"], standalone_mode=False)
    out, err = capsys.readouterr()
    assert "can be made again" in out
    assert out.endswith("2 copies, 4.0 KiB\n")
    assert err == ""


@pytest.mark.parametrize("words", [(), ("--json",), ("prune",)])
def test_a_scheduler_that_does_not_answer_is_said(world: World, words: tuple[str, ...]) -> None:
    """Bug: runs that may be over keep their code, and nobody knows why."""
    world.unreachable = [SILENT, replace(SILENT, scheduler="oar")]
    said = [line for line in call(*words).stderr.splitlines() if "cop" not in line]
    assert said == [
        "slurm has not answered; its runs count as not ended",
        "command: squeue",
        "oar has not answered; its runs count as not ended",
        "command: squeue",
    ]


def test_a_prune_holds_the_lock_while_it_looks_and_removes(world: World) -> None:
    """Bug: a run is submitted again between the look and the removal, and finds no code."""
    done = call("prune")
    assert done.exit_code == 0
    assert world.asked == ["locked", ("refresh", ["1", "2"]), ("prune", "logs", ["1", "2"], False, False), "unlocked"]
    assert done.stdout.splitlines() == [
        "removed: bbbbbbbbbb, 2.0 KiB, of run none",
        "kept: aaaaaaaaaa, 2.0 KiB: run 2 needs it",
    ]
    assert done.stderr == "removed: 1 copy, 2.0 KiB; kept: 1 copy\n"


def test_a_dry_run_makes_nothing_not_even_a_lock(world: World) -> None:
    """Bug: "removed" of what is still there; a dry run that waits for a launch."""
    done = call("prune", "--dry-run", "--elsewhere")
    assert world.asked == [("refresh", ["1", "2"]), ("prune", "logs", ["1", "2"], True, True)]
    assert done.stdout.startswith("would be removed: bbbbbbbbbb")
    assert done.stderr == "would be removed: 1 copy, 2.0 KiB; kept: 1 copy\n"


def test_what_could_not_be_removed_is_a_failure(world: World) -> None:
    """Bug: exit code 0 of a prune that leaves the disk full."""
    world.result = replace(world.result, failed={"/y": "it belongs to user 7"})
    done = call("prune")
    assert done.exit_code == 1
    assert done.stderr.endswith("cannot be removed: /y: it belongs to user 7\n")


def test_the_log_directory_is_named_before_or_behind_the_word(world: World, tmp_path: Path) -> None:
    """Bug: the runs of logs/ although another folder was named; a folder that is made to be looked at."""
    for words in (("--log-dir", "other", "prune"), ("prune", "--log-dir", "other")):
        world.asked.clear()
        call(*words, MLXP_LOG_DIR="logs")
        assert ("prune", "other", ["3"], False, False) in world.asked
    world.asked.clear()
    call("prune", MLXP_LOG_DIR="other")
    assert ("prune", "other", ["3"], False, False) in world.asked
    world.asked.clear()
    missing = call("prune", "--log-dir", "typo")
    assert "cannot read the log directory" in str(missing.exception)
    assert world.asked == []
    assert not (tmp_path / "typo").exists()


def test_json_is_for_the_list_alone(world: World) -> None:
    """Bug: a prune that prints something else than was asked for."""
    done = call("--json", "prune")
    assert done.exit_code == 2
    assert "--json is for the list alone" in done.stderr
    assert world.asked == []


def test_a_narrow_table_keeps_versions_and_times_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bug: half a hash, of which git knows nothing; a moment in two lines, or a size."""
    monkeypatch.setenv("COLUMNS", "80")
    runs = tuple(RunDir(Path("/logs") / str(number)) for number in range(1, 20, 2))
    snapshots._show([replace(COPY, snapshot="worktree", runs=runs, problem="git has lost the commit " * 2)])
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[1:8] == [
        "                                                                      can be",
        "                                                                      made",
        " version     snapshot  made                 size  runs     not ended  again",
        " " + "─" * 78,
        " aaaaaaaaaa  worktree  2026-11-25 18:00  2.0 KiB  1, 3,            1  no: git",
        "                                                  5, 7,               has lost",
        "                                                  9, 11,              the",
    ]


@pytest.mark.parametrize("columns", [80, 70])
def test_a_size_is_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: int
) -> None:
    """Bug: 2.0 in one line and KiB in the next, below what may be another copy's."""
    monkeypatch.setenv("COLUMNS", str(columns))
    runs = tuple(RunDir(Path("/logs") / str(number)) for number in range(1, 20, 2))
    snapshots._show([replace(COPY, snapshot="worktree", runs=runs, problem="git has lost the commit " * 2)])
    assert "\n aaaaaaaaaa  worktree  2026-11-25 18:00  2.0 KiB  1," in capsys.readouterr().out


def test_a_sum_is_in_no_colours(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Bug: each number in a colour of its own."""
    for name, value in (("COLUMNS", "80"), ("FORCE_COLOR", "1"), ("TERM", "xterm-256color")):
        monkeypatch.setenv(name, value)
    snapshots._show([COPY])
    assert capsys.readouterr().out.splitlines()[-1] == "1 copy, 2.0 KiB"

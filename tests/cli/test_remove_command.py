"""`mlxp rm`: what it asks and says, with runs of the local queue. Which runs are removed: jobs/test_removal.py."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from code_copies import copy_of, edit
from support import Mlxp, Project, until
from typer.testing import CliRunner, Result

from mlxp_core.cli import app
from mlxp_core.runs.layout import LogDir

LOCAL = ("-m", "hydra/launcher=mlxp_local")
WAIT = (*LOCAL, "hydra.launcher.wait=true")


@pytest.fixture
def log_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LogDir:
    """Runs 1, 2 and 4 that have ended, and 3 that may still run on another machine."""
    log_dir = LogDir(tmp_path / "logs")
    for number, status in enumerate(("FAILED", "COMPLETE", "RUNNING", "FAILED"), start=1):
        log_dir.run(number).metadata.mkdir(parents=True)
        log_dir.run(number).info.write_text(f"status: {status}\nhostname: elsewhere\nprocess_id: 1\n")
    monkeypatch.chdir(tmp_path)
    return log_dir


def rm(*words: str) -> Result:
    return CliRunner().invoke(app, ["rm", *words])


def left(log_dir: LogDir) -> list[str]:
    return sorted(name for name in os.listdir(log_dir.path) if not name.startswith("."))


def test_runs_are_removed_by_range_and_what_may_still_run_is_named(log_dir: LogDir) -> None:
    """Bug: exit code 0 although a run is still there; a run on another machine is taken for dead."""
    done = rm("1-3", "--yes")
    assert (done.exit_code, done.stdout, done.stderr) == (1, "removed: 1-2\n", "left alone: 3: RUNNING\n")
    assert left(log_dir) == ["3", "4"]
    assert (rm("4", "-y").exit_code, left(log_dir)) == (0, ["3"])
    assert "there is no run '4'" in str(rm("4", "-y").exception) or "there is no run 4" in str(rm("4", "-y").exception)


def test_nothing_is_removed_without_a_yes_and_nothing_unnamed(log_dir: LogDir) -> None:
    """Bug: `mlxp rm` in a script, or without a name, empties the log directory."""
    for words in (["1"], ["1-4"], ["-q", "info.status == 'FAILED'"]):
        done = rm(*words)
        assert (done.exit_code, "say --yes" in done.stderr) == (2, True)
    assert (rm("--yes").exit_code, left(log_dir)) == (2, ["1", "2", "3", "4"])


def test_a_dry_run_and_a_query_say_which(log_dir: LogDir) -> None:
    """Bug: --dry-run removes; a query that no run fulfils means all."""
    assert rm("-q", "info.status == 'FAILED'", "--dry-run").stdout == "would be removed: 1, 4\n"
    assert rm("-q", "info.status == 'TIMEOUT'", "--yes").stdout == "removed: none\n"
    assert left(log_dir) == ["1", "2", "3", "4"]
    assert rm("-q", "info.status == 'FAILED'", "--yes").stdout == "removed: 1, 4\n"
    assert left(log_dir) == ["2", "3"]


def test_runs_go_with_their_copies_and_the_next_gets_a_new_id(mlxp: Mlxp, project: Project, tmp_path: Path) -> None:
    """Bug: a no is a yes; a job loses its folder; a copy that a run needs is gone, or one that none needs stays."""
    project.run(*WAIT, "seed=1,2")
    edit(project, "B")
    flag = tmp_path / "flag"
    project.run(*LOCAL, "seed=1", "do=hold", f"flag='{flag}'")
    until(lambda: project.status(3) == "RUNNING")
    first, second = copy_of(project, 1), copy_of(project, 3)
    code, shown = mlxp.in_terminal("rm", "1-3", answer="n\n")
    assert (code, "Remove 2 runs (1-2) with all that they have logged? [y/N]" in shown) == (1, True)
    assert project.runs() == ["1", "2", "3"]
    assert mlxp("rm", "3", "--yes", code=1).stderr == "left alone: 3: RUNNING\n"
    code, shown = mlxp.in_terminal("rm", "2", answer="y\n")
    assert (code, project.runs(), first.exists()) == (0, ["1", "3"], True)
    done = mlxp("rm", "1", "--yes")
    assert done.stdout == f"removed: 1\nremoved: {first.name[:10]}, the code that only they have run\n"
    assert (first.exists(), second.exists()) == (False, True)
    flag.touch()
    project.wait_for_end(3)
    until(lambda: mlxp.statuses() == ["COMPLETE"])
    mlxp("rm", "3", "--yes")
    assert not second.exists()
    project.run(*WAIT, "hydra/sweeper=mlxp", "hydra.sweeper.skip=COMPLETE", "seed=1")
    assert project.runs() == ["4"]

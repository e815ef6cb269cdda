"""The command `mlxp` on the real Slurm that tests/run.sh --clusters starts."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest
from support import PATIENCE, Mlxp, Project, until

pytestmark = pytest.mark.slurm

SLURM = ("-m", "hydra/launcher=mlxp_slurm")
ALLOCATE = """\
import os, time, hydra
@hydra.main(version_base=None, config_path="conf", config_name="config")
def main(cfg):
    block = bytearray(os.urandom(1 << 20) * 400)
    time.sleep(60)
main()
"""


@pytest.fixture(autouse=True)
def cluster(mlxp: Mlxp, project: Project) -> None:
    """Fail, and not skip, where the tests were asked for and there is no Slurm."""
    done = subprocess.run(["sinfo", "--noheader"], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, f"no Slurm answers; start one with tests/run.sh --clusters\n{done.stderr}"


@pytest.fixture
def stand_in(tmp_path: Path, mlxp: Mlxp) -> Path:
    """A squeue that comes before the real one, once a test has written it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    mlxp.environment["PATH"] = f"{folder}{os.pathsep}{mlxp.environment['PATH']}"
    return folder / "squeue"


def put(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def ask_anew(mlxp: Mlxp) -> list[str]:
    """Statuses by a scheduler that is asked now, as after ten seconds."""
    for path in Path(mlxp.environment["XDG_CACHE_HOME"]).rglob("*.json"):
        path.unlink()
    return mlxp.statuses()


def test_what_was_cancelled_while_it_waited_is_known_from_squeue_and_from_sacct(
    mlxp: Mlxp, project: Project, stand_in: Path
) -> None:
    """Bug: PENDING for ever; or for ever once squeue has forgotten it."""
    project.run(*SLURM, "seed=1,2", "hydra.launcher.header='#SBATCH --hold'")
    assert mlxp.statuses() == ["PENDING", "PENDING"]
    assert mlxp.rows()["1"]["reason"] == "JobHeldUser"
    assert mlxp("cancel", "1").stdout == "cancelled: 1\n"
    until(lambda: ask_anew(mlxp) == ["CANCELLED", "PENDING"])
    assert mlxp("cancel", "-q", "info.status == 'PENDING'").stdout == "cancelled: 2\n"
    put(stand_in, "exit 0")  # has forgotten all
    until(lambda: ask_anew(mlxp) == ["CANCELLED", "CANCELLED"])
    assert project.submission(2)["reason"] == "CANCELLED"  # as sacct says


def test_a_job_that_took_too_much_memory_failed_for_that_reason(mlxp: Mlxp, project: Project) -> None:
    """Bug: FAILED, exit code 137, and nobody knows why."""
    project.write(**{"main.py": ALLOCATE})
    project.commit()
    project.run(*SLURM, "hydra.launcher.header='#SBATCH --mem=150'")
    until(lambda: ask_anew(mlxp) not in (["PENDING"], ["RUNNING"]))
    row = mlxp.rows()["1"]
    assert row["status"] == "FAILED", row
    assert row["reason"] == "out of memory", row
    shown = mlxp("logs", "1").stdout
    assert "==> run 1: slurm <==" in shown
    assert "exceeded memory limit" in shown


@pytest.mark.timeout(240)
def test_a_job_at_its_time_limit_is_a_timeout(mlxp: Mlxp, project: Project, tmp_path: Path) -> None:
    """Bug: CANCELLED, for what nobody has cancelled."""
    flag = tmp_path / "flag"
    project.run(*SLURM, "do=hold", f"flag='{flag}'", "hydra.launcher.header='#SBATCH --time=1'")
    seen: list[list[str]] = []

    def is_timeout() -> bool:
        seen.append(ask_anew(mlxp))
        return seen[-1] == ["TIMEOUT"]

    until(is_timeout, what=seen)
    assert mlxp("rerun", "1", "--dry-run").stdout == "would be submitted: 1\n"


def test_a_squeue_that_hangs_is_said(mlxp: Mlxp, project: Project, stand_in: Path, tmp_path: Path) -> None:
    """Bug: a status that hangs with the controller."""
    flag = tmp_path / "flag"
    project.run(*SLURM, "do=hold", f"flag='{flag}'")
    until(lambda: ask_anew(mlxp) == ["RUNNING"])
    put(stand_in, f"sleep {PATIENCE}")
    for path in Path(mlxp.environment["XDG_CACHE_HOME"]).rglob("*.json"):
        path.unlink()
    began = time.monotonic()
    done = mlxp("status")
    assert time.monotonic() - began < PATIENCE / 2
    assert "\tslurm " in done.stdout
    assert done.stdout.splitlines()[1].split("\t")[1] == "RUNNING?"
    assert "slurm has not answered since 20" in done.stderr
    flag.touch()
    project.wait_for_end(1)
    assert mlxp.statuses() == ["COMPLETE"]


def test_runs_that_failed_are_submitted_again(mlxp: Mlxp, project: Project) -> None:
    """Bug: a second attempt in a new folder, or one that is told nothing of the first."""
    project.run(*SLURM, "do=raise,null,exit3")
    until(lambda: ask_anew(mlxp) == ["FAILED", "COMPLETE", "FAILED"])
    done = mlxp("rerun", "1-3", "--wait", code=1)
    assert "submitted: 1, 3\n" in done.stdout
    assert "left alone: 2: COMPLETE" in done.stdout
    rows = mlxp.rows()
    assert [(row["status"], row["attempt"]) for row in rows.values()] == [("FAILED", 2), ("COMPLETE", 1), ("FAILED", 2)]
    assert [project.submission(run)["array_index"] for run in (1, 3)] == [1, 2]
    assert "ValueError: no luck" in mlxp("logs", "1", "--attempt", "1").stdout


def test_a_job_whose_node_died_is_lost(mlxp: Mlxp, project: Project, tmp_path: Path) -> None:
    """Bug: RUNNING for ever; or CANCELLED, for what nobody has cancelled."""
    flag = tmp_path / "flag"
    header = "hydra.launcher.header='#SBATCH --nodelist=n4 --no-requeue'"
    project.run(*SLURM, "do=hold", f"flag='{flag}'", header)
    until(lambda: ask_anew(mlxp) == ["RUNNING"] and project.status(1) == "RUNNING")
    subprocess.run(["scontrol", "update", "nodename=n4", "state=down", "reason=test"], check=True)
    try:
        project.wait_for_end(1)  # in truth the node lives, and ends the job with SIGTERM
        until(lambda: ask_anew(mlxp) == ["LOST"])
    finally:
        # refused where the node has come back by itself
        subprocess.run(["scontrol", "update", "nodename=n4", "state=resume"], check=False, capture_output=True)
    assert mlxp.rows()["1"]["reason"] == "node failure, SIGTERM"

"""hydra/callbacks=mlxp keeps what runs in place print, as script.sh does for those of a launcher."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from support import PATIENCE, Mlxp, Project, until

CALLBACK = "hydra/callbacks=mlxp"
PROGRAM = """\
import os
import subprocess
import sys

import hydra


@hydra.main(version_base=None, config_path="conf", config_name="config")
def main(cfg):
    print("seed", cfg.seed)
    subprocess.run(["sh", "-c", f"echo child {cfg.seed} >&2"])
    if cfg.do == "raise" and cfg.seed == 1:
        raise ValueError("no luck")
    if cfg.do == "_exit":
        os._exit(0)
    if cfg.do == "wait":
        open(cfg.flag, "w").close()
        __import__("time").sleep(600)


if __name__ == "__main__":
    main()
    print("after main")
"""


@pytest.fixture
def program(project: Project) -> Project:
    project.write(**{"main.py": PROGRAM})
    project.commit()
    return project


def kept(project: Project, name: str | int = 1) -> tuple[str, str]:
    run = project.logs / str(name)
    return (run / "log.stdout").read_text(), (run / "log.stderr").read_text()


def test_what_a_run_prints_is_kept_and_shown(program: Project, mlxp: Mlxp) -> None:
    """Bug: `mlxp logs 1` has nothing to show of a run in place."""
    done = program.run(CALLBACK, "seed=3")
    assert (done.stdout, done.stderr) == ("seed 3\nafter main\n", "child 3\n")
    assert kept(program) == ("seed 3\nafter main\n", "child 3\n")
    shown = mlxp("logs", "1").stdout
    assert shown == "==> run 1: stdout <==\nseed 3\nafter main\n\n==> run 1: stderr <==\nchild 3\n"


@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_each_job_of_a_multirun_has_its_own(program: Project, launcher: str) -> None:
    """Bug: one log for all that run in a process."""
    program.run("-m", CALLBACK, f"hydra/launcher={launcher}", "seed=3,4")
    both = sorted(kept(program, number) for number in (1, 2))
    assert both == [("seed 3\n", "child 3\n"), ("seed 4\n", "child 4\n")]


def test_the_stack_trace_is_in_the_log_of_the_run_that_failed(program: Project) -> None:
    """Bug: it is in no log, or in that of the last job, after which Hydra tells of it."""
    done = program.run("-m", CALLBACK, "do=raise", "seed=1,2", code=1)
    assert done.stderr.count("ValueError: no luck") == 1
    assert kept(program, 1)[1].startswith("child 1\nTraceback (most recent call last)")
    assert kept(program, 1)[1].endswith("ValueError: no luck\n")
    assert kept(program, 2) == ("seed 2\n", "child 2\n")
    program.run(CALLBACK, "do=raise", "seed=1", code=1)
    assert kept(program, 3)[1].count("ValueError: no luck") == 1


def test_a_run_that_leaves_at_once_or_is_killed_loses_nothing(program: Project, tmp_path: Path) -> None:
    """Bug: the log of a run that was killed is empty, as its buffer was."""
    program.start_for_real()
    done = program.run(CALLBACK, "do=_exit", "seed=3")
    assert done.stdout == "seed 3\n"
    assert kept(program) == ("seed 3\n", "child 3\n")
    flag = tmp_path / "flag"
    process = program.start(CALLBACK, "do=wait", f"flag='{flag}'", "seed=4")
    until(flag.exists)
    process.send_signal(signal.SIGKILL)
    assert process.communicate(timeout=PATIENCE)[0] == "seed 4\n"
    assert kept(program, 2) == ("seed 4\n", "child 4\n")


def test_it_can_be_switched_off_and_mlxp_logs_says_so(program: Project, mlxp: Mlxp) -> None:
    """Bug: a program that does something of its own at its descriptors cannot be run."""
    program.run(CALLBACK, "hydra.callbacks.mlxp.log_streams=false")
    assert not (program.logs / "1" / "log.stdout").exists()
    assert "hydra.callbacks.mlxp.log_streams=true" in mlxp("logs", "1").stderr


def test_a_job_of_a_launcher_has_each_line_once(program: Project) -> None:
    """Bug: script.sh and the callback write each line into the same log."""
    program.run("-m", "hydra/launcher=mlxp_local", "hydra.launcher.wait=true", "seed=3")
    assert kept(program) == ("seed 3\nafter main\n", "child 3\n")


def test_a_run_in_the_folder_of_another_has_a_log_of_its_own(program: Project, mlxp: Mlxp) -> None:
    """Bug: the second attempt's lines behind those of the first, for `mlxp logs` and for who reads the file."""
    for seed in (3, 4):
        program.run(CALLBACK, "hydra.run.dir=logs/7", f"seed={seed}")
    assert kept(program, 7)[0] == "seed 4\nafter main\n"
    assert "seed 3\n" in mlxp("logs", "7", "--attempt", "1").stdout

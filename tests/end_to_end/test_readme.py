"""The README's commands, run as they stand there; and the example."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from support import ROOT, git, read_yaml, stop_local_queues

README = (ROOT / "README.md").read_text(encoding="utf-8")


class Shell:
    """The user's shell in a repository with the README's files."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.environment = {**environment, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"}
        for name, text in re.findall(r"^```\w+ file=(\S+)\n(.*?)^```", README, re.MULTILINE | re.DOTALL):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        git("init", "--quiet", cwd=folder)
        git("add", "--all", cwd=folder)
        git("commit", "--quiet", "--message", "readme", cwd=folder)

    def run(self, command: str) -> str:
        done = subprocess.run(
            ["bash", "-c", command], cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout


def commands(kind: str) -> list[str]:
    """Lines after a dollar sign in the README's blocks of a kind."""
    blocks = re.findall(rf"^```{kind}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]


@pytest.fixture
def shell(tmp_path: Path, environment: dict[str, str]) -> Shell:
    return Shell(tmp_path / "my project", environment)


def test_the_readmes_commands_do_what_it_says(shell: Shell) -> None:
    """Bug: a README of an earlier version."""
    outputs = {command: shell.run(command) for command in commands("console")}
    assert len(outputs) == 8
    stop_local_queues(shell.environment)
    logs = shell.folder / "logs"
    statuses = [read_yaml(logs / str(run) / "metadata" / "info.yaml")["status"] for run in range(1, 19)]
    assert statuses == ["COMPLETE"] * 18
    assert not (logs / "19").exists()
    # lr 0.1: seeds 1, 1, 2 of the first three runs, 1, 2, 3, then 4 of the sweep that is completed, and 0, 1, 2 of the
    # pairs, whose configuration has a note; equal ones count once. After one step the loss is (0.9 * seed) ** 2
    program = (shell.folder / "read.py").read_text().replace("print(", "table = (")
    namespace: dict[str, pl.DataFrame] = {}
    before = Path.cwd()
    os.chdir(shell.folder)
    try:
        exec(compile(program, "read.py", "exec"), namespace)
    finally:
        os.chdir(before)
    table = namespace["table"]
    assert table.columns == ["config.optimizer.lr", "train.loss_avg", "train.loss_std", "train.loss_n"]
    first = [0.81 * seed**2 for seed in (1, 2, 3, 4, 0, 1, 2)]
    assert table["train.loss_avg"][0][0] == pytest.approx(sum(first) / 7)
    assert table["train.loss_n"][0].to_list() == [7] * 5
    assert "config.optimizer.lr" in outputs["python read.py"]
    assert "train.loss" in outputs["python scan.py"]
    (sweep,) = (said for command, said in outputs.items() if "skip=" in command)
    shown = re.findall(r"^    (skipped 6 jobs.*|2 of 8 jobs.*)$", README, re.MULTILINE)
    assert len(shown) == 2
    assert all(f"[HYDRA] {line}\n" in sweep for line in shown)


def test_the_readme_names_every_launcher_and_every_option() -> None:
    """Bug: a scheduler or an option that nobody finds."""
    from hydra_plugins.mlxp.config import LauncherConf, SweeperConf
    from mlxp_core.scheduler import SCHEDULERS

    table = README[README.index("## Launchers") : README.index("## Sweeps")]
    rows = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    options = {name for name in LauncherConf.__dataclass_fields__ if name not in {"_target_", "scheduler"}}
    assert set(rows) == options | {f"mlxp_{name}" for name in SCHEDULERS}
    table = README[README.index("## Sweeps") : README.index("## Watching")]
    cells = re.findall(r"^\| (`[^|]+`) \|", table, re.MULTILINE)
    rows = [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]
    assert sorted(rows) == sorted(set(SweeperConf.__dataclass_fields__) - {"_target_"})


@pytest.mark.slurm
def test_the_readmes_submission_to_slurm_works_as_it_stands(shell: Shell) -> None:
    """Bug: a template in the README that Slurm refuses."""
    (command,) = commands("slurm")
    shell.run(f"{command} hydra.launcher.wait=true")
    statuses = [read_yaml(shell.folder / "logs" / str(run) / "metadata" / "info.yaml")["status"] for run in range(1, 7)]
    assert statuses == ["COMPLETE"] * 6


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What is in the work tree, as a clone of this repository would be."""
    folder = tmp_path / "a clone"
    folder.mkdir()
    listed = git("ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT).split("\0")
    for name in filter(None, listed):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
    git("init", "--quiet", cwd=folder)
    git("add", "--all", cwd=folder)
    git("commit", "--quiet", "--message", "clone", cwd=folder)
    return folder


@pytest.mark.thorough
def test_the_example_makes_its_environment_and_prints_the_table(clone: Path, environment: dict[str, str]) -> None:
    """Bug: a first command that fails on a fresh machine. Installs for real, into an environment of its own."""
    plain = {name: value for name, value in environment.items() if name not in {"VIRTUAL_ENV", "EXAMPLE_VENV"}}
    done = subprocess.run(
        ["bash", str(clone / "example_app" / "run.sh")],
        env={**plain, "PYTHON": sys.executable},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 complete runs" in done.stdout
    rows = re.findall(r"│ (0\.\d+) +┆ (0\.\d+)", done.stdout)
    assert [row[0] for row in rows] == ["0.0100", "0.1000"]
    assert float(rows[1][1]) < float(rows[0][1]) < 0.69  # both learn, the larger rate further; log(2) is a guess
    assert git("status", "--porcelain", cwd=clone) == ""


def test_a_stopped_training_of_the_example_goes_on_where_it_was(
    clone: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    """Bug: a resumed training that differs from one that was never stopped, or that has epochs twice."""
    example = clone / "example_app"

    def train(*arguments: str) -> list[str]:
        command = [sys.executable, "main.py", "hydra/callbacks=mlxp", "seed=3", *arguments]
        subprocess.run(command, cwd=example, env=environment, check=True, capture_output=True)
        folder = arguments[0].partition("=")[2]
        return (example / folder / "metrics" / "test.json").read_text().splitlines()

    whole = train("hydra.run.dir=whole", "epochs=6")
    train("hydra.run.dir=halves", "epochs=3")
    assert train("hydra.run.dir=halves", "epochs=6") == whole
    assert len(whole) == 6

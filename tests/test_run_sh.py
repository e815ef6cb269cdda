"""tests/run.sh: which tests its arguments choose. Its Python is a stand-in that writes down how it was called."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support import ROOT


@pytest.fixture
def calls(tmp_path: Path) -> Callable[..., tuple[int, list[str]]]:
    """Call run.sh; give the arguments of each pytest and coverage that it started, without those of every call."""
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"""#!/bin/sh
echo "$@" >>{tmp_path}/calls
case "$*" in *"run -m pytest"*fails*) exit 7 ;; esac
""")
    python.chmod(0o755)
    shellcheck = python.with_name("shellcheck")
    shellcheck.symlink_to("/bin/true")

    def call(*arguments: str) -> tuple[int, list[str]]:
        environment = {**os.environ, "MLXP_VENV": str(tmp_path / "venv"), "PYTHON": sys.executable, "CI": ""}
        environment["MLXP_WORKERS"] = "4"
        environment.pop("MLXP_HYDRA", None)
        command = ["bash", ROOT / "tests" / "run.sh", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        lines = (tmp_path / "calls").read_text().splitlines() if (tmp_path / "calls").exists() else [done.stdout]
        selection = "not slurm and not sge and not oar and not torque and not thorough"
        common = f"-n 4 --dist loadgroup --failed-first -m {selection}"
        chosen = [line.replace(f"pytest {common}", "pytest").replace("pytest and", "pytest -m …") for line in lines]
        return done.returncode, [
            line for line in chosen if "pip" not in line and "ruff" not in line and "mypy" not in line
        ]

    return call


@pytest.mark.parametrize(
    ("arguments", "pytests"),
    [
        ([], "-m pytest"),
        (["reader"], "-m pytest -m … not program tests/reader"),
        (["jobs", "mlxpsub"], "-m pytest -m … not program tests/jobs tests/mlxpsub"),
        (["jobs", "plugins", "-x"], "-m pytest tests/jobs tests/plugins -x"),
        (["jobs", "end_to_end"], "-m pytest tests/jobs tests/end_to_end"),  # it has nothing but programs
        (["-k", "reader"], "-m pytest -k reader"),  # the value of an option, and no package
        (["tests/jobs/test_wait.py", "-q"], "-m pytest tests/jobs/test_wait.py -q"),
    ],
)
def test_a_package_is_a_folder_of_the_tests(calls, arguments: list[str], pytests: str) -> None:
    """Bug: `run.sh reader` runs nothing, everything or minutes of programs; what is named is left out."""
    assert calls(*arguments) == (0, [pytests])


def test_coverage_is_combined_and_a_failing_test_still_fails(calls) -> None:
    """Bug: the exit code of the report hides that of the tests."""
    code, commands = calls("--coverage", "runs", "-k", "fails")
    assert [command.split()[2] for command in commands] == ["erase", "run", "combine", "report"]
    assert commands[1] == "-m coverage run -m pytest tests/runs -k fails"
    assert code == 7


def test_help_names_every_option(calls) -> None:
    """Bug: an option that only its author knows."""
    code, (text,) = calls("--help")
    assert code == 0
    options = [line.strip().split(")")[0] for line in (ROOT / "tests" / "run.sh").read_text().splitlines()]
    options = [word for line in options if line.startswith("--") for word in line.split(" | ")]
    assert {"--clusters", "--keep", "--coverage", "--help"} <= set(options)
    assert [option for option in options if option.startswith("--") and option not in text] == []


CLUSTER = """#!/bin/sh
name=${0##*/}
echo "$name $*" >>"$CALLS"
case "$name $*" in *"_up.sh --check") [ "${name%_up.sh}" = sge ] ;; esac
"""


@pytest.mark.parametrize(
    ("arguments", "down"),
    [(["--clusters"], ["oar_down.sh ", "slurm_down.sh "]), (["--clusters", "--keep"], []), ([], [])],
)
def test_a_cluster_that_was_up_stays_up_and_others_if_they_are_kept(
    tmp_path: Path, arguments: list[str], down: list[str]
) -> None:
    """Bug: a cluster that somebody works on is taken down; or each run of the tests pays for its start."""
    here = tmp_path / "a repository"
    (here / "tests/clusters").mkdir(parents=True)
    for name in ("tests/run.sh", "setup.cfg", "pyproject.toml"):
        shutil.copy(ROOT / name, here / name)
    programs = [
        here / f"tests/clusters/{name}_{what}.sh" for name in ("slurm", "sge", "oar") for what in ("up", "down")
    ]
    python = here / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    (python.parent / "shellcheck").symlink_to("/bin/true")
    python.symlink_to("/bin/true")
    for program in programs:
        program.write_text(CLUSTER)
    environment = {**os.environ, "CALLS": str(tmp_path / "calls"), "PYTHON": sys.executable, "CI": ""}
    for name in ("MLXP_VENV", "MLXP_HYDRA"):
        environment.pop(name, None)
    command = ["bash", here / "tests/run.sh", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    calls = (tmp_path / "calls").read_text().splitlines() if arguments else []
    assert sorted(call for call in calls if "_down" in call) == down
    assert ("left up: slurm oar" in done.stdout) == ("--keep" in arguments)

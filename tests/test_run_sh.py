"""tests/run.sh: which tests its arguments choose. Its Python is a stand-in that writes down how it was called."""

from __future__ import annotations

import os
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
        common = "-n 4 --dist loadgroup --failed-first -m not slurm and not sge and not oar and not torque"
        chosen = [line.replace(f"pytest {common}", "pytest") for line in lines]
        return done.returncode, [
            line for line in chosen if "pip" not in line and "ruff" not in line and "mypy" not in line
        ]

    return call


@pytest.mark.parametrize(
    ("arguments", "pytests"),
    [
        ([], "-m pytest"),
        (["reader"], "-m pytest tests/reader"),
        (["jobs", "plugins", "-x"], "-m pytest tests/jobs tests/plugins -x"),
        (["-k", "reader"], "-m pytest -k reader"),  # the value of an option, and no package
        (["tests/jobs/test_wait.py", "-q"], "-m pytest tests/jobs/test_wait.py -q"),
    ],
)
def test_a_package_is_a_folder_of_the_tests(calls, arguments: list[str], pytests: str) -> None:
    """Bug: `run.sh reader` runs nothing, or everything."""
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
    assert {"--clusters", "--coverage", "--help"} <= set(options)
    assert [option for option in options if option.startswith("--") and option not in text] == []

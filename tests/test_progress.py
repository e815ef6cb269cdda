"""What a run of the tests says: helpers/progress.py, by runs of pytest over a few tests of their own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import progress
import pytest
from support import ROOT

TESTS = {
    "tests/one/test_a.py": """
def test_bad():
    left, right = 3, 4
    assert left == right
def test_good():
    pass
""",
    "tests/two/test_b.py": """
import pytest
@pytest.mark.parametrize("x", [1, 2])
def test_skipped(x):
    pytest.skip("needs root")
@pytest.mark.slurm
def test_cluster():
    pass
@pytest.mark.sge
def test_other_cluster():
    pass
@pytest.mark.slurm
@pytest.mark.program
def test_third():
    pass
@pytest.mark.thorough
@pytest.mark.program
def test_long():
    pass
@pytest.mark.program
def test_program():
    pass
def test_good():
    pass
@pytest.fixture
def broken():
    raise OSError("no such machine")
def test_broken(broken):
    pass
""",
    "pytest.ini": "[pytest]\nmarkers =\n    slurm\n    sge\n    thorough\n    program\n",
}


@pytest.fixture
def run(tmp_path: Path):
    """Run pytest over TESTS; give its exit code and what it says."""
    for name, text in TESTS.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    def run(*arguments: str, ci: str = "", code: int = 1) -> str:
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests" / "helpers"), "CI": ci, "COLUMNS": "120"}
        environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # others take most of a start
        command = [sys.executable, "-m", "pytest", "-p", "xdist.plugin", "-p", "progress", "--import-mode=importlib"]
        done = subprocess.run(
            [*command, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_failure_is_shown_when_it_happens_and_a_package_when_it_has_ended(run, workers: str) -> None:
    """Bug: twenty minutes of dots until a failure has a name; a log of CI in which nobody finds anything."""
    said = run("-n", workers, "-m", "not slurm and not sge", ci="true")
    end = said.index("= FAILURES =")
    at_once = re.search(r"tests/one/test_a.py::test_bad failed in its call:\n(  .*\n)*  E +assert 3 == 4", said)
    assert at_once is not None
    assert at_once.start() < end
    assert said.index("tests/two/test_b.py::test_broken failed in its setup:") < end
    lines = [line for line in said.splitlines() if " of tests" in line]
    assert sorted(lines) == [
        "one                1 passed, 1 failed, 0 s of tests",
        "two                3 passed, 2 skipped, 1 error, 0 s of tests",
    ]
    assert not re.search(r"^[.sFE]{2,}", said, re.MULTILINE)


@pytest.mark.parametrize("workers", ["0", "2"])
def test_what_was_not_run_is_said_with_the_reason(run, workers: str) -> None:
    """Bug: "passed", and nobody knows that a third of the tests was left out."""
    said = run("-n", workers, "-m", "not slurm and not sge and not thorough and not program")
    summary = said.partition("- not run -")[2].partition("\n")[2]
    assert summary.splitlines()[:4] == [
        "1: no --thorough (what takes long and seldom breaks; CI runs it)",
        "1: they start programs (tests/run.sh without PACKAGE runs them)",
        "3: no --clusters (2 of Slurm, 1 of Grid Engine)",
        "2: needs root",
    ]


def test_nothing_is_said_where_all_that_was_asked_for_was_run(run) -> None:
    """Bug: a warning at each run of one test, which nobody reads any more."""
    assert "- not run -" not in run("-k", "good", code=0)
    assert "- not run -" not in run("-k", "good", "-m", "not slurm and not sge", code=0)
    assert "- not run -" not in run("-m", "sge", code=0)


def test_what_is_cut_short_is_said_of_the_package(run) -> None:
    """Bug: a package whose first failure ends the run is not in the log of CI at all."""
    said = run("-x", "tests/one", ci="true")
    assert "one                1 failed, 1 not ended, 0 s of tests\n" in said


def test_quick_tests_start_no_workers(tmp_path: Path) -> None:
    """Bug: four workers of a second each for tests of one second; or minutes of tests in a single process."""
    config = SimpleNamespace(rootpath=tmp_path, getini={"cache_dir": ".cache"}.get, args=[])

    def workers(*arguments: str) -> int:
        config.args = [str(tmp_path / argument) for argument in arguments]
        return progress.pytest_xdist_auto_num_workers(config)

    assert workers("tests/runs") == 4  # nothing is known
    cache = tmp_path / ".cache/v/hydra-mlxp/seconds"
    cache.parent.mkdir(parents=True)
    seconds = {
        "runs/test_a.py::a": 4.0,
        "runs/test_b.py::b[1]": 5.5,
        "runs2/test_c.py::c": 1.0,
        "jobs/test_d.py::d": 99,
    }
    cache.write_text(json.dumps({f"tests/{test}": time for test, time in seconds.items()}))
    assert [workers("tests/runs"), workers("tests/runs", "tests/runs2"), workers("tests/jobs")] == [0, 4, 4]
    assert [workers("tests"), workers("."), workers("tests/new"), workers("tests/runs/test_b.py::b")] == [4, 4, 4, 0]
    cache.write_text("half a fi")
    assert workers("tests/runs") == 4


def test_the_seconds_of_each_test_are_kept_for_the_next_run(run, tmp_path: Path) -> None:
    """Bug: the choice goes by the last subset of tests that was run."""
    seconds = tmp_path / ".pytest_cache/v/hydra-mlxp/seconds"
    run("tests/two", "-n", "1")
    run("tests/one", "-n", "0")
    known = json.loads(seconds.read_text())
    assert {"tests/one/test_a.py::test_good", "tests/two/test_b.py::test_skipped[2]"} <= set(known)
    assert all(0 <= value < 10 for value in known.values())

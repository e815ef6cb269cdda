"""What `mlxpsub` prints of a script's outcome, in process. With scripts: end_to_end/test_mlxpsub.py."""

from __future__ import annotations

import importlib
import io
import sys
from pathlib import Path
from typing import Any

import pytest
from scripts import parsed

from mlxp_core.mlxpsub.run import Outcome, Script

mlxpsub = importlib.import_module("mlxp_core.cli.mlxpsub")

SCRIPT = Script(Path("job.sh"), "slurm", parsed("#!/bin/bash\n#SBATCH --time=5\npython a.py\npython b.py\n"))


def outcome(*submitted: dict[str, Any], code: int = 0) -> Outcome:
    return Outcome(code, submitted, [], [], [], [], [])


def event(number: int, *jobs: tuple[str, int | None], before: bool = False) -> dict[str, Any]:
    """Runs 1, 2, … of a program, with job and index of each."""
    runs = [[f"/logs/{run}", "slurm", *job] for run, job in enumerate(jobs, start=1)]
    return {"number": number, "runs": runs, "before": before, "process": {"process_id": number}}


def test_a_table_says_which_line_has_submitted_what(capsys: pytest.CaptureFixture[str]) -> None:
    """Bug: an array as a hundred jobs; what an earlier call has submitted counts once more."""
    first, second = event(0, ("7", 1), ("7", 2), ("8", None)), event(1, ("123", None), before=True)
    mlxpsub._print_submitted(SCRIPT, outcome(first, second))
    assert capsys.readouterr().out.splitlines() == [
        "",
        "line  runs        jobs        where",
        "3     1-3         slurm 7, 8  /logs",
        "4     1 (before)  slurm 123   /logs",
        "job.sh: 3 jobs submitted",
    ]
    mlxpsub._print_submitted(SCRIPT, outcome())
    assert capsys.readouterr().out == ""


def test_the_table_comes_before_what_is_said_on_stderr_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: in `mlxpsub job.sh &>log` the errors come first, for the table waits in a buffer."""
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="utf-8"))
    mlxpsub._print_submitted(SCRIPT, outcome(event(0, ("7", None))))
    shown = raw.getvalue().decode()
    assert shown.endswith("job.sh: 1 job submitted\n")


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (outcome(event(0, ("7", None))), []),
        (outcome(), ["mlxpsub: no Hydra program in job.sh has submitted anything"]),
        (outcome(code=3), ["mlxpsub: job.sh ended with exit code 3"]),
        (
            outcome(event(0, ("7", None)), code=3),
            [
                "mlxpsub: job.sh ended with exit code 3",
                "mlxpsub: the same command again submits what is left; with --anew, everything",
            ],
        ),
    ],
)
def test_what_went_wrong_is_said_with_what_to_do(
    capsys: pytest.CaptureFixture[str], result: Outcome, said: list[str]
) -> None:
    """Bug: a script without a Hydra program that looks like a success; or one that fails after its jobs."""
    mlxpsub._print_outcome(SCRIPT, result, dry_run=False)
    assert capsys.readouterr().err.splitlines() == said

"""Job scripts for tests: a run folder with what its script runs; a script of mlxpsub's, parsed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from mlxp_core.jobs.run_script import RunScriptSpec
from mlxp_core.mlxpsub.parse import JobScript, parse_script
from mlxp_core.mlxpsub.placeholders import Placeholders
from mlxp_core.runs.layout import RunDir
from mlxp_core.scheduler import load_scheduler


def job(run: Path, *command: str, work_dir: str = "/", environment: dict[str, str] | None = None) -> RunScriptSpec:
    (run / "metadata").mkdir(parents=True)
    return RunScriptSpec(RunDir(run), "name", command, work_dir, environment or {})


def shellcheck(text: str) -> str:
    """What shellcheck has to say of a script: errors and warnings."""
    command = [str(Path(sys.executable).with_name("shellcheck")), "--severity=warning", "--format=gcc", "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False).stdout


def parsed(text: str) -> JobScript:
    """A script for Slurm, cut into its commands by what opens and closes one, as its shell would."""

    def is_complete(text: str) -> bool:
        words = text.replace(";", " ; ").split()
        opened = sum(words.count(word) for word in ("if", "case", "for", "while", "{"))
        closed = sum(words.count(word) for word in ("fi", "esac", "done", "}"))
        return opened == closed and text.count("(") == text.count(")")

    return parse_script(text, load_scheduler("slurm"), is_complete, source="job.sh")


# as they are while mlxpsub runs a script: an id that is known again, and a count that is not
PLACEHOLDERS = Placeholders(
    {"SLURM_JOB_ID": "794000000001", "SLURM_TMPDIR": "/s/SLURM_TMPDIR", "SLURM_NTASKS": ""}, "slurm", {}
)

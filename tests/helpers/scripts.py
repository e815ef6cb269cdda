"""Job scripts for tests: a run folder with what its script runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from mlxp_core.jobs.run_script import RunScriptSpec
from mlxp_core.runs.layout import RunDir


def job(run: Path, *command: str, work_dir: str = "/", environment: dict[str, str] | None = None) -> RunScriptSpec:
    (run / "metadata").mkdir(parents=True)
    return RunScriptSpec(RunDir(run), "name", command, work_dir, environment or {})


def shellcheck(text: str) -> str:
    """What shellcheck has to say of a script: errors and warnings."""
    command = [str(Path(sys.executable).with_name("shellcheck")), "--severity=warning", "--format=gcc", "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False).stdout

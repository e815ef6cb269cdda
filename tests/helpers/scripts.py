"""Job scripts for tests: a run folder with what its script runs."""

from __future__ import annotations

from pathlib import Path

from mlxp_core.jobs.run_script import RunScriptSpec
from mlxp_core.runs.layout import RunDir


def job(run: Path, *command: str, work_dir: str = "/", environment: dict[str, str] | None = None) -> RunScriptSpec:
    (run / "metadata").mkdir(parents=True)
    return RunScriptSpec(RunDir(run), "name", command, work_dir, environment or {})

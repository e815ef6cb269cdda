"""Runs that are composed already, by the thousand: what a launcher gives to mlxp_core.jobs.submit, without Hydra."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlxp_core.jobs import run_script
from mlxp_core.jobs.spec import SubmitSpec
from mlxp_core.jobs.template import Template
from mlxp_core.jobs.write import PreparedRun
from mlxp_core.runs.layout import RunDir
from mlxp_core.scheduler import load_scheduler

CONFIG = {
    "model": {"name": "resnet", "width": 64, "depth": 18, "dropout": 0.1, "norm": "batch", "mem": "4G"},
    "optimizer": {"name": "adam", "lr": 0.001, "betas": [0.9, 0.999], "weight_decay": 0.0001},
    "data": {"root": "/data/images", "batch_size": 256, "workers": 4, "augment": ["flip", "crop", "jitter"]},
    "trainer": {"epochs": 100, "amp": True, "clip": None, "checkpoint_every": 10, "device": "cuda"},
}


def plan(
    runs: Sequence[RunDir], scheduler: str, command: Sequence[str], directory: Path, header: Sequence[str] = ()
) -> list[PreparedRun]:
    """One run for each folder: ``command``, the folder and a seed (0, 1, …); all with the same directives."""
    directives = tuple(f"{load_scheduler(scheduler).directive} {one}" for one in header)
    spec = SubmitSpec(scheduler, "main", "#!/bin/bash", directives, str(directory))
    return [_plan(run, spec, [*command, str(run.path), str(seed)], seed) for seed, run in enumerate(runs)]


def _plan(run: RunDir, spec: SubmitSpec, command: list[str], seed: int) -> PreparedRun:
    config: dict[str, Any] = {**CONFIG, "seed": seed}
    return PreparedRun(
        job=run_script.RunScriptSpec(
            run, f"main-{run.path.name}", tuple(command), spec.directory, {"PYTHONPATH": spec.directory}
        ),
        template=Template(header=spec.header),
        spec=spec,
        config=config,
        config_unresolved=config,
        facts={
            "command": command,
            "work_dir": spec.directory,
            "hydra": {"job_name": "main", "overrides": [f"seed={seed}"]},
            "version_manager": {"repo_path": spec.directory, "commit_hash": "0" * 40, "uncommitted": []},
        },
        settings={"version": "0", "launcher": {"scheduler": spec.scheduler, "setup": [], "wait": False}},
    )

"""Write the folders of runs that are about to be submitted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mlxp_core.atomic_files import write_atomic
from mlxp_core.jobs import run_script
from mlxp_core.jobs.run_script import RunScriptSpec
from mlxp_core.jobs.spec import SubmitSpec
from mlxp_core.jobs.template import Template
from mlxp_core.runs import digest, info
from mlxp_core.runs.status import count_starts
from mlxp_core.scheduler import load_scheduler
from mlxp_core.yaml_io import dump_yaml


@dataclass(frozen=True)
class PreparedRun:
    """One run before its submission: its job, and what its folder says of it."""

    job: RunScriptSpec
    template: Template
    spec: SubmitSpec
    config: Mapping[str, Any]
    config_unresolved: Mapping[str, Any]
    facts: Mapping[str, Any]  # fields of info.yaml
    settings: Mapping[str, Any]  # mlxp.yaml, but for the spec


def write_runs(planned: Iterable[PreparedRun]) -> None:
    """Fill the folders of runs: configuration, settings, script, status PENDING. The status comes last.

    YAML is what takes longest, so what is the same in the next run, or in the next file, is put into words once.
    """
    settings: Mapping[str, Any] = {}
    settings_text = ""
    for prepared in planned:
        run, scheduler = prepared.job.run, load_scheduler(prepared.spec.scheduler)
        content = {**prepared.settings, "order": prepared.spec.plain}
        if content != settings:
            settings, settings_text = content, dump_yaml(content)
        config = dump_yaml(prepared.config)
        as_written = prepared.config_unresolved == prepared.config
        run.metadata.mkdir(parents=True, exist_ok=True)
        part = digest.write_config(run, prepared.config, config)
        write_atomic(run.config_unresolved, config if as_written else dump_yaml(prepared.config_unresolved))
        write_atomic(run.settings, settings_text)
        write_atomic(run.script, run_script.render_job(prepared.job, prepared.template, scheduler))
        run.script.chmod(0o755)
        digest.write_info(run, info.pending_info(run, prepared.facts, count_starts(run) + 1), config=part)

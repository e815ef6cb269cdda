"""A folder that a user names for another run: what has ended there becomes an earlier attempt, and nothing is lost."""

from __future__ import annotations

from collections.abc import Iterable

from mlxp_core.runs.layout import RunDir
from mlxp_core.runs.state import RunState
from mlxp_core.yaml_io import write_yaml


def archive_runs(runs: Iterable[RunDir]) -> None:
    """Move what ended runs have written to their attempts' places. info.yaml stays until the next run's replaces it."""
    for run in runs:
        standing = RunState.load(run)
        earlier = run.attempt_dir(standing.attempt)
        earlier.metadata.mkdir(parents=True, exist_ok=True)
        write_yaml(earlier.info, standing.info)
        for old, new in (
            (run.metrics, earlier.metrics),
            (run.artifacts, earlier.artifacts),  # a checkpoint of another configuration is none of the next run
            (run.config, earlier.config),
            (run.config_unresolved, earlier.config_unresolved),
            (run.settings, earlier.settings),
            (run.diff, earlier.diff),
            (run.return_value, earlier.return_value),
            (run.exit_code, earlier.exit_code),
            (run.submission, earlier.submission),
        ):
            if old.exists() and not new.exists():
                old.rename(new)

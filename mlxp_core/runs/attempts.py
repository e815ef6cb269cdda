"""A folder that a user names for another run: what has ended there becomes an earlier attempt, and nothing is lost."""

from __future__ import annotations

from collections.abc import Iterable

from mlxp_core.atomic_files import write_yaml
from mlxp_core.jobs.refresh import bring_up_to_date
from mlxp_core.runs.layout import RunDir, read_attempts_started
from mlxp_core.runs.state import Standing


def why_not(run: RunDir) -> str:
    """Why no other run can have the folder; empty where it can. Its scheduler is asked."""
    standing = Standing.load(run)
    bring_up_to_date([standing])
    if standing.problem:
        return standing.problem
    if not standing.ended or not standing.current or standing.is_unclear:
        return f"it is {standing.status}, as far as is known"
    starts = read_attempts_started(run)
    if starts != standing.attempt:
        return "its program has run more than once in one job" if starts else "no job of a launcher has started in it"
    return ""


def put_aside(runs: Iterable[RunDir]) -> None:
    """Move what ended runs have written to their attempts' places. info.yaml stays until the next run's replaces it."""
    for run in runs:
        standing = Standing.load(run)
        earlier = run.earlier(standing.attempt)
        earlier.metadata.mkdir(parents=True, exist_ok=True)
        write_yaml(earlier.info, standing.info)
        for old, new in (
            (run.metrics, earlier.metrics),
            (run.artifacts, earlier.artifacts),  # a checkpoint of another configuration is none of the next run
            (run.config, earlier.config),
            (run.config_unresolved, earlier.config_unresolved),
            (run.settings, earlier.settings),
            (run.diff, earlier.diff),
            (run.returned, earlier.returned),
            (run.exit_code, earlier.exit_code),
            (run.submission, earlier.submission),
        ):
            if old.exists() and not new.exists():
                old.rename(new)

"""Whether a folder that holds a run may be given to another one."""

from __future__ import annotations

from mlxp_core.jobs.refresh import bring_up_to_date
from mlxp_core.runs.layout import RunDir
from mlxp_core.runs.state import Standing
from mlxp_core.runs.status import read_attempts_started


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

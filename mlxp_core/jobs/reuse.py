"""Whether a folder that holds a run may be given to another one."""

from __future__ import annotations

from mlxp_core.jobs.refresh import refresh
from mlxp_core.runs.layout import RunDir
from mlxp_core.runs.state import RunState
from mlxp_core.runs.status import count_starts


def reason_not_reusable(run: RunDir) -> str:
    """Why no other run can have the folder; empty where it can. Its scheduler is asked."""
    standing = RunState.load(run)
    refresh([standing])
    if standing.problem:
        return standing.problem
    if not standing.has_ended or not standing.is_current or standing.submission_unresolved:
        return f"it is {standing.status}, as far as is known"
    starts = count_starts(run)
    if starts != standing.attempt:
        return "its program has run more than once in one job" if starts else "no job of a launcher has started in it"
    return ""

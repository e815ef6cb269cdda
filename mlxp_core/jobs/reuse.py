"""Give a folder that holds a run to another one, where its user names it: what is in it becomes an earlier attempt."""

from __future__ import annotations

from collections.abc import Iterable

from mlxp_core.jobs.refresh import refresh
from mlxp_core.runs.attempts import archive
from mlxp_core.runs.layout import RunDir
from mlxp_core.runs.state import RunState
from mlxp_core.runs.status import count_starts


def reason_not_reusable(run: RunDir) -> str:
    """Say why no other run can have the folder; empty where it can. Its scheduler is asked."""
    ((state,), _) = refresh([RunState.load(run)])
    if state.problem:
        return state.problem
    if not state.has_ended or not state.is_current or state.submission_unresolved:
        return f"it is {state.status}, as far as is known"
    starts = count_starts(run)
    if starts != state.attempt:
        return "its program has run more than once in one job" if starts else "no job of a launcher has started in it"
    return ""


def archive_runs(runs: Iterable[RunDir]) -> None:
    """Move all that ended runs have written to their attempts' folders."""
    for run in runs:
        state = RunState.load(run)
        written = (
            run.metrics,
            run.work,
            run.artifacts,  # a checkpoint of another configuration is none of the next run
            run.config,
            run.config_unresolved,
            run.settings,
            run.diff,
            run.return_value,
            run.exit_code,
            run.submission,
        )
        archive(run, state.attempt, written, info=state.info)

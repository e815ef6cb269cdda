"""Remove runs that have ended, and what the log directory keeps for them alone: copies of their code, launches.

A run is moved aside before it is removed, so that it is whole or gone. Its id is not given to another one.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlxp_core.jobs.launch_journal import forget_launches, runs_being_launched
from mlxp_core.jobs.refresh import refresh
from mlxp_core.jobs.resubmit import why_left_alone
from mlxp_core.runs.allocation import keep_taken
from mlxp_core.runs.layout import LogDir, RunDir
from mlxp_core.runs.listing import format_runs
from mlxp_core.runs.lock import exclusive
from mlxp_core.runs.state import RunState
from mlxp_core.runs.submission_record import read_manifest
from mlxp_core.versioning.copies import all_runs
from mlxp_core.versioning.export import remove_tree
from mlxp_core.versioning.prune import remove_unused


@dataclass(frozen=True)
class Removal:
    """The outcome for each of the runs that were to be removed."""

    runs: tuple[RunDir, ...]  # that can be removed, or were
    kept: dict[RunDir, str]  # those that may still run, and why they may
    failed: dict[RunDir, str]  # those that could not be removed, or not all of them
    copies: tuple[Path, ...] = ()  # of the code, which nothing else needed
    dismissed: tuple[RunDir, ...] = ()  # left of launches that are not taken up any more: they were never submitted


def plan_removal(log_dir: LogDir, runs: Sequence[RunDir]) -> Removal:
    """Tell which of these runs can be removed; the schedulers are asked. Nothing is removed."""
    states, _ = refresh(RunState.load(run) for run in runs)
    launching = runs_being_launched(log_dir)
    kept = {state.run: why for state in states if (why := _why_kept(state, launching))}
    return Removal(tuple(state.run for state in states if state.run not in kept), kept, {})


def remove_runs(log_dir: LogDir, runs: Sequence[RunDir]) -> Removal:
    """Remove those of these runs that can be, then the copies of their code that no other run needs.

    Raises StoreError where another process is at the runs of the directory.
    """
    with exclusive(log_dir):
        plan = plan_removal(log_dir, runs)
        states = [RunState.load(run) for run in plan.runs]
        failed = {run: why for run in plan.runs if (why := _remove(run, log_dir))}
        removed = [state for state in states if state.run not in failed]
        gone = {state.run for state in removed}
        dismissed = forget_launches(log_dir, gone)
        _clear_submissions(states)
        others = [RunState.load(run) for run in all_runs(log_dir)]
        copies = remove_unused(log_dir, removed, others)
        _empty(log_dir.removed)
    return Removal(tuple(run for run in plan.runs if run in gone), plan.kept, failed, copies, dismissed)


def _why_kept(state: RunState, launching: Mapping[RunDir, str]) -> str:
    """Say why a run is not removed: it may still run, or nobody knows. Empty where it can be."""
    if state.run.path.is_symlink():
        return f"it is a link to {state.run.path.readlink()}: remove these yourself"
    if state.run in launching:
        return launching[state.run]
    if state.problem and not state.has_ended:
        return f"whether it runs is not known: {state.problem}"
    if state.submission_unresolved:
        return "it is not known whether it was submitted (`mlxp rerun` finds out)"
    if not state.is_current:
        return (
            f"it is {state.status} as far as is known, for its scheduler cannot be asked from here, or did not answer"
        )
    if state.submission.stuck:
        return "its job is still in the queue, and held (`mlxp cancel` removes it)"
    return why_left_alone(state) or _living_neighbours(state)


def _living_neighbours(state: RunState) -> str:
    """Name runs of the same job (hydra.launcher.pack) that have not ended: started again, it starts all of them."""
    record = state.submission
    packed, index = record.packed or 1, record.array_index or 1
    if packed == 1 or record.folder is None:
        return ""
    sharing = read_manifest(record.folder)[(index - 1) * packed : index * packed]
    living = [run for run in sharing if run.info.exists() and not RunState.load(run).has_ended]
    return f"it shares its job with run {format_runs(living)}, which has not ended" if living else ""


def _remove(run: RunDir, log_dir: LogDir) -> str:
    """Remove a run folder; returns why that did not work, or empty text."""
    aside = log_dir.removed / f"{run.path.name}.{os.getpid()}.{os.urandom(4).hex()}"
    try:
        if run.id is not None:
            keep_taken(log_dir, run.id)
        aside.parent.mkdir(parents=True, exist_ok=True)
        run.path.rename(aside)
    except OSError as error:
        return f"it cannot be removed: {error}"
    remove_tree(aside)
    return f"not all of it could be removed: {aside}" if aside.exists() else ""


def _clear_submissions(states: Sequence[RunState]) -> None:
    """Remove the scripts of submissions that have no run left. Their numbers, by which a queue knows jobs, stay."""
    for folder in {state.submission.folder for state in states if state.submission.folder is not None}:
        if not any(run.path.exists() for run in read_manifest(folder)):
            _empty(folder.path)


def _empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                remove_tree(path)
            else:
                path.unlink()

"""Find the runs that jobs of a sweep have already, by configuration and code; plan which to skip, resume or run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from mlxp_core.errors import ConfigurationError
from mlxp_core.jobs.refresh import refresh
from mlxp_core.nested import KeyPath, canonical_json, value_at
from mlxp_core.runs.code_files import files_unchanged
from mlxp_core.runs.code_version import CodeVersion, SnapshotMode
from mlxp_core.runs.layout import LogDir, RunDir
from mlxp_core.runs.listing import list_runs
from mlxp_core.runs.state import RunState
from mlxp_core.runs.status import Status
from mlxp_core.sweeps.interpolation import environment_paths
from mlxp_core.versioning.repositories import repositories_unchanged
from mlxp_core.yaml_io import dump_yaml, load_yaml, read_yaml

UNFINISHED = (Status.FAILED, Status.TIMEOUT, Status.PREEMPTED, Status.LOST, Status.CANCELLED)


@dataclass(frozen=True)
class SkipPolicy:
    """The runs that stand for a job, so that it is not run anew."""

    skip: Collection[Status]
    any_code: bool
    resume: bool
    commit: str | None  # of the code that the jobs would run; None: it is not known
    function_hash: str | None  # of a task function that is sent to them
    program: str  # as Hydra calls it
    files: Mapping[str, str | None] = field(default_factory=dict)  # that are loaded and not in the commit


@dataclass(frozen=True)
class SweepPlan:
    """What to do for each job, by its index in the list, and the runs that would have changed it."""

    new: list[int]
    resumed: dict[int, RunDir]  # unfinished, in its own folder
    skipped: dict[int, RunState]  # has such a run
    other_code: list[RunState]  # would have counted, had their code been the same
    # so would these, of the same text, had the environment given it the same values; with the keys that differ
    other_values: dict[RunDir, list[str]]
    not_resumed: list[RunState]  # unfinished, of other code, so left as they are


def parse_statuses(names: Any) -> list[Status]:
    """Look up one status by name, or several. Raises ConfigurationError."""
    statuses = []
    for name in names if isinstance(names, list) else [names] if names else []:
        if str(name).upper() not in Status.__members__:
            raise ConfigurationError(f"hydra.sweeper.skip: {name!r} is none of {', '.join(Status.__members__)}")
        statuses.append(Status[str(name).upper()])
    return statuses


def plan_sweep(
    log_dir: LogDir,
    configs: Sequence[Mapping[str, Any]],
    policy: SkipPolicy,
    resolve: Callable[[int], Mapping[str, Any]],
) -> SweepPlan:
    """Find out which jobs with these configurations (with their interpolations) are still to be run.

    ``resolve`` gives the configuration of the job at an index without interpolations; it is called only where they
    look into the environment. The schedulers are asked about runs that have not ended.
    """
    candidates: dict[int, list[RunDir]] = {}
    other_values: dict[RunDir, list[str]] = {}
    for index, runs in _by_configuration(log_dir, configs).items():
        different = _different_values(runs, configs[index], partial(resolve, index))
        candidates[index] = [run for run in runs if run not in different]
        other_values |= different
    loaded = (RunState.load(run) for run in {run: None for runs in candidates.values() for run in runs})
    refreshed, _ = refresh(state for state in loaded if _program(state) in {policy.program, None})
    ours = {state.run: state for state in refreshed}
    return assign_runs(
        [[ours[run] for run in candidates[index] if run in ours] for index in range(len(configs))],
        policy,
        {run: keys for run, keys in other_values.items() if _program(RunState.load(run)) == policy.program},
    )


def assign_runs(
    candidates: Sequence[Sequence[RunState]], policy: SkipPolicy, other_values: Mapping[RunDir, list[str]]
) -> SweepPlan:
    """Decide for each job, by the runs that have its configuration. No two jobs resume the same run."""
    new: list[int] = []
    resumed: dict[int, RunDir] = {}
    skipped: dict[int, RunState] = {}
    other_code: list[RunState] = []
    not_resumed: list[RunState] = []
    for index, states in enumerate(candidates):
        existing = _existing_run(states, policy, taken=set(resumed.values()))
        if existing is None:
            new.append(index)
            other_code += [state for state in states if not _counts(state, policy) and state.status in policy.skip]
            if policy.resume:
                not_resumed += [state for state in states if _is_unfinished(state) and not _can_resume(state, policy)]
            continue
        state, resume = existing
        if resume:
            resumed[index] = state.run
        else:
            skipped[index] = state
    return SweepPlan(new, resumed, skipped, other_code, dict(other_values), not_resumed)


def _existing_run(
    states: Sequence[RunState], policy: SkipPolicy, taken: Collection[RunDir]
) -> tuple[RunState, bool] | None:
    """The run that stands for a job, if one does, and whether it is to be resumed."""
    if done := [state for state in states if _counts(state, policy) and state.status in policy.skip]:
        return done[-1], False
    if not policy.resume:
        return None
    same = [state for state in states if _can_resume(state, policy)]
    unfinished = [state for state in same if _is_unfinished(state) and state.run not in taken]
    open_statuses = {Status.PENDING, Status.RUNNING}
    if under_way := [state for state in same if state.status in open_statuses and state not in unfinished]:
        return under_way[-1], False
    return (unfinished[-1], True) if unfinished else None


def _counts(state: RunState, policy: SkipPolicy) -> bool:
    return policy.any_code or (policy.commit is not None and _has_same_code(state, policy))


def _can_resume(state: RunState, policy: SkipPolicy) -> bool:
    # without a version there is none to be another one, where the user says that any will do
    return _counts(state, policy) and _has_same_code(state, policy)


def _is_unfinished(state: RunState) -> bool:
    return state.status in UNFINISHED or (state.status is Status.PENDING and not state.is_submitted)


def _has_same_code(state: RunState, policy: SkipPolicy) -> bool:
    version = CodeVersion.from_info(state.info)
    # in place it ran files that may have been any
    commit = None if version.snapshot == SnapshotMode.NONE else version.commit
    if (commit, version.function_hash) != (policy.commit, policy.function_hash) or not version.is_known:
        return False
    recorded = version.files or {}
    if any(recorded.get(path) != oid for path, oid in policy.files.items()):
        return False
    return files_unchanged(version) and repositories_unchanged(version)


def _program(state: RunState) -> Any:
    hydra = state.info.get("hydra")
    return hydra.get("job_name") if isinstance(hydra, Mapping) else None


def _different_values(
    runs: Sequence[RunDir], config: Mapping[str, Any], resolve: Callable[[], Mapping[str, Any]]
) -> dict[RunDir, list[str]]:
    """Runs in whose configuration the environment has put something else, with the keys."""
    paths = environment_paths(config) if runs else []
    if not paths:
        return {}
    resolved = resolve()
    different = {}
    for run in runs:
        try:
            recorded = load_yaml(run.config)
        except (OSError, ValueError):  # not known, so it counts
            continue
        # the keys alone: the values may be secrets
        if keys := [_dotted(path) for path in paths if _differs(value_at(recorded, path), value_at(resolved, path))]:
            different[run] = keys
    return different


def _differs(recorded: Any, resolved: Any) -> bool:
    if isinstance(resolved, str) and "${" in resolved:  # it has no value before there is a job, which decides then
        return False
    return canonical_json(recorded) != canonical_json(resolved)


def _dotted(path: KeyPath) -> str:
    return ".".join(map(str, path))


def _by_configuration(log_dir: LogDir, configs: Sequence[Mapping[str, Any]]) -> dict[int, list[RunDir]]:
    """The runs of each configuration, in the order of the directory.

    Most are found by their text, which is as this package writes it. The same lines in another order may be the same
    keys in another order: only these are parsed, for that takes long.
    """
    texts = [dump_yaml(config) for config in configs]
    indices: dict[tuple[str, ...], list[int]] = {}
    for index, text in enumerate(texts):
        indices.setdefault(_sorted_lines(text), []).append(index)
    matching: dict[int, list[RunDir]] = {index: [] for index in range(len(configs))}
    for run in list_runs(log_dir) if log_dir.path.is_dir() else ():
        try:
            text = run.config_unresolved.read_text(encoding="utf-8")
        except (OSError, ValueError):
            continue
        for index in indices.get(_sorted_lines(text), ()):
            if text == texts[index] or _holds(text, run, configs[index]):
                matching[index].append(run)
    return matching


def _sorted_lines(text: str) -> tuple[str, ...]:
    # an earlier version put fewer texts in quotes, and these lines are the same
    return tuple(sorted(text.replace("'", "").splitlines()))


def _holds(text: str, run: RunDir, config: Mapping[str, Any]) -> bool:
    try:
        return canonical_json(read_yaml(text, run.config_unresolved)) == canonical_json(config)
    except ValueError:
        return False

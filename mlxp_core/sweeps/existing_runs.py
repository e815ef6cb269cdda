"""Which runs of a log directory have a given configuration, and what is to be done about a job that has such runs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlxp_core.errors import ConfigurationError
from mlxp_core.jobs.refresh import refresh
from mlxp_core.nested import canonical_json, value_at
from mlxp_core.runs.layout import LogDir, RunDir
from mlxp_core.runs.listing import list_runs
from mlxp_core.runs.state import RunState
from mlxp_core.runs.status import Status
from mlxp_core.sweeps.interpolation import environment_paths
from mlxp_core.yaml_io import dump_yaml, load_yaml, read_yaml

UNFINISHED = (Status.FAILED, Status.TIMEOUT, Status.PREEMPTED, Status.LOST, Status.CANCELLED)


@dataclass(frozen=True)
class SkipPolicy:
    """Which runs count."""

    skip: Collection[Status]
    any_code: bool
    resume: bool
    commit: str | None  # of the code that the jobs would run; None: it is not known
    function_hash: str | None  # of a task function that is sent to them
    program: str  # as Hydra calls it


@dataclass
class SweepPlan:
    """What becomes of jobs, by their place in the list."""

    new: list[int] = field(default_factory=list)
    resumed: dict[int, RunDir] = field(default_factory=dict)  # unfinished, in its own folder
    skipped: dict[int, RunState] = field(default_factory=dict)  # has such a run
    other_code: list[RunState] = field(default_factory=list)  # would have counted, had their code been the same
    # so would these, of the same text, had the environment given it the same values; with where these differ
    other_values: dict[RunDir, list[str]] = field(default_factory=dict)
    not_resumed: list[RunState] = field(default_factory=list)  # unfinished, of other code, so left as they are


def parse_statuses(given: Any) -> list[Status]:
    """Status by name, one or several. Raises ConfigurationError."""
    found = []
    for name in given if isinstance(given, list) else [given] if given else []:
        if str(name).upper() not in Status.__members__:
            raise ConfigurationError(f"hydra.sweeper.skip: {name!r} is none of {', '.join(Status.__members__)}")
        found.append(Status[str(name).upper()])
    return found


def plan_sweep(
    log_dir: LogDir,
    configs: Sequence[Mapping[str, Any]],
    wish: SkipPolicy,
    resolved: Callable[[int], Mapping[str, Any]],
) -> SweepPlan:
    """Find out what is to be run of jobs with these configurations (with their interpolations).

    ``resolved`` gives the configuration of the job at a place without interpolations; it is asked only where they look
    into the environment. The schedulers are asked about runs that have not ended.
    """
    known = _by_configuration(log_dir, configs)
    made = SweepPlan()
    known = {at: _with_these_values(runs, configs[at], resolved, at, made) for at, runs in known.items()}
    standings = {run: RunState.load(run) for runs in known.values() for run in runs}
    ours = {run: one for run, one in standings.items() if _program(one) in {wish.program, None}}
    other = {run: where for run, where in made.other_values.items() if _program(RunState.load(run)) == wish.program}
    made.other_values = other
    refresh(ours.values())
    for at in range(len(configs)):
        _decide(at, [ours[run] for run in known[at] if run in ours], wish, made)
    return made


def _with_these_values(
    runs: Sequence[RunDir],
    config: Mapping[str, Any],
    resolved: Callable[[int], Mapping[str, Any]],
    at: int,
    made: SweepPlan,
) -> list[RunDir]:
    """Those of the runs in whose configuration the environment has not put something else."""
    paths = environment_paths(config) if runs else []
    if not paths:
        return list(runs)
    here = resolved(at)
    same = []
    for run in runs:
        try:
            theirs = load_yaml(run.config)
        except (OSError, ValueError):  # not known, so it counts
            same.append(run)
            continue
        values = [(path, value_at(theirs, path), value_at(here, path)) for path in paths]
        # what has no value before there is a job is decided there; the values themselves may be secrets
        other = [
            ".".join(map(str, path))
            for path, old, new in values
            if not (isinstance(new, str) and "${" in new) and canonical_json(old) != canonical_json(new)
        ]
        if other:
            made.other_values[run] = other
        else:
            same.append(run)
    return same


def _decide(at: int, runs: Sequence[RunState], wish: SkipPolicy, made: SweepPlan) -> None:
    counting = [one for one in runs if wish.any_code or _is_of(one, wish)]
    done = [one for one in counting if one.status in wish.skip]
    if done:
        made.skipped[at] = done[-1]
        return
    if wish.resume:
        # without a version there is none to be another one, where the user says that any will do
        same = [one for one in counting if _code_of(one) == (wish.commit, wish.function_hash)]
        taken = set(made.resumed.values())
        unfinished = [one for one in same if _is_unfinished(one) and one.run not in taken]
        under_way = [one for one in same if one.status in {Status.PENDING, Status.RUNNING} and one not in unfinished]
        if under_way:
            made.skipped[at] = under_way[-1]
            return
        if unfinished:
            made.resumed[at] = unfinished[-1].run
            return
        made.not_resumed += [one for one in runs if one not in same and _is_unfinished(one)]
    made.other_code += [one for one in runs if one not in counting and one.status in wish.skip]
    made.new.append(at)


def _is_unfinished(one: RunState) -> bool:
    return one.status in UNFINISHED or (one.status is Status.PENDING and not one.is_submitted)


def _is_of(one: RunState, wish: SkipPolicy) -> bool:
    return wish.commit is not None and _code_of(one) == (wish.commit, wish.function_hash)


def _code_of(one: RunState) -> tuple[Any, Any]:
    """The commit that a run ran, None where it ran in place, on files that may have been any; its function's hash."""
    version = one.info.get("version_manager")
    if not isinstance(version, Mapping):
        return None, None
    return None if version.get("snapshot") == "none" else version.get("commit_hash"), version.get("function_hash")


def _program(one: RunState) -> Any:
    hydra = one.info.get("hydra")
    return hydra.get("job_name") if isinstance(hydra, Mapping) else None


def _by_configuration(log_dir: LogDir, configs: Sequence[Mapping[str, Any]]) -> dict[int, list[RunDir]]:
    """The runs of each configuration, in the order of the directory.

    Most are found by their text, which is as this package writes it. The same lines in another order may be the same
    keys in another order: only these are parsed, for that takes long.
    """
    texts = [dump_yaml(config) for config in configs]
    places: dict[tuple[str, ...], list[int]] = {}
    for at, text in enumerate(texts):
        places.setdefault(_lines(text), []).append(at)
    found: dict[int, list[RunDir]] = {at: [] for at in range(len(configs))}
    for run in list_runs(log_dir) if log_dir.path.is_dir() else ():
        try:
            text = run.config_unresolved.read_text(encoding="utf-8")
        except (OSError, ValueError):
            continue
        for at in places.get(_lines(text), ()):
            if text == texts[at] or _says(text, run, configs[at]):
                found[at].append(run)
    return found


def _lines(text: str) -> tuple[str, ...]:
    return tuple(sorted(text.splitlines()))


def _says(text: str, run: RunDir, config: Mapping[str, Any]) -> bool:
    try:
        return canonical_json(read_yaml(text, run.config_unresolved)) == canonical_json(config)
    except ValueError:
        return False

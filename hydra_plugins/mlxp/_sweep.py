"""The sweep: from arguments to jobs, without those that need not run, in batches to the launcher."""

from __future__ import annotations

import logging
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from hydra_plugins.mlxp import _mlxpsub_state
from hydra_plugins.mlxp._composer import Composer
from hydra_plugins.mlxp._job import Job
from hydra_plugins.mlxp._names import CALLBACK
from hydra_plugins.mlxp._points import load_points
from hydra_plugins.mlxp._progress_bar import shown
from hydra_plugins.mlxp._run_dirs import log_dir_of, resolve_sweep_dir
from hydra_plugins.mlxp.config import SweeperConf
from hydra_plugins.mlxp.launcher import MlxpLauncher
from mlxp_core.errors import ConfigurationError
from mlxp_core.jobs.launch_journal import fingerprint
from mlxp_core.runs.code_version import CodeVersion, SnapshotMode
from mlxp_core.runs.layout import LogDir, RunDir
from mlxp_core.runs.listing import format_runs, pluralize
from mlxp_core.sweeps import axes as combinations
from mlxp_core.sweeps import existing_runs
from mlxp_core.sweeps.axes import Axis, Overrides

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Sweep:
    """The facts that all parts of a sweep share."""

    config: DictConfig
    options: SweeperConf
    launcher: Launcher
    hydra_context: HydraContext
    task_function: TaskFunction
    composer: Composer


def sweep(
    config: DictConfig,
    options: SweeperConf,
    launcher: Launcher,
    *,
    hydra_context: HydraContext,
    task_function: TaskFunction,
    arguments: list[str],
) -> list[Sequence[JobReturn]]:
    """Run the jobs that these arguments come to, but for those that need not run. One list of results a batch."""
    if options.max_batch_size is not None and options.max_batch_size < 1:
        raise ConfigurationError(f"hydra.sweeper.max_batch_size={options.max_batch_size}: a batch has one job at least")
    if isinstance(launcher, MlxpLauncher):
        resolve_sweep_dir(config)  # which the callback has done, unless the user took it away
        composer = launcher.context.composer  # what is composed here is not composed there
    else:
        composer = Composer(hydra_context.config_loader, config, _mlxpsub_state.is_job_variable)
    parts = _Sweep(config, options, launcher, hydra_context, task_function, composer)
    jobs = _expand_jobs(parts, arguments)
    _save(config)
    resumed: _ResumedRuns | None = None
    if options.skip or options.resume:
        jobs, resumed = _skip_existing(parts, jobs)
    if _mlxpsub_state.is_dry():
        resumed = None
    if resumed:
        resumed.submit()
    if (program := _mlxpsub_state.current()) is not None and not jobs:
        program.complete()
    returns = _launch_batches(parts, jobs)
    if resumed:
        returns = [resumed.results(), *returns]
    for results in returns:  # not sooner: where the launcher waits, it stays until the resumed runs have ended, too
        for result in results:
            _ = result.return_value  # raises that of a job that failed
    return returns


def _launch_batches(parts: _Sweep, jobs: Sequence[Overrides]) -> list[Sequence[JobReturn]]:
    """Launch the batches; none after one in which a job failed."""
    launcher: Any = parts.launcher
    returns: list[Sequence[JobReturn]] = []
    size = parts.options.max_batch_size or sys.maxsize
    for start in range(0, len(jobs), size):
        batch = jobs[start : start + size]
        if not isinstance(launcher, MlxpLauncher):  # which composes all of them before it writes anything
            for job in shown(batch, "composing"):
                parts.composer.compose(job)
        returns.append(launcher.launch(batch, initial_job_idx=start))
        if any(result.status is not JobStatus.COMPLETED for result in returns[-1]):
            break
    return returns


def _save(config: DictConfig) -> None:
    """Write multirun.yaml, as Hydra's own sweeper does."""
    folder = Path(config.hydra.sweep.dir)
    folder.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(config, folder / "multirun.yaml")


def _expand_jobs(parts: _Sweep, arguments: list[str]) -> list[Overrides]:
    """The jobs that are asked for."""
    options, composer = parts.options, parts.composer
    given = [f"{key}={value}" for key, value in (options.params or {}).items()]
    loader: Any = parts.hydra_context.config_loader
    parser = OverridesParser.create(config_loader=loader)  # glob() asks the loader which choices there are
    axes = combinations.zip_axes(
        [_axis(override) for override in _last_of_each(parser.parse_overrides([*given, *arguments]))],
        _groups(options.zip),
    )
    axes += load_points(options.points, Path(parts.config.hydra.runtime.cwd), parser)
    repeated = combinations.repeat_axes(options.repeat or {})
    combinations.check_keys([*axes, *repeated])
    jobs = combinations.product(axes)
    if options.include or options.exclude:
        jobs = _filtered(parts, jobs)
    if options.dedupe:
        jobs = _distinct(jobs, composer)
    if options.sample is not None:
        count = len(jobs)
        jobs = combinations.sample(jobs, options.sample, options.sample_seed)
        log.info("sampled %d of %d jobs (hydra.sweeper.sample_seed=%d)", len(jobs), count, options.sample_seed)
    if repeated:
        jobs = [[*job, *repetition] for job in jobs for repetition in combinations.product(repeated)]
    if not jobs:
        log.warning("no job is left of this sweep")
    return jobs


def _last_of_each(overrides: Sequence[Override]) -> list[Override]:
    """The last of several overrides of a key, at the place of the first: as Hydra's own sweeper has it."""
    return list({override.get_key_element(): override for override in overrides}.values())


def _axis(override: Override) -> Axis:
    key = override.get_key_element()
    if override.value_type is None:  # ~key
        return Axis((key,), ((key,),))  # with Hydra's own "=null" Hydra 1.4 would only delete what is null
    if not override.is_sweep_override():
        return Axis((key,), ((f"{key}={override.get_value_element_as_str()}",),))
    if not override.is_discrete_sweep():
        raise ConfigurationError(
            f"hydra/sweeper=mlxp does not support sweep type : {override.value_type.name} ({override.input_line}). "
            "Give the values: choice(…), range(…)"
        )
    return Axis((key,), tuple((f"{key}={value}",) for value in override.sweep_string_iterator()))


def _groups(given: Any) -> list[list[str]]:
    """``[lr, wd]`` is one group of keys that are walked together, ``[[lr, wd], [a, b]]`` are two."""
    if given is None:
        return []
    if isinstance(given, list) and all(isinstance(key, str) for key in given):
        return [list(given)] if given else []
    if isinstance(given, list) and all(
        isinstance(group, list) and all(isinstance(key, str) for key in group) for group in given
    ):
        return given
    raise ConfigurationError(
        f"hydra.sweeper.zip={given} is neither a list of keys, such as [lr,wd], nor a list of such lists"
    )


def _filtered(parts: _Sweep, jobs: list[Overrides]) -> list[Overrides]:
    """The jobs for which the queries of the user hold."""
    from hydra_plugins.mlxp._job_filter import matching  # noqa: PLC0415  (Polars)

    options, composer = parts.options, parts.composer
    configs = [composer.remember(job).resolved() for job in shown(jobs, "composing")]
    values = [_values(job) for job in jobs]
    chosen = set(range(len(jobs)))
    for name, given in (("include", options.include), ("exclude", options.exclude)):
        queries = [given] if isinstance(given, str) else given or []
        if not isinstance(queries, Sequence) or not all(isinstance(query, str) for query in queries):
            raise ConfigurationError(f"hydra.sweeper.{name}={given} is neither a query nor a list of queries")
        for query in queries:
            matches = matching(configs, values, query)
            before = len(chosen)
            chosen = chosen & matches if name == "include" else chosen - matches
            log.info("left out %d of %d jobs: hydra.sweeper.%s: %s", before - len(chosen), before, name, query)
    return [job for index, job in enumerate(jobs) if index in chosen]


def _values(overrides: Overrides) -> dict[str, Any]:
    """The values that overrides set, by their keys."""
    parsed = OverridesParser.create().parse_overrides(overrides)
    kept = [override for override in parsed if not override.is_delete()]
    return {override.get_key_element().lstrip("+~"): override.value() for override in kept}


def _distinct(jobs: list[Overrides], composer: Composer) -> list[Overrides]:
    """The first of each configuration."""
    first: dict[str, Overrides] = {}
    for overrides in shown(jobs, "composing"):
        job = composer.remember(overrides)
        first.setdefault(fingerprint(config=job.unresolved, hydra=job.raw("overrides")["hydra"]), overrides)
    if len(first) < len(jobs):
        log.info("left out %d of %d jobs, whose configuration another one has", len(jobs) - len(first), len(jobs))
    return list(first.values())


class _ResumedRuns:
    """The unfinished runs that run again in their own folders."""

    def __init__(self, launcher: Any, log_dir: LogDir, jobs: Sequence[Job], runs: Sequence[RunDir]) -> None:
        self._launcher, self._log_dir, self._jobs, self._runs = launcher, log_dir, jobs, runs
        self._submitted: list[Any] = []

    def submit(self) -> None:
        from hydra_plugins.mlxp._results import log_submitted  # noqa: PLC0415
        from mlxp_core.jobs.resubmit import resubmit  # noqa: PLC0415

        resubmission = resubmit(self._log_dir, self._runs)
        for reason, runs in _by_reason({**resubmission.skipped, **resubmission.blocked}).items():
            log.warning("not run again: run %s: %s", runs, reason)
        by_run = {queued.run: queued for queued in resubmission.submitted}
        self._jobs = [job for job, run in zip(self._jobs, self._runs, strict=True) if run in by_run]
        self._submitted = [by_run[run] for run in self._runs if run in by_run]
        if (program := _mlxpsub_state.current()) is not None and self._submitted:
            program.submitted_again(self._submitted)
        log_submitted(self._jobs, self._submitted, self._log_dir)

    def results(self) -> list[JobReturn]:
        """Their results, once they have ended if the launcher waits."""
        from hydra_plugins.mlxp._results import results  # noqa: PLC0415

        return results(self._launcher.context, self._jobs, self._submitted)


def _skip_existing(parts: _Sweep, overrides: list[Overrides]) -> tuple[list[Overrides], _ResumedRuns | None]:
    """The jobs that are to be run anew, and those whose runs run again; tells which are neither, and why."""
    skip = existing_runs.parse_statuses(parts.options.skip)
    _check_recording(parts)
    jobs = [parts.composer.remember(job) for job in shown(overrides, "composing")]
    log_dir = log_dir_of(parts.config, jobs)
    version = _version(parts, jobs, log_dir)
    policy = existing_runs.SkipPolicy(
        skip=skip,
        any_code=parts.options.skip_any_code,
        resume=parts.options.resume,
        commit=version.commit,
        function_hash=version.function_hash,
        files=version.files or {},
        program=str(parts.config.hydra.job.name),
    )
    configs = [job.unresolved for job in jobs]
    plan = existing_runs.plan_sweep(log_dir, configs, policy, lambda index: jobs[index].resolved())
    _log_existing(plan)
    new, resumed = _resumable(plan, log_dir)
    log.info("%d of %s new", len(new), pluralize(len(jobs), "job"))
    left = [overrides[index] for index in sorted(new)]
    if not resumed:
        return left, None
    return left, _ResumedRuns(parts.launcher, log_dir, [jobs[index] for index in resumed], list(resumed.values()))


def _check_recording(parts: _Sweep) -> None:
    """Raise ConfigurationError for a launcher whose runs cannot run again; warn of one whose runs leave no record."""
    if isinstance(parts.launcher, MlxpLauncher):
        return
    if parts.options.resume:
        raise ConfigurationError("hydra.sweeper.resume needs one of the launchers mlxp_*: hydra/launcher=mlxp_local")
    if CALLBACK not in {callback.get("_target_") for callback in (parts.config.hydra.callbacks or {}).values()}:
        log.warning(
            "hydra.sweeper.skip goes by the runs that are recorded, and these jobs are not: add hydra/callbacks=mlxp, "
            "or a launcher that has it, such as hydra/launcher=mlxp_local"
        )


def _resumable(plan: existing_runs.SweepPlan, log_dir: LogDir) -> tuple[set[int], dict[int, RunDir]]:
    """The indices of new jobs, and the runs that can run again: one that cannot makes its job a new one."""
    new, resumed = set(plan.new), dict(plan.resumed)
    if resumed:
        from mlxp_core.jobs.resubmit import resubmit  # noqa: PLC0415

        trial = resubmit(log_dir, list(resumed.values()), dry_run=True)
        for reason, runs in _by_reason(trial.blocked).items():
            log.warning("run anew, in a new folder, instead of run %s: %s", runs, reason)
        new |= {index for index, run in resumed.items() if run in trial.blocked}
        for reason, runs in _by_reason(trial.skipped).items():
            log.info("skipped, and left alone: run %s: %s", runs, reason)
        resumed = {index: run for index, run in resumed.items() if run in trial.runs}
    if resumed:
        log.info("run again, in the folders of their unfinished runs: run %s", format_runs(resumed.values()))
    return new, resumed


def _log_existing(plan: existing_runs.SweepPlan) -> None:
    """Say which runs there are already, and why they count or do not."""
    for status, runs in _by_reason({state.run: str(state.status) for state in plan.skipped.values()}).items():
        count = sum(str(state.status) == status for state in plan.skipped.values())
        log.info("skipped %s, for there is a run that is %s: run %s", pluralize(count, "job"), status, runs)
    if plan.other_code:
        log.info(
            "run anew although there is a run of the same configuration, for its code is another version or not known "
            "(hydra.sweeper.skip_any_code=true takes it): run %s",
            format_runs(state.run for state in plan.other_code),
        )
    for values, runs in _by_reason({run: ", ".join(keys) for run, keys in plan.other_values.items()}).items():
        log.info("not the same configuration, for what the environment puts into it: run %s: %s", runs, values)
    if plan.not_resumed:
        log.info(
            "not run again in their own folders, with the code that they were submitted with, for it is another "
            "version or not known (`mlxp rerun` does): run %s",
            format_runs(state.run for state in plan.not_resumed),
        )


def _version(parts: _Sweep, jobs: Sequence[Job], log_dir: LogDir) -> CodeVersion:
    """The version of the code that the jobs would run; without a commit where it may be another when they start."""
    config, launcher = parts.config, parts.launcher
    if isinstance(launcher, MlxpLauncher):
        if not jobs:
            return CodeVersion()
        from hydra_plugins.mlxp._code_version import job_code  # noqa: PLC0415

        commit = job_code(launcher.context, jobs, log_dir).commit
        return CodeVersion(commit=commit, function_hash=launcher.context.program.function_hash)
    from hydra_plugins.mlxp._callbacks import version_here  # noqa: PLC0415

    snapshot = OmegaConf.select(config, "hydra.callbacks.mlxp.snapshot") or SnapshotMode.AUTO
    version = version_here(parts.task_function, Path(config.hydra.runtime.cwd), log_dir.path, str(snapshot))
    in_place = version.snapshot is SnapshotMode.NONE or not version.is_known
    return replace(version, commit=None) if in_place else version


def _by_reason(reasons: Mapping[RunDir, str]) -> dict[str, str]:
    grouped: dict[str, list[RunDir]] = defaultdict(list)
    for run, reason in reasons.items():
        grouped[reason].append(run)
    return {reason: format_runs(runs) for reason, runs in grouped.items()}

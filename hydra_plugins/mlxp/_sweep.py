"""What the sweeper does: from arguments to jobs, without those that need not run, in batches to the launcher."""

from __future__ import annotations

import dataclasses
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf

from hydra_plugins.mlxp import _mlxpsub_program
from hydra_plugins.mlxp._composer import Composer, Job
from hydra_plugins.mlxp._names import CALLBACK
from hydra_plugins.mlxp._points import load_points
from hydra_plugins.mlxp._progress import shown
from hydra_plugins.mlxp._run_dirs import log_dir_of, resolve_sweep_dir
from hydra_plugins.mlxp.launcher import MlxpLauncher
from mlxp_core.errors import ConfigurationError
from mlxp_core.jobs.launch_journal import fingerprint
from mlxp_core.runs.layout import LogDir, RunDir
from mlxp_core.runs.listing import format_runs, pluralize
from mlxp_core.sweeps import axes as combinations
from mlxp_core.sweeps import existing_runs
from mlxp_core.sweeps.axes import Axis, Overrides
from mlxp_core.versioning.snapshot import AUTO, NONE

if TYPE_CHECKING:
    from hydra_plugins.mlxp.sweeper import MlxpSweeper

log = logging.getLogger(__name__)


def sweep(sweeper: MlxpSweeper, arguments: list[str]) -> list[Sequence[JobReturn]]:
    """Run the jobs that these arguments come to, but for those that need not run. One list of results a batch."""
    config, options, launcher = sweeper.config, sweeper.options, sweeper.launcher
    if options.max_batch_size is not None and options.max_batch_size < 1:
        raise ConfigurationError(f"hydra.sweeper.max_batch_size={options.max_batch_size}: a batch has one job at least")
    if isinstance(launcher, MlxpLauncher):
        resolve_sweep_dir(config)  # which the callback has done, unless the user took it away
    composer = _composer(sweeper)
    jobs = _expand_jobs(sweeper, arguments, composer)
    _save(sweeper)
    returns: list[Sequence[JobReturn]] = []
    if options.skip or options.resume:
        jobs, again = _skip_existing(sweeper, jobs, composer)
        returns = [again.submit()] if again.runs and not _mlxpsub_program.is_dry() else []
    else:
        again = _ResumedRuns(sweeper)
    if (program := _mlxpsub_program.current()) is not None and not jobs:
        program.complete()
    returns += _launched(sweeper, jobs, composer)
    if again.runs and not _mlxpsub_program.is_dry():
        returns[0] = again.results()
    for results in returns:  # not sooner: where the launcher waits, it stays until those that run again have ended, too
        for result in results:
            _ = result.return_value  # raises that of a job that failed
    return returns


def _launched(sweeper: MlxpSweeper, jobs: Sequence[Overrides], composer: Composer) -> list[Sequence[JobReturn]]:
    """Launch the batches; none after one in which a job failed."""
    launcher: Any = sweeper.launcher
    returns: list[Sequence[JobReturn]] = []
    size = sweeper.options.max_batch_size or max(len(jobs), 1)
    for start in range(0, len(jobs), size):
        batch = jobs[start : start + size]
        if not isinstance(launcher, MlxpLauncher):  # which composes all of them before it writes anything
            for job in shown(batch, "composing"):
                composer.compose(job)
        returns.append(launcher.launch(batch, initial_job_idx=start))
        if any(result.status is not JobStatus.COMPLETED for result in returns[-1]):
            break
    return returns


def _composer(sweeper: MlxpSweeper) -> Composer:
    if isinstance(sweeper.launcher, MlxpLauncher):
        return sweeper.launcher.composer  # what is composed here is not composed there
    return Composer(sweeper.hydra_context.config_loader, sweeper.config)


def _save(sweeper: MlxpSweeper) -> None:
    """Leave multirun.yaml, as Hydra's own sweeper does."""
    folder = Path(sweeper.config.hydra.sweep.dir)
    folder.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(sweeper.config, folder / "multirun.yaml")


def _expand_jobs(sweeper: MlxpSweeper, arguments: list[str], composer: Composer) -> list[Overrides]:
    """The jobs that are asked for."""
    options = sweeper.options
    given = [f"{key}={value}" for key, value in (options.params or {}).items()]
    loader: Any = sweeper.hydra_context.config_loader
    parser = OverridesParser.create(config_loader=loader)  # glob() asks the loader which choices there are
    axes = combinations.zip_axes(
        [_axis(one) for one in _last_of_each(parser.parse_overrides([*given, *arguments]))], _groups(options.zip)
    )
    axes += load_points(options.points, Path(sweeper.config.hydra.runtime.cwd), parser)
    repeated = combinations.repeat_axes(options.repeat or {})
    one_step_each = [dataclasses.replace(axis, steps=axis.steps[:1]) for axis in axes]
    combinations.product([*one_step_each, *repeated])  # no key twice
    jobs = combinations.product(axes)
    if options.include or options.exclude:
        jobs = _chosen(sweeper, jobs, composer)
    if options.dedupe:
        jobs = _distinct(jobs, composer)
    if options.sample is not None:
        count = len(jobs)
        jobs = combinations.sample(jobs, options.sample, options.sample_seed)
        log.info("sampled %d of %d jobs (hydra.sweeper.sample_seed=%d)", len(jobs), count, options.sample_seed)
    if repeated:
        jobs = [[*job, *more] for job in jobs for more in combinations.product(repeated)]
    if not jobs:
        log.warning("no job is left of this sweep")
    return jobs


def _last_of_each(overrides: Sequence[Override]) -> list[Override]:
    """Of several overrides of a key the last, at the place of the first: as Hydra's own sweeper has it."""
    return list({override.get_key_element(): override for override in overrides}.values())


def _axis(override: Override) -> Axis:
    key = override.get_key_element()
    if override.is_delete() and "=" not in (override.input_line or "="):
        return Axis((key,), ((key,),))  # with Hydra's own "=null" Hydra 1.4 would only delete what is null
    if not override.is_sweep_override():
        return Axis((key,), ((f"{key}={override.get_value_element_as_str()}",),))
    if not override.is_discrete_sweep():
        kind = override.value_type.name if override.value_type else "?"
        raise ConfigurationError(
            f"hydra/sweeper=mlxp does not support sweep type : {kind} ({override.input_line}). Give the values: "
            "choice(…), range(…)"
        )
    return Axis((key,), tuple((f"{key}={value}",) for value in override.sweep_string_iterator()))


def _groups(given: Any) -> list[list[str]]:
    """``[lr, wd]`` is one group of keys that are walked together, ``[[lr, wd], [a, b]]`` are two."""
    if given is None:
        return []
    if isinstance(given, list) and all(isinstance(one, str) for one in given):
        return [list(given)] if given else []
    if isinstance(given, list) and all(
        isinstance(one, list) and all(isinstance(key, str) for key in one) for one in given
    ):
        return given
    raise ConfigurationError(
        f"hydra.sweeper.zip={given} is neither a list of keys, such as [lr,wd], nor a list of such lists"
    )


def _chosen(sweeper: MlxpSweeper, jobs: list[Overrides], composer: Composer) -> list[Overrides]:
    """The jobs for which the queries of the user hold."""
    from hydra_plugins.mlxp._job_filter import matching  # noqa: PLC0415  (Polars)

    options = sweeper.options
    configs = [composer.remember(job).resolved() for job in shown(jobs, "composing")]
    values = [_values(job) for job in jobs]
    chosen = set(range(len(jobs)))
    for name, given in (("include", options.include), ("exclude", options.exclude)):
        queries = [given] if isinstance(given, str) else given or []
        if not isinstance(queries, Sequence) or not all(isinstance(query, str) for query in queries):
            raise ConfigurationError(f"hydra.sweeper.{name}={given} is neither a query nor a list of queries")
        for query in queries:
            those = matching(configs, values, query)
            before = len(chosen)
            chosen = chosen & those if name == "include" else chosen - those
            log.info("left out %d of %d jobs: hydra.sweeper.%s: %s", before - len(chosen), before, name, query)
    return [job for at, job in enumerate(jobs) if at in chosen]


def _values(overrides: Overrides) -> dict[str, Any]:
    """What overrides set, by their keys."""
    parsed = OverridesParser.create().parse_overrides(overrides)
    return {one.get_key_element().lstrip("+~"): one.value() for one in parsed if not one.is_delete()}


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

    def __init__(self, sweeper: MlxpSweeper, jobs: Sequence[Job] = (), runs: Sequence[RunDir] = ()) -> None:
        self._sweeper, self._jobs, self.runs = sweeper, jobs, runs
        self._submitted: list[Any] = []

    def submit(self) -> list[JobReturn]:
        from hydra_plugins.mlxp import _launch  # noqa: PLC0415
        from mlxp_core.jobs.resubmit import resubmit  # noqa: PLC0415

        done = resubmit(LogDir(self.runs[0].path.parent), self.runs)
        for why, runs in _by_reason({**done.skipped, **done.blocked}).items():
            log.warning("not run again: run %s: %s", runs, why)
        by_run = {one.run: one for one in done.submitted}
        self._jobs = [job for job, run in zip(self._jobs, self.runs, strict=True) if run in by_run]
        self._submitted = [by_run[run] for run in self.runs if run in by_run]
        if (program := _mlxpsub_program.current()) is not None and self._submitted:
            program.submitted_again(self._submitted)
        _launch.log_submitted(self._jobs, self._submitted, LogDir(self.runs[0].path.parent))
        return _launch.submitted_returns(self._jobs, self._submitted)

    def results(self) -> list[JobReturn]:
        """What has become of them, if the launcher waits."""
        from hydra_plugins.mlxp import _launch  # noqa: PLC0415

        return _launch.results(self._sweeper.launcher, self._jobs, self._submitted)  # type: ignore[arg-type]


def _skip_existing(
    sweeper: MlxpSweeper, overrides: list[Overrides], composer: Composer
) -> tuple[list[Overrides], _ResumedRuns]:
    """The jobs that are to be run anew, and those whose runs run again; says which are neither, and why."""
    options, launcher = sweeper.options, sweeper.launcher
    skip = existing_runs.parse_statuses(options.skip)
    if options.resume and not isinstance(launcher, MlxpLauncher):
        raise ConfigurationError("hydra.sweeper.resume needs one of the launchers mlxp_*: hydra/launcher=mlxp_local")
    recorded = {one.get("_target_") for one in (sweeper.config.hydra.callbacks or {}).values()}
    if not isinstance(launcher, MlxpLauncher) and CALLBACK not in recorded:
        log.warning(
            "hydra.sweeper.skip goes by the runs that are recorded, and these jobs are not: add hydra/callbacks=mlxp, "
            "or a launcher that has it, such as hydra/launcher=mlxp_local"
        )
    jobs = [composer.remember(job) for job in shown(overrides, "composing")]
    log_dir = log_dir_of(sweeper.config, jobs)
    commit, function_hash = _version(sweeper, jobs, log_dir)
    wish = existing_runs.SkipPolicy(
        skip=skip,
        any_code=options.skip_any_code,
        resume=options.resume,
        commit=commit,
        function_hash=function_hash,
        program=str(sweeper.config.hydra.job.name),
    )
    plan = existing_runs.plan_sweep(log_dir, [job.unresolved for job in jobs], wish, lambda at: jobs[at].resolved())
    _say_what_is_there(plan)
    new, again = set(plan.new), dict(plan.resumed)
    if again:
        from mlxp_core.jobs.resubmit import resubmit  # noqa: PLC0415

        can = resubmit(log_dir, list(again.values()), dry_run=True)
        for why, runs in _by_reason(can.blocked).items():
            log.warning("run anew, in a new folder, instead of run %s: %s", runs, why)
        new |= {at for at, run in again.items() if run in can.blocked}
        for why, runs in _by_reason(can.skipped).items():
            log.info("skipped, and left alone: run %s: %s", runs, why)
        again = {at: run for at, run in again.items() if run in can.runs}
    if again:
        log.info("run again, in the folders of their unfinished runs: run %s", format_runs(again.values()))
    log.info("%d of %s new", len(new), pluralize(len(jobs), "job"))
    return [overrides[at] for at in sorted(new)], _ResumedRuns(
        sweeper, [jobs[at] for at in again], list(again.values())
    )


def _say_what_is_there(plan: existing_runs.SweepPlan) -> None:
    """Which runs are there already, and why they count or do not."""
    for status, runs in _by_reason({one.run: str(one.status) for one in plan.skipped.values()}).items():
        count = sum(str(one.status) == status for one in plan.skipped.values())
        log.info("skipped %s, for there is a run that is %s: run %s", pluralize(count, "job"), status, runs)
    if plan.other_code:
        log.info(
            "run anew although there is a run of the same configuration, for its code is another version or not known "
            "(hydra.sweeper.skip_any_code=true takes it): run %s",
            format_runs(one.run for one in plan.other_code),
        )
    for why, runs in _by_reason({run: ", ".join(one) for run, one in plan.other_values.items()}).items():
        log.info("not the same configuration, for what the environment puts into it: run %s: %s", runs, why)
    if plan.not_resumed:
        log.info(
            "not run again in their own folders, with the code that they were submitted with, for it is another "
            "version or not known (`mlxp rerun` does): run %s",
            format_runs(one.run for one in plan.not_resumed),
        )


def _version(sweeper: MlxpSweeper, jobs: Sequence[Job], log_dir: LogDir) -> tuple[str | None, str | None]:
    """The commit that the jobs would run, None where it is not known, or may be another one when they start.

    And the hash of a task function that is sent to them.
    """
    launcher, cwd = sweeper.launcher, Path(sweeper.config.hydra.runtime.cwd)
    if isinstance(launcher, MlxpLauncher):
        if not jobs:
            return None, None
        from hydra_plugins.mlxp._code_version import freeze  # noqa: PLC0415
        from hydra_plugins.mlxp._payload import program_of  # noqa: PLC0415

        freeze(launcher, jobs, log_dir)
        return launcher.code.version.commit if launcher.code else None, program_of(launcher).function_hash
    from hydra_plugins.mlxp._callbacks import version_here  # noqa: PLC0415

    snapshot = OmegaConf.select(sweeper.config, "hydra.callbacks.mlxp.snapshot") or AUTO
    version = version_here(sweeper.task_function, cwd, log_dir.path, str(snapshot))
    return version.commit if version is not None and version.snapshot != NONE else None, None


def _by_reason(runs: Mapping[RunDir, str]) -> dict[str, str]:
    by_reason: dict[str, list[RunDir]] = defaultdict(list)
    for run, why in runs.items():
        by_reason[why].append(run)
    return {why: format_runs(group) for why, group in by_reason.items()}

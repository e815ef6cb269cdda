"""The results that Hydra is given for submitted jobs: where they are, or what they have returned."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cached_property

from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import CompactHydraException
from omegaconf import DictConfig, OmegaConf

from hydra_plugins.mlxp import _omegaconf
from hydra_plugins.mlxp._context import LaunchContext
from hydra_plugins.mlxp._job import Job
from hydra_plugins.mlxp._keyboard_interrupt import without_traceback
from hydra_plugins.mlxp._names import SWEEPER
from mlxp_core.errors import JobFailedError
from mlxp_core.runs import return_value
from mlxp_core.runs.layout import LogDir, RunDir
from mlxp_core.runs.listing import format_runs, pluralize
from mlxp_core.runs.state import RunState
from mlxp_core.runs.status import Status
from mlxp_core.runs.submission_record import QueuedJob

log = logging.getLogger(__name__)

_BASIC_SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"


class JobDidNotCompleteError(JobFailedError, CompactHydraException):
    """A job that was waited for did not complete; Hydra shows the message without a stack trace."""


class SubmittedJob:
    """The return value of a job that was submitted and left: where it is. Its function's value is not known yet."""

    def __init__(self, queued: QueuedJob) -> None:
        """Say where the job is."""
        self.run_id, self.run_dir = queued.run.id, queued.run.path
        self.scheduler, self.job_id, self.array_index = queued.scheduler, queued.job_id, queued.array_index
        self._task_label = queued.task_label
        self.missing = ""  # why its value is not known although it has ended

    def __repr__(self) -> str:
        """Name the run and the job, and why there is no value: other sweepers than ours show nothing else."""
        why = f"what it returned was not kept: {self.missing}" if self.missing else "left without waiting for its value"
        return f"<SubmittedJob run {self.run_dir.name}, {self.scheduler} job {self._task_label}; {why}>"

    def __float__(self) -> float:
        """Refuse to be the objective that a sweeper optimises."""
        if self.missing:
            raise TypeError(f"{self!r} is no number")
        raise TypeError(f"{self!r}: a sweeper that needs the values of its jobs needs hydra.launcher.wait=true")


def results(context: LaunchContext, jobs: Sequence[Job], submitted: Sequence[QueuedJob]) -> list[JobReturn]:
    """The results of submitted jobs: once they have ended, if the launcher waits."""
    return _wait(jobs, submitted) if submitted and _waits(context) else submitted_results(jobs, submitted)


def submitted_results(jobs: Sequence[Job], submitted: Sequence[QueuedJob]) -> list[JobReturn]:
    """The results of jobs that are submitted and left."""
    return [_JobResult(job, queued) for job, queued in zip(jobs, submitted, strict=True)]


def dry_run_results(jobs: Sequence[Job]) -> list[JobReturn]:
    """The results of jobs that were not submitted: no value."""
    return [_JobResult(job, None) for job in jobs]


def log_submitted(jobs: Sequence[Job], submitted: Sequence[QueuedJob], log_dir: LogDir) -> None:
    """Say which jobs are submitted."""
    for job, queued in zip(jobs, submitted, strict=True):
        name, overrides = queued.run.path.name, " ".join(job.overrides)
        log.info("run %s : %s : %s job %s", name, overrides, queued.scheduler, queued.task_label)
    whose = "its run is" if len(submitted) == 1 else "their runs are"
    log.info("%s submitted; %s in %s", pluralize(len(submitted), "job"), whose, log_dir.path)


def _waits(context: LaunchContext) -> bool:
    """Tell whether to stay until the jobs have ended: with ``auto``, where the sweeper goes by what they return."""
    wait = context.options.wait
    if isinstance(wait, bool):
        return wait
    return context.config.hydra.sweeper.get("_target_") not in {SWEEPER, _BASIC_SWEEPER}


def _wait(jobs: Sequence[Job], submitted: Sequence[QueuedJob]) -> list[JobReturn]:
    from mlxp_core.jobs.live_table import wait_with_progress  # noqa: PLC0415

    log.info("waiting for them")
    overrides = {queued.run: " ".join(job.overrides) for job, queued in zip(jobs, submitted, strict=True)}
    returns: list[JobReturn] = []
    not_kept: dict[RunDir, str] = {}
    with without_traceback():
        statuses = wait_with_progress(submitted, overrides, log.info)
    failed = [queued.run for queued, status in zip(submitted, statuses, strict=True) if status is not Status.COMPLETE]
    for job, queued, status in zip(jobs, submitted, statuses, strict=True):
        result = _JobResult(job, queued)
        if status is Status.COMPLETE:
            try:
                result.return_value = return_value.load_return_value(queued.run)
            except return_value.ReturnValueNotStoredError as error:
                result.return_value.missing = not_kept[queued.run] = str(error)
        else:
            result.status = JobStatus.FAILED
            result.return_value = JobDidNotCompleteError(_failure_message(queued.run, status, failed, len(jobs)))
        returns.append(result)
    if not_kept:
        log.warning(
            "what the task function returned was not kept, of run %s: %s. "
            "Return numbers, strings, lists or mappings of them; log the rest as artifacts.",
            format_runs(not_kept),
            next(iter(not_kept.values())),
        )
    return returns


def _failure_message(run: RunDir, status: Status, failed: Sequence[RunDir], count: int) -> str:
    reason = RunState.load(run).reason
    others = f"\nIn all {len(failed)} of {count} jobs did not complete: run {format_runs(failed)}" if failed[1:] else ""
    return (
        f"run {run.path} is {status}{f' ({reason})' if reason else ''}. What it printed: {run.stderr} and "
        f"{run.stdout.name}; what is known of its end: {run.info}{others}"
    )


class _JobResult(JobReturn):
    """Hydra's result of a job. The configurations are made when somebody looks at them, which few do."""

    def __init__(self, job: Job, queued: QueuedJob | None) -> None:
        super().__init__(
            overrides=job.overrides,
            working_dir=str(queued.run.path) if queued else "",
            task_name=job.hydra("job.name"),
            status=JobStatus.COMPLETED,
            _return_value=queued and SubmittedJob(queued),
        )
        self._job = job
        del self.cfg, self.hydra_cfg

    @cached_property
    def cfg(self) -> DictConfig:  # type: ignore[override]
        return _omegaconf.application(self._job.config())

    @cached_property
    def hydra_cfg(self) -> DictConfig:  # type: ignore[override]
        return OmegaConf.masked_copy(self._job.config(), ["hydra"])

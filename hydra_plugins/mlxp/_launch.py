"""The launch of one batch of jobs: plan it, freeze the code, make the run folders, submit, and leave or wait."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.utils import JobReturn, configure_log, setup_globals

from hydra_plugins.mlxp import _mlxpsub_state
from hydra_plugins.mlxp._code_version import code_place, job_code
from hydra_plugins.mlxp._context import JobCode, LaunchContext
from hydra_plugins.mlxp._job import Job
from hydra_plugins.mlxp._keyboard_interrupt import without_traceback
from hydra_plugins.mlxp._names import RUN_ID
from hydra_plugins.mlxp._payload import PickledTask
from hydra_plugins.mlxp._plan import (
    Batch,
    SharedFields,
    identity,
    plan,
    prepare_run,
    script_identity,
)
from hydra_plugins.mlxp._progress_bar import shown
from hydra_plugins.mlxp._results import dry_run_results, log_submitted, results
from hydra_plugins.mlxp._run_dirs import resolve_sweep_dir
from hydra_plugins.mlxp._start_dir import job_interpreter
from hydra_plugins.mlxp.config import LauncherConf
from mlxp_core.errors import ConfigurationError
from mlxp_core.jobs import reuse, submit, write
from mlxp_core.jobs.launch_journal import PendingLaunch, record_launch, resume_launch
from mlxp_core.jobs.reconcile import find_queued
from mlxp_core.runs.allocation import RunAllocator
from mlxp_core.runs.code_version import SnapshotMode
from mlxp_core.runs.git_exclusion import hide_log_dir
from mlxp_core.runs.layout import LogDir, RunDir
from mlxp_core.runs.listing import format_runs
from mlxp_core.runs.lock import exclusive
from mlxp_core.runs.submission_record import QueuedJob
from mlxp_core.versioning.snapshot import check_repository

if TYPE_CHECKING:
    from hydra_plugins.mlxp._mlxpsub_program import MlxpsubProgram

log = logging.getLogger(__name__)

_OnSubmitted = Callable[[Sequence[QueuedJob]], None]


def launch(context: LaunchContext, overrides: Sequence[Sequence[str]], first_number: int) -> Sequence[JobReturn]:
    """Submit one batch of jobs."""
    setup_globals()
    config = context.config
    configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    resolve_sweep_dir(config)  # which the callback has done, unless the user took it away
    batch = plan(context, overrides, first_number)
    mlxpsub = _mlxpsub_state.current()
    if mlxpsub is None:
        return results(context, batch.jobs, _submit(context, batch, lambda _: None))
    in_script = script_identity(context, batch.jobs)
    if (before := mlxpsub.submitted_before(in_script)) is not None:
        return results(context, batch.jobs, before)
    if mlxpsub.session.dry_run:
        _report_dry_run(mlxpsub, context, batch)
        return dry_run_results(batch.jobs)
    submitted = _submit(context, batch, lambda queued: mlxpsub.submitted(in_script, queued))
    return results(context, batch.jobs, submitted)


def _report_dry_run(mlxpsub: MlxpsubProgram, context: LaunchContext, batch: Batch) -> None:
    """Tell mlxpsub what would be submitted."""
    options, program = context.options, context.program
    if options.snapshot != SnapshotMode.NONE:
        check_repository(code_place(program), context.launch_dir)
    words = program.words(job_interpreter(options), Path)
    for template, jobs in batch.overrides_by_template().items():
        mlxpsub.would_submit(options.scheduler, template, jobs, words)


def _submit(context: LaunchContext, batch: Batch, on_submitted: _OnSubmitted) -> list[QueuedJob]:
    """Submit the jobs; of a launch that was interrupted, those that it did not come to.

    ``on_submitted`` is called with all of them while the launch is still on record.
    """
    jobs, log_dir = batch.jobs, batch.log_dir
    code = job_code(context, jobs, log_dir)
    hide_log_dir(log_dir)  # one that was there before, too
    launch_identity = identity(context, jobs, code)
    earlier = resume_launch(log_dir, launch_identity)
    runs = list(earlier.runs) if earlier else _allocate(jobs, log_dir)
    if not earlier:  # before the launch is on record: the runs on record it takes for its own
        reuse.archive_runs([run for run in runs if run.info.exists()])
    record = earlier or record_launch(log_dir, launch_identity, runs)
    # a first launch is the only one that knows its runs; `mlxp rerun` may be at those of an earlier one
    with exclusive(log_dir) if earlier else nullcontext(), without_traceback():
        queued = _already_queued(earlier, context.options) if earlier else {}
        rest = [index for index, run in enumerate(runs) if run not in queued]
        new = _submit_new(context, batch, {index: runs[index] for index in rest}, code)
        queued |= {job.run: job for job in new}
        submitted = [queued[run] for run in runs]
        on_submitted(submitted)
        record.done()
    log_submitted([jobs[index] for index in rest], new, log_dir)
    return submitted


def _submit_new(context: LaunchContext, batch: Batch, runs: dict[int, RunDir], code: JobCode) -> list[QueuedJob]:
    """Write and submit these runs, by the index of their job in the batch."""
    program = context.program
    try:
        shared = SharedFields.of(context, code)
        prepared = [
            prepare_run(shared, batch.jobs[index], run, template=batch.templates[index], spec=batch.specs[index])
            for index, run in runs.items()
        ]
        write.write_runs(shown(prepared, "writing the run folders"))
        if isinstance(program, PickledTask):
            program.write([(batch.jobs[index], run) for index, run in runs.items()], batch.log_dir, code.map_path)
        if code.copy:
            for run in runs.values():
                code.copy.keep_diff(run)
        return submit.submit(list(runs.values()), batch.log_dir)
    except BaseException as error:
        submit.mark_not_submitted(list(runs.values()), error)
        raise


def _already_queued(earlier: PendingLaunch, options: LauncherConf) -> dict[RunDir, QueuedJob]:
    """The runs of an earlier launch that are in a queue, or have been. What is unclear is looked for first."""
    queued = find_queued(earlier.runs, limit=options.command_timeout)
    log.warning(
        "the launch of this command at %s did not submit all of its runs: %d of %d are submitted already (%s), the "
        "rest follows",
        earlier.time,
        len(queued),
        len(earlier.runs),
        format_runs(queued),
    )
    return queued


def _allocate(jobs: Sequence[Job], log_dir: LogDir) -> list[RunDir]:
    """A folder for each job: a new id, unless the user's own hydra.sweep.subdir says where."""
    if "\n" in str(log_dir.path):
        raise ConfigurationError(f"the log directory {str(log_dir.path)!r} has a line break in its path: take another")
    subdirs = [job.raw("sweep.subdir") for job in jobs]
    if all(subdir == RUN_ID for subdir in subdirs):
        with RunAllocator(log_dir.path) as allocator:
            return allocator.allocate_block(len(jobs))
    runs = [RunDir(log_dir.path / str(job.hydra("sweep.subdir"))) for job in jobs]
    if len({run.path for run in runs}) < len(runs):
        raise ConfigurationError(
            f"hydra.sweep.subdir={subdirs[0]} gives several jobs the same folder. Leave it as it is, so that every run "
            "gets a number of its own, or make it differ, with ${hydra.job.num}."
        )
    if any("\n" in str(run.path) for run in runs):
        raise ConfigurationError(f"hydra.sweep.subdir={subdirs[0]} gives a folder with a line break: make it another")
    if any(run.path.parent != log_dir.path for run in runs):
        log.warning(
            "hydra.sweep.subdir=%s puts runs deeper than in %s itself, where neither mlxp nor the reader looks for "
            "them: give them the folder that holds the runs, such as %s",
            subdirs[0],
            log_dir.path,
            runs[0].path.parent,
        )
    for run in runs:
        if run.info.exists() and (why := reuse.reason_not_reusable(run)):
            raise ConfigurationError(
                f"{run.path} holds a run already, which this one would overwrite: {why}. Leave hydra.sweep.subdir "
                "(or hydra.run.dir, without -m) as it is, so that every run gets a number of its own, or make it name "
                "a new folder."
            )
    return runs

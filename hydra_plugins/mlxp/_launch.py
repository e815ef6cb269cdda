"""What a launcher does: compose every job, freeze the code, make the run folders, submit, and leave or wait."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.utils import JobReturn, JobStatus, configure_log, setup_globals
from hydra.errors import CompactHydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hydra_plugins.mlxp import _mlxpsub_program, _omegaconf
from hydra_plugins.mlxp._code_version import freeze, snapshot_options
from hydra_plugins.mlxp._composer import Job
from hydra_plugins.mlxp._keyboard_interrupt import without_traceback
from hydra_plugins.mlxp._names import RUN_ID, SWEEPER
from hydra_plugins.mlxp._payload import PickledTask, program_of
from hydra_plugins.mlxp._progress import shown
from hydra_plugins.mlxp._run_dirs import log_dir_of, resolve_sweep_dir
from mlxp_core import __version__
from mlxp_core.errors import ConfigurationError, JobFailedError
from mlxp_core.jobs import directives, reuse, run_script, spec, submit, write
from mlxp_core.jobs.launch_journal import PendingLaunch, fingerprint, record_launch, resume_launch
from mlxp_core.jobs.reconcile import find_queued
from mlxp_core.jobs.spec import SubmitSpec
from mlxp_core.jobs.template import Template, add_header, add_setup, read_template
from mlxp_core.jobs.write import PreparedRun
from mlxp_core.runs import attempts, return_value
from mlxp_core.runs.allocation import RunAllocator
from mlxp_core.runs.layout import LogDir, RunDir
from mlxp_core.runs.listing import format_runs, pluralize
from mlxp_core.runs.lock import exclusive
from mlxp_core.runs.state import RunState
from mlxp_core.runs.status import Status
from mlxp_core.runs.submission_record import QueuedJob
from mlxp_core.scheduler import load_scheduler
from mlxp_core.versioning.python_path import python_path
from mlxp_core.versioning.snapshot import NONE, FrozenCode, check_repository

if TYPE_CHECKING:
    from hydra_plugins.mlxp._command_line import Program
    from hydra_plugins.mlxp.config import LauncherConf
    from hydra_plugins.mlxp.launcher import MlxpLauncher

log = logging.getLogger(__name__)

_BASIC_SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"


class JobDidNotCompleteError(JobFailedError, CompactHydraException):
    """A job that was waited for did not complete; Hydra shows the message without a stack trace."""


class SubmittedJob:
    """What a submitted job returns: where it is. Its task function's value is not known yet."""

    def __init__(self, run: RunDir, scheduler: str, job_id: str, array_index: int | None) -> None:
        """Say where the job is."""
        self.run_id, self.run_dir = run.id, run.path
        self.scheduler, self.job_id, self.array_index = scheduler, job_id, array_index
        self.missing = ""  # why its value is not known although it has ended

    def __repr__(self) -> str:
        """Name the run and the job, and why there is no value: other sweepers than ours show nothing else."""
        index = "" if self.array_index is None else f"_{self.array_index}"
        why = f"what it returned was not kept: {self.missing}" if self.missing else "left without waiting for its value"
        return f"<SubmittedJob run {self.run_dir.name}, {self.scheduler} job {self.job_id}{index}; {why}>"

    def __float__(self) -> float:
        """Refuse to be the objective that a sweeper optimises."""
        if self.missing:
            raise TypeError(f"{self!r} is no number")
        raise TypeError(f"{self!r}: a sweeper that needs the values of its jobs needs hydra.launcher.wait=true")


def launch(launcher: MlxpLauncher, overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
    """Submit one batch of jobs."""
    setup_globals()
    config, options = launcher.config, launcher.options
    configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    resolve_sweep_dir(config)  # which the callback has done, unless the user took it away
    # what can be wrong is found out before anything is written
    program = program_of(launcher)
    template = _read_template(launcher, program)
    takes = enumerate(shown(overrides, "composing"), start=initial_job_idx)
    jobs = [launcher.composer.take(job, number) for number, job in takes]
    log_dir = log_dir_of(config, jobs)
    templates = _alike(_with_own_lines(template, job, options) for job in jobs)
    by_template = {one: _order(launcher, one) for one in dict.fromkeys(templates)}
    orders = [by_template[one] for one in templates]
    for order in by_template.values():
        spec.validate(order)
    sub = _mlxpsub_program.current()
    in_script = _identity(launcher, program, jobs, in_script=True) if sub else ""
    if sub is not None and (before := sub.submitted_before(in_script)) is not None:
        return results(launcher, jobs, before)
    if sub is not None and sub.session.dry_run:
        _say_what_would_be(sub, launcher, program, templates, jobs)
        return [_Submitted(job, None) for job in jobs]
    freeze(launcher, jobs, log_dir)
    identity = _identity(launcher, program, jobs, in_script=False)
    earlier = resume_launch(log_dir, identity)
    runs = list(earlier.runs) if earlier else _folders(jobs, log_dir)
    if not earlier:  # before the launch is noted: what it notes, it takes for its own
        attempts.archive_runs([run for run in runs if run.info.exists()])
    noted = earlier or record_launch(log_dir, identity, runs)
    # a first launch is the only one that knows its runs; `mlxp rerun` may be at those of an earlier one
    with exclusive(log_dir) if earlier else nullcontext(), without_traceback():
        there = _submitted_before(earlier, options) if earlier else {}
        rest = [number for number, run in enumerate(runs) if run not in there]
        try:
            common = _SharedFields.of(launcher, program)
            planned = [_plan(common, jobs[at], runs[at], template=templates[at], order=orders[at]) for at in rest]
            write.write_runs(shown(planned, "writing the run folders"))
            if isinstance(program, PickledTask):
                program.write([(jobs[at], runs[at]) for at in rest], log_dir, launcher.code)
            if launcher.code:
                for one in planned:
                    launcher.code.keep_diff(one.job.run)
            new = submit.submit([runs[at] for at in rest], log_dir)
        except BaseException as error:
            submit.mark_not_submitted([runs[at] for at in rest], error)
            raise
        by_run = {**there, **{one.run: one for one in new}}
        submitted = [by_run[run] for run in runs]
        if sub is not None:
            sub.submitted(in_script, submitted)
        noted.done()
    log_submitted([jobs[at] for at in rest], new, log_dir)
    return results(launcher, jobs, submitted)


def _say_what_would_be(
    sub: _mlxpsub_program.MlxpsubProgram,
    launcher: MlxpLauncher,
    program: Program | PickledTask,
    templates: Sequence[Template],
    jobs: Sequence[Job],
) -> None:
    options = launcher.options
    if options.snapshot != NONE:
        check_repository(program.file)
    words = program.words(_python(options), Path)
    for template in dict.fromkeys(templates):
        these = [job.overrides for job, one in zip(jobs, templates, strict=True) if one is template]
        sub.would_submit(options.scheduler, template, these, words)


def results(launcher: MlxpLauncher, jobs: Sequence[Job], submitted: Sequence[QueuedJob]) -> list[JobReturn]:
    """What Hydra is given for submitted jobs: once they have ended, if the launcher waits."""
    return _wait(jobs, submitted) if submitted and _waits(launcher) else submitted_returns(jobs, submitted)


def _waits(launcher: MlxpLauncher) -> bool:
    """Whether to stay until the jobs have ended: with ``auto``, where the sweeper goes by what they return."""
    wait = launcher.options.wait
    if isinstance(wait, bool):
        return wait
    return launcher.config.hydra.sweeper.get("_target_") not in {SWEEPER, _BASIC_SWEEPER}


def submitted_returns(jobs: Sequence[Job], submitted: Sequence[QueuedJob]) -> list[JobReturn]:
    """What Hydra is given for jobs that are submitted and left."""
    return [_Submitted(job, one) for job, one in zip(jobs, submitted, strict=True)]


def _python(options: LauncherConf) -> str:
    return options.python or sys.executable


def _read_template(launcher: MlxpLauncher, program: Program | PickledTask) -> Template:
    options = launcher.options
    scheduler, sub = load_scheduler(options.scheduler), _mlxpsub_program.current()
    snapshot_options(options).check("hydra.launcher")
    if not isinstance(options.wait, bool) and options.wait != "auto":
        raise ConfigurationError(f"hydra.launcher.wait={options.wait} is none of auto, true, false")
    if options.max_parallel is not None and options.max_parallel < 1:
        raise ConfigurationError(f"hydra.launcher.max_parallel={options.max_parallel}: at least one job must run")
    template = Template()
    if options.template is not None:
        path = Path(launcher.config.hydra.runtime.cwd, os.path.expanduser(options.template))  # noqa: PTH111
        try:
            # a comment in another encoding, say, goes through byte for byte
            text = path.read_text(encoding="utf-8", errors="surrogateescape")
        except OSError as error:
            raise ConfigurationError(
                f"the template {path} (hydra.launcher.template={options.template}) cannot be read: {error.strerror}"
            ) from error
        template = read_template(text, scheduler, program.called, source=f"the template {path}")
    elif sub is not None and sub.session.scheduler == options.scheduler:
        template = sub.template()
    for line in template.header:
        if any("\udc80" <= letter <= "\udcff" for letter in line):
            raise ConfigurationError(f"{line!r} is no UTF-8: write directives in UTF-8")
    for line in template.ignored:
        log.warning("%s does not read directives after the first command: %s", scheduler.name, line)
    return template


def _with_own_lines(template: Template, job: Job, options: LauncherConf) -> Template:
    """The template with the directives and set-up lines of the options, which may interpolate the job's configuration.

    So each job can ask for the resources that its own model needs.
    """
    found: dict[str, Any] = {}
    for key in ("header", "setup"):
        try:
            found[key] = job.hydra(f"launcher.{key}")
        except OmegaConfBaseException as error:
            text = job.raw(f"launcher.{key}")
            raise ConfigurationError(
                f"hydra.launcher.{key}={text} has no value for the job {' '.join(job.overrides)}: {error}"
            ) from error
    header, setup = found["header"], found["setup"] or []
    return add_setup(add_header(template, header, load_scheduler(options.scheduler)), setup)


def _alike(templates: Iterable[Template]) -> list[Template]:
    """The same object for templates that are equal, so that they are compared quickly."""
    known: dict[Template, Template] = {}
    return [known.setdefault(one, one) for one in templates]


def _order(launcher: MlxpLauncher, template: Template) -> SubmitSpec:
    options = launcher.options
    return SubmitSpec(
        scheduler=options.scheduler,
        name=directives.sanitize_job_name(launcher.config.hydra.job.name),
        shebang=template.shebang,
        header=template.header,
        directory=str(launcher.config.hydra.runtime.cwd),
        array=options.array,
        max_parallel=options.max_parallel,
        pack=options.pack,
        command_timeout=options.command_timeout,
        submit_timeout=options.submit_timeout,
    )


def _identity(launcher: MlxpLauncher, program: Program | PickledTask, jobs: Sequence[Job], *, in_script: bool) -> str:
    """By what a launch is the same as an earlier one: its command, its code and its configurations.

    Not by how it is submitted: what a header was refused for may have been put right since. In a script it is also the
    same with other code. Of several that are the same there, their order tells which it is.
    """
    code = None if in_script else launcher.code
    return fingerprint(
        program=program.words("", Path),
        main=program.environment(launcher.main),
        directory=str(launcher.config.hydra.runtime.cwd),
        scheduler=launcher.options.scheduler,
        code=code.version.commit if code else None,
        jobs=[
            [job.number, job.overrides, job.unresolved, *([] if in_script else job.of_the_environment())]
            for job in jobs
        ],
    )


def _submitted_before(earlier: PendingLaunch, options: LauncherConf) -> dict[RunDir, QueuedJob]:
    """The runs of an earlier launch that are in a queue, or have been. What is unclear is looked for first."""
    found = find_queued(earlier.runs, limit=options.command_timeout)
    log.warning(
        "the launch of this command at %s did not submit all of its runs: %d of %d are submitted already (%s), the "
        "rest follows",
        earlier.time,
        len(found),
        len(earlier.runs),
        format_runs(found),
    )
    return found


def _folders(jobs: Sequence[Job], log_dir: LogDir) -> list[RunDir]:
    """A folder for each job: a new id, unless the user's own hydra.sweep.subdir says where."""
    if "\n" in str(log_dir.path):
        raise ConfigurationError(f"the log directory {str(log_dir.path)!r} has a line break in its path: take another")
    subdirs = [job.raw("sweep.subdir") for job in jobs]
    if all(subdir == RUN_ID for subdir in subdirs):
        with RunAllocator(log_dir.path) as store:
            return store.allocate_block(len(jobs))
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


@dataclass(frozen=True)
class _SharedFields:
    """What all jobs of a launch have in common."""

    program: Program | PickledTask
    words: list[str]  # the command up to the overrides
    hydra_overrides: list[str]
    work_dir: str
    environment: dict[str, str]
    version: dict[str, Any]
    settings: dict[str, Any]

    @classmethod
    def of(cls, launcher: MlxpLauncher, program: Program | PickledTask) -> _SharedFields:
        options, code, cwd = launcher.options, launcher.code, Path(launcher.config.hydra.runtime.cwd)
        place = code.map_path if code else Path
        return cls(
            program=program,
            words=program.words(_python(options), place),
            hydra_overrides=[
                *_omegaconf.overrides(launcher.config, "hydra"),
                *_mlxpsub_program.chosen(launcher.config),
            ],
            work_dir=str(place(cwd) if place(cwd).is_dir() else cwd),  # else a folder that git does not know
            environment={**_environment(code), **program.environment(launcher.main)},
            version=_version_facts(launcher, program),
            settings={
                "version": __version__,
                "launcher": {**vars(options), "setup": list(options.setup), "launch_dir": str(cwd)},
            },
        )


def _plan(common: _SharedFields, job: Job, run: RunDir, *, template: Template, order: SubmitSpec) -> PreparedRun:
    name, job_name = run.path.name, job.hydra("job.name")
    job.settled |= {"job.id": name, "sweep.subdir": name, "runtime.output_dir": str(run.path)}
    command = (*common.words, *common.program.arguments(common.hydra_overrides, job, run))
    copied = {key: os.environ[key] for key in job.hydra("job.env_copy") if key in os.environ}
    return PreparedRun(
        job=run_script.RunScriptSpec(
            run=run,
            name=directives.sanitize_job_name(f"{job_name}-{name}"),
            command=command,
            work_dir=common.work_dir,
            environment={**copied, **common.environment},
        ),
        template=template,
        order=order,
        config=job.resolved(),
        config_unresolved=job.unresolved,
        facts={
            "command": list(command),
            "work_dir": common.work_dir,
            "hydra": {"job_name": job_name, "overrides": job.overrides},
            "version_manager": common.version,
        },
        settings=common.settings,
    )


def _version_facts(launcher: MlxpLauncher, program: Program | PickledTask) -> dict[str, Any]:
    known = launcher.code or launcher.version
    own = {"function_hash": program.function_hash} if program.function_hash else {}
    return {**(known.as_info if known else {}), **own}


def _environment(code: FrozenCode | None) -> dict[str, str]:
    """Variables that every job needs: a PYTHONPATH that leads into the frozen code."""
    folders = python_path(code.map_path if code else Path, code.links if code else None)
    # said also where it is as here: most schedulers start a job without the variables of the submission
    return {"PYTHONPATH": os.pathsep.join(folders)} if folders else {}


def log_submitted(jobs: Sequence[Job], submitted: Sequence[QueuedJob], log_dir: LogDir) -> None:
    """Say which jobs are submitted."""
    for job, one in zip(jobs, submitted, strict=True):
        index = "" if one.array_index is None else f"_{one.array_index}"
        name, what = one.run.path.name, " ".join(job.overrides)
        log.info("run %s : %s : %s job %s%s", name, what, one.scheduler, one.job_id, index)
    whose = "its run is" if len(submitted) == 1 else "their runs are"
    log.info("%s submitted; %s in %s", pluralize(len(submitted), "job"), whose, log_dir.path)


def _wait(jobs: Sequence[Job], submitted: Sequence[QueuedJob]) -> list[JobReturn]:
    from mlxp_core.jobs.follow import wait_with_progress  # noqa: PLC0415

    log.info("waiting for them")
    what = {one.run: " ".join(job.overrides) for job, one in zip(jobs, submitted, strict=True)}
    returns: list[JobReturn] = []
    not_kept: dict[RunDir, str] = {}
    with without_traceback():
        statuses = wait_with_progress(submitted, what, log.info)
    failed = [one.run for one, status in zip(submitted, statuses, strict=True) if status is not Status.COMPLETE]
    for job, one, status in zip(jobs, submitted, statuses, strict=True):
        result = _Submitted(job, one)
        if status is Status.COMPLETE:
            try:
                result.return_value = return_value.load_return_value(one.run)
            except return_value.ReturnValueNotStoredError as error:
                result.return_value.missing = not_kept[one.run] = str(error)
        else:
            result.status = JobStatus.FAILED
            result.return_value = JobDidNotCompleteError(_how_it_ended(one.run, status, failed, len(jobs)))
        returns.append(result)
    if not_kept:
        log.warning(
            "what the task function returned was not kept, of run %s: %s. "
            "Return numbers, strings, lists or mappings of them; log the rest as artifacts.",
            format_runs(not_kept),
            next(iter(not_kept.values())),
        )
    return returns


def _how_it_ended(run: RunDir, status: Status, failed: Sequence[RunDir], count: int) -> str:
    reason = RunState.load(run).reason
    others = f"\nIn all {len(failed)} of {count} jobs did not complete: run {format_runs(failed)}" if failed[1:] else ""
    return (
        f"run {run.path} is {status}{f' ({reason})' if reason else ''}. What it printed: {run.stderr} and "
        f"{run.stdout.name}; what is known of its end: {run.info}{others}"
    )


class _Submitted(JobReturn):
    """What Hydra is given for a job. The configurations are made when somebody looks at them, which few do."""

    def __init__(self, job: Job, one: QueuedJob | None) -> None:
        super().__init__(
            overrides=job.overrides,
            working_dir=str(one.run.path) if one else "",
            task_name=job.hydra("job.name"),
            status=JobStatus.COMPLETED,
            _return_value=one and SubmittedJob(one.run, one.scheduler, one.job_id, one.array_index),
        )
        self._job = job
        del self.cfg, self.hydra_cfg

    @cached_property
    def cfg(self) -> DictConfig:  # type: ignore[override]
        return _omegaconf.application(self._job.config())

    @cached_property
    def hydra_cfg(self) -> DictConfig:  # type: ignore[override]
        return OmegaConf.masked_copy(self._job.config(), ["hydra"])

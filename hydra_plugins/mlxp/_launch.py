"""What a launcher does: compose every job, freeze the code, make the run folders, submit, and leave or wait."""

from __future__ import annotations

import copy
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus, configure_log, setup_globals
from hydra.errors import CompactHydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from hydra_plugins.mlxp import _config, _sub
from hydra_plugins.mlxp._command import Program, find_program, job_overrides
from hydra_plugins.mlxp._folders import settle_sweep
from hydra_plugins.mlxp.config import RUN_ID
from mlxp_core import __version__, question, script, submission
from mlxp_core.errors import ConfigurationError, JobFailedError, SnapshotError
from mlxp_core.importing import python_path
from mlxp_core.launches import Launch, fingerprint, note_launch, take_up
from mlxp_core.layout import LogDir, RunDir, Status
from mlxp_core.notes import Submitted
from mlxp_core.resubmission import submitting_again
from mlxp_core.scheduler import load_scheduler
from mlxp_core.settling import find_submitted
from mlxp_core.snapshot import AUTO, COMMIT, NONE, WORKTREE, Code, Version, Wish, record_version, take_snapshot
from mlxp_core.store import RunStore
from mlxp_core.submission import Order, Planned
from mlxp_core.template import Template, add_header, add_setup, read_template
from mlxp_core.waiting import wait

if TYPE_CHECKING:
    from hydra_plugins.mlxp.config import LauncherConf
    from hydra_plugins.mlxp.launcher import MlxpLauncher

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Composed:
    """One job of the batch, composed."""

    overrides: list[str]
    config: DictConfig
    number: int


class JobDidNotCompleteError(JobFailedError, CompactHydraException):
    """A job that was waited for did not complete; Hydra shows the message without a stack trace."""


class SubmittedJob:
    """What a submitted job returns: where it is. Its task function's value is not known yet."""

    def __init__(self, run: RunDir, scheduler: str, job_id: str, array_index: int | None) -> None:
        """Say where the job is."""
        self.run_id, self.run_dir = run.id, run.path
        self.scheduler, self.job_id, self.array_index = scheduler, job_id, array_index

    def __repr__(self) -> str:
        """Name the run and the job."""
        index = "" if self.array_index is None else f"_{self.array_index}"
        return f"<SubmittedJob run {self.run_dir.name}, {self.scheduler} job {self.job_id}{index}>"

    def __float__(self) -> float:
        """Refuse to be the objective that a sweeper optimises."""
        raise TypeError(
            f"{self!r} has no value yet: the launcher submitted it and left. A sweeper that needs the values of its "
            "jobs needs hydra.launcher.wait=true."
        )


def launch(launcher: MlxpLauncher, overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
    """Submit one batch of jobs."""
    setup_globals()
    config, options = launcher.config, launcher.options
    configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    settle_sweep(config)  # which the callback has done, unless the user took it away
    # what can be wrong is found out before anything is written
    program = find_program([*_config.overrides(config, "hydra"), *_config.overrides(config, "task")])
    template = _read_template(launcher, program)
    jobs = [_compose(launcher, list(job), initial_job_idx + number) for number, job in enumerate(overrides)]
    log_dir = LogDir(Path(config.hydra.runtime.cwd, str(config.hydra.sweep.dir)))
    templates = [_with_own_lines(template, job, options) for job in jobs]
    orders = [_order(launcher, one) for one in templates]
    for order in dict.fromkeys(orders):
        submission.check(order, orders.count(order))
    sub = _sub.current()
    in_script = _identity(launcher, program, jobs, code=None) if sub else ""
    if sub is not None and (before := sub.submitted_before(in_script)) is not None:
        return _returns(jobs, before, options)
    if sub is not None and sub.session.dry_run:
        sub.would_submit(template, [job.overrides for job in jobs], program.words(_python(options), Path))
        return [_job_return(job, None) for job in jobs]
    if launcher.code is None:
        launcher.code, launcher.version = _freeze(launcher, program, jobs, log_dir)
    identity = _identity(launcher, program, jobs, code=launcher.code)
    earlier = take_up(log_dir, identity)
    runs = list(earlier.runs) if earlier else _folders(jobs, log_dir)
    noted = earlier or note_launch(log_dir, identity, runs)
    # a first launch is the only one that knows its runs; `mlxp rerun` may be at those of an earlier one
    with submitting_again(log_dir) if earlier else nullcontext():
        there = _submitted_before(earlier, options) if earlier else {}
        rest = [number for number, run in enumerate(runs) if run not in there]
        try:
            planned = [
                _plan(launcher, program, jobs[at], runs[at], template=templates[at], order=orders[at]) for at in rest
            ]
            submission.write_runs(planned)
            if launcher.code:
                for one in planned:
                    launcher.code.keep_diff(one.job.run)
            new = submission.submit([runs[at] for at in rest], log_dir)
        except BaseException as error:
            submission.abandon([runs[at] for at in rest], error)
            raise
        by_run = {**there, **{one.run: one for one in new}}
        submitted = [by_run[run] for run in runs]
        if sub is not None:
            sub.submitted(in_script, submitted)
        noted.done()
    _tell([jobs[at] for at in rest], new, log_dir)
    return _returns(jobs, submitted, options)


def _returns(jobs: Sequence[_Composed], submitted: Sequence[Submitted], options: LauncherConf) -> list[JobReturn]:
    if options.wait:
        return _wait(jobs, submitted)
    return [_job_return(job, one) for job, one in zip(jobs, submitted, strict=True)]


def _python(options: LauncherConf) -> str:
    return options.python or sys.executable


def _read_template(launcher: MlxpLauncher, program: Program) -> Template:
    options = launcher.options
    scheduler, sub = load_scheduler(options.scheduler), _sub.current()
    _wish(options).check("hydra.launcher")
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


def _with_own_lines(template: Template, job: _Composed, options: LauncherConf) -> Template:
    """The template with the directives and set-up lines of the options, which may interpolate the job's configuration.

    So each job can ask for the resources that its own model needs.
    """
    own: DictConfig = job.config.hydra.launcher
    found: dict[str, Any] = {}
    for key in ("header", "setup"):
        try:
            value = own.get(key)
            found[key] = list(value) if OmegaConf.is_list(value) else value
        except OmegaConfBaseException as error:
            text = _config.raw(job.config, "hydra.launcher", key)
            raise ConfigurationError(
                f"hydra.launcher.{key}={text} has no value for the job {' '.join(job.overrides)}: {error}"
            ) from error
    header, setup = found["header"], found["setup"] or []
    return add_setup(add_header(template, header, load_scheduler(options.scheduler)), setup)


def _order(launcher: MlxpLauncher, template: Template) -> Order:
    options = launcher.options
    return Order(
        scheduler=options.scheduler,
        name=script.legal_name(launcher.config.hydra.job.name),
        shebang=template.shebang,
        header=template.header,
        directory=str(launcher.config.hydra.runtime.cwd),
        array=options.array,
        max_parallel=options.max_parallel,
        pack=options.pack,
        command_timeout=options.command_timeout,
        submit_timeout=options.submit_timeout,
    )


def _identity(launcher: MlxpLauncher, program: Program, jobs: Sequence[_Composed], *, code: Code | None) -> str:
    """By what a launch is the same as an earlier one: its command, its code and its configurations.

    Not by how it is submitted: what a header was refused for may have been put right since.
    """
    return fingerprint(
        program=program.words("", Path),
        directory=str(launcher.config.hydra.runtime.cwd),
        scheduler=launcher.options.scheduler,
        code=code.version.commit if code else None,
        jobs=[[job.number, job.overrides, _config.unresolved(job.config)] for job in jobs],
    )


def _submitted_before(earlier: Launch, options: LauncherConf) -> dict[RunDir, Submitted]:
    """The runs of an earlier launch that are in a queue, or have been. What is unclear is looked for first."""
    found = find_submitted(earlier.runs, limit=options.command_timeout)
    log.warning(
        "the launch of this command at %s did not submit all of its runs: %d of %d are submitted already (%s), the "
        "rest follows",
        earlier.time,
        len(found),
        len(earlier.runs),
        ", ".join(run.path.name for run in found) or "none",
    )
    return found


def _compose(launcher: MlxpLauncher, overrides: list[str], number: int) -> _Composed:
    config = launcher.hydra_context.config_loader.load_sweep_config(launcher.config, overrides)
    with open_dict(config):
        config.hydra.job.num = number
    return _Composed(overrides, config, number)


def _wish(options: LauncherConf) -> Wish:
    return Wish(options.snapshot, options.on_changes, tuple(options.commit_files), options.commit_message or "")


def _freeze(
    launcher: MlxpLauncher, program: Program, jobs: Sequence[_Composed], log_dir: LogDir
) -> tuple[Code | None, Version | None]:
    """The copy that the jobs run, and its version; without a copy what is known of the files that they will run."""
    options = launcher.options
    if options.snapshot == NONE:
        return None, _in_place(program, log_dir)
    ask = _sub.once(question.ask) if question.can_answer() else None
    place = Path(launcher.config.hydra.runtime.cwd, os.path.expanduser(options.code_dir)) if options.code_dir else None  # noqa: PTH111
    code = take_snapshot(program.file, log_dir, _wish(options), place=place, ask=ask)
    version = code.version
    changes = "\n  ".join(str(change) for change in version.changes)
    if version.snapshot == WORKTREE and options.snapshot == AUTO and ask is None:
        log.warning(
            "the jobs run the work tree %s as it is now, with these changes, which are not committed (git keeps it as "
            "%s under refs/mlxp; hydra.launcher.snapshot=commit runs the last commit):\n  %s",
            version.repo,
            code.copy.name[:10],
            changes,
        )
    elif version.left_out:
        log.warning(
            "the jobs run commit %s of %s, without these changes, which are not committed:\n  %s",
            code.copy.name[:10],
            version.repo,
            changes,
        )
    _check_frozen_configuration(launcher, jobs, code)
    return code, version


def _in_place(program: Program, log_dir: LogDir) -> Version | None:
    try:
        return record_version(program.file, log_dir, COMMIT)
    except SnapshotError as error:
        log.debug("which code the jobs will find is not known: %s", error)
        return None


def _check_frozen_configuration(launcher: MlxpLauncher, jobs: Sequence[_Composed], code: Code) -> None:
    """Refuse what every job would refuse hours later: a configuration that the frozen code does not compose."""
    repo, version = code.version.repo, code.version
    search_path = copy.deepcopy(launcher.hydra_context.config_loader.get_search_path())
    changed = [repo / change.path for change in version.left_out]
    changed += [repo / change.path for change in version.ignored if change.path.endswith((".yaml", ".yml"))]
    concerned = False
    for element in search_path.get_path():
        folder = Path(element.path.removeprefix("file://"))
        if folder.is_absolute():
            concerned |= any(path.is_relative_to(folder) or folder.is_relative_to(path) for path in changed)
            element.path = f"file://{code.place(folder)}"
    if not concerned:
        return
    loader = ConfigLoaderImpl(config_search_path=search_path)
    for job in jobs:
        try:
            committed = loader.load_sweep_config(launcher.config, job.overrides)
            different = _config.differences(_config.unresolved(job.config), _config.unresolved(committed))
        except Exception as error:  # noqa: BLE001  (whatever Hydra finds wrong with it)
            different = [str(error)]
        if different:
            raise ConfigurationError(
                f"the configuration of version {code.copy.name[:10]}, which the jobs would run, is not the one that "
                f"{' '.join(job.overrides) or 'the job'} has here. Commit the changed files (none that git is told to "
                "ignore), or use hydra.launcher.snapshot=worktree.\nhere -> in the version\n  " + "\n  ".join(different)
            )


def _folders(jobs: Sequence[_Composed], log_dir: LogDir) -> list[RunDir]:
    """A folder for each job: a new id, unless the user's own hydra.sweep.subdir says where."""
    if "\n" in str(log_dir.path):
        raise ConfigurationError(f"the log directory {str(log_dir.path)!r} has a line break in its path: take another")
    subdirs = [_config.raw(job.config, "hydra.sweep", "subdir") for job in jobs]
    if all(subdir == RUN_ID for subdir in subdirs):
        with RunStore(log_dir.path) as store:
            return store.allocate_block(len(jobs))
    runs = [RunDir(log_dir.path / str(job.config.hydra.sweep.subdir)) for job in jobs]
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
        if run.info.exists():
            raise ConfigurationError(
                f"{run.path} holds a run already, which this one would overwrite. Leave hydra.sweep.subdir as it is, "
                "so that every run gets a number of its own, or make it name a new folder."
            )
    return runs


def _plan(
    launcher: MlxpLauncher, program: Program, job: _Composed, run: RunDir, *, template: Template, order: Order
) -> Planned:
    options, code, cwd = launcher.options, launcher.code, Path(launcher.config.hydra.runtime.cwd)
    place = code.place if code else Path
    work_dir = place(cwd) if place(cwd).is_dir() else cwd  # a folder of the launch that git does not know
    with open_dict(job.config):
        job.config.hydra.job.id = run.path.name
        job.config.hydra.sweep.subdir = run.path.name
        job.config.hydra.runtime.output_dir = str(run.path)
    given = [*_config.overrides(launcher.config, "hydra"), *_sub.chosen(launcher.config)]
    overrides = job_overrides(given, job.overrides, run=run, number=job.number)
    command = (*program.words(_python(options), place), *overrides)
    with _as_current(job.config):
        full, raw = _config.resolved(job.config), _config.unresolved(job.config)
    return Planned(
        job=script.Job(
            run=run,
            name=script.legal_name(f"{job.config.hydra.job.name}-{run.path.name}"),
            command=command,
            work_dir=str(work_dir),
            environment=_environment(job.config, code),
        ),
        template=template,
        order=order,
        config=full,
        config_unresolved=raw,
        facts={
            "command": list(command),
            "work_dir": str(work_dir),
            "hydra": {"job_name": job.config.hydra.job.name, "overrides": job.overrides},
            "version_manager": _version_facts(launcher),
        },
        settings={
            "version": __version__,
            "launcher": {**vars(options), "setup": list(options.setup), "launch_dir": str(cwd)},
        },
    )


def _version_facts(launcher: MlxpLauncher) -> dict[str, Any]:
    known = launcher.code or launcher.version
    return known.facts if known else {}


def _environment(config: DictConfig, code: Code | None) -> dict[str, str]:
    """Variables that a job needs: those that Hydra copies from here, a PYTHONPATH that leads into the frozen code."""
    variables = {name: os.environ[name] for name in config.hydra.job.env_copy if name in os.environ}
    folders = python_path(code.place if code else Path, code.links if code else None)
    if folders:  # said also where it is as here: most schedulers start a job without the variables of the submission
        variables["PYTHONPATH"] = os.pathsep.join(folders)
    return variables


@contextmanager
def _as_current(config: DictConfig) -> Iterator[None]:
    """Let ``${hydra:…}`` find a job's own configuration, as it does while the job runs."""
    before = HydraConfig.instance().cfg
    HydraConfig.instance().set_config(config)
    try:
        yield
    finally:
        HydraConfig.instance().cfg = before


def _tell(jobs: Sequence[_Composed], submitted: Sequence[Submitted], log_dir: LogDir) -> None:
    for job, one in zip(jobs, submitted, strict=True):
        index = "" if one.array_index is None else f"_{one.array_index}"
        name, what = one.run.path.name, " ".join(job.overrides)
        log.info("run %s : %s : %s job %s%s", name, what, one.scheduler, one.job_id, index)
    log.info("%d jobs submitted; their runs are in %s", len(submitted), log_dir.path)


def _wait(jobs: Sequence[_Composed], submitted: Sequence[Submitted]) -> list[JobReturn]:
    log.info("waiting for them")
    try:
        statuses = wait(submitted, lambda run, status: log.info("run %s : %s", run.path.name, status))
    except KeyboardInterrupt:
        log.warning("no longer waiting; the jobs go on")
        raise
    returns = []
    for job, one, status in zip(jobs, submitted, statuses, strict=True):
        result = _job_return(job, one)
        if status is not Status.COMPLETE:
            result.status = JobStatus.FAILED
            result.return_value = JobDidNotCompleteError(
                f"run {one.run.path} is {status}. What it printed: {one.run.stderr} and {one.run.stdout.name}; "
                f"what is known of its end: {one.run.info}"
            )
        returns.append(result)
    return returns


def _job_return(job: _Composed, one: Submitted | None) -> JobReturn:
    result = JobReturn(
        overrides=job.overrides,
        cfg=_config.application(job.config),
        hydra_cfg=OmegaConf.masked_copy(job.config, ["hydra"]),
        working_dir=str(one.run.path) if one else "",
        task_name=job.config.hydra.job.name,
        status=JobStatus.COMPLETED,
    )
    result.return_value = one and SubmittedJob(one.run, one.scheduler, one.job_id, one.array_index)
    return result

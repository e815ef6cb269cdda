"""The plan of a launch: the jobs with the template and the submission of each, before anything is written."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from omegaconf.errors import OmegaConfBaseException

from hydra_plugins.mlxp import _mlxpsub_state, _omegaconf
from hydra_plugins.mlxp._code_version import snapshot_options
from hydra_plugins.mlxp._command_line import Program
from hydra_plugins.mlxp._context import JobCode, LaunchContext
from hydra_plugins.mlxp._job import Job
from hydra_plugins.mlxp._payload import PickledTask
from hydra_plugins.mlxp._progress_bar import shown
from hydra_plugins.mlxp._run_dirs import log_dir_of
from hydra_plugins.mlxp._start_dir import StartDir, job_words, module_folder, start_dir, work_dir
from hydra_plugins.mlxp.config import LauncherConf
from mlxp_core import __version__
from mlxp_core.errors import ConfigurationError
from mlxp_core.jobs import directives, run_script, spec
from mlxp_core.jobs.launch_journal import fingerprint
from mlxp_core.jobs.spec import SubmitSpec
from mlxp_core.jobs.template import Template, add_header, add_setup, read_template
from mlxp_core.jobs.write import PreparedRun
from mlxp_core.runs.code_version import CodeVersion
from mlxp_core.runs.layout import LogDir, RunDir
from mlxp_core.scheduler import load_scheduler
from mlxp_core.versioning.python_path import python_path

log = logging.getLogger(__name__)

# options that mlxp.yaml has in `order`, by which a run is submitted again; there the header has the template's lines
_IN_ORDER = {field.name for field in fields(SubmitSpec)} - {"header"}


@dataclass(frozen=True)
class Batch:
    """The jobs of one launch; of each, its template and its submission."""

    jobs: list[Job]
    templates: list[Template]
    specs: list[SubmitSpec]
    log_dir: LogDir

    def overrides_by_template(self) -> dict[Template, list[list[str]]]:
        """The overrides of the jobs that share a template."""
        grouped: dict[Template, list[list[str]]] = {}
        for job, template in zip(self.jobs, self.templates, strict=True):
            grouped.setdefault(template, []).append(job.overrides)
        return grouped


def plan(context: LaunchContext, overrides: Sequence[Sequence[str]], first_number: int) -> Batch:
    """Compose the jobs and check all that can be wrong. Raises ConfigurationError; nothing is written."""
    options, program = context.options, context.program
    _check_options(options)
    template = _load_template(context, program.called)
    numbered = enumerate(shown(overrides, "composing"), start=first_number)
    jobs = [context.composer.take(lines, number) for number, lines in numbered]
    log_dir = log_dir_of(context.config, jobs)
    templates = _interned(_job_template(template, job, options) for job in jobs)
    spec_of = {template: _submit_spec(context, template) for template in dict.fromkeys(templates)}
    for submit_spec in spec_of.values():
        spec.validate(submit_spec)
    return Batch(jobs, templates, [spec_of[template] for template in templates], log_dir)


def _check_options(options: LauncherConf) -> None:
    snapshot_options(options)
    work_dir(options)
    if not isinstance(options.wait, bool) and options.wait != "auto":
        raise ConfigurationError(f"hydra.launcher.wait={options.wait} is none of auto, true, false")
    if options.max_parallel is not None and options.max_parallel < 1:
        raise ConfigurationError(f"hydra.launcher.max_parallel={options.max_parallel}: at least one job must run")


def _load_template(context: LaunchContext, program: str) -> Template:
    options, mlxpsub = context.options, _mlxpsub_state.current()
    scheduler = load_scheduler(options.scheduler)
    template = Template()
    if options.template is not None:
        path = context.launch_dir / os.path.expanduser(options.template)  # noqa: PTH111
        try:
            # a comment in another encoding, say, goes through byte for byte
            text = path.read_text(encoding="utf-8", errors="surrogateescape")
        except OSError as error:
            raise ConfigurationError(
                f"the template {path} (hydra.launcher.template={options.template}) cannot be read: {error.strerror}"
            ) from error
        template = read_template(text, scheduler, program, source=f"the template {path}")
    elif mlxpsub is not None and mlxpsub.session.scheduler == options.scheduler:
        template = mlxpsub.template()
    for line in template.header:
        if re.search("[\udc80-\udcff]", line):
            raise ConfigurationError(f"{line!r} is no UTF-8: write directives in UTF-8")
    for line in template.ignored:
        log.warning("%s does not read directives after the first command: %s", scheduler.name, line)
    return template


def _job_template(template: Template, job: Job, options: LauncherConf) -> Template:
    """The template with the directives and set-up lines of the options, which may interpolate the job's configuration.

    So each job can ask for the resources that its own model needs.
    """
    values: dict[str, Any] = {}
    for key in ("header", "setup"):
        try:
            values[key] = job.hydra(f"launcher.{key}")
        except OmegaConfBaseException as error:
            text = job.raw(f"launcher.{key}")
            raise ConfigurationError(
                f"hydra.launcher.{key}={text} has no value for the job {' '.join(job.overrides)}: {error}"
            ) from error
    with_header = add_header(template, values["header"], load_scheduler(options.scheduler))
    return add_setup(with_header, values["setup"] or [])


def _interned(templates: Iterable[Template]) -> list[Template]:
    """The same object for templates that are equal, so that they are compared quickly."""
    known: dict[Template, Template] = {}
    return [known.setdefault(template, template) for template in templates]


def _submit_spec(context: LaunchContext, template: Template) -> SubmitSpec:
    options = context.options
    return SubmitSpec(
        scheduler=options.scheduler,
        name=directives.sanitize_job_name(context.config.hydra.job.name),
        shebang=template.shebang,
        header=template.header,
        directory=str(context.launch_dir),
        array=options.array,
        max_parallel=options.max_parallel,
        pack=options.pack,
        command_timeout=options.command_timeout,
        submit_timeout=options.submit_timeout,
    )


def identity(context: LaunchContext, jobs: Sequence[Job], code: JobCode) -> str:
    """Identify a launch, so that a later one is known to be the same: its command, its code, its configurations.

    Not how it is submitted: what a header was refused for may have been put right since.
    """
    jobs_values = [[job.number, job.overrides, job.unresolved, *job.environment_values()] for job in jobs]
    return _fingerprint(context, jobs_values, code.commit)


def script_identity(context: LaunchContext, jobs: Sequence[Job]) -> str:
    """Identify a launch of a script: it is also the same with other code.

    Of several in a script that are the same, their order tells which it is.
    """
    return _fingerprint(context, [[job.number, job.overrides, job.unresolved] for job in jobs], None)


def _fingerprint(context: LaunchContext, jobs: list[list[Any]], commit: str | None) -> str:
    return fingerprint(
        program=context.program.words("", Path),
        main=context.program.environment(context.main),
        directory=str(context.launch_dir),
        scheduler=context.options.scheduler,
        code=commit,
        jobs=jobs,
    )


@dataclass(frozen=True)
class SharedFields:
    """The fields that all runs of a launch have in common."""

    program: Program | PickledTask
    words: list[str]  # the command up to the overrides
    hydra_overrides: list[str]
    start: StartDir
    environment: dict[str, str]
    version: CodeVersion
    settings: dict[str, Any]

    @classmethod
    def of(cls, context: LaunchContext, code: JobCode) -> SharedFields:
        """The fields of a launch whose jobs run this code."""
        options, program, launch_dir = context.options, context.program, context.launch_dir
        mlxpsub = _mlxpsub_state.current()
        return cls(
            program=program,
            words=job_words(program, options, code),
            hydra_overrides=[
                *_omegaconf.overrides(context.config, "hydra"),
                *(mlxpsub.launcher_override(context.config) if mlxpsub else ()),
            ],
            start=start_dir(options, code, launch_dir),
            environment={
                **_environment(code, module_folder(program, options, code, launch_dir)),
                **program.environment(context.main),
            },
            version=replace(code.recorded, function_hash=program.function_hash),
            settings={
                "version": __version__,
                "launcher": {
                    **{key: value for key, value in vars(options).items() if key not in _IN_ORDER},
                    "launch_dir": str(launch_dir),
                },
            },
        )


def prepare_run(shared: SharedFields, job: Job, run: RunDir, *, template: Template, spec: SubmitSpec) -> PreparedRun:
    """Make all that is written of a run before it is submitted."""
    name, job_name = run.path.name, job.hydra("job.name")
    job.late_values |= {"job.id": name, "sweep.subdir": name, "runtime.output_dir": str(run.path)}
    command = (*shared.words, *shared.program.arguments(shared.hydra_overrides, job, run))
    directory = str(shared.start.path(run))
    copied = {key: os.environ[key] for key in job.hydra("job.env_copy") if key in os.environ}
    return PreparedRun(
        job=run_script.RunScriptSpec(
            run=run,
            name=directives.sanitize_job_name(f"{job_name}-{name}"),
            command=command,
            work_dir=directory,
            environment={**copied, **shared.environment},
            work_folder=shared.start.template,
        ),
        template=template,
        spec=spec,
        config=job.resolved(),
        config_unresolved=job.unresolved,
        facts={
            "command": list(command),
            "work_dir": directory,
            "hydra": {"job_name": job_name, "overrides": job.overrides},
            **shared.version.as_info,
        },
        settings=shared.settings,
    )


def _environment(code: JobCode, first: Sequence[str]) -> dict[str, str]:
    """Variables that every job needs: a PYTHONPATH that leads into the frozen code, beginning with these folders."""
    found = python_path(code.map_path, code.copy.links if code.copy else None)
    own = [str(code.source)] if code.source is not None else []
    folders = list(dict.fromkeys([*first, *own, *found]))
    # also where it is the same here: most schedulers start a job without the variables of the submission
    return {"PYTHONPATH": os.pathsep.join(folders)} if folders else {}

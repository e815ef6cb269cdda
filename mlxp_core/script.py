"""Writes job scripts: ``script.sh`` of a run, and an array's script. Plain values in, text out."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlxp_core.errors import ConfigurationError
from mlxp_core.layout import RunDir
from mlxp_core.scheduler._base import Option, Scheduler, has_option
from mlxp_core.template import Template


@dataclass(frozen=True)
class Job:
    """One job: what its script runs, where and with what."""

    run: RunDir
    name: str
    command: tuple[str, ...]
    work_dir: str
    environment: Mapping[str, str]  # variables that the script sets


def render_job(job: Job, template: Template, scheduler: Scheduler) -> str:
    """``script.sh`` of one run: header, set-up, the program; its exit code is kept, however it ends."""
    values = {
        "name": job.name,
        "stdout": scheduler.quote_path(str(job.run.stdout), ""),
        "stderr": scheduler.quote_path(str(job.run.stderr), ""),
    }
    program = template.prefix + shlex.join(job.command)
    if template.after:
        last = [program, "mlxp_program=$?", *template.after, 'exit "$mlxp_program"']
    else:
        last = [program if template.prefix else f"exec {program}"]
    return _lines(
        template.shebang,
        *_directives(template, scheduler, scheduler.options, values),
        "",
        f"# run {job.run.path.name} of {_one_line(job.run.path.parent)}; `bash script.sh` runs it again",
        f"mlxp_metadata={shlex.quote(str(job.run.metadata))}",
        'rm -f "$mlxp_metadata/exit_code"',
        "trap : INT TERM  # outlive the signal that ends the program, to record its exit code",
        "(",
        *template.setup,
        *(f"export {name}={shlex.quote(value)}" for name, value in job.environment.items()),
        f"cd {shlex.quote(job.work_dir)} || exit",
        *last,
        ")",
        "mlxp_code=$?",
        'echo "$mlxp_code" >"$mlxp_metadata/.exit_code"',
        'mv -f "$mlxp_metadata/.exit_code" "$mlxp_metadata/exit_code"',
        'exit "$mlxp_code"',
    )


def check_array(template: Template, scheduler: Scheduler) -> Option:
    """Give the scheduler's array option. Raises ConfigurationError where it has none, or the user's header uses it."""
    array = scheduler.array
    if array is None:
        raise ConfigurationError(f"{scheduler.name} has no arrays: use hydra.launcher.array=false")
    if _has(template, scheduler, array):
        raise ConfigurationError(
            f"the header sets {' or '.join(array.yields_to)} itself, which is how the launcher submits a batch. "
            "Take that line out (hydra.launcher.max_parallel limits how many run at once), or set "
            "hydra.launcher.array=false."
        )
    return array


def render_array(
    runs: Sequence[RunDir],
    *,
    name: str,
    template: Template,
    scheduler: Scheduler,
    manifest: Path,
    max_parallel: int | None,
) -> str:
    """Script of an array: each task looks its run up in the manifest, by its index, and becomes that run's script."""
    array = check_array(template, scheduler)
    throttle = scheduler.throttle.format(max_parallel) if max_parallel else ""
    output = scheduler.quote_path(f"{manifest.parent}/", f"{scheduler.index_pattern}.out")
    values = {"name": name, "stdout": output, "stderr": output, "array": f"{len(runs)}{throttle}"}
    # the user's own --output or --error is where the user looks: what the pack would have set stays unset
    redirect = {"stdout": '>>"$mlxp_run/log.stdout"', "stderr": '2>>"$mlxp_run/log.stderr"'}
    redirects = [
        redirect[option.sets]
        for option in scheduler.options
        if option.sets in redirect and not _has(template, scheduler, option)
    ]
    log_dir = runs[0].path.parent
    return _lines(
        template.shebang,
        *_directives(template, scheduler, (*scheduler.options, array), values),
        "",
        f"# runs {runs[0].path.name} to {runs[-1].path.name} of {_one_line(log_dir)}",
        f'mlxp_id=$(sed -n "${{{scheduler.array_index}}}p" {shlex.quote(str(manifest))}) || exit',
        f'mlxp_run={shlex.quote(str(log_dir))}/"$mlxp_id"',
        " ".join(["exec", template.interpreter, '"$mlxp_run/script.sh"', *redirects]),
    )


def render_manifest(runs: Sequence[RunDir]) -> str:
    """One id a line, in the order of the indices."""
    return _lines(*(run.path.name for run in runs))


def legal_name(name: str) -> str:
    """A job name that every scheduler takes: letters, digits and ``_ . -``, a letter first."""
    clean = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.")
    return clean if clean[:1].isalpha() else f"j{clean}"


def _directives(
    template: Template, scheduler: Scheduler, options: Iterable[Option], values: Mapping[str, str]
) -> list[str]:
    """The pack's own directives, those that the user has not, then the user's."""
    own = [option for option in options if not _has(template, scheduler, option)]
    return [f"{scheduler.directive} {option.text.format(values.get(option.sets))}" for option in own] + list(
        template.header
    )


def _has(template: Template, scheduler: Scheduler, option: Option) -> bool:
    text = "\n".join(line[len(scheduler.directive) :] for line in template.header)
    return has_option(text, option.yields_to)


def _one_line(path: Path) -> str:
    return str(path).replace("\n", "?")


def _lines(*lines: str) -> str:
    return "\n".join((*lines, ""))

"""Directives of a job script: those that the user's header has, and those that the pack adds."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Mapping, Sequence

from mlxp_core.errors import ConfigurationError
from mlxp_core.jobs.shell_words import shebang_shell
from mlxp_core.scheduler.base import Option, Scheduler, has_option


def check_array(header: Sequence[str], scheduler: Scheduler) -> None:
    """Raise ConfigurationError where the user's header has an array of its own."""
    array = scheduler.array
    if array is None or not _has(header, scheduler, array):
        return
    # where the same option gives the name, it is the brackets that make an array
    if not scheduler.array_on_command_line or "[" in (_own_name(scheduler, header) or ""):
        raise ConfigurationError(
            f"the header sets {' or '.join(array.yields_to)} itself, which is how the launcher submits a batch. "
            "Take that line out (hydra.launcher.max_parallel limits how many run at once): each of its tasks would be "
            "the same run."
        )


def array_arguments(
    scheduler: Scheduler, name: str, header: Sequence[str], count: int, throttle: int | None
) -> tuple[str, ...]:
    """Arguments of the submit command that make an array, for a scheduler whose header cannot."""
    if not scheduler.array_on_command_line:
        return ()
    return tuple(shlex.split(array_directive(scheduler, _own_name(scheduler, header) or name, count, throttle)))


def shell_path(shebang: str) -> str:
    """The path of the shell of a script's first line, for a scheduler that does not read it."""
    shell = shebang_shell(shebang)
    return shell if "/" in shell else shutil.which(shell) or f"/bin/{shell}"


def requeue_command(header: Sequence[str], scheduler: Scheduler) -> str:
    """The shell command that has a preempted job started again; "" where the user's header does not ask for that."""
    asked = scheduler.requeue_directive
    return scheduler.requeue if asked is not None and asked.search(_options_of(header, scheduler)) else ""


def output_redirects(header: Sequence[str], scheduler: Scheduler) -> str:
    """Redirections of a job's output: into its run, but for what the user's own directives send elsewhere."""
    has = {option.sets: _has(header, scheduler, option) for option in scheduler.options}
    out = "" if has.get("stdout") else ' >>"$1/log.stdout"'
    if scheduler.joins_streams is not None and scheduler.joins_streams.search(_options_of(header, scheduler)):
        return f"{out} 2>&1"
    return out if has.get("stderr") else f'{out} 2>>"$1/log.stderr"'


def redirecting_directives(header: Sequence[str], scheduler: Scheduler) -> list[str]:
    """The user's directives that send a job's output elsewhere than into its run folder."""
    options = [option for option in scheduler.options if option.sets in {"stdout", "stderr"}]
    return [line for line in header if any(_has([line], scheduler, option) for option in options)]


def is_identifiable(header: Sequence[str], scheduler: Scheduler) -> bool:
    """Tell whether a submission can be found again in the queue: by its script, or by a name that is ours."""
    told_by = [option for option in scheduler.options if "{name}" in option.text][-1]
    return scheduler.reports_script or not _has(header, scheduler, told_by)


def array_directive(scheduler: Scheduler, name: str, count: int, throttle: int | None) -> str:
    """The option that makes an array of ``count`` tasks. Raises ConfigurationError where there are no arrays."""
    if scheduler.array is None:
        raise ConfigurationError(f"{scheduler.name} has no arrays: use hydra.launcher.array=false")
    limit = "" if throttle is None or scheduler.throttle is None else scheduler.throttle.format(throttle)
    return scheduler.array.text.format(name=name, count=count, throttle=limit)


def sanitize_job_name(name: str) -> str:
    """A job name that every scheduler takes: letters, digits and ``_ . -``, a letter first."""
    clean = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.")
    return clean if clean[:1].isalpha() else f"j{clean}"


def added_directives(header: Sequence[str], scheduler: Scheduler, values: Mapping[str, str]) -> list[str]:
    """The pack's own directives, those that the user has not."""
    added = [option for option in scheduler.options if not _has(header, scheduler, option)]
    return [f"{scheduler.directive_like(header)} {option.text.format(**values)}" for option in added]


def _has(header: Sequence[str], scheduler: Scheduler, option: Option) -> bool:
    return has_option(_options_of(header, scheduler), option.yields_to, attached=scheduler.attached_values)


def _own_name(scheduler: Scheduler, header: Sequence[str]) -> str | None:
    """The name that the user's header gives the job."""
    (spellings,) = (option.yields_to for option in scheduler.options if option.sets == "name")
    for spelling in spellings:
        match = re.search(rf"""(?:^|\s){re.escape(spelling)}[=\s]+("[^"]*"|\S+)""", _options_of(header, scheduler))
        if match:
            return match[1].strip('"')
    return None


def _options_of(header: Sequence[str], scheduler: Scheduler) -> str:
    """Directive lines without what they start with."""
    prefixes = scheduler.directives
    cut = [next((len(prefix) for prefix in prefixes if line.startswith(prefix)), 0) for line in header]
    return "\n".join(line[number:] for line, number in zip(header, cut, strict=True))

"""Render the script that is submitted: one job or an array, one run a task or several side by side."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlxp_core.jobs.directives import added_directives, array_directive, output_redirects, requeue_command, shell_path
from mlxp_core.jobs.shell_words import in_one_line, load_shell, script_text
from mlxp_core.runs.layout import RunDir
from mlxp_core.scheduler.base import Scheduler


@dataclass(frozen=True)
class ArraySpec:
    """A submission in one piece: one job, or an array of them, each for one run or for several side by side."""

    tasks: Sequence[Sequence[RunDir]]
    name: str
    shebang: str
    header: tuple[str, ...]  # the user's directives
    folder: Path  # its manifest, and what the scheduler itself has to say
    throttle: int | None


def render_submission(submission: ArraySpec, scheduler: Scheduler) -> str:
    """The script that is submitted: it finds its runs in the manifest, by its index, and becomes their script."""
    runs = [run for task in submission.tasks for run in task]
    size = max(map(len, submission.tasks))
    is_array = len(submission.tasks) > 1
    redirects = output_redirects(submission.header, scheduler)
    settings = [
        f"mlxp_manifest={shlex.quote(str(submission.folder / 'manifest'))}",
        f"mlxp_first={f'$(({scheduler.array_index} * {size} - {size - 1}))' if is_array else '1'}",
        "mlxp_become() {",
        f'  exec {submission.shebang[2:].strip()} "$1/script.sh"{redirects}',
        "}",
    ]
    if size > 1:
        requeue = requeue_command(submission.header, scheduler)
        settings += [f"mlxp_size={size}", f"mlxp_requeue={shlex.quote(requeue)}"]
    return script_text(
        submission.shebang,
        *_header(submission, scheduler),
        "",
        f"# runs {runs[0].path.name} to {runs[-1].path.name} of {in_one_line(runs[0].path.parent)}",
        *settings,
        "",
        *load_shell("start_run"),
        "",
        *load_shell("packed_task" if size > 1 else "single_task"),
    )


def _header(submission: ArraySpec, scheduler: Scheduler) -> list[str]:
    count = len(submission.tasks)
    pattern = f"{scheduler.index_pattern if count > 1 else 'job'}.out"
    output = scheduler.quote_path(f"{submission.folder}/", pattern) or "/dev/null"
    values = {
        "name": submission.name,
        "shell": shell_path(submission.shebang),
        "stdout": output,
        "stderr": output,
    }
    lines = added_directives(submission.header, scheduler, values)
    if count > 1 and not scheduler.array_on_command_line:
        directive = array_directive(scheduler, submission.name, count, submission.throttle)
        lines.append(f"{scheduler.directive_like(submission.header)} {directive}")
    return [*lines, *submission.header]


def render_manifest(tasks: Sequence[Sequence[RunDir]]) -> str:
    """One run a line, in the order of the indices; those of a packed job follow one another."""
    return script_text(*(str(run.path) for task in tasks for run in task))

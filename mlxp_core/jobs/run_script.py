"""Render ``script.sh``, the job script of one run. Plain values in, text out."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from mlxp_core.jobs.directives import added_directives, requeue_command, shell_path
from mlxp_core.jobs.shell_words import in_one_line, load_shell, script_text
from mlxp_core.jobs.template import Template
from mlxp_core.runs.layout import RunDir
from mlxp_core.scheduler.base import Scheduler
from mlxp_core.versioning.work_folder import WorkFolderTemplate


@dataclass(frozen=True)
class RunScriptSpec:
    """One job: what its script runs, where and with what."""

    run: RunDir
    name: str
    command: tuple[str, ...]
    work_dir: str
    environment: Mapping[str, str]  # variables that the script sets
    work_folder: WorkFolderTemplate | None = None  # of the run's own; None: the job starts where others do


# Around the job's lines, which stand first, for people to read: in a loop what runs later can. In a function `declare`
# and `return` would mean something else.
_BEFORE_JOB = (
    'for mlxp_turn in watch job; do if [ "$mlxp_turn" = job ]; then (mlxp_outlive; (mlxp_begin',
    "",
)
_AFTER_JOB = (
    "",
    "# ---- from here on, what hydra-mlxp adds: it counts attempts, hands on signals and keeps the exit code ----",
    "); mlxp_note) <&7 7<&- & else",
)

_WORD = r"""(?:'[^']*'|"(?:\\.|[^"\\])*"|\\.|[^\s'"\\])"""
_TRAP = re.compile(r"\btrap\b")
# variables, then the command; a substitution may hold spaces, which this does not understand
_PREFIX = re.compile(rf"(?P<variables>(?:[A-Za-z_]\w*\+?={_WORD}*\s+)*)(?P<word>{_WORD}+)?", re.DOTALL)


def render_job(job: RunScriptSpec, template: Template, scheduler: Scheduler) -> str:
    """``script.sh`` of one run: header, set-up, the program; its exit code is kept, however it ends."""
    return script_text(
        template.shebang,
        *_header(job, template, scheduler),
        "",
        f"# run {job.run.path.name} of {in_one_line(job.run.path.parent)}; `bash script.sh` runs it again",
        f"mlxp_metadata={shlex.quote(str(job.run.metadata))} mlxp_job_id=${{{scheduler.job_variable}:-}}",
        *_work_folder(job),
        *load_shell("start"),
        *_BEFORE_JOB,
        *_job_lines(job, template),
        *_AFTER_JOB,
        f"mlxp_requeue={shlex.quote(requeue_command(template.header, scheduler))}",
        *load_shell("attempt"),
        "",
        *load_shell("signals"),
        *(["", *load_shell("work_folder")] if job.work_folder else []),
        "fi; done",
        *load_shell("wait"),
        *(["(mlxp_tidy)"] if job.work_folder else []),
        "",
        *load_shell("outcome"),
    )


def _work_folder(job: RunScriptSpec) -> list[str]:
    """Variables of work_folder.sh;."""
    if job.work_folder is None:
        return []
    places = {"work": job.run.work, "copy": job.work_folder.copy, "template": job.work_folder.path}
    return [" ".join(f"mlxp_{name}={shlex.quote(str(path))}" for name, path in places.items())]


def _header(job: RunScriptSpec, template: Template, scheduler: Scheduler) -> list[str]:
    values = {
        "name": job.name[: scheduler.name_limit],
        "shell": shell_path(template.shebang),
        "stdout": scheduler.quote_path(str(job.run.stdout), "") or "/dev/null",
        "stderr": scheduler.quote_path(str(job.run.stderr), "") or "/dev/null",
    }
    return [*added_directives(template.header, scheduler, values), *template.header]


def _job_lines(job: RunScriptSpec, template: Template) -> list[str]:
    """The lines that the job is: set-up, its variables and directory, the program.

    Alone the program takes the place of its shell; where lines or a trap come after it, of one more.
    """
    stays = bool(template.after) or any(map(_TRAP.search, template.setup))
    lines = [
        *template.setup,
        *(f"export {name}={shlex.quote(value)}" for name, value in job.environment.items()),
        *(["mlxp_cwd=$PWD"] if stays else []),
        *([shlex.join(["mlxp_fill", *job.work_folder.empty_folders]) + " || exit"] if job.work_folder else []),
        f"cd {shlex.quote(job.work_dir)} || exit",
    ]
    command = shlex.join(job.command)
    if not template.prefix and not stays:
        return [*lines, f"exec {command}"]
    lines += ["mlxp_yield; (mlxp_receive", *_start(template.prefix, command), ")"]
    if stays:
        lines += [
            'mlxp_return "$mlxp_cwd" && :  # $? is the exit code of the program',
            *template.after,
            'exit "$mlxp_code"',
        ]
    return lines


def _start(prefix: str, command: str) -> list[str]:
    """The program's line: it replaces its shell, but behind a function or a word of the shell, which cannot."""
    words = _PREFIX.match(prefix)
    if words is None or "`" in prefix or "$(" in prefix:
        return ["mlxp_outlive", f"{prefix}{command}"]
    variables, word = words["variables"], words["word"]
    if word is None:
        return [f"{variables}exec {command}"]
    return [
        f"case $(command -v {word}) in",
        f"  /*) {variables}exec {prefix[words.start('word') :]}{command} ;;",
        f"  *) mlxp_outlive; {prefix}{command} ;;",
        "esac",
    ]

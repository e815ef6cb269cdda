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


# Around the program. A shell that waits for one in the foreground gets to its traps only when that has ended; so the
# program runs in the background, and signals are passed on to it at once. In bash and in dash.
_FUNCTIONS = """\
mlxp_pass() {  # hand a signal on; one that comes before there is a child waits for it
  mlxp_passed=1
  if [ -n "$mlxp_child" ]; then kill -s "$1" "$mlxp_child" 2>/dev/null || :; else mlxp_early="$mlxp_early $1"; fi
}
mlxp_listen() {
  mlxp_child= mlxp_early= mlxp_code= mlxp_passed=
  for mlxp_signal in HUP TERM USR1 USR2; do trap "mlxp_pass $mlxp_signal" "$mlxp_signal"; done
}
mlxp_await() {  # until the child has ended: a signal interrupts `wait`
  mlxp_child=$!
  for mlxp_signal in $mlxp_early; do kill -s "$mlxp_signal" "$mlxp_child" 2>/dev/null || :; done
  while :; do
    mlxp_passed= mlxp_now=0
    wait "$mlxp_child" || mlxp_now=$?
    # dash says 127 of a child whose end it has told already
    if [ "$mlxp_now" != 127 ] || [ -z "$mlxp_code" ]; then mlxp_code=$mlxp_now; fi
    if [ -z "$mlxp_passed" ]; then break; fi
  done
  mlxp_child=
  return "$mlxp_code"
}""".splitlines()

# Ctrl-C reaches every process of a terminal's job, and the program itself where bash is told to let it: a second SIGINT
# would break into what it does at the first. A child in the background of dash ignores SIGINT for good.
_RESTORE_INTERRUPT = 'if [ -n "${BASH_VERSION:-}" ]; then trap - INT; fi'
_LEAVE_INTERRUPT = "if [ -n \"${BASH_VERSION:-}\" ]; then trap mlxp_passed=1 INT; else trap 'mlxp_pass TERM' INT; fi"
_PREEMPTED = 75  # EX_TEMPFAIL of sysexits.h: jobs that depend on this one's success do not start
_AGAIN = 99  # to the script that has packed several runs into one job


def render_job(job: Job, template: Template, scheduler: Scheduler) -> str:
    """``script.sh`` of one run: header, set-up, the program; its exit code is kept, however it ends."""
    values = {
        "name": job.name,
        "stdout": scheduler.quote_path(str(job.run.stdout), ""),
        "stderr": scheduler.quote_path(str(job.run.stderr), ""),
    }
    job_id = f" ${{{scheduler.job_variable}:-}}" if scheduler.job_variable else ""
    return _lines(
        template.shebang,
        *_directives(template, scheduler, scheduler.options, values),
        "",
        f"# run {job.run.path.name} of {_one_line(job.run.path.parent)}; `bash script.sh` runs it again",
        f"mlxp_metadata={shlex.quote(str(job.run.metadata))}",
        'rm -f "$mlxp_metadata/exit_code"',
        "# the attempts of the run, those too that end before their program is up",
        f'mlxp_start="$(date +%Y-%m-%dT%H:%M:%S%z) $(uname -n) $${job_id}"',
        'echo "$mlxp_start" >>"$mlxp_metadata/starts" || :',
        'MLXP_ATTEMPT=$(grep -nxF -e "$mlxp_start" "$mlxp_metadata/starts" | tail -n 1) || :',
        "export MLXP_ATTEMPT=${MLXP_ATTEMPT%%:*}",
        "",
        *_FUNCTIONS,
        "mlxp_listen",
        _LEAVE_INTERRUPT,
        "# dash takes stdin away from what runs in the background",
        "if (: <&0) 2>/dev/null; then exec 7<&0; else exec 7</dev/null; fi",
        "(",
        *template.setup,
        *(f"export {name}={shlex.quote(value)}" for name, value in job.environment.items()),
        f"cd {shlex.quote(job.work_dir)} || exit",
        *_program(job, template),
        ") <&7 &",
        "mlxp_await || :",
        "",
        *_requeue(template, scheduler),
        'echo "$mlxp_code $MLXP_ATTEMPT" >"$mlxp_metadata/.exit_code"',
        'mv -f "$mlxp_metadata/.exit_code" "$mlxp_metadata/exit_code"',
        'exit "${mlxp_left:-$mlxp_code}"',
    )


def _program(job: Job, template: Template) -> list[str]:
    """The program's lines. Alone it takes the place of its shell; otherwise that waits for it as script.sh does."""
    command = f"{template.prefix}{shlex.join(job.command)}"
    if not template.prefix and not template.after:
        return [_RESTORE_INTERRUPT, f"exec {command} 7<&-"]
    if template.prefix:  # the child is srun, say, and in bash, too, it ignores Ctrl-C
        lines = ["mlxp_listen", "trap 'mlxp_pass TERM' INT", f"{command} <&7 7<&- &", "mlxp_await"]
    else:
        start = f"({_RESTORE_INTERRUPT}; exec {command}) <&7 7<&- &"
        lines = ["mlxp_listen", _LEAVE_INTERRUPT, start, "mlxp_await"]
    return [*lines, *template.after, 'exit "$mlxp_code"'] if template.after else lines


def _requeue(template: Template, scheduler: Scheduler) -> list[str]:
    """What comes after a run that was preempted: its next attempt, where the user's header asks for that."""
    says = 'grep -qsx -e "{}" "$mlxp_metadata/info.yaml"'
    lines = [
        f"if {says.format('status: PREEMPTED')} && {says.format('attempt: $MLXP_ATTEMPT')}; then",
        f"  mlxp_left={_PREEMPTED}",
    ]
    directives = "\n".join(line[len(scheduler.directive) :] for line in template.header)
    if scheduler.requeue_asked is not None and scheduler.requeue_asked.search(directives):
        lines += [
            "  # after a warning; at SIGTERM the scheduler itself ends the job, or starts it again",
            f"  if {says.format('stop_signal: SIGUSR[12]')}; then",
            f'    if [ -n "${{MLXP_PACKED:-}}" ]; then exit {_AGAIN}; fi',
            f"    {{ {scheduler.requeue}; }} && exit {_PREEMPTED}",
            '    echo "mlxp: this job could not be requeued" >&2',
            "  fi",
        ]
    return [*lines, "fi"]


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

"""Writes job scripts: ``script.sh`` of a run, and an array's script. Plain values in, text out."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from mlxp_core.jobs.directives import EXIT_PREEMPTED, added_directives, requests_requeue, shell_path
from mlxp_core.jobs.shell_words import in_one_line, script_text
from mlxp_core.jobs.template import Template
from mlxp_core.runs.layout import RunDir
from mlxp_core.scheduler.base import Scheduler


@dataclass(frozen=True)
class RunScriptSpec:
    """One job: what its script runs, where and with what."""

    run: RunDir
    name: str
    command: tuple[str, ...]
    work_dir: str
    environment: Mapping[str, str]  # variables that the script sets


# How script.sh hands signals on, in bash and in dash. A shell that waits for a program in the foreground gets to its
# traps only when that has ended; one that waits in the background loses the exit code of a child that ends by the same
# signal (bash 5.2 then says -1). So there are two: this one listens, one in its background waits and notes the code.
_LISTEN = """\
mlxp_job= mlxp_early= mlxp_code=
mlxp_pass() {
  if [ -z "$mlxp_job" ]; then mlxp_early="$mlxp_early $1"; return; fi
  while [ ! -s "$mlxp_end" ] && kill -0 "$mlxp_job" 2>/dev/null; do
    mlxp_to= mlxp_still=
    { read -r mlxp_to <"$mlxp_pid"; } 2>/dev/null
    case $mlxp_to in
      -) return ;;  # the program has ended
      "") sleep 0.05 ;;
      *)
        kill -s "$1" "$mlxp_to" 2>/dev/null
        { read -r mlxp_still <"$mlxp_pid"; } 2>/dev/null
        if [ "$mlxp_still" = "$mlxp_to" ]; then return; fi
        ;;
    esac
  done
}
for mlxp_signal in HUP TERM USR1 USR2; do trap "mlxp_pass $mlxp_signal" "$mlxp_signal"; done
# Ctrl-C reaches all processes, in bash the program itself; in dash what runs in the background cannot have it
if [ -n "${BASH_VERSION:-}" ]; then trap : INT; else trap 'mlxp_pass TERM' INT; fi
# dash takes stdin away from what runs in the background
{ command exec 7<&0; } 2>/dev/null || exec 7</dev/null""".splitlines()

_WAIT = """\
mlxp_job=$!
for mlxp_signal in $mlxp_early; do mlxp_pass "$mlxp_signal"; done
while [ ! -s "$mlxp_end" ] && kill -0 "$mlxp_job" 2>/dev/null; do wait "$mlxp_job"; mlxp_code=$?; done
if [ -s "$mlxp_end" ]; then read -r mlxp_code mlxp_rest <"$mlxp_end"; fi
rm -f "$mlxp_end" "$mlxp_pid\"""".splitlines()

_OUTLIVE = "trap : HUP INT TERM USR1 USR2"
_BE_SIGNALLED = (
    'if [ -n "${BASH_VERSION:-}" ]; then trap - INT; fi',
    "sh -c 'echo $PPID' >\"$mlxp_pid\"",
)
_AGAIN = 99  # to the script that has packed several runs into one job

_WORD = r"""(?:'[^']*'|"(?:\\.|[^"\\])*"|\\.|[^\s'"\\])"""
_TRAP = re.compile(r"\btrap\b")
# variables, then the command; a substitution may hold spaces, which this does not understand
_PREFIX = re.compile(rf"(?P<variables>(?:[A-Za-z_]\w*\+?={_WORD}*\s+)*)(?P<word>{_WORD}+)?", re.DOTALL)


def render_job(job: RunScriptSpec, template: Template, scheduler: Scheduler) -> str:
    """``script.sh`` of one run: header, set-up, the program; its exit code is kept, however it ends."""
    values = {
        "name": job.name[: scheduler.name_limit],
        "shell": shell_path(template.shebang),
        "stdout": scheduler.quote_path(str(job.run.stdout), "") or "/dev/null",
        "stderr": scheduler.quote_path(str(job.run.stderr), "") or "/dev/null",
    }
    job_id = f" ${{{scheduler.job_variable}:-}}" if scheduler.job_variable else ""
    return script_text(
        template.shebang,
        *added_directives(template.header, scheduler, values),
        *template.header,
        "",
        f"# run {job.run.path.name} of {in_one_line(job.run.path.parent)}; `bash script.sh` runs it again",
        "mlxp_options=$-",
        "set +e",
        f"mlxp_metadata={shlex.quote(str(job.run.metadata))}",
        'rm -f "$mlxp_metadata/exit_code"',
        "# the attempts of the run, those too that end before their program is up",
        f'mlxp_start="$(date +%Y-%m-%dT%H:%M:%S%z) $(uname -n) $${job_id}"',
        'echo "$mlxp_start" >>"$mlxp_metadata/starts"',
        'MLXP_ATTEMPT=$(grep -nxF -e "$mlxp_start" "$mlxp_metadata/starts" | tail -n 1)',
        "export MLXP_ATTEMPT=${MLXP_ATTEMPT%%:*}",
        'mlxp_pid="$mlxp_metadata/.pid.$MLXP_ATTEMPT.$$" mlxp_end="$mlxp_metadata/.end.$MLXP_ATTEMPT.$$"',
        "",
        *_LISTEN,
        "(",
        _OUTLIVE,
        "(",
        *_BE_SIGNALLED,
        "case $mlxp_options in *e*) set -e ;; esac",
        *template.setup,
        *(f"export {name}={shlex.quote(value)}" for name, value in job.environment.items()),
        "mlxp_cwd=$PWD",
        f"cd {shlex.quote(job.work_dir)} || exit",
        *_program(job, template),
        ")",
        'echo "$? $MLXP_ATTEMPT" >"$mlxp_end"',
        ") <&7 7<&- &",
        *_WAIT,
        "",
        *_after_preemption(template, scheduler),
        'echo "$mlxp_code $MLXP_ATTEMPT" >"$mlxp_metadata/.exit_code"',
        'mv -f "$mlxp_metadata/.exit_code" "$mlxp_metadata/exit_code"',
        'exit "${mlxp_left:-$mlxp_code}"',
    )


def _program(job: RunScriptSpec, template: Template) -> list[str]:
    """The program's lines. Alone it takes the place of its shell; where lines or a trap come after it, of one more."""
    command = shlex.join(job.command)
    stays = bool(template.after) or any(map(_TRAP.search, template.setup))
    if not template.prefix and not stays:
        return [f"exec {command}"]
    found = _PREFIX.match(template.prefix)
    if found is None or "`" in template.prefix or "$(" in template.prefix:
        start = [_OUTLIVE, f"{template.prefix}{command}"]
    elif found["word"] is None:
        start = [f"{found['variables']}exec {command}"]
    else:  # srun, say; a function or a word of the shell cannot take its place
        start = [
            f"case $(command -v {found['word']}) in",
            f"  /*) {found['variables']}exec {template.prefix[found.start('word') :]}{command} ;;",
            f"  *) {_OUTLIVE}; {template.prefix}{command} ;;",
            "esac",
        ]
    lines = [
        ': >"$mlxp_pid"  # until the program is there',
        _OUTLIVE,
        "(",
        *_BE_SIGNALLED,
        *start,
        ")",
    ]
    if stays:
        # to where the lines before the program were: it runs in a copy of the code
        lines += ["mlxp_code=$?", 'echo - >"$mlxp_pid"', 'cd "$mlxp_cwd" || :']
        if template.after:
            lines += [
                '(exit "$mlxp_code") && :  # $? is that of the program; it has been a failure already',
                *template.after,
            ]
        lines += ['exit "$mlxp_code"']
    return lines


def _after_preemption(template: Template, scheduler: Scheduler) -> list[str]:
    """What comes after a run that was preempted: its next attempt, where the user's header asks for that."""
    says = 'grep -qsx -e "{}" "$mlxp_metadata/info.yaml"'
    lines = [
        f"if {says.format('status: PREEMPTED')} && {says.format('attempt: $MLXP_ATTEMPT')}; then",
        f"  mlxp_left={EXIT_PREEMPTED}",
    ]
    if requests_requeue(template.header, scheduler):
        lines += [
            "  # after a warning; at SIGTERM the scheduler itself ends the job, or starts it again",
            f"  if {says.format('stop_signal: SIGUSR[12]')}; then",
            f'    if [ -n "${{MLXP_PACKED:-}}" ]; then exit {_AGAIN}; fi',
            f"    {{ {scheduler.requeue}; }} && exit {EXIT_PREEMPTED}",
            '    echo "mlxp: this job could not be requeued" >&2',
            "  fi",
        ]
    return [*lines, "fi"]

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
_PREEMPTED = 75  # EX_TEMPFAIL of sysexits.h: jobs that depend on this one's success do not start
_AGAIN = 99  # to the script that has packed several runs into one job

_WORD = r"""(?:'[^']*'|"(?:\\.|[^"\\])*"|\\.|[^\s'"\\])"""
# variables, then the command; a substitution may hold spaces, which this does not understand
_PREFIX = re.compile(rf"(?P<variables>(?:[A-Za-z_]\w*\+?={_WORD}*\s+)*)(?P<word>{_WORD}+)?", re.DOTALL)


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
        f"cd {shlex.quote(job.work_dir)} || exit",
        *_program(job, template),
        ")",
        'echo "$? $MLXP_ATTEMPT" >"$mlxp_end"',
        ") <&7 7<&- &",
        *_WAIT,
        "",
        *_requeue(template, scheduler),
        'echo "$mlxp_code $MLXP_ATTEMPT" >"$mlxp_metadata/.exit_code"',
        'mv -f "$mlxp_metadata/.exit_code" "$mlxp_metadata/exit_code"',
        'exit "${mlxp_left:-$mlxp_code}"',
    )


def _program(job: Job, template: Template) -> list[str]:
    """The program's lines. Alone it takes the place of its shell; with lines after it, of one more."""
    command = shlex.join(job.command)
    if not template.prefix and not template.after:
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
    if template.after:
        lines += ["mlxp_code=$?", 'echo - >"$mlxp_pid"', *template.after, 'exit "$mlxp_code"']
    return lines


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

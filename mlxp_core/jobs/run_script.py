"""Writes job scripts: ``script.sh`` of a run, and an array's script. Plain values in, text out."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlxp_core.errors import ConfigurationError
from mlxp_core.jobs.template import Template
from mlxp_core.runs.layout import RunDir
from mlxp_core.scheduler.base import Option, Scheduler, has_option


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
_TRAP = re.compile(r"\btrap\b")
# variables, then the command; a substitution may hold spaces, which this does not understand
_PREFIX = re.compile(rf"(?P<variables>(?:[A-Za-z_]\w*\+?={_WORD}*\s+)*)(?P<word>{_WORD}+)?", re.DOTALL)


def render_job(job: Job, template: Template, scheduler: Scheduler) -> str:
    """``script.sh`` of one run: header, set-up, the program; its exit code is kept, however it ends."""
    values = {
        "name": job.name[: scheduler.name_limit],
        "shell": _shell_path(template.shebang),
        "stdout": scheduler.quote_path(str(job.run.stdout), "") or "/dev/null",
        "stderr": scheduler.quote_path(str(job.run.stderr), "") or "/dev/null",
    }
    job_id = f" ${{{scheduler.job_variable}:-}}" if scheduler.job_variable else ""
    return _lines(
        template.shebang,
        *_directives(template.header, scheduler, values),
        *template.header,
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


def _program(job: Job, template: Template) -> list[str]:
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
        f"  mlxp_left={_PREEMPTED}",
    ]
    if _asks_for_another_start(template.header, scheduler):
        lines += [
            "  # after a warning; at SIGTERM the scheduler itself ends the job, or starts it again",
            f"  if {says.format('stop_signal: SIGUSR[12]')}; then",
            f'    if [ -n "${{MLXP_PACKED:-}}" ]; then exit {_AGAIN}; fi',
            f"    {{ {scheduler.requeue}; }} && exit {_PREEMPTED}",
            '    echo "mlxp: this job could not be requeued" >&2',
            "  fi",
        ]
    return [*lines, "fi"]


@dataclass(frozen=True)
class Submission:
    """What is submitted in one piece: one job, or an array of them, each for one run or for several side by side."""

    tasks: Sequence[Sequence[RunDir]]
    name: str
    shebang: str
    header: tuple[str, ...]  # the user's directives
    folder: Path  # its manifest, and what the scheduler itself has to say
    throttle: int | None


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


def array_words(
    scheduler: Scheduler, name: str, header: Sequence[str], count: int, throttle: int | None
) -> tuple[str, ...]:
    """Arguments of the submit command that make an array, for a scheduler whose header cannot."""
    if not scheduler.array_on_command_line:
        return ()
    return tuple(shlex.split(_array_text(scheduler, _own_name(scheduler, header) or name, count, throttle)))


def render_submission(submission: Submission, scheduler: Scheduler) -> str:
    """The script that is submitted: it finds its runs in the manifest, by its index, and becomes their script.

    A run whose script has started before keeps what that attempt printed, beside its metadata.
    """
    count = len(submission.tasks)
    pattern = f"{scheduler.index_pattern if count > 1 else 'job'}.out"
    output = scheduler.quote_path(f"{submission.folder}/", pattern)
    values = {
        "name": submission.name,
        "shell": _shell_path(submission.shebang),
        "stdout": output or "/dev/null",
        "stderr": output or "/dev/null",
    }
    header = submission.header
    lines = _directives(header, scheduler, values)
    if count > 1 and not scheduler.array_on_command_line:
        lines.append(f"{scheduler.directive} {_array_text(scheduler, submission.name, count, submission.throttle)}")
    runs = [run for task in submission.tasks for run in task]
    size = max(map(len, submission.tasks))
    first = f"$(({scheduler.array_index} * {size} - {size - 1}))" if count > 1 else "1"
    packed = size > 1
    return _lines(
        submission.shebang,
        *lines,
        *header,
        "",
        f"# runs {runs[0].path.name} to {runs[-1].path.name} of {_one_line(runs[0].path.parent)}",
        "mlxp_start() { # mlxp_start RUN: become its script",
        '  if [ -s "$1/metadata/starts" ]; then',
        '    mlxp_earlier=$1/metadata/attempts/$(($(wc -l <"$1/metadata/starts")))',
        '    mkdir -p "$mlxp_earlier"',
        "    for mlxp_log in log.stdout log.stderr; do",
        '      [ ! -e "$1/$mlxp_log" ] || mv "$1/$mlxp_log" "$mlxp_earlier/$mlxp_log"',
        "    done",
        "  fi",
        f'  exec {submission.shebang[2:].strip()} "$1/script.sh"{_redirects(header, scheduler)}',
        "}",
        f"mlxp_first={first}",
        *(_SIDE_BY_SIDE if packed else _ALONE)
        .format(
            manifest=shlex.quote(str(submission.folder / "manifest")),
            more=size - 1,
            requeue=_requeue(header, scheduler),
        )
        .splitlines(),
    )


_ALONE = """\
mlxp_run=$(sed -n "${{mlxp_first}}p" {manifest})
[ -n "$mlxp_run" ] || exit
mlxp_start "$mlxp_run"
"""

# A run that was complete before its job was started again is not run again. One that was asked to stop, and left in an
# orderly way, has an exit code of 0 as well.
_SIDE_BY_SIDE = """\
set +e  # of a first line such as `#!/bin/bash -e`: one run that fails is not to end the others
mlxp_signal() {{
  mlxp_signalled=yes
  for mlxp_child in $mlxp_children; do kill -s "$1" "$mlxp_child" 2>/dev/null; done
}}
trap 'mlxp_signal TERM' TERM
trap 'mlxp_signal USR1' USR1
trap 'mlxp_signal USR2' USR2
export MLXP_PACKED=1
mlxp_children=
while IFS= read -r mlxp_run <&3; do
  case $(cat "$mlxp_run/metadata/exit_code" 2>/dev/null) in
    "0 "*) grep -qsx 'status: PREEMPTED' "$mlxp_run/metadata/info.yaml" || continue ;;
  esac
  mlxp_start "$mlxp_run" </dev/null 3<&- &
  mlxp_children="$mlxp_children $!"
done 3<<mlxp_end
$(sed -n "${{mlxp_first}},$((mlxp_first + {more}))p" {manifest})
mlxp_end
mlxp_code=0
for mlxp_child in $mlxp_children; do
  mlxp_one=
  while :; do # a signal ends the wait, and not the child; what is asked for once more may be known no longer (127)
    mlxp_signalled=
    wait "$mlxp_child"
    mlxp_now=$?
    [ "$mlxp_now" = 127 ] && [ -n "$mlxp_one" ] || mlxp_one=$mlxp_now
    [ -n "$mlxp_signalled" ] || break
  done
  [ "$mlxp_one" = 0 ] || [ "$mlxp_code" = 99 ] || mlxp_code=$mlxp_one
done
[ "$mlxp_code" != 99 ] || {{
  {requeue}
}}
exit "$mlxp_code"
"""


def _shell_path(shebang: str) -> str:
    """The shell of a script's first line, for a scheduler that does not read it: ``/usr/bin/env bash`` too."""
    shell, *more = shebang[2:].split()
    if shell.rpartition("/")[2] != "env":
        return shell
    return shutil.which(more[-1]) or f"/bin/{more[-1]}"


def _requeue(header: Sequence[str], scheduler: Scheduler) -> str:
    again = _asks_for_another_start(header, scheduler)
    return f"{scheduler.requeue} && exit {_PREEMPTED}" if again else f"exit {_PREEMPTED}"


def _asks_for_another_start(header: Sequence[str], scheduler: Scheduler) -> bool:
    asked = scheduler.requeue_asked
    return asked is not None and asked.search(_options_of(header, scheduler)) is not None


def _redirects(header: Sequence[str], scheduler: Scheduler) -> str:
    """Where a job's output goes: into its run, but for what the user's own directives send elsewhere."""
    has = {option.sets: _has(header, scheduler, option) for option in scheduler.options}
    out = "" if has.get("stdout") else ' >>"$1/log.stdout"'
    if scheduler.joins is not None and scheduler.joins.search(_options_of(header, scheduler)):
        return f"{out} 2>&1"
    return out if has.get("stderr") else f'{out} 2>>"$1/log.stderr"'


def own_output(header: Sequence[str], scheduler: Scheduler) -> list[str]:
    """The user's directives that send a job's output elsewhere than into its run folder."""
    options = [option for option in scheduler.options if option.sets in {"stdout", "stderr"}]
    return [line for line in header if any(_has([line], scheduler, option) for option in options)]


def can_be_found(header: Sequence[str], scheduler: Scheduler) -> bool:
    """Whether a submission can be found again in the queue: by its script, or by a name that the user has not set."""
    told_by = [option for option in scheduler.options if "{name}" in option.text][-1]
    return scheduler.shows_script or not _has(header, scheduler, told_by)


def _array_text(scheduler: Scheduler, name: str, count: int, throttle: int | None) -> str:
    if scheduler.array is None:
        raise ConfigurationError(f"{scheduler.name} has no arrays: use hydra.launcher.array=false")
    limit = "" if throttle is None or scheduler.throttle is None else scheduler.throttle.format(throttle)
    return scheduler.array.text.format(name=name, count=count, throttle=limit)


def render_manifest(tasks: Sequence[Sequence[RunDir]]) -> str:
    """One run a line, in the order of the indices; those of a packed job follow one another."""
    return _lines(*(str(run.path) for task in tasks for run in task))


def legal_name(name: str) -> str:
    """A job name that every scheduler takes: letters, digits and ``_ . -``, a letter first."""
    clean = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.")
    return clean if clean[:1].isalpha() else f"j{clean}"


def _directives(header: Sequence[str], scheduler: Scheduler, values: Mapping[str, str]) -> list[str]:
    """The pack's own directives, those that the user has not."""
    own = [option for option in scheduler.options if not _has(header, scheduler, option)]
    return [f"{scheduler.directive} {option.text.format(**values)}" for option in own]


def _has(header: Sequence[str], scheduler: Scheduler, option: Option) -> bool:
    return has_option(_options_of(header, scheduler), option.yields_to, attached=scheduler.attached)


def _own_name(scheduler: Scheduler, header: Sequence[str]) -> str | None:
    """The name that the user's header gives the job."""
    (spellings,) = (option.yields_to for option in scheduler.options if option.sets == "name")
    for spelling in spellings:
        found = re.search(rf"""(?:^|\s){re.escape(spelling)}[=\s]+("[^"]*"|\S+)""", _options_of(header, scheduler))
        if found:
            return found[1].strip('"')
    return None


def _options_of(header: Sequence[str], scheduler: Scheduler) -> str:
    """Directive lines without what they start with."""
    prefixes = (scheduler.directive, *scheduler.also_reads)
    cut = [next((len(prefix) for prefix in prefixes if line.startswith(prefix)), 0) for line in header]
    return "\n".join(line[number:] for line, number in zip(header, cut, strict=True))


def _one_line(path: Path) -> str:
    return str(path).replace("\n", "?")


def _lines(*lines: str) -> str:
    return "\n".join((*lines, ""))

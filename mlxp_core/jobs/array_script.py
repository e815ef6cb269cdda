"""Render the script that is submitted: one job or an array, one run a task or several side by side."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlxp_core.jobs.directives import added_directives, array_directive, output_redirects, requeue_command, shell_path
from mlxp_core.jobs.shell_words import in_one_line, script_text
from mlxp_core.runs.layout import RunDir
from mlxp_core.scheduler.base import Scheduler


@dataclass(frozen=True)
class ArraySpec:
    """What is submitted in one piece: one job, or an array of them, each for one run or for several side by side."""

    tasks: Sequence[Sequence[RunDir]]
    name: str
    shebang: str
    header: tuple[str, ...]  # the user's directives
    folder: Path  # its manifest, and what the scheduler itself has to say
    throttle: int | None


def render_submission(submission: ArraySpec, scheduler: Scheduler) -> str:
    """The script that is submitted: it finds its runs in the manifest, by its index, and becomes their script.

    A run whose script has started before keeps what that attempt printed, beside its metadata.
    """
    count = len(submission.tasks)
    pattern = f"{scheduler.index_pattern if count > 1 else 'job'}.out"
    output = scheduler.quote_path(f"{submission.folder}/", pattern)
    values = {
        "name": submission.name,
        "shell": shell_path(submission.shebang),
        "stdout": output or "/dev/null",
        "stderr": output or "/dev/null",
    }
    header = submission.header
    lines = added_directives(header, scheduler, values)
    if count > 1 and not scheduler.array_on_command_line:
        directive = array_directive(scheduler, submission.name, count, submission.throttle)
        lines.append(f"{scheduler.directive_like(header)} {directive}")
    runs = [run for task in submission.tasks for run in task]
    size = max(map(len, submission.tasks))
    first = f"$(({scheduler.array_index} * {size} - {size - 1}))" if count > 1 else "1"
    packed = size > 1
    return script_text(
        submission.shebang,
        *lines,
        *header,
        "",
        f"# runs {runs[0].path.name} to {runs[-1].path.name} of {in_one_line(runs[0].path.parent)}",
        "mlxp_start() { # mlxp_start RUN: become its script",
        '  if [ -s "$1/metadata/starts" ]; then',
        '    mlxp_earlier=$1/metadata/attempts/$(($(wc -l <"$1/metadata/starts")))',
        '    mkdir -p "$mlxp_earlier"',
        "    for mlxp_log in log.stdout log.stderr; do",
        '      [ ! -e "$1/$mlxp_log" ] || mv "$1/$mlxp_log" "$mlxp_earlier/$mlxp_log"',
        "    done",
        "  fi",
        f'  exec {submission.shebang[2:].strip()} "$1/script.sh"{output_redirects(header, scheduler)}',
        "}",
        f"mlxp_first={first}",
        *(_SIDE_BY_SIDE if packed else _ALONE)
        .format(
            manifest=shlex.quote(str(submission.folder / "manifest")),
            more=size - 1,
            requeue=requeue_command(header, scheduler),
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


def render_manifest(tasks: Sequence[Sequence[RunDir]]) -> str:
    """One run a line, in the order of the indices; those of a packed job follow one another."""
    return script_text(*(str(run.path) for task in tasks for run in task))

"""Job scripts: reads the user's template, writes ``script.sh`` and the array's script. Text in, text out.

A template is a native job script. Its directives and its set-up lines go into every job as they are, byte for byte
and in order; the line that starts the program is replaced by the job's own command.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path, PurePath

from mlxp_core.errors import ConfigurationError
from mlxp_core.layout import RunDir
from mlxp_core.scheduler._base import Option, Scheduler, has_option

_SHELLS = ("bash", "dash", "ksh", "sh", "zsh")
_LAUNCHERS = {
    "#SBATCH": "mlxp_slurm",
    "#OAR": "mlxp_oar",
    "#PBS": "mlxp_torque or mlxp_pbs",
    "#$": "mlxp_sge",
    "#MSUB": "mlxp_mwm",
    "#BSUB": "mlxp_lsf",
    "#LOCAL": "mlxp_local",
}


@dataclass(frozen=True)
class Template:
    """A native job script, taken apart; every line as the user wrote it."""

    shebang: str = "#!/bin/bash"
    header: tuple[str, ...] = ()  # the scheduler's directives
    setup: tuple[str, ...] = ()  # all else before the program
    prefix: str = ""  # what stands before the interpreter on the program's line, such as "srun " or "FOO=1 "
    after: tuple[str, ...] = ()  # all after the program
    ignored: tuple[str, ...] = ()  # directives where the scheduler does not read any

    @property
    def interpreter(self) -> str:
        """What runs the script, as text for a shell."""
        return self.shebang[2:].strip()


@dataclass(frozen=True)
class Job:
    """One job: what its script runs, where and with what."""

    run: RunDir
    name: str
    command: tuple[str, ...]
    work_dir: str
    environment: Mapping[str, str]  # variables that the script sets


def read_template(text: str, scheduler: Scheduler, program: str, *, source: str = "the template") -> Template:
    """Take a native job script apart.

    ``program`` is how the program is called: a script's file name, or the module of ``python -m``. Raises
    ConfigurationError for a script that is another scheduler's, or no shell's.
    """
    lines = text.replace("\r\n", "\n").split("\n")
    shebang = Template.shebang
    if lines[0].startswith("#!"):
        shebang = lines.pop(0).rstrip()
        _check_shell(shebang, source)
    directives = [line for line in lines if _is_directive(line, scheduler.directive)]
    read = directives
    if not scheduler.whole_file:
        top = list(takewhile(lambda line: not line.strip() or line.startswith("#"), lines))
        read = [line for line in top if line in directives]
    if not directives:
        _check_not_of_another(lines, scheduler, source)
    setup, prefix, after = _split_at_program([line for line in lines if line not in directives], program)
    return Template(shebang, tuple(read), _trim(setup), prefix, _trim(after), tuple(directives[len(read) :]))


def add_header(template: Template, text: str | None, scheduler: Scheduler) -> Template:
    """Add directives given as text (``hydra.launcher.header``).

    Raises ConfigurationError for a line that the scheduler would not read as one.
    """
    lines = [line for line in (text or "").splitlines() if line.strip()]
    for line in lines:
        if not _is_directive(line, scheduler.directive):
            raise ConfigurationError(
                f"hydra.launcher.header has the line\n  {line}\nwhich {scheduler.name} would not read: a directive "
                f"starts with {scheduler.directive} in the first column. Shell lines go into hydra.launcher.setup."
            )
    return replace(template, header=(*template.header, *lines))


def add_setup(template: Template, lines: Iterable[str]) -> Template:
    """Add set-up lines (``hydra.launcher.setup``) after those of the template."""
    return replace(template, setup=(*template.setup, *lines))


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
    array = scheduler.array
    if array is None:
        raise ConfigurationError(f"{scheduler.name} has no arrays: use hydra.launcher.array=false")
    if _has(template, scheduler, array):
        raise ConfigurationError(
            f"the header sets {' or '.join(array.yields_to)} itself, which is how the launcher submits a batch. "
            "Take that line out (hydra.launcher.max_parallel limits how many run at once), or set "
            "hydra.launcher.array=false."
        )
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


def _is_directive(line: str, directive: str) -> bool:
    # Slurm reads "#SBATCH--time=3" as well; "#SBATCHX" is a comment, "##SBATCH" does not start with it
    return line.startswith(directive) and not line[len(directive) : len(directive) + 1].isalnum()


def _check_shell(shebang: str, source: str) -> None:
    words = [PurePath(word).name for word in shebang[2:].split()]
    shell = words[1] if words[:1] == ["env"] and len(words) > 1 else (words or [""])[0]
    if shell not in _SHELLS:
        raise ConfigurationError(
            f"{source} starts with {shebang!r}, but its set-up lines are run by a shell: one of {', '.join(_SHELLS)}"
        )


def _check_not_of_another(lines: Iterable[str], scheduler: Scheduler, source: str) -> None:
    for line in lines:
        for directive, launcher in _LAUNCHERS.items():
            if directive != scheduler.directive and re.match(re.escape(directive) + r"\s+-", line):
                raise ConfigurationError(
                    f"{source} has no {scheduler.directive} line, but\n  {line}\n"
                    f"Is it for another scheduler? Its launcher is hydra/launcher={launcher}."
                )


def _split_at_program(lines: Sequence[str], program: str) -> tuple[list[str], str, list[str]]:
    """Lines before the program's, what stands before its interpreter, lines after; all lines where it has none."""
    first = 0
    while first < len(lines):
        last = first
        while lines[last].endswith("\\") and last + 1 < len(lines):
            last += 1
        prefix = _before_interpreter(lines[first], program)
        if prefix is not None:
            return list(lines[:first]), prefix, list(lines[last + 1 :])
        first = last + 1
    return list(lines), "", []


def _before_interpreter(line: str, program: str) -> str | None:
    """What stands before the interpreter on a line that starts the program; None for any other line.

    Such a line runs a Python on the very program that is launched (``srun python -u src/main.py``, ``python -m
    pkg.app``), or starts with its path (``./main.py``). The mere word python means nothing.
    """
    words = [(found.start(), found[0].strip("'\"")) for found in re.finditer(r"\S+", line)]
    names = [PurePath(word).name for _, word in words]
    if program not in names or names[0].startswith("#"):
        return None
    at = names.index(program)
    before = [i for i in range(at) if re.fullmatch(r"python[\d.]*", names[i])]
    if before:
        return line[: words[before[-1]][0]].lstrip()
    return "" if at == 0 else None


def _trim(lines: list[str]) -> tuple[str, ...]:
    while lines and not lines[-1].strip():
        lines.pop()
    while lines and not lines[0].strip():
        lines.pop(0)
    return tuple(lines)


def _one_line(path: Path) -> str:
    return str(path).replace("\n", "?")


def _lines(*lines: str) -> str:
    return "\n".join((*lines, ""))

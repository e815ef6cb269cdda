"""The command ``mlxpsub``: runs job scripts here, and submits what the Hydra programs in them would run."""

from __future__ import annotations

import shlex
import shutil
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from mlxp_core.cli import run_app
from mlxp_core.errors import ConfigurationError
from mlxp_core.mlxpsub import instrument, launcher_shim, parse, shell
from mlxp_core.mlxpsub.detect import detect_scheduler
from mlxp_core.mlxpsub.parse import JobScript
from mlxp_core.mlxpsub.placeholders import Placeholders
from mlxp_core.mlxpsub.session import Session, from_plain, record_of, stderr_file
from mlxp_core.runs.listing import format_runs, pluralize
from mlxp_core.runs.process import is_alive, this_process
from mlxp_core.runs.status import Status
from mlxp_core.runs.submission_record import QueuedJob
from mlxp_core.scheduler import load_scheduler

_INTERRUPTED = 130
_QUIET = 1  # seconds
_LONGEST_START = 30  # seconds that a program may take to its main function


@dataclass(frozen=True)
class _Script:
    """One job script, read."""

    path: Path
    scheduler: str
    cut: JobScript


def sub(
    scripts: Annotated[list[Path], typer.Argument(help="Job scripts.", show_default=False)],
    *,
    scheduler: Annotated[
        str | None, typer.Option("--scheduler", help="Which one, whatever the directives are: slurm, oar, …")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be submitted.")] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Stay until the jobs have ended; fail if one did not complete.")
    ] = False,
    anew: Annotated[
        bool, typer.Option("--anew", help="Forget what a call that did not come to its end has submitted.")
    ] = False,
) -> None:
    """Submit the jobs of job scripts: every combination of every Hydra program's overrides, a job each.

    A script runs here, under its own shell, and its Hydra programs submit instead of running. What is no Hydra
    program runs as it is. Jobs have the script's directives, and its lines before and after the program.
    """
    read = [_read(path, scheduler) for path in scripts]
    codes, submitted = [], []
    for script in read:
        code, runs = _run(script, dry_run=dry_run, anew=anew)
        codes.append(code)
        submitted += runs
        if code == _INTERRUPTED:
            break
    if wait and submitted and _INTERRUPTED not in codes:
        codes.append(_wait(submitted))
    raise typer.Exit(next(filter(None, codes), 0))


def _read(path: Path, scheduler: str | None) -> _Script:
    try:
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise ConfigurationError(f"the script {path} cannot be read: {error.strerror}") from error
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    name = scheduler or detect_scheduler(text, str(path))
    shebang = text.splitlines()[0].rstrip() if text.startswith("#!") else "#!/bin/bash"
    cut = parse.parse_script(
        text, load_scheduler(name), lambda lines: shell.is_complete(shebang, lines), source=f"the script {path}"
    )
    return _Script(path, name, cut)


def _run(script: _Script, *, dry_run: bool, anew: bool) -> tuple[int, list[QueuedJob]]:
    """Run one script; give the exit code, and what is submitted."""
    with _session(script, dry_run=dry_run, anew=anew) as session:
        if not script.cut.parts:
            raise ConfigurationError(f"the script {script.path} has no commands")
        text = instrument.instrument(script.cut, shell.find_env(), session.variables.values)
        code = shell.run(script.cut.shebang, text, script.path, session.environment(), session.stop)
        code = _INTERRUPTED if session.stopped else code
        _wait_for_what_is_left(session)
        submitted, failed = session.events("submitted"), session.unfinished()
        _tell_dry(script, session) if dry_run else _tell(script, submitted)
        for one in failed:
            _tell_failed(script, session, one)
        if code:
            print(f"mlxpsub: {script.path} ended with exit code {code}", file=sys.stderr)
        if (code or failed) and submitted and not dry_run:
            print("mlxpsub: the same command again submits what is left; with --anew, everything", file=sys.stderr)
        if not (code or failed or dry_run):
            session.record.unlink(missing_ok=True)
        runs = [run for one in submitted for run in from_plain(one["runs"])]
        nothing = not (runs or session.events("would") or session.events("complete"))
        if nothing and not code and not failed:
            print(f"mlxpsub: no Hydra program in {script.path} has submitted anything", file=sys.stderr)
        return code or int(bool(failed) or nothing), runs


def _wait_for_what_is_left(session: Session) -> None:
    """Wait for programs that the script has left in the background, also for those that have not said so yet."""
    begun = time.monotonic()
    told: set[int] = set()
    while True:
        waited = time.monotonic() - begun
        left = {} if waited > _LONGEST_START or session.stopped else session.unregistered_processes()
        if waited > _QUIET and left.keys() - told:
            print(
                "mlxpsub: what the script has left in the background may be a Hydra program that is starting: waiting "
                f"for it, {_LONGEST_START} s at most (`wait` at the end of the script says so itself):",
                *(f"\n  process {pid}, {shlex.join(command)}" for pid, command in left.items() if pid not in told),
                file=sys.stderr,
            )
            told |= set(left)
        if not left and not any(is_alive(one["process"]) for one in session.unfinished()):
            return
        time.sleep(0.1)


@contextmanager
def _session(script: _Script, *, dry_run: bool, anew: bool) -> Iterator[Session]:
    from filelock import FileLock, Timeout  # noqa: PLC0415
    from platformdirs import user_state_path  # noqa: PLC0415

    directory = Path.cwd()
    record = record_of(script.path.absolute(), directory, user_state_path("hydra-mlxp"))
    record.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(record.with_suffix(".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ConfigurationError(f"another mlxpsub is at {script.path} from this directory: let it end") from error
    folder = Path(tempfile.mkdtemp(prefix="mlxpsub-")).resolve()
    try:
        if record.exists() and not anew:
            shutil.copyfile(record, folder / "before")
        if anew and not dry_run:
            record.unlink(missing_ok=True)
        variables = Placeholders.for_script(script.cut.lines, script.scheduler, folder / "job")
        variables.make()
        session = Session(folder, directory, script.scheduler, dry_run, record, variables, script.cut, this_process())
        session.save()
        session.make_stand_ins(sys.executable, Path(launcher_shim.__file__))
        yield session
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()


def _tell(script: _Script, submitted: Sequence[dict[str, Any]]) -> None:
    """The table at the end."""
    if not submitted:
        return
    rows = [("line", "runs", "jobs", "where")]
    for one in submitted:
        runs = from_plain(one["runs"])
        jobs = ", ".join(dict.fromkeys(run.job_id for run in runs))
        where = ", ".join(dict.fromkeys(str(run.run.path.parent) for run in runs))
        names = format_runs([run.run for run in runs]) + (" (before)" if one["before"] else "")
        rows.append((str(script.cut.line_number(one["number"])), names, f"{runs[0].scheduler} {jobs}", where))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    print()
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        print("  ".join([*cells, row[-1]]))
    new = sum(len(one["runs"]) for one in submitted if not one["before"])
    print(f"{script.path}: {pluralize(new, 'job')} submitted", flush=True)


def _tell_failed(script: _Script, session: Session, program: dict[str, Any]) -> None:
    """Which program has not come to its end, and why, unless that stands above: errors may have gone into a file."""
    waited = any(one["process"] == program["process"] for one in session.events("submitted"))
    what = (
        "it waited for a job that did not complete, or not all of its jobs are submitted. mlxp status tells; after an "
        "mlxp rerun of what has failed, the same command goes on from here"
        if waited
        else "not all of its jobs are submitted"
    )
    print(
        f"mlxpsub: line {script.cut.line_number(program['number'])} of {script.path}: "
        f"{shlex.join(program['command'])} has not come to its end: {what}",
        file=sys.stderr,
    )
    for one in session.events("failed"):
        if one["process"] == program["process"] and one["stderr"] != stderr_file():
            print(textwrap.indent(one["error"], "  "), file=sys.stderr)


def _tell_dry(script: _Script, session: Session) -> None:
    would = session.events("would")
    for one in would:
        line, jobs = script.cut.line_number(one["number"]), one["jobs"]
        count = pluralize(len(jobs), f"{one['scheduler']} job")
        print(f"\n# line {line} of {script.path}: {count}, in {one['directory']}")
        for text in (*one["header"], *one["setup"]):
            print(text)
        for job in jobs:
            print(one["prefix"] + shlex.join([*one["words"], *job]))
        for text in one["after"]:
            print(text)
    for one in session.events("here"):
        line = script.cut.line_number(one["number"])
        print(f"\n# line {line} of {script.path} would run here: {shlex.join(one['command'])}")
    total = sum(len(one["jobs"]) for one in would)
    print(f"\n{script.path}: {pluralize(total, 'job')} would be submitted", flush=True)


def _wait(submitted: Sequence[QueuedJob]) -> int:
    from mlxp_core.jobs.follow import wait_with_progress  # noqa: PLC0415

    print("waiting for them", flush=True)
    try:
        ends = wait_with_progress(submitted, {}, lambda text: print(text, flush=True))
    except KeyboardInterrupt:
        return _INTERRUPTED
    return int(any(end is not Status.COMPLETE for end in ends))


app = typer.Typer(
    name="mlxpsub",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(sub)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    run_app(app, "mlxpsub", arguments)

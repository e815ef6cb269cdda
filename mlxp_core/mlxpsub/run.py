"""Run a job script in a session: read it, have its shell run it, gather what its programs tell."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlxp_core.errors import ConfigurationError
from mlxp_core.mlxpsub import launcher_shim, shell_process
from mlxp_core.mlxpsub.instrument import instrument
from mlxp_core.mlxpsub.parse import JobScript, parse_script
from mlxp_core.mlxpsub.placeholders import Placeholders
from mlxp_core.mlxpsub.scheduler_detection import detect_scheduler
from mlxp_core.mlxpsub.session import Session, record_path, runs_from_json
from mlxp_core.runs.process import is_alive, this_process
from mlxp_core.runs.submission_record import QueuedJob
from mlxp_core.scheduler import load_scheduler
from mlxp_core.scheduler.base import plain_path
from mlxp_core.user_dirs import state_dir

INTERRUPTED = 130  # the exit code after Ctrl-C
_QUIET = 1  # seconds
_LONGEST_START = 30  # seconds that a program may take to its main function

Event = Mapping[str, Any]  # what a program of the script has told (session.py)


@dataclass(frozen=True)
class Script:
    """One job script, read."""

    path: Path
    scheduler: str
    parsed: JobScript


@dataclass(frozen=True)
class Outcome:
    """The outcome of a script; events in the order in which they were told."""

    shell_code: int
    submitted: Sequence[Event]
    complete: Sequence[Event]  # programs with nothing left to submit
    unfinished: Sequence[Event]  # programs that have not come to their end
    errors: Sequence[Event]
    planned: Sequence[Event]  # what a dry run would submit
    local: Sequence[Event]  # programs that a dry run leaves out, for they would run here

    @property
    def runs(self) -> list[QueuedJob]:
        """All that is submitted."""
        return [run for event in self.submitted for run in runs_from_json(event["runs"])]

    @property
    def is_empty(self) -> bool:
        """True where no program had anything to submit."""
        return not (self.submitted or self.planned or self.complete)

    @property
    def exit_code(self) -> int:
        """The exit code for the script."""
        return self.shell_code or int(bool(self.unfinished) or self.is_empty)


def read_script(path: Path, scheduler: str | None) -> Script:
    """Read a job script; ``scheduler``: which, whatever its directives are."""
    try:
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise ConfigurationError(f"the script {path} cannot be read: {error.strerror}") from error
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    name = scheduler or detect_scheduler(text, str(path))
    shebang = text.splitlines()[0].rstrip() if text.startswith("#!") else "#!/bin/bash"
    parsed = parse_script(
        text, load_scheduler(name), lambda lines: shell_process.is_complete(shebang, lines), source=f"the script {path}"
    )
    return Script(path, name, parsed)


def run(script: Script, *, dry_run: bool, anew: bool, report: Callable[[str], None]) -> Outcome:
    """Run a script, and wait for the programs that it leaves in the background, which ``report`` is told of.

    ``anew``: without what is kept of an earlier call that did not come to its end. Raises ConfigurationError for a
    script that cannot be run, or that another mlxpsub runs.
    """
    with _open_session(script, dry_run=dry_run, anew=anew) as session:
        if not script.parsed.parts:
            raise ConfigurationError(f"the script {script.path} has no commands")
        text = instrument(script.parsed, shell_process.find_env(), session.variables.values)
        code = shell_process.run(script.parsed.shebang, text, script.path, session.environment(), session.stop)
        code = INTERRUPTED if session.stopped else code
        _wait_for_background(session, report)
        outcome = Outcome(
            code,
            submitted=session.events("submitted"),
            complete=session.events("complete"),
            unfinished=session.unfinished(),
            errors=session.events("failed"),
            planned=session.events("would"),
            local=session.events("here"),
        )
        if not (code or outcome.unfinished or dry_run):
            session.record.unlink(missing_ok=True)
        return outcome


def _wait_for_background(session: Session, report: Callable[[str], None]) -> None:
    """Wait for programs that the script has left in the background, also for those that have not said so yet."""
    begun = time.monotonic()
    reported: set[int] = set()
    while True:
        waited = time.monotonic() - begun
        running = {} if waited > _LONGEST_START or session.stopped else session.unregistered_processes()
        if waited > _QUIET and running.keys() - reported:
            processes = [f"process {pid}, {shlex.join(running[pid])}" for pid in running if pid not in reported]
            message = (
                "what the script has left in the background may be a Hydra program that is starting: waiting for it, "
                f"{_LONGEST_START} s at most (`wait` at the end of the script says so itself):"
            )
            report("\n  ".join([message, *processes]))
            reported |= set(running)
        if not running and not any(is_alive(event["process"]) for event in session.unfinished()):
            return
        time.sleep(0.1)


@contextmanager
def _open_session(script: Script, *, dry_run: bool, anew: bool) -> Iterator[Session]:
    """A session that holds the lock on the script's record; its folder is removed in the end."""
    from filelock import FileLock, Timeout  # noqa: PLC0415

    directory = Path.cwd()
    state = state_dir()
    if state is None:
        raise ConfigurationError("you have no home to keep in what was submitted: set XDG_STATE_HOME to a folder")
    record = record_path(script.path.absolute(), directory, state)
    record.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(record.with_suffix(".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ConfigurationError(f"another mlxpsub is at {script.path} from this directory: let it end") from error
    folder = Path(tempfile.mkdtemp(prefix="mlxpsub-", dir=_session_parent()))
    try:
        if record.exists() and not anew:
            shutil.copyfile(record, folder / "before")
        if anew and not dry_run:
            record.unlink(missing_ok=True)
        yield _begin_session(script, folder, directory, record, dry_run=dry_run)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()


def _session_parent() -> Path:
    """A temporary directory that no shell takes apart: `rm -rf $TMPDIR/x`, without quotes, is to stay in the session.

    Raises ConfigurationError where there is none.
    """
    candidates = [Path(name).resolve() for name in (tempfile.gettempdir(), "/tmp", "/var/tmp", Path.home())]  # noqa: S108
    for candidate in candidates:
        if plain_path(str(candidate), "") and os.access(candidate, os.W_OK | os.X_OK):
            return candidate
    raise ConfigurationError(
        f"no temporary directory has a path that a shell leaves whole: {', '.join(map(str, candidates))}. Set TMPDIR "
        "to a directory with letters, digits and _ . / - alone in its path"
    )


def _begin_session(script: Script, folder: Path, directory: Path, record: Path, *, dry_run: bool) -> Session:
    variables = Placeholders.for_script(script.parsed.lines, script.scheduler, folder / "job")
    variables.make()
    session = Session(folder, directory, script.scheduler, dry_run, record, variables, script.parsed, this_process())
    session.save()
    session.make_launcher_shims(sys.executable, Path(launcher_shim.__file__))
    return session

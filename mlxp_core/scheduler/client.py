"""Run the commands of schedulers: one place for time limits and error texts."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlxp_core.errors import CommandError, SubmissionBusyError, SubmissionRefusedError, SubmissionUnclearError
from mlxp_core.scheduler.base import Command, NativeJob, QueueQuery, Scheduler, StatusQuery, Task

_MOMENT = 10.0  # seconds
_SHOWN = 2000  # characters of an answer that an error shows


@dataclass(frozen=True)
class CommandResult:
    """The outcome of a command; ``code`` is None when it ran out of time."""

    command: Command
    code: int | None
    stdout: str
    stderr: str
    limit: float

    @property
    def text(self) -> str:
        """All that it has printed."""
        return f"{self.stdout}\n{self.stderr}"

    def __str__(self) -> str:
        """Show the whole of it."""
        ended = f"no answer within {self.limit:.3g} s" if self.code is None else f"exit code {self.code}"
        parts = [f"  command: {shlex.join(self.command)}", f"  {ended}"]
        parts += [f"  {name}: {_shortened(text)}" for name, text in (("stdout", self.stdout), ("stderr", self.stderr))]
        return "\n".join(parts)


class InterruptedCommand(KeyboardInterrupt):
    """Ctrl-C, while a command ran that has ended since."""

    def __init__(self, answer: CommandResult) -> None:
        """Keep its answer."""
        super().__init__()
        self.answer = answer


class InterruptedSubmission(KeyboardInterrupt):
    """Ctrl-C, while something was submitted, which has been taken."""

    def __init__(self, job_id: str) -> None:
        """Keep the job's id."""
        super().__init__()
        self.job_id = job_id


def run_command(
    command: Command,
    *,
    limit: float,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
    stdin: Path | None = None,
) -> CommandResult:
    """Run a command; raises CommandError only where it cannot be run at all."""
    with _interrupts_held_back() as release_interrupts:
        process = _start(command, environment=environment, directory=directory, stdin=stdin)
        try:
            release_interrupts()
            stdout, stderr = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            return CommandResult(command, None, *_end(process), limit)
        except KeyboardInterrupt as interrupt:  # which the command has not got: its answer is worth a moment
            with contextlib.suppress(subprocess.TimeoutExpired):
                stdout, stderr = process.communicate(timeout=min(limit, _MOMENT))
                answer = CommandResult(command, process.returncode, _text(stdout), _text(stderr), limit)
                raise InterruptedCommand(answer) from interrupt
            raise
    return CommandResult(command, process.returncode, _text(stdout), _text(stderr), limit)


def _start(
    command: Command, *, environment: Mapping[str, str] | None, directory: Path | None, stdin: Path | None
) -> subprocess.Popen[bytes]:
    # OAR looks at the variable, and not at where the command really is
    where = {} if directory is None else {"PWD": str(directory)}
    try:
        with open(stdin or os.devnull, "rb") as source:  # noqa: PTH123
            return subprocess.Popen(  # noqa: S603  (a scheduler's client, arguments as a list)
                command,
                stdin=source,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=directory,
                env={**os.environ, **where, **(environment or {})},
                # Ctrl-C is for us: a submission that it cuts short may have been accepted
                start_new_session=True,
            )
    except FileNotFoundError as error:
        raise CommandError(
            f"{command[0]} is not on this machine's PATH, so there is no such scheduler to talk to. Launch from a "
            "machine where it is (a login node), or take another launcher, such as hydra/launcher=mlxp_local."
        ) from error
    except OSError as error:
        raise CommandError(f"{shlex.join(command)} cannot be run: {error}") from error


@contextlib.contextmanager
def _interrupts_held_back() -> Iterator[Callable[[], None]]:
    """Have Ctrl-C wait until the function is called that this gives, or until the block ends.

    A command runs before Popen has returned: an interrupt within it would leave nobody to hear the answer.
    """
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield lambda: None
        return
    received: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: received.append(number))

    def release() -> None:
        signal.signal(signal.SIGINT, handler)
        if received:
            received.clear()
            signal.raise_signal(signal.SIGINT)

    try:
        yield release
    finally:
        release()


def _end(process: subprocess.Popen[bytes]) -> tuple[str, str]:
    """Kill a command that takes too long, with all that it has started; give what it had said.

    Children of a client may hold the pipes, or run as another user, who cannot be killed: those are left.
    """
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    try:
        stdout, stderr = process.communicate(timeout=1)
    except subprocess.TimeoutExpired as late:
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
        process.poll()  # it has ended, as a rule: no zombie for as long as this process lives
        stdout, stderr = late.stdout or b"", late.stderr or b""
    return _text(stdout), _text(stderr)


def submit(
    scheduler: Scheduler, script: Path, *, extra: Sequence[str] = (), directory: Path | None = None, limit: float
) -> str:
    """Call the submit command once; give the job's id.

    Raises SubmissionBusyError for a refusal that passes by itself, SubmissionRefusedError for any other,
    SubmissionUnclearError where the answer leaves open whether the job was taken.
    """
    command = (*scheduler.submit, *extra)
    if not scheduler.script_on_stdin:
        command += (str(script),)
    try:
        answer = run_command(
            command,
            limit=limit,
            environment=scheduler.submit_environment,
            directory=directory,
            stdin=script if scheduler.script_on_stdin else None,
        )
    except InterruptedCommand as interrupt:
        if job_id := _job_id(scheduler, interrupt.answer):
            raise InterruptedSubmission(job_id) from interrupt
        raise
    if job_id := _job_id(scheduler, answer):
        return job_id
    if answer.code not in {None, 0} and answer.code not in scheduler.unclear_codes:
        if scheduler.busy and scheduler.busy.search(answer.text):
            raise SubmissionBusyError(f"{scheduler.name} does not take the submission now:\n{answer}")
        if not (scheduler.unclear and scheduler.unclear.search(answer.text)):
            raise SubmissionRefusedError(f"{scheduler.name} refused the submission:\n{answer}")
    # a failed answer is not a refusal: sbatch after "Socket timed out" had been accepted and ran
    raise SubmissionUnclearError(f"{scheduler.name} gave no clear answer to a submission:\n{answer}")


def _job_id(scheduler: Scheduler, answer: CommandResult) -> str | None:
    match = scheduler.job_id.search(answer.stdout) if answer.code == 0 else None
    return match["id"] if match else None


def query(scheduler: Scheduler, how: StatusQuery, what: QueueQuery, *, limit: float) -> list[NativeJob]:
    """Ask a scheduler for jobs. Raises CommandError when it does not answer, or with what cannot be understood."""
    answer = run_command(how.command(what), limit=limit)
    has_jobs = answer.code in how.codes and answer.stdout.strip()
    if answer.code is not None and not has_jobs and how.nothing is not None and how.nothing.search(answer.text):
        return []
    no_answer = how.no_answer is not None and how.no_answer.search(answer.stderr)
    if answer.code not in how.codes or no_answer:
        raise CommandError(f"{scheduler.name} does not say what is in its queue:\n{answer}")
    try:
        return how.read(answer.stdout)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CommandError(f"{scheduler.name} gives no answer that can be understood ({error}):\n{answer}") from error


def cancel(scheduler: Scheduler, jobs: Sequence[Task], *, limit: float) -> None:
    """Cancel jobs, and tasks of arrays. Raises CommandError for an answer that is no success."""
    answer = run_command(scheduler.cancel_command(jobs), limit=limit)
    if answer.code not in scheduler.cancel_codes:
        raise CommandError(f"{scheduler.name} did not cancel all of it:\n{answer}")


def array_limit(scheduler: Scheduler, *, limit: float) -> int | None:
    """The number of tasks that an array may have at this site; None where the scheduler does not say."""
    array = scheduler.limit
    if array is None:
        return None
    try:
        answer = run_command(array.command, limit=limit)
    except CommandError:
        return None
    match = array.pattern.search(answer.stdout)
    number = int(match["n"]) - array.above if match else 0
    return number if number > 0 else None


def _shortened(text: str) -> str:
    """An answer as it is shown: of a queue of thousands the beginning."""
    text = text.strip()
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} … ({len(text) - _SHOWN} characters more)"


def _text(output: bytes) -> str:
    return output.decode(errors="replace")

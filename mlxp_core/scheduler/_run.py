"""The only module that runs a scheduler's commands: one place for time limits and error texts."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlxp_core.environment import user_name
from mlxp_core.errors import CommandError, SubmissionRefusedError, SubmissionUnclearError
from mlxp_core.scheduler._base import NativeJob, Scheduler

# words with which a client says that it does not know whether the server took the job (seen on Slurm 22.05)
_UNCLEAR = ("timed out", "Unable to contact", "connect failure", "Zero Bytes were transmitted", "Unexpected message")


@dataclass(frozen=True)
class Answer:
    """What a command came to; ``code`` is None when it ran out of time."""

    command: tuple[str, ...]
    code: int | None
    stdout: str
    stderr: str
    limit: float

    def __str__(self) -> str:
        """Show the whole of it."""
        ended = f"no answer within {self.limit:g} s" if self.code is None else f"exit code {self.code}"
        parts = [f"  command: {shlex.join(self.command)}", f"  {ended}"]
        parts += [f"  {name}: {text.strip()}" for name, text in (("stdout", self.stdout), ("stderr", self.stderr))]
        return "\n".join(parts)


def ask(command: tuple[str, ...], *, limit: float, environment: Mapping[str, str] | None = None) -> Answer:
    """Run a command; raises CommandError only where it is not there at all."""
    try:
        done = subprocess.run(  # noqa: S603  (a scheduler's client, arguments as a list)
            command,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=limit,
            check=False,
            env={**os.environ, **(environment or {})},
        )
    except FileNotFoundError as error:
        raise CommandError(
            f"{command[0]} is not on this machine's PATH, so there is nothing to submit to. Launch from a machine "
            "where it is (a login node), or take another launcher, such as hydra/launcher=mlxp_local."
        ) from error
    except OSError as error:
        raise CommandError(f"{shlex.join(command)} cannot be run: {error}") from error
    except subprocess.TimeoutExpired as late:
        return Answer(command, None, _text(late.stdout), _text(late.stderr), limit)
    return Answer(command, done.returncode, _text(done.stdout), _text(done.stderr), limit)


def submit(scheduler: Scheduler, script: Path, *, limit: float) -> str:
    """Submit a script; give the job's id.

    Raises SubmissionRefusedError when it is sure that nothing was submitted, SubmissionUnclearError when the answer
    leaves it open and the queue could not be asked, or does not show the job.
    """
    command = (*scheduler.submit, str(script))
    answer = ask(command, limit=limit, environment=scheduler.submit_environment)
    found = scheduler.job_id.search(answer.stdout) if answer.code == 0 else None
    if found:
        return found["id"]
    if answer.code not in {None, 0} and not any(words in answer.stderr for words in _UNCLEAR):
        raise SubmissionRefusedError(f"{scheduler.name} refused the submission:\n{answer}")
    # a failed answer is not a refusal: sbatch after "Socket timed out" had been accepted and ran
    try:
        there = {job.job_id for job in look(scheduler, limit=limit) if job.script == str(script)}
    except CommandError as error:
        raise SubmissionUnclearError(
            f"{scheduler.name} gave no clear answer, and its queue could not be asked:\n{answer}\n{error}\n"
            f"The job may be there or not: look for {script} in the queue before you submit again."
        ) from error
    if there:
        return there.pop()
    raise SubmissionUnclearError(
        f"{scheduler.name} gave no clear answer, and its queue does not show the job:\n{answer}\n"
        f"It may still appear: look for {script} in the queue before you submit again."
    )


def look(scheduler: Scheduler, *, limit: float) -> list[NativeJob]:
    """All of this user's jobs that the scheduler remembers. Raises CommandError when it does not answer."""
    answer = ask(scheduler.status(user_name()), limit=limit)
    if answer.code != 0:
        raise CommandError(f"{scheduler.name} does not say what is in its queue:\n{answer}")
    return scheduler.read_status(answer.stdout)


def _text(output: bytes | str | None) -> str:
    return output.decode(errors="replace") if isinstance(output, bytes) else output or ""

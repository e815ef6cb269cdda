"""Run the user's own shell: ask it whether a text is a whole command, and have it run a job script.

The only module of mlxpsub that starts a process (tests/test_architecture.py).
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mlxp_core.errors import ConfigurationError
from mlxp_core.jobs.shell_words import shebang_shell, shebang_words

_LONGEST = 120_000  # bytes; Linux takes no longer argument than 128 KiB
_MOMENT = 30  # seconds


def is_complete(shebang: str, text: str) -> bool:
    """Ask the shell of a script whether a text is one or more whole commands: nothing is run."""
    shell = shebang_shell(shebang)
    try:
        command = [shell, "-n", "-c", text]  # without the options of the script: `bash -l` would read the profile
        done = subprocess.run(command, capture_output=True, timeout=_MOMENT, stdin=subprocess.DEVNULL, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigurationError(f"{shell}, which the script's first line names, cannot be run: {error}") from error
    return done.returncode == 0


def run(shebang: str, text: str, script: Path, environment: Mapping[str, str], on_interrupt: Callable[[], None]) -> int:
    """Run a text as the script, which is its ``$0``; give the exit code.

    Ctrl-C is for all of its processes; what they have made of it is their exit code.
    """
    if len(text.encode(errors="surrogateescape")) > _LONGEST:
        raise ConfigurationError(f"{script} is longer than {_LONGEST:,} bytes, which is no job script")
    command: Sequence[str] = [*shebang_words(shebang), "-c", text, str(script)]
    try:
        process = subprocess.Popen(command, env=environment)  # noqa: S603
    except OSError as error:
        raise ConfigurationError(f"{shlex.join(command[:-3])} cannot be run: {error}") from error
    while True:
        try:
            code = process.wait()
        except KeyboardInterrupt:
            on_interrupt()
            continue
        return 128 - code if code < 0 else code


def find_env() -> str:
    """The path of ``env``."""
    return shutil.which("env") or "/usr/bin/env"

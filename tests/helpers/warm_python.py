"""A Python whose start costs next to nothing, for tests that are not about starting one."""

from __future__ import annotations

import atexit
import functools
import os
import py_compile
import runpy
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

_HERE = Path(__file__).with_name("warm")
_COMMANDS = ("python", "python3", "mlxp", "mlxpsub")


class RealPython:
    """The interpreter of the tests and its commands, each start of which imports Hydra anew."""

    bin = Path(sys.executable).parent
    python = sys.executable


class WarmPython(RealPython):
    """The same as commands that have a server fork: ``python``, ``mlxp``, ``mlxpsub``.

    What a program can see of the difference is its parent and its process group; see test_warm_python.py. A test that
    is about these, or about the start itself, takes ``RealPython``.
    """

    def __init__(self, environment: dict[str, str]) -> None:
        # neither a socket nor a first line of a script may have a long path, nor the latter a blank
        self.folder = Path(tempfile.mkdtemp(prefix="mlxp-warm-", dir="/tmp"))
        self.bin = self.folder / "bin"
        self.python = str(self.bin / "python")
        place = str(self.folder / "socket")
        self._server = subprocess.Popen(
            [sys.executable, str(_HERE / "server.py"), place, self.python],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd="/",
        )
        self._write_commands(place, runpy.run_path(str(_HERE / "client.py"))["state"](environment))
        assert self._server.stdout is not None
        assert self._server.stdout.read(1) == b"!", "the warm server did not start"

    def _write_commands(self, place: str, state: str) -> None:
        self.bin.mkdir()
        client = py_compile.compile(str(_HERE / "client.py"), cfile=str(self.folder / "client.pyc"), doraise=True)
        interpreter = self.folder / "interpreter"
        interpreter.symlink_to(sys.executable)
        for name in _COMMANDS:
            command = "python" if name.startswith("python") else str(RealPython.bin / name)
            words = [place, sys.executable, state, command]
            text = f"#!{interpreter} -IS\nimport sys, marshal\nsys.argv[1:1] = {words!r}\n"
            text += f"with open({client!r}, 'rb') as file:\n    code = file.read()[16:]\nexec(marshal.loads(code))\n"
            path = self.bin / name
            path.write_text(text, encoding="utf-8")
            path.chmod(0o755)

    def close(self) -> None:
        """End the server and what it has forked."""
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait(30)
        shutil.rmtree(self.folder)


@functools.cache
def warm_python() -> RealPython:
    """The one of this process, which ends with it; the real one where forks are not known or coverage is measured."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    if not Path("/proc/self/ns").exists() or any(name.startswith("COVERAGE_") for name in environment):
        return RealPython()
    made = WarmPython(environment)
    atexit.register(made.close)
    return made

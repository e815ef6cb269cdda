"""The Python that forks: what a program can see of it is what it sees of the real one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support import PATIENCE, until
from warm_python import RealPython, WarmPython, warm_python

pytestmark = pytest.mark.skipif(
    not isinstance(warm_python(), WarmPython), reason="no forks without Linux, or where coverage is measured"
)

PROGRAMS = {
    "arguments": "import sys; print(sys.argv, sys.path[0], __name__, __file__)",
    "variables": "import os; print(sorted(os.environ.items()), os.getcwd(), os.umask(0o27))",
    "input": "import sys; print(sys.stdin.read())",
    "signals": "import signal; print({n: signal.getsignal(n) for n in signal.valid_signals() if n not in (9, 19)})",
    "path": "import sys; print(sys.path)",
    "warnings": "import warnings; warnings.warn('old', DeprecationWarning); print('said')",
    "error": "def f():\n    raise ValueError('x')\nf()",
    "syntax": "print(1\n",
    "exit code": "import sys; sys.exit(3)",
    "exit text": "import sys; sys.exit('no')",
    "at exit": "import atexit; atexit.register(print, 'last'); print('first')",
    "thread": "import threading, time; threading.Thread(target=lambda: (time.sleep(.1), print('late'))).start()",
    "object at exit": "class A:\n    def __del__(self): print('gone')\na = A()",
    "interrupted": "import os, signal; os.kill(os.getpid(), signal.SIGINT)",
    "killed": "import os, signal; print('a', flush=True); os.kill(os.getpid(), signal.SIGKILL)",
    "ended": "import os; os._exit(4)",
    "random": "import random, os; random.random(); print(os.getpid() > 1)",
    "main module": "import sys; print(sys.modules['__main__'].__dict__ is globals(), __builtins__)",
    "source": "import inspect\ndef f(): pass\nprint(inspect.getsource(f))",
    "pickle": "import pickle\nclass A: pass\nprint(type(pickle.loads(pickle.dumps(A()))))",
}


def outcome(python: RealPython, words: list[str], folder: Path, **variables: str) -> tuple[int, str, str]:
    environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **variables}
    done = subprocess.run(
        [python.python, *words], cwd=folder, env=environment, input="typed", capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("how", ["file", "module", "text"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_cannot_tell_the_fork_from_the_real_one(tmp_path: Path, name: str, how: str) -> None:
    """Bug: a test that passes, or fails, for the way in which its program was started."""
    (tmp_path / "program.py").write_text(PROGRAMS[name])
    words = {
        "file": ["program.py"],
        "module": ["-m", "program"],
        "text": ["-c", PROGRAMS[name].replace(", __file__", "")],
    }
    expected = outcome(RealPython(), [*words[how], "a b", "-m"], tmp_path)
    assert outcome(warm_python(), [*words[how], "a b", "-m"], tmp_path) == expected


@pytest.mark.parametrize(
    ("words", "variables"),
    [
        ([], {"PYTHONWARNINGS": "error"}),
        ([], {"PYTHONPATH": "lib"}),
        ([], {"PYTHONHASHSEED": "3"}),
        (["-O"], {}),
        (["-W", "error"], {}),
    ],
    ids=str,
)
def test_options_of_the_interpreter_are_kept(tmp_path: Path, words: list[str], variables: dict[str, str]) -> None:
    """Bug: a test of them that tests nothing, for the fork has the server's."""
    text = """import sys, warnings
print(sys.path, sys.flags.hash_randomization or hash("a"))
assert __debug__
warnings.warn("w")
assert "lib" not in sys.path[1]
"""
    (tmp_path / "program.py").write_text(text)
    command = [*words, "program.py"]
    assert outcome(warm_python(), command, tmp_path, **variables) == outcome(
        RealPython(), command, tmp_path, **variables
    )


def test_what_is_sent_to_the_one_who_asked_reaches_the_fork_and_who_kills_it_kills_both(tmp_path: Path) -> None:
    """Bug: a job that a test cancels, and that runs on; or another exit code than the signal's."""
    text = "import os, sys, time; print(os.getpid(), flush=True); time.sleep(100)"
    for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGUSR1):
        with subprocess.Popen([warm_python().python, "-c", text], cwd=tmp_path, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            fork = int(process.stdout.readline())
            assert fork != process.pid
            process.send_signal(number)
            assert process.wait(PATIENCE) == -number
        until(lambda fork=fork: not Path(f"/proc/{fork}").exists())  # type: ignore[misc]


def test_the_fork_is_as_the_shell_made_the_process(tmp_path: Path) -> None:
    """Bug: SIGINT that a shell had ignored for what runs in the background; or the limits of the server."""
    text = """import os, resource, signal
print(signal.getsignal(2), resource.getrlimit(resource.RLIMIT_NOFILE)[0], os.nice(0))
"""
    (tmp_path / "program.py").write_text(text)
    (tmp_path / "job.sh").write_text('trap "" INT; ulimit -n 99; exec nice -n 3 "$1" program.py')
    shown = [
        subprocess.check_output(["sh", "job.sh", python], cwd=tmp_path, text=True)
        for python in (sys.executable, warm_python().python)
    ]
    assert shown[0] == shown[1]
    assert " 99 " in shown[1]

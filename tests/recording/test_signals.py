"""Signals to a process that records a run: who is told, who dies, and what the run says."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import PATIENCE, read_yaml, until

from mlxp_core import start_run
from mlxp_core.recording import run as run_module

LOOP = """
import os, signal, sys, time
from mlxp_core import start_run
folder = sys.argv[1]

def touch(name):
    open(os.path.join(folder, name), "w").close()

with start_run(os.path.join(folder, "logs")) as run:
    {before}
    if {asks}:
        run.stop_requested
    touch("up")
    for _ in range(3000):
        time.sleep(0.01)
        if {asks} and run.stop_requested:
            touch("told")
            {told}
    touch("past")
print("after")
"""


class Looping:
    """A program with a loop that may ask."""

    def __init__(self, folder: Path, *, asks: bool = True, told: str = "break", before: str = "pass") -> None:
        self.folder = folder
        text = LOOP.format(asks=asks, told=told, before=before)
        self.process = subprocess.Popen(
            [sys.executable, "-c", text, str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        until((folder / "up").exists)

    def end(self) -> tuple[int, str, str | None, str | None]:
        """Exit code; status, signal and type of the error as recorded."""
        self.out, self.err = self.process.communicate(timeout=PATIENCE)
        info = read_yaml(self.folder / "logs" / "1" / "metadata" / "info.yaml")
        return self.process.returncode, info["status"], info.get("stop_signal"), info.get("error", {}).get("type")


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, "CANCELLED"), (signal.SIGUSR1, "PREEMPTED"), (signal.SIGUSR2, "PREEMPTED")]
)
def test_a_program_that_never_asks_dies_of_the_signal_and_is_marked(
    tmp_path: Path, number: signal.Signals, status: str
) -> None:
    """Bug: a program that knows nothing of us cannot be ended; or it is, and its run says RUNNING."""
    program = Looping(tmp_path, asks=False)
    program.process.send_signal(number)
    assert program.end() == (-number, status, number.name, number.name)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2])
@pytest.mark.parametrize(
    ("told", "code", "status", "error"),
    [
        ("break", 0, "PREEMPTED", None),
        ("sys.exit(3)", 3, "PREEMPTED", None),
        ("raise KeyError", 1, "FAILED", "KeyError"),
    ],
)
def test_a_program_that_asks_is_told_and_leaves_by_itself(
    tmp_path: Path, number: signal.Signals, told: str, code: int, status: str, error: str | None
) -> None:
    """Bug: no time for a checkpoint; COMPLETE, of a run that is half done; a crash that is taken for leaving."""
    program = Looping(tmp_path, told=told)
    program.process.send_signal(number)
    assert program.end() == (code, status, number.name, error)
    assert f"{number.name} asks it to stop" in program.err


def test_a_signal_that_the_program_has_not_seen_changes_nothing(tmp_path: Path) -> None:
    """Bug: PREEMPTED, of a run that came to its end."""
    program = Looping(
        tmp_path, asks=False, before="run.stop_requested; touch('up'); os.kill(os.getpid(), signal.SIGTERM); sys.exit()"
    )
    assert program.end() == (0, "COMPLETE", None, None)


def test_two_sigterms_in_the_same_moment_are_one_and_a_later_one_ends_the_program(tmp_path: Path) -> None:
    """Bug: the scheduler's own and the one that script.sh passes on: no time to save; or only SIGKILL ends it."""
    program = Looping(tmp_path, told="pass")
    program.process.send_signal(signal.SIGUSR1)
    until((tmp_path / "told").exists)
    for _ in range(3):
        program.process.send_signal(signal.SIGTERM)
        time.sleep(0.1)
    assert program.process.poll() is None
    time.sleep(3)  # what counts as the same moment
    program.process.send_signal(signal.SIGTERM)
    assert program.end() == (-15, "CANCELLED", "SIGTERM", "SIGTERM")


def test_workers_outlive_a_warning_to_all_processes_and_die_by_sigterm(tmp_path: Path) -> None:
    """Bug: a DataLoader's worker dies of the warning, and the training of its error; or its parent cannot end it."""
    before = "child = os.fork(); child or [touch('worker'), time.sleep(60)]"
    told = (
        "os.kill(child, signal.SIGUSR1); time.sleep(0.3); alive = os.waitpid(child, os.WNOHANG) == (0, 0); "
        "os.kill(child, signal.SIGTERM); print(alive, os.waitpid(child, 0)[1]); break"
    )
    program = Looping(tmp_path, before=before, told=told)
    until((tmp_path / "worker").exists)
    program.process.send_signal(signal.SIGUSR1)
    assert program.end() == (0, "PREEMPTED", "SIGUSR1", None)
    assert program.out == "True 15\nafter\n"


def test_a_forked_child_may_be_the_one_that_asks(tmp_path: Path) -> None:
    """Bug: the loop runs in a child, the signal reaches its parent, and neither knows."""
    before = (
        "child = os.fork()\n"
        "    if child == 0:\n"
        "        while not run.stop_requested: touch('asks'); time.sleep(0.01)\n"
        "        os._exit(0)\n"
        "    while not os.path.exists(os.path.join(folder, 'asks')): time.sleep(0.01)\n"
        "    touch('up'); os.waitpid(child, 0); sys.exit()"
    )
    program = Looping(tmp_path, asks=False, before=before)
    program.process.send_signal(signal.SIGTERM)
    assert program.end() == (0, "PREEMPTED", "SIGTERM", None)


def test_a_handler_in_c_is_left_alone(tmp_path: Path) -> None:
    """Bug: faulthandler.register(SIGUSR1), which Python's signal module does not know of, is replaced."""
    program = f"""
import faulthandler, os, signal, sys
faulthandler.register(signal.SIGUSR1, file=sys.stdout)
from mlxp_core import start_run
with start_run({str(tmp_path)!r}) as run:
    assert not run.stop_requested
    os.kill(os.getpid(), signal.SIGUSR1)
    assert not run.stop_requested
    os.kill(os.getpid(), signal.SIGUSR2)
    assert run.stop_requested
os.kill(os.getpid(), signal.SIGUSR1)
assert signal.getsignal(signal.SIGUSR2) is signal.SIG_DFL
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.count("most recent call first") == 2


def test_the_next_run_of_a_process_that_was_asked_to_stop_knows(tmp_path: Path) -> None:
    """Bug: a multirun in one process begins its next job with minutes to go, and is killed in it."""
    program = f"""
import os, signal
from mlxp_core import start_run
for _ in range(2):
    with start_run({str(tmp_path)!r}) as run:
        if not run.stop_requested:
            os.kill(os.getpid(), signal.SIGUSR1)
        assert run.stop_requested
"""
    subprocess.run([sys.executable, "-c", program], check=True)
    infos = [read_yaml(tmp_path / name / "metadata" / "info.yaml") for name in "12"]
    assert [info["status"] for info in infos] == ["PREEMPTED", "PREEMPTED"]


SPAWNED = """
import multiprocessing, os, signal, sys, time
from mlxp_core import current_run, start_run

def loop(is_up):
    run = current_run()
    run.stop_requested
    os.kill(os.getpid(), signal.SIGUSR1)  # the scheduler's goes to each process of a job
    is_up.set()
    for _ in range(3000):
        if run.stop_requested:
            sys.exit(7)
        time.sleep(0.01)

if __name__ == "__main__":
    for method in ("spawn", "forkserver"):
        context = multiprocessing.get_context(method)
        is_up = context.Event()
        with start_run("logs") as run:
            worker = context.Process(target=loop, args=(is_up,))
            worker.start()
            is_up.wait()
            os.kill(os.getpid(), signal.SIGUSR1)
            worker.join()
            assert worker.exitcode == 7, worker.exitcode
"""


def test_a_spawned_worker_may_be_the_one_that_asks(tmp_path: Path) -> None:
    """Bug: stop_requested is False for ever in a worker of torch.multiprocessing.spawn, and the signal kills it."""
    (tmp_path / "main.py").write_text(SPAWNED)
    done = subprocess.run([sys.executable, "main.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    infos = [read_yaml(tmp_path / "logs" / name / "metadata" / "info.yaml") for name in "12"]
    assert [(info["status"], info["stop_signal"]) for info in infos] == [("PREEMPTED", "SIGUSR1")] * 2


def test_a_process_that_cannot_be_told_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Bug: False for ever, without a word, on another host."""
    with start_run(tmp_path) as run:
        data = pickle.dumps(run)
        monkeypatch.setattr(run_module, "_handles", {})
        handle = pickle.loads(data)
        monkeypatch.setattr(socket, "gethostname", lambda: "another")
        assert not handle.stop_requested
        assert not handle.stop_requested
    (message,) = caplog.messages
    assert (
        f"stop_requested stays False in this process, which cannot see that of the run, process {os.getpid()}"
        in message
    )

"""Run the queue of ``mlxp_local``: a program of its own, spoken to by its commands like any scheduler.

    python local_queue.py submit SCRIPT     prints the job's id
    python local_queue.py status            prints id|index|state|reason|script of every task
    python local_queue.py cancel ID|ID_INDEX...

A submission gets a process that outlives the shell that made it (a session of its own), runs the script, or each task
of its array with at most P at once, and keeps their states in a spool folder. Directives are lines ``#LOCAL --option``:
``--array=1-N[%P]``, ``--job-name``, ``--output`` and ``--error`` (``%a`` is the index, ``%%`` a percent sign), read
up to the first command. Standard library only, so that a submission starts at once. Linux and macOS.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import itertools
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

PREFIX = "#LOCAL"
INDEX = "MLXP_LOCAL_TASK_ID"
JOB = "MLXP_LOCAL_JOB_ID"
REMEMBER = 7 * 24 * 3600  # seconds that an ended submission stays in the spool
GRACE = 30  # seconds between SIGTERM and SIGKILL of a cancelled task


def spool() -> Path:
    """This user's spool on this machine; a home may be shared between machines, so the host's name is part of it."""
    chosen = os.environ.get("MLXP_LOCAL_SPOOL")
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    folder = Path(chosen) if chosen else state / "hydra-mlxp" / "queue" / socket.gethostname()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def read_directives(script: str) -> argparse.Namespace:
    """Options of the script's directive lines; an unknown one ends the program, with what it is, as sbatch does."""
    comments = itertools.takewhile(lambda line: not line.strip() or line.startswith("#"), script.splitlines())
    lines = [line[len(PREFIX) :] for line in comments if line.startswith((PREFIX + " ", PREFIX + "\t"))]
    parser = argparse.ArgumentParser(prog="mlxp_local", usage=argparse.SUPPRESS, add_help=False, allow_abbrev=False)
    parser.add_argument("--array")
    parser.add_argument("--job-name")
    parser.add_argument("--output")
    parser.add_argument("--error")
    options = parser.parse_args([word for line in lines for word in shlex.split(line, comments=True)])
    array = re.fullmatch(r"1-([1-9]\d*)(?:%([1-9]\d*))?", options.array or "")
    if options.array and not array:
        parser.error(f"invalid --array={options.array}: it is 1-N or 1-N%P")
    options.count = int(array[1]) if array else None
    options.parallel = int(array[2]) if array and array[2] else cpus()
    return options


def cpus() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def submit(path: Path) -> int:
    """Start the process that runs a script's tasks; print the job's id once that process is there."""
    try:
        script = path.read_text(encoding="utf-8")
    except OSError as error:
        sys.exit(f"mlxp_local: cannot read {path}: {error.strerror}")
    if not script.startswith("#!"):
        sys.exit(f"mlxp_local: {path} is no script: its first line must be #! and an interpreter")
    options = read_directives(script)
    interpreter = shlex.split(script.splitlines()[0][2:]) or [""]
    forget_old()
    if shutil.which(interpreter[0]) is None:
        sys.exit(f"mlxp_local: {path} starts with {script.splitlines()[0]}, and there is no {interpreter[0]} here")
    job_id, folder = new_job()
    job = {
        "script": str(path.absolute()),
        "count": options.count,
        "interpreter": interpreter,
    }
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    ready, says_ready = os.pipe()
    if os.fork() == 0:
        os.close(ready)
        os.setsid()
        if os.fork() != 0:
            os._exit(0)
        run_detached(folder, job, options, says_ready)
    os.close(says_ready)
    os.wait()
    if os.read(ready, 1) != b"!":
        sys.exit(f"mlxp_local: the queue of job {job_id} did not start; see {folder / 'log'}")
    print(job_id)
    return 0


def new_job() -> tuple[int, Path]:
    """The next id and its folder; making the folder is the lock."""
    number = max((int(path.name) for path in spool().iterdir() if path.name.isdigit()), default=0)
    while True:
        number += 1
        folder = spool() / str(number)
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            return number, folder


def forget_old() -> None:
    """Remove what ended long ago; the newest id stays, so that no id comes twice."""
    folders = sorted((path for path in spool().iterdir() if path.name.isdigit()), key=lambda path: int(path.name))
    for folder in folders[:-1]:
        if time.time() - folder.stat().st_mtime > REMEMBER and not is_held(folder):
            for file in folder.iterdir():
                file.unlink(missing_ok=True)
            folder.rmdir()


def run_detached(folder: Path, job: dict[str, Any], options: argparse.Namespace, says_ready: int) -> NoReturn:
    """Be the queue of one submission."""
    try:
        null, out = os.open(os.devnull, os.O_RDONLY), os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for theirs, ours in ((null, 0), (out, 1), (out, 2)):
            os.dup2(theirs, ours)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT)
        fcntl.flock(lock, fcntl.LOCK_EX)  # held as long as this process lives, however that ends
        queue = Queue(folder, job, options)
        signal.signal(signal.SIGTERM, queue.cancel)
        signal.signal(signal.SIGUSR1, queue.cancel_tasks)
        (folder / "pid").write_text(str(os.getpid()), encoding="utf-8")
        os.write(says_ready, b"!")
        os.close(says_ready)
        queue.run()
    except BaseException:  # noqa: BLE001  (the end of a process that nobody waits for: its log must say why)
        import traceback  # noqa: PLC0415

        traceback.print_exc()
        os._exit(1)
    os._exit(0)


class Queue:
    """Runs the tasks of one submission, in order, some at a time."""

    def __init__(self, folder: Path, job: dict[str, Any], options: argparse.Namespace) -> None:
        self.folder = folder
        self.states = folder / "states"
        self.job = job
        self.options = options
        self.waiting: list[int | None] = [None] if options.count is None else list(range(1, options.count + 1))
        self.running: dict[int, tuple[int | None, subprocess.Popen[bytes]]] = {}  # by pid
        self.cancelled = False
        self.cancelled_tasks: set[int | None] = set()

    def run(self) -> None:
        while self.running or (self.waiting and not self.cancelled):
            while self.waiting and not self.cancelled and len(self.running) < self.options.parallel:
                self.start(self.waiting.pop(0))
            if self.running:
                self.reap()
        for index in self.waiting:
            self.note(index, "CANCELLED")

    def start(self, index: int | None) -> None:
        environment = dict(os.environ)
        environment.pop(INDEX, None)
        environment[JOB] = self.folder.name
        if index is not None:
            environment[INDEX] = str(index)
        try:
            task = subprocess.Popen(  # noqa: S603  (the user's own job)
                [*self.job["interpreter"], self.job["script"]],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=self.open(self.options.output, index),
                stderr=self.open(self.options.error or self.options.output, index),
                start_new_session=True,  # so that a cancel reaches all that the task has started
            )
        except OSError as error:  # an output that cannot be made: this task's misfortune, not the queue's
            self.note(index, "FAILED", str(error).replace("\n", " "))
            return
        self.running[task.pid] = index, task
        self.note(index, "RUNNING")
        if self.is_cancelled(index):  # meanwhile
            os.killpg(task.pid, signal.SIGTERM)

    def open(self, pattern: str | None, index: int | None) -> int:
        values = {"%a": str(index), "%%": "%"}
        path = os.devnull if pattern is None else re.sub("%[a%]", lambda match: values[match[0]], pattern)
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)

    def reap(self) -> None:
        """Wait until a task ends, and note how."""
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        assert ended is not None  # noqa: S101  (only WNOHANG gives None)
        index, task = self.running.pop(ended.si_pid)
        code = task.wait()
        state = "COMPLETED" if code == 0 else "CANCELLED" if self.is_cancelled(index) else "FAILED"
        self.note(index, state, f"exit {code}")

    def is_cancelled(self, index: int | None) -> bool:
        return self.cancelled or index in self.cancelled_tasks

    def cancel(self, *_: object) -> None:
        """On SIGTERM: start nothing more, end what runs, kill what does not end in time."""
        self.cancelled = True
        self.end_cancelled()

    def cancel_tasks(self, *_: object) -> None:
        """On SIGUSR1: the same for the tasks that the file ``cancel`` names."""
        for line in (self.folder / "cancel").read_text(encoding="utf-8").splitlines():
            index = int(line)
            if index not in self.cancelled_tasks:
                self.cancelled_tasks.add(index)
                if index in self.waiting:
                    self.waiting.remove(index)
                    self.note(index, "CANCELLED")
        self.end_cancelled()

    def end_cancelled(self) -> None:
        self.signal_cancelled(signal.SIGTERM)
        signal.signal(signal.SIGALRM, lambda *_: self.signal_cancelled(signal.SIGKILL))
        signal.alarm(GRACE)

    def signal_cancelled(self, number: int) -> None:
        for pid, (index, _) in list(self.running.items()):
            if self.is_cancelled(index):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, number)

    def note(self, index: int | None, state: str, reason: str = "") -> None:
        with self.states.open("a", encoding="utf-8") as file:
            file.write(f"{'' if index is None else index}|{state}|{reason}\n")


def is_held(folder: Path) -> bool:
    """Tell whether the queue of a submission lives."""
    try:
        lock = os.open(folder / "lock", os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(lock)


def status() -> int:
    """Print a line for each task of every submission that is remembered."""
    for folder in sorted((path for path in spool().iterdir() if path.name.isdigit()), key=lambda path: int(path.name)):
        alive = is_held(folder)  # before the states are read: one that ends in between has noted it
        try:
            job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue  # being made, or its maker died before anything was submitted
        states = (
            {str(i): ("PENDING", "") for i in range(1, job["count"] + 1)} if job["count"] else {"": ("PENDING", "")}
        )
        with contextlib.suppress(FileNotFoundError):
            for line in (folder / "states").read_text(encoding="utf-8").splitlines():
                index, state, reason = line.split("|", 2)
                states[index] = state, reason
        for index, (state, reason) in states.items():
            lost = not alive and state in {"PENDING", "RUNNING"}
            print(folder.name, index, "LOST" if lost else state, reason, job["script"], sep="|")
    return 0


def cancel(ids: list[str]) -> int:
    """Ask the queues of submissions to end, or to end some of their tasks."""
    code = 0
    for job_id in ids:
        name, _, index = job_id.partition("_")
        folder = spool() / name
        if not name.isdigit() or not folder.is_dir() or not (index or "1").isdigit():
            print(f"mlxp_local: there is no job {job_id}", file=sys.stderr)
            code = 1
        elif is_held(folder):
            if index:
                with (folder / "cancel").open("a", encoding="utf-8") as file:
                    file.write(f"{index}\n")
            pid = int((folder / "pid").read_text(encoding="utf-8"))
            os.kill(pid, signal.SIGUSR1 if index else signal.SIGTERM)
    return code


def main() -> int:
    """Run one command."""
    parser = argparse.ArgumentParser(prog="mlxp_local", description="The queue of hydra/launcher=mlxp_local.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("submit").add_argument("script", type=Path)
    commands.add_parser("status")
    commands.add_parser("cancel").add_argument("ids", nargs="+")
    arguments = parser.parse_args()
    if arguments.command == "submit":
        return submit(arguments.script)
    return status() if arguments.command == "status" else cancel(arguments.ids)


if __name__ == "__main__":
    sys.exit(main())

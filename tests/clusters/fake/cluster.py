"""A queue on disk that really runs jobs: what the fake TORQUE, PBS Pro, MWM and LSF have in common.

    MLXP_FAKE_CLUSTER=SPOOL python cluster.py stop               cancels all, ends the scheduler process, waits for it
                                              kill-memory JOB    as the kernel does to a job over its memory limit
                                              kill-node JOB      the node of a job dies, and the job with it
                                              requeue JOB        back to the queue, under the same id
                                              list               one line of JSON for each task

JOB is a number, or number[index] for a task. The dialects' commands put jobs into an SQLite file of the spool; one
detached process for each spool starts them, ends them and delivers their output. The first submission starts it, and
it ends by itself when nothing is left to do. This module knows no dialect: a job says what it is to run and where its
output goes. Standard library only, Linux only (a job's processes are found in /proc).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import select
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

# Stand for what is not known before the submission (id) or before the start (index) in a job's paths and variables.
# A null byte can be in neither, so no user's text is taken for them.
ID, INDEX = "\0id\0", "\0index\0"

SCHEMA = """
CREATE TABLE IF NOT EXISTS job (id INTEGER PRIMARY KEY AUTOINCREMENT, submitted REAL, data TEXT);
CREATE TABLE IF NOT EXISTS task (
    job INTEGER, idx INTEGER, state TEXT, attempt INTEGER DEFAULT 0, pid INTEGER, started REAL, ended REAL,
    code INTEGER, signal INTEGER, reason TEXT DEFAULT '', stopping INTEGER DEFAULT 0, PRIMARY KEY (job, idx));
CREATE TABLE IF NOT EXISTS request (id INTEGER PRIMARY KEY, job INTEGER, idx INTEGER, action TEXT);
"""


def spool() -> Path:
    """The folder that is the cluster."""
    chosen = os.environ.get("MLXP_FAKE_CLUSTER")
    if not chosen:
        sys.exit("the fake cluster has no folder: set MLXP_FAKE_CLUSTER to one")
    folder = Path(chosen)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def setting(name: str, default: Any) -> Any:
    """What a test wrote into a file of the spool, as the type of the default."""
    try:
        return type(default)((spool() / name).read_text(encoding="utf-8").strip() or default)
    except FileNotFoundError:
        return default


@contextlib.contextmanager
def database() -> Iterator[sqlite3.Connection]:
    """One transaction; nobody else writes meanwhile."""
    connection = sqlite3.connect(spool() / "queue.db", timeout=60, isolation_level=None)
    connection.row_factory = sqlite3.Row
    try:
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("BEGIN IMMEDIATE")
        if not has_schema(connection):
            make_schema(connection)
        yield connection
        connection.execute("COMMIT")
    finally:
        connection.close()  # rolls back what was not committed


def has_schema(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'request'").fetchone() is not None


def make_schema(connection: sqlite3.Connection) -> None:
    for statement in SCHEMA.split(";"):
        connection.execute(statement)


class Task(NamedTuple):
    """One thing that runs: a job without an array, or an element of an array."""

    job: int
    idx: int  # 0 where there is no array, or the element's index
    state: str  # queued, running, ended, vanished (its node died)
    attempt: int
    pid: int | None
    started: float | None
    ended: float | None
    code: int | None  # what it exited with
    signal: int | None  # or what killed it
    reason: str  # cancelled, walltime, memory, node; "" where it ended by itself
    stopping: int  # signals are being sent


class Job(NamedTuple):
    """A submission."""

    id: int
    submitted: float
    data: dict[str, Any]
    tasks: list[Task]

    @property
    def is_array(self) -> bool:
        return bool(self.data["array"])

    @property
    def ended(self) -> bool:
        return all(task.state in {"ended", "vanished"} for task in self.tasks)


def load(connection: sqlite3.Connection, where: str = "1", *values: Any) -> list[Job]:
    """Jobs with their tasks."""
    rows = connection.execute(f"SELECT * FROM job WHERE {where} ORDER BY id", values)
    jobs = {row["id"]: Job(row["id"], row["submitted"], json.loads(row["data"]), []) for row in rows}
    for row in connection.execute("SELECT * FROM task ORDER BY job, idx"):
        if row["job"] in jobs:
            jobs[row["job"]].tasks.append(Task(**dict(row)))
    return list(jobs.values())


def visible(keep: float) -> list[Job]:
    """Jobs that the queue still tells of: not those that ended more than ``keep`` seconds ago."""
    keep = 0 if (spool() / "forget").exists() else setting("keep_completed", keep)
    with database() as connection:
        jobs = load(connection)
    oldest = time.time() - keep
    mine = [job for job in jobs if job.data["folder"] == commands_folder()]
    return [job for job in mine if not job.ended or max(task.ended or 0 for task in job.tasks) > oldest]


def commands_folder() -> str:
    """Where the running command lies: two dialects on one spool do not see each other's jobs."""
    return Path(sys.argv[0]).absolute().parent.name


def submit(data: dict[str, Any], script: bytes) -> int:
    """Put a job into the queue, and give its number. The script is copied: what happens to it later does not matter.

    data: argv (the copied script's path is appended where ``script`` is true), cwd, env, out and err (paths, err None
    for both in one), default_out and default_err (names in an out or err that is a folder), array (indices), parallel,
    walltime (seconds or None), rerunnable, plus what the dialect wants to know again.
    """
    data = {"parallel": 0, "walltime": None, "rerunnable": True, "hold": False, "requeue_codes": [], **data}
    data["folder"] = commands_folder()
    with database() as connection:
        number = connection.execute("INSERT INTO job (submitted, data) VALUES (?, '{}')", (time.time(),)).lastrowid
        assert number is not None
        folder = spool() / "jobs"
        folder.mkdir(exist_ok=True)
        copy = folder / f"{number}.SC"
        copy.write_bytes(script)
        copy.chmod(0o700)
        text = json.dumps({**data, "copy": str(copy)}).replace(json.dumps(ID)[1:-1], str(number))
        connection.execute("UPDATE job SET data = ? WHERE id = ?", (text, number))
        rows = [(number, index) for index in data["array"] or [0]]
        connection.executemany("INSERT INTO task (job, idx, state) VALUES (?, ?, 'queued')", rows)
    wake()
    return number


def ask(action: str, tasks: list[tuple[int, int | None]]) -> None:
    """Ask the scheduler process for something about tasks (job and index; None: all of the job's), in one go.

    action: cancel, memory, node, requeue.
    """
    with database() as connection:
        rows = [(job, idx, action) for job, idx in tasks]
        connection.executemany("INSERT INTO request (job, idx, action) VALUES (?, ?, ?)", rows)
    wake()


def wake() -> None:
    """Start the scheduler process unless it runs; tell it that there is something new."""
    with (spool() / "start.lock").open("w") as one_at_a_time:
        fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
        fifo = spool() / "wake"
        with contextlib.suppress(FileExistsError):
            os.mkfifo(fifo)
        lock = os.open(spool() / "scheduler.lock", os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with contextlib.suppress(OSError):  # it ends just now, and has seen what we put in
                pipe = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
                os.write(pipe, b"!")
                os.close(pipe)
        else:
            import subprocess  # here: most commands have no use for it, and tests run hundreds of them

            # the lock goes with the descriptor: it is held before we return, and as long as that process lives
            with (spool() / "scheduler.log").open("ab") as log:
                subprocess.Popen(
                    [sys.executable, "-I", "-S", str(Path(__file__).resolve()), "schedule", str(lock)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=(lock,),
                    start_new_session=True,
                    cwd="/",
                    env={"MLXP_FAKE_CLUSTER": str(spool().absolute()), "PATH": os.defpath},
                )
        finally:
            os.close(lock)


class Scheduler:
    """The process of a spool: starts what is queued, ends what must end, delivers output."""

    def __init__(self, lock: int) -> None:
        self.lock = lock
        self.running: dict[tuple[int, int], Running] = {}
        os.set_inheritable(lock, False)
        self.fifo = os.open(spool() / "wake", os.O_RDWR | os.O_NONBLOCK)
        self.child_ended, told = os.pipe()
        os.set_blocking(told, False)
        os.set_blocking(self.child_ended, False)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, signal.SIG_DFL)  # or jobs would ignore what some shell has made our parents ignore
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(told, warn_on_full_buffer=False)

    def run(self) -> None:
        with database() as connection:  # what an earlier process left: it was killed, and its jobs are lost
            connection.execute("UPDATE task SET state = 'vanished', ended = ? WHERE state = 'running'", (time.time(),))
        while True:
            with database() as connection:
                stop = self.obey(connection)
                self.reap(connection)
                self.end_late(connection)
                if not stop:
                    self.start(connection)
                if not self.running and (stop or not self.waiting(connection)):
                    fcntl.flock(self.lock, fcntl.LOCK_UN)  # inside the transaction: a new job comes before or after
                    return
            self.sleep()

    def waiting(self, connection: sqlite3.Connection) -> bool:
        held = "json_extract(data, '$.hold') = 1"
        query = f"SELECT 1 FROM task WHERE state = 'queued' AND job NOT IN (SELECT id FROM job WHERE {held})"
        return connection.execute(f"{query} UNION SELECT 1 FROM request").fetchone() is not None

    def sleep(self) -> None:
        """Until something happens or is due."""
        due = [at for running in self.running.values() for at, _ in running.plan]
        due += [running.limit for running in self.running.values() if running.limit and not running.reason]
        timeout = max(0.0, min(due) - time.time()) if due else 10.0
        ready, _, _ = select.select([self.fifo, self.child_ended], [], [], timeout)
        for descriptor in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(descriptor, 4096)

    def obey(self, connection: sqlite3.Connection) -> bool:
        """Do what was asked for; whether that was to stop."""
        stop = False
        for row in connection.execute("SELECT * FROM request ORDER BY id").fetchall():
            connection.execute("DELETE FROM request WHERE id = ?", (row["id"],))
            if row["action"] == "stop":
                stop = True
                connection.execute(
                    "UPDATE task SET state = 'vanished', ended = ? WHERE state = 'queued'", (time.time(),)
                )
                for running in self.running.values():
                    running.reason = "node"
                    running.job.data["rerunnable"] = False
                    running.send(signal.SIGKILL)
                continue
            for task in connection.execute(
                "SELECT * FROM task WHERE job = ? AND (? IS NULL OR idx = ?)", (row["job"], row["idx"], row["idx"])
            ).fetchall():
                self.obey_one(connection, Task(**dict(task)), row["action"])
        return stop

    def obey_one(self, connection: sqlite3.Connection, task: Task, action: str) -> None:
        running = self.running.get((task.job, task.idx))
        if running is None:
            if task.state == "queued" and action == "cancel":
                values = (time.time(), task.job, task.idx)
                connection.execute(
                    "UPDATE task SET state = 'ended', reason = 'cancelled', ended = ? WHERE job = ? AND idx = ?", values
                )
            return
        if running.reason:
            return  # it is being ended already
        running.reason = {"cancel": "cancelled"}.get(action, action)
        if action == "cancel":
            running.stop(connection, running.job.data["cancel_signals"])
        else:
            running.stop(connection, ["KILL"])

    def reap(self, connection: sqlite3.Connection) -> None:
        """Note the ends of processes."""
        for key, running in list(self.running.items()):
            code = running.process.poll()
            if code is None:
                continue
            running.send(signal.SIGKILL)  # what it has left behind
            del self.running[key]
            again = running.job.data["rerunnable"] if running.reason == "node" else running.reason == "requeue"
            if not running.reason and code in running.job.data["requeue_codes"]:
                again = True
            if again:
                if running.reason == "node":
                    running.forget_output()
                queued = "state = 'queued', pid = NULL, started = NULL, stopping = 0"
                connection.execute(f"UPDATE task SET {queued} WHERE job = ? AND idx = ?", key)
                continue
            state = "vanished" if running.reason == "node" else "ended"
            now = time.time()
            ended = {
                "code": code if code >= 0 else None,
                "signal": -code if code < 0 else None,
                "reason": running.reason,
            }
            if state == "ended":
                running.deliver({**ended, "started": running.started, "ended": now})
            connection.execute(
                "UPDATE task SET state = ?, code = ?, signal = ?, reason = ?, stopping = 0, ended = ? "
                "WHERE job = ? AND idx = ?",
                (state, ended["code"], ended["signal"], ended["reason"], now, *key),
            )

    def end_late(self, connection: sqlite3.Connection) -> None:
        """Send the signals that are due."""
        now = time.time()
        for running in self.running.values():
            if running.limit and now >= running.limit and not running.reason:
                running.reason = "walltime"
                running.stop(connection, running.job.data["limit_signals"])
            running.send_due(now)

    def start(self, connection: sqlite3.Connection) -> None:
        free = setting("slots", 8) - len(self.running)
        if free <= 0:
            return
        for job in load(connection, "id IN (SELECT job FROM task WHERE state = 'queued')"):
            if job.data["hold"]:
                continue
            mine = sum(number == job.id for number, _ in self.running)
            room = min(free, (job.data["parallel"] or free + mine) - mine)
            for task in [task for task in job.tasks if task.state == "queued"][: max(0, room)]:
                self.start_one(connection, job, task)
                free -= 1

    def start_one(self, connection: sqlite3.Connection, job: Job, task: Task) -> None:
        now = time.time()
        try:
            running = Running(job, task, now)
        except OSError as error:  # no such folder or interpreter
            print(f"{job.id}[{task.idx}]: {error}", flush=True)
            connection.execute(
                "UPDATE task SET state = 'ended', code = -1, reason = 'start', ended = ? WHERE job = ? AND idx = ?",
                (now, job.id, task.idx),
            )
            return
        self.running[job.id, task.idx] = running
        connection.execute(
            "UPDATE task SET state = 'running', pid = ?, started = ?, attempt = attempt + 1 WHERE job = ? AND idx = ?",
            (running.process.pid, now, job.id, task.idx),
        )


class Running:
    """A task's processes and its output so far."""

    def __init__(self, job: Job, task: Task, now: float) -> None:
        self.job = job
        self.task = task
        self.started = now
        self.reason = ""
        self.plan: list[tuple[float, int]] = []  # when to send what
        wall = job.data["walltime"]
        self.limit = now + min(wall, setting("limit_seconds", float(wall))) if wall else None
        data = job.data
        environment = {name: self.fill(value) for name, value in data["env"].items()}
        for variable, names in data.get("node_files", {}).items():
            path = spool() / "jobs" / f"{job.id}.{task.idx}.nodes"
            path.write_text(names, encoding="utf-8")
            environment[variable] = str(path)
        import subprocess

        folder = spool() / "output"
        folder.mkdir(exist_ok=True)
        self.out = Path(self.destination("out")) if data.get("direct") else folder / f"{job.id}.{task.idx}.OU"
        self.err = self.out
        if data["err"] is not None:
            self.err = Path(self.destination("err")) if data.get("direct") else folder / f"{job.id}.{task.idx}.ER"
        with self.out.open("ab") as out, self.err.open("ab") as err:
            self.process = subprocess.Popen(
                [*data["argv"], *([data["copy"]] if data["script"] else [])],
                cwd=data["cwd"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out if data["err"] is None else err,
                start_new_session=True,
            )

    def fill(self, text: str) -> str:
        return text.replace(INDEX, str(self.task.idx))

    def destination(self, which: str) -> str:
        path = self.fill(self.job.data[which])
        if os.path.isdir(path):
            path = os.path.join(path, self.fill(self.job.data[f"default_{which}"]))
        return path

    def stop(self, connection: sqlite3.Connection, names: list[str]) -> None:
        """Begin to end it: the first signal now, each other one ``kill_delay`` later."""
        delay = setting("kill_delay", 2.0)
        now = time.time()
        self.plan = [(now + i * delay, int(getattr(signal, f"SIG{name}"))) for i, name in enumerate(names)]
        connection.execute("UPDATE task SET stopping = 1 WHERE job = ? AND idx = ?", (self.task.job, self.task.idx))
        self.send_due(now)

    def send_due(self, now: float) -> None:
        while self.plan and self.plan[0][0] <= now:
            self.send(self.plan.pop(0)[1])

    def send(self, number: int) -> None:
        """To all processes of the session, as a batch system does, not to the shell alone."""
        for pid in session_members(self.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def forget_output(self) -> None:
        if not self.job.data.get("direct"):
            for path in {self.out, self.err}:
                path.unlink(missing_ok=True)

    def deliver(self, end: dict[str, Any]) -> None:
        """Bring the output to where it was asked for; what cannot be brought stays in ``undelivered``."""
        before, after = "", ""
        if self.job.data.get("report"):
            before, after = report(self.job, self.task, end)
        for which, path in {"out": self.out, "err": self.err}.items():
            if which == "err" and self.err == self.out:
                continue
            if self.job.data[which] is None:  # to nowhere but the mail
                self.mail(before + path.read_text(encoding="utf-8", errors="replace") + after)
                path.unlink()
                continue
            try:
                self.bring(path, self.destination(which), (before, after) if which == "out" else ("", ""))
            except OSError as error:
                print(f"{self.task.job}[{self.task.idx}]: {error}", flush=True)
                (spool() / "undelivered").mkdir(exist_ok=True)
                if path.exists():
                    path.rename(spool() / "undelivered" / path.name)

    def bring(self, path: Path, destination: str, around: tuple[str, str]) -> None:
        data = self.job.data
        if data.get("report_to") == "mail":
            self.mail("".join(around))
            around = ("", "")
        if data.get("direct"):
            if around[0]:
                with open(destination, "ab") as file:
                    file.write("".join(around).encode())
            return
        mode = "ab" if data.get("append" if path == self.out else "append_err") else "wb"
        with open(destination, mode) as file:
            file.write(around[0].encode() + path.read_bytes() + around[1].encode())
        path.unlink()

    def mail(self, text: str) -> None:
        if self.job.data.get("no_mail"):
            return
        (spool() / "mail").mkdir(exist_ok=True)
        (spool() / "mail" / f"{self.task.job}.{self.task.idx}").write_text(text, encoding="utf-8")


def report(job: Job, task: Task, end: dict[str, Any]) -> tuple[str, str]:
    """What the dialect says about an end around a job's output: its own function, by name."""
    sys.path.insert(0, str(Path(__file__).parent))
    module = __import__(job.data["report"])
    made: Callable[[Job, Task, dict[str, Any]], tuple[str, str]] = module.report
    return made(job, task, end)


def session_members(session: int) -> list[int]:
    """Processes of a session, its leader first."""
    found = [session]
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != session:
            with contextlib.suppress(OSError, IndexError):
                stat = Path("/proc", name, "stat").read_text(encoding="utf-8", errors="replace")
                if int(stat.rpartition(")")[2].split()[3]) == session:
                    found.append(int(name))
    return found


def stop() -> None:
    """Cancel all; come back when the scheduler process has gone."""
    lock = os.open(spool() / "scheduler.lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        ask("stop", [(0, None)])
        fcntl.flock(lock, fcntl.LOCK_EX)  # an end, and a lock that is free, is the same thing
    os.close(lock)


def main() -> int:
    command, *rest = sys.argv[1:] or ["help"]
    if command == "schedule":
        Scheduler(int(rest[0])).run()
    elif command == "stop":
        stop()
    elif command == "list":
        with database() as connection:
            for job in load(connection):
                for task in job.tasks:
                    print(json.dumps({"name": job.data["name"], **task._asdict()}))
    elif command in {"kill-memory", "kill-node", "requeue"} and len(rest) == 1:
        found = re.fullmatch(r"(\d+)(?:\[(\d+)\])?\S*", rest[0])
        if not found:
            sys.exit(f"{rest[0]} is no job: a number, or number[index]")
        ask(command.removeprefix("kill-"), [(int(found[1]), int(found[2]) if found[2] else None)])
    else:
        sys.exit(__doc__)
    return 0


if __name__ == "__main__":
    sys.exit(main())

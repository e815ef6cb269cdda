"""What tests share: a user's project in a repository of its own, and programs run as a user runs them."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from warm_python import RealPython, warm_python

ROOT = Path(__file__).resolve().parents[2]
# seconds for what takes one on an idle machine, and ends a test only where it never comes
PATIENCE = 600.0

MAIN = """\
import json
import os
import signal
import sys
import time

import hydra

from mlxp_core import current_run


@hydra.main(version_base=None, config_path="conf", config_name="config")
def main(cfg):
    run = current_run()
    for step in range(3):
        run.log_metrics({"loss": cfg.optimizer.lr * step + cfg.seed, "step": step}, log_name="train")
    print(json.dumps({"code": "A", "msg": cfg.msg, "cwd": os.getcwd(), "file": __file__}), flush=True)
    if cfg.do == "exit3":
        sys.exit(3)
    if cfg.do == "exit0":
        sys.exit(0)
    if cfg.do == "raise":
        raise ValueError("no luck")
    if cfg.do == "wait":
        open(cfg.flag, "w").close()
        time.sleep(600)
    if cfg.do == "hold":
        while not os.path.exists(cfg.flag):
            time.sleep(0.05)


if __name__ == "__main__":
    main()
"""

CONFIG = """\
defaults:
  - optimizer: sgd
  - _self_
seed: 0
msg: hello
do: null
flag: null
"""

# looks at stop_requested; do=twice: until its second attempt
COOPERATING = """\
import os
import time

import hydra

from mlxp_core import current_run


@hydra.main(version_base=None, config_path="conf", config_name="config")
def main(cfg):
    run = current_run()
    print(f"attempt {run.attempt}", flush=True)
    try:
        step = run.load_checkpoint()
    except FileNotFoundError:
        step = 0
    while not (os.path.exists(cfg.flag) or (cfg.do == "twice" and run.attempt == 2)):
        run.log_metrics({"step": step}, log_name="train")
        step += 1
        if run.stop_requested:
            run.log_checkpoint(step)
            run.log_metrics({"step": step}, log_name="train")  # after the checkpoint: the next attempt has it anew
            return
        if cfg.do == "each":
            run.log_checkpoint(step)
        time.sleep(0.2)
    run.log_metrics({"step": step}, log_name="train")


if __name__ == "__main__":
    main()
"""


def until(condition: Callable[[], Any], limit: float = PATIENCE, what: object = "") -> Any:
    """Wait for a condition, with a limit; give what it gave."""
    end = time.monotonic() + limit
    while True:
        begun = time.monotonic()
        if found := condition():
            return found
        now = time.monotonic()
        assert now < end, f"not within {limit} s: {what or condition}"
        # what is waited for needs the processor more than who waits
        time.sleep(max(0.05, 2 * (now - begun)))


def git(*arguments: str, cwd: Path) -> str:
    """Run git as nobody in particular."""
    who = [
        "-c",
        "safe.directory=*",
        "-c",
        "user.name=Test",
        "-c",
        "user.email=test@example.org",
        "-c",
        "init.defaultBranch=main",
    ]
    done = subprocess.run(["git", *who, *arguments], cwd=cwd, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def logged(folder: Path) -> list[int]:
    """Steps in the metrics of a run, or of an earlier attempt of it."""
    path = folder / "metrics" / "train.json"
    return [json.loads(line)["step"] for line in path.read_text().splitlines()] if path.exists() else []


class Project:
    """A user's repository with a Hydra program, and the means to run it."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.dir = folder
        self.environment = environment
        self.command = [warm_python().python, "main.py"]

    def start_for_real(self) -> None:
        """Have programs and jobs be started, not forked: for tests of what is loaded, or of processes."""
        self.command[0] = RealPython.python

    @property
    def logs(self) -> Path:
        return self.dir / "logs"

    def write(self, **files: str) -> None:
        """Put files in: ``write(**{"conf/a.yaml": "x: 1"})``."""
        for name, text in files.items():
            path = self.dir / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")

    def commit(self, message: str = "change") -> str:
        """Commit everything; give the hash."""
        git("add", "--all", cwd=self.dir)
        git("commit", "--quiet", "--message", message, cwd=self.dir)
        return self.commit_hash()

    def commit_hash(self) -> str:
        """The hash of HEAD."""
        return git("rev-parse", "HEAD", cwd=self.dir)

    def hurry(self, scheduler: str) -> None:
        """Have the program ask this scheduler as often as it likes, so that a test need not wait for its pauses."""
        patch = f"""
from mlxp_core.scheduler import load_scheduler

object.__setattr__(load_scheduler({scheduler!r}), "min_query_interval", 0.3)
"""
        main = (self.dir / "main.py").read_text(encoding="utf-8")
        self.write(**{"hurry.py": patch, "main.py": main.replace("import hydra\n", "import hurry\nimport hydra\n", 1)})
        self.commit()

    def start(self, *arguments: str, new_session: bool = False, **environment: str) -> subprocess.Popen[str]:
        """Start the program, and leave it running: a real process, for whoever signals or kills it."""
        python = RealPython.python if self.command[0] == warm_python().python else self.command[0]
        command = [python, *self.command[1:], *arguments]
        pipe = subprocess.PIPE
        return self.popen(command, environment, stdout=pipe, stderr=pipe, start_new_session=new_session)

    def popen_and_end(self, command: list[str], code: int = 0) -> str:
        """Run any command as the project's user; give what it printed, errors too."""
        process = self.popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        out, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == code, out
        return str(out)

    def popen(
        self, command: list[str], environment: dict[str, str] | None = None, **more: Any
    ) -> subprocess.Popen[str]:
        """Start any command as the project's user."""
        env = {**self.environment, **(environment or {})}
        return subprocess.Popen(command, cwd=self.dir, env=env, stdin=subprocess.DEVNULL, text=True, **more)

    def run(self, *arguments: str, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the program to its end, which must have this exit code."""
        pipe = subprocess.PIPE
        process = self.popen([*self.command, *arguments], environment, stdout=pipe, stderr=pipe)
        stdout, stderr = process.communicate(timeout=PATIENCE)
        assert process.returncode == code, f"exit code {process.returncode}\n{stdout}\n{stderr}"
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    def info(self, run: int | str) -> dict[str, Any]:
        """A run's info.yaml."""
        return read_yaml(self.logs / str(run) / "metadata" / "info.yaml")

    def submission(self, run: int | str) -> dict[str, Any]:
        """A run's submission.yaml."""
        return read_yaml(self.logs / str(run) / "metadata" / "submission.yaml")

    def status(self, run: int | str) -> str | None:
        """A run's recorded status; None while there is none."""
        return self.info(run)["status"] if (self.logs / str(run) / "metadata" / "info.yaml").exists() else None

    def job_id(self, run: int | str) -> str | None:
        """A run's job id; None while it is not submitted."""
        there = (self.logs / str(run) / "metadata" / "submission.yaml").exists()
        return self.submission(run)["job_id"] if there else None

    def runs(self) -> list[str]:
        """Names of the run folders, in order."""
        names = (path.name for path in self.logs.iterdir() if path.is_dir() and not path.name.startswith("."))
        return sorted(names, key=lambda name: (len(name), name))

    def said(self, run: int | str) -> dict[str, Any]:
        """What the program printed in a launched run."""
        return json.loads((self.logs / str(run) / "log.stdout").read_text(encoding="utf-8").splitlines()[-1])

    def wait_for_end(self, *runs: int | str, limit: float = PATIENCE) -> None:
        """Wait until script.sh has recorded the exit code of launched runs."""
        for run in runs:
            path = self.logs / str(run) / "metadata" / "exit_code"
            until(path.exists, limit, f"end of run {run}: {self.dir}")


class Terminal:
    """The program at a terminal, and somebody who types when asked."""

    def __init__(self, project: Project, *arguments: str) -> None:
        self.shown, self.gone = "", False
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            os.chdir(project.dir)
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # pytest's workers ignore it
            os.execve(
                sys.executable,
                [sys.executable, *project.command[1:], *arguments],
                {**project.environment, "TERM": "xterm"},
            )

    def answer(self, question: str, text: str) -> None:
        """Wait for a question, and type."""
        end = time.monotonic() + 60
        while question not in self.shown:
            assert time.monotonic() < end, self.shown
            self._read(1.0)
        self.shown = self.shown.split(question, 1)[1]
        os.write(self.master, text.encode())

    def end(self) -> tuple[int, str]:
        """Exit code, and what was shown since the last answer."""
        while self._read(120.0):
            pass
        assert self.gone, f"nothing was shown for two minutes after\n{self.shown}"
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.master)  # which would end a program that is at its last steps
        return code, self.shown

    def _read(self, limit: float) -> bool:
        ready, _, _ = select.select([self.master], [], [], limit)
        try:
            piece = os.read(self.master, 4096) if ready else b""
        except OSError:  # the program has gone
            self.gone = True
            return False
        self.shown += piece.decode(errors="replace")
        return bool(ready)


class Mlxp:
    """The installed command, in a project's folder."""

    def __init__(self, project: Project, cache: Path) -> None:
        self.program = str(warm_python().bin / "mlxp")
        self.project = project
        self.environment = {**project.environment, "XDG_CACHE_HOME": str(cache)}

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.program, *arguments],
            cwd=self.project.dir,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *arguments: str, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments, **environment)
        stdout, stderr = process.communicate(timeout=PATIENCE)
        assert process.returncode == code, f"exit code {process.returncode}\n{stdout}\n{stderr}"
        assert not stderr.startswith("Traceback")
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    def rows(self, *arguments: str, **environment: str) -> dict[str, dict[str, Any]]:
        lines = self("status", "--json", *arguments, **environment).stdout.splitlines()
        return {row["run"]: row for row in map(json.loads, lines)}

    def statuses(self, *arguments: str) -> list[str]:
        return [row["status"] for row in self.rows(*arguments).values()]

    def in_terminal(self, *arguments: str, answer: str = "", columns: int = 100) -> tuple[int, str]:
        """Run with a terminal; give exit code and what it shows."""
        pid, master = pty.fork()
        if pid == 0:
            os.chdir(self.project.dir)
            environment = {**self.environment, "TERM": "xterm", "COLUMNS": str(columns), "LINES": "40"}
            os.execve(self.program, [self.program, *arguments], environment)
        if answer:
            os.write(master, answer.encode())
        shown = b""
        while True:
            try:
                piece = os.read(master, 4096)
            except OSError:  # the other end is closed
                break
            if not piece:
                break
            shown += piece
        os.close(master)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.decode()


def read_yaml(path: Path) -> dict[str, Any]:
    """Read with PyYAML itself, not with the code under test."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def stop_local_queues(environment: dict[str, str]) -> None:
    """Cancel what a failed test left in its local queue."""
    queue = [sys.executable, str(ROOT / "mlxp_core" / "scheduler" / "local_queue.py")]
    status = subprocess.run([*queue, "status"], env=environment, capture_output=True, text=True, check=True)
    lines = (line.split("|") for line in status.stdout.splitlines())
    left = {fields[0] for fields in lines if fields[2] in {"PENDING", "RUNNING"}}
    if left:
        subprocess.run([*queue, "cancel", *left], env=environment, check=False)

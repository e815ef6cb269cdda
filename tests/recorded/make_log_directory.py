"""How ``log_directory_0_1`` was made: by real launches of version 0.1.0, whose names and formats it keeps for ever.

    python tests/recorded/make_log_directory.py        with an interpreter that has version 0.1.0, not editable

Needed again for nothing but another recording; one of a later version belongs beside this one, not in its place. What
is of the machine is replaced by placeholders, which tests/helpers/old_log_directory.py fills in: @ROOT@ (the folder of
the project), @PYTHON@, @PREFIX@ and @BASE@ (sys.executable, sys.prefix, sys.base_prefix), @HOST@ and @USER@.
"""

from __future__ import annotations

import getpass
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import mlxp_core

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))
from old_log_directory import NAME, REPOSITORY, in_pickle, is_pickle
from support import git

BIN = Path(sys.executable).parent
os.environ.update(GIT_AUTHOR_DATE="2026-01-01T00:00:00Z", GIT_COMMITTER_DATE="2026-01-01T00:00:00Z")
PROGRAM = """\
import time
from pathlib import Path

import hydra
from hydra.utils import get_original_cwd

from mlxp_core import current_run

CODE = "first"


def task(cfg):
    run = current_run()
    try:
        start = run.load_checkpoint()
    except FileNotFoundError:
        start = 0
    print(f"code {CODE}, attempt {run.attempt}, from step {start}", flush=True)
    for step in range(start, 3):
        needed = Path(get_original_cwd(), cfg.needs) if cfg.needs else None
        while step and cfg.wait and not needed.exists():
            time.sleep(0.05)
        if step and needed and not needed.exists():
            raise FileNotFoundError(f"there is no {cfg.needs} yet")
        run.log_metrics({"step": step, "loss": cfg.lr * (3 - step)}, log_name="train")
        run.log_checkpoint(step + 1)
    run.log_artifacts({"lr": cfg.lr, "code": CODE}, "result", "json")
    return cfg.lr


main = hydra.main(version_base=None, config_path="conf", config_name="config")(task)

if __name__ == "__main__":
    main()
"""
PLAIN = """\
from mlxp_core import start_run

with start_run("logs", {"lr": 8.0, "words": ["a", "b"]}) as run:
    run.log_metrics({"loss": float("inf")}, log_name="train")
    run.log_metrics({"loss": 8.0}, log_name="train")
"""
TWO = """\
import hydra


@hydra.main(version_base=None, config_path="conf", config_name="config")
def one(cfg):
    print("one")


@hydra.main(version_base=None, config_path="conf", config_name="config")
def two(cfg):
    print("two")


if __name__ == "__main__":
    one()
    two()
"""
JOB = """\
#!/bin/bash
#LOCAL --job-name=old
export COLOUR=blue
python main.py lr=32
python main.py lr=64
"""
FILES = {
    "main.py": PROGRAM,
    "conf/config.yaml": "lr: 0.5\nsame: ${lr}\nneeds: null\nwait: false\n",
    "conf/__init__.py": "",  # as Hydra asks of the configuration of an imported module
    "plain.py": PLAIN,
    "two.py": TWO,
    "job.sh": JOB,
    ".gitignore": "data/\nlogs/\n__pycache__/\n",
}
LOCAL = ("-m", "hydra/launcher=mlxp_local")
WAIT = (*LOCAL, "hydra.launcher.wait=true")


def main() -> None:
    """Make the runs, one kind after the other, and store what they leave."""
    assert mlxp_core.__version__ == "0.1.0", mlxp_core.__version__
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        made = Recording(Path(folder).resolve())
        made.runs()
        made.store(Path(__file__).with_name(NAME), Path(__file__).with_name(REPOSITORY))


class Recording:
    """A user's project, in which version 0.1.0 launches."""

    def __init__(self, root: Path) -> None:
        self.root, self.dir, self.logs = root, root / "a project", root / "a project/logs"
        dropped = ("PYTHONPATH", "VIRTUAL_ENV")
        self.environment = {name: value for name, value in os.environ.items() if name not in dropped} | {
            "HOME": str(root),
            "MLXP_LOCAL_SPOOL": str(root / "spool"),
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "XDG_CACHE_HOME": str(root / "cache"),
        }
        for name, text in FILES.items():
            (self.dir / name).parent.mkdir(parents=True, exist_ok=True)
            (self.dir / name).write_text(text)
        (self.dir / "data").mkdir()
        git("init", "--quiet", cwd=self.dir)
        self.commit()
        self.first = git("rev-parse", "HEAD", cwd=self.dir)

    def commit(self) -> None:
        git("add", "--all", cwd=self.dir)
        git("commit", "--quiet", "--message", "change", cwd=self.dir)

    def code(self, name: str) -> None:
        path = self.dir / "main.py"
        path.write_text(re.sub('CODE = "[a-z]*"', f'CODE = "{name}"', path.read_text()))

    def start(self, *command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(command, cwd=self.dir, env=self.environment, text=True)

    def run(self, *command: str, code: int = 0) -> None:
        assert (found := self.start(*command).wait(100)) == code, (command, found)

    def main(self, *arguments: str, code: int = 0) -> None:
        self.run("python", "main.py", *arguments, code=code)

    def until(self, condition: Callable[[], bool]) -> None:
        for _ in range(1200):
            if condition():
                return
            time.sleep(0.05)
        raise AssertionError(condition)

    def has_ended(self, run: int) -> bool:
        return (self.logs / f"{run}/metadata/exit_code").exists()

    def has_logged(self, run: int) -> bool:
        return (self.logs / f"{run}/artifacts/pickle/checkpoint").exists()

    def runs(self) -> None:
        """The runs 1 to 17."""
        self.main(*WAIT, "lr=0.5,0.25")  # 1, 2: complete
        self.main(*WAIT, "lr=0.125", "needs=data/of_3", code=1)  # 3: failed
        self.main(*WAIT, "lr=1", "needs=data/of_4", code=1)  # 4: failed, and complete in its second attempt
        (self.dir / "data/of_4").touch()
        self.run("mlxp", "rerun", "4", "--wait")
        self.code("second")
        self.commit()
        # 5, 6: one waits for the other, and is cancelled in the queue
        self.main(*LOCAL, "lr=2,4", "needs=data/of_5", "wait=true", "hydra.launcher.max_parallel=1")
        self.until(lambda: self.has_logged(5))
        self.run("mlxp", "cancel", "6")
        (self.dir / "data/of_5").touch()
        self.until(lambda: self.has_ended(5))
        self.main(*LOCAL, "lr=16", "needs=data/of_7", "wait=true")  # 7: lost, its job killed with all it had started
        self.until(lambda: self.has_logged(7))
        self.kill_last_job()
        self.launch_and_kill(8, 9)  # 8, 9: never submitted
        # 10: a task function that is no program; failed
        self.run("python", "-c", "import main; main.main()", *WAIT, "lr=0.375", "needs=data/of_10", code=1)
        self.code("uncommitted")
        (self.dir / "notes.txt").write_text("new\n")
        self.main(*WAIT, "lr=0.75")  # 11: with changes that are not committed
        (self.dir / "notes.txt").unlink()
        git("checkout", "--quiet", "main.py", cwd=self.dir)
        self.main("hydra/callbacks=mlxp", "lr=1.5")  # 12: recorded by the callback alone
        self.run("python", "plain.py")  # 13: by start_run
        self.run("mlxpsub", "job.sh")  # 14, 15
        self.until(lambda: self.has_ended(14) and self.has_ended(15))
        self.run("python", "two.py", *WAIT, "lr=128")  # 16, 17: of a program with two main functions
        self.run("mlxp", "status")

    def kill_last_job(self) -> None:
        last = max(int(path.name) for path in (self.root / "spool").iterdir())
        queue = int((self.root / f"spool/{last}/pid").read_text())
        jobs = Path(f"/proc/{queue}/task/{queue}/children").read_text().split()
        os.kill(queue, signal.SIGKILL)
        for job in jobs:
            os.killpg(int(job), signal.SIGKILL)
        self.run("mlxp", "status")  # after which the folder knows it

    def launch_and_kill(self, *runs: int) -> None:
        """Kill a launch between its last folder and its submission, which follows in some milliseconds."""
        process = self.start("python", "main.py", *LOCAL, "lr=3,6")
        folders = [self.logs / str(run) / "metadata" for run in runs]
        note = self.logs / ".mlxp/launches/1/launch.yaml"
        while not note.exists():
            assert process.poll() is None
        while not all((folder / "info.yaml").exists() for folder in folders):
            process.send_signal(signal.SIGCONT)
            time.sleep(0.0003)
            process.send_signal(signal.SIGSTOP)
        process.kill()
        process.wait()
        assert not any((folder / "submission.yaml").exists() for folder in folders), "too late: try again"

    def store(self, target: Path, bundle: Path) -> None:
        """Keep what a later version has to understand: not what the reader has kept for itself, and one copy less."""
        shutil.rmtree(self.logs / ".mlxp/reader-index", ignore_errors=True)
        shutil.rmtree(self.logs / ".mlxp/code" / self.first)
        git("bundle", "create", "--quiet", str(bundle), "--all", cwd=self.dir)
        shutil.rmtree(target, ignore_errors=True)
        for path in filter(self.is_kept, self.logs.rglob("*")):
            copied = target / path.relative_to(self.logs)
            copied.parent.mkdir(parents=True, exist_ok=True)
            copied.write_bytes(self.of_no_machine(path))
            copied.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)

    def is_kept(self, path: Path) -> bool:
        """Whether a file says more than that of another run does, or is needed."""
        of_first = self.logs / "1" in path.parents
        own = path.name not in {"main.log", "multirun.yaml", "environment.yaml"} and ".hydra" not in path.parts
        return path.is_file() and (own or of_first) and path.suffix not in {".out", ".pyc"}

    def of_no_machine(self, path: Path) -> bytes:
        """A file with placeholders."""
        data = path.read_bytes()
        places = {
            str(self.root): "@ROOT@",
            sys.executable: "@PYTHON@",
            sys.prefix: "@PREFIX@",
            sys.base_prefix: "@BASE@",
            platform.release(): "6.1.0",
        }
        if is_pickle(data):
            return in_pickle(data, places)
        if path.name == "checkpoint":  # a pickle of a number, and then some JSON
            return data
        text = data.decode()
        for known, placeholder in places.items():
            text = text.replace(known, placeholder)
        host, user = re.escape(socket.gethostname()), re.escape(getpass.getuser())
        if path.suffix == ".yaml":
            text = re.sub(rf"(?m)^( *hostname: ){host}$", r"\1@HOST@", text)
            text = re.sub(rf"(?m)^( *user: ){user}$", r"\1@USER@", text)
        elif path.name == "digest.jsonl":
            text = re.sub(rf'(?<=,)"{host}"(?=,)', '"@HOST@"', re.sub(rf'(?<=,)"{user}"(?=,)', '"@USER@"', text))
        elif path.name == "starts":
            text = re.sub(rf"(?m)(?<= ){host}(?= )", "@HOST@", text)
        return text.encode()


if __name__ == "__main__":
    main()

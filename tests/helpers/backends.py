"""The schedulers that the conformance tests run on: real ones, and the fake cluster where the real cannot be had."""

from __future__ import annotations

import inspect
import json
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from machines import User, readable_packages
from support import CONFIG, MAIN, ROOT, Project, git, stop_local_queues

from mlxp_core.scheduler import load_scheduler

USER = "mlxp-test"  # the account that tests/clusters/*_up.sh make
FAKE = ROOT / "tests" / "clusters" / "fake"


@dataclass(frozen=True)
class Backend:
    """One scheduler to test with."""

    name: str  # of the tests
    launcher: str  # hydra/launcher=mlxp_…
    directive: str
    limit: str  # a directive's option that ends a job after a few seconds, whatever the template says
    requeue: str | None = None  # by which the user asks for another start; None: there is none by exit code
    marker: str | None = None  # of its cluster; or "thorough", where another is much like it
    as_user: bool = False  # root may not submit
    fake: bool = False
    throttle: bool = True  # max_parallel can be kept
    array: bool = True  # several jobs can be one submission
    settings: dict[str, str] = field(default_factory=dict)  # files of the fake cluster
    limit_seconds: float = 20.0  # that a job may take beyond its limit until it is ended
    knows_tasks: bool = True  # its status command tells tasks of an array from each other

    def __str__(self) -> str:
        return self.name


BACKENDS = (
    Backend("local", "local", "#LOCAL", limit=""),
    Backend("fake_torque", "torque", "#PBS", "-l walltime=0:00:02", marker="thorough", fake=True),
    Backend("fake_pbs", "pbs", "#PBS", "-l walltime=0:00:02", fake=True),
    Backend("fake_mwm", "mwm", "#MSUB", "-l walltime=0:00:02", marker="thorough", fake=True),
    Backend("fake_lsf", "lsf", "#BSUB", "-W 1", "-Q 99", fake=True, settings={"limit_seconds": "2"}),
    Backend("fake_flux", "flux", "#flux:", "-t 2s", fake=True, array=False, throttle=False),
    Backend("slurm", "slurm", "#SBATCH", "--time=1", "--requeue", marker="slurm", limit_seconds=100),
    Backend("sge", "sge", "#$", "-l h_rt=3", "-r y", marker="sge"),
    Backend(
        "oar",
        "oar",
        "#OAR",
        "-l core=1,walltime=0:0:5",
        "-t idempotent",
        "oar",
        as_user=True,
        throttle=False,
        limit_seconds=45,
    ),
    Backend("torque", "torque", "#PBS", limit="", marker="torque", knows_tasks=False),
)


def parameters(concerned: Callable[[Backend], object] = lambda _: True) -> list[Any]:
    """Those that a test concerns, each with the marker by which its cluster is asked for."""
    return [
        pytest.param(one, marks=[getattr(pytest.mark, one.marker)] if one.marker else [], id=one.name)
        for one in BACKENDS
        if concerned(one)
    ]


class UserProject(Project):
    """A project of another user, with a Python that this user may read."""

    def __init__(self, folder: Path, environment: dict[str, str], user: User) -> None:
        super().__init__(folder, environment)
        self.user = user
        self.command = [user.interpreter, "main.py"]

    def popen(
        self, command: list[str], environment: dict[str, str] | None = None, **more: Any
    ) -> subprocess.Popen[str]:
        self.user.owns(self.dir.parent)
        return super().popen(command, environment, **self.user.popen_options, **more)


@contextmanager
def open_project(backend: Backend, tmp_path: Path, environment: dict[str, str]) -> Iterator[Project]:
    """A user's committed project on a cluster of this kind; what is left in its queue is cancelled in the end."""
    environment = {**environment, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    if backend.fake:
        spool = tmp_path / "cluster"
        spool.mkdir()
        for name, text in backend.settings.items():
            (spool / name).write_text(text)
        environment["MLXP_FAKE_CLUSTER"] = str(spool)
        environment["PATH"] = f"{FAKE / backend.launcher}{os.pathsep}{environment['PATH']}"
    elif backend.name == "torque":
        environment["PATH"] = f"{os.environ['MLXP_TORQUE_BIN']}{os.pathsep}{environment['PATH']}"
    if backend.as_user:
        account = pwd.getpwnam(USER)
        user = User(USER, account.pw_uid, account.pw_gid, Path(account.pw_dir))
        folder = user.home / "tests" / tmp_path.parent.name / tmp_path.name / "a user's 100% prôject"
        shutil.rmtree(folder.parent, ignore_errors=True)
        environment = {
            **environment,
            "HOME": str(user.home),
            "USER": user.name,
            # a copy of this test's own: a library that is written over while it is mapped ends its process (SIGSEGV)
            "PYTHONPATH": str(readable_packages(folder.parent / "packages")),
            "XDG_CACHE_HOME": str(folder.parent / "cache"),
        }
        made: Project = UserProject(folder, environment, user)
    else:
        made = Project(tmp_path / "a user's 100% prôject", environment)
    files = {
        "main.py": MAIN,
        "conf/config.yaml": CONFIG,
        "conf/optimizer/sgd.yaml": "lr: 0.1\n",
        ".gitignore": "logs/\n",
    }
    made.write(**files)
    git("init", "--quiet", cwd=made.dir)
    made.commit("first")
    try:
        yield made
    finally:
        if backend.fake:
            stop = [sys.executable, str(FAKE / "cluster.py"), "stop"]
            subprocess.run(stop, env=made.environment, check=True, timeout=60)
        elif backend.name == "local":
            stop_local_queues(made.environment)
        else:
            ask(made, "cancel")
        if backend.as_user:
            shutil.rmtree(made.dir.parent / "packages")


def look_at(what: str, folders: list[str]) -> tuple[list[str], list[str]]:
    """What a user's own program would ask: statuses, and what of them is not known because a scheduler is silent.

    With a cache of its own each time, so that tests need not wait.
    """
    import os
    import tempfile
    from pathlib import Path

    from mlxp_core.jobs.cancel import cancel_runs
    from mlxp_core.jobs.refresh import refresh_runs
    from mlxp_core.runs.layout import RunDir
    from mlxp_core.runs.state import load_status

    runs = [RunDir(Path(folder)) for folder in folders]
    with tempfile.TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache
        silences = [] if what == "look" else refresh_runs(runs)
        if what == "cancel":
            cancel_runs(runs)
        return [load_status(run) for run in runs], [silence.why for silence in silences]


def ask(project: Project, what: str, *names: int | str) -> list[str]:
    """Statuses of runs (all of them by default), after having asked the scheduler (refresh) or cancelled (cancel)."""
    if not project.logs.exists():
        return []
    folders = [str(project.logs / str(name)) for name in names or project.runs()]
    if isinstance(project, UserProject):
        program = (
            f"{inspect.getsource(look_at)}\nimport json, sys\nprint(json.dumps(look_at(sys.argv[1], sys.argv[2:])))"
        )
        command = [project.command[0], "-W", "ignore", "-c", program, what, *folders]
        statuses, silences = json.loads(project.popen_and_end(command))
    else:
        with patch.dict(os.environ, project.environment, clear=True):
            statuses, silences = look_at(what, folders)
    assert silences == [], silences
    return statuses


def submit_commands(project: Project) -> int:
    """How often the fake cluster was asked to take a job."""
    lines = (Path(project.environment["MLXP_FAKE_CLUSTER"]) / "commands.log").read_text().splitlines()
    submits = {load_scheduler(backend.launcher).submit for backend in BACKENDS if backend.fake}
    commands = [(Path(program).name, *words) for program, *words in (json.loads(line)["argv"] for line in lines)]
    return sum(any(command[: len(submit)] == submit for submit in submits) for command in commands)


def quoted(header: str) -> str:
    """A value for hydra.launcher.header, as Hydra's grammar has it."""
    escaped = header.replace("'", "\\'")
    return f"hydra.launcher.header='{escaped}'"

"""Other people's machines, as fixtures that any test may take: another user, another host, a full disk.

What a machine does not allow is skipped, with the reason; in CI as root on Debian, where all can be had, it fails.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import pickle
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import pytest
from support import PATIENCE, ROOT, Project

T = TypeVar("T")

NOBODY = 65534

# of <linux/sched.h>; os.unshare is Python 3.12
NEW_HOST_NAME, NEW_USER = 0x04000000, 0x10000000
CAP_SYS_ADMIN = 21


def missing(reason: str) -> NoReturn:
    """Skip the test for what this machine does not allow, unless it is one where all can be had."""
    if os.environ.get("CI") == "true" and os.geteuid() == 0 and Path("/etc/debian_version").exists() and may_mount():
        pytest.fail(f"in CI as root on Debian, no test may be left out: {reason}")
    pytest.skip(reason)


def may_mount() -> bool:
    """Tell whether this process has CAP_SYS_ADMIN, which a container may lack. Source: capabilities(7)."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    held = next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(held, 16) & 1 << CAP_SYS_ADMIN)


def in_child(become: Callable[[], object], function: Callable[..., T], *arguments: Any) -> T:
    """Call a function in a forked process that ``become`` has changed; give what it returns, raise what it raises.

    Both go through a pickle. Import before what the function needs, for Python may lie where root alone can read, and
    keep away from Polars: its threads are not in the child, which would wait for them.
    """
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of xdist's threads, which the child does not need
        pid = os.fork()
    if pid == 0:
        _answer(write, become, function, arguments)
    os.close(write)
    try:
        with open(read, "rb") as pipe:
            answer = pipe.read()
    except BaseException:  # the test's time is up
        os.kill(pid, signal.SIGKILL)
        raise
    finally:
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert answer, f"the child process answered nothing; its exit code is {code}"
    value, error, trace = pickle.loads(answer)
    if error is None:
        return value
    raise error from AssertionError(f"in a child process:\n{trace}")


def _answer(write: int, become: Callable[[], object], function: Callable[..., Any], arguments: Sequence[Any]) -> None:
    """Have the child write down what came of the call, and end."""
    try:
        try:
            become()
            answer = pickle.dumps((function(*arguments), None, ""))
        except BaseException as error:  # noqa: BLE001  (for the parent to raise)
            try:
                answer = pickle.dumps((None, error, traceback.format_exc()))
                pickle.loads(answer)
            except Exception:  # noqa: BLE001  (an exception that does not travel)
                answer = pickle.dumps((None, RuntimeError(repr(error)), traceback.format_exc()))
        with open(write, "wb") as pipe:
            pipe.write(answer)
    finally:
        os._exit(0)


# ---------------------------------------------------------------------------------------------------------- users


@dataclass(frozen=True)
class User:
    """A Unix user, as whom tests call functions and run programs."""

    name: str
    uid: int
    gid: int
    home: Path

    @property
    def environment(self) -> dict[str, str]:
        """Variables of this user's shell."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("XDG_")}
        return {**kept, "HOME": str(self.home), "USER": self.name, "LOGNAME": self.name}

    @property
    def popen_options(self) -> dict[str, Any]:
        """By which subprocess starts a program as this user."""
        if self.uid == os.geteuid():
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    @property
    def interpreter(self) -> str:
        """A Python that this user can start: the tests' own where it is the user's, or else the system's."""
        return sys.executable if self.uid == os.geteuid() else "/usr/bin/python3"

    def owns(self, *paths: Path) -> None:
        """Give this user files, and folders with all that is in them."""
        owner = f"{self.uid}:{self.gid}"
        subprocess.run(["chown", "--recursive", "--no-dereference", owner, *paths], check=True)

    def call(self, function: Callable[..., T], *arguments: Any, imports: Iterable[str] = ()) -> T:
        """Call a function as this user, in the user's home: see in_child(). ``imports``: what it imports late."""
        for name in imports:
            importlib.import_module(name)
        return in_child(self._become, function, *arguments)

    def run(
        self, command: Sequence[str | Path], environment: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a program as this user, to its end."""
        return subprocess.run(
            command,
            cwd=cwd or self.home,
            env={**self.environment, **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
            **self.popen_options,
        )

    def python(self, imports: str, program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a program of Python, which becomes this user after the imports: it may lie where root alone can read."""
        become = ""
        if self.uid != os.geteuid():
            become = f"import os; os.setgroups([]); os.setgid({self.gid}); os.setuid({self.uid})"
        return subprocess.run(
            [sys.executable, "-c", f"{imports}\n{become}\n{program}", *arguments],
            cwd=self.home,
            env={**self.environment, "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )

    def _become(self) -> None:
        variables = self.environment
        if self.uid != os.geteuid():
            os.setgroups([])
            os.setgid(self.gid)
            os.setuid(self.uid)
        os.environ.clear()
        os.environ.update(variables)
        os.chdir(self.home)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users may enter, unlike those of pytest."""
    chosen = Path(tempfile.gettempdir())
    reachable = all(folder.stat().st_mode & 0o001 for folder in (chosen, *chosen.resolve().parents))
    with tempfile.TemporaryDirectory(dir=chosen if reachable else "/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def as_root() -> None:
    """Root runs this test: it gives files away, and no file's mode holds it back."""
    if os.geteuid() != 0:
        missing("needs root")
    ranges = [map(int, line.split()) for line in Path("/proc/self/uid_map").read_text().splitlines()]
    if not any(first <= NOBODY < first + count for first, _, count in ranges):
        missing("needs root, and not that of a namespace in which there are no other users")


@pytest.fixture
def another_user(as_root: None, open_folder: Path) -> User:
    """The user `nobody`, with a home: not who runs the tests, nor who owns their files, and without root's rights."""
    user = pwd.getpwuid(NOBODY)
    return _with_home(User(user.pw_name, user.pw_uid, user.pw_gid, open_folder / "home"))


@pytest.fixture
def ordinary_user(request: pytest.FixtureRequest, open_folder: Path) -> User:
    """A user whom the modes of files hold back: who runs the tests, or another where that is root."""
    if os.geteuid() == 0:
        found: User = request.getfixturevalue("another_user")
        return found
    user = pwd.getpwuid(os.geteuid())
    return _with_home(User(user.pw_name, user.pw_uid, user.pw_gid, open_folder / "home"))


def _with_home(user: User) -> User:
    user.home.mkdir()
    user.owns(user.home)
    return user


def readable_packages(folder: Path) -> Path:
    """Copy what a launch imports to where another user can read it: the tests' environment may lie in root's home."""
    folder.mkdir(parents=True, exist_ok=True)
    names = ("hydra", "omegaconf", "antlr4", "yaml", "packaging", "git", "gitdb", "smmap", "filelock")
    for name in names:
        found = importlib.util.find_spec(name)
        if found is None and name == "antlr4":  # Hydra 1.4 brings its own
            continue
        assert found is not None, name
        assert found.origin is not None, name
        shutil.copytree(Path(found.origin).parent, folder / name, dirs_exist_ok=True)
    for name in ("mlxp_core", "hydra_plugins"):
        shutil.rmtree(folder / name, ignore_errors=True)
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


# ---------------------------------------------------------------------------------------------------------- places


@pytest.fixture
def no_gitignore(project: Project) -> Project:
    """The project of a user who has never written a .gitignore."""
    (project.dir / ".gitignore").unlink()
    project.commit("no .gitignore")
    return project


@pytest.fixture
def path_with_space(tmp_path: Path) -> Path:
    """A folder with blanks in its name, as `Google Drive` and `My Experiments` have."""
    folder = tmp_path / "My  Experiments"
    folder.mkdir()
    return folder


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """Mount a file system in memory, until the end of the block or of this process, however that comes about.

    It is a child that mounts and unmounts, and that waits in between for the end of its input.
    """
    folder.mkdir()
    script = 'mount -t tmpfs -o "$1" mlxp-test "$2" || exit; echo mounted; read -r _; umount --lazy "$2"'
    pipe = subprocess.PIPE
    holder = subprocess.Popen(
        ["sh", "-c", script, "sh", options, folder],
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        text=True,
        start_new_session=True,  # Ctrl-C is for the tests
    )
    assert holder.stdout is not None
    if holder.stdout.readline() != "mounted\n":
        why = holder.communicate()[1].partition("\n")[0].rpartition(": ")[2]
        missing(f"needs the right to mount: {why}")
    try:
        yield folder
    finally:
        _, errors = holder.communicate()
        assert not errors, errors


@pytest.fixture
def unwritable_home(tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A HOME in which nothing can be made, by root neither; of this process, and of `environment`."""
    home = tmp_path / "home"
    for name in ("XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
        environment.pop(name, None)
    monkeypatch.setenv("HOME", str(home))
    environment["HOME"] = str(home)
    if os.geteuid() == 0:
        with mounted(home, "ro,size=4k"):
            yield home
    else:
        home.mkdir(mode=0o555)
        yield home


@dataclass(frozen=True)
class SmallDisk:
    """A disk of 1 MiB."""

    path: Path

    def fill(self, left: int = 0) -> None:
        """Leave room for so many pages of 4 KiB; the names of files take none."""
        self.empty()
        room = os.statvfs(self.path)
        (self.path / ".filler").write_bytes(b"x" * (room.f_bavail - left) * room.f_bsize)

    def empty(self) -> None:
        """Have room again."""
        (self.path / ".filler").unlink(missing_ok=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A disk of 1 MiB, to be filled."""
    with mounted(tmp_path / "disk", "size=1m") as folder:
        yield SmallDisk(folder)


# ------------------------------------------------------------------------------------------------ hosts and processes


@dataclass(frozen=True)
class Host:
    """A host by its name alone: files, processes and users are those of this machine."""

    name: str

    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function on this host: see in_child()."""
        return in_child(self._enter, function, *arguments)

    def start(
        self, command: Sequence[str | Path], environment: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> subprocess.Popen[str]:
        """Start a program on this host."""
        return subprocess.Popen(
            command,
            cwd=cwd,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=self._enter,  # noqa: PLW1509  (one call of the system, and Python's of the host's name)
        )

    def _enter(self) -> None:
        try:
            _unshare(NEW_HOST_NAME)
        except PermissionError:
            user, group = os.geteuid(), os.getegid()
            _unshare(NEW_USER | NEW_HOST_NAME)
            for name, text in {
                "setgroups": "deny",
                "uid_map": f"{user} {user} 1",
                "gid_map": f"{group} {group} 1",
            }.items():
                Path(f"/proc/self/{name}").write_text(text)
        socket.sethostname(self.name)


def _unshare(what: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(what) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), "unshare")


@pytest.fixture
def two_hosts() -> tuple[Host, Host]:
    """Two hosts that share their files, as nodes of a cluster do."""
    hosts = Host("node1.example"), Host("node2.example")
    try:
        hosts[0].call(os.getpid)
    except OSError as error:
        missing(f"a host name of a test's own is not allowed: {error}")
    return hosts


def _srun(rank: int) -> dict[str, str]:
    step = {"SLURM_JOB_ID": "4217", "SLURM_JOBID": "4217", "SLURM_STEP_ID": "0", "SLURM_STEPID": "0"}
    counts = dict.fromkeys(("SLURM_NTASKS", "SLURM_NPROCS", "SLURM_STEP_NUM_TASKS", "SLURM_TASKS_PER_NODE"), "4")
    nodes = {"SLURM_NODEID": "0", "SLURM_NNODES": "1", "SLURM_STEP_NUM_NODES": "1", "SLURM_GTIDS": "0,1,2,3"}
    return {**step, **counts, **nodes, "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)}


def _torchrun(rank: int) -> dict[str, str]:
    ranks = {"RANK": str(rank), "LOCAL_RANK": str(rank), "ROLE_RANK": str(rank), "GROUP_RANK": "0"}
    counts = dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE", "ROLE_WORLD_SIZE"), "4")
    start = {"TORCHELASTIC_RUN_ID": "5b1e", "TORCHELASTIC_RESTART_COUNT": "0", "TORCHELASTIC_MAX_RESTARTS": "0"}
    return {**ranks, **counts, **start, "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}


def _mpirun(rank: int) -> dict[str, str]:
    ranks = {"OMPI_COMM_WORLD_RANK": str(rank), "OMPI_COMM_WORLD_LOCAL_RANK": str(rank), "PMIX_RANK": str(rank)}
    return {**ranks, "OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_LOCAL_SIZE": "4", "PMIX_NAMESPACE": "3141206017"}


STARTERS = {"srun": _srun, "torchrun": _torchrun, "mpirun": _mpirun}


class FourRanks:
    """Starts the same program four times, as one job of four processes on one node has it."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        ours = ("SLURM_", "OMPI_", "PMIX_", "TORCHELASTIC_")
        self.environment = {name: value for name, value in environment.items() if not name.startswith(ours)}

    def run(
        self,
        command: Sequence[str | Path],
        starter: str = "srun",
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> list[subprocess.CompletedProcess[str]]:
        """Run it to its end, with the variables of this starter; give what became of each rank, in their order.

        All four exist before the first begins.
        """
        # the number that each process has under srun
        number = "export SLURM_TASK_PID=$$; " if starter == "srun" else ""
        script = f'read -r _; {number}exec "$@" </dev/null'
        started = [
            subprocess.Popen(
                ["sh", "-c", script, "sh", *command],
                cwd=cwd,
                env={**self.environment, **STARTERS[starter](rank), **(environment or {})},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(4)
        ]
        try:
            for process in started:
                assert process.stdin is not None
                process.stdin.write("\n")
                process.stdin.flush()
            said = [process.communicate(timeout=PATIENCE) for process in started]
        finally:
            for process in started:
                process.kill()
        ends = zip(started, said, strict=True)
        return [subprocess.CompletedProcess(one.args, one.returncode, *outputs) for one, outputs in ends]


@pytest.fixture
def four_ranks(environment: dict[str, str]) -> FourRanks:
    """Four processes of one job, which begin at the same moment."""
    return FourRanks(environment)

"""A task function that is no program, in process: what is sent to its jobs, and what a job makes of it."""

from __future__ import annotations

import os
import pickle
import stat
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import CodeType, SimpleNamespace
from typing import Any

import cloudpickle  # noqa: F401  (before a test has another sys.path)
import pytest
from hydra.conf import HydraConf, SweepDir
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf

from hydra_plugins.mlxp import _callbacks, _payload
from hydra_plugins.mlxp._payload import PickledTask
from hydra_plugins.mlxp._task_function import _described, hash_function
from mlxp_core.errors import ConfigurationError
from mlxp_core.runs.layout import LogDir, RunDir

MODULE = "hydra_plugins.mlxp._payload"


@pytest.fixture(autouse=True)
def state(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What Hydra knows, in the place of all of it; the list has what jobs have set it to."""
    given: list[Any] = []
    singleton = SimpleNamespace(get_state=lambda: {"known": 1}, set_state=given.append)
    monkeypatch.setattr(_payload, "Singleton", singleton)
    return given


def context(loader: Any = "loader", callbacks: Any = "callbacks") -> Any:
    return SimpleNamespace(config_loader=loader, callbacks=callbacks)


def defined(source: str, name: str = "f", file: str = "<cell 1>") -> Callable[..., Any]:
    """A function as a notebook defines it: of no module, and in no file."""
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(source, file, "exec"), space)
    function: Callable[..., Any] = space[name]
    return function


def job(number: int) -> Any:
    hydra = OmegaConf.structured(HydraConf(sweep=SweepDir("relative", "x")))
    config = OmegaConf.create({"a": number, "hydra": hydra})
    OmegaConf.set_readonly(config, value=True)
    OmegaConf.set_struct(config, value=True)
    return SimpleNamespace(config=lambda: config)


def sent(tmp_path: Path, *functions: Callable[..., Any]) -> list[RunDir]:
    """A run for each of these functions, in one log directory."""
    runs = []
    for number, function in enumerate(functions, start=1):
        run = RunDir(tmp_path / "logs" / str(number))
        run.metadata.mkdir(parents=True)
        PickledTask(function, context(), tmp_path).write(
            [(job(number), run)], LogDir(tmp_path / "logs"), lambda path: path
        )
        runs.append(run)
    return runs


def test_a_job_is_a_command_of_this_package_with_its_folder(tmp_path: Path) -> None:
    """Bug: two launches of different functions taken for the same, for their commands are."""
    task = PickledTask(lambda _: 1, context(), tmp_path)
    assert (task.called, task.module) == (MODULE, MODULE)
    assert task.words("/py", Path) == ["/py", "-m", MODULE]
    assert task.words("", Path) == [task.function_hash, "-m", MODULE]
    assert task.arguments(["hydra.verbose=true"], None, RunDir(Path("/logs/3"))) == ["/logs/3"]
    assert task.environment(2) == {}


def test_a_functions_repository_is_its_files_or_the_one_of_the_launch(tmp_path: Path) -> None:
    """Bug: no repository is frozen for a function of an installed package, although the notebook lies in one."""
    places = {"repo/src/tasks.py": True, "installed/tasks.py": True, "repo/src/gone.py": False}
    (tmp_path / "repo" / ".git").mkdir(parents=True)
    for name, exists in places.items():
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        if exists:
            (tmp_path / name).touch()
    here = tmp_path / "launch"

    def file_of(name: str) -> Path:
        return PickledTask(defined("def f(): pass", file=str(tmp_path / name)), context(), here).file

    assert file_of("repo/src/tasks.py") == tmp_path / "repo" / "src" / "tasks.py"
    assert file_of("installed/tasks.py") == here
    assert file_of("repo/src/gone.py") == here
    (here / ".git").mkdir(parents=True)
    assert PickledTask(defined("def f(): pass"), context(), here).file == here  # which has no file


def test_what_the_jobs_share_is_written_once_and_each_has_its_own_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: a gigabyte a job; the configuration of another one; the folder of the launch for the run's."""
    monkeypatch.setattr(sys, "path", ["", "/work/src", "/usr/lib"])
    monkeypatch.chdir(tmp_path)
    log_dir = LogDir(tmp_path / "logs")
    runs = [RunDir(log_dir.path / "1"), RunDir(log_dir.path / "sub" / "2")]
    for run in runs:
        run.metadata.mkdir(parents=True)
    loader = SimpleNamespace(original="Hydra's loader")
    task = PickledTask(lambda: 7, context(loader), tmp_path)
    task.write([(job(5), runs[0]), (job(6), runs[1])], log_dir, lambda path: Path("/copy") / path.name)
    (name,) = os.listdir(log_dir.payloads)
    assert len(name) == len("0" * 32 + ".pkl")
    payloads = [pickle.loads(run.payload.read_bytes()) for run in runs]
    assert [payload["shared"] for payload in payloads] == [name, name]
    assert payloads[0]["path"] == [f"/copy/{tmp_path.name}", "/copy/src", "/copy/lib"]
    configs = [pickle.loads(payload["config"]) for payload in payloads]
    assert [config.a for config in configs] == [5, 6]
    assert [config.hydra.sweep.dir for config in configs] == [str(log_dir.path), str(log_dir.path / "sub")]
    shared = pickle.loads((log_dir.payloads / name).read_bytes())
    assert (pickle.loads(shared["function"])(), shared["state"]) == (7, {"known": 1})
    assert (shared["context"].config_loader, shared["context"].callbacks) == ("Hydra's loader", "callbacks")
    before = (log_dir.payloads / name).stat()
    task.write([(job(5), runs[0])], log_dir, lambda path: path)
    assert (log_dir.payloads / name).stat().st_mtime_ns == before.st_mtime_ns
    assert (log_dir.payloads / name).stat().st_ino == before.st_ino


def test_what_cannot_be_sent_is_named(tmp_path: Path) -> None:
    """Bug: `cannot pickle '_thread.lock' object`, and nobody knows where that is."""
    lock = threading.Lock()
    words = (
        "cannot be sent to a job, because cloudpickle cannot pickle it: TypeError: cannot pickle '_thread.lock' object"
    )
    with pytest.raises(ConfigurationError, match=f"^the task function {words}"):
        PickledTask(lambda _: lock, context(), tmp_path)
    with pytest.raises(ConfigurationError, match=f"^what Hydra knows, such as a resolver or a callback, {words}"):
        PickledTask(lambda _: 1, context(callbacks=lock), tmp_path)
    bad: Any = SimpleNamespace(
        config=lambda: OmegaConf.create({"hydra": {"sweep": {"dir": "x"}}, "f": lock}, flags={"allow_objects": True})
    )
    run = RunDir(tmp_path / "1")
    with pytest.raises(ConfigurationError, match=f"^the configuration {words}"):
        PickledTask(lambda _: 1, context(), tmp_path).write([(bad, run)], LogDir(tmp_path), lambda path: path)


F = "def f(x):\n    def g(): return x + 1\n    return g() if x in {'a', 'b', 'c'} else [len(x), 2.5, None]\n"
SAME = [
    (F, F),
    (F, f"\n\n{F}"),
    (F, F.replace("+ 1", "+  1")),
    ("def f(): return 1", "def f():\n    # why\n    return 1"),
    ("class A:\n    x = 1\ndef f(): return A().x", "class A:\n    x = 1\ndef f(): return A().x"),
]
DIFFERENT = [
    (F, F.replace("+ 1", "+ 2")),  # in the function inside
    (F, F.replace("len", "max")),
    (F, F.replace("'c'", "'d'")),
    (F, F.replace("2.5", "2.25")),
    (F, F.replace("x + 1", "x - 1")),
    ("def f(a, b=1): pass", "def f(a, b=2): pass"),
    ("def f(a): pass", "def f(*, a): pass"),
    ("def f(a): pass", "def f(a, /): pass"),
    ("y = 1\ndef f(): return y", "y = 2\ndef f(): return y"),
    ("class A:\n    x = 1\ndef f(): return A().x", "class A:\n    x = 2\ndef f(): return A().x"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_a_function_that_does_the_same_has_the_same_hash(one: str, other: str) -> None:
    """Bug: the notebook is opened again, and all of its runs are of another function."""
    first, second = defined(one), defined(other, file="<cell 7>")
    assert hash_function(first) == hash_function(second)
    assert PickledTask(second, context(), Path("/")).function_hash == hash_function(first)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_a_function_that_does_something_else_has_another_hash(one: str, other: str) -> None:
    """Bug: results of the old function are kept for the new one."""
    assert hash_function(defined(one)) != hash_function(defined(other))


def test_a_set_in_the_code_has_one_order() -> None:
    """Bug: another hash in each session, for Python orders texts by their hashes; or in the next version of ours."""

    def code(values: list[int]) -> CodeType:
        return hash_function.__code__.replace(co_consts=(frozenset(values),))

    assert list(frozenset([0, 8])) != list(frozenset([8, 0]))  # as they lie in it
    assert _described(code([0, 8])) == _described(code([8, 0]))
    assert "['0', '8']" in _described(code([8, 0]))
    assert _described(code([0, 8])) != _described(code([0, 9]))


def test_a_function_of_a_module_is_its_name() -> None:
    """Bug: a function of a package is sent by value, and its hash is that of all that it uses."""
    assert hash_function(os.path.join) == hash_function(os.path.join) != hash_function(os.path.dirname)


class Job:
    """The program of a job, in this process; ``events`` is what it does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, state: list[Any]) -> None:
        self._monkeypatch, self._state = monkeypatch, state
        self.events: list[Any] = []
        self.error: Exception | None = None
        monkeypatch.setattr(sys, "path", [*sys.path])
        monkeypatch.setattr(_payload, "run_job", self.run_job)
        monkeypatch.setattr(_payload, "setup_globals", lambda: self.events.append("globals"))
        monkeypatch.setattr(_callbacks, "take_values_over", self.take_values_over)
        monkeypatch.setattr(HydraConfig.instance(), "cfg", None)

    def __call__(self, run: RunDir) -> None:
        self._monkeypatch.setattr(sys, "argv", ["_payload.py", str(run.path)])
        _payload.main()

    def take_values_over(self, config: Any, run: RunDir) -> None:
        assert HydraConfig.get().sweep.dir == str(run.path.parent)  # so that values may ask for it
        self.events.append(("take over", config.a, run))

    def run_job(self, **given: Any) -> JobReturn:
        self.events.append(("run", given["task_function"](None), given["config"].a, dict(self._state[-1])))
        assert given["hydra_context"].callbacks == "callbacks"
        assert (given["job_dir_key"], given["job_subdir_key"]) == ("hydra.sweep.dir", "hydra.sweep.subdir")
        if self.error:
            return JobReturn(status=JobStatus.FAILED, _return_value=self.error)
        return JobReturn(status=JobStatus.COMPLETED, _return_value=1)


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, state: list[Any]) -> Job:
    return Job(monkeypatch, state)


def test_a_job_runs_its_function_with_its_configuration(tmp_path: Path, program: Job) -> None:
    """Bug: the function of another run; values that are resolved anew; what Hydra knew at the launch forgotten."""
    first, second = sent(tmp_path, defined("def f(_): return 'one'"), defined("def f(_): return 'two'"))
    program(second)
    assert program.events == ["globals", ("take over", 2, second), ("run", "two", 2, {"known": 1})]
    program(first)
    assert program.events[-1] == ("run", "one", 1, {"known": 1})


def test_a_job_finds_what_the_launch_could_import_behind_what_it_finds_itself(
    tmp_path: Path, program: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: ModuleNotFoundError in the job; or the launch's folders before the frozen copy's."""
    monkeypatch.setattr(sys, "path", ["/first", "/second", "/third"])
    (run,) = sent(tmp_path, defined("def f(_): pass"))
    monkeypatch.setattr(sys, "path", ["/copy", "/second"])
    program(run)
    assert sys.path == ["/copy", "/second", "/first", "/third"]


def test_a_jobs_failure_is_the_programs(tmp_path: Path, program: Job, capsys: pytest.CaptureFixture[str]) -> None:
    """Bug: exit code 0 of a job that failed: COMPLETE."""
    (run,) = sent(tmp_path, defined("def f(_): pass"))
    program.error = ValueError("no luck")
    with pytest.raises(ValueError, match="no luck"):
        program(run)
    assert "Error executing job" in capsys.readouterr().err


def test_what_another_user_has_written_is_not_loaded(
    tmp_path: Path, program: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: a pickle in a shared folder runs as whoever runs the job."""
    (run,) = sent(tmp_path, defined("def f(_): pass"))
    (shared,) = (tmp_path / "logs" / ".mlxp" / "payloads").iterdir()
    fstat = os.fstat
    for foreign in (run.payload, shared):

        def owned(descriptor: int, foreign: Path = foreign) -> Any:
            found = fstat(descriptor)
            is_foreign = found.st_ino == foreign.stat().st_ino
            return SimpleNamespace(st_uid=4711) if is_foreign and stat.S_ISREG(found.st_mode) else found

        monkeypatch.setattr(_payload, "os", SimpleNamespace(fstat=owned, geteuid=os.geteuid))
        with pytest.raises(SystemExit) as caught:
            program(run)
        assert (
            str(caught.value) == f"{foreign} belongs to user 4711, and what is in it would run as you: it is not loaded"
        )
    assert not any(event[0] == "run" for event in program.events)

"""Hydra's calls of the callback, in process: what is decided at each. In real programs: test_callback.py."""

from __future__ import annotations

import functools
import importlib.util
import itertools
import logging
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig, OmegaConf

from hydra_plugins.mlxp import _callbacks, _mlxpsub_state, _replace_run, _submit_single
from hydra_plugins.mlxp._names import LAUNCHER
from hydra_plugins.mlxp._task_function import program_file
from mlxp_core.errors import ConfigurationError, NoActiveRunError, SnapshotError, StoreError
from mlxp_core.recording import current
from mlxp_core.recording.current import current_run
from mlxp_core.runs.code_version import CodeVersion, SnapshotMode
from mlxp_core.runs.layout import LogDir, RunDir
from mlxp_core.runs.status import Status
from mlxp_core.versioning import snapshot as snapshots
from mlxp_core.versioning.git import FileChange
from mlxp_core.versioning.snapshot import WorkTreeVersion
from mlxp_core.yaml_io import dump_yaml

REPO, COPY = Path("/repo"), Path("/copies/0123")


class Calls:
    """This process as one whose callback has not been called yet; ``events`` is what it does, in order."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.monkeypatch = folder, monkeypatch
        self.events: list[Any] = []
        monkeypatch.delenv("MLXP_MAIN", raising=False)
        monkeypatch.setattr(_callbacks, "_mains", itertools.count(1))
        monkeypatch.setattr(_callbacks, "_open", [])
        monkeypatch.setattr("mlxp_core.recording.running_code._latest", {})
        monkeypatch.setattr(_callbacks, "start_recording", self.start_recording)
        for module, name in ((_callbacks, "finish"), (_callbacks, "end_recording"), (_callbacks, "watch_workers")):
            monkeypatch.setattr(module, name, functools.partial(self.note, name))
        monkeypatch.setattr(_callbacks, "_advice", lambda run, error: f"{run}: {error}")
        monkeypatch.setattr(_submit_single, "submit_single", functools.partial(self.note, "submit"))
        monkeypatch.setattr(_replace_run, "skip", functools.partial(self.note, "skip"))

    def note(self, *event: Any, **more: Any) -> None:
        self.events.append((*event, *([more] if more else [])))

    def start_recording(self, run: RunDir, **given: Any) -> str:
        self.events.append(("start", run, given))
        return f"recording {len(self.events)}"

    def run(self, name: str = "1", *, launched: bool = False, **info: Any) -> RunDir:
        """A run folder, made by a launcher of ours or not."""
        run = RunDir(self.folder / "logs" / name)
        run.metadata.mkdir(parents=True)
        if launched:
            run.settings.write_text(dump_yaml({"launcher": {"launch_dir": "/where/it/was"}}))
            run.config_unresolved.write_text("a: 1\nb: ${a}\n")
            run.config.write_text("a: 1\nb: 1\n")
        run.info.write_text(dump_yaml({"status": "PENDING", **info}))
        return run

    def config(self, name: str = "1", **hydra: Any) -> DictConfig:
        usual = {
            "run": {"dir": str(self.folder / "logs" / name)},
            "runtime": {
                "cwd": str(self.folder),
                "output_dir": str(self.folder / "logs" / name),
                "choices": {"hydra/launcher": "mlxp_slurm"},
            },
            "sweep": {"dir": "{log_dir}", "subdir": "x"},
            "job": {"id": "???", "name": "main"},
            "launcher": {"_target_": "basic"},
            "callbacks": None,
            "overrides": {"hydra": [], "task": ["a=1"]},
        }
        return OmegaConf.create({"a": 1, "b": "${a}", "hydra": {**usual, **hydra}})


FROZEN = {"version_manager": {"repo_path": str(REPO), "commit_hash": "0" * 40, "copy": str(COPY)}}


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Calls]:
    _callbacks._job_main.cache_clear()
    yield Calls(tmp_path, monkeypatch)
    _callbacks._job_main.cache_clear()
    current.remember_failure(None)


def test_a_failure_of_a_callback_is_raised_where_the_run_is_asked_for(calls: Calls) -> None:
    """Bug: "no run is being recorded: add hydra/callbacks=mlxp", where that is on, and has failed."""
    hook = _callbacks._remembers_failure(lambda *given: given.index("x") and None)
    hook("x")
    with pytest.raises(NoActiveRunError):
        current_run()
    with pytest.raises(ValueError, match=r"tuple\.index"):
        hook("y", "z")
    with pytest.raises(ValueError, match=r"tuple\.index"):
        current_run()
    assert hook.__name__ == "<lambda>"  # Hydra's warning names it


@pytest.mark.parametrize("hook", [_callbacks.on_run_start, _callbacks.on_multirun_start, _callbacks.on_job_end])
def test_hydras_calls_remember_their_failures(calls: Calls, hook: Any) -> None:
    """Bug: a call whose failure only Hydra's warning tells of."""
    with pytest.raises(AttributeError):
        hook(None)
    with pytest.raises(AttributeError):
        current_run()


def test_where_no_folder_can_be_made_the_program_ends(calls: Calls) -> None:
    """Bug: Hydra warns, and trains for a day in a folder without a record."""

    def full(*_: Any) -> Any:
        raise StoreError("cannot make logs: full")

    calls.monkeypatch.setattr(_callbacks, "choose_run_dir", full)
    with pytest.raises(SystemExit, match=r"^StoreError: cannot make logs: full$"):
        _callbacks.on_run_start(calls.config())
    calls.monkeypatch.setattr(_callbacks, "watch_workers", full)
    with pytest.raises(SystemExit, match=r"^StoreError: cannot make logs: full$"):
        _callbacks.on_multirun_start(calls.config())


@pytest.mark.parametrize(
    ("launcher", "single"),
    [
        ({"_target_": "basic", "single": "submit"}, None),
        ({}, None),
        ({"_target_": LAUNCHER}, "run"),
        ({"_target_": LAUNCHER, "single": "run"}, "run"),
        ({"_target_": LAUNCHER, "single": "submit"}, "submit"),
    ],
)
def test_what_a_launcher_does_without_m_is_its_option(calls: Calls, launcher: dict[str, Any], single: str) -> None:
    """Bug: an option of another launcher that has the same name."""
    assert _callbacks._single(calls.config(launcher=launcher)) == single


@pytest.mark.parametrize("value", ["true", "Submit", None])
def test_an_option_that_means_nothing_ends_the_program(calls: Calls, value: Any) -> None:
    """Bug: a training on the login node, for `single` was misspelt."""
    with pytest.raises(
        SystemExit, match=rf"^ConfigurationError: hydra\.launcher\.single={value}: it is run or submit$"
    ):
        _callbacks.on_run_start(calls.config(launcher={"_target_": LAUNCHER, "single": value}))


SUBMITS = {"_target_": LAUNCHER, "single": "submit"}


def test_a_run_is_submitted_where_that_is_asked_for_and_not_again_by_its_job(
    calls: Calls, caplog: pytest.LogCaptureFixture
) -> None:
    """Bug: a job that submits itself; a run that is submitted and runs here as well, with a folder of its own."""
    config = calls.config(launcher=SUBMITS)
    _callbacks.on_run_start(config, "conf")
    assert calls.events == [("submit", config, "conf")]
    calls.events.clear()
    calls.run(launched=True)
    _callbacks.on_run_start(calls.config(launcher=SUBMITS, job={"id": "1", "name": "main"}))
    assert (calls.events, caplog.records) == ([], [])


def test_a_run_here_with_a_launcher_is_said_to_be_here(calls: Calls, caplog: pytest.LogCaptureFixture) -> None:
    """Bug: somebody who forgot -m, or a warning for all who have no launcher."""
    _callbacks.on_run_start(calls.config())
    assert caplog.records == []
    _callbacks.on_run_start(calls.config(launcher={"_target_": LAUNCHER}))
    (record,) = caplog.records
    assert "without -m (--multirun) nothing is submitted: hydra/launcher=mlxp_slurm is not used" in record.getMessage()
    assert calls.events == []


@pytest.mark.parametrize(("own", "skipped"), [(None, [2, 3]), ("1", [2, 3]), ("2", [1, 3]), ("3", [1, 2])])
def test_a_job_runs_its_own_main_function_alone(calls: Calls, own: str | None, skipped: list[int]) -> None:
    """Bug: a job runs the first of its program's main functions, whichever was submitted; or all of them."""
    if own is not None:
        calls.monkeypatch.setenv("MLXP_MAIN", own)
    calls.run(launched=True)
    configs = [calls.config() for _ in range(3)]
    for config in configs:
        _callbacks.on_run_start(config)
    assert [event[0] for event in calls.events] == ["skip", "skip"]
    taken_over = [
        number for number, config in enumerate(configs, start=1) if config.hydra.runtime.cwd == "/where/it/was"
    ]
    assert [number for number in (1, 2, 3) if number not in taken_over] == skipped


def test_a_programs_first_main_function_is_number_1() -> None:
    """Bug: a job runs the second one, or none."""
    spec = importlib.util.find_spec(_callbacks.__name__)
    assert spec is not None
    assert spec.loader is not None
    fresh = importlib.util.module_from_spec(spec)  # in another process
    spec.loader.exec_module(fresh)
    assert next(fresh._mains) == 1


def test_programs_that_a_job_starts_are_not_told_which_main_function_it_runs(calls: Calls) -> None:
    """Bug: an evaluation that the training starts is skipped, for it is the first of its own program."""
    calls.monkeypatch.setenv("MLXP_MAIN", "2")
    assert _callbacks._job_main() == 2
    assert "MLXP_MAIN" not in _callbacks.os.environ
    assert _callbacks._job_main() == 2


def test_a_job_that_composes_another_configuration_does_not_run(calls: Calls) -> None:
    """Bug: results of a configuration that nobody submitted; a job that ends without a word in its folder."""
    run = calls.run(launched=True)
    config = calls.config()
    config.a = 2
    with pytest.raises(SystemExit) as caught:
        _callbacks.on_run_start(config)
    text = str(caught.value)
    assert text.startswith(f"ConfigurationChangedError: run {run.path} was submitted with another configuration")
    assert "\nsubmitted -> now\n  a: 1 -> 2\nIs a configuration file" in text
    start, finish = calls.events
    assert start == ("start", run, {"config": None})
    assert finish[:3] == ("finish", "recording 1", Status.FAILED)
    assert (finish[3]["type"], finish[3]["message"]) == (
        "mlxp_core.errors.ConfigurationChangedError",
        text.split(": ", 1)[1],
    )


def test_a_job_has_the_values_of_its_submission(calls: Calls, caplog: pytest.LogCaptureFixture) -> None:
    """Bug: a seed from the environment is another one in the job; an empty line in each job's log."""
    caplog.set_level(logging.DEBUG)
    run = calls.run(launched=True)
    config = calls.config()
    _callbacks.on_run_start(config)
    assert (config.hydra.runtime.cwd, caplog.records) == ("/where/it/was", [])
    run.config.write_text("a: 1\nb: 7\n")
    _callbacks.take_values_over(config, run)
    assert config.b == 7
    assert [record.getMessage() for record in caplog.records] == [
        "as at the submission, and not as they would be resolved now: b"
    ]


@pytest.mark.parametrize("count", [0, 1, 20, 21])
def test_code_that_is_not_the_frozen_one_does_not_run(calls: Calls, count: int) -> None:
    """Bug: a job runs the work tree as it is by now; a message of a thousand lines."""
    run = calls.run(launched=True, **FROZEN)
    asked = []

    def outside(modules: Any, repo: Path, copy: Path) -> list[str]:
        asked.append((repo, copy))
        return [f"/repo/m{number}.py" for number in range(count)]

    calls.monkeypatch.setattr(_callbacks, "modules_outside_copy", outside)
    if not count:
        _callbacks.on_run_start(calls.config())
        assert asked == [(REPO, COPY)]
        return
    with pytest.raises(SystemExit) as caught:
        _callbacks.on_run_start(calls.config())
    assert asked == [(REPO, COPY)]
    assert str(caught.value).startswith(f"SnapshotError: run {run.path} was submitted with the code in {COPY}, and")
    named = [line for line in str(caught.value).splitlines() if line.startswith("  /repo/m")]
    assert named == [f"  /repo/m{number}.py" for number in range(min(count, 20))]
    assert [event[0] for event in calls.events] == ["start", "finish"]
    assert calls.events[1][3]["type"] == "mlxp_core.errors.SnapshotError"


@pytest.mark.parametrize(
    ("version", "frozen"),
    [
        (FROZEN["version_manager"], (REPO, COPY)),
        ({"repo_path": str(REPO)}, None),
        ({"copy": str(COPY)}, None),
        (None, None),
    ],
)
def test_without_a_copy_no_module_is_misplaced(calls: Calls, version: Any, frozen: Any) -> None:
    """Bug: snapshot=none refuses every job."""
    run = calls.run(version_manager=version)
    assert _callbacks._frozen(run) == frozen
    calls.monkeypatch.setattr(_callbacks, "modules_outside_copy", lambda *_: ["/repo/m.py"])
    if frozen is None:
        _callbacks._check_modules(run)
    assert calls.events == []


def test_a_multirun_of_our_launcher_defers_what_its_jobs_resolve(calls: Calls) -> None:
    """Bug: a header that asks for a group that only the sweep chooses fails before the sweep."""
    launcher = {"_target_": LAUNCHER, "log_dir": "out", "header": "${gpu}", "setup": ["${gpu}"], "name": "n"}
    config = calls.config(launcher=launcher)
    _callbacks.on_multirun_start(config)
    assert (config.hydra.sweep.dir, config.hydra.launcher.header, config.hydra.launcher.setup) == ("out", None, [])
    assert (config.hydra.launcher.name, calls.events) == ("n", [])


def test_a_multirun_of_another_launcher_has_its_workers_watched(calls: Calls) -> None:
    """Bug: RUNNING for ever after joblib's worker was killed; watched in another folder than the runs'."""
    config = calls.config(launcher={"_target_": "joblib", "header": "${gpu}"})
    _callbacks.on_multirun_start(config)
    assert calls.events == [("watch_workers", calls.folder / "logs")]
    assert OmegaConf.to_container(config.hydra.launcher)["header"] == "${gpu}"


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_dry_run_of_mlxpsub_writes_elsewhere(calls: Calls, dry_run: bool) -> None:
    """Bug: a log directory with a multirun.yaml after `mlxpsub --dry-run`; or none after a real one."""
    redirected: list[Any] = []
    program = SimpleNamespace(session=SimpleNamespace(dry_run=dry_run), redirect=redirected.append)
    calls.monkeypatch.setattr(_mlxpsub_state, "_program", program)
    config = calls.config(launcher={"_target_": LAUNCHER, "log_dir": "logs", "header": None, "setup": []})
    _callbacks.on_multirun_start(config)
    assert redirected == ([config] if dry_run else [])


class Described:
    """What describes the code version."""

    def __init__(self, calls: Calls) -> None:
        self.asked: list[Any] = []
        self.result: Any = WorkTreeVersion(
            REPO, "c" * 40, SnapshotMode.WORKTREE, "h" * 40, "main", (FileChange("??", "x.py"),), diff="the diff"
        )
        calls.monkeypatch.setattr(snapshots, "describe_version", self)

    def __call__(self, program: Path, log_dir: LogDir, snapshot: str) -> Any:
        self.asked.append((program, log_dir, snapshot))
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


@pytest.fixture
def described(calls: Calls) -> Described:
    return Described(calls)


def task_in(file: Path) -> Any:
    """A task function of a program in this file."""
    space: dict[str, Any] = {}
    exec(compile("def main(config): pass", str(file), "exec"), space)
    return space["main"]


@pytest.fixture
def program(calls: Calls) -> Path:
    """A program in a repository."""
    path = calls.folder / "repo" / "src" / "main.py"
    path.parent.mkdir(parents=True)
    (calls.folder / "repo" / ".git").mkdir()
    path.touch()
    return path


def test_a_run_here_is_recorded_with_its_configuration_and_its_code(
    calls: Calls, described: Described, program: Path
) -> None:
    """Bug: hydra's node in config.yaml; a run whose changes nobody can look at, or with another one's."""
    run = calls.run()
    _callbacks.on_job_start(calls.config(), task_in(program), "auto")
    (event,) = calls.events
    assert event[:2] == ("start", run)
    facts, running = event[2].pop("facts"), event[2].pop("running")
    assert event[2] == {
        "config": {"a": 1, "b": 1},
        "config_unresolved": {"a": 1, "b": "${a}"},
        "code": calls.folder / "repo",
        "launch_dir": calls.folder,
    }
    assert facts == {"hydra": {"job_name": "main", "overrides": ["a=1"]}}
    assert (running.version.commit, running.diff) == ("c" * 40, "the diff")
    assert described.asked == [(calls.folder / "repo" / "-", LogDir(calls.folder / "logs"), "auto")]
    assert _callbacks._open == ["recording 1"]


def test_without_changes_there_is_no_diff(calls: Calls, described: Described, program: Path) -> None:
    """Bug: an empty uncommitted.diff in each folder."""
    described.result = WorkTreeVersion(REPO, "c" * 40, SnapshotMode.COMMIT, "c" * 40, "main", ())
    run = calls.run()
    _callbacks.on_job_start(calls.config(), task_in(program), "auto")
    running = calls.events[0][2]["running"]
    running.record({}, run)
    assert not run.diff.exists()
    running.diff = "the diff"
    running.record({}, run)
    assert run.diff.read_text() == "the diff"


def test_a_run_of_no_repository_is_recorded_without_a_version(calls: Calls, described: Described) -> None:
    """Bug: a run of a program outside of git fails, or says the version of the folder above."""
    calls.run()
    file = calls.folder / "main.py"
    file.touch()
    _callbacks.on_job_start(calls.config(), task_in(file), "auto")
    (event,) = calls.events
    assert (event[2]["code"], set(event[2]["facts"]), described.asked) == (calls.folder, {"hydra"}, [])


def test_a_launched_run_has_its_configuration_already(calls: Calls, described: Described, program: Path) -> None:
    """Bug: the job writes over what was submitted; the version of the copy for that of the submission."""
    run = calls.run(launched=True, **FROZEN)
    _callbacks.on_job_start(calls.config(), task_in(program), "auto")
    facts = {"hydra": {"job_name": "main", "overrides": ["a=1"]}}
    given = {"config": None, "facts": facts, "code": COPY, "launch_dir": calls.folder}
    (event,) = calls.events
    assert event[2].pop("running").tree == COPY
    assert event == ("start", run, given)
    assert (_callbacks._open, described.asked) == (["recording 1"], [])


def test_a_run_ends_by_the_outcome_of_its_function_the_last_opened_first(calls: Calls) -> None:
    """Bug: a failed run is COMPLETE; the end of the inner run is recorded in the outer one's folder."""
    error = ValueError("no")
    _callbacks.on_job_end(JobReturn(status=JobStatus.COMPLETED))  # nothing is open
    _callbacks._open.extend(["first", "second"])
    _callbacks.on_job_end(JobReturn(status=JobStatus.COMPLETED, _return_value=0.5))
    _callbacks.on_job_end(JobReturn(status=JobStatus.FAILED, _return_value=error))
    assert calls.events == [
        ("end_recording", "second", None, 0.5, {"advice": "second: None"}),
        ("end_recording", "first", error, None, {"advice": "first: no"}),
    ]
    assert _callbacks._open == []


def test_ends_that_hydra_does_not_report_close_the_run(calls: Calls) -> None:
    """Bug: sys.exit(3) leaves RUNNING."""
    watched: list[Any] = []
    calls.monkeypatch.setattr(_callbacks, "watch_endings", watched.append)
    _callbacks.watch()
    (on_end,) = watched
    _callbacks._open.append("run")
    end = SystemExit(3)
    on_end(end)
    assert calls.events == [("end_recording", "run", end, None, {"advice": "run: 3"})]


def test_a_folder_that_the_launcher_made_is_known_by_its_settings(calls: Calls) -> None:
    """Bug: a run of the user's own in a folder with an mlxp.yaml is taken for a job."""
    assert _callbacks._is_launched(calls.run("1", launched=True))
    other = calls.run("2")
    assert not _callbacks._is_launched(other)
    other.settings.write_text("version: 1\n")
    assert not _callbacks._is_launched(other)


def test_the_programs_file_is_that_of_its_function(calls: Calls, program: Path) -> None:
    """Bug: the worker's file, or the decorator's, for the program's; a notebook's cell for a file."""
    task = task_in(program)
    nowhere = calls.folder / "-"
    assert program_file(task, calls.folder) == program
    assert program_file(functools.wraps(task)(lambda _: None), calls.folder) == program
    assert program_file(None, calls.folder) == nowhere
    assert program_file(functools.partial(task), calls.folder) == nowhere
    assert program_file(task_in(Path("<ipython-input-1>")), calls.folder) == nowhere
    assert program_file(task_in(program.parent), calls.folder) == nowhere  # a folder is no program
    assert program_file(task_in(program / "pkg" / "main.py"), calls.folder) == program  # a zipapp
    calls.monkeypatch.chdir(program.parent)
    assert program_file(task_in(Path("main.py")), calls.folder) == program


def test_the_version_is_asked_for_once_and_not_where_it_is_not_wanted(
    calls: Calls, described: Described, program: Path
) -> None:
    """Bug: git is asked for each of a thousand jobs; or one version for two ways to take it."""
    task, logs = task_in(program), calls.folder / "logs"
    for snapshot in ("auto", "auto", "none", SnapshotMode.NONE, "commit", "auto"):
        version = _callbacks.version_here(task, calls.folder, logs, snapshot)
        assert version.commit == (None if snapshot == "none" else "c" * 40)
    assert [asked[2] for asked in described.asked] == ["auto", "commit"]


@pytest.mark.parametrize(
    "error", [SnapshotError("no commit yet"), ConfigurationError("x is not one of"), OSError("full")]
)
def test_a_version_that_cannot_be_told_keeps_no_run_from_starting(
    calls: Calls, described: Described, program: Path, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """Bug: no training where git is not installed; or a warning for each of a thousand jobs."""
    described.result = error
    for _ in range(2):
        version = _callbacks.version_here(task_in(program), calls.folder, calls.folder / "logs", "auto")
        assert version == CodeVersion()
    assert [record.getMessage() for record in caplog.records] == [f"which code this run runs is not recorded: {error}"]

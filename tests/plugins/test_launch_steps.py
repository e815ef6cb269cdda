"""The steps of a launch, in process: with or without mlxpsub, and what becomes of the runs where one fails."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from omegaconf import OmegaConf

from hydra_plugins.mlxp import _launch, _mlxpsub_state
from hydra_plugins.mlxp._payload import PickledTask
from hydra_plugins.mlxp.config import LauncherConf
from mlxp_core.errors import CommandError, ConfigurationError
from mlxp_core.jobs import submit, write
from mlxp_core.jobs.launch_journal import PendingLaunch
from mlxp_core.jobs.template import Template
from mlxp_core.runs.layout import LaunchDir, LogDir, RunDir
from mlxp_core.runs.submission_record import QueuedJob

JOBS = ["job 0", "job 1", "job 2"]
TEMPLATES = [Template(), Template(setup=("x",)), Template()]


class Mlxpsub:
    """The program in a session of mlxpsub."""

    def __init__(self, events: list[Any], *, dry_run: bool, before: Any) -> None:
        self._events, self._before = events, before
        self.session = SimpleNamespace(dry_run=dry_run)

    def submitted_before(self, identity: str) -> Any:
        self._events.append(("before?", identity))
        return self._before

    def submitted(self, identity: str, queued: Any) -> None:
        self._events.append(("submitted", identity, queued))

    def would_submit(self, *given: Any) -> None:
        self._events.append(("would", *given))


class Launch:
    """One launch, whose steps are noted in order."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch
        self.events: list[Any] = []
        self.context: Any = SimpleNamespace(
            options=LauncherConf(scheduler="oar", python="/py"),
            launch_dir=folder,
            program=SimpleNamespace(code_file=folder / "main.py", words=lambda *given: ["words", *given]),
            config=OmegaConf.create(
                {
                    "hydra": {
                        "hydra_logging": "its logging",
                        "verbose": "its loggers",
                        "sweep": {"dir": "logs", "subdir": "{id}"},
                        "overrides": {"hydra": []},
                    }
                }
            ),
        )
        self.batch: Any = SimpleNamespace(
            jobs=JOBS, overrides_by_template=lambda: {TEMPLATES[0]: [["a=1"], ["a=3"]], TEMPLATES[1]: [["a=2"]]}
        )
        for name in ("setup_globals", "configure_log", "check_repository"):
            monkeypatch.setattr(_launch, name, lambda *given, name=name: self.events.append((name, *given)))
        monkeypatch.setattr(_launch, "plan", self.plan)
        monkeypatch.setattr(_launch, "results", lambda _, jobs, queued: ("results", jobs, queued))
        monkeypatch.setattr(_launch, "dry_run_results", lambda jobs: ("dry", jobs))
        monkeypatch.setattr(_launch, "script_identity", lambda _, jobs: f"of {len(jobs)}")
        monkeypatch.setattr(_launch, "_submit", self.submit)

    def plan(self, context: Any, overrides: Any, first_number: int) -> Any:
        self.events.append(("plan", overrides, first_number))
        return self.batch

    def submit(self, context: Any, batch: Any, on_submitted: Any) -> Any:
        assert (context, batch) == (self.context, self.batch)
        self.events.append("submit")
        on_submitted("queued")
        return "queued"

    def under_mlxpsub(self, *, dry_run: bool = False, before: Any = None) -> None:
        program = Mlxpsub(self.events, dry_run=dry_run, before=before)
        self.monkeypatch.setattr(_mlxpsub_state, "_program", program)

    def __call__(self) -> Any:
        return _launch.launch(self.context, [["a=1"]], 4)


BEGIN = [("setup_globals",), ("configure_log", "its logging", "its loggers"), ("plan", [["a=1"]], 4)]


@pytest.fixture
def launch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Launch:
    return Launch(tmp_path, monkeypatch)


def test_a_launch_plans_submits_and_gives_results(launch: Launch) -> None:
    """Bug: Hydra's log settings of the jobs instead of the multirun's; a batch that begins with number 0."""
    assert launch() == ("results", JOBS, "queued")
    assert launch.events == [*BEGIN, "submit"]
    assert OmegaConf.to_container(launch.context.config)["hydra"]["sweep"]["subdir"] == "${mlxp:run_id}"


def test_mlxpsub_is_told_of_what_is_submitted(launch: Launch) -> None:
    """Bug: mlxpsub says that the program has submitted nothing, and submits it again."""
    launch.under_mlxpsub()
    assert launch() == ("results", JOBS, "queued")
    assert launch.events == [*BEGIN, ("before?", "of 3"), "submit", ("submitted", "of 3", "queued")]


@pytest.mark.parametrize("before", [["run 1"], []])
def test_what_an_earlier_mlxpsub_has_submitted_is_not_submitted_again(launch: Launch, before: list[str]) -> None:
    """Bug: each job of a script twice, after its mlxpsub was interrupted; or in a dry run, for new."""
    for dry_run in (False, True):
        launch.events.clear()
        launch.under_mlxpsub(before=before, dry_run=dry_run)
        assert launch() == ("results", JOBS, before)
        assert launch.events == [*BEGIN, ("before?", "of 3")]


@pytest.mark.parametrize(("snapshot", "checked"), [("auto", True), ("commit", True), ("none", False)])
def test_a_dry_run_says_what_it_would_submit(launch: Launch, snapshot: str, checked: bool) -> None:
    """Bug: a dry run submits; it does not say that the launch will be refused for want of a repository."""
    launch.under_mlxpsub(dry_run=True)
    launch.context.options.snapshot = snapshot
    assert launch() == ("dry", JOBS)
    words = ["words", "/py", Path]
    assert launch.events == [
        *BEGIN,
        ("before?", "of 3"),
        *([("check_repository", launch.context.program.code_file, launch.context.launch_dir)] if checked else []),
        ("would", "oar", TEMPLATES[0], [["a=1"], ["a=3"]], words),
        ("would", "oar", TEMPLATES[1], [["a=2"]], words),
    ]


class Submission:
    """The submission of two of three jobs; ``failing`` is the step that fails."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch
        self.events: list[Any] = []
        self.failing, self.error = "", CommandError("refused")
        self.log_dir = LogDir(folder)
        self.runs = {0: self.log_dir.run(4), 2: self.log_dir.run(5)}
        self.batch: Any = SimpleNamespace(
            jobs=JOBS, templates=TEMPLATES, specs=["spec 0", "spec 1", "spec 2"], log_dir=self.log_dir
        )
        self.code: Any = SimpleNamespace(copy=None, map_path="map")
        self.program: Any = SimpleNamespace()
        monkeypatch.setattr(_launch.SharedFields, "of", lambda context, code: (context.program, code))
        monkeypatch.setattr(_launch, "prepare_run", self.prepare)
        monkeypatch.setattr(write, "write_runs", lambda prepared: self.step("write", list(prepared)))
        monkeypatch.setattr(submit, "submit", lambda runs, log_dir: self.step("submit", runs, log_dir))
        monkeypatch.setattr(submit, "mark_not_submitted", lambda *given: self.events.append(("mark", *given)))

    def prepare(self, shared: Any, job: str, run: RunDir, *, template: Template, spec: str) -> str:
        assert shared == (self.program, self.code)
        assert template is TEMPLATES[JOBS.index(job)]
        self.step("prepare")
        return f"{job} in {run.path.name} by {spec}"

    def step(self, name: str, *given: Any) -> Any:
        if name == self.failing:
            raise self.error
        if given:
            self.events.append((name, *given))
        return ["queued"]

    def keep_diff(self, run: RunDir) -> None:
        self.step("diff", run)

    def __call__(self) -> Any:
        context: Any = SimpleNamespace(program=self.program)
        return _launch._submit_new(context, self.batch, self.runs, self.code)


@pytest.fixture
def submission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Submission:
    return Submission(tmp_path, monkeypatch)


def test_each_run_is_written_from_its_own_job_and_then_submitted(submission: Submission) -> None:
    """Bug: after a resumption, the configuration of the second job in the folder of the third."""
    assert submission() == ["queued"]
    runs = list(submission.runs.values())
    assert submission.events == [
        ("write", ["job 0 in 4 by spec 0", "job 2 in 5 by spec 2"]),
        ("submit", runs, submission.log_dir),
    ]


def test_a_sent_function_and_the_diff_are_there_before_the_job_is(submission: Submission) -> None:
    """Bug: a job starts, and its function is not there yet; or a run without the changes that it ran."""
    task = object.__new__(PickledTask)
    submission.monkeypatch.setattr(task, "write", lambda *given: submission.step("send", *given), raising=False)
    submission.program = task
    submission.code.copy = SimpleNamespace(keep_diff=submission.keep_diff)
    submission()
    four, five = submission.runs.values()
    assert submission.events[1:] == [
        ("send", [("job 0", four), ("job 2", five)], submission.log_dir, "map"),
        ("diff", four),
        ("diff", five),
        ("submit", [four, five], submission.log_dir),
    ]


@pytest.mark.parametrize("failing", ["prepare", "write", "diff", "submit"])
@pytest.mark.parametrize("error", [CommandError("refused"), OSError("full"), KeyboardInterrupt()])
def test_where_a_step_fails_the_runs_say_so(submission: Submission, failing: str, error: BaseException) -> None:
    """Bug: PENDING for ever, after a disk was full or somebody has pressed Ctrl-C."""
    submission.code.copy = SimpleNamespace(keep_diff=submission.keep_diff)
    submission.failing, submission.error = failing, error
    with pytest.raises(type(error)) as caught:
        submission()
    assert caught.value is error
    assert submission.events[-1] == ("mark", list(submission.runs.values()), error)
    assert not any(event[0] == "submit" for event in submission.events)


def test_what_is_queued_already_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Bug: nobody knows why a command submits one job where it has three."""
    log_dir = LogDir(tmp_path)
    runs = tuple(log_dir.run(number) for number in (4, 5, 6))
    queued = {run: QueuedJob(run, "slurm", "1", None) for run in runs[:2]}
    asked: list[Any] = []

    def find_queued(given: Sequence[RunDir], limit: float) -> Any:
        asked.append((given, limit))
        return queued

    monkeypatch.setattr(_launch, "find_queued", find_queued)
    earlier = PendingLaunch(LaunchDir(tmp_path), runs, "yesterday")
    assert _launch._already_queued(earlier, LauncherConf(command_timeout=7.0)) is queued
    assert asked == [(runs, 7.0)]
    (record,) = caplog.records
    assert record.getMessage() == (
        "the launch of this command at yesterday did not submit all of its runs: 2 of 3 are submitted already (4-5), "
        "the rest follows"
    )


def test_a_log_directory_with_a_line_break_is_refused(tmp_path: Path) -> None:
    """Bug: a manifest whose lines are no runs."""
    with pytest.raises(ConfigurationError, match=r"the log directory '.*a\\nb' has a line break in its path"):
        _launch._allocate([], LogDir(tmp_path / "a\nb"))
    assert list(tmp_path.iterdir()) == []


def test_jobs_without_a_name_of_their_own_have_numbers(tmp_path: Path) -> None:
    """Bug: a folder called ${mlxp:run_id}; or numbers where one job of several names its folder."""
    plain: Any = SimpleNamespace(raw=lambda _: "${mlxp:run_id}", hydra=lambda _: "x")
    assert _launch._allocate([plain, plain], LogDir(tmp_path)) == [LogDir(tmp_path).run(1), LogDir(tmp_path).run(2)]

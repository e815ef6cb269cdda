"""A sweep in process: from arguments to jobs, the runs that there are already, batches. Programs: test_sweeper.py."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf

from hydra_plugins.mlxp import _callbacks, _code_version, _mlxpsub_state, _results, _sweep
from hydra_plugins.mlxp._names import CALLBACK
from hydra_plugins.mlxp.config import SweeperConf
from hydra_plugins.mlxp.launcher import MlxpLauncher
from mlxp_core.errors import ConfigurationError
from mlxp_core.jobs import resubmit
from mlxp_core.jobs.resubmit import Resubmission
from mlxp_core.runs.code_version import CodeVersion, SnapshotMode
from mlxp_core.runs.layout import LogDir, RunDir
from mlxp_core.runs.submission_record import QueuedJob
from mlxp_core.sweeps import existing_runs
from mlxp_core.yaml_io import dump_yaml

COMMIT, OTHER = "a" * 40, "b" * 40


class Composer:
    """Composes to the values of the overrides; of ``model=big`` the width is 8, of any other choice 2."""

    def __init__(self, sweep: Sweep) -> None:
        self._sweep = sweep
        self.remembered: list[list[str]] = []

    def compose(self, overrides: list[str]) -> Any:
        self._sweep.events.append(("compose", list(overrides)))
        return self.job(overrides)

    def remember(self, overrides: list[str]) -> Any:
        self.remembered.append(list(overrides))
        return self.job(overrides)

    def job(self, overrides: list[str]) -> Any:
        values: dict[str, Any] = {"lr": 0.1}
        for key, _, value in (override.partition("=") for override in overrides):
            values[key.lstrip("+")] = int(value) if value.isdigit() else value
        if "model" in values:
            values["width"] = 8 if values["model"] == "big" else 2
        hydra = {"overrides": {"hydra": self._sweep.hydra_overrides.get(" ".join(overrides), [])}}
        return SimpleNamespace(
            overrides=list(overrides),
            unresolved=values,
            resolved=lambda: {**values, "data": "/d"},
            raw=lambda path: hydra[path],
            hydra=lambda path: str(self._sweep.config.hydra.sweep.dir) if path == "sweep.dir" else path,
        )


class Sweep:
    """A sweep of a program, with stand-ins for composition and launcher; ``events`` is what happens, in order."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.monkeypatch = folder, monkeypatch
        self.events: list[Any] = []
        self.hydra_overrides: dict[str, list[str]] = {}
        self.failing: list[list[str]] = []
        self.config = OmegaConf.create(
            {
                "hydra": {
                    "sweep": {"dir": str(folder / "logs"), "subdir": "n"},
                    "runtime": {"cwd": str(folder)},
                    "job": {"name": "main"},
                    "callbacks": None,
                    "launcher": {},
                    "overrides": {"hydra": [], "task": []},
                },
                "x": 1,
            }
        )
        self.composer = Composer(self)
        monkeypatch.setattr(_sweep, "Composer", self.made_composer)

    def made_composer(self, loader: Any, config: Any, is_job_variable: Any) -> Composer:
        assert (loader, config, is_job_variable) == ("loader", self.config, _mlxpsub_state.is_job_variable)
        return self.composer

    def launch(self, batch: Sequence[list[str]], *, initial_job_idx: int) -> list[JobReturn]:
        self.events.append(("launch", initial_job_idx, list(batch)))
        return [self.result(job) for job in batch]

    def result(self, job: list[str]) -> JobReturn:
        failed = job in self.failing
        value = ValueError(f"failed: {job}") if failed else 0.5
        status = JobStatus.FAILED if failed else JobStatus.COMPLETED
        return JobReturn(overrides=job, status=status, _return_value=value)

    def ours(self, **context: Any) -> MlxpLauncher:
        """A launcher of ours."""
        launcher = MlxpLauncher()
        launcher.context = SimpleNamespace(
            composer=self.composer,
            program=SimpleNamespace(function_hash="f"),
            options=SimpleNamespace(wait=False),
            config=self.config,
            **context,
        )
        self.monkeypatch.setattr(launcher, "launch", self.launch)
        self.monkeypatch.setattr(
            _code_version,
            "job_code",
            lambda context, *_: context is launcher.context and SimpleNamespace(commit=COMMIT),
        )
        return launcher

    def __call__(self, *arguments: str, launcher: Any = None, **options: Any) -> list[Sequence[JobReturn]]:
        if launcher is None:
            launcher = SimpleNamespace(launch=self.launch)
        context: Any = SimpleNamespace(config_loader="loader")
        self.task: Any = lambda _: None
        return _sweep.sweep(
            self.config,
            SweeperConf(**options),
            launcher,
            hydra_context=context,
            task_function=self.task,
            arguments=list(arguments),
        )

    def jobs(self, *arguments: str, **options: Any) -> list[str]:
        """The jobs that are launched."""
        self.events.clear()
        self(*arguments, **options)
        return [" ".join(job) for event in self.events if event[0] == "launch" for job in event[2]]


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    return Sweep(tmp_path, monkeypatch)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_batches_are_numbered_on_and_each_is_composed_before_it_is_launched(sweep: Sweep) -> None:
    """Bug: each batch begins with number 0; a job that does not compose is seen when others run already."""
    results = sweep("a=1,2,3,4,5", max_batch_size=2)
    a1, a2, a3, a4, a5 = (["a=1"], ["a=2"], ["a=3"], ["a=4"], ["a=5"])
    assert sweep.events == [
        *(("compose", a1), ("compose", a2), ("launch", 0, [a1, a2])),
        *(("compose", a3), ("compose", a4), ("launch", 2, [a3, a4])),
        *(("compose", a5), ("launch", 4, [a5])),
    ]
    assert [[result.return_value for result in batch] for batch in results] == [[0.5, 0.5], [0.5, 0.5], [0.5]]


def test_without_a_size_all_jobs_are_one_batch_which_our_launcher_composes_itself(sweep: Sweep) -> None:
    """Bug: an array for each job; each job composed twice."""
    assert len(sweep("a=1,2,3", launcher=sweep.ours())) == 1
    assert sweep.events == [("launch", 0, [["a=1"], ["a=2"], ["a=3"]])]
    assert sweep.jobs("a=1,2", max_batch_size=1) == ["a=1", "a=2"]
    assert [event[1] for event in sweep.events if event[0] == "launch"] == [0, 1]


def test_a_batch_of_no_job_is_refused_before_anything_happens(sweep: Sweep) -> None:
    """Bug: a batch size of 0 is an error of range(), or one of -1 launches nothing and says nothing."""
    for size in (0, -1):
        with pytest.raises(ConfigurationError, match=rf"max_batch_size={size}: a batch has one job at least"):
            sweep("a=1", max_batch_size=size)
    assert (sweep.events, list(sweep.folder.iterdir())) == ([], [])


def test_after_a_batch_with_a_failure_there_is_no_other(sweep: Sweep) -> None:
    """Bug: a thousand jobs of a program that fails; or a sweep that ends with success although a job failed."""
    sweep.failing = [["a=3"]]
    with pytest.raises(ValueError, match=r"failed: .'a=3'"):
        sweep("a=1,2,3,4,5,6", launcher=sweep.ours(), max_batch_size=2)
    assert [event[1] for event in sweep.events] == [0, 2]


def test_the_multirun_is_written_down_and_only_our_launchers_folders_are_chosen(sweep: Sweep) -> None:
    """Bug: no multirun.yaml, as Hydra's sweeper writes; or a number for a folder that another launcher names itself."""
    sweep.config.hydra.sweep.dir, sweep.config.hydra.sweep.subdir = str(sweep.folder / "a" / "b"), "{id}"
    sweep("a=1")
    sweep("a=1")  # into the folder that is there
    written = OmegaConf.load(sweep.folder / "a" / "b" / "multirun.yaml")
    assert (written.x, written.hydra.sweep.subdir) == (1, "{id}")
    sweep("a=1", launcher=sweep.ours())
    assert OmegaConf.to_container(sweep.config)["hydra"]["sweep"]["subdir"] == "${mlxp:run_id}"


def test_arguments_are_axes_in_their_order_the_last_of_a_key_at_the_place_of_the_first(sweep: Sweep) -> None:
    """Bug: another order of jobs than Hydra's; of two values of a key both, or the first."""
    assert sweep.jobs("a=1,2", "b=range(0,2)", "a=3,4") == ["a=3 b=0", "a=3 b=1", "a=4 b=0", "a=4 b=1"]
    assert sweep.jobs("b=x", "a=7,8", params={"a": "1,2", "c": "5"}) == ["a=7 c=5 b=x", "a=8 c=5 b=x"]
    assert sweep.jobs("~a", "~b=1", "+c=choice(x,'y z')", "++d@p=2") == [
        "~a ~b=1 +c=x ++d@p=2",
        r"~a ~b=1 +c=y\ z ++d@p=2",
    ]
    assert sweep.jobs() == [""]
    assert sweep.jobs("a=x,y", "b=") == ["a=x b=", "a=y b="]


def test_choices_of_a_group_are_those_that_the_loader_knows(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: `glob(*)` fails, for nobody has told the parser which choices there are."""
    loader = SimpleNamespace(get_group_options=lambda group, results_filter: [f"{group}-a", f"{group}-b"])
    context: Any = SimpleNamespace(config_loader=loader)
    monkeypatch.setattr(_sweep, "Composer", lambda *_: sweep.composer)
    launcher: Any = SimpleNamespace(launch=sweep.launch)
    _sweep.sweep(
        sweep.config, SweeperConf(), launcher, hydra_context=context, task_function=print, arguments=["model=glob(*)"]
    )
    assert sweep.events[-1] == ("launch", 0, [["model=model-a"], ["model=model-b"]])


def test_an_interval_is_refused_with_its_override(sweep: Sweep) -> None:
    """Bug: an interval run as one value; a message that does not say which of ten overrides it is."""
    with pytest.raises(
        ConfigurationError, match=r"sweep type : INTERVAL_SWEEP \(b=interval\(0,1\)\)\. Give the values"
    ):
        sweep("a=1,2", "b=interval(0,1)")


@pytest.mark.parametrize(
    ("given", "groups"),
    [
        (None, []),
        ([], []),
        (["lr", "wd"], [["lr", "wd"]]),
        ([["lr", "wd"], ["a", "b"]], [["lr", "wd"], ["a", "b"]]),
        ([["lr"]], [["lr"]]),
    ],
)
def test_lists_of_keys_are_groups(given: Any, groups: list[list[str]]) -> None:
    """Bug: two groups walked as one, or each key as a group of its own."""
    assert _sweep._groups(given) == groups


@pytest.mark.parametrize(
    "given", ["lr", 3, {"lr": "wd"}, ["lr", 3], ["lr", ["wd"]], [["lr"], "wd"], [["lr", 3]], [[["lr"]]]]
)
def test_what_is_no_list_of_keys_is_refused(given: Any) -> None:
    """Bug: the letters of a word for keys; a stack trace."""
    with pytest.raises(ConfigurationError, match=r"^hydra\.sweeper\.zip=.* is neither a list of keys, such as"):
        _sweep._groups(given)


def test_lists_are_walked_together(sweep: Sweep) -> None:
    """Bug: hydra.sweeper.zip that nobody looks at."""
    assert sweep.jobs("a=1,2", "b=3,4", "c=5,6", zip=["a", "c"]) == [
        "a=1 c=5 b=3",
        "a=1 c=5 b=4",
        "a=2 c=6 b=3",
        "a=2 c=6 b=4",
    ]


def test_points_lie_beside_the_launch_and_are_one_more_axis(sweep: Sweep) -> None:
    """Bug: a file of points looked for where the program lies; points instead of what the command line has."""
    (sweep.folder / "points.csv").write_text("a,b\n1,2\n3,\n")
    assert sweep.jobs("c=5,6", points="points.csv") == ["c=5 a=1 b=2", "c=5 a=3", "c=6 a=1 b=2", "c=6 a=3"]


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"points": [{"b": 1}, {"a": 1}]}, r"a is given twice, on the command line.* and in hydra\.sweeper\.points"),
        ({"repeat": {"a": 2}}, r"a is given twice, on the command line.* and in hydra\.sweeper\.repeat"),
        (
            {"points": [{"s": 1}], "repeat": {"s": 2}},
            r"s is given twice, in hydra\.sweeper\.points and in hydra\.sweeper\.repeat",
        ),
    ],
)
def test_a_key_is_given_in_one_place(sweep: Sweep, options: dict[str, Any], where: str) -> None:
    """Bug: one of two values wins, and nobody is told which."""
    with pytest.raises(ConfigurationError, match=where):
        sweep("a=1,2", **options)


def test_a_sample_is_drawn_of_what_is_left_and_each_of_it_is_repeated(
    sweep: Sweep, caplog: pytest.LogCaptureFixture
) -> None:
    """Bug: three of the repetitions drawn instead of three jobs with all of theirs; the same sample for every seed."""
    caplog.set_level(logging.INFO)
    jobs = sweep.jobs("a=range(40)", sample=3, repeat={"s": 2, "t": 2})
    drawn = list(dict.fromkeys(job.split()[0] for job in jobs))
    assert len(drawn) == 3
    assert jobs == [f"{job} s={s} t={t}" for job, s, t in itertools.product(drawn, (0, 1), (0, 1))]
    assert said(caplog) == ["sampled 3 of 40 jobs (hydra.sweeper.sample_seed=0)"]
    assert list(dict.fromkeys(job.split()[0] for job in sweep.jobs("a=range(40)", sample=3))) == drawn
    assert sweep.jobs("a=range(40)", sample=3, sample_seed=1) != drawn
    assert sweep.jobs("a=1,2", sample=5) == ["a=1", "a=2"]
    assert said(caplog)[-1] == "sampled 2 of 2 jobs (hydra.sweeper.sample_seed=0)"
    with pytest.raises(ConfigurationError, match="at least one job must be left"):
        sweep("a=1,2", sample=0)


def test_queries_choose_among_the_jobs(sweep: Sweep, caplog: pytest.LogCaptureFixture) -> None:
    """Bug: of two queries of which both must hold one is enough; what is to be left out is what is left."""
    caplog.set_level(logging.INFO)
    arguments = ("a=1,2,3", "model=big,small")
    assert sweep.jobs(*arguments, include="a > 1") == [f"a={a} model={m}" for a in (2, 3) for m in ("big", "small")]
    assert sweep.jobs(*arguments, include=["a > 1", "config.width == 8"]) == ["a=2 model=big", "a=3 model=big"]
    assert sweep.jobs(*arguments, exclude=["a > 1", "model == 'big'"]) == ["a=1 model=small"]
    caplog.clear()
    assert sweep.jobs(*arguments, include="a < 3", exclude="config.width == 8") == [
        "a=1 model=small",
        "a=2 model=small",
    ]
    assert said(caplog) == [
        "left out 2 of 6 jobs: hydra.sweeper.include: a < 3",
        "left out 2 of 4 jobs: hydra.sweeper.exclude: config.width == 8",
    ]
    sweep.composer.remembered.clear()
    assert sweep.jobs(*arguments, include=[], exclude=[]) == sweep.jobs(*arguments)
    assert sweep.composer.remembered == []  # a sweep without queries is composed once, and not to be asked


def test_a_query_asks_for_resolved_values_and_for_what_overrides_set(sweep: Sweep) -> None:
    """Bug: `+b` or a quoted value is no field; a key that is taken out has the value that it had."""
    arguments = ("+a=1,2", "++b='x y'", "~c=3", "~d")
    assert sweep.jobs(*arguments, include="b == 'x y' & a == 2") == ["+a=2 ++b='x y' ~c=3 ~d"]
    assert sweep.jobs(*arguments, include="config.data == '/d'") == sweep.jobs(*arguments)
    assert _sweep._values(["+a=1", "++b='x y'", "~c=3", "~d", "e=[1,2]"]) == {"a": 1, "b": "x y", "e": [1, 2]}


@pytest.mark.parametrize("key", ["include", "exclude"])
@pytest.mark.parametrize("given", [3, [3], ["a == 1", 3], {"a": "b"}])
def test_what_is_no_query_is_refused(sweep: Sweep, key: str, given: Any) -> None:
    """Bug: a stack trace; the keys of a mapping for queries."""
    with pytest.raises(
        ConfigurationError, match=rf"^hydra\.sweeper\.{key}=.* is neither a query nor a list of queries$"
    ):
        sweep("a=1,2", **{key: given})


def test_where_no_job_is_left_it_is_said(sweep: Sweep, caplog: pytest.LogCaptureFixture) -> None:
    """Bug: a program that ends at once, and nobody knows why; or that warns where all is well."""
    assert sweep.jobs("a=1,2", include="a > 2", repeat={"s": 3}) == []
    assert said(caplog) == ["no job is left of this sweep"]
    caplog.clear()
    assert sweep("a=1,2", include="a > 2") == []
    caplog.clear()
    sweep.jobs("a=1")
    assert said(caplog) == []


def test_of_jobs_that_compose_to_the_same_the_first_is_run(sweep: Sweep, caplog: pytest.LogCaptureFixture) -> None:
    """Bug: the last of them; or jobs that differ in what Hydra itself is told are taken for the same."""
    caplog.set_level(logging.INFO)
    arguments = ("a=1,2,1,3,2", "~b")
    assert sweep.jobs(*arguments, dedupe=True) == ["a=1 ~b", "a=2 ~b", "a=3 ~b"]
    assert said(caplog) == ["left out 2 of 5 jobs, whose configuration another one has"]
    caplog.clear()
    assert len(sweep.jobs(*arguments)) == 5
    assert sweep.jobs("a=1,2", dedupe=True) == ["a=1", "a=2"]
    assert said(caplog) == []
    points = [["a=1"], ["+a=1"]]
    assert sweep.jobs(dedupe=True, points=points) == ["a=1"]
    sweep.hydra_overrides = {"+a=1": ["hydra.job.name=other"]}
    assert sweep.jobs(dedupe=True, points=points) == ["a=1", "+a=1"]


def made(log_dir: Path, number: int, status: str, config: dict[str, Any], commit: str = COMMIT, **more: Any) -> RunDir:
    """A run of the program in the log directory."""
    run = RunDir(log_dir / str(number))
    run.metadata.mkdir(parents=True)
    run.config_unresolved.write_text(dump_yaml(config))
    version = {"commit_hash": commit, "function_hash": "f"}
    run.info.write_text(
        dump_yaml({"status": status, "attempt": 1, "version_manager": version, "hydra": {"job_name": "main"}, **more})
    )
    return run


class Resubmitter:
    """Stands in for what submits runs again; of the trial, and then, which are skipped and blocked."""

    def __init__(self, sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
        self._events = sweep.events
        self.trial: tuple[dict[RunDir, str], dict[RunDir, str]] = ({}, {})
        self.then: tuple[dict[RunDir, str], dict[RunDir, str]] = ({}, {})
        monkeypatch.setattr(resubmit, "resubmit", self)

    def __call__(self, log_dir: LogDir, runs: Sequence[RunDir], *, dry_run: bool = False) -> Resubmission:
        assert {run.path.parent for run in runs} == {log_dir.path}
        self._events.append(("try" if dry_run else "submit again", [run.path.name for run in runs]))
        skipped, blocked = self.trial if dry_run else self.then
        chosen = tuple(run for run in runs if run not in skipped and run not in blocked)
        queued = (
            () if dry_run else tuple(QueuedJob(run, "slurm", f"1{run.path.name}", None) for run in reversed(chosen))
        )
        return Resubmission(chosen, queued, skipped, blocked)


@pytest.fixture
def resubmitter(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> Resubmitter:
    return Resubmitter(sweep, monkeypatch)


def test_what_has_a_run_is_left_out_and_said(sweep: Sweep, caplog: pytest.LogCaptureFixture) -> None:
    """Bug: a job runs twice; or the other job is left out; or nobody says which run stands for it."""
    caplog.set_level(logging.INFO)
    logs = sweep.folder / "logs"
    made(logs, 1, "COMPLETE", {"lr": 0.1, "a": 1})
    made(logs, 2, "COMPLETE", {"lr": 0.1, "a": 3}, OTHER)
    made(logs, 3, "RUNNING", {"lr": 0.1, "a": 4})
    made(logs, 4, "COMPLETE", {"lr": 0.1, "a": 5})
    made(logs, 5, "COMPLETE", {"lr": 0.1, "a": 2}, hydra={"job_name": "other"})
    arguments = "a=1,2,3,4,5"
    assert sweep.jobs(arguments, launcher=sweep.ours(), skip=["COMPLETE"]) == ["a=2", "a=3", "a=4"]
    assert said(caplog) == [
        "skipped 2 jobs, for there is a run that is COMPLETE: run 1, 4",
        (
            "run anew although there is a run of the same configuration, for its code is another version or not known "
            "(hydra.sweeper.skip_any_code=true takes it): run 2"
        ),
        "3 of 5 jobs new",
    ]
    caplog.clear()
    assert sweep.jobs(arguments, launcher=sweep.ours(), skip="COMPLETE", skip_any_code=True) == ["a=2", "a=4"]
    assert said(caplog) == ["skipped 3 jobs, for there is a run that is COMPLETE: run 1-2, 4", "2 of 5 jobs new"]
    assert len(sweep.jobs(arguments, launcher=sweep.ours())) == 5


def test_each_status_for_which_jobs_are_left_out_has_its_own_line(
    sweep: Sweep, caplog: pytest.LogCaptureFixture
) -> None:
    """Bug: "skipped 3 jobs, for there is a run that is FAILED", of which two are complete."""
    caplog.set_level(logging.INFO)
    logs = sweep.folder / "logs"
    for number, status in enumerate(("COMPLETE", "FAILED", "COMPLETE"), start=1):
        made(logs, number, status, {"lr": 0.1, "a": number})
    assert sweep.jobs("a=1,2,3", launcher=sweep.ours(), skip=["COMPLETE", "failed"]) == []
    assert said(caplog) == [
        "skipped 2 jobs, for there is a run that is COMPLETE: run 1, 3",
        "skipped 1 job, for there is a run that is FAILED: run 2",
        "0 of 3 jobs new",
    ]


def test_what_is_known_of_the_jobs_is_what_runs_are_looked_for_by(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Bug: runs of another program, another function or another commit count; values of another job are compared."""
    caplog.set_level(logging.INFO)
    asked: list[Any] = []
    other, third = RunDir(sweep.folder / "logs" / "7"), RunDir(sweep.folder / "logs" / "8")

    def plan_sweep(log_dir: LogDir, configs: Any, policy: Any, resolve: Any) -> Any:
        asked.extend((log_dir, configs, policy, [resolve(index) for index in range(len(configs))]))
        state: Any = SimpleNamespace(run=third)
        return existing_runs.SweepPlan([1, 0], {}, {}, [], {other: ["data", "a.b"]}, [state])

    monkeypatch.setattr(existing_runs, "plan_sweep", plan_sweep)
    assert sweep.jobs("a=1,2", launcher=sweep.ours(), resume=True) == ["a=1", "a=2"]
    log_dir, configs, policy, resolved = asked
    assert log_dir == LogDir(sweep.folder / "logs")
    assert configs == [{"lr": 0.1, "a": 1}, {"lr": 0.1, "a": 2}]
    assert resolved == [{"lr": 0.1, "a": 1, "data": "/d"}, {"lr": 0.1, "a": 2, "data": "/d"}]
    assert policy == existing_runs.SkipPolicy([], False, True, COMMIT, "f", "main")
    assert said(caplog) == [
        "not the same configuration, for what the environment puts into it: run 7: data, a.b",
        (
            "not run again in their own folders, with the code that they were submitted with, for it is another "
            "version or not known (`mlxp rerun` does): run 8"
        ),
        "2 of 2 jobs new",
    ]


def unfinished(sweep: Sweep, *numbers: int) -> list[RunDir]:
    return [made(sweep.folder / "logs", number, "FAILED", {"lr": 0.1, "a": number}) for number in numbers]


def test_unfinished_runs_are_submitted_again_before_the_new_jobs_and_waited_for_after_them(
    sweep: Sweep, resubmitter: Resubmitter, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Bug: no new job before the resumed ones have ended; results of the one under the overrides of the other."""
    caplog.set_level(logging.INFO)
    unfinished(sweep, 1, 3, 4)
    launcher = sweep.ours()
    waited: list[Any] = []

    def results(context: Any, jobs: Any, queued: Any) -> list[JobReturn]:
        assert context is launcher.context
        sweep.events.append("results")
        waited.extend((job.overrides, submitted.run.path.name) for job, submitted in zip(jobs, queued, strict=True))
        return [JobReturn(status=JobStatus.COMPLETED, _return_value="again")]

    monkeypatch.setattr(_results, "results", results)
    again, new = sweep("a=1,2,3,4", launcher=launcher, resume=True)
    assert sweep.events == [
        ("try", ["1", "3", "4"]),
        ("submit again", ["1", "3", "4"]),
        ("launch", 0, [["a=2"]]),
        "results",
    ]
    assert waited == [(["a=1"], "1"), (["a=3"], "3"), (["a=4"], "4")]
    assert ([result.return_value for result in again], [result.return_value for result in new]) == (["again"], [0.5])
    assert said(caplog) == [
        "run again, in the folders of their unfinished runs: run 1, 3-4",
        "1 of 4 jobs new",
        "run 1 : a=1 : slurm job 11",
        "run 3 : a=3 : slurm job 13",
        "run 4 : a=4 : slurm job 14",
        f"3 jobs submitted; their runs are in {sweep.folder / 'logs'}",
    ]


def test_a_failure_of_a_resumed_run_is_the_sweeps(
    sweep: Sweep, resubmitter: Resubmitter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: a sweep that ends with success, for the job that failed was one of the resumed."""
    unfinished(sweep, 1)
    failed = JobReturn(status=JobStatus.FAILED, _return_value=ValueError("resumed, and failed"))
    monkeypatch.setattr(_results, "results", lambda *_: [failed])
    with pytest.raises(ValueError, match="resumed, and failed"):
        sweep("a=1,2", launcher=sweep.ours(), resume=True)
    assert sweep.events[-1] == ("launch", 0, [["a=2"]])


def test_a_run_that_cannot_run_again_is_a_new_job_and_one_that_runs_is_none(
    sweep: Sweep, resubmitter: Resubmitter, caplog: pytest.LogCaptureFixture
) -> None:
    """Bug: a job that is neither run anew nor again; or that runs beside its own run, which is under way."""
    caplog.set_level(logging.INFO)
    runs = unfinished(sweep, 1, 2, 3, 4, 5)
    resubmitter.trial = ({runs[1]: "RUNNING"}, {runs[0]: "no script.sh", runs[3]: "no script.sh"})
    assert sweep.jobs("a=1,2,3,4,5,6", launcher=sweep.ours(), resume=True) == ["a=1", "a=4", "a=6"]
    assert ("submit again", ["3", "5"]) in sweep.events
    assert said(caplog)[:4] == [
        "run anew, in a new folder, instead of run 1, 4: no script.sh",
        "skipped, and left alone: run 2: RUNNING",
        "run again, in the folders of their unfinished runs: run 3, 5",
        "3 of 6 jobs new",
    ]
    levels = [record.levelname for record in caplog.records]
    assert levels[:4] == ["WARNING", "INFO", "INFO", "INFO"]


def test_where_none_can_run_again_nothing_is_said_of_it(
    sweep: Sweep, resubmitter: Resubmitter, caplog: pytest.LogCaptureFixture
) -> None:
    """Bug: "run again: run none"; an empty list of results before the others'."""
    caplog.set_level(logging.INFO)
    (run,) = unfinished(sweep, 1)
    resubmitter.trial = ({}, {run: "no script.sh"})
    (results,) = sweep("a=1", launcher=sweep.ours(), resume=True)
    assert len(results) == 1
    assert sweep.events == [("try", ["1"]), ("launch", 0, [["a=1"]])]
    assert said(caplog) == ["run anew, in a new folder, instead of run 1: no script.sh", "1 of 1 job new"]


def test_what_changes_between_the_trial_and_the_submission_is_said_and_has_no_result(
    sweep: Sweep, resubmitter: Resubmitter, caplog: pytest.LogCaptureFixture
) -> None:
    """Bug: a run that somebody else has submitted meanwhile ends the sweep, or has the job of its neighbour."""
    runs = unfinished(sweep, 1, 2, 3, 4)
    resubmitter.then = ({runs[0]: "PENDING"}, {runs[2]: "its code is not there any more"})
    (again,) = sweep("a=1,2,3,4", launcher=sweep.ours(), resume=True)
    assert said(caplog) == [
        "not run again: run 1: PENDING",
        "not run again: run 3: its code is not there any more",
    ]
    assert [(result.overrides, result.return_value.run_id) for result in again] == [(["a=2"], 2), (["a=4"], 4)]


class Mlxpsub:
    """Stands in for the program in a session of mlxpsub."""

    def __init__(self, sweep: Sweep, monkeypatch: pytest.MonkeyPatch, *, dry_run: bool) -> None:
        self._events = sweep.events
        self.session = SimpleNamespace(dry_run=dry_run)
        monkeypatch.setattr(_mlxpsub_state, "_program", self)

    def submitted_again(self, runs: Sequence[QueuedJob]) -> None:
        self._events.append(("told", [queued.job_id for queued in runs]))

    def complete(self) -> None:
        self._events.append("complete")


def test_mlxpsub_is_told_of_runs_that_run_again(
    sweep: Sweep, resubmitter: Resubmitter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: mlxpsub says that nothing was submitted; or that all is complete, while a new job is on its way."""
    runs = unfinished(sweep, 1, 3)
    Mlxpsub(sweep, monkeypatch, dry_run=False)
    sweep("a=1,2,3", launcher=sweep.ours(), resume=True)
    assert sweep.events[2:] == [("told", ["11", "13"]), ("launch", 0, [["a=2"]])]
    resubmitter.then = (dict.fromkeys(runs, "PENDING"), {})
    sweep.events.clear()
    sweep("a=1,3", launcher=sweep.ours(), resume=True)
    assert sweep.events == [("try", ["1", "3"]), ("submit again", ["1", "3"]), "complete"]


def test_a_dry_run_submits_nothing_again(
    sweep: Sweep, resubmitter: Resubmitter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: `mlxpsub --dry-run` submits the unfinished runs."""
    unfinished(sweep, 1)
    Mlxpsub(sweep, monkeypatch, dry_run=True)
    assert len(sweep("a=1,2", launcher=sweep.ours(), resume=True)) == 1
    assert sweep.events == [("try", ["1"]), ("launch", 0, [["a=2"]])]


def test_mlxpsub_hears_that_a_sweep_is_complete(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: "the program has submitted nothing", for a sweep that has nothing left to do."""
    Mlxpsub(sweep, monkeypatch, dry_run=False)
    made(sweep.folder / "logs", 1, "COMPLETE", {"lr": 0.1, "a": 1})
    assert sweep("a=1", launcher=sweep.ours(), skip="COMPLETE") == []
    assert sweep.events == ["complete"]


def test_another_launcher_goes_by_what_the_callback_records(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Bug: nothing is ever skipped, and nobody is told that these jobs leave no record to go by."""
    asked: list[Any] = []

    def version_here(task: Any, launch_dir: Path, log_dir: Path, snapshot: str) -> Any:
        asked.append((task is sweep.task, launch_dir, log_dir, snapshot))
        return version

    monkeypatch.setattr(_callbacks, "version_here", version_here)
    made(sweep.folder / "logs", 1, "COMPLETE", {"lr": 0.1, "a": 1}, version_manager={"commit_hash": COMMIT})
    version: Any = CodeVersion(commit=COMMIT, snapshot=SnapshotMode.COMMIT)
    assert sweep.jobs("a=1,2", skip="COMPLETE") == ["a=2"]
    assert [
        line
        for line in said(caplog)
        if "goes by the runs that are recorded" in line and "add hydra/callbacks=mlxp" in line
    ]
    caplog.clear()
    sweep.config.hydra.callbacks = {"other": {"_target_": "x"}, "mlxp": {"_target_": CALLBACK, "snapshot": "worktree"}}
    assert sweep.jobs("a=1,2", skip="COMPLETE") == ["a=2"]
    assert said(caplog) == []
    for version in (CodeVersion(), CodeVersion(commit=COMMIT, snapshot=SnapshotMode.NONE)):  # noqa: B007  (see version_here)
        assert sweep.jobs("a=1,2", skip="COMPLETE") == ["a=1", "a=2"]
    logs = sweep.folder / "logs"
    assert asked[0] == (True, sweep.folder, logs, "auto")
    assert asked[1:] == [(True, sweep.folder, logs, "worktree")] * 3


def test_another_launchers_runs_are_not_run_again(sweep: Sweep) -> None:
    """Bug: hydra.sweeper.resume=true that does nothing, without a word."""
    with pytest.raises(
        ConfigurationError, match=r"resume needs one of the launchers mlxp_\*: hydra/launcher=mlxp_local"
    ):
        sweep("a=1", resume=True)
    assert sweep.events == []


def test_where_no_job_is_left_no_code_is_frozen(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: a question about uncommitted changes for a sweep that runs nothing."""
    launcher = sweep.ours()
    monkeypatch.setattr(_code_version, "job_code", lambda *_: pytest.fail("asked for the code"))
    assert sweep("a=1", launcher=launcher, include="a > 1", skip="COMPLETE") == []

"""A run that Hydra has announced, replaced: by nothing, or by a submission. In process, with stand-ins for Hydra."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hydra.core import utils
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf

from hydra_plugins.mlxp import _replace_run, _submit_single
from mlxp_core.errors import ConfigurationError


class Hydra:
    """Hydra's run_job, and those who have it by name."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ran: list[tuple[Any, ...]] = []
        monkeypatch.setattr(utils, "run_job", self.run_job)
        self.starters = [ModuleType("starter"), ModuleType("other_starter"), ModuleType("stranger")]
        for module in self.starters:
            monkeypatch.setitem(sys.modules, f"{module.__name__}_of_test", module)
            vars(module)["run_job"] = utils.run_job
        self.stranger_job = vars(self.starters[2])["run_job"] = lambda *_: "the stranger's own"
        monkeypatch.setitem(sys.modules, "no_module_of_test", None)

    def run_job(
        self,
        task_function: Any,
        config: DictConfig,
        job_dir_key: str,
        job_subdir_key: str | None,
        hydra_context: Any,
        configure_logging: Any = "as Hydra has it",
    ) -> JobReturn:
        self.ran.append((task_function, config, job_dir_key, job_subdir_key, hydra_context, configure_logging))
        return JobReturn(status=JobStatus.COMPLETED, _return_value="of Hydra's run")

    def run(self, starter: int, config: DictConfig, context: Any = None) -> JobReturn:
        """Run, as one of the starters does."""
        run_job = vars(self.starters[starter])["run_job"]
        result: JobReturn = run_job(
            task_function=print, config=config, job_dir_key="dir", job_subdir_key=None, hydra_context=context
        )
        return result

    def holders(self) -> list[Any]:
        return [utils.run_job, *(vars(module)["run_job"] for module in self.starters)]


@pytest.fixture
def hydra(monkeypatch: pytest.MonkeyPatch) -> Hydra:
    return Hydra(monkeypatch)


@pytest.mark.parametrize("starter", [0, 1])
def test_the_announced_run_is_replaced_once_whoever_starts_it(hydra: Hydra, starter: int) -> None:
    """Bug: hydra-zen's launch runs the job here all the same; the next run of the program is replaced, too."""
    announced = OmegaConf.create({"a": 1})
    before, done = hydra.holders(), []

    def do(task: Any, context: Any) -> JobReturn:
        assert hydra.holders() == before  # it may run jobs itself
        done.append((task, context))
        return JobReturn(status=JobStatus.COMPLETED, _return_value="another")

    _replace_run.replace_run(announced, do)
    assert hydra.holders()[3] is before[3]
    assert hydra.run(starter, announced, "context").return_value == "another"
    assert (done, hydra.ran) == ([(print, "context")], [])
    assert hydra.run(0, announced).return_value == "of Hydra's run"


def test_another_run_is_run_as_it_was_asked_for(hydra: Hydra) -> None:
    """Bug: an announced run that never came to be takes the next one's place; an argument of that one is lost."""
    before = hydra.holders()
    _replace_run.replace_run(OmegaConf.create({"a": 1}), lambda *_: pytest.fail("replaced"))
    other = OmegaConf.create({"a": 1})  # equal, and another
    result = vars(hydra.starters[0])["run_job"](print, other, "dir", "subdir", "context", False)
    assert result.return_value == "of Hydra's run"
    assert hydra.ran == [(print, other, "dir", "subdir", "context", False)]
    assert hydra.holders() == before
    _replace_run.replace_run(OmegaConf.create(), lambda *_: pytest.fail("replaced"))
    hydra.run(1, other, "context")
    assert hydra.ran[-1] == (print, other, "dir", None, "context", True)  # Hydra configures logging


def test_a_skipped_run_is_complete_and_returns_nothing(hydra: Hydra) -> None:
    """Bug: `assert self.status != JobStatus.UNKNOWN` of Hydra, in a job with two main functions."""
    announced = OmegaConf.create()
    _replace_run.skip(announced)
    result = hydra.run(0, announced)
    assert (result.status, result.return_value, hydra.ran) == (JobStatus.COMPLETED, None, [])


class Submission:
    """Hydra's part in the submission of a single run; ``events`` is what happens, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.events: list[Any] = []
        self.multi = OmegaConf.create({"of": "the multirun"})
        self.result = JobReturn(status=JobStatus.COMPLETED, _return_value="submitted")
        instance = SimpleNamespace(hydra=SimpleNamespace(compose_config=self.compose))
        plugins = SimpleNamespace(instantiate_launcher=self.instantiate)
        monkeypatch.setattr(_submit_single, "GlobalHydra", SimpleNamespace(instance=lambda: instance))
        monkeypatch.setattr(_submit_single, "Plugins", SimpleNamespace(instance=lambda: plugins))
        monkeypatch.setattr(_submit_single, "Callbacks", lambda config: config is self.multi and self)
        self.hydra = instance

    def compose(self, **given: Any) -> DictConfig:
        self.events.append(("compose", given))
        return self.multi

    def on_multirun_start(self, **given: Any) -> None:
        self.events.append(("start", given))

    def on_multirun_end(self, **given: Any) -> None:
        self.events.append(("end", given))

    def instantiate(self, hydra_context: Any, task_function: Any, config: DictConfig) -> Any:
        assert (hydra_context.config_loader, hydra_context.callbacks) == ("loader", self)
        assert (task_function, config) == (print, self.multi)
        return SimpleNamespace(launch=self.launch)

    def launch(self, jobs: Any, initial_job_idx: int) -> list[JobReturn]:
        self.events.append(("launch", jobs, initial_job_idx))
        return [self.result]


@pytest.fixture
def submission(monkeypatch: pytest.MonkeyPatch) -> Submission:
    return Submission(monkeypatch)


def single() -> DictConfig:
    return OmegaConf.create(
        {
            "hydra": {
                "overrides": {
                    "task": ["a=1,2", "+b=x"],
                    "hydra": ["hydra/launcher=mlxp_slurm", "hydra.mode=RUN", "hydra.job.name=n"],
                },
                "runtime": {"cwd": "/here"},
                "run": {"dir": "mine/x"},
            }
        }
    )


def test_a_single_run_is_submitted_as_the_one_job_of_a_multirun(submission: Submission, hydra: Hydra) -> None:
    """Bug: `a=1,2` becomes two jobs; the folder of the user's own is lost; callbacks hear of no multirun."""
    config = single()
    _submit_single.submit_single(config, "conf")
    context: Any = HydraContext(config_loader="loader", callbacks="of the run")
    assert hydra.run(0, config, context) is submission.result
    given = {"config": submission.multi, "config_name": "conf"}
    overrides = [
        "hydra/launcher=mlxp_slurm",
        "hydra.job.name=n",
        "hydra.sweep.dir='/here/mine'",
        "hydra.sweep.subdir='x'",
    ]
    assert submission.events == [
        (
            "compose",
            {
                "config_name": "conf",
                "overrides": [*overrides, "a=1,2", "+b=x", "hydra.mode=MULTIRUN"],
                "with_log_configuration": True,
                "run_mode": RunMode.MULTIRUN,
            },
        ),
        ("start", given),
        ("launch", [["a=1,2", "+b=x"]], 0),
        ("end", given),
    ]
    assert context.callbacks == "of the run"


def test_without_a_hydra_it_is_said(submission: Submission, hydra: Hydra) -> None:
    """Bug: an AttributeError of None."""
    submission.hydra.hydra = None
    config = single()
    _submit_single.submit_single(config, None)
    with pytest.raises(RuntimeError, match="there is no Hydra whose program this is"):
        hydra.run(0, config, HydraContext(config_loader=None, callbacks=None))
    assert submission.events == []


def test_a_launch_that_fails_leaves_the_next_run_alone(
    submission: Submission, hydra: Hydra, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: after a refused submission every run of the process is one."""

    def refused(*_: Any, **__: Any) -> Any:
        raise ConfigurationError("refused")

    monkeypatch.setattr(submission, "launch", refused)
    config = single()
    _submit_single.submit_single(config, "conf")
    with pytest.raises(ConfigurationError, match="refused"):
        hydra.run(0, config, HydraContext(config_loader="loader", callbacks=None))
    assert [event[0] for event in submission.events] == ["compose", "start"]
    assert hydra.run(0, config).return_value == "of Hydra's run"

"""One job's configuration, in process: values of Hydra's node, and whose configuration is the current one."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import setup_globals
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue

from hydra_plugins.mlxp._job import Job

HYDRA = {
    "job": {"name": "main", "num": 3, "id": "???"},
    "sweep": {"dir": "logs/${hydra.job.name}", "subdir": "${hydra.job.num}"},
    "run": {"dir": "${hydra.sweep.dir}/${hydra:job.num}"},
    "callbacks": {"a": {"x": "${hydra.job.num}"}},
}


@pytest.fixture(autouse=True)
def current() -> Iterator[DictConfig]:
    """The configuration of the multirun, which is the current one."""
    setup_globals()  # the resolver ``hydra:``
    before = HydraConfig.instance().cfg
    config = OmegaConf.create({"hydra": {"job": {"num": 99}}})
    HydraConfig.instance().cfg = config  # type: ignore[assignment]
    yield config
    HydraConfig.instance().cfg = before


def job(unresolved: dict[str, Any] | None = None, **more: Any) -> Job:
    unresolved = unresolved or {}
    return Job(
        overrides=[],
        unresolved=unresolved,
        _make=lambda: OmegaConf.create({"hydra": copy.deepcopy(HYDRA), **unresolved}),
        _application=lambda: OmegaConf.create(unresolved),
        _hydra=HYDRA,
        _is_job_variable=lambda name: name == "SLURM_JOB_ID",
        **more,
    )


def test_a_value_of_hydras_node_is_the_jobs_own(current: DictConfig) -> None:
    """Bug: the number of the multirun, or of the job before, in the name of a folder."""
    one = job(late_values={"job.id": "7_3"})
    assert one.hydra("job.num") == 3
    assert one.hydra("sweep.dir") == "logs/main"
    assert one.hydra("run.dir") == "logs/main/3"
    assert one.hydra("job.id") == "7_3"
    assert one.hydra("callbacks") == {"a": {"x": 3}}
    assert one.config().hydra.job.id == "7_3"
    assert (one.raw("sweep.subdir"), one.raw("job.id"), one.raw("nothing.here")) == ("${hydra.job.num}", "7_3", None)
    assert HydraConfig.instance().cfg is current


def test_a_value_that_is_given_out_is_a_copy() -> None:
    """Bug: a sweeper that changes a list changes it for all jobs."""
    one = job(late_values={"job.tags": ["a"]})
    one.hydra("job.tags").append("b")
    assert one.hydra("job.tags") == ["a"]


def test_what_was_current_is_current_again_also_after_an_error(current: DictConfig) -> None:
    """Bug: the sweeper goes on with the configuration of one of its jobs."""
    with pytest.raises(MissingMandatoryValue):
        job().hydra("job.id")
    assert HydraConfig.instance().cfg is current
    with job().as_current() as config:
        assert HydraConfig.instance().cfg is config
        assert HydraConfig.get().job.num == 3
    assert HydraConfig.instance().cfg is current


def test_values_are_resolved_but_for_those_that_only_the_job_knows(
    current: DictConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: the id of the job in which the launch itself runs; a value of the environment that passes unseen."""
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv("DATA", "/data")
    one = job({"lr": 0.1, "n": "${hydra:job.num}", "id": "${oc.env:SLURM_JOB_ID,0}", "root": "${oc.env:DATA}/x"})
    assert one.resolved() == {"lr": 0.1, "n": 3, "id": "${oc.env:SLURM_JOB_ID,0}", "root": "/data/x"}
    assert one.environment_values() == ["/data/x"]
    assert HydraConfig.instance().cfg is current
    assert job({"lr": 0.1}, _resolved={"lr": 0.1}).environment_values() == []

"""Interpolations of a configuration that ask for variables: of the environment, of a job."""

from __future__ import annotations

from mlxp_core.scheduler.variables import is_of_a_job
from mlxp_core.sweeps.interpolation import environment_paths, job_dependent_paths


def test_places_that_depend_on_a_job_are_found_through_others() -> None:
    """Bug: the default of a job's variable, or a value made of it, frozen for all jobs."""
    text = {
        "id": "${oc.env:SLURM_JOB_ID,none}",
        "user": "${oc.env:USER,none}",
        "n": {"dir": "/scratch/${id}", "beside": "${.dir}/a", "l": ["x", "${...id}", "${n.dir}"], "top": "${user}"},
        "all": "${n}",
        "one": "${n.l[2]}",
        "other": "${n.top} ${now:%S} ${idle}",
        "idle": 1,
    }
    paths = job_dependent_paths(text, is_of_a_job)
    assert sorted(".".join(map(str, path)) for path in paths) == [
        *("all", "id", "n.beside", "n.dir", "n.l.1", "n.l.2", "one"),
    ]


def test_text_that_asks_for_the_environment_and_not_for_what_each_job_has() -> None:
    """Bug: every run counts as another one, for the time or the job is; or none, for nobody looks at the variable."""
    config = {
        "data": "${oc.env:DATA,/d1}",
        "l": ["${ oc.env:HOME }", 1],
        "id": "${oc.env:SLURM_JOB_ID,none}",
        "both": "${oc.env:DATA}/${oc.env:SLURM_JOB_ID}",
        "time": "${oc.env:DATA}/${now:%S}",
        "node": "${data}",
    }
    assert environment_paths(config) == [("data",), ("l", 0), ("both",)]

"""What is recorded of where a run runs."""

from __future__ import annotations

import os

import pytest

from mlxp_core.recording.environment import describe_environment, may_hold_a_job_id


def test_a_job_knows_where_it_was_placed_among_all_other_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: nothing of the scheduler, as not every variable is one of a job's."""
    for name in filter(may_hold_a_job_id, list(os.environ)):
        monkeypatch.delenv(name)
    monkeypatch.setenv("A", "1")
    assert describe_environment()["scheduler"] == {}
    monkeypatch.setenv("SLURM_JOB_ID", "42")
    monkeypatch.setenv("SLURM_JOB_PARTITION", "gpu")
    assert describe_environment()["scheduler"] == {"SLURM_JOB_ID": "42", "SLURM_JOB_PARTITION": "gpu"}

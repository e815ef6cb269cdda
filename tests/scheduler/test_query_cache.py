"""Answers of schedulers that are kept: one cluster's are not another's."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlxp_core.scheduler import SCHEDULERS, load_scheduler
from mlxp_core.scheduler.base import QueueQuery
from mlxp_core.scheduler.query_cache import ask_queue

ANSWERS = {"pbs": "", "sge": "<job_info/>", "slurm": "", "lsf": '{"RECORDS": []}'}


@pytest.mark.parametrize(
    ("name", "variable"),
    [
        ("pbs", "PBS_CONF_FILE"),
        ("sge", "SGE_QMASTER_PORT"),
        ("sge", "SGE_ROOT"),
        ("slurm", "SLURM_CLUSTERS"),
        ("lsf", "LSF_ENVDIR"),
    ],
)
def test_two_clusters_are_two_questions(
    name: str, variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: jobs of one cluster LOST, for the answer is that of another which the same command speaks to."""
    scheduler = load_scheduler(name)
    client = tmp_path / scheduler.status.command(QueueQuery("ada"))[0]
    client.write_text(f"#!/bin/sh\necho \"${variable}\" >>'{tmp_path}/asked'\nprintf %s '{ANSWERS[name]}'\n")
    client.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for value in ("one", "two", "one", "two"):
        monkeypatch.setenv(variable, value)
        answer = ask_queue(scheduler, [], None, user="ada")
        assert (answer.error, answer.jobs) == (None, ())
    assert (tmp_path / "asked").read_text() == "one\ntwo\n"


def test_every_scheduler_says_how_its_clients_find_it() -> None:
    """Bug: a new scheduler whose clusters share one answer, because nobody has thought of it."""
    assert [name for name in SCHEDULERS if not load_scheduler(name).client_variables] == []

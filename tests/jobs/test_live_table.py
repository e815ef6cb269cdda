"""A table of runs that are waited for: looked at no more often than it may cost."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from fake_scheduler import Clock

from mlxp_core.jobs import live_table
from mlxp_core.runs.layout import RunDir
from mlxp_core.runs.status import Status
from mlxp_core.runs.submission_record import QueuedJob


@pytest.mark.parametrize(("takes", "looks"), [(0.0, 10), (0.1, 5), (1.0, 1)])
def test_looking_costs_no_more_than_a_twentieth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, takes: float, looks: int
) -> None:
    """Bug: thousands of folders on a slow disk are looked at each second, one look after the other."""
    clock = Clock(100.0)
    looked: list[float] = []

    def load_status(_: RunDir) -> Status:
        looked.append(clock.now)
        clock.now += takes
        return Status.RUNNING

    monkeypatch.setattr(live_table, "time", clock)
    monkeypatch.setattr(live_table, "load_status", load_status)
    job = QueuedJob(RunDir(tmp_path / "1"), "local", "7", None)
    with live_table._table([job], {}, {}) as (_, on_look):
        while clock.now < 110.0:
            on_look([job.run])
            clock.now += 0.25
    assert len(looked) == looks
    gaps = [after - before for before, after in itertools.pairwise(looked)]
    assert all(gap >= max(1.0, 20 * takes) for gap in gaps)

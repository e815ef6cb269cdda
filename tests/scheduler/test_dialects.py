"""Answers that lack what a scheduler's manual promises: by reading functions alone, beside what was recorded."""

from __future__ import annotations

import pytest

from mlxp_core.scheduler.dialects.sge import SGE
from mlxp_core.scheduler.dialects.torque import TORQUE


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        (
            "exit_status = 271\nresources_used.walltime = 00:02:00\nResource_List.walltime = 00:02:00",
            "over its walltime",
        ),
        ("exit_status = 271\nresources_used.walltime = 00:01:59\nResource_List.walltime = 00:02:00", "271"),
        ("exit_status = 271\nResource_List.walltime = 00:02:00", "271"),  # deleted before it ran
        ("exit_status = 271\nresources_used.walltime = 00:02:00", "271"),  # a queue without a limit
        ("exit_status = 271\nresources_used.walltime = 120\nResource_List.walltime = 1:0", "over its walltime"),
        ("exit_status = 271\nresources_used.walltime = soon\nResource_List.walltime = 00:02:00", "271"),
        ("exit_status = 1\nresources_used.walltime = 00:03:00\nResource_List.walltime = 00:02:00", "1"),
    ],
)
def test_a_job_of_torque_was_over_its_time_only_where_both_times_say_so(fields: str, reason: str) -> None:
    """Bug: TypeError of `mlxp status`, or a qdel that is taken for a limit of time."""
    rest = fields.replace("\n", "\n    ")
    (job,) = TORQUE.status.read(f"Job Id: 12.head\n    job_state = C\n    {rest}\n")
    assert job.reason == reason


@pytest.mark.parametrize(
    ("category", "wallclock", "state"),
    [
        ("-l h_rt=60", "60", "h_rt"),
        ("-l h_rt=60", "59.9", "failed"),
        ("-l h_rt=60", "", "failed"),
        ("-l s_rt=60", "61", "failed"),
        ("", "61", "failed"),
    ],
)
def test_a_job_of_grid_engine_likewise(category: str, wallclock: str, state: str) -> None:
    """Bug: as above."""
    assert SGE.history is not None
    lines = (
        f"jobnumber 3\ntaskid undefined\nfailed 37\nexit_status 137\nru_wallclock {wallclock}\ncategory {category}\n"
    )
    (job,) = SGE.history.read(f"{'=' * 20}\n{lines}")
    assert job.state == state

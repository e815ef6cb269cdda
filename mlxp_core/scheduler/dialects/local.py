"""LOCAL: a process queue on this machine, a scheduler like any other. Its program is local_queue.py."""

from __future__ import annotations

import sys
from pathlib import Path

from mlxp_core.scheduler.base import (
    Command,
    Kind,
    Option,
    QueueQuery,
    Scheduler,
    StatusQuery,
    line_pattern,
    quote_path,
    read_lines,
)
from mlxp_core.statuses import Status

# by its path: no package needs to be importable, and nothing else is loaded
_PROGRAM = (sys.executable, str(Path(__file__).parents[1] / "local_queue.py"))


def _status(query: QueueQuery) -> Command:  # noqa: ARG001  (a queue is its user's own)
    return (*_PROGRAM, "status")


LOCAL = Scheduler(
    name="local",
    directive="#LOCAL",
    options=(
        Option("name", "--job-name={name}", ("--job-name",)),
        Option("stdout", "--output={stdout}", ("--output",)),
        Option("stderr", "--error={stderr}", ("--error", "--output")),
    ),
    array=Option("array", "--array=1-{count}{throttle}", ("--array",)),
    throttle="%{}",
    array_index='"$MLXP_LOCAL_TASK_ID"',
    submit=(*_PROGRAM, "submit"),
    job_id=line_pattern(r"^(?P<id>\d+)$"),
    status=StatusQuery(_status, read_lines),
    states={
        "PENDING": Status.PENDING,
        "RUNNING": Status.RUNNING,
        "COMPLETED": Status.COMPLETE,
        "FAILED": Status.FAILED,
        "CANCELLED": Status.CANCELLED,
        "LOST": Status.LOST,  # the queue's process was killed
    },
    cancel=(*_PROGRAM, "cancel"),
    quote_path=quote_path,
    index_pattern="%a",
    job_variable="MLXP_LOCAL_JOB_ID",
    job_variables={Kind.ID: ("MLXP_LOCAL_JOB_ID", "MLXP_LOCAL_TASK_ID")},
    job_variable_pattern=r"MLXP_LOCAL_\w+",
    client_variables=("MLXP_LOCAL_SPOOL", "XDG_STATE_HOME"),  # where the queue is
    placement_variables=("MLXP_LOCAL_JOB_ID", "MLXP_LOCAL_TASK_ID"),
    per_host=True,
    min_query_interval=1.0,  # a file to read, on this machine
)

"""LOCAL: a process queue on this machine, a scheduler like any other. Its program is _local_queue.py."""

from __future__ import annotations

import sys
from pathlib import Path

from mlxp_core.layout import Status
from mlxp_core.scheduler._base import NativeJob, Option, Scheduler, find, quote_path

# by its path: no package needs to be importable, and nothing else is loaded
_PROGRAM = (sys.executable, str(Path(__file__).with_name("_local_queue.py")))


def _status(user: str) -> tuple[str, ...]:  # noqa: ARG001  (a queue is its user's own)
    return (*_PROGRAM, "status")


def _read_status(answer: str) -> list[NativeJob]:
    jobs = []
    for line in answer.splitlines():
        job_id, index, state, reason, script = line.split("|", 4)
        jobs.append(NativeJob(job_id, int(index) if index else None, state, reason, script))
    return jobs


LOCAL = Scheduler(
    name="local",
    directive="#LOCAL",
    options=(
        Option("name", "--job-name={}", ("--job-name",)),
        Option("stdout", "--output={}", ("--output",)),
        Option("stderr", "--error={}", ("--error", "--output")),
    ),
    array=Option("array", "--array=1-{}", ("--array",)),
    throttle="%{}",
    array_index="MLXP_LOCAL_TASK_ID",
    submit=(*_PROGRAM, "submit"),
    job_id=find(r"^(?P<id>\d+)$"),
    status=_status,
    read_status=_read_status,
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
    whole_file=False,
    ask_every=1.0,  # a file to read, on this machine
)

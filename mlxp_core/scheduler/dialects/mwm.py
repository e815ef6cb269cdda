"""MWM, Moab Workload Manager: msub, showq and canceljob of its administrator's guide. Above it is usually TORQUE."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from mlxp_core.scheduler.base import Command, NativeJob, Option, QueueQuery, StatusQuery, any_of, line_pattern, read_xml
from mlxp_core.scheduler.dialects.torque import TORQUE
from mlxp_core.statuses import Status


def _status(question: QueueQuery) -> Command:
    return ("showq", "--xml", "-u", question.user)


def _history(question: QueueQuery) -> Command:
    return ("showq", "--xml", "-c", "-u", question.user)


def _read(answer: str) -> list[NativeJob]:
    jobs = []
    for job in read_xml(answer, "Data").iter("job"):
        # 12, Moab.12, 12[3], 12[3].server
        found = re.search(r"(?:^|\.)(\d+)(?:\[(\d*)\])?(?:\.[^\d]\S*)?$", job.get("JobID", ""))
        if found is None:
            continue
        # CNCLD(271): cancelled; else a number, the exit code of the job or TORQUE's
        code = re.sub(r"\(.*", "", job.get("CompletionCode", ""))
        index = int(found[2]) if found[2] else None
        jobs.append(NativeJob(found[1], index, job.get("State", ""), code, name=job.get("JobName", "")))
    return jobs


def _cancel(jobs: Sequence[tuple[str, int | None]]) -> Command:
    return ("canceljob", *(job_id if index is None else f"{job_id}[{index}]" for job_id, index in jobs))


_ENDED = {
    "": Status.FAILED,
    " ": Status.COMPLETE,
    " 0": Status.COMPLETE,
    " CNCLD": Status.CANCELLED,
    " 271": Status.CANCELLED,
    " -11": Status.TIMEOUT,
}

MWM = replace(
    TORQUE,
    name="mwm",
    directive="#MSUB",
    other_prefixes=("#PBS",),
    options=(
        *TORQUE.options,
        Option("environment", "-V", ("-V", "-v", "-E")),  # without it there is no MOAB_JOBARRAYINDEX
    ),
    array=Option("array", "-t {name}[1-{count}]{throttle}", ("-t",)),
    array_index='"${MOAB_JOBARRAYINDEX:-$PBS_ARRAYID}"',
    limit=None,
    array_too_large=any_of("cannot create job array", "job arrays are not enabled"),
    submit=("msub",),
    job_id=line_pattern(r"^(?:Moab\.)?(?P<id>\d+)(?:\[\])?(?:\.\S+)?\s*$"),
    busy=any_of("Maximum number of jobs already in queue", "could not connect to server", "Connection refused"),
    unclear=any_of("timed out", "End of File", "communication error"),
    status=StatusQuery(_status, _read),
    history=StatusQuery(_history, _read),
    reports_script=False,
    states={
        **dict.fromkeys(
            ("Idle", "Hold", "UserHold", "SystemHold", "BatchHold", "Deferred", "Migrated", "NotQueued"), Status.PENDING
        ),
        **dict.fromkeys(("Starting", "Running", "Suspended", "Staging"), Status.RUNNING),
        **{f"{state}{code}": status for state in ("Completed", "Removed") for code, status in _ENDED.items()},
        "Removed ": Status.CANCELLED,
        "Vacated": Status.PREEMPTED,
    },
    cancel=_cancel,
)

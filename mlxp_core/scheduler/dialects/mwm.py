"""MWM, Moab Workload Manager: msub, showq and canceljob of its administrator's guide. Above it is usually TORQUE."""

from __future__ import annotations

import re
from dataclasses import replace

from mlxp_core.scheduler.base import (
    Command,
    Kind,
    NativeJob,
    Option,
    QueueQuery,
    StatusQuery,
    any_of,
    line_pattern,
    merged,
    read_xml,
    words,
)
from mlxp_core.scheduler.dialects.torque import TORQUE, read_id
from mlxp_core.statuses import Status


def _status(query: QueueQuery) -> Command:
    return ("showq", "--xml", "-u", query.user)


def _history(query: QueueQuery) -> Command:
    return ("showq", "--xml", "-c", "-u", query.user)


def _read(answer: str) -> list[NativeJob]:
    jobs = []
    for job in read_xml(answer, "Data").iter("job"):
        # 12, Moab.12, 12[3], 12[3].server
        match = re.search(r"(?:^|\.)(\d+)(?:\[(\d*)\])?(?:\.[^\d]\S*)?$", job.get("JobID", ""))
        if match is None:
            continue
        # CNCLD(271): cancelled; else a number, the exit code of the job or TORQUE's
        code = re.sub(r"\(.*", "", job.get("CompletionCode", ""))
        index = int(match[2]) if match[2] else None
        jobs.append(NativeJob(match[1], index, job.get("State", ""), code, name=job.get("JobName", "")))
    return jobs


_ENDED = {
    "": Status.FAILED,
    " ": Status.COMPLETE,
    " 0": Status.COMPLETE,
    " CNCLD": Status.CANCELLED,
    " 271": Status.CANCELLED,
    " -11": Status.TIMEOUT,
}

# the administrator's guide, and a job of 9.1.3; msub's -E in the guide has more, and could not be read
_JOB_VARIABLES = {
    Kind.ID: words("MOAB_JOBID MOAB_JOBARRAYINDEX MOAB_JOBINDEX"),
    Kind.COUNT: words("MOAB_JOBARRAYRANGE MOAB_NODECOUNT MOAB_PROCCOUNT"),
    Kind.TEXT: words(
        "MOAB_ACCOUNT MOAB_BATCH MOAB_CLASS MOAB_DEPEND MOAB_GROUP MOAB_JOBNAME MOAB_MACHINE MOAB_NODELIST "
        "MOAB_PARTITION MOAB_QOS MOAB_TASKMAP"
    ),
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
    cancel=("canceljob",),
    read_job_id=lambda variable: read_id(variable)[0].removesuffix("[]"),
    job_variables=merged(_JOB_VARIABLES, TORQUE.job_variables),
    job_variable_pattern=rf"MOAB_\w+|{TORQUE.job_variable_pattern}",
    submit_dir_variables=("MOAB_SUBMITDIR", *TORQUE.submit_dir_variables),
    submitter_variables={**TORQUE.submitter_variables, "MOAB_USER": "USER"},
    client_variables=("MOABHOMEDIR", *TORQUE.client_variables),
    placement_variables=(
        *words("MOAB_JOBID MOAB_JOBARRAYINDEX MOAB_CLASS MOAB_PARTITION MOAB_NODELIST"),
        *TORQUE.placement_variables,
    ),
)

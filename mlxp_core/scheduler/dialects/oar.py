"""OAR: https://oar.imag.fr, oarsub(1), oarstat(1), oardel(1). Seen on 2.5.9."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from mlxp_core.scheduler.base import (
    Command,
    Kind,
    NativeJob,
    Option,
    QueueQuery,
    Scheduler,
    StatusQuery,
    Task,
    any_of,
    line_pattern,
    plain_path,
    words,
)
from mlxp_core.statuses import Status


def _status(query: QueueQuery) -> Command:
    # without a condition oarstat shows live jobs only
    condition = f"job_user = '{query.user}'"
    if query.ids:
        condition += f" and array_id in ({', '.join(query.ids)})"
    return ("oarstat", "-f", "-J", "--sql", condition)


def _read_status(answer: str) -> list[NativeJob]:
    if not answer.strip():
        return []  # nothing that the condition holds for
    jobs = []
    # one that was started again comes after the one that it stands for, and has its place in the array
    for job in sorted(json.loads(answer).values(), key=lambda job: int(job["Job_Id"])):
        own_id = str(job["Job_Id"])
        jobs.append(
            NativeJob(
                str(job.get("array_id") or own_id),
                int(job.get("array_index") or 1),
                job["state"],
                _reason(job),
                script=job.get("command") or "",
                name=job.get("name") or "",
                own_id=own_id,
            )
        )
    return jobs


def _reason(job: dict[str, Any]) -> str:
    """The reason for a job's state: for one that has ended an event, or its exit code."""
    if job["state"] == "Terminated":
        status = job.get("exit_code")  # as wait(2) gives it
        return "" if not status else f"exit code {int(status) >> 8 or 128 + (int(status) & 127)}"
    if job["state"] != "Error":
        return ""
    events = {event.get("type") for event in job.get("events") or []}
    return next((event for event in _EVENTS if event in events), "")


_EVENTS = {
    "WALLTIME": Status.TIMEOUT,
    "BESTEFFORT_KILL": Status.PREEMPTED,
    "FRAG_JOB_REQUEST": Status.CANCELLED,  # the last of them: the others ask for it as well
}


def _cancel_arguments(jobs: Sequence[Task]) -> Command:
    conditions = (
        f"array_id = {job_id}" if index is None else f"(array_id = {job_id} and array_index = {index})"
        for job_id, index in jobs
    )
    return (" or ".join(conditions),)


OAR = Scheduler(
    name="oar",
    directive="#OAR",
    options=(
        Option("name", "-n {name}", ("-n", "--name")),
        Option("stdout", "-O {stdout}", ("-O", "--stdout")),
        Option("stderr", "-E {stderr}", ("-E", "--stderr")),
    ),
    directives_anywhere=True,
    attached_values=False,
    array=Option("array", "--array {count}", ("--array", "--array-param-file")),
    array_index='"$OAR_ARRAY_INDEX"',
    submit=("oarsub", "-S"),
    # OAR_JOB_ID=-5 is a refusal; admission rules print what they like before; an array has the id of its first task
    job_id=line_pattern(r"^OAR_JOB_ID=(?P<id>[1-9]\d*)\s*$"),
    # "Cannot connect to executor … Job is killed": it is not, and runs later
    unclear_codes=frozenset({9}),
    unclear=any_of("Cannot connect", "Could not connect", "DBI connect", "DB connection error"),
    # what the database refuses is no answer, and the exit code is 0
    status=StatusQuery(_status, _read_status, no_answer=any_of("DBD::", "DBI connect")),
    states={
        **dict.fromkeys(("Waiting", "Hold", "toLaunch", "toAckReservation", "Launching"), Status.PENDING),
        # toError passes: whether it was cancelled, say, is known with Error
        **dict.fromkeys(("Running", "Suspended", "Resuming", "Finishing", "toError"), Status.RUNNING),
        "Error": Status.FAILED,
        **{f"Error {event}": status for event, status in _EVENTS.items()},
        "Terminated": Status.FAILED,
        "Terminated ": Status.COMPLETE,  # with exit code 0, so no reason
    },
    cancel=("oardel", "--sql"),
    cancel_arguments=_cancel_arguments,
    cancel_codes=frozenset({0, 6}),  # 6: one of them was being killed already
    plain_paths=True,
    quote_path=plain_path,
    index_pattern="%jobid%",
    task_output="{own_id}.out",
    job_variable="OAR_JOB_ID",
    # OAR/Tools.pm. The manual page has OAR_JOB_INDEX for OAR_ARRAY_INDEX, which 2.5.9 does not set
    job_variables={
        Kind.ID: words("OAR_JOB_ID OAR_JOBID OAR_ARRAY_ID OAR_ARRAYID OAR_ARRAY_INDEX OAR_ARRAYINDEX"),
        Kind.NUMBER: words("OAR_JOB_INDEX OAR_JOBINDEX"),
        Kind.COUNT: words("OAR_JOB_WALLTIME OAR_JOB_WALLTIME_SECONDS"),
        Kind.HOSTFILE: words("OAR_NODEFILE OAR_NODE_FILE OAR_FILE_NODES OAR_RESOURCE_FILE"),
        Kind.FILE: words("OAR_RESOURCE_PROPERTIES_FILE OAR_STDOUT OAR_STDERR"),
        Kind.TEXT: words("OAR_JOB_NAME OAR_PROJECT_NAME"),
    },
    job_variable_pattern=r"OAR_\w+",
    submit_dir_variables=words("OAR_WORKDIR OAR_WORKING_DIRECTORY OAR_O_WORKDIR"),
    submitter_variables={"OAR_USER": "USER"},
    # OAR_JOB_KEY_FILE is read by oarsub
    client_variables=words("OARCONFFILE OARDIR OAR_JOB_KEY_FILE OAR_API_URL"),
    placement_variables=words("OAR_JOB_ID OAR_ARRAY_ID OAR_ARRAY_INDEX OAR_PROJECT_NAME"),
    requeue_directive=line_pattern(r"(?:-t|--type)[\s=]+idempotent(?=\s|$)"),
    requeue="exit 99",
)

"""LSF: bsub, bjobs, bkill, bparams of the command reference of IBM Spectrum LSF 10.1."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from mlxp_core.scheduler.base import (
    ArrayLimit,
    Command,
    NativeJob,
    Option,
    QueueQuery,
    Scheduler,
    StatusQuery,
    any_of,
    line_pattern,
    plain_path,
)
from mlxp_core.statuses import Status

_FIELDS = "jobid jobindex stat exit_code exit_reason job_name job_description"


def _status(question: QueueQuery) -> Command:
    # -a: those that have ended as well, for CLEAN_PERIOD
    return ("bjobs", "-a", "-u", question.user, "-json", "-o", _FIELDS)


def _read_status(answer: str) -> list[NativeJob]:
    jobs = []
    for job in json.loads(answer)["RECORDS"]:
        if "STAT" not in job:
            continue  # the record of an error: a job that is not known
        index = job["JOBINDEX"]
        reason = re.search(r"\bTERM_\w+", job.get("EXIT_REASON", ""))  # TERM_RUNLIMIT: job killed after …
        jobs.append(
            NativeJob(
                job["JOBID"],
                int(index) if index.isdigit() and int(index) else None,
                job["STAT"],
                reason[0] if reason else "",
                name=job.get("JOB_DESCRIPTION", ""),
            )
        )
    return jobs


def _cancel(jobs: Sequence[tuple[str, int | None]]) -> Command:
    return ("bkill", *(job_id if index is None else f"{job_id}[{index}]" for job_id, index in jobs))


_TERMINATED = {
    "": Status.FAILED,
    " TERM_RUNLIMIT": Status.TIMEOUT,
    " TERM_DEADLINE": Status.TIMEOUT,
    " TERM_WINDOW": Status.TIMEOUT,
    " TERM_OWNER": Status.CANCELLED,
    " TERM_ADMIN": Status.CANCELLED,
    " TERM_FORCE_OWNER": Status.CANCELLED,
    " TERM_FORCE_ADMIN": Status.CANCELLED,
    " TERM_PREEMPT": Status.PREEMPTED,
    " TERM_RC_RECLAIM": Status.PREEMPTED,
}

LSF = Scheduler(
    name="lsf",
    directive="#BSUB",
    options=(
        Option("name", '-J "{name}"', ("-J",)),
        Option("description", '-Jd "{name}"', ("-Jd",)),  # by which a submission is found again, whatever the name
        Option("stdout", "-o {stdout}", ("-o", "-oo")),
        # without an -e of its own stderr goes where the user's -o says
        Option("stderr", "-e {stderr}", ("-e", "-eo", "-o", "-oo")),
    ),
    directives_anywhere=True,
    attached_values=False,
    array=Option("array", '-J "{name}[1-{count}]{throttle}"', ("-J",)),
    array_on_command_line=True,  # where it wins over the name in the header
    throttle="%{}",
    array_index='"$LSB_JOBINDEX"',
    limit=ArrayLimit(1000, ("bparams", "-a"), line_pattern(r"MAX_JOB_ARRAY_SIZE\s*=\s*(?P<n>\d+)")),
    array_too_large=any_of("array index too large", "Job array.*(?:too large|not supported)"),
    submit=("bsub",),
    script_on_stdin=True,  # bsub reads no directives of a script that it is given as an argument
    job_id=line_pattern(r"^Job <(?P<id>\d+)> is submitted to "),
    busy=any_of(
        "pending job limit",
        "Pending job threshold reached",
        "LIM configuration is not ready",
        "LSF is down",
        "Connection refused",
    ),
    unclear=any_of("Communication time ?out", "Failed in an LSF library call", "retrying"),
    # 255 with an answer: one of them is not known
    status=StatusQuery(
        _status, _read_status, codes=frozenset({0, 255}), nothing=line_pattern(r"^No (?:\w+ )?job found")
    ),
    states={
        **dict.fromkeys(("PEND", "PROV", "PSUSP", "WAIT"), Status.PENDING),
        **dict.fromkeys(("RUN", "USUSP", "SSUSP", "UNKWN"), Status.RUNNING),  # UNKWN: its host does not answer
        "DONE": Status.COMPLETE,
        "ZOMBI": Status.LOST,
        **{f"EXIT{reason}": status for reason, status in _TERMINATED.items()},
    },
    cancel=_cancel,
    plain_paths=True,
    reports_script=False,
    quote_path=plain_path,
    index_pattern="%I",
    job_variable="LSB_JOBID",
    requeue_directive=line_pattern(r"(?:^|\s)-Q\s+\"?[^\"]*\b99\b"),
    requeue="exit 99",
)

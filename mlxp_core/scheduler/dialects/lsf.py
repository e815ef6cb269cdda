"""LSF: bsub, bjobs, bkill, bparams of the command reference of IBM Spectrum LSF 10.1."""

from __future__ import annotations

import json
import re

from mlxp_core.scheduler.base import (
    ArrayLimit,
    Command,
    Kind,
    NativeJob,
    Option,
    QueueQuery,
    Scheduler,
    StatusQuery,
    any_of,
    line_pattern,
    plain_path,
    words,
)
from mlxp_core.statuses import Status

_FIELDS = "jobid jobindex stat exit_code exit_reason job_name job_description"


def _status(query: QueueQuery) -> Command:
    # -a: those that have ended as well, for CLEAN_PERIOD
    return ("bjobs", "-a", "-u", query.user, "-json", "-o", _FIELDS)


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

# "Environment variables set for job execution" of 10.1, the reference of 6.2, and a job of 7.0
_JOB_VARIABLES = {
    Kind.ID: words("LSB_JOBID LSB_BATCH_JID LSB_JOBINDEX"),
    Kind.NUMBER: words(
        "LS_JOBPID LSB_JOBRES_PID LSB_JOBPID LSB_REMOTEJID LSB_REMOTEINDEX LSB_OLD_JOBID LSB_RESTART_PID "
        "LSB_RESTART_PGID"
    ),
    Kind.COUNT: words(
        "LSB_JOBINDEX_STEP LSB_JOBINDEX_END LSB_DJOB_NUMPROC LSB_MAX_NUM_PROCESSORS LSB_CHKPNT_PERIOD "
        "LSB_DJOB_RU_INTERVAL LSB_DJOB_HB_INTERVAL"
    ),
    Kind.DIRECTORY: words("TMPDIR LSB_CHKPNT_DIR"),  # TMPDIR: with LSB_SET_TMPDIR=y in lsf.conf
    Kind.HOSTFILE: words("LSB_DJOB_HOSTFILE LSB_DJOB_RANKFILE LSB_AFFINITY_HOSTFILE"),
    Kind.FILE: words("LSB_JOBFILENAME LSB_CHKFILENAME LSB_OUTPUTFILE LSB_ERRORFILE LSB_INPUTFILE LSB_ACCT_FILE"),
    Kind.TEXT: words(
        """
        LSB_HOSTS LSB_MCPU_HOSTS LSB_EXECHOSTS LSB_JOBNAME LSB_QUEUE LSB_PROJECT_NAME LSB_EXEC_CLUSTER
        LSB_EFFECTIVE_RSRCREQ LSB_BIND_CPU_LIST LSB_RESTART LSB_RESIZABLE LSB_INTERACTIVE LSB_JOB_STARTER
        LSB_EXIT_PRE_ABORT LSB_EXIT_REQUEUE LSB_JOBPEND LSB_JOBEXIT_STAT LSB_JOBEXIT_INFO LSB_TRAPSIGS
        LSB_UNIXGROUP_INT LS_EXEC_T
        """
    ),
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
    task_id="{id}[{index}]",
    cancel=("bkill",),
    plain_paths=True,
    reports_script=False,
    quote_path=plain_path,
    index_pattern="%I",
    job_variable="LSB_JOBID",
    job_variables=_JOB_VARIABLES,
    job_variable_pattern=r"LSB_\w+|LS_JOBPID|LS_EXEC_T|LS_LICENSE_SERVER_\w+",
    submit_dir_variables=("LS_SUBCWD",),
    submitter_variables={
        "LSB_SUB_HOST": "HOST",
        "LSB_SUB_USER": "USER",
        "LSFUSER": "USER",
        "LSB_JOB_EXECUSER": "USER",
    },
    # bsub reads those with the prefix of a job's
    client_variables=words(
        "LSF_ENVDIR LSF_SERVERDIR LSF_BINDIR LSF_LIBDIR EGO_CONFDIR LSB_DEFAULTQUEUE LSB_DEFAULTPROJECT LSB_NTRIES "
        "LSB_STDOUT_DIRECT LSB_JOB_REPORT_MAIL LSB_BSUB_PARSE_SCRIPT"
    ),
    placement_variables=words("LSB_JOBID LSB_JOBINDEX LSB_QUEUE LSB_HOSTS LSB_MCPU_HOSTS LSB_RESTART"),
    launchers=(("jsrun",),),  # of its Job Step Manager
    requeue_directive=line_pattern(r"(?:^|\s)-Q\s+\"?[^\"]*\b99\b"),
    requeue="exit 99",
)

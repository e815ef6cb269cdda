"""PBS Pro and OpenPBS: qsub(1B), qstat(1B), qdel(1B), pbs_job_attributes(7B) and the reference guide."""

from __future__ import annotations

import json
import re
from dataclasses import replace

from mlxp_core.scheduler.base import (
    ArrayLimit,
    Command,
    Kind,
    NativeJob,
    Option,
    Pattern,
    Probe,
    QueueQuery,
    StatusQuery,
    any_of,
    line_pattern,
    words,
)
from mlxp_core.scheduler.dialects.torque import TORQUE, read_id
from mlxp_core.statuses import Status


def _status(query: QueueQuery) -> Command:
    # -x: those that have ended as well; -t: the tasks of arrays, each
    return ("qstat", "-x", "-t", "-f", "-F", "json", *query.ids)


def _read_status(answer: str) -> list[NativeJob]:
    if not answer.strip():
        return []
    try:
        records = json.loads(answer).get("Jobs", {})
    except ValueError:
        records = _by_line(answer)
    jobs = []
    for name, fields in records.items():
        job_id, index = read_id(name)
        state, code = fields["job_state"], fields.get("Exit_status")
        jobs.append(
            NativeJob(
                job_id,
                index,
                state,
                "" if code is None else str(code),
                script=fields.get("Submit_arguments", ""),
                name=fields.get("Job_Name", ""),
            )
        )
    return jobs


def _by_line(answer: str) -> dict[str, dict[str, str]]:
    """The same where the answer is no JSON: one variable of one job, of any user, is enough for that.

    Seen are a backslash before a quote or a comma, numbers such as 005, quotes and line ends as they are, and a brace
    that lacks (https://github.com/openpbs/openpbs: issues 1255 and 2541, pull requests 585, 830, 2049 and 2603).
    """
    records: dict[str, dict[str, str]] = {}
    fields: dict[str, str] | None = None
    for line in answer.splitlines():
        job = re.match(r'\s*"(\d+(?:\[\d*\])?\.[^"]+)"\s*:\s*\{\s*$', line)
        field = re.match(r'\s*"(job_state|Exit_status|Job_Name|Submit_arguments)"\s*:\s*"?(.*?)"?,?\s*$', line)
        if job:
            fields = records.setdefault(job[1], {})
        elif field and fields is not None:
            fields.setdefault(field[1], field[2])  # a variable of that name would come later
    if not records or not answer.rstrip().endswith("}"):  # the second: it was cut
        raise ValueError(answer)
    return records


_ENDED = {
    "": Status.FAILED,
    " 0": Status.COMPLETE,
    " 271": Status.CANCELLED,  # 256 + SIGTERM: qdel
    " -29": Status.TIMEOUT,  # JOB_EXEC_KILL_WALLTIME
    " ": Status.CANCELLED,  # no exit status: it was deleted before it ran
}

# qsub(1B), and src/resmom/start_exec.c
_JOB_VARIABLES = {
    Kind.ID: words("PBS_JOBID PBS_ARRAY_ID PBS_ARRAY_INDEX"),
    Kind.NUMBER: words("PBS_SID"),
    Kind.RANK: words("PBS_NODENUM PBS_TASKNUM"),
    Kind.COUNT: words("NCPUS OMP_NUM_THREADS PBS_MOMPORT"),
    Kind.DIRECTORY: words("TMPDIR PBS_JOBDIR"),  # the latter is $HOME, unless -W sandbox=PRIVATE
    Kind.HOSTFILE: words("PBS_NODEFILE"),
    Kind.TEXT: words("PBS_JOBCOOKIE PBS_JOBNAME PBS_QUEUE PBS_ACCOUNT PBS_ENVIRONMENT PBS_O_QUEUE OFFLOAD_DEVICES"),
}

PBS = replace(
    TORQUE,
    name="pbs",
    name_limit=230,
    array=Option("array", "-J 1-{count}{throttle}", ("-J",)),
    min_array_size=2,
    array_index='"$PBS_ARRAY_INDEX"',
    limit=ArrayLimit(
        1000, ("qmgr", "-c", "list server max_array_size"), line_pattern(r"max_array_size\s*=\s*(?P<n>\d+)")
    ),
    array_too_large=any_of("max_array_size", "array job exceeds", "illegal -J value", "Array job.*not supported"),
    busy=any_of("would exceed", "Connection refused", "cannot connect to server"),
    status=StatusQuery(_status, _read_status, codes=frozenset({0, 35, 153})),  # one of several is unknown, or has ended
    states={
        **dict.fromkeys(("Q", "H", "W", "T", "M"), Status.PENDING),  # M: moved to another server
        **dict.fromkeys(("R", "E", "S", "U", "B"), Status.RUNNING),  # B: an array has begun
        # F: finished, X: a task of an array has
        **{f"{state}{code}": status for state in "FX" for code, status in _ENDED.items()},
    },
    index_pattern="^array_index^",
    task_output="{index}.out",
    job_variables=_JOB_VARIABLES,
    submit_dir_variables=("PBS_O_WORKDIR",),
    submitter_variables={**TORQUE.submitter_variables, "PBS_O_SYSTEM": "SYSTEM"},
    # each of pbs.conf's may come from the environment
    client_variables=words("PBS_CONF_FILE PBS_SERVER PBS_DEFAULT PBS_PRIMARY PBS_BATCH_SERVICE_PORT PBS_EXEC PBS_HOME"),
    placement_variables=words("PBS_JOBID PBS_ARRAY_ID PBS_ARRAY_INDEX PBS_QUEUE"),
    # TORQUE says "Version: …", Slurm's qstat something else again
    probe=Probe(("qstat", "--version"), Pattern("pbs_version")),
)

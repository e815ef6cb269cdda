"""TORQUE: qsub(1B), qstat(1B), qdel(1B) of its administrator's guide. Also Slurm's commands of these names."""

from __future__ import annotations

import re
from collections.abc import Mapping

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


def read_id(text: str) -> tuple[str, int | None]:
    """Take ``12.server``, ``12[].server`` or ``12[3].server`` apart: the id, ``12[]`` for an array, and the index."""
    match = re.match(r"(\d+)(?:\[(\d*)\])?", text)
    if match is None:
        raise ValueError(text)
    if match[2] is None:
        return match[1], None
    return f"{match[1]}[]", int(match[2]) if match[2] else None


def _status(query: QueueQuery) -> Command:  # noqa: ARG001  (of all jobs: with names of its own it fails for one that is gone)
    # -t: the tasks of arrays, each; the qstat that comes with Slurm does not know it
    return ("sh", "-c", "qstat -f -t 2>/dev/null || qstat -f")


def _read_status(answer: str) -> list[NativeJob]:
    if answer.strip() and not answer.lstrip().startswith("Job Id:"):
        raise ValueError(answer)
    jobs = []
    text = re.sub(r"\n\t(?![\w.]+ = )", "", answer)  # long lines are wrapped; Slurm's are not, and start with a tab
    for block in re.split(r"^Job Id:\s*", text, flags=re.MULTILINE)[1:]:
        name, _, rest = block.partition("\n")
        fields = dict(re.findall(r"^\s+([\w.]+) = (.*)$", rest, flags=re.MULTILINE))
        state, code = fields["job_state"], fields.get("exit_status", "")
        if state == "C" and not code:
            continue  # Slurm's: it has ended, and how is not told, so it is as good as forgotten
        job_id, index = read_id(name)
        reason = (_OVER if code in _BY_SIGNAL and _over_time(fields) else code) if state == "C" else ""
        script = fields.get("submit_args", "")
        jobs.append(NativeJob(job_id, index, state, reason, script, fields.get("Job_Name", "")))
    return jobs


_BY_SIGNAL = frozenset({"271", "265"})  # 256 + SIGTERM or SIGKILL: qdel, or what some versions have for -11
_OVER = "over its walltime"


def _over_time(fields: Mapping[str, str]) -> bool:
    used, limit = (_seconds(fields.get(f"{name}.walltime", "")) for name in ("resources_used", "Resource_List"))
    return used is not None and limit is not None and used >= limit


def _seconds(text: str) -> int | None:
    """The seconds of a time such as ``[[[days:]hours:]minutes:]seconds``."""
    if not re.fullmatch(r"\d+(?::\d+){0,3}", text):
        return None
    return sum(int(part) * unit for part, unit in zip(reversed(text.split(":")), (1, 60, 3600, 86400), strict=False))


# qsub(1B) and src/resmom/start_exec.c
_JOB_VARIABLES = {
    Kind.ID: words("PBS_JOBID PBS_ARRAYID"),
    Kind.RANK: words("PBS_NODENUM PBS_VNODENUM PBS_TASKNUM"),
    Kind.COUNT: words("PBS_NUM_NODES PBS_NUM_PPN PBS_NNODES PBS_NP PBS_WALLTIME PBS_MOMPORT"),
    Kind.DIRECTORY: words("TMPDIR"),  # where the site's moms make one
    Kind.HOSTFILE: words("PBS_NODEFILE"),
    Kind.FILE: words("PBS_GPUFILE PBS_MICFILE"),
    Kind.TEXT: words(
        "PBS_JOBCOOKIE PBS_JOBNAME PBS_QUEUE PBS_ENVIRONMENT PBS_VERSION PBS_O_QUEUE PBS_O_SERVER PBS_O_SUBMIT_FILTER "
        "PBS_O_UID OFFLOAD_DEVICES"
    ),
}

TORQUE = Scheduler(
    name="torque",
    directive="#PBS",
    options=(
        Option("name", "-N {name}", ("-N",)),
        Option("shell", "-S {shell}", ("-S",)),  # else the user's login shell, whatever the script's first line says
        Option("stdout", "-o {stdout}", ("-o",)),
        Option("stderr", "-e {stderr}", ("-e",)),
    ),
    joins_streams=line_pattern(r"(?:^|\s)-j\s*(?:oe|eo)(?=\s|$)"),
    name_limit=15,
    array=Option("array", "-t 1-{count}{throttle}", ("-t",)),
    throttle="%{}",
    # the second is what jobs of Slurm's qsub have
    array_index='"${PBS_ARRAYID:-$PBS_ARRAY_INDEX}"',
    limit=ArrayLimit(500, ("qmgr", "-c", "print server"), line_pattern(r"max_job_array_size\s*=\s*(?P<n>\d+)")),
    array_too_large=any_of("Bad Job Array Request", "array size too large", "does not allow job arrays"),
    submit=("qsub",),
    job_id=line_pattern(r"^(?P<id>\d+(?:\[\])?)(?:\.\S+)?\s*$"),
    busy=any_of("Maximum number of jobs already in queue", r"Connection refused", "check pbs_server daemon"),
    unclear=any_of("End of File", "timed? ?out", "communication failure", "Premature end of message", "protocol error"),
    status=StatusQuery(_status, _read_status, codes=frozenset({0, 153})),  # 153: none of them is known
    states={
        **dict.fromkeys(("Q", "H", "W", "T"), Status.PENDING),  # T: being moved to another server
        **dict.fromkeys(("R", "E", "S"), Status.RUNNING),  # E: exiting
        "C": Status.FAILED,
        "C 0": Status.COMPLETE,
        "C -11": Status.TIMEOUT,  # JOB_EXEC_OVERLIMIT_WT
        f"C {_OVER}": Status.TIMEOUT,
        "C 271": Status.CANCELLED,  # 256 + SIGTERM: qdel
    },
    id_pattern=r"[0-9]+(?:\[\])?",  # without the server, which is the default one
    task_id="{id}[{index}]",
    cancel=("qdel",),
    plain_paths=True,
    quote_path=plain_path,
    index_pattern="task",  # TORQUE adds the index to the path
    task_output="task.out-{index}",
    job_variable="PBS_JOBID",
    read_job_id=lambda variable: read_id(variable)[0],
    job_variables=_JOB_VARIABLES,
    job_variable_pattern=r"PBS_\w+",
    submit_dir_variables=words("PBS_O_WORKDIR PBS_O_INITDIR"),
    submitter_variables={
        f"PBS_O_{name}": name for name in ("HOME", "LANG", "LOGNAME", "PATH", "MAIL", "SHELL", "TZ", "HOST")
    },
    # PBS_SERVER is a job's as well: the server that took it
    client_variables=words("PBS_DEFAULT PBS_SERVER PBS_CLIENTRETRY PBS_DPREFIX PBSAPITIMEOUT"),
    placement_variables=words("PBS_JOBID PBS_ARRAYID PBS_QUEUE PBS_SERVER PBS_NUM_NODES"),
)

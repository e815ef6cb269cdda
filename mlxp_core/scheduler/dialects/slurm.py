"""SLURM: https://slurm.schedmd.com/sbatch.html, squeue.html, sacct.html and job_state_codes.html. Seen on 22.05.8."""

from __future__ import annotations

import re
from dataclasses import replace

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
    quote_path,
    read_lines,
    words,
)
from mlxp_core.statuses import Status

_FORMAT = "%F|%K|%T|%r|%o"  # array's or job's id, index in the array, state, reason, script


def _status(query: QueueQuery) -> Command:
    # --states=all: without it a job that has ended is not shown; it stays for MinJobAge (300 s by default).
    # By user and not by id: with a single id that is forgotten squeue fails, with several it does not
    return ("squeue", "--noheader", "--array", "--states=all", f"--user={query.user}", f"--format={_FORMAT}")


def _read_status(answer: str) -> list[NativeJob]:
    return [replace(job, reason="") if job.reason == "None" else job for job in read_lines(answer)]


def _history(query: QueueQuery) -> Command:
    fields = ("sacct", "--allocations", "--noheader", "--parsable2", "--format=JobID,State")
    return (*fields, f"--jobs={','.join(query.ids)}")


def _read_history(answer: str) -> list[NativeJob]:
    jobs = []
    for line in answer.splitlines():
        name, bar, state = line.partition("|")
        match = re.match(r"(\d+)(?:_(\d+)|_\[([\d,-]+))?", name)
        if not bar or not match:
            raise ValueError(line)
        # tasks that wait are one record, 84_[2-5,9%2]; "CANCELLED by 1000" says by whom
        indices = _indices(match[3]) if match[3] else [int(match[2]) if match[2] else None]
        jobs += [NativeJob(match[1], index, state.split()[0] if state else "") for index in indices]
    return jobs


def _indices(text: str) -> list[int]:
    ranges = [part.partition("-") for part in text.split(",") if part]
    return [index for first, _, last in ranges for index in range(int(first), int(last or first) + 1)]


# sbatch(1), OUTPUT ENVIRONMENT VARIABLES, of 22.05; the last line of counts and STEP_ID are of later versions
_JOB_VARIABLES = {
    Kind.ID: words("SLURM_JOB_ID SLURM_JOBID SLURM_ARRAY_JOB_ID SLURM_ARRAY_TASK_ID SLURM_HET_JOB_ID"),
    Kind.NUMBER: words("SLURM_TASK_PID SLURM_STEP_ID SLURM_STEPID"),
    Kind.RANK: words("SLURM_PROCID SLURM_LOCALID SLURM_NODEID SLURM_GTIDS"),
    Kind.COUNT: words(
        """
        SLURM_ARRAY_TASK_COUNT SLURM_ARRAY_TASK_MAX SLURM_ARRAY_TASK_MIN SLURM_ARRAY_TASK_STEP SLURM_CPUS_ON_NODE
        SLURM_CPUS_PER_GPU SLURM_CPUS_PER_TASK SLURM_DIST_PLANESIZE SLURM_GPUS SLURM_GPUS_ON_NODE SLURM_GPUS_PER_NODE
        SLURM_GPUS_PER_SOCKET SLURM_GPUS_PER_TASK SLURM_HET_SIZE SLURM_JOB_CPUS_PER_NODE SLURM_JOB_NUM_NODES
        SLURM_MEM_PER_CPU SLURM_MEM_PER_GPU SLURM_MEM_PER_NODE SLURM_NNODES SLURM_NPROCS SLURM_NTASKS
        SLURM_NTASKS_PER_CORE SLURM_NTASKS_PER_GPU SLURM_NTASKS_PER_NODE SLURM_NTASKS_PER_SOCKET SLURM_OVERCOMMIT
        SLURM_PRIO_PROCESS SLURM_RESTART_COUNT SLURM_SHARDS_ON_NODE SLURM_TASKS_PER_NODE SLURM_THREADS_PER_CORE
        SLURM_JOB_START_TIME SLURM_JOB_END_TIME
        """
    ),
    Kind.DIRECTORY: words("SLURM_TMPDIR"),  # of a site's prolog
    Kind.TEXT: words(
        """
        SLURM_CLUSTER_NAME SLURM_CONTAINER SLURM_DISTRIBUTION SLURM_EXPORT_ENV SLURM_GPU_BIND SLURM_GPU_FREQ
        SLURM_JOB_ACCOUNT SLURM_JOB_DEPENDENCY SLURM_JOB_GPUS SLURM_JOB_NAME SLURM_JOB_NODELIST SLURM_JOB_PARTITION
        SLURM_JOB_QOS SLURM_JOB_RESERVATION SLURM_NODELIST SLURM_NODE_ALIASES SLURM_PROFILE SLURM_TOPOLOGY_ADDR
        SLURM_TOPOLOGY_ADDR_PATTERN SLURMD_NODENAME SBATCH_MEM_BIND SBATCH_MEM_BIND_LIST SBATCH_MEM_BIND_PREFER
        SBATCH_MEM_BIND_TYPE SBATCH_MEM_BIND_VERBOSE
        """
    ),
}

SLURM = Scheduler(
    name="slurm",
    directive="#SBATCH",
    options=(
        Option("name", "--job-name={name}", ("--job-name", "-J")),
        Option("stdout", "--output={stdout}", ("--output", "-o")),
        # without an --error of its own stderr goes where the user's --output says
        Option("stderr", "--error={stderr}", ("--error", "-e", "--output", "-o")),
        # a requeued job would truncate what its first attempt printed
        Option("open-mode", "--open-mode=append", ("--open-mode",)),
    ),
    array=Option("array", "--array=1-{count}{throttle}", ("--array", "-a")),
    throttle="%{}",
    array_index='"$SLURM_ARRAY_TASK_ID"',
    # by default MaxArraySize is 1001, and the largest index is one less
    limit=ArrayLimit(1000, ("scontrol", "show", "config"), line_pattern(r"^MaxArraySize\s*=\s*(?P<n>\d+)"), above=1),
    array_too_large=any_of("Invalid job array specification"),
    submit=("sbatch", "--parsable"),
    job_id=line_pattern(r"^(?P<id>\d+)(;\S+)?\s*$"),  # "42", or "42;cluster" on a federation
    busy=any_of(
        r"\(connect failure\)",  # nothing has reached the controller
        "job submit limit",  # AssocMaxSubmitJobLimit, QOSMaxSubmitJobPerUserLimit, …
        "Resource temporarily unavailable",  # MaxJobCount
        "Slurm temporarily unable to accept job",
    ),
    unclear=any_of("timed out", "Unable to contact", "Zero Bytes were transmitted", "Unexpected message"),
    status=StatusQuery(_status, _read_status),
    # sacct without slurmdbd
    history=StatusQuery(_history, _read_history, nothing=any_of("accounting storage is disabled")),
    states={
        "PENDING": Status.PENDING,
        "CONFIGURING": Status.PENDING,
        "REQUEUED": Status.PENDING,
        "REQUEUE_HOLD": Status.PENDING,
        "SPECIAL_EXIT": Status.PENDING,  # requeued and held
        "RESV_DEL_HOLD": Status.PENDING,
        "RUNNING": Status.RUNNING,
        "COMPLETING": Status.RUNNING,
        "STAGE_OUT": Status.RUNNING,
        "SIGNALING": Status.RUNNING,
        "RESIZING": Status.RUNNING,
        "STOPPED": Status.RUNNING,
        "SUSPENDED": Status.RUNNING,
        "COMPLETED": Status.COMPLETE,
        "FAILED": Status.FAILED,
        "OUT_OF_MEMORY": Status.FAILED,
        "BOOT_FAIL": Status.FAILED,
        "NODE_FAIL": Status.LOST,
        "CANCELLED": Status.CANCELLED,
        "REVOKED": Status.CANCELLED,
        "TIMEOUT": Status.TIMEOUT,
        "DEADLINE": Status.TIMEOUT,
        "PREEMPTED": Status.PREEMPTED,
    },
    reason_words={
        "out_of_memory": "out of memory",
        "outofmemory": "out of memory",
        "node_fail": "node failure",
        "nodefail": "node failure",
        "nodedown": "node failure",  # what squeue says of the same job for which sacct says NODE_FAIL
        "boot_fail": "node failure",
        "nonzeroexitcode": "",
    },
    cancel=("scancel",),
    # sbatch also obeys #PBS and #BSUB lines, anywhere in a script, which a template for several schedulers has
    submit_environment={"SBATCH_IGNORE_PBS": "1"},
    quote_path=quote_path,
    index_pattern="%a",
    job_variable="SLURM_JOB_ID",
    job_variables=_JOB_VARIABLES,
    job_variable_pattern=r"SLURMD?_\w+|SBATCH_MEM_BIND\w*",
    submit_dir_variables=("SLURM_SUBMIT_DIR",),
    submitter_variables={
        "SLURM_SUBMIT_HOST": "HOST",
        "SLURM_JOB_USER": "USER",
        "SLURM_JOB_UID": "UID",
        "SLURM_JOB_GID": "GID",
    },
    client_variables=words("SLURM_CONF SLURM_CLUSTERS SBATCH_CLUSTERS SLURM_CONF_SERVER"),
    placement_variables=words(
        "SLURM_JOB_ID SLURM_ARRAY_JOB_ID SLURM_ARRAY_TASK_ID SLURM_RESTART_COUNT SLURMD_NODENAME SLURM_CLUSTER_NAME "
        "SLURM_JOB_PARTITION SLURM_JOB_QOS SLURM_JOB_NODELIST SLURM_JOB_GPUS"
    ),
    launchers=(("srun",),),
    requeue_directive=line_pattern(r"(?:^|\s)--requeue(?=\s|$)"),
    # of a task of an array, too: the variable holds the id of the task's own job
    requeue='scontrol requeue "$SLURM_JOB_ID"',
)

"""SLURM: https://slurm.schedmd.com/sbatch.html, squeue.html and job_state_codes.html. Seen on 22.05.8."""

from __future__ import annotations

from mlxp_core.layout import Status
from mlxp_core.scheduler._base import NativeJob, Option, Scheduler, find, quote_path

_FORMAT = "%F|%K|%T|%r|%o"  # array's or job's id, index in the array, state, reason, script


def _status(user: str) -> tuple[str, ...]:
    # --states=all: without it a job that has ended is not shown; it stays for MinJobAge (300 s by default)
    return ("squeue", "--noheader", "--array", "--states=all", f"--user={user}", f"--format={_FORMAT}")


def _read_status(answer: str) -> list[NativeJob]:
    jobs = []
    for line in answer.splitlines():
        fields = line.split("|", 4)
        if len(fields) == 5:  # noqa: PLR2004  (the five of _FORMAT)
            job_id, index, state, reason, script = fields
            jobs.append(NativeJob(job_id, int(index) if index.isdigit() else None, state, reason, script))
    return jobs


SLURM = Scheduler(
    name="slurm",
    directive="#SBATCH",
    options=(
        Option("name", "--job-name={}", ("--job-name", "-J")),
        Option("stdout", "--output={}", ("--output", "-o")),
        # without an --error of its own stderr goes where the user's --output says
        Option("stderr", "--error={}", ("--error", "-e", "--output", "-o")),
        # a requeued job would truncate what its first attempt printed
        Option("open-mode", "--open-mode=append", ("--open-mode",)),
    ),
    array=Option("array", "--array=1-{}", ("--array", "-a")),
    throttle="%{}",
    array_index="SLURM_ARRAY_TASK_ID",
    submit=("sbatch", "--parsable"),
    job_id=find(r"^(?P<id>\d+)(;\S+)?\s*$"),  # "42", or "42;cluster" on a federation
    status=_status,
    read_status=_read_status,
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
    cancel=("scancel",),
    # sbatch also obeys #PBS and #BSUB lines, anywhere in a script, which a template for several schedulers has
    submit_environment={"SBATCH_IGNORE_PBS": "1"},
    quote_path=quote_path,
    index_pattern="%a",
    whole_file=False,
    job_variable="SLURM_JOB_ID",
    requeue_asked=find(r"(?:^|\s)--requeue(?=\s|$)"),
    # of a task of an array, too: the variable holds the id of the task's own job
    requeue='scontrol requeue "$SLURM_JOB_ID"',
)

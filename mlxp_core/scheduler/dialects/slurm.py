"""SLURM: https://slurm.schedmd.com/sbatch.html, squeue.html, sacct.html and job_state_codes.html. Seen on 22.05.8."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

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
    quote_path,
    read_lines,
)
from mlxp_core.statuses import Status

_FORMAT = "%F|%K|%T|%r|%o"  # array's or job's id, index in the array, state, reason, script


def _status(question: QueueQuery) -> Command:
    # --states=all: without it a job that has ended is not shown; it stays for MinJobAge (300 s by default).
    # By user and not by id: with a single id that is forgotten squeue fails, with several it does not
    return ("squeue", "--noheader", "--array", "--states=all", f"--user={question.user}", f"--format={_FORMAT}")


def _read_status(answer: str) -> list[NativeJob]:
    return [replace(job, reason="") if job.reason == "None" else job for job in read_lines(answer)]


def _history(question: QueueQuery) -> Command:
    fields = ("sacct", "--allocations", "--noheader", "--parsable2", "--format=JobID,State")
    return (*fields, f"--jobs={','.join(question.ids)}")


def _read_history(answer: str) -> list[NativeJob]:
    jobs = []
    for line in answer.splitlines():
        name, bar, state = line.partition("|")
        found = re.match(r"(\d+)(?:_(\d+)|_\[([\d,-]+))?", name)
        if not bar or not found:
            raise ValueError(line)
        # tasks that wait are one record, 84_[2-5,9%2]; "CANCELLED by 1000" says by whom
        indices = _indices(found[3]) if found[3] else [int(found[2]) if found[2] else None]
        jobs += [NativeJob(found[1], index, state.split()[0] if state else "") for index in indices]
    return jobs


def _indices(text: str) -> list[int]:
    ranges = [part.partition("-") for part in text.split(",") if part]
    return [index for first, _, last in ranges for index in range(int(first), int(last or first) + 1)]


def _cancel(jobs: Sequence[tuple[str, int | None]]) -> Command:
    return ("scancel", *(job_id if index is None else f"{job_id}_{index}" for job_id, index in jobs))


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
    cancel=_cancel,
    # sbatch also obeys #PBS and #BSUB lines, anywhere in a script, which a template for several schedulers has
    submit_environment={"SBATCH_IGNORE_PBS": "1"},
    quote_path=quote_path,
    index_pattern="%a",
    job_variable="SLURM_JOB_ID",
    requeue_directive=line_pattern(r"(?:^|\s)--requeue(?=\s|$)"),
    # of a task of an array, too: the variable holds the id of the task's own job
    requeue='scontrol requeue "$SLURM_JOB_ID"',
)

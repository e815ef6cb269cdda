"""SGE, Grid Engine: qsub(1), qstat(1), qacct(1), sge_conf(5), accounting(5) of Son of Grid Engine. Seen on 8.1.9."""

from __future__ import annotations

import re
from collections.abc import Iterator

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
    read_xml,
    words,
)
from mlxp_core.statuses import Status


def _status(query: QueueQuery) -> Command:
    return ("qstat", "-u", query.user, "-xml")


def _read_status(answer: str) -> list[NativeJob]:
    jobs = []
    for job in read_xml(answer, "job_info").iter("job_list"):
        number, state, name = (job.findtext(tag, "") for tag in ("JB_job_number", "state", "JB_name"))
        indices: list[int | None] = [*_indices(job.findtext("tasks", ""))] or [None]
        jobs += [NativeJob(number, index, state, name=name) for index in indices]
    return jobs


def _indices(text: str) -> Iterator[int]:
    """The indices of tasks that wait in one line: ``2-10:1`` or ``1,4,7``."""
    for part in text.split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+)(?::(\d+))?)?", part.strip())
        if match:
            first, last, step = int(match[1]), int(match[2] or match[1]), int(match[3] or 1)
            yield from range(first, last + 1, step)


def _history(query: QueueQuery) -> Command:
    since = () if query.since is None else ("-b", query.since.astimezone().strftime("%Y%m%d%H%M"))
    return ("qacct", *since, "-o", query.user, "-j")


def _read_history(answer: str) -> list[NativeJob]:
    """One block of ``name value`` lines for each job, or task, that ended, and the owner's sums."""
    if answer.strip() and not re.search(r"^(?:=+|OWNER\b.*)$", answer, flags=re.MULTILINE):
        raise ValueError(answer)
    jobs = []
    for block in re.split(r"^=+$", answer, flags=re.MULTILINE):
        fields = dict(re.findall(r"^(\w+) +(.*?) *$", block, flags=re.MULTILINE))
        if "jobnumber" in fields:
            index = fields["taskid"]
            jobs.append(
                NativeJob(
                    fields["jobnumber"],
                    int(index) if index.isdigit() else None,
                    *_ending(fields),
                    name=fields.get("jobname", ""),
                )
            )
    return jobs


_SIGUSR1 = "138"  # by which a job is warned of s_rt; one that has no trap for it ends
_STARTS_AGAIN = frozenset({"24", "25"})  # migrating, rescheduling: after exit 99, say


def _ending(fields: dict[str, str]) -> tuple[str, str]:
    """State and reason; the states are ours, accounting(5) has numbers only."""
    failed, code = fields["failed"].split()[0], fields["exit_status"].split()[0]
    if failed == "0":
        return ("done", "") if code == "0" else ("exit", f"exit code {code}")
    if failed in _STARTS_AGAIN:
        # it was to start again, and that is the last word on what is not in the queue any more: somebody deleted it
        return "rescheduled", "deleted before it started again"
    # 37: killed by the qmaster; 100: by the execution daemon, or by the job itself
    limit = "s_rt" if code == _SIGUSR1 else "h_rt"
    if failed in {"37", "100"} and _over_time(fields, limit):
        return limit, f"ran into its limit of time ({limit})"
    if failed == "100" and code == "137":
        # qdel sends SIGKILL; so does a limit of memory, and so may the job itself
        return "killed", "killed by SIGKILL"
    return "failed", f"failed {fields['failed']}"


def _over_time(fields: dict[str, str], name: str) -> bool:
    limit = re.search(rf"\b{name}=(\d+)", fields.get("category", ""))
    used = re.match(r"[\d.]+", fields.get("ru_wallclock", ""))
    return limit is not None and used is not None and float(used[0]) >= float(limit[1])


# for ever, unless somebody clears it
_IN_ERROR = ("Eqw", "Ehqw", "EhRqw", "ERqw", "dEqw")

# submit(1), ENVIRONMENT VARIABLES
_JOB_VARIABLES = {
    Kind.ID: words("JOB_ID SGE_TASK_ID"),
    Kind.COUNT: words("NSLOTS NHOSTS NQUEUES RESTARTED SGE_TASK_FIRST SGE_TASK_LAST SGE_TASK_STEPSIZE"),
    Kind.DIRECTORY: words("TMPDIR TMP SGE_JOB_SPOOL_DIR SGE_CKPT_DIR"),
    Kind.HOSTFILE: words("PE_HOSTFILE"),
    Kind.FILE: words("JOB_SCRIPT SGE_STDOUT_PATH SGE_STDERR_PATH SGE_STDIN_PATH"),
    Kind.TEXT: words("JOB_NAME REQUEST QUEUE PE ARC ENVIRONMENT SGE_ARCH SGE_BINDING SGE_CKPT_ENV SGE_JOBEXIT_STAT"),
}

SGE = Scheduler(
    name="sge",
    directive="#$",
    options=(
        Option("name", "-N {name}", ("-N",)),
        # a queue may have csh as its shell, and take no notice of the script's first line
        Option("shell", "-S {shell}", ("-S",)),
        Option("stdout", "-o {stdout}", ("-o",)),
        Option("stderr", "-e {stderr}", ("-e",)),
    ),
    directives_anywhere=True,
    attached_values=False,
    joins_streams=line_pattern(r"(?:^|\s)-j\s+y(?:es)?(?=\s|$)"),
    array=Option("array", "-t 1-{count}{throttle}", ("-t",)),
    throttle=" -tc {}",
    array_index='"$SGE_TASK_ID"',
    limit=ArrayLimit(1000, ("qconf", "-sconf"), line_pattern(r"^max_aj_tasks\s+(?P<n>\d+)")),
    array_too_large=any_of(r"more than \d+ tasks"),
    submit=("qsub", "-terse"),
    job_id=line_pattern(r"^(?P<id>\d+)(?:\.\d+-\d+:\d+)?\s*$"),
    busy=any_of("jobs are allowed per", "job limit", "Connection refused", "unable to contact qmaster"),
    unclear=any_of("timeout", "got read error", "got send error", "can't get response", "commlib error"),
    status=StatusQuery(_status, _read_status),
    # the file is not there before a first job has ended
    history=StatusQuery(_history, _read_history, nothing=any_of("no jobs running since startup")),
    states={
        **dict.fromkeys(("qw", "hqw", "hRwq", "Rq", "hRq", "Rqw", "hRqw"), Status.PENDING),
        **dict.fromkeys(("t", "r", "Rt", "Rr", "ht", "hr", "hRr", "hRt"), Status.RUNNING),
        **dict.fromkeys(("s", "S", "T", "ts", "tS", "tT", "N", "rs", "rS", "rT", "Rs", "RS", "RT"), Status.RUNNING),
        **dict.fromkeys(("dr", "dt", "dRr", "dRt", "ds", "dS", "dT", "dRs", "dRS", "dRT"), Status.RUNNING),
        **dict.fromkeys(_IN_ERROR, Status.FAILED),
        "done": Status.COMPLETE,
        "exit": Status.FAILED,
        "h_rt": Status.TIMEOUT,
        "s_rt": Status.TIMEOUT,
        "killed": Status.CANCELLED,
        "rescheduled": Status.CANCELLED,
        "failed": Status.FAILED,
    },
    held_states=frozenset(_IN_ERROR),
    task_id="{id}.{index}",
    cancel=("qdel",),
    plain_paths=True,
    reports_script=False,
    quote_path=plain_path,
    index_pattern="$TASK_ID",
    job_variable="JOB_ID",
    job_variables=_JOB_VARIABLES,
    job_variable_pattern=r"SGE_\w+|JOB_ID|NSLOTS|PE_HOSTFILE",
    submit_dir_variables=words("SGE_O_WORKDIR SGE_CWD_PATH"),
    submitter_variables={
        f"SGE_O_{name}": name for name in ("HOME", "HOST", "LOGNAME", "MAIL", "PATH", "SHELL", "TERM", "TZ")
    },
    client_variables=words(
        "SGE_ROOT SGE_CELL SGE_CLUSTER_NAME SGE_QMASTER_PORT SGE_EXECD_PORT SGE_BINARY_PATH SGE_DEBUG_LEVEL "
        "SGE_SINGLE_LINE"
    ),
    placement_variables=words("JOB_ID SGE_TASK_ID QUEUE RESTARTED PE SGE_CLUSTER_NAME"),
    requeue_directive=line_pattern(r"(?:^|\s)-r\s+y(?:es)?(?=\s|$)"),
    requeue="exit 99",
)

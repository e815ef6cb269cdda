"""FLUX: flux-batch(1), flux-jobs(1), flux-cancel(1) and flux-environment(7) of flux-core 0.88, and RFC 36.

Its own parser of directives was run. Not seen on a running one: any answer of a command, and all that a job meets.

There are no arrays of batch scripts, so each job is a submission of its own. A job that is cancelled or over its time
gets SIGHUP, by way of the broker that runs it, and so ends without having been asked to stop; a directive
``--signal=USR1@60`` asks before the time is over. Within a batch script the commands speak to the instance that Flux
has started there: what is in the queue outside is asked for from outside.
"""

from __future__ import annotations

import json
import re
from typing import Any

from mlxp_core.scheduler.base import (
    Command,
    Kind,
    NativeJob,
    Option,
    QueueQuery,
    Scheduler,
    StatusQuery,
    any_of,
    line_pattern,
    words,
)
from mlxp_core.statuses import Status


def _status(query: QueueQuery) -> Command:
    # -a: those that have ended as well, until the site purges them; --count=0: all, and not a thousand.
    # A T between day and hour would be taken for something else (its parsedatetime, seen)
    since = () if query.since is None else (f"--since={query.since.astimezone():%Y-%m-%d %H:%M}",)
    return ("flux", "jobs", "-a", "--count=0", *since, f"--user={query.user}", "--json")


def _read_status(answer: str) -> list[NativeJob]:
    return [
        NativeJob(_f58(job["id"]), None, job["status"], _reason(job), name=job.get("name", ""))
        for job in json.loads(answer)["jobs"]
    ]


_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def _f58(number: int) -> str:
    """An id as the submission has it, ``f2oLkTLb`` (F58 of RFC 19); before 0.85 the answer has its number only."""
    digits = ""
    while number or not digits:
        number, digit = divmod(number, len(_BASE58))
        digits = _BASE58[digit] + digits
    return f"f{digits}"


def _read_job_id(variable: str) -> str:
    """The id in a job's variable, which may be spelled as a number, and with the sign that F58 has outside of ASCII."""
    return _f58(int(variable)) if variable.isdecimal() else variable.replace("ƒ", "f", 1)


def _reason(job: dict[str, Any]) -> str:
    """The reason for a job's state: an exception, which ended it, or its exit code."""
    exception = job["exception"]
    if exception.get("severity") == 0 and exception.get("type") not in _IN_THE_STATE:
        return ": ".join(filter(None, (exception["type"], exception.get("note"))))
    code = job.get("returncode")  # of a signal it is -15, and -128 of what was cancelled before it ran
    return f"exit code {code}" if job["status"] == "FAILED" and code is not None else ""


_IN_THE_STATE = {"cancel", "timeout", "exec"}  # exec: beside it is an exit code


def _quote(path: str, pattern: str) -> str | None:
    """A path in double quotes; None where it holds ``{{``, a template, or three quotes, which start a text of lines."""
    if re.search(r"\{\{|'''|[\x00-\x1f\x7f]", path):
        return None
    return '"' + path.replace("\\", "\\\\").replace('"', '\\"') + pattern + '"'


# of a batch script, and of what `flux run` starts in it, which alone has those of FLUX_JOB and FLUX_TASK
_JOB_VARIABLES = {
    Kind.ID: words("FLUX_ENCLOSING_ID"),
    Kind.NUMBER: words("FLUX_JOB_ID FLUX_JOB_CC"),
    Kind.RANK: words("FLUX_TASK_RANK FLUX_TASK_LOCAL_ID PMI_RANK"),
    Kind.COUNT: words("FLUX_JOB_SIZE FLUX_JOB_NNODES PMI_SIZE"),
    Kind.DIRECTORY: words("FLUX_JOB_TMPDIR"),
    Kind.FILE: words("FLUX_PMI_LIBRARY_PATH"),
    Kind.TEXT: words("FLUX_JOB_ID_PATH FLUX_KVS_NAMESPACE FLUX_TERMINUS_SESSION"),
}

FLUX = Scheduler(
    name="flux",
    directive="#flux:",
    # a script has one of them: "sentinel changed from '# flux:' to '#flux:'"
    other_spellings=("# flux:", "#FLUX:", "# FLUX:"),
    options=(
        Option("slots", "-n1", ("-n", "--nslots", "-N", "--nodes")),  # without a size there is no submission
        Option("name", "--job-name={name}", ("--job-name",)),
        Option("stdout", "--output={stdout}", ("--output",)),
        # without an --error of its own stderr goes where the user's --output says
        Option("stderr", "--error={stderr}", ("--error", "--output")),
    ),
    directives_anywhere=True,  # the first of them may come after commands; all are in one block
    quote_path=_quote,
    launchers=(("flux", "run"), ("flux", "submit")),
    submit=("flux", "batch"),
    # ids as f2oLkTLb whatever the locale is; the job has the variable as well
    submit_environment={"FLUX_F58_FORCE_ASCII": "1"},
    job_id=line_pattern(rf"^(?P<id>f[{_BASE58}]+)\s*\Z"),  # base58; a word of that alphabet may come before it
    busy=any_of("Unable to connect to Flux", "job submission.* is disabled"),
    unclear=any_of("timed? ?out", "Connection reset", "Broken pipe", "No route to host", "Host is unreachable"),
    id_pattern=rf"f[{_BASE58}]{{1,12}}",
    cancel=("flux", "cancel"),
    status=StatusQuery(_status, _read_status),
    states={
        **dict.fromkeys(("NEW", "DEPEND", "PRIORITY", "SCHED"), Status.PENDING),
        **dict.fromkeys(("RUN", "CLEANUP"), Status.RUNNING),
        "COMPLETED": Status.COMPLETE,
        "FAILED": Status.FAILED,
        "CANCELED": Status.CANCELLED,
        "TIMEOUT": Status.TIMEOUT,
    },
    reports_script=False,  # the job runs a copy
    # of a batch script, which is an instance of its own inside the job: FLUX_JOB_ID is unset there (since 0.71)
    job_variable="FLUX_ENCLOSING_ID",
    read_job_id=_read_job_id,
    job_variables=_JOB_VARIABLES,
    job_variable_pattern=r"FLUX_(?:ENCLOSING_ID|(?:JOB|TASK)_\w+|KVS_NAMESPACE|PMI_LIBRARY_PATH|TERMINUS_SESSION)",
    client_variables=words(
        "FLUX_URI FLUX_CONNECTOR_PATH FLUX_EXEC_PATH FLUX_SSH FLUX_PROXY_REMOTE FLUX_HANDLE_USERID "
        "FLUX_HANDLE_ROLEMASK FLUX_CONF_DIR FLUX_F58_FORCE_ASCII"
    ),
    placement_variables=words("FLUX_ENCLOSING_ID FLUX_JOB_ID FLUX_JOB_ID_PATH FLUX_JOB_CC"),
)

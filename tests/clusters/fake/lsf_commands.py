"""IBM Spectrum LSF's bsub, bjobs, bkill and bparams. The manual pages are named in README.md."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import Any

from client import HOST, RefusedError, array_limit, directives, interpreter, run, setting, split, user
from cluster import ID, INDEX, Job, Task, ask, session_members, submit, visible

CLEAN_PERIOD = 3600.0  # seconds that mbatchd tells of ended jobs
LIMIT = 1000  # MAX_JOB_ARRAY_SIZE
REFUSED = 255
VALUED = [
    "J",
    "Jd",
    "o",
    "oo",
    "e",
    "eo",
    "q",
    "W",
    "n",
    "R",
    "M",
    "P",
    "u",
    "Q",
    "cwd",
    "env",
    "g",
    "G",
    "w",
    "L",
    "m",
    "c",
    "C",
    "D",
    "F",
    "S",
    "T",
    "v",
    "p",
    "app",
    "gpu",
    "sp",
    "sla",
    "U",
    "a",
    "i",
    "is",
    "ti",
    "E",
    "Ep",
    "b",
    "t",
    "hl",
    "outdir",
]
FLAGS = ["N", "Ne", "B", "r", "rn", "x", "H", "XF"]
TERMINATED = {
    "cancelled": "TERM_OWNER: job killed by owner",
    "walltime": "TERM_RUNLIMIT: job killed after reaching LSF run time limit",
    "memory": "TERM_MEMLIMIT: job killed after reaching LSF memory usage limit",
}
LIBRARY = "Failed in an LSF library call: "


def words(program: str) -> dict[str, tuple[str, int]]:
    end = " Job not submitted." if program == "bsub" else ""
    pending = f"User <{user()}> has reached the pending job limit: Pending job threshold reached."
    return {
        "refuse": ("User permission denied. Job not submitted.", REFUSED),
        "busy": (pending + end, REFUSED),
        "down": (LIBRARY + "Slave LIM configuration is not ready yet." + end, REFUSED),
        "lost_answer": (LIBRARY + "Communication time out." + end, REFUSED),
    }


def refused(message: str) -> RefusedError:
    return RefusedError(f"{message} Job not submitted.", REFUSED)


def read(given: list[str]) -> tuple[dict[str, str], list[str]]:
    """Options and the command behind them. A value may be attached (-Jname), but to known names of one letter only."""
    found: dict[str, str] = {}
    rest = list(given)
    while rest and rest[0].startswith("-") and rest[0] != "-":
        option = rest.pop(0)[1:]
        if option in FLAGS:
            found[option] = ""
        elif option in VALUED:
            if not rest:
                raise refused(f"bsub: option requires an argument -- {option}.")
            found[option] = rest.pop(0)
        elif option[:1] in VALUED and option[1:]:
            found[option[0]] = option[1:]
        else:
            raise refused(f"bsub: illegal option -- {option}.")
    return found, rest


def bsub() -> int:
    if sys.argv[1:] == ["-V"]:
        print("IBM Spectrum LSF Standard 10.1.0.13, Fake", file=sys.stderr)
        return 0
    return run(submit_job, words("bsub"), submits=True)


def submit_job(arguments: list[str]) -> int:
    given, command = read(arguments)
    script = ""
    options = dict(given)
    if command:
        argv, text = ["/bin/sh", "-c", " ".join(command)], " ".join(command)
    else:
        script = sys.stdin.buffer.read().decode(errors="surrogateescape")
        if not script.strip():
            raise refused("No command is specified.")
        wanted: dict[str, str] = {}
        for line in directives(script, ("#BSUB",), lambda _: False):
            wanted |= read(split(line))[0]
        options = wanted | given
        argv, text = interpreter(script, "/bin/sh"), ";".join(script.strip().splitlines())
    spec = options.get("J", text[:4094])
    name, array, parallel = read_name(spec) if "J" in options else (spec, [], 0)
    queue = options.get("q", "normal")
    cwd = os.path.join(os.getcwd(), options.get("cwd", ""))
    place = files(options, cwd, array=bool(array))
    number = submit(
        {
            "name": name,
            "user": user(),
            "queue": queue,
            "argv": argv,
            "script": bool(script),
            "cwd": cwd,
            "env": environment(options, name, queue, place, array=bool(array)),
            **place,
            "array": array,
            "parallel": parallel,
            "walltime": minutes(options["W"]) * 60 if "W" in options else None,
            "rerunnable": "r" in options,
            "hold": "H" in options,
            "requeue_codes": codes(options.get("Q", setting("requeue_exit_values", ""))),
            "cancel_signals": ["INT", "TERM", "KILL"],
            "limit_signals": ["USR2", "INT", "TERM", "KILL"],
            "report": "lsf_commands",
            "report_to": "mail" if "N" in options or "Ne" in options else "output",
            "no_mail": os.environ.get("LSB_JOB_REPORT_MAIL", "").upper() == "N",
            "direct": os.environ.get("LSB_STDOUT_DIRECT", "").upper() == "Y" and place["out"] is not None,
            "command": text,
            "description": options.get("Jd", ""),
            "submit_args": " ".join(arguments),
        },
        script.encode(errors="surrogateescape"),
    )
    print(f"Job <{number}> is submitted to {'' if 'q' in options else 'default '}queue <{queue}>.")
    return 0


def read_name(spec: str) -> tuple[str, list[int], int]:
    """Name, indices and throttle of "name[1-5:2,7]%2"."""
    if len(spec) > 4094:
        raise refused("Job name is too long.")
    found = re.fullmatch(r"(?s)([^\[\]]*)\[([^\]]*)\](?:%(\d+))?", spec)
    if not found:
        return spec, [], 0
    indices: set[int] = set()
    for part in found[2].split(","):
        bounds = re.fullmatch(r"\s*(\d+)(?:-(\d+)(?::(\d+))?)?\s*", part)
        if not bounds or int(bounds[1]) < 1 or int(bounds[2] or bounds[1]) < int(bounds[1]):
            raise refused("Bad job name.")
        indices |= set(range(int(bounds[1]), int(bounds[2] or bounds[1]) + 1, int(bounds[3] or 1)))
    if max(indices) > array_limit(LIMIT):
        raise refused("Job array index too large.")
    return found[1], sorted(indices), int(found[3] or 0)


def minutes(text: str) -> int:
    """[hours:]minutes[/host]."""
    found = re.fullmatch(r"(?:(\d+):)?(\d+)(?:/\S+)?", text)
    if not found:
        raise refused(f"{text}: Illegal RUNLIMIT value.")
    return int(found[1] or 0) * 60 + int(found[2])


def codes(text: str) -> list[int]:
    return [int(word) for word in re.findall(r"\b\d+\b", text)]


def files(options: dict[str, str], cwd: str, *, array: bool) -> dict[str, Any]:
    """Where output goes: -o and -e append, -oo and -eo overwrite; without -o it goes into the mail."""
    index = INDEX if array else "0"

    def path(option: str) -> str | None:
        text = options.get(f"{option}o", options.get(option))
        return None if text is None else os.path.join(cwd, text.replace("%J", ID).replace("%I", index))

    label = f"{ID}.{INDEX}" if array else ID
    return {
        "out": path("o"),
        "err": path("e"),
        "append": "oo" not in options,
        "append_err": "eo" not in options,
        "default_out": f"{label}.out",
        "default_err": f"{label}.err",
        "output_file": options.get("oo", options.get("o", "")),
    }


def environment(
    options: dict[str, str], name: str, queue: str, place: dict[str, Any], *, array: bool
) -> dict[str, str]:
    """The submitter's variables, all of them unless -env says otherwise, and LSF's own."""
    mine = {**os.environ}
    if "env" in options:
        kept: dict[str, str] = {}
        for item in filter(None, (word.strip() for word in options["env"].split(","))):
            variable, has_value, value = item.partition("=")
            if variable == "all":
                kept |= mine
            elif variable == "none":
                kept = {}
            elif has_value or variable in mine:
                kept[variable] = value if has_value else mine[variable]
        mine = kept
    return {
        **mine,
        "LSB_JOBID": ID,
        "LSB_JOBINDEX": INDEX if array else "0",
        "LSB_BATCH_JID": f"{ID}[{INDEX}]" if array else ID,
        "LSB_JOBNAME": f"{name}[{INDEX}]" if array else name,
        "LSB_QUEUE": queue,
        "LSB_HOSTS": HOST,
        "LSB_SUB_HOST": HOST,
        "LSB_SUB_USER": user(),
        "LS_SUBCWD": os.getcwd(),
        **({"LSB_OUTPUTFILE": place["out"]} if place["out"] else {}),
    }


def stat(job: Job, task: Task) -> str:
    if task.state == "queued":
        return "PSUSP" if job.data["hold"] else "PEND"
    if task.state == "running":
        return "RUN"
    if task.state == "vanished":
        return "UNKWN"  # its host does not answer any more
    return "DONE" if task.code == 0 and task.reason != "cancelled" else "EXIT"


def exit_code(task: Task) -> str:
    """An exit code as a shell would give it: 128 + the signal; empty for 0 and for what never ran."""
    if task.signal is not None:
        return str(128 + task.signal)
    return str(task.code) if task.code else ""


def moment(at: float | None) -> str:
    return time.strftime("%b %e %H:%M", time.localtime(at)) if at else ""


def fields(job: Job, task: Task) -> dict[str, str]:
    """What bjobs -o knows of a job."""
    data = job.data
    ended = task.ended if task.state == "ended" else None
    late = {"DONE": " L", "EXIT": " L"}.get(stat(job, task), "")
    return {
        "jobid": str(job.id),
        "jobindex": str(task.idx),
        "stat": stat(job, task),
        "user": data["user"],
        "queue": data["queue"],
        "job_name": title(job, task),
        "job_description": data["description"],
        "proj_name": "default",
        "from_host": HOST,
        "exec_host": HOST if task.started else "",
        "submit_time": moment(job.submitted),
        "start_time": moment(task.started),
        "finish_time": moment(ended) + late if ended else "",
        "exit_code": exit_code(task) if ended else "",
        "exit_reason": TERMINATED.get(task.reason, "") if ended else "",
        "output_file": data["output_file"].replace("%J", str(job.id)).replace("%I", str(task.idx)),
        "command": data["command"],
        "sub_cwd": data["env"].get("LS_SUBCWD", ""),
        "exec_cwd": data["cwd"] if task.started else "",
        "pids": str(task.pid) if task.state == "running" else "",
        "pend_reason": "New job is waiting for scheduling;" if task.state == "queued" else "",
        "run_time": f"{int((ended or time.time()) - task.started)} second(s)" if task.started else "",
        "runtimelimit": f"{data['walltime'] / 60}" if data["walltime"] else "",
    }


def title(job: Job, task: Task) -> str:
    return f"{job.data['name']}[{task.idx}]" if job.is_array else job.data["name"]


def bjobs() -> int:
    return run(status, words("bjobs"), submits=False)


def status(arguments: list[str]) -> int:
    options, ids = query(arguments, ("o", "u", "q", "J", "m", "P", "g", "G"))
    jobs = visible(CLEAN_PERIOD)
    shown: list[tuple[Job, Task]] = []
    missing: list[str] = []
    for text in ids:
        found = chosen(jobs, text)
        shown += found
        if not found:
            missing.append(text)
    if not ids:
        unended = {"PEND", "RUN", "PSUSP", "UNKWN"}
        shown = [(j, t) for j in jobs for t in j.tasks if "a" in options or stat(j, t) in unended]
        shown = [entry for entry in shown if options.get("u", entry[0].data["user"]) in {"all", entry[0].data["user"]}]
        shown = [entry for entry in shown if matches_name(*entry, options.get("J"))]
    errors = [f"Job <{text}> is not found" for text in missing]
    if "json" in options:
        columns = options.get("o", "jobid stat user queue from_host exec_host job_name submit_time")
        names = [word.partition(":")[0] for word in re.sub(r"delimiter='.*?'", "", columns).split()]
        records: list[dict[str, str]] = [
            {name.upper(): fields(job, task).get(name.lower(), "") for name in names} for job, task in shown
        ]
        records += [{"JOBID": text, "ERROR": error} for text, error in zip(missing, errors, strict=True)]
        print(json.dumps({"COMMAND": "bjobs", "JOBS": len(records), "RECORDS": records}, indent=2))
        return REFUSED if missing else 0
    for error in errors:
        print(error, file=sys.stderr)
    if not shown and not ids:
        print("No job found" if "a" in options else "No unfinished job found", file=sys.stderr)
        return REFUSED
    table(options, shown)
    return REFUSED if errors else 0


def query(arguments: list[str], valued: tuple[str, ...]) -> tuple[dict[str, str], list[str]]:
    """Options with a dash and a word, and job ids; a job id may follow at any place."""
    found: dict[str, str] = {}
    ids: list[str] = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            ids.append(word.strip("\"'"))
        elif word[1:] in valued and rest:
            found[word[1:]] = rest.pop(0)
        else:
            found[word[1:]] = ""
    return found, [text for text in ids if text != "0"]


def matches_name(job: Job, task: Task, wanted: str | None) -> bool:
    if wanted is None:
        return True
    pattern = re.escape(wanted).replace(r"\*", ".*")
    return any(re.fullmatch(pattern, name, re.DOTALL) for name in (job.data["name"], title(job, task)))


def chosen(jobs: list[Job], text: str) -> list[tuple[Job, Task]]:
    """Jobs and tasks that 12, 12[3] or 12[1-3,5] stands for."""
    found = re.fullmatch(r"(\d+)(?:\[([\d,\-]+)\])?", text)
    job = next((job for job in jobs if found and job.id == int(found[1])), None)
    if not found or job is None:
        return []
    if not found[2]:
        return [(job, task) for task in job.tasks]
    bounds = [part.partition("-") for part in found[2].split(",")]
    indices = {i for first, _, last in bounds for i in range(int(first), int(last or first) + 1)}
    return [(job, task) for task in job.tasks if task.idx in indices]


def table(options: dict[str, str], shown: list[tuple[Job, Task]]) -> None:
    if "o" in options:
        delimiter = re.search(r"delimiter='(.*?)'", options["o"])
        names = [word.partition(":")[0] for word in re.sub(r"delimiter='.*?'", "", options["o"]).split()]
        join = delimiter[1] if delimiter else " "
        if "noheader" not in options:
            print(join.join(name.upper() for name in names))
        for job, task in shown:
            values = fields(job, task)
            print(join.join(values.get(name.lower(), "") or "-" for name in names))
        return
    if "noheader" not in options and shown:
        print("JOBID   USER    STAT  QUEUE      FROM_HOST   EXEC_HOST   JOB_NAME   SUBMIT_TIME")
    for job, task in shown:
        at = fields(job, task)
        wide = "w" in options or "W" in options
        name = at["job_name"] if wide or len(at["job_name"]) <= 10 else "*" + at["job_name"][-9:]
        line = f"{at['jobid']:7} {at['user'][:7]:7} {at['stat']:5} {at['queue'][:10]:10} {HOST:11} "
        print(line + f"{at['exec_host']:11} {name:10} {at['submit_time']}")


def bkill() -> int:
    return run(kill, words("bkill"), submits=False)


def kill(arguments: list[str]) -> int:
    options, ids = query(arguments, ("J", "s", "u", "q", "m", "g"))
    jobs = visible(CLEAN_PERIOD)
    if not ids and ("0" in arguments or "J" in options):
        ids = [str(job.id) for job in jobs if not job.ended and matches_name(job, job.tasks[0], options.get("J"))]
        if not ids:
            print("No matching job found", file=sys.stderr)
            return REFUSED
    if not ids:
        print("Job ID or an option is needed.\nUsage: bkill [-J name] jobId...", file=sys.stderr)
        return REFUSED
    code = 0
    for text in ids:
        found = chosen(jobs, text)
        alive = [(job, task) for job, task in found if task.state in {"queued", "running"}]
        if not found:
            print(f"Job <{text}>: No matching job found", file=sys.stderr)
        elif not alive:
            print(f"Job <{text}>: Job has already finished", file=sys.stderr)
        elif "s" in options:  # by name without SIG, or by number; the job goes on unless it ends by it
            for pid in (pid for _, task in alive if task.pid for pid in session_members(task.pid)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number(options["s"]))
            print(f"Job <{text}> is being signaled")
            continue
        else:
            ask("cancel", [(job.id, task.idx) for job, task in alive])
            print(f"Job <{text}> is being terminated")
            continue
        code = REFUSED
    return code


def number(name: str) -> int:
    return int(name) if name.isdigit() else signal.Signals[f"SIG{name.removeprefix('SIG')}"]


def bparams() -> int:
    return run(parameters, words("bparams"), submits=False)


def parameters(arguments: list[str]) -> int:
    if not {"-a", "-l"} & set(arguments):
        print("Default Queues:  normal\nMBD_SLEEP_TIME used for calculations:  10 seconds")
        print("Job Checking Interval:  7 seconds\nJob Accepting Interval:  0 seconds")
        return 0
    # a site has always a limit; one whose limit is 1 has no arrays worth the name
    limit = max(1, array_limit(LIMIT))
    print("lsb.params configuration at Wed Nov 25 12:00:00\n")
    print("    DEFAULT_QUEUE = normal\n    MBD_SLEEP_TIME = 10 (seconds)")
    print(f"    CLEAN_PERIOD = {int(setting('keep_completed', CLEAN_PERIOD))} (seconds)")
    print(f"    MAX_JOB_ARRAY_SIZE = {limit}\n    JOB_TERMINATE_INTERVAL = {int(setting('kill_delay', 2.0))} (seconds)")
    return 0


def report(job: Job, task: Task, end: dict[str, Any]) -> tuple[str, str]:
    """LSF's words about an end: what comes before a job's output, and what comes behind it."""
    data = job.data
    ended = task._replace(**end, state="ended")
    number = f"{job.id}[{task.idx}]" if job.is_array else str(job.id)
    how = stat(job, ended)
    said = "Successfully completed." if how == "DONE" else f"Exited with exit code {exit_code(ended) or 0}."
    if end["reason"] in TERMINATED:
        said = f"{TERMINATED[end['reason']]}.\n{said}"
    name = title(job, task)
    looked = Path(data["copy"]).read_text(encoding="utf-8", errors="replace") if data["script"] else data["command"]
    line = "-" * 60
    submitted = time.ctime(job.submitted)
    before = f"""Sender: LSF System <lsfadmin@{HOST}>
Subject: Job {number}: <{name}> in cluster <{HOST}> {"Done" if how == "DONE" else "Exited"}

Job <{name}> was submitted from host <{HOST}> by user <{data["user"]}> in cluster <{HOST}> at {submitted}
Job was executed on host(s) <{HOST}>, in queue <{data["queue"]}>, as user <{data["user"]}>
Started at {time.ctime(end["started"])}
Terminated at {time.ctime(end["ended"])}

Your job looked like:

{line}
# LSBATCH: User input
{looked.rstrip()}
{line}

{said}

Resource usage summary:

    Run time :                                   {int(end["ended"] - end["started"])} sec.

The output (if any) follows:

"""
    after = "" if data["err"] is None else f"\nPS:\n\nRead file <{data['err']}> for stderr output of this job.\n"
    return before, after.replace(INDEX, str(task.idx))

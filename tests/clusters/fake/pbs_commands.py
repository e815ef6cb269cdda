"""PBS Professional's (OpenPBS's) qsub, qstat, qdel, qselect and qmgr. The manual pages are named in README.md."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from typing import Any

import pbs_family as family
from client import (
    HOST,
    RefusedError,
    UnknownOptionError,
    array_limit,
    clock,
    program_error,
    ranges,
    read_options,
    run,
    setting,
)
from cluster import ID, INDEX, Job, Task, ask, visible

KNOWN = "a:A:c:C:e:fGhIj:J:k:l:m:M:N:o:p:P:q:r:R:S:u:v:VW:XzB"
HISTORY = 14 * 86400.0  # job_history_duration: two weeks
LIMIT = 10_000  # max_array_size
OVER_WALLTIME, OVER_MEMORY = -29, -27  # JOB_EXEC_KILL_WALLTIME, JOB_EXEC_KILL_MEM
UNKNOWN, FINISHED = 153, 35  # PBSE_UNKJOBID 15001, PBSE_HISTJOBID 15139, each & 255
VERSION = "23.06.06"
QUEUED_COMMENT = "Not Running: Insufficient amount of resource: ncpus"


def words(program: str) -> dict[str, tuple[str, int]]:
    return {
        "refuse": ("qsub: Unauthorized Request", 159),
        "busy": ("qsub: would exceed complex's per-user limit of jobs in 'Q' state", 38),
        "down": (f"Connection refused\n{program}: cannot connect to server {HOST} (errno=111)", 111),
        "lost_answer": ("qsub: Batch protocol error", 183),
    }


def version() -> bool:
    if sys.argv[1:] == ["--version"]:
        print(f"pbs_version = {VERSION}")
        return True
    return False


def qsub() -> int:
    return 0 if version() else run(submit, words("qsub"), submits=True)


def submit(arguments: list[str]) -> int:
    options, script, path = family.options_of("qsub", arguments, KNOWN, ("#PBS",))
    name = options.get("N") or os.path.basename(path)[:236] or "STDIN"
    if "N" in options and not re.fullmatch(r"[A-Za-z0-9+_-][A-Za-z0-9+_.-]{0,235}", name):
        program_error("qsub: illegal -N value\n" + family.usage("qsub", KNOWN))
    illegal = RefusedError("qsub: illegal -J value\n" + family.usage("qsub", KNOWN), 2)
    array, parallel = family.indices(options["J"], lambda: illegal) if "J" in options else ([], 0)
    if "J" in options and len(array) < 2:
        raise illegal
    if len(array) > array_limit(LIMIT):
        raise RefusedError("qsub: Array job exceeds server or queue size limit", 3)
    own = {
        "PBS_JOBID": f"{ID}.{HOST}",
        "PBS_SERVER": HOST,
        "PBS_O_SYSTEM": "Linux",
        "PBS_JOBDIR": os.environ.get("HOME", "/"),
        "NCPUS": "1",
        "OMP_NUM_THREADS": "1",
    }
    label = f"{ID}"
    if array:
        own |= {
            "PBS_JOBID": f"{ID}[{INDEX}].{HOST}",
            "PBS_ARRAY_INDEX": INDEX,
            "PBS_ARRAY_ID": f"{ID}[].{HOST}",
        }
        label = f"{ID}.{INDEX}"
    for letter in {"o", "e"} & set(options):
        options[letter] = options[letter].replace("^array_index^", INDEX)
    options.setdefault("q", "workq")
    number = family.queue_job(
        options,
        script,
        arguments,
        name=name,
        array=array,
        parallel=parallel,
        env=family.environment(options, name, own),
        default=(f"{name}.o{label}", f"{name}.e{label}"),
        in_folder=(f"{own['PBS_JOBID']}.OU", f"{own['PBS_JOBID']}.ER"),
        more={"direct": "d" in options.get("k", ""), "rerunnable": bool(array) or options.get("r", "y") != "n"},
    )
    if "z" not in options:
        print(family.job_id(number, array=bool(array)))
    return 0


def state(job: Job, task: Task) -> str:
    if task.state == "queued":
        return "H" if job.data["hold"] else "Q"
    if task.state == "running":
        return "E" if task.stopping else "R"
    return "F" if job.ended or not job.is_array else "X"


def array_state(job: Job) -> str:
    if job.ended:
        return "F"
    if all(task.state == "queued" and not task.attempt for task in job.tasks):
        return "H" if job.data["hold"] else "Q"
    return "B"


def status_of(task: Task) -> int | None:
    if task.pid is None and task.reason == "cancelled":
        return None  # it never ran
    return family.exit_status(task, {"walltime": OVER_WALLTIME, "memory": OVER_MEMORY})


def array_status(job: Job) -> int:
    return int(any(status_of(task) for task in job.tasks if task.reason != "cancelled"))  # UG 8.4.6


def comment(job: Job, task: Task | None) -> str:
    started = [item.started for item in job.tasks if item.started] if task is None else [task.started]
    if not started or started[0] is None:
        before = QUEUED_COMMENT
    else:
        at = time.strftime("%a %b %d at %H:%M", time.localtime(min(filter(None, started))))
        before = f"Job Array Began at {at}" if task is None else f"Job run at {at} on ({HOST}:ncpus=1)"
    if task is None:
        return before + (" and finished" if job.ended else "")
    if task.state != "ended":
        return before
    if task.reason == "cancelled":
        return before + " and terminated"
    return before + (" and finished" if not status_of(task) else " and failed")


def attributes(job: Job, task: Task | None) -> dict[str, Any]:
    """What qstat -f shows of a job, of an array as a whole (no task), or of a subjob; dictionaries for lists of it."""
    data = job.data
    index = str(task.idx) if task else "^array_index^"
    letter = state(job, task) if task else array_state(job)
    ended = task.ended if task else max((item.ended or 0 for item in job.tasks), default=0) if job.ended else None
    started = task.started if task else min((item.started for item in job.tasks if item.started), default=None)
    place = lambda path: f"{HOST}:{path.replace(INDEX, index)}"  # noqa: E731
    out, err = data["out"], data["out"] if data["err"] is None else data["err"]
    shown: dict[str, Any] = {"Job_Name": data["name"], "Job_Owner": f"{data['user']}@{HOST}"}
    if task and started:
        used = clock((ended or time.time()) - started)
        shown["resources_used"] = {"cpupercent": 0, "cput": "00:00:00", "mem": "0kb", "ncpus": 1, "walltime": used}
    shown |= {
        "job_state": letter,
        "queue": data["queue"],
        "server": HOST,
        "Checkpoint": "u",
        "ctime": family.when(job.submitted),
        "Error_Path": place(err),
    }
    if task and started:
        shown |= {"exec_host": f"{HOST}/0", "exec_vnode": f"({HOST}:ncpus=1)"}
    walltime = {"walltime": clock(data["walltime"])} if data["walltime"] else {}
    shown |= {
        "Hold_Types": "u" if data["hold"] else "n",
        "Join_Path": data["join"],
        "Keep_Files": "n",
        "Mail_Points": "a",
        "mtime": family.when(ended or started or job.submitted),
        "Output_Path": place(out),
        "Priority": 0,
        "qtime": family.when(job.submitted),
        "Rerunable": str(data["rerunnable"]),
        "Resource_List": {"ncpus": 1, "nodect": 1, "place": "pack", "select": "1:ncpus=1", **walltime},
    }
    if started:
        shown["stime"] = family.when(started)
        if task and task.pid:
            shown["session_id"] = task.pid
    substate = {"Q": 10, "H": 20, "R": 42, "E": 51, "B": 42, "X": 92, "F": 92}[letter]
    if task and letter in "FX":
        substate = 91 if task.reason == "cancelled" else 93 if status_of(task) else 92
    shown |= {
        "substate": substate,
        "Variable_List": {name: value for name, value in data["env"].items() if name.startswith("PBS_O_")},
        "comment": comment(job, task),
        "etime": family.when(job.submitted),
        "run_count": task.attempt if task else 0,
    }
    if letter in "FX":
        status = status_of(task) if task else array_status(job)
        if status is not None:
            shown["Exit_status"] = status
    shown |= {"Submit_arguments": data["submit_args"], "project": "_pbs_project_default", "Submit_Host": HOST}
    if letter == "F":
        shown["history_timestamp"] = int(ended or 0)
    return shown | array_attributes(job, task)


def array_attributes(job: Job, task: Task | None) -> dict[str, Any]:
    """What an array has more than a job, and a subjob too."""
    if not job.is_array:
        return {}
    if task:
        return {"array_id": family.job_id(job, array=True), "array_index": task.idx}
    count = lambda *states: sum(item.state in states for item in job.tasks)  # noqa: E731
    expired = count("ended", "vanished")
    return {
        "array": "True",
        "array_state_count": f"Queued:{count('queued')} Running:{count('running')} Exiting:0 Expired:{expired} ",
        "array_indices_submitted": ranges(job.data["array"]),
        "array_indices_remaining": ranges([item.idx for item in job.tasks if item.state == "queued"]),
        **({"max_run_subjobs": job.data["parallel"]} if job.data["parallel"] else {}),
    }


def flat(attributes: dict[str, Any]) -> dict[str, str]:
    """As qstat -f writes it without -F json."""
    lines: dict[str, str] = {}
    for name, value in attributes.items():
        if name == "Variable_List":
            lines[name] = ",".join(f"{key}={item}" for key, item in value.items())
        elif isinstance(value, dict):
            lines |= {f"{name}.{key}": str(item) for key, item in value.items()}
        else:
            lines[name] = str(value)
    return lines


def qstat() -> int:
    return 0 if version() else run(status, words("qstat"), submits=False)


def status(arguments: list[str]) -> int:
    try:
        options, ids = read_options(arguments, "1aBD:EfF:GHiJMnpqQrsStTu:wW:x")
    except UnknownOptionError as error:
        program_error(f"qstat: {error}\nusage: qstat [-f [-F json]] [-x] [-t] [id...]")
    history = "x" in options or "H" in options
    jobs = visible(HISTORY)
    shown: list[tuple[str, Job, Task | None]] = []
    code = 0
    for name in ids or [str(job.id) for job in jobs if history or not job.ended]:
        found = entries(jobs, name, expand="t" in options)
        full = name if "." in name else f"{name}.{HOST}"
        if not found:
            print(f"qstat: Unknown Job Id {full}", file=sys.stderr)
            code = UNKNOWN
        elif found[0][1].ended and not history:
            message = "Job has finished, use -x or -H to obtain historical job information"
            print(f"qstat: {full} {message}", file=sys.stderr)
            code = FINISHED
        else:
            shown += found
    if "u" in options:
        shown = [entry for entry in shown if entry[1].data["user"] in options["u"].split(",")]
    if options.get("F", "").lower() == "json":
        if shown or not ids:
            answer: dict[str, Any] = {"timestamp": int(time.time()), "pbs_version": VERSION, "pbs_server": HOST}
            if shown:
                answer["Jobs"] = {name: attributes(job, task) for name, job, task in shown}
            print(json.dumps(answer, indent=4))
    elif "f" in options:
        blocks = (
            family.attributes_text(f"Job Id: {name}", flat(attributes(j, t)), "w" in options) for name, j, t in shown
        )
        print("\n".join(blocks), end="\n" if shown else "")
    else:
        table(shown)
    return code


def table(shown: list[tuple[str, Job, Task | None]]) -> None:
    if shown:
        print("Job id            Name             User              Time Use S Queue")
        print("----------------  ---------------- ----------------  -------- - -----")
    for name, job, task in shown:
        letter = state(job, task) if task else array_state(job)
        used = "00:00:00" if task and task.started else "       0"
        cut = name if len(name) <= 17 else name[:16] + "*"
        print(f"{cut:17} {job.data['name'][:15]:16} {job.data['user'][:15]:16}  {used} {letter} {job.data['queue']:16}")


def entries(jobs: list[Job], text: str, *, expand: bool) -> list[tuple[str, Job, Task | None]]:
    """Name, job and task of each line that an id stands for; an array's elements follow the array."""
    wanted = family.parse_id(text)
    job = next((job for job in jobs if wanted and job.id == wanted[0]), None)
    if not wanted or job is None:
        return []
    alive = [task for task in job.tasks if task.state != "vanished"]
    if not job.is_array:
        return [(family.job_id(job), job, task) for task in alive]
    if wanted[1] is None:
        whole: list[tuple[str, Job, Task | None]] = [(family.job_id(job, array=True), job, None)] if alive else []
        return whole + [(family.job_id(job, str(t.idx), array=True), job, t) for t in alive if expand]
    return [(family.job_id(job, str(task.idx), array=True), job, task) for task in alive if task.idx in wanted[1]]


def qdel() -> int:
    return 0 if version() else run(delete, words("qdel"), submits=False)


def delete(arguments: list[str]) -> int:
    try:
        _, ids = read_options(arguments, "W:x")
    except UnknownOptionError as error:
        program_error(f"qdel: {error}\nusage: qdel [-W force] [-x] id...")
    if not ids:
        program_error("usage: qdel [-W force] [-x] id...")
    jobs = visible(HISTORY)
    code = 0
    for name in ids:
        found = [entry for entry in entries(jobs, name, expand=True) if entry[2]]
        full = name if "." in name else f"{name}.{HOST}"
        if not found:
            print(f"qdel: Unknown Job Id {full}", file=sys.stderr)
            code = UNKNOWN
        elif all(task.state == "ended" for _, _, task in found):
            print(f"qdel: Job has finished {full}", file=sys.stderr)
            code = FINISHED
        alive = [(job.id, task.idx) for _, job, task in found if task.state in {"queued", "running"}]
        if alive:
            ask("cancel", alive)
    return code


def qselect() -> int:
    return 0 if version() else run(select, words("qselect"), submits=False)


def select(arguments: list[str]) -> int:
    try:
        options, _ = read_options(arguments, "a:A:c:h:HJl:N:p:P:q:r:s:t:Tu:x")
    except UnknownOptionError as error:
        program_error(f"qselect: {error}\nusage: qselect [-u user] [-N name] [-s states] [-x]")
    for job in visible(HISTORY):
        letter = array_state(job) if job.is_array else state(job, job.tasks[0])
        wanted = (
            options.get("N", job.data["name"]) == job.data["name"]
            and job.data["user"] in options.get("u", job.data["user"]).split(",")
            and letter in options.get("s", letter)
            and (not job.ended or "x" in options or "H" in options)
        )
        if wanted and any(task.state != "vanished" for task in job.tasks):
            print(family.job_id(job, array=job.is_array))
    return 0


def qmgr() -> int:
    return 0 if version() else run(manage, words("qmgr"), submits=False)


def manage(arguments: list[str]) -> int:
    options, _ = read_options(arguments, "ac:enz")
    request = options.get("c", "").split()
    limit = setting("max_array_size", LIMIT)
    if request[:1] and request[0].lower() in {"p", "print"} and request[1:2] in (["server"], ["s"]):
        print(
            "#\n# Create queues and set their attributes.\n#\n#\n# Create and define queue workq\n#\ncreate queue workq"
        )
        print("set queue workq queue_type = Execution\nset queue workq enabled = True\nset queue workq started = True")
        print("#\n# Set server attributes.\n#\nset server scheduling = True\nset server default_queue = workq")
        print(f"set server max_array_size = {limit}\nset server job_history_enable = True")
        return 0
    if request[:1] and request[0].lower() in {"l", "list"} and request[1:2] in (["server"], ["s"]):
        print(f"Server {HOST}\n    server_state = Active\n    server_host = {HOST}\n    scheduling = True")
        print(f"    default_queue = workq\n    max_array_size = {limit}\n    pbs_version = {VERSION}")
        print("    job_history_enable = True\n")
        return 0
    print(f"qmgr: Syntax error: {options.get('c', '')}", file=sys.stderr)
    return 1

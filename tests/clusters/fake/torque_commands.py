"""TORQUE's qsub, qstat, qdel and qmgr. The manual pages are named in README.md."""

from __future__ import annotations

import os
import re
import sys
import time

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
    split,
    user,
)
from cluster import ID, INDEX, Job, Task, ask, visible

KNOWN = "a:A:b:c:C:d:D:e:fF:hIj:k:K:l:L:m:M:nN:o:p:P:q:r:S:t:T:u:v:Vw:W:xXz"
KEEP = 300.0  # keep_completed, seconds
LIMIT = 100_000
OVER_WALLTIME, OVER_MEMORY = -11, -10  # JOB_EXEC_OVERLIMIT_WT, JOB_EXEC_OVERLIMIT_MEM
DELETED = 271  # 256 + SIGTERM, also for a job that never ran
UNKNOWN, BAD_STATE = 153, 170  # PBSE_UNKJOBID, PBSE_BADSTATE, each & 255

FULL = (
    "qsub: submit error (Maximum number of jobs already in queue for user MSG=total number of current user's jobs "
    "exceeds the queue limit: user {user}@{host}, queue batch)"
)


def words(program: str) -> dict[str, tuple[str, int]]:
    return {
        "refuse": ("qsub: submit error (Unauthorized Request  MSG=user not allowed here)", 159),
        "busy": (FULL.format(user=user(), host=HOST), 228),
        "down": (
            "\n".join(
                (
                    f"Cannot connect to default server host '{HOST}' - check pbs_server daemon.",
                    f"{program}: cannot connect to server {HOST} (errno=111) Connection refused",
                )
            ),
            111,
        ),
        "lost_answer": ("qsub: submit error (Time out)", 237),
    }


def qsub() -> int:
    if sys.argv[1:] == ["--version"]:
        print("Version: 6.1.3\nCommit: fake")
        return 0
    return run(submit, words("qsub"), submits=True)


def submit(arguments: list[str]) -> int:
    options, script, path = family.options_of("qsub", arguments, KNOWN, ("#PBS",))
    name = options.get("N") or os.path.basename(path)[:15] or "STDIN"
    if "N" in options and not re.fullmatch(r"[A-Za-z][^\s]{0,14}", name):
        program_error("qsub: illegal -N value\n" + family.usage("qsub", KNOWN))
    bad = RefusedError("qsub: submit error (Bad Job Array Request)", 235)
    array, parallel = family.indices(options["t"], lambda: bad) if "t" in options else ([], 0)
    if array and array_limit(LIMIT) == 0:
        raise RefusedError("qsub: submit error (Queue does not allow job arrays)", 241)
    if len(array) > array_limit(LIMIT):
        raise RefusedError(
            "qsub: submit error (Bad Job Array Request MSG=Requested array size too large, "
            f"limit is {array_limit(LIMIT)})",
            235,
        )
    own = {"PBS_JOBID": f"{ID}.{HOST}", "PBS_SERVER": HOST, "PBS_O_SERVER": HOST, "PBS_VERSION": "TORQUE-6.1.3"}
    label = f"{ID}"
    if array:
        own |= {"PBS_JOBID": f"{ID}[{INDEX}].{HOST}", "PBS_ARRAYID": INDEX}
        label = f"{ID}-{INDEX}"
        for letter in {"o", "e"} & set(options):
            options[letter] = options[letter].replace("$PBS_ARRAYID", INDEX)
    env = family.environment(options, f"{name}-{INDEX}" if array else name, own)
    names = (f"{name}.o{label}", f"{name}.e{label}")
    number = family.queue_job(
        options,
        script,
        arguments,
        name=name,
        array=array,
        parallel=parallel,
        env=env,
        default=names,
        in_folder=names,
        suffix=f"-{INDEX}",
        more={"script_arguments": split(options.get("F", ""))},
    )
    if "z" not in options:
        print(family.job_id(number, array=bool(array)))
    return 0


def state(job: Job, task: Task) -> str:
    if task.state == "queued":
        return "H" if job.data["hold"] else "Q"
    return "C" if task.state == "ended" else "E" if task.stopping else "R"


def array_state(job: Job) -> str:
    states = [state(job, task) for task in job.tasks if task.state != "vanished"]
    return next((letter for letter in "RQHE" if letter in states), "C")


def status_of(task: Task) -> int | None:
    if task.state == "ended" and task.reason == "cancelled" and task.pid is None:
        return DELETED
    return family.exit_status(task, {"walltime": setting("walltime_status", OVER_WALLTIME), "memory": OVER_MEMORY})


def attributes(job: Job, task: Task | None) -> dict[str, str]:
    """What qstat -f shows of a job, of an array as a whole (no task), or of its element."""
    data = job.data
    element = job.is_array and task is not None
    index = str(task.idx) if task else ""
    place = lambda path: f"{HOST}:{path.replace(INDEX, index)}"  # noqa: E731
    out, err = data["out"], data["out"] if data["err"] is None else data["err"]
    shown = {
        "Job_Name": f"{data['name']}-{index}" if element else data["name"],
        "Job_Owner": f"{data['user']}@{HOST}",
        "job_state": state(job, task) if task else array_state(job),
        "queue": data["queue"],
        "server": HOST,
        "Checkpoint": "u",
        "ctime": family.when(job.submitted),
        "Error_Path": place(os.path.join(err, data["default_err"]) if os.path.isdir(err) else err),
        "Hold_Types": "u" if data["hold"] else "n",
        "Join_Path": data["join"],
        "Keep_Files": "n",
        "Mail_Points": "a",
        "mtime": family.when((task and (task.ended or task.started)) or job.submitted),
        "Output_Path": place(os.path.join(out, data["default_out"]) if os.path.isdir(out) else out),
        "Priority": "0",
        "qtime": family.when(job.submitted),
        "Rerunable": str(data["rerunnable"]),
    }
    if task and task.started:
        shown["exec_host"] = f"{HOST}/0"
        used = (task.ended or time.time()) - task.started
        shown |= {"resources_used.cput": "00:00:00", "resources_used.walltime": clock(used)}
    if data["walltime"]:
        shown["Resource_List.walltime"] = clock(data["walltime"])
    if task and task.started and task.state == "running" and task.pid:
        shown["session_id"] = str(task.pid)
    variables = [f"{name}={value}" for name, value in data["env"].items() if name.startswith("PBS_O_")]
    shown["Variable_List"] = ",".join(variables)
    shown["euser"] = data["user"]
    shown["queue_type"] = "E"
    shown["etime"] = family.when(job.submitted)
    if task and task.state == "ended" and status_of(task) is not None:
        shown["exit_status"] = str(status_of(task))
    shown["submit_args"] = data["submit_args"]
    if task and task.started:
        shown["start_time"] = family.when(task.started)
        shown["start_count"] = str(task.attempt)
    if task and task.ended:
        shown["comp_time"] = family.when(task.ended)
    if element:
        shown["job_array_id"] = index
    if job.is_array:
        shown["job_array_request"] = ranges(data["array"]) + (f"%{data['parallel']}" if data["parallel"] else "")
    shown |= {"fault_tolerant": "False", "job_radix": "0", "submit_host": HOST, "init_work_dir": data["cwd"]}
    return shown


def qstat() -> int:
    if sys.argv[1:] == ["--version"]:
        print("Version: 6.1.3\nCommit: fake")
        return 0
    return run(status, words("qstat"), submits=False)


def status(arguments: list[str]) -> int:
    try:
        options, ids = read_options(arguments, "1acCefGiMnqQrRstu:W:x")
    except UnknownOptionError as error:
        program_error(f"qstat: {error}\nusage: qstat [-f [-1]] [-t] [id...]")
    jobs = visible(KEEP)
    shown: list[tuple[str, Job, Task | None]] = []
    code = 0
    for name in ids or [str(job.id) for job in jobs]:
        found = entries(jobs, name, expand="t" in options)
        if not found and ids:
            full = name if "." in name else f"{name}.{HOST}"
            print(f"qstat: Unknown Job Id Error {full}", file=sys.stderr)
            code = UNKNOWN
        shown += found
    if "u" in options:
        shown = [entry for entry in shown if entry[1].data["user"] in options["u"].split(",")]
    if "f" in options:
        one = "1" in options
        print("\n".join(family.attributes_text(f"Job Id: {n}", attributes(j, t), one) for n, j, t in shown), end="")
        print("\n" if shown else "", end="")
        return code
    if shown:
        print("Job ID                    Name             User            Time Use S Queue")
        print("------------------------- ---------------- --------------- -------- - -----")
    for name, job, task in shown:
        title = f"{job.data['name']}-{task.idx}" if task and job.is_array else job.data["name"]
        letter = state(job, task) if task else array_state(job)
        used = "00:00:00" if task and task.started else "       0"
        print(f"{name:25} {title[:16]:16} {job.data['user'][:15]:15} {used} {letter} {job.data['queue']:14}")
    return code


def entries(jobs: list[Job], text: str, *, expand: bool) -> list[tuple[str, Job, Task | None]]:
    """Name, job and task of each line that an id stands for."""
    wanted = family.parse_id(text)
    job = next((job for job in jobs if wanted and job.id == wanted[0]), None)
    if not wanted or job is None:
        return []
    alive = [task for task in job.tasks if task.state != "vanished"]
    if not job.is_array:
        return [(family.job_id(job), job, task) for task in alive]
    if wanted[1] is None and not expand:
        return [(family.job_id(job, array=True), job, None)] if alive else []
    chosen = [task for task in alive if wanted[1] is None or task.idx in wanted[1]]
    return [(family.job_id(job, str(task.idx), array=True), job, task) for task in chosen]


def qdel() -> int:
    return run(delete, words("qdel"), submits=False)


def delete(arguments: list[str]) -> int:
    try:
        options, ids = read_options(arguments, "abcm:pt:W:")
    except UnknownOptionError as error:
        program_error(f"qdel: {error}\nusage: qdel [-t array_range] id...")
    if not ids:
        program_error("usage: qdel [-t array_range] id...")
    jobs = visible(KEEP)
    code = 0
    chosen = (
        family.indices(options["t"], lambda: RefusedError("qdel: illegal -t value", 2))[0] if "t" in options else None
    )
    for name in [str(job.id) for job in jobs if not job.ended] if ids == ["all"] else ids:
        found = [entry for entry in entries(jobs, name, expand=True) if entry[2]]
        found = [entry for entry in found if chosen is None or entry[2].idx in chosen]
        full = name if "." in name else f"{name}.{HOST}"
        if not found:
            print(f"qdel: nonexistent job id: {full}", file=sys.stderr)
            code = UNKNOWN
        elif all(task.state == "ended" for _, _, task in found):
            print(
                f"qdel: Request invalid for state of job MSG=invalid state for job - COMPLETE {full}", file=sys.stderr
            )
            code = BAD_STATE
        alive = [(job.id, task.idx) for _, job, task in found if task.state in {"queued", "running"}]
        if alive:
            ask("cancel", alive)
    return code


def qmgr() -> int:
    return run(manage, words("qmgr"), submits=False)


def manage(arguments: list[str]) -> int:
    options, _ = read_options(arguments, "ac:enz")
    request = options.get("c", "").split()
    limit = setting("max_array_size", 0)
    if request[:1] and request[0].lower() in {"p", "print"} and request[1:2] in (["server"], ["s"]):
        print(
            "#\n# Create queues and set their attributes.\n#\n#\n# Create and define queue batch\n#\ncreate queue batch"
        )
        print("set queue batch queue_type = Execution\nset queue batch enabled = True\nset queue batch started = True")
        print("#\n# Set server attributes.\n#\nset server scheduling = True\nset server default_queue = batch")
        print(f"set server keep_completed = {int(setting('keep_completed', KEEP))}")
        if limit:
            print(f"set server max_job_array_size = {limit}")
        print("set server next_job_number = 1")
        return 0
    if request[:1] and request[0].lower() in {"l", "list"} and request[1:2] in (["server"], ["s"]):
        print(f"Server {HOST}\n\tserver_state = Active\n\tscheduling = True\n\tdefault_queue = batch")
        print(f"\tkeep_completed = {int(setting('keep_completed', KEEP))}")
        if limit:
            print(f"\tmax_job_array_size = {limit}")
        print("\tpbs_version = 6.1.3")
        return 0
    print(f"qmgr: Syntax error - cannot process {options.get('c', '')!r}", file=sys.stderr)
    return 1

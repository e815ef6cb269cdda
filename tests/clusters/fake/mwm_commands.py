"""Moab Workload Manager's msub, showq, checkjob, canceljob and mjobctl, on TORQUE. The manual is named in README.md."""

from __future__ import annotations

import os
import re
import sys
import time
import xml.etree.ElementTree as ET

import pbs_family as family
import torque_commands as torque
from client import HOST, RefusedError, UnknownOptionError, array_limit, clock, read_options, run, setting
from cluster import ID, INDEX, Job, Task, ask, visible

KNOWN = "a:A:c:C:d:D:e:EF:hIj:k:K:l:m:M:N:o:p:P:q:r:S:t:u:v:VW:w:x:z"
KEEP = 86400.0  # JOBCPURGETIME
LIMIT = 100_000
SERVER = f"{HOST}:42559"


def words(program: str) -> dict[str, tuple[str, int]]:
    full = torque.words("msub")["busy"][0]
    return {
        "refuse": ("ERROR:    job rejected by policy", 1),
        "busy": (f"ERROR:    cannot submit job - {full}", 1),
        "down": (f"ERROR:    cannot connect to server - communication error {SERVER} (could not connect to server)", 1),
        "lost_answer": (f"ERROR:  client timed out after 30 seconds (hostname:port={SERVER})", 1),
    }


def prefix() -> str:
    return setting("id_prefix", "")  # a site's Moab may say Moab.12


def label(job: Job, task: Task | None = None) -> str:
    return f"{prefix()}{job.id}[{task.idx}]" if task and job.is_array else f"{prefix()}{job.id}"


def msub() -> int:
    if sys.argv[1:] == ["--version"]:
        print("moab client version 9.1.3 (revision fake)")
        return 0
    return run(submit_job, words("msub"), submits=True)


def submit_job(arguments: list[str]) -> int:
    options, script, path = family.options_of("msub", arguments, KNOWN, ("#MSUB", "#PBS"))
    name = options.get("N") or os.path.basename(path)[:15] or "STDIN"
    array: list[int] = []
    parallel = 0
    if "t" in options:
        found = re.fullmatch(r"([^\[\]]*)\[([\d,:\-]+)\](%\d+)?", options["t"])
        bad = RefusedError(f"ERROR:    invalid job array specification '{options['t']}'", 1)
        if not found:
            raise bad
        name = found[1] or name
        array, parallel = family.indices(found[2] + (found[3] or ""), lambda: bad)
        if array_limit(LIMIT) == 0:
            raise RefusedError("ERROR:    job arrays are not enabled (ENABLEJOBARRAYS is FALSE)", 1)
        if len(array) > array_limit(LIMIT):
            limit = array_limit(LIMIT)
            raise RefusedError(f"ERROR:    cannot create job array - {len(array)} sub-jobs, the limit is {limit}", 1)
    if not re.fullmatch(r"[A-Za-z][^\s]{0,14}", name) and ("N" in options or "t" in options):
        raise RefusedError(f"ERROR:    cannot submit job - qsub: illegal -N value ({name})", 1)
    own = {"PBS_JOBID": f"{ID}[{INDEX}].{HOST}" if array else f"{ID}.{HOST}", "PBS_SERVER": HOST}
    if {"V", "E"} & set(options):
        own |= {"MOAB_JOBID": f"{prefix()}{ID}[{INDEX}]" if array else f"{prefix()}{ID}", "MOAB_JOBNAME": name}
        if array:
            own |= {"MOAB_JOBARRAYINDEX": INDEX, "MOAB_JOBARRAYRANGE": str(len(array))}
    end = f"{ID}-{INDEX}" if array else ID
    names = (f"{name}.o{end}", f"{name}.e{end}")
    number = family.queue_job(
        options,
        script,
        arguments,
        name=name,
        array=array,
        parallel=parallel,
        env=family.environment(options, name, own),
        default=names,
        in_folder=names,
        suffix=f"-{INDEX}",
    )
    print(f"\n{prefix()}{number}")
    return 0


def state(job: Job, task: Task) -> str:
    if task.state == "queued":
        return "UserHold" if job.data["hold"] else "Idle"
    if task.state == "running":
        return "Canceling" if task.stopping and task.reason == "cancelled" else "Running"
    return "Removed" if task.reason == "cancelled" else "Completed"


def completion(task: Task) -> str:
    code = torque.status_of(task)
    return f"CNCLD({code})" if task.reason == "cancelled" else str(code)


def element(job: Job, task: Task) -> ET.Element:
    """A job as showq and checkjob write it in XML."""
    data = job.data
    shown = {"Account": "default", "Class": data["queue"]}
    ended = task.state == "ended"
    if ended:
        shown |= {"CompletionCode": completion(task), "CompletionTime": str(int(task.ended or 0))}
    if task.started:
        used = (task.ended or time.time()) - task.started
        shown = {"AWDuration": str(int(used)), **shown, "DRMJID": f"{label(job, task)}.{HOST}"}
    shown |= {
        "EEDuration": "0",
        "GJID": label(job),
        "Group": data["user"],
        "JobID": label(job, task),
        "JobName": data["name"],
    }
    if task.started:
        shown |= {"MasterHost": HOST, "PAL": "torque"}
    shown |= {
        "ReqAWDuration": str(data["walltime"] or 3600),
        "ReqProcs": "1",
        "StartPriority": "1",
        "StartTime": str(int(task.started or 0)),
        "State": state(job, task),
        "SubmissionTime": str(int(job.submitted)),
        "SuspendDuration": "0",
        "User": data["user"],
    }
    return ET.Element("job", shown)


def long_options(arguments: list[str]) -> tuple[list[str], set[str]]:
    """What is left for getopt, and the names of --options."""
    return (
        [word for word in arguments if not word.startswith("--")],
        {word[2:].partition("=")[0] for word in arguments if word.startswith("--")},
    )


def showq() -> int:
    return run(show, words("showq"), submits=False)


def show(arguments: list[str]) -> int:
    rest, long = long_options(arguments)
    try:
        options, _ = read_options(rest, "bcigl:no:p:rR:su:vw:")
    except UnknownOptionError as error:
        raise RefusedError(f"ERROR:    showq: {error}", 1) from None
    who = options.get("u") or dict(part.partition("=")[::2] for part in options.get("w", "").split(",")).get("user")
    tasks = [(job, task) for job in visible(KEEP) for task in job.tasks if task.state != "vanished"]
    tasks = [(job, task) for job, task in tasks if who in {None, job.data["user"]}]
    queues = {"active": ("running",), "eligible": ("queued",), "blocked": ()}
    if "c" in options:
        queues = {"completed": ("ended",)}
    parts = {
        name: [(j, t) for j, t in tasks if t.state in states and not held(j, t)] for name, states in queues.items()
    }
    if "blocked" in parts:
        parts["blocked"] = [(j, t) for j, t in tasks if held(j, t)]
    if "xml" not in long:
        return table(parts)
    root = ET.Element("Data")
    ET.SubElement(root, "Object").text = "queue"
    ET.SubElement(root, "cluster", {"LocalActiveNodes": "1", "LocalConfigNodes": "1", "time": str(int(time.time()))})
    for name, entries in parts.items():
        queue = ET.SubElement(root, "queue", {"count": str(len(entries)), "option": name})
        if name == "completed":
            queue.set("purgetime", str(int(setting("keep_completed", KEEP))))
        queue.extend(element(job, task) for job, task in entries)
    print(ET.tostring(root, encoding="unicode"))
    return 0


def held(job: Job, task: Task) -> bool:
    return bool(job.data["hold"]) and task.state == "queued"


def table(parts: dict[str, list[tuple[Job, Task]]]) -> int:
    for name, entries in parts.items():
        print(f"\n{name} jobs------------------------")
        last = "CCODE" if name == "completed" else "STATE"
        print(f"{'JOBID':18} {'USERNAME':>10} {last:>10} PROCS   REMAINING            STARTTIME\n")
        for job, task in entries:
            word = completion(task) if name == "completed" else state(job, task)
            start = f"     1 {'1:00:00':>11} {family.when(task.started)}"
            print(f"{label(job, task):18} {job.data['user']:>10} {word:>10}{start}")
        print(f"\n{len(entries)} {name} job{'' if len(entries) == 1 else 's'}")
    total = sum(len(entries) for entries in parts.values())
    print(f"\nTotal job{'' if total == 1 else 's'}:  {total}\n")
    return 0


def find(text: str) -> list[tuple[Job, Task]]:
    """Jobs and tasks that an id stands for."""
    wanted = family.parse_id(text)
    tasks = [(j, t) for j in visible(KEEP) for t in j.tasks if wanted and j.id == wanted[0] and t.state != "vanished"]
    if wanted and wanted[1] is not None:
        tasks = [(job, task) for job, task in tasks if task.idx in wanted[1]]
    return tasks


def checkjob() -> int:
    return run(check, words("checkjob"), submits=False)


def check(arguments: list[str]) -> int:
    rest, long = long_options(arguments)
    options, ids = read_options(rest, "Al:m:n:q:r:vw:")
    code = 0
    if ids == ["ALL"]:
        ids = [label(job) for job in visible(KEEP)]
    root = ET.Element("Data")
    for text in ids:
        found = find(text)
        if not found:
            print(f"ERROR:  invalid job specified ({text})\n", file=sys.stderr)
            code = 1
        elif "xml" in long:
            root.extend(element(job, task) for job, task in found)
        elif found[0][0].is_array and not (family.parse_id(text) or (0, None))[1]:
            describe_array(found)
        else:
            describe(*found[0], verbose="v" in options)
    if "xml" in long and len(root):
        print(ET.tostring(root, encoding="unicode"))
    return code


def describe(job: Job, task: Task, *, verbose: bool) -> None:
    print(f"job {label(job, task)}\n\nAName: {job.data['name']}")
    at = time.strftime("%a %b %d %H:%M:%S", time.localtime(task.ended or 0))
    ended = f" Completion Code: {completion(task)}  Time: {at}" if task.state == "ended" else ""
    print(f"State: {state(job, task)}{ended}")
    print(f"Creds:  user:{job.data['user']}  group:{job.data['user']}  class:{job.data['queue']}")
    used = (task.ended or time.time()) - task.started if task.started else 0
    print(f"WallTime:   {clock(used)} of {clock(job.data['walltime'] or 3600)}")
    print(f"SubmitTime: {family.when(job.submitted)}")
    if task.started:
        print(f"StartTime: {family.when(task.started)}")
    print("Total Requested Tasks: 1\n\nReq[0]  TaskCount: 1  Partition: torque")
    if task.started:
        print(f"\nAllocated Nodes:\n[{HOST}:1]")
    print(f"\nSystemID:   Moab\nSystemJID:  {label(job, task)}")
    if verbose:
        print(f"SubmitArgs: {job.data['submit_args']}\nOutput File: {job.data['out'].replace(INDEX, str(task.idx))}")
    if task.reason == "walltime":
        print("Message[0] job exceeded wallclock limit")
    print()


def describe_array(found: list[tuple[Job, Task]]) -> None:
    job = found[0][0]
    print(f"job {label(job)}\n\nAName: {job.data['name']}\nJob Array Info:\n  Name: {label(job)}")
    for item, task in found:
        print(f"  {task.idx} : {label(item, task)} : {state(item, task)}")
    count = {word: sum(task.state == word for _, task in found) for word in ("running", "queued", "ended")}
    print(f"\n  Sub-jobs:  {len(found)}\n    Active:    {count['running']}\n    Eligible:  {count['queued']}")
    print(f"    Blocked:   0\n    Complete:  {count['ended']}\n")


def canceljob() -> int:
    return run(cancel, words("canceljob"), submits=False)


def cancel(arguments: list[str]) -> int:
    rest, _ = long_options(arguments)
    _, ids = read_options(rest, "h")
    code = 0
    for text in ids:
        alive = [(job, task) for job, task in find(text) if task.state in {"queued", "running"}]
        if not alive:
            print(f"ERROR:  invalid job specified ({text})\n", file=sys.stderr)
            code = 1
            continue
        ask("cancel", [(job.id, task.idx) for job, task in alive])
        for job, task in alive:
            print(f"\njob '{label(job, task)}' cancelled\n")
    return code


def mjobctl() -> int:
    return run(control, words("mjobctl"), submits=False)


def control(arguments: list[str]) -> int:
    """Mjobctl -c ID... (cancel), -F ID (cancel by force), -R ID (requeue)."""
    action, ids = arguments[:1], arguments[1:]
    if action in (["-c"], ["-F"]):
        return cancel(ids)
    if action == ["-R"]:
        for text in ids:
            for job, task in find(text):
                ask("requeue", [(job.id, task.idx)])
                print(f"\njob '{label(job, task)}' requeued\n")
        return 0
    print("ERROR:    mjobctl: use -c, -F or -R", file=sys.stderr)
    return 1

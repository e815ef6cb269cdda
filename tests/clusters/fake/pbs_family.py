"""What TORQUE, PBS Pro and Moab's msub share: qsub's options, a job's environment, attributes as qstat writes them."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from client import (
    HOST,
    RefusedError,
    UnknownOptionError,
    directives,
    interpreter,
    program_error,
    read_options,
    seconds,
    split,
    user,
)
from cluster import INDEX, Job, Task, submit

LOGIN_PATH = "/usr/local/bin:/usr/bin:/bin"
PASSED_ON = ("HOME", "LANG", "LOGNAME", "PATH", "MAIL", "SHELL", "TZ")  # of the submitter, as PBS_O_…


def executable(line: str) -> bool:
    """Whether a line ends the directives: it is neither blank nor a comment."""
    return bool(line.strip()) and not line.lstrip().startswith(("#", ":"))


def options_of(
    program: str, words: list[str], known: str, prefixes: tuple[str, ...]
) -> tuple[dict[str, str], str, str]:
    """Options of the command line over those of the script; the script's text and path ("" for stdin)."""
    try:
        given, left = read_options(words, known)
    except UnknownOptionError as error:
        program_error(f"{program}: {error}\n{usage(program, known)}")
    if len(left) > 1:
        program_error(usage(program, known))
    path = left[0] if left and left[0] != "-" else ""
    script = read_script(program, path)
    prefix = (given["C"],) if given.get("C") else prefixes
    wanted: dict[str, str] = {}
    for line in directives(script, prefix, executable):
        try:
            found, rest = read_options(split(line), known)
        except UnknownOptionError as error:
            raise RefusedError(f"{program}: {error}\n{program}: directive error: {line.strip()}", 1) from None
        if rest:
            raise RefusedError(f"{program}: directive error: {line.strip()}", 1)
        wanted |= join_resources(wanted, found)
    return wanted | join_resources(wanted, given), script, path


def join_resources(before: dict[str, str], new: dict[str, str]) -> dict[str, str]:
    """Resource lists add up: -l nodes=1 and -l walltime=60 are both meant; of the same one the later counts."""
    if "l" not in new or "l" not in before:
        return new
    lists = {item.partition("=")[0]: item for text in (before["l"], new["l"]) for item in text.split(",")}
    return {**new, "l": ",".join(lists.values())}


def usage(program: str, known: str) -> str:
    return f"usage: {program} " + " ".join(
        f"[-{letter}{' value' if known[i + 1 : i + 2] == ':' else ''}]"
        for i, letter in enumerate(known)
        if letter != ":"
    )


def read_script(program: str, path: str) -> str:
    if not path:
        return sys.stdin.buffer.read().decode(errors="surrogateescape")
    try:
        return Path(path).read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        raise RefusedError(f"{program}: script file '{path}' cannot be loaded - No such file or directory", 1) from None
    except OSError as error:
        raise RefusedError(f"{program}: script file '{path}' cannot be loaded - {error.strerror}", 1) from None


def walltime(options: dict[str, str]) -> int | None:
    found = re.search(r"(?:^|,)walltime=([\d:.]+)", options.get("l", ""))
    return seconds(found[1]) if found else None


def environment(options: dict[str, str], name: str, own: dict[str, str]) -> dict[str, str]:
    """A login's variables, PBS's own, and of the submitter only what -v and -V name."""
    mine = os.environ
    passed = dict(mine) if "V" in options else {}
    for item in filter(None, re.split(r",(?=[A-Za-z_]\w*(?:=|,|$))", options.get("v", ""))):
        variable, has_value, value = item.partition("=")
        if has_value:
            passed[variable] = value.strip("\"'")
        elif variable in mine:
            passed[variable] = mine[variable]
    login = {
        "HOME": mine.get("HOME", "/"),
        "USER": user(),
        "LOGNAME": user(),
        "SHELL": "/bin/bash",
        "PATH": LOGIN_PATH,
        "LANG": mine.get("LANG", "C"),
    }
    origin = {f"PBS_O_{variable}": mine[variable] for variable in PASSED_ON if variable in mine}
    pbs = {
        **origin,
        "PBS_O_HOST": HOST,
        "PBS_O_WORKDIR": os.getcwd(),
        "PBS_O_QUEUE": options.get("q", "batch"),
        "PBS_ENVIRONMENT": "PBS_BATCH",
        "PBS_JOBNAME": name,
        "PBS_QUEUE": options.get("q", "batch"),
        "PBS_NODENUM": "0",
        "PBS_TASKNUM": "1",
    }
    return login | passed | pbs | own


def output_path(options: dict[str, str], letter: str, default: str) -> str:
    """Absolute path of -o or -e, without its host."""
    path = options.get(letter, default)
    if ":" in path:
        path = path.split(":", 1)[1]
    return os.path.join(os.getcwd(), path)


def indices(text: str, bad: Callable[[], Exception]) -> tuple[list[int], int]:
    """The indices of 1-3,7%2 (1-9:2 has a step), and how many may run at once, 0 for no limit."""
    body, _, parallel = text.partition("%")
    found: set[int] = set()
    for part in body.split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+)(?::(\d+))?)?", part)
        if not match or (match[2] and int(match[2]) < int(match[1])):
            raise bad()
        found |= set(range(int(match[1]), int(match[2] or match[1]) + 1, int(match[3] or 1)))
    if parallel and not (parallel.isdigit() and int(parallel)):
        raise bad()
    return sorted(found), int(parallel or 0)


def queue_job(
    options: dict[str, str],
    script: str,
    words: list[str],
    *,
    name: str,
    array: list[int],
    parallel: int,
    env: dict[str, str],
    default: tuple[str, str],  # names of stdout and stderr
    in_folder: tuple[str, str],  # the same for a path that is a folder
    suffix: str = "",  # what an array's element appends to a path of its own
    more: dict[str, Any] | None = None,
) -> int:
    """Put a job of this family into the queue."""
    out, err = output_path(options, "o", default[0]), output_path(options, "e", default[1])
    if array and suffix:
        out = out if "o" not in options or os.path.isdir(out) or INDEX in out else out + suffix
        err = err if "e" not in options or os.path.isdir(err) or INDEX in err else err + suffix
    joined = options.get("j", "n")
    if joined == "eo":
        out = err
    data = {
        "name": name,
        "user": user(),
        "queue": options.get("q", "batch"),
        "argv": interpreter(script, options.get("S", "/bin/bash").split("@")[0]),
        "script": True,
        "cwd": os.path.join(os.getcwd(), options["d"]) if "d" in options else env["HOME"],
        "workdir": os.getcwd(),
        "env": env,
        "node_files": {"PBS_NODEFILE": HOST + "\n"},
        "out": out,
        "err": None if joined in {"oe", "eo"} else err,
        "join": joined,
        "default_out": in_folder[0],
        "default_err": in_folder[1],
        "array": array,
        "parallel": parallel,
        "walltime": walltime(options),
        "resources": options.get("l", ""),
        "rerunnable": options.get("r", "y") != "n",
        "hold": "h" in options,
        "cancel_signals": ["TERM", "KILL"],
        "limit_signals": ["TERM", "KILL"],
        "submit_args": " ".join(words),
        **(more or {}),
    }
    return submit(data, script.encode(errors="surrogateescape"))


def parse_id(text: str) -> tuple[int, list[int] | None, bool] | None:
    """Number, indices (None for all) and whether brackets were there, of 12, 12.host, 12[].host, 12[3]."""
    found = re.fullmatch(r"(?:Moab\.)?(\d+)(\[(\d*)(?:-(\d+))?\])?(?:[.@].*)?", text)
    if not found:
        return None
    if not found[3]:
        return int(found[1]), None, found[2] is not None
    return int(found[1]), list(range(int(found[3]), int(found[4] or found[3]) + 1)), True


def exit_status(task: Task, special: dict[str, int]) -> int | None:
    """What the server notes: the exit code, 256 + the signal, or a number of its own for what the batch system did."""
    if task.reason in special:
        return special[task.reason]
    if task.signal is not None:
        return 256 + task.signal
    return task.code


def when(at: float | None) -> str:
    return time.ctime(at) if at else ""


def attributes_text(title: str, attributes: dict[str, str], one_line: bool) -> str:
    """A block of qstat -f: lines are folded before column 80, and go on behind a tab."""
    lines = [title]
    for name, value in attributes.items():
        line = f"    {name} = {value}"
        lines += [line] if one_line else fold(line)
    return "\n".join(lines) + "\n"


def fold(line: str) -> list[str]:
    """At commas where there are any, else anywhere."""
    lines = []
    while len(line) > 79:
        cut = line.rfind(",", 8, 79) + 1 or 79
        lines.append(line[:cut])
        line = "\t" + line[cut:]
    return [*lines, line]


def job_id(job: Job | int, index: str = "", *, array: bool = False) -> str:
    number = job.id if isinstance(job, Job) else job
    return f"{number}[{index}].{HOST}" if array else f"{number}.{HOST}"

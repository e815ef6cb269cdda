"""Flux's batch, jobs and cancel. The manual pages are named in README.md: [F]."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from client import RefusedError, interpreter, run, user
from cluster import ID, Job, Task, ask, submit, visible

BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
KEEP = 7 * 86400.0  # inactive-age-limit, as in the guide for administrators
VALUED = {
    "-n": "nslots",
    "-N": "nodes",
    "-c": "cores-per-slot",
    "-g": "gpus-per-slot",
    "-t": "time-limit",
    "-q": "queue",
    "-B": "bank",
    "-o": "setopt",
    "-S": "setattr",
}
LONG = {
    *VALUED.values(),
    *("job-name", "output", "error", "input", "cwd", "urgency", "env", "env-remove", "env-file", "flags"),
    *("requires", "dependency", "begin-time", "signal", "conf", "broker-opts", "add-file", "rlimit", "taskmap"),
}
FLAGS = {"-x", "--exclusive", "-u", "--unbuffered", "-l", "--label-io", "-v", "--verbose", "--quiet", "--dry-run"}
UNITS = {"": 60.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
SENTINEL = re.compile(r"^([^\w]*)((?:flux|FLUX):)(.*)$")
NO_BROKER = "Unable to connect to Flux: broker socket /run/flux/local was not found"


def flux() -> int:
    command = sys.argv[1] if len(sys.argv) > 1 else ""
    commands = {"batch": batch, "jobs": jobs, "cancel": cancel}
    if command not in commands:
        print(f"flux: `{command}' is not a flux command.  See 'flux --help'", file=sys.stderr)
        return 1
    return run(lambda given: commands[command](given[1:]), words(command), submits=command == "batch")


def words(command: str) -> dict[str, tuple[str, int]]:
    error = f"flux-{command}: ERROR:"
    return {
        "refuse": (f"{error} [Errno 22] 'nope' is not a valid queue", 1),
        "busy": (f"{error} [Errno 22] job submission to batch is disabled: maintenance", 1),
        "down": (f"{error} {NO_BROKER}", 1),
        "lost_answer": (f"{error} Connection reset by peer", 1),
    }


def refused(message: str, code: int = 1) -> RefusedError:
    return RefusedError(f"flux-batch: {message}", code)


def encode(number: int) -> str:
    """F58 of RFC 19: with the sign of the florin, unless the locale or a variable forbids it."""
    digits = ""
    while number or not digits:
        number, digit = divmod(number, 58)
        digits = BASE58[digit] + digits
    return ("f" if os.environ.get("FLUX_F58_FORCE_ASCII") else "ƒ") + digits


def decode(text: str) -> int:
    if text.isdigit():
        return int(text)
    if not re.fullmatch(rf"[fƒ][{BASE58}]+", text):
        raise RefusedError(f"flux-cancel: error: argument JOBID...: invalid JobID value: '{text}'", 2)
    number = 0
    for digit in text[1:]:
        number = number * 58 + BASE58.index(digit)
    return number


def batch(given: list[str]) -> int:
    of_the_call, rest = read(given)
    if not rest:
        raise refused("ERROR: this fake reads no script from stdin")
    path = Path(rest[0])
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise refused(f"ERROR: {error.strerror}: '{path}'") from None
    except UnicodeError:
        raise refused(f"ERROR: {path} does not appear to be a script, or failed to encode as utf-8") from None
    options: dict[str, str] = {}
    for line_number, line in directives(text, str(path)):
        try:
            options |= read(line)[0]
        except RefusedError as error:
            message = f"{error}\nflux-batch: ERROR: argument parsing failed at {path} line {line_number}"
            raise RefusedError(message, 2) from None
    options |= of_the_call
    if not options.get("nslots") and not options.get("nodes"):
        raise refused("ERROR: Number of slots to allocate must be specified")
    if not text.startswith("#!"):
        raise refused(f"ERROR: {path} does not appear to start with '#!'")
    cwd = os.path.join(os.getcwd(), options.get("cwd", ""))
    name = options.get("job-name", rest[0])
    out = template(options.get("output", "flux-{{id}}.out"), cwd)
    err = template(options["error"], cwd) if "error" in options else None
    # what a batch script sees: its broker takes the variables of other schedulers away, and those of its own job
    kept = {
        key: value for key, value in os.environ.items() if not re.match(r"FLUX_(JOB|TASK)_|(SLURM|PMIX?|PALS)_", key)
    }
    number = submit(
        {
            "name": name,
            "user": user(),
            "argv": interpreter(text, "/bin/sh"),
            "script": True,
            "cwd": cwd,
            "env": {
                **kept,
                "FLUX_URI": "local:///tmp/flux-fake/local-0",
                # here the number: its F58 is not known before the submission, and flux takes both
                "FLUX_ENCLOSING_ID": f"{ID}",
            },
            "out": out,
            "err": err,
            "default_out": "",
            "default_err": "",
            "direct": True,
            "array": [],
            "walltime": limit(options["time-limit"]) if "time-limit" in options else None,
            "rerunnable": False,
            "hold": options.get("urgency") in {"0", "hold"},
            # to its broker; the script gets SIGHUP of that
            "cancel_signals": ["HUP", "KILL"],
            "limit_signals": ["HUP", "KILL"],
        },
        text.encode(),
    )
    if "quiet" not in options:
        print(encode(number))
    return 0


def template(text: str, cwd: str) -> str:
    """A path with the tags of the job's id and nothing else."""
    return os.path.join(cwd, re.sub(r"\{\{(?:id|jobid)(?:\.\w+)?\}\}", f"f{ID}", text))


def limit(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text)
    if not found:
        raise refused(f"ERROR: invalid duration: {text}")
    return float(found[1]) * UNITS[found[2]]


def directives(text: str, path: str) -> list[tuple[int, list[str]]]:
    """Words of each directive with its line's number, as RFC 36 has it, but for texts of several lines."""
    found: list[tuple[int, list[str]]] = []
    sentinel, prefix, last = "", "", 0
    over = False
    for number, line in enumerate(text.splitlines(), start=1):
        match = SENTINEL.match(line)
        if not match:
            if sentinel and not over and line.strip() and not line.startswith(prefix.rstrip()):
                over, last = True, number - 1
            continue
        if over:
            why = f"orphan '{match[2]}' detected: directives disabled after line {last}"
            raise refused(f"ERROR: {path}: line {number}: {why}")
        if sentinel and match[1] + match[2] != sentinel:
            why = f"sentinel changed from '{sentinel}' to '{match[1]}{match[2]}'"
            raise refused(
                f"ERROR: {path}: line {number}: {why}\n\nAll directives in a file must use the same sentinel."
            )
        sentinel, prefix = match[1] + match[2], match[1]
        try:
            parts = shlex.split(match[3], comments=True)
        except ValueError as error:
            raise refused(f"ERROR: {path}: line {number}: {match[3]}: {error}") from None
        if parts and not parts[0].startswith("-"):
            raise refused(f"ERROR: {path}: line {number}: Unknown directive: {match[3]}")
        found.append((number, parts))
    return found


def read(given: list[str]) -> tuple[dict[str, str], list[str]]:
    """Options by their long names, and what comes behind them: the script and its arguments."""
    found: dict[str, str] = {}
    rest = list(given)
    while rest and rest[0].startswith("-") and rest[0] != "--":
        option = rest.pop(0)
        name, has_value, value = option.partition("=")
        if option in FLAGS:
            found[option.lstrip("-")] = ""
        elif name.startswith("--") and name[2:] in LONG:
            found[name[2:]] = value if has_value else next_of(rest, option)
        elif option[:2] in VALUED:
            found[VALUED[option[:2]]] = option[2:] or next_of(rest, option)
        else:
            raise refused(f"error: unrecognized arguments: {option}", 2)
    return found, rest[1:] if rest[:1] == ["--"] else rest


def next_of(rest: list[str], option: str) -> str:
    if not rest:
        raise refused(f"error: argument {option}: expected one argument", 2)
    return rest.pop(0)


def jobs(given: list[str]) -> int:
    """The one form that is used here: -a --count=0 --json, with --since and --user."""
    options = dict(word.partition("=")[::2] for word in given)
    if "--json" not in options:
        raise RefusedError("flux-jobs: ERROR: this fake answers in JSON only", 1)
    since = 0.0
    if "--since" in options:
        since = datetime.strptime(options["--since"], "%Y-%m-%d %H:%M").astimezone().timestamp()
        if since > time.time():
            raise RefusedError(f"flux-jobs: ERROR: --since={options['--since']} appears to be in the future", 1)
    records = [
        record(job, task)
        for job in visible(KEEP)
        for task in job.tasks
        if task.state != "vanished" and (task.ended or time.time()) >= since
        if options.get("--user", job.data["user"]) in {"all", job.data["user"]}
        if "-a" in options or task.state != "ended"
    ]
    print(json.dumps({"jobs": records}))
    return 0


def record(job: Job, task: Task) -> dict[str, Any]:
    """What JobInfo.to_dict has of a job, without what is not known."""
    known: dict[str, Any] = {
        "name": job.data["name"],
        "id": job.id,
        "t_submit": job.submitted,
        "username": job.data["user"],
    }
    exception: dict[str, Any] = {"occurred": False}
    if task.state != "ended":
        state = "SCHED" if task.state == "queued" else "RUN"
        return {**known, "state": state, "status": state, "annotations": {}, "exception": exception}
    code = 128 + task.signal if task.signal else task.code
    result = "COMPLETED" if code == 0 else "FAILED"
    if task.reason in {"cancelled", "walltime"}:
        result, kind, note = {
            "cancelled": ("CANCELED", "cancel", ""),
            "walltime": ("TIMEOUT", "timeout", "resource allocation expired"),
        }[task.reason]
        exception = {"occurred": True, "severity": 0, "type": kind, "note": note}
    ended = {"result": result, "status": result, "success": result == "COMPLETED"}
    ran = {"waitstatus": code << 8, "returncode": code} if code is not None else {"returncode": -128}
    return {**known, "state": "INACTIVE", **ended, **ran, "annotations": {}, "exception": exception}


def cancel(given: list[str]) -> int:
    ids = [decode(word) for word in given if not word.startswith("-")]
    if not ids:
        raise RefusedError("flux-cancel: ERROR: No target jobs were provided", 1)
    known = {job.id: job for job in visible(KEEP)}
    code = 0
    for number in ids:
        job = known.get(number)
        if job is None or job.ended:
            why = "unknown job id" if job is None else "job is inactive"
            print(f"flux-cancel: ERROR: {encode(number)}: {why}", file=sys.stderr)
            code = 1
        else:
            ask("cancel", [(number, None)])
    return code

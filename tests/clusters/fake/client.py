"""What the commands of all dialects do alike: keep a log, go wrong when a test wants them to, read options."""

from __future__ import annotations

import contextlib
import fcntl
import getopt
import getpass
import json
import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NoReturn

from cluster import setting, spool

HOST = "cluster"  # of the server, and so the end of an id


class RefusedError(Exception):
    """Ends a command with a message on stderr and an exit code."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


def user() -> str:
    return getpass.getuser()


def run(command: Callable[[list[str]], int], words: dict[str, tuple[str, int]], submits: bool) -> int:
    """Run a command as its program: log it, let it go wrong if that is wanted, print its refusal.

    words: message and exit code for ``refuse``, ``busy``, ``down`` and ``lost_answer`` in this dialect.
    """
    log()
    name = Path(sys.argv[0]).name
    if trouble("hang", name) is not None:
        time.sleep(1e9)
    if trouble("down", name) is not None:
        return fail(*words["down"])
    if trouble("garbage", name) is not None:
        print("\x00\x7fWARNING!! kernel: nfs: server home not responding, still trying\n<<<")
        return 0
    lost = submits and trouble("lost_answer", name) is not None
    try:
        if submits:
            refuse(name, words)
        if lost:
            with open(os.devnull, "w", encoding="utf-8") as null, contextlib.redirect_stdout(null):
                command(sys.argv[1:])
            return fail(*words["lost_answer"])
        return command(sys.argv[1:])
    except RefusedError as refusal:
        return fail(str(refusal), refusal.code)
    except BrokenPipeError:
        return 141


def fail(message: str, code: int) -> int:
    print(message.format(user=user(), host=HOST) if "{" in message else message, file=sys.stderr)
    return code


def refuse(name: str, words: dict[str, tuple[str, int]]) -> None:
    message, code = words["refuse"]
    if (wanted := trouble("refuse", name)) is not None:
        raise RefusedError(wanted or message, code)
    if trouble("busy", name) is not None:
        raise RefusedError(*words["busy"])


def log() -> None:
    line = json.dumps({"time": time.time(), "argv": [Path(sys.argv[0]).name, *sys.argv[1:]], "cwd": os.getcwd()})
    with (spool() / "commands.log").open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def trouble(kind: str, command: str) -> str | None:
    """Whether it is this command's turn to go wrong; the text that comes with it.

    The file ``kind``, or ``kind.command`` for one command alone, may start with a line ``COUNT`` or ``COUNT SKIP``: so
    many times, after so many that go well. Without that: each time.
    """
    with (spool() / "trouble.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name in (f"{kind}.{command}", kind):
            path = spool() / name
            try:
                text = path.read_text(encoding="utf-8")
            except FileNotFoundError:
                continue
            first, _, rest = text.partition("\n")
            numbers = re.fullmatch(r"(\d+)(?: (\d+))?", first.strip())
            if not numbers:
                return text.strip()
            count, skip = int(numbers[1]), int(numbers[2] or 0)
            if skip:
                path.write_text(f"{count} {skip - 1}\n{rest}", encoding="utf-8")
            elif count:
                path.write_text(f"{count - 1}\n{rest}", encoding="utf-8")
                return rest.strip()
        return None


def read_options(words: Iterable[str], known: str) -> tuple[dict[str, str], list[str]]:
    """Options of getopt(3), the last of each counts, and what is left over."""
    try:
        found, left = getopt.getopt(list(words), known)
    except getopt.GetoptError as error:
        raise UnknownOptionError(error.opt, "requires argument" in error.msg) from None
    return {name[1:]: value for name, value in found}, left


class UnknownOptionError(Exception):
    """An option that the dialect has not."""

    def __init__(self, letter: str, lacks_value: bool) -> None:
        what = "option requires an argument" if lacks_value else "invalid option"
        super().__init__(f"{what} -- '{letter}'")


def directives(script: str, prefixes: tuple[str, ...], ends: Callable[[str], bool]) -> Iterable[str]:
    """Directive lines without their prefix, up to the first line that ends them. Only the first column counts."""
    for line in script.splitlines():
        for prefix in prefixes:
            if line.startswith(prefix) and line[len(prefix) :][:1] in {"", " ", "\t"}:
                yield line[len(prefix) :]
                break
        else:
            if ends(line):
                return


def split(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError:
        return line.split()


def interpreter(script: str, default: str) -> list[str]:
    """What runs a script: its first line's choice."""
    first = script.split("\n", 1)[0]
    return first[2:].split() if first.startswith("#!") and first[2:].split() else [default]


def seconds(text: str) -> int:
    """[[days:]hours:]minutes:]seconds, or seconds."""
    total = 0
    for part, factor in zip(reversed(text.split(":")), (1, 60, 3600, 86400), strict=False):
        total += int(part.partition(".")[0] or 0) * factor
    return total


def clock(number: float) -> str:
    number = int(number)
    return f"{number // 3600:02}:{number // 60 % 60:02}:{number % 60:02}"


def ranges(numbers: list[int]) -> str:
    """1-3,5: as PBS Pro writes indices; "-" for none."""
    found: list[list[int]] = []
    for number in numbers:
        if found and found[-1][1] == number - 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ",".join(f"{a}-{b}" if b > a else f"{a}" for a, b in found) or "-"


def array_limit(default: int) -> int:
    return 0 if (spool() / "arrays_off").exists() else setting("max_array_size", default)


def program_error(message: str) -> NoReturn:
    raise RefusedError(message, 2)

"""Share a call of ``mlxpsub`` with the programs of its script: what it tells them, and what they tell it.

A session is a folder, named by a variable that all processes of the script inherit. What has been submitted is also
kept where the next call finds it if this one does not come to its end, so that nothing is submitted twice.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlxp_core.atomic_files import append_line, write_atomic
from mlxp_core.mlxpsub.instrument import COMMAND, SESSION, STARTERS, parallel_launchers
from mlxp_core.mlxpsub.parse import Change, JobScript, TopLevelCommand
from mlxp_core.mlxpsub.placeholders import Placeholders, of_the_submitter, place_variables
from mlxp_core.runs import info
from mlxp_core.runs.layout import LogDir, RunDir
from mlxp_core.runs.process import with_variable
from mlxp_core.runs.submission_record import QueuedJob

# change with every command of a shell
_SHELL_VARIABLES = frozenset({"_", "SHLVL", "PWD", "OLDPWD"})


@dataclass(frozen=True)
class Session:
    """A call of mlxpsub, as the programs of its script know it."""

    folder: Path
    directory: Path  # where the script is run
    scheduler: str
    dry_run: bool
    record: Path  # of what has been submitted
    variables: Placeholders  # that only a job has, with their values here
    script: JobScript
    process: dict[str, Any]  # mlxpsub's

    @property
    def bin(self) -> str:
        """The folder of the stand-ins, which jobs must not have on their PATH."""
        return str(self.folder / "bin")

    def save(self) -> None:
        """Write it down for the programs."""
        plain = {**asdict(self), "script": {**asdict(self.script), "directives": sorted(self.script.directives)}}
        write_atomic(self.folder / "session.json", json.dumps(plain, default=str))

    @classmethod
    def load(cls, folder: Path) -> Session:
        """Read it in a program."""
        plain = json.loads((folder / "session.json").read_text(encoding="utf-8"))
        script = plain["script"]
        parts = tuple(TopLevelCommand(**part) for part in script["parts"])
        texts = {name: tuple(script[name]) for name in ("header", "ignored", "lines")}
        script = JobScript(**{**script, **texts, "directives": frozenset(script["directives"]), "parts": parts})
        paths = {name: Path(plain[name]) for name in ("folder", "directory", "record")}
        return cls(**{**plain, **paths, "variables": Placeholders(**plain["variables"]), "script": script})

    def environment(self) -> dict[str, str]:
        """The variables with which the script is run."""
        places = dict.fromkeys(place_variables(self.script.lines), str(self.directory))
        known = of_the_submitter(self.script.lines)
        given = {**known, **os.environ, **places, **self.variables.values, SESSION: str(self.folder)}
        given["PATH"] = os.pathsep.join([self.bin, *filter(None, [os.environ.get("PATH")])])
        return given

    def emit(self, event: str, **fields: Any) -> None:
        """Tell mlxpsub something; one line, written at once."""
        _append(self.folder / "events", {"event": event, **fields})

    def events(self, event: str) -> list[dict[str, Any]]:
        """All that has been told of one kind, in order."""
        return [entry for entry in _lines(self.folder / "events") if entry["event"] == event]

    def unfinished(self) -> list[dict[str, Any]]:
        """Programs that have started and have not said that they have submitted all."""
        ended = [event["process"] for event in self.events("ended")]
        return [event for event in self.events("started") if event["process"] not in ended]

    @property
    def name(self) -> str:
        """The same for each call with the same script, whose commands then have the same numbers."""
        text = "\n".join([str(self.record), *self.script.lines])
        return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:32]

    def note_programs(self) -> None:
        """Have the jobs that are submitted know which commands of the script are programs'."""
        numbers = sorted({event["number"] for event in self.events("started")})
        runs = [run for event in self.events("submitted") for run in runs_from_json(event["runs"])]
        for log_dir in {run.run.path.parent for run in runs}:
            place = LogDir(log_dir).mlxpsub_scripts / self.name
            with contextlib.suppress(OSError):  # the folder was removed meanwhile, perhaps
                place.parent.mkdir(exist_ok=True)
                with place.open("ab", buffering=0) as file:
                    file.write("".join(f"{number}\n" for number in numbers).encode())

    def unregistered_processes(self) -> dict[int, list[str]]:
        """Processes of the script that still run and have not said that they are programs: pid, and command line."""
        processes = with_variable(SESSION, str(self.folder))
        started = {event["process"]["process_id"] for event in self.events("started")}
        return {pid: command for pid, command in processes.items() if pid not in started}

    def stop(self) -> None:
        """Have no further program submit anything."""
        (self.folder / "stopped").touch()

    @property
    def stopped(self) -> bool:
        """True where no further program is to submit anything."""
        return (self.folder / "stopped").exists()

    def next_occurrence(self, identity: str) -> int:
        """The number of launches of this call that were the same before this one: a line may be in a script twice."""
        number = 0
        while True:
            try:
                os.close(os.open(self.folder / f"{identity}.{number}", os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                number += 1
            else:
                return number

    def record_submission(self, identity: str, number: int, runs: Sequence[QueuedJob]) -> None:
        """Keep what has been submitted until the script has come to its end."""
        self.record.parent.mkdir(parents=True, exist_ok=True)
        _append(self.record, {"identity": identity, "number": number, "time": info.now(), "runs": runs_to_json(runs)})

    def submitted_before(self, identity: str, number: int) -> tuple[str, list[QueuedJob]] | None:
        """Time and runs of the same submission by a call before this one, which did not come to its end."""
        for entry in _lines(self.folder / "before"):
            if (entry["identity"], entry.get("number")) == (identity, number):
                return entry["time"], runs_from_json(entry["runs"])
        return None

    def user_variables(self, variables: Mapping[str, str]) -> dict[str, str]:
        """Variables without what mlxpsub itself has set, and without what was made of it."""
        ours = {SESSION, COMMAND, STARTERS}
        users = {name: value for name, value in variables.items() if name not in ours}
        return self.variables.strip_from(users, self.bin)

    def changes(self, number: int, variables: Mapping[str, str] | None = None) -> dict[str, Change]:
        """The changes of a top-level command to exported variables: all of it, or up to ``variables``.

        But for what it makes of a job's.
        """
        first, then = self._exported_at(number), self._exported_at(number + 1) if variables is None else variables
        if first is None or then is None:
            return {}
        before, after = self.user_variables(first), self.user_variables(then)
        of_a_job = then.keys() - after.keys()
        return {
            name: (before.get(name), after.get(name))
            for name in sorted({*before, *after} - _SHELL_VARIABLES - of_a_job)
            if before.get(name) != after.get(name) and name.isidentifier() and name.isascii()
        }

    def made_of_a_job(self, number: int, variables: Mapping[str, str]) -> list[str]:
        """Names that a top-level command has exported, before ``variables`` were seen, made of what a job has."""
        before = self._exported_at(number) or {}
        known = {SESSION, "PATH", *_SHELL_VARIABLES, *self.variables.values}
        return sorted(
            name
            for name, value in variables.items()
            if name not in known and before.get(name) != value and self.variables.find_in(value)
        )

    def _exported_at(self, number: int) -> dict[str, str] | None:
        """The exported variables when a top-level command began; None where it is not known."""
        try:
            text = os.fsdecode((self.folder / f"variables.{number}").read_bytes())
        except OSError:  # an `env` that cannot, or a full disk
            return None
        return dict(line.split("=", 1) for line in text.split("\0") if "=" in line)

    def make_launcher_shims(self, python: str, program: Path) -> None:
        """Write the programs that stand in for parallel launchers."""
        Path(self.bin).mkdir()
        for name, subcommands in parallel_launchers().items():
            path = Path(self.bin, name)
            call = shlex.join([python, "-I", str(program), self.bin, name, ",".join(subcommands)])
            path.write_text(f'#!/bin/sh\nexec {call} "$@"\n', encoding="utf-8")
            path.chmod(0o755)


def record_path(path: Path, directory: Path, state: Path) -> Path:
    """The file that keeps what a script has submitted from a directory."""
    name = hashlib.sha256(f"{path}\0{directory}".encode(errors="surrogateescape")).hexdigest()
    return state / "sub" / f"{name[:32]}.jsonl"


def stderr_file() -> list[int] | None:
    """An identity of the file that this process writes its errors to, which other processes compare with theirs."""
    try:
        stat = os.fstat(2)
    except OSError:  # closed
        return None
    return [stat.st_dev, stat.st_ino]


def runs_to_json(runs: Sequence[QueuedJob]) -> list[list[Any]]:
    """Runs as values for JSON."""
    return [[str(job.run.path), job.scheduler, job.job_id, job.array_index] for job in runs]


def runs_from_json(runs: Sequence[Sequence[Any]]) -> list[QueuedJob]:
    """Read what runs_to_json has made."""
    return [QueuedJob(RunDir(Path(path)), *job) for path, *job in runs]


def _append(path: Path, entry: Mapping[str, Any]) -> None:
    append_line(path, f"{json.dumps(entry)}\n".encode())


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        try:
            yield json.loads(line)
        except ValueError:  # the end of one that was cut short
            continue

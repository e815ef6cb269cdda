"""One call of ``mlxpsub``: what it tells the programs of the script, and what they tell it.

A folder, named by a variable that all processes of the script inherit. What has been submitted is also kept where the
next call finds it if this one does not come to its end, so that nothing is submitted twice.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlxp_core.files import write_whole
from mlxp_core.jobscript import COMMAND, SESSION, STAND_INS, STARTERS, JobScript, Part
from mlxp_core.layout import RunDir
from mlxp_core.metadata import now
from mlxp_core.notes import Submitted

# change with every command of a shell
_OF_THE_SHELL = frozenset({"_", "SHLVL", "PWD", "OLDPWD", SESSION, COMMAND, STARTERS})


@dataclass(frozen=True)
class Session:
    """What mlxpsub tells the programs of a script."""

    folder: Path
    path: Path  # of the script
    scheduler: str
    dry_run: bool
    record: Path  # of what has been submitted
    site: str  # a folder on PYTHONPATH that jobs must not have
    script: JobScript

    @property
    def bin(self) -> str:
        """The folder of the stand-ins, which jobs must not have on their PATH."""
        return str(self.folder / "bin")

    def save(self) -> None:
        """Write it down for the programs."""
        plain = {name: str(getattr(self, name)) for name in ("path", "scheduler", "record", "site")}
        script = {**asdict(self.script), "directives": sorted(self.script.directives)}
        text = json.dumps({**plain, "dry_run": self.dry_run, "script": script})
        write_whole(self.folder / "session.json", text.encode(errors="surrogatepass"))

    @classmethod
    def load(cls, folder: Path) -> Session:
        """Read it in a program."""
        plain = json.loads((folder / "session.json").read_bytes().decode(errors="surrogatepass"))
        script = plain["script"]
        return cls(
            folder,
            Path(plain["path"]),
            plain["scheduler"],
            plain["dry_run"],
            Path(plain["record"]),
            plain["site"],
            JobScript(
                shebang=script["shebang"],
                header=tuple(script["header"]),
                ignored=tuple(script["ignored"]),
                lines=tuple(script["lines"]),
                offset=script["offset"],
                directives=frozenset(script["directives"]),
                parts=tuple(Part(**part) for part in script["parts"]),
            ),
        )

    def tell(self, event: str, **what: Any) -> None:
        """Tell mlxpsub something; one line, written at once."""
        _append(self.folder / "events", {"event": event, **what})

    def events(self, event: str) -> list[dict[str, Any]]:
        """What has been told."""
        return [one for one in _lines(self.folder / "events") if one["event"] == event]

    def note(self, identity: str, runs: Sequence[Submitted]) -> None:
        """Keep what has been submitted until the script has come to its end."""
        self.record.parent.mkdir(parents=True, exist_ok=True)
        places = [[str(one.run.path), one.scheduler, one.job_id, one.array_index] for one in runs]
        _append(self.record, {"identity": identity, "time": now(), "runs": places})

    def submitted_before(self, identity: str) -> tuple[str, list[Submitted]] | None:
        """When and as what a call before this one, which did not come to its end, has submitted the same.

        Once for each time that it was submitted: the same line may be in a script twice.
        """
        mine = self._claim(identity)
        noted = [one for one in _lines(self.folder / "before") if one["identity"] == identity]
        if mine >= len(noted):
            return None
        runs = [Submitted(RunDir(Path(path)), *rest) for path, *rest in noted[mine]["runs"]]
        return noted[mine]["time"], runs

    def _claim(self, identity: str) -> int:
        """How many launches of this call have been the same before this one."""
        number = 0
        while True:
            try:
                os.close(os.open(self.folder / f"{identity}.{number}", os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                number += 1
            else:
                return number

    def variables(self, number: int) -> dict[str, str] | None:
        """The exported variables when a top-level command began; None where that was not noted."""
        try:
            text = os.fsdecode((self.folder / f"variables.{number}").read_bytes())
        except OSError:
            return None
        return dict(line.split("=", 1) for line in text.split("\0") if "=" in line)

    def own(self, variables: Mapping[str, str]) -> dict[str, str]:
        """Variables without what mlxpsub itself has set."""
        kept = {name: value for name, value in variables.items() if name not in {SESSION, COMMAND, STARTERS}}
        for name, folder in (("PATH", self.bin), ("PYTHONPATH", self.site)):
            if name in kept:
                entries = [entry for entry in kept[name].split(os.pathsep) if entry != folder]
                kept[name] = os.pathsep.join(entries)
                if not any(entries):
                    del kept[name]
        return kept

    def changes(self, number: int, variables: Mapping[str, str]) -> dict[str, str | None]:
        """What a top-level command has changed of the exported variables, before ``variables`` were seen."""
        began = self.variables(number)
        before, after = self.own(variables if began is None else began), self.own(variables)
        names = {*before, *after} - _OF_THE_SHELL
        return {
            name: after.get(name)
            for name in sorted(names)
            if before.get(name) != after.get(name) and name.isidentifier() and name.isascii()
        }


def record_of(path: Path, directory: Path, state: Path) -> Path:
    """Where it is kept what a script has submitted from a directory."""
    name = hashlib.sha256(f"{path}\0{directory}".encode(errors="surrogateescape")).hexdigest()
    return state / "sub" / f"{name[:32]}.jsonl"


def stand_in_text(python: str, program: Path, name: str) -> str:
    """The program that stands in for srun, say."""
    import shlex  # noqa: PLC0415

    return f'#!/bin/sh\nexec {shlex.quote(python)} -I {shlex.quote(str(program))} {name} "$@"\n'


def make_stand_ins(session: Session, python: str, program: Path) -> None:
    """Write the programs that stand in for srun and the like."""
    Path(session.bin).mkdir()
    for name in STAND_INS:
        path = Path(session.bin, name)
        path.write_text(stand_in_text(python, program, name), encoding="utf-8")
        path.chmod(0o755)


def times_noted(path: Path) -> Counter[str]:
    """How often each launch is in a record."""
    return Counter(one["identity"] for one in _lines(path))


def _append(path: Path, what: Mapping[str, Any]) -> None:
    line = json.dumps(what) + "\n"
    with path.open("ab", buffering=0) as file:
        file.write(line.encode())


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

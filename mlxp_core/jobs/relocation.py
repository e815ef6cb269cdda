"""Have a run whose log directory was moved lead to where it is now: its script, its settings, its records.

A path is changed only where it is known what has become of it. What lay in the log directory lies there still. What
lay around it, such as the project that was moved as a whole, has to be gone from the old place and there at the new
one. Whatever else leads to the old place has the run refused, with the line.
"""

from __future__ import annotations

import copy
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mlxp_core.atomic_files import write_atomic
from mlxp_core.errors import ConfigurationError
from mlxp_core.nested import KeyPath, leaves, value_at
from mlxp_core.runs import digest, info
from mlxp_core.runs.layout import RunDir
from mlxp_core.runs.state import RunState
from mlxp_core.scheduler import SCHEDULERS, load_scheduler
from mlxp_core.yaml_io import load_yaml, load_yaml_or_empty, write_yaml

_WORD = re.compile(r"""(?:'[^']*'|"(?:\\.|[^"\\])*"|\\.|[^\s'"\\])+""")
_QUOTED = re.compile(r"""'[^']*'|"(?:\\.|[^"\\])*"|\\.""")
_EXPANDED = re.compile(r"[$`;&|()<>*?\[\]{}~]")  # outside of quotes: more than a word
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*\+?=")
_BEFORE, _AFTER = r"(?<![^\s\"=:,\[\]{}()])", r"(?=$|[/\s'\":,\[\]{}()])"
# of mlxp.yaml
_SETTINGS: tuple[KeyPath, ...] = (("launcher", "launch_dir"), ("launcher", "python"), ("order", "directory"))


@dataclass(frozen=True)
class Relocation:
    """What the files of a run say once they lead to where it is."""

    run: RunDir
    origin: Path  # the folder that it was made in
    script: str
    settings: Mapping[str, Any]
    config: Mapping[str, Any] | None  # None: it stays
    info: Mapping[str, Any]

    def apply(self, state: RunState) -> None:
        """Write them. info.yaml, by which a run is known to have been moved, comes last."""
        write_atomic(self.run.script, self.script)
        self.run.script.chmod(0o755)
        write_yaml(self.run.settings, self.settings)
        part = None if self.config is None else digest.write_config(self.run, self.config)
        digest.write_info(self.run, self.info, config=part, ended=state.has_ended)


def moved_from(state: RunState) -> Path | None:
    """Give the folder in which the run was made, where that is another one."""
    logger, run = state.info.get("logger"), state.run.path
    if not isinstance(logger, dict):
        return None
    folder = Path(str(logger.get("log_dir")))
    inside = folder / run.name  # info.yaml of earlier versions says which folder the run's lies in
    if any(candidate.exists() and candidate.samefile(run) for candidate in (folder, inside)):
        return None
    return folder if folder.name in {run.name, str(logger.get("log_id"))} else inside


def plan_relocation(state: RunState) -> Relocation | None:
    """Tell what a run that was moved says once it leads to where it is; None for one that was not moved.

    Raises ConfigurationError for one that cannot, with the reason. Nothing is written.
    """
    origin = moved_from(state)
    if origin is None:
        return None
    run = state.run
    if origin.exists() and not _is_another(state, RunDir(origin)):
        raise ConfigurationError(f"{origin} has it, too, so this is a copy: submit that one again, or remove it first")
    if origin.name != run.path.name:
        raise ConfigurationError(
            f"it was moved here from {origin} under another name, and its script and records have that one: rename it "
            f"to {origin.name}"
        )
    places = _Places(origin.parent, run.path.parent)
    if run.payload.exists() and os.fsencode(places.old) in run.payload.read_bytes():
        raise ConfigurationError(
            f"it was moved here from {origin}, and its task function was sent as a pickle that leads there: launch anew"
        )
    script = "".join(_moved_lines(run.script.read_text(encoding="utf-8", errors="surrogateescape"), places, state))
    facts = _moved_info(state, places)
    _check_program(facts)
    settings = copy.deepcopy(load_yaml_or_empty(run.settings))
    for path in _SETTINGS:
        if isinstance(value := value_at(settings, path), str):
            settings[path[0]][path[1]] = places.moved_path(value)
    return Relocation(run, origin, script, settings, _moved_config(run, places), facts)


def _is_another(state: RunState, there: RunDir) -> bool:
    """Tell whether the folder has another run by now, of a new log directory at the old place."""
    try:
        submitted = load_yaml(there.info).get("submit_time")
    except (OSError, ValueError):
        return False
    return submitted is not None and submitted != state.info.get("submit_time")


class _Places:
    """The old and the new log directory, and what has moved along with it."""

    def __init__(self, old: Path, new: Path) -> None:
        self.old, self.new = str(old), str(new)
        above = [*zip((old, *old.parents), (new, *new.parents), strict=False)]
        depth = next((index for index, (one, other) in enumerate(above) if one.name != other.name), len(above) - 1)
        self._old_top, self._new_top = above[depth]

    def moved(self, text: str) -> str:
        """A text in which what leads into the old log directory leads into the new one."""
        for pattern, new in self._patterns:
            text = pattern.sub(lambda _, new=new: new, text)  # type: ignore[misc]
        return text

    def leads_there(self, text: str) -> bool:
        """Tell whether something of a text leads into the old log directory."""
        return any(pattern.search(text) for pattern, _ in self._patterns)

    def moved_path(self, text: str) -> str:
        """One path as it is now: in the log directory, or in what has moved along with it."""
        moved = self.moved(text)
        if moved != text or not text.startswith("/"):
            return moved
        path = Path(text)
        if path.is_relative_to(self._old_top) and not os.path.lexists(path):
            there = self._new_top / path.relative_to(self._old_top)
            return str(there) if there.exists() else text
        return text

    def moved_word(self, word: str) -> str:
        """A word of a command as it is now. Values of the configuration outside of the log directory stay."""
        name, equals, value = word.partition("=")
        if equals and (name.startswith("--") or name.isupper()):
            return f"{name}={os.pathsep.join(map(self.moved_path, value.split(os.pathsep)))}"
        return self.moved_path(word)

    @cached_property
    def _patterns(self) -> list[tuple[re.Pattern[str], str]]:
        patterns = []
        # as Hydra has it in quotes, where a quote in it is escaped; and as it is
        for before, quote in (("(?<=')", "\\'"), (_BEFORE, "'")):
            old, new = self.old.replace("'", quote), self.new.replace("'", quote)
            # a directory that was moved into itself
            inner = f"(?!{re.escape(new[len(old) :])}(?:$|/))" if new.startswith(f"{old}/") else ""
            patterns.append((re.compile(f"{before}{re.escape(old)}{inner}{_AFTER}"), new))
        return patterns


def _moved_lines(script: str, places: _Places, state: RunState) -> Iterator[str]:
    """The lines of script.sh. Raises ConfigurationError for one that is more than this understands."""
    for number, line in enumerate(script.splitlines(keepends=True), start=1):
        moved = _moved_directive(line, places, state) if line.startswith("#") else _moved_command(line, places)
        if any(map(places.leads_there, _values(moved))):
            place = f"line {number} of {state.run.script}"
            raise ConfigurationError(f"it was moved here, and {place} still leads to {places.old}: {line.strip()}")
        yield moved


def _values(line: str) -> list[str]:
    """The words of a line without their quotes; the line itself where it is none of words."""
    try:
        return [line] if line.startswith("#") else shlex.split(line)
    except ValueError:
        return [line]


def _moved_command(line: str, places: _Places) -> str:
    def moved_word(found: re.Match[str]) -> str:
        raw = found[0]
        try:
            values = shlex.split(raw)
        except ValueError:
            return raw
        if len(values) != 1 or _EXPANDED.search(_QUOTED.sub("", raw)):
            return raw
        moved = places.moved_word(values[0])
        if moved == values[0]:
            return raw
        name = _ASSIGNMENT.match(raw)
        return f"{name[0]}{shlex.quote(moved[name.end() :])}" if name else shlex.quote(moved)

    return _WORD.sub(moved_word, line)


def _moved_directive(line: str, places: _Places, state: RunState) -> str:
    """A directive that sends the job's output into the run, or a comment."""
    name = state.submission.scheduler or str(value_at(load_yaml_or_empty(state.run.settings), ("order", "scheduler")))
    if name in SCHEDULERS and line.startswith(load_scheduler(name).directives):
        quote = load_scheduler(name).quote_path
        before = RunDir(Path(places.old, state.run.path.name))
        for old, new in ((before.stdout, state.run.stdout), (before.stderr, state.run.stderr)):
            if quoted := quote(str(old), ""):
                line = line.replace(quoted, quote(str(new), "") or "/dev/null")
        return line
    return places.moved(line)


def _moved_info(state: RunState, places: _Places) -> dict[str, Any]:
    facts = copy.deepcopy(dict(state.info))
    if isinstance(command := facts.get("command"), list):
        facts["command"] = [places.moved_word(str(word)) for word in command]
    if isinstance(work_dir := facts.get("work_dir"), str):
        facts["work_dir"] = places.moved_path(work_dir)
    version = facts.get("version_manager")
    for key in ("repo_path", "copy"):
        if isinstance(version, dict) and isinstance(version.get(key), str):
            version[key] = places.moved_path(version[key])
    return info.relocated_info(state.run, facts)


def _moved_config(run: RunDir, places: _Places) -> Mapping[str, Any] | None:
    """The configuration with the values that Hydra has put in for the place of the run; None where it has none.

    Raises ConfigurationError where the user's own values lead to the old place: others are another configuration.
    """
    config, unresolved = load_yaml_or_empty(run.config), load_yaml_or_empty(run.config_unresolved)
    leading = [(path, text) for path, text in leaves(config) if isinstance(text, str) and places.leads_there(text)]
    for path, text in leading:
        above = (value_at(unresolved, path[:depth]) for depth in range(1, len(path) + 1))
        if not any(isinstance(value, str) and "${" in value for value in above):
            key = ".".join(map(str, path))
            raise ConfigurationError(
                f"it was moved here, and its configuration says {key}={text}: launch it anew with where that is now"
            )
        value_at(config, path[:-1], config)[path[-1]] = places.moved(text)
    return config if leading else None


def _check_program(facts: Mapping[str, Any]) -> None:
    command = facts.get("command")
    program = str(command[0]) if isinstance(command, list) and command else ""
    if program.startswith("/") and not os.access(program, os.X_OK):
        raise ConfigurationError(f"it was moved here, and its Python {program} is not there")

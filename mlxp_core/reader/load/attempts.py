"""Join the logs of a run's attempts, where a later one goes on from a checkpoint that this package knows nothing of.

An attempt that has loaded a checkpoint by ``run.load_checkpoint`` has the lines up to it in its own files. One that was
resumed by a trainer from a checkpoint of the trainer's has only what it has logged itself: the beginning lies in
``metadata/attempts``. The two are joined by what counts the steps of a log (runs/steps.py): from its first step on the
later attempt counts, so one that starts anew replaces all. Where ``run.resume_metrics`` has said a step, that is where
the earlier lines end, and in a log without steps its lines are then taken for one a step, if they are as many. Else
such a log is not joined; that its curve begins late is then a problem.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from mlxp_core.atomic_files import load_bytes
from mlxp_core.reader.load import metrics
from mlxp_core.reader.load.file_cache import FileCache
from mlxp_core.reader.load.record import Joins, Part
from mlxp_core.runs.layout import RunDir
from mlxp_core.runs.steps import step_keys

_HOME = RunDir(Path())
_ATTEMPTS = os.fspath(_HOME.attempt_dir(1).path.parent)
_METRICS = os.fspath(_HOME.metrics)
_CONTINUED = os.fspath(_HOME.metrics_continued)
_CONFIG = os.fspath(_HOME.config)
_HEAD_BYTES = 1 << 16  # of a log that goes on: its first step is there, and a running job's is read at each scan


class Resumption(NamedTuple):
    """How the logs of a run are joined, and log names with what is wrong with that."""

    joins: Joins = ()
    problems: tuple[tuple[str, str], ...] = ()


class _Note(NamedTuple):
    """What an attempt has said of those before it."""

    attempt: int = 0  # whose lines its own files begin with; 0: none
    step: float | None = None  # at which it goes on


class _Link(NamedTuple):
    """An attempt whose files are a part of the run's logs; the run itself is attempt 0."""

    attempt: int
    said: float | None  # the step at which it goes on, if it has said one
    same_config: bool  # as the run has now, and as those before it


class _Log(NamedTuple):
    """Lines of a log that count: where they are, and their steps, for each key that counts some."""

    places: Sequence[Part]
    steps: Mapping[str, Sequence[float]]  # a value a line: the last one known, -inf before the first
    problem: str | None = None

    def first(self, key: str) -> float:
        """Give the first step."""
        return next(step for step in self.steps[key] if step > -math.inf)

    def spacing(self, key: str) -> tuple[float, float]:
        """Give the smallest and the largest distance between steps; zeros where there are not two."""
        known = sorted({step for step in self.steps[key] if step > -math.inf})
        apart = [later - earlier for earlier, later in pairwise(known)]
        return (min(apart), max(apart)) if apart else (0.0, 0.0)

    def begins_anew(self, key: str) -> bool:
        """Return True where a key counts from its beginning again, as steps within an epoch do.

        Not where lines of several processes have changed places, or a program has gone back a little.
        """
        first, (apart, _) = self.first(key), self.spacing(key)
        highest = first
        for step in self.steps[key]:
            if -math.inf < step <= first and highest - first > 2 * apart:
                return True
            highest = max(highest, step)
        return False

    def only(self, kept: Sequence[bool]) -> _Log:
        """Give the lines that are kept."""
        places = [place for place, keep in zip(self.places, kept, strict=True) if keep]
        steps = {
            key: [step for step, keep in zip(values, kept, strict=True) if keep] for key, values in self.steps.items()
        }
        return _Log(places, {key: values for key, values in steps.items() if values and values[-1] > -math.inf})


def load_resumption(run: str, attempt: int) -> Resumption:
    """Find how the logs of a run are joined, whose current attempt this is. Raises OSError where that is unreadable."""
    logs: dict[str, _Log] = {}
    for link in _chain(run, _earlier_attempts(run)):
        folder = attempt_path(run, link.attempt) if link.attempt else run
        number = link.attempt or attempt
        own = {name: _load_log(folder, name, link.attempt) for name in metrics.list_logs(folder)[0]}
        own = {name: log for name, log in own.items() if log.places}
        if not logs and number > 1 and link.said != 0:
            logs = {name: log._replace(problem=_begins_late(log, number)) for name, log in own.items()}
        elif own or link.said is not None:  # or else it has died before it came to any step
            logs = _joined(logs, own, link, f"attempt {number}")
    joins = ((name, _ranges(log.places)) for name, log in sorted(logs.items()))
    return Resumption(
        tuple((name, parts) for name, parts in joins if parts),
        tuple((name, log.problem) for name, log in sorted(logs.items()) if log.problem),
    )


def attempt_path(run: str, attempt: int) -> str:
    """Give the folder of an earlier attempt, laid out like a run."""
    return f"{run}/{_ATTEMPTS}/{attempt}"


def load_parts(run: str, log_name: str, parts: Iterable[Part]) -> list[tuple[str, int, bytes]]:
    """Read what comes before a run's own lines: path, number of the first line, and bytes of each. Raises OSError."""
    loaded = []
    for attempt, start, end in parts:
        path = metrics.metric_path(attempt_path(run, attempt), log_name)
        content = load_bytes(path, most=end)
        loaded.append((path, content.count(b"\n", 0, start) + 1, content[start:]))
    return loaded


def parts_of(run: str, log_name: str) -> tuple[Part, ...]:
    """Find what comes before a run's own lines in one log; nothing where that cannot be read."""
    try:
        return dict(load_resumption(run, 0).joins).get(log_name, ()) if _earlier_attempts(run) else ()
    except OSError:
        return ()


def _earlier_attempts(run: str) -> list[int]:
    """Give the numbers of the attempts whose metrics were put aside, in order."""
    try:
        names = os.listdir(f"{run}/{_ATTEMPTS}")  # noqa: PTH208
    except (FileNotFoundError, NotADirectoryError):
        return []
    numbers = [int(name) for name in names if name.isascii() and name.isdigit()]
    return sorted(number for number in numbers if os.path.isdir(f"{attempt_path(run, number)}/{_METRICS}"))  # noqa: PTH112


def _chain(run: str, attempts: Sequence[int]) -> list[_Link]:
    """Give the attempts that the run's logs are of, the earliest first.

    An attempt that has the lines of another in its own files stands for both, and for none between them.
    """
    chain: list[_Link] = []
    attempt, before = 0, math.inf
    while True:
        folder = attempt_path(run, attempt) if attempt else run
        note = _load_note(folder)
        while 0 < note.attempt < before:
            before = note.attempt
            note = _load_note(attempt_path(run, note.attempt))
        chain.append(_Link(attempt, note.step, not attempt or _has_config_of(run, folder)))
        earlier = [number for number in attempts if number < before]
        if not earlier:
            same = [link.same_config for link in chain]
            return [link._replace(same_config=all(same[place:])) for place, link in enumerate(chain)][::-1]
        before = attempt = earlier[-1]


def _has_config_of(run: str, folder: str) -> bool:
    try:
        return load_bytes(f"{folder}/{_CONFIG}") == load_bytes(f"{run}/{_CONFIG}")
    except FileNotFoundError:  # it is put aside only where the next attempt has written its own
        return True


def _load_note(folder: str) -> _Note:
    try:
        state, _ = json.JSONDecoder().raw_decode(load_bytes(f"{folder}/{_CONTINUED}").decode())
        attempt, step = state.get("attempt"), metrics.to_float(state.get("step"))
    except (OSError, ValueError, AttributeError):
        return _Note()
    return _Note(attempt if type(attempt) is int else 0, step)


def _load_log(folder: str, name: str, attempt: int) -> _Log:
    """Read a log of an attempt; of the run's own only what lies before its first steps, as that is what is asked."""
    path = metrics.metric_path(folder, name)
    ends, steps = ((), {}) if attempt else _read_steps(load_bytes(path, most=_HEAD_BYTES))
    if not steps:
        ends, steps = _files.get(path) or ((), {})
    return _Log([(attempt, start, end) for start, end in zip((0, *ends), ends, strict=False)], steps)


def _read_steps(content: bytes) -> tuple[tuple[int, ...], dict[str, list[float]]]:
    """Give the ends of the lines of a metric file, and their steps as _Log has them; pure."""
    lines = content.split(b"\n")[:-1]
    ends: list[int] = []
    for line in lines:
        ends.append((ends[-1] if ends else 0) + len(line) + 1)
    parsed = metrics.read_lines(content)
    rows = {parsed.line_number(index): row for index, row in enumerate(parsed.rows)}
    steps: dict[str, list[float]] = {}
    for key in step_keys(dict.fromkeys(key for row in rows.values() for key in row)):
        last, values = -math.inf, []
        for number in range(1, len(lines) + 1):
            value = metrics.to_float(rows[number].get(key)) if number in rows else None
            last = last if value is None or math.isnan(value) else value
            values.append(last)
        if last > -math.inf:
            steps[key] = values
    return tuple(ends), steps


_files = FileCache(lambda path: _read_steps(load_bytes(path)), max_files=1000)


def _joined(logs: Mapping[str, _Log], own: Mapping[str, _Log], link: _Link, who: str) -> dict[str, _Log]:
    """Put before an attempt's own logs what counts of those before it."""
    kept = {name: _kept(logs[name], own[name], link) for name in logs.keys() & own.keys()}
    known = [lines for lines in kept.values() if lines is not None]
    goes_on = any(map(any, known)) or bool(link.said)
    first = _first_steps(own[name] for name, lines in kept.items() if lines and any(lines))
    joined = {name: log for name, log in own.items() if name not in logs}
    for name, earlier in logs.items():
        later = own.get(name)
        if later is None:  # not yet logged again, or never again
            if goes_on:
                joined[name] = earlier.only(_before(earlier, first, link.said))._replace(problem=earlier.problem)
            continue
        lines = kept[name]
        if lines is not None:
            joined[name] = _together(earlier, lines, later, who)
        elif link.said == 0 or (known and not goes_on):  # it starts anew, by its own word or that of its other logs
            joined[name] = later
        else:
            joined[name] = later._replace(problem=_not_joined(earlier, later, who))
    return joined


def _kept(earlier: _Log, later: _Log, link: _Link) -> list[bool] | None:
    """Say of each earlier line if it still counts, once the later ones are there; None where no step tells."""
    if link.said is not None:
        return _kept_before(earlier, later, link.said)
    keys = _alignment(earlier, later)
    if not keys:
        return None
    values = [later.steps[key] for key in keys]
    first = next(step for step in zip(*values, strict=True) if step[-1] > -math.inf)
    lines = list(zip(*(earlier.steps[key] for key in keys), strict=True))
    kept = [line < first for line in lines]
    goes_on = any(keep and line[-1] > -math.inf for keep, line in zip(kept, lines, strict=True))
    if not goes_on or _is_fresh(earlier, later, keys[-1], link):
        return [False] * len(kept)
    return kept


def _kept_before(earlier: _Log, later: _Log, said: float) -> list[bool] | None:
    if said == 0:
        return [False] * len(earlier.places)
    for key in step_keys(earlier.steps):
        if not earlier.begins_anew(key):
            limit = min(said, later.first(key)) if key in later.steps else said
            return [step < limit for step in earlier.steps[key]]
    return _lines_before(earlier, said)


def _lines_before(log: _Log, said: float) -> list[bool] | None:
    """Take the lines of a log without steps for one a step; None where they are none, as of one each ten steps."""
    if log.steps or said > len(log.places) or said % 1:
        return None
    return [line < said for line in range(len(log.places))]


def _alignment(earlier: _Log, later: _Log) -> tuple[str, ...]:
    """Choose the keys by which lines are ordered: the finest, or epoch and step where the step is one of the epoch."""
    keys = [key for key in step_keys(earlier.steps) if key in later.steps]
    if len(keys) > 1:
        finest, coarsest = keys[0], keys[-1]
        together = all(_first_with(log, finest, coarsest) > -math.inf for log in (earlier, later))
        # an epoch that is counted from the resumption on, beside a step that goes on
        restarts = later.first(coarsest) <= earlier.first(coarsest) and later.first(finest) > earlier.first(finest)
        if together and not earlier.begins_anew(coarsest) and (earlier.begins_anew(finest) or not restarts):
            return coarsest, finest
    return next(((key,) for key in keys if not earlier.begins_anew(key)), ())


def _first_with(log: _Log, finest: str, coarsest: str) -> float:
    """Give the coarser step in the first line that has the finer."""
    pairs = zip(log.steps[finest], log.steps[coarsest], strict=True)
    return next(coarse for fine, coarse in pairs if fine > -math.inf)


def _is_fresh(earlier: _Log, later: _Log, key: str, link: _Link) -> bool:
    """Return True for another configuration that logs from its beginning at other steps: nothing goes on there."""
    apart = later.spacing(key)[0]
    return not link.same_config and later.first(key) <= apart != earlier.spacing(key)[0]


def _first_steps(logs: Iterable[_Log]) -> dict[str, float]:
    """Give the steps at which logs that are joined go on, for each key."""
    first: dict[str, float] = {}
    for log in logs:
        for key in log.steps:
            first[key] = min(log.first(key), first.get(key, math.inf))
    return first


def _before(log: _Log, first: Mapping[str, float], said: float | None) -> list[bool]:
    """Say of each line of a log that the later attempt has not logged yet if it still counts."""
    for key in step_keys(log.steps):
        limit = min(first.get(key, math.inf), math.inf if said is None else said)
        if limit < math.inf and not log.begins_anew(key):
            return [step < limit for step in log.steps[key]]
    lines = None if said is None else _lines_before(log, said)
    return lines or [True] * len(log.places)


def _together(earlier: _Log, kept: Sequence[bool], later: _Log, who: str) -> _Log:
    if not any(kept):
        return later
    before = earlier.only(kept)
    problem = earlier.problem or _gap(before, later, who)
    places = [*before.places, *later.places]
    steps: dict[str, Sequence[float]] = {}
    for key in before.steps.keys() | later.steps.keys():
        old = before.steps.get(key) or [-math.inf] * len(before.places)
        steps[key] = [*old, *(later.steps.get(key) or [old[-1]] * len(later.places))]
    return _Log(places, steps, problem)


def _gap(earlier: _Log, later: _Log, who: str) -> str | None:
    keys = [key for key in step_keys(earlier.steps) if key in later.steps]
    if not keys:
        return None
    last, first = max(earlier.steps[keys[0]]), later.first(keys[0])
    apart = max(earlier.spacing(keys[0])[1], later.spacing(keys[0])[1])
    if not apart or first - last <= 2 * apart:
        return None
    return f"{keys[0]} jumps from {last:g} to {first:g} where {who} begins: what lay between is not there"


def _not_joined(earlier: _Log, later: _Log, who: str) -> str | None:
    if max(len(earlier.places), len(later.places)) < 2:  # noqa: PLR2004  (no curve, but a value that is there again)
        return None
    begins = f"begins late, or anew, with {who}: no step tells where"
    return (
        f"{begins}, so {len(earlier.places)} earlier lines, in {_ATTEMPTS}, are not joined to it. Log a step with the "
        "metrics; of a run that has started anew run.resume_metrics(step=0) says so"
    )


def _begins_late(log: _Log, attempt: int) -> str | None:
    """Tell a curve that lacks its beginning though no earlier attempt has left metrics."""
    for key in step_keys(log.steps)[:1]:
        first, apart = log.first(key), log.spacing(key)[1]
        if apart and first > 2 * apart:
            return f"begins late: {key} is {first:g} first, of attempt {attempt}, and no earlier one has left metrics"
    return None


def _ranges(places: Iterable[Part]) -> tuple[Part, ...]:
    """Put lines of earlier attempts that follow each other together."""
    ranges: list[Part] = []
    for attempt, start, end in places:
        if not attempt:
            continue
        if ranges and ranges[-1][0] == attempt and ranges[-1][2] == start:
            ranges[-1] = (attempt, ranges[-1][1], end)
        else:
            ranges.append((attempt, start, end))
    return tuple(ranges)

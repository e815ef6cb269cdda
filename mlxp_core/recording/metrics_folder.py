"""The metrics of one attempt: a file for each log, and what the attempts before have logged in front.

An attempt that loads a checkpoint goes on where the metrics stood when it was saved: the lines up to there are put
before its own, and those of steps that were logged after their checkpoint.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mlxp_core.errors import MetricsError
from mlxp_core.plain_values import spell_key
from mlxp_core.recording.metrics import Metrics, MetricsFile, refuse_half_a_line
from mlxp_core.runs.digest import announce
from mlxp_core.runs.layout import RunDir

_APPEND = os.O_RDWR | os.O_CREAT | os.O_APPEND
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# names inside of the metrics folder
_HOME = RunDir(Path())
_KEYS = os.fspath(_HOME.metric_keys.relative_to(_HOME.metrics))
_CONTINUED = os.fspath(_HOME.metrics_continued.relative_to(_HOME.metrics))
_SUFFIX = _HOME.metric_file("").name
# what a reader's columns of other things begin with
_TAKEN = {"config": "the configuration", "info": "the facts of a run", "artifact": "artifacts"}


class MetricsFolder:
    """The metrics of one attempt, by a descriptor of their folder.

    The next attempt renames that folder aside. An older copy of a job that still runs then, on a node believed dead,
    goes on writing into the renamed one: never into files of the next.
    """

    def __init__(self, run: RunDir) -> None:
        """Open or make the folder."""
        run.metric_keys.mkdir(parents=True, exist_ok=True)
        self._run = run
        self._path = run.metrics
        self._known: dict[str, dict[str, str]] = {}  # the keys of each log, also while its file is not open
        self._fd = os.open(run.metrics, _FOLDER)

    def open(self, log_name: str, line: object = None) -> MetricsFile:
        """Open or make one log, to which ``line`` is about to be added.

        Raises MetricsError for a name that leads elsewhere, or that columns have already.
        """
        if not log_name or log_name != os.path.basename(log_name) or log_name.startswith("."):  # noqa: PTH119
            raise MetricsError(f"log_name={log_name!r} cannot name a file: use letters, digits, '_', '-' and '.'")
        if (first := log_name.partition(".")[0]) in _TAKEN:
            raise MetricsError(
                f"log_name={log_name!r}: the reader has {_TAKEN[first]} in the columns {first}.…, which would hide "
                f"these metrics: use another name, such as '{log_name}_metrics'"
            )
        name = f"{log_name}{_SUFFIX}"
        self.add_keys(name, {})  # the list is there before the first line
        if isinstance(line, Mapping):
            self._add_missed(log_name, line)
        return MetricsFile(self, name, self._known.setdefault(name, {}))

    def path_of(self, name: str) -> Path:
        """Give the path of a log's file as it was when the folder was opened, for messages."""
        return self._path / name

    def open_file(self, name: str) -> int:
        """Open or make the file of one log, to append to it, and give the descriptor."""
        return self._open(name, _APPEND)

    def add_keys(self, name: str, kinds: Mapping[str, str]) -> None:
        """Add to the list of keys that is kept beside a log's file; seldom enough for it not to stay open."""
        self._append(f"{_KEYS}/{name}", "".join(json.dumps([key, kind]) + "\n" for key, kind in kinds.items()).encode())

    def sizes(self) -> dict[str, int]:
        """Count the bytes in every log, those of forked children too."""
        with os.scandir(self._fd) as entries:
            logs = [entry for entry in entries if entry.name.endswith(_SUFFIX) and not entry.name.startswith(".")]
            return {entry.name.removesuffix(_SUFFIX): entry.stat().st_size for entry in logs}

    def continue_from(self, earlier: RunDir, attempt: int, sizes: Mapping[str, int]) -> None:
        """Put the lines of an earlier attempt, up to these sizes, before those of this one.

        However often and from whichever process it is called, each line is there once; of several sizes the largest
        counts. Lines that the earlier attempt wrote after its checkpoint, of steps before the first that this one logs,
        count as well: a loop may save its checkpoint first, and then log the step. Raises FileNotFoundError where the
        earlier attempt's lines are gone.
        """
        with self._locked(_CONTINUED) as state:
            if attempt < state["attempt"]:
                return
            prepended = state["metrics"]  # bytes of earlier attempts that each log begins with
            if attempt > state["attempt"]:
                names = [*_log_names(earlier), *_state_of(earlier).get("missed", ()), *prepended]
                wanted = {**dict.fromkeys(names, 0), **sizes}
            else:
                wanted = {name: size for name, size in sizes.items() if size > prepended.get(name, 0)}
            # all is read before anything is changed
            files = {
                name: _read_file(earlier.metric_file(name), needed=size > 0)[:size] for name, size in wanted.items()
            }
            later = {name: _missed(self._run, attempt, name, size) for name, size in wanted.items()}
            keys = {name: later[name].keys for name in wanted}
            for log_name, before in files.items():
                name = f"{log_name}{_SUFFIX}"
                own = self._read(name)[prepended.get(log_name, 0) :]
                missed = state.setdefault("missed", {})
                missed[log_name] = len(before)
                if own:
                    del missed[log_name]
                    before += _missed_lines(later[log_name].lines, _parsed(own.split(b"\n", 1)[0]))  # noqa: PLW2901
                if before or log_name in prepended:
                    self._replace(name, before + own)
                    prepended[log_name] = len(before)
                    self._replace(
                        f"{_KEYS}/{name}", (keys[log_name] if before else b"") + self._read(f"{_KEYS}/{name}")
                    )
            state["attempt"] = attempt
        announce(self._path)

    def _add_missed(self, log_name: str, first: Metrics) -> None:
        """Add what an earlier attempt has logged between its checkpoint and the first step of this one."""
        if not self._has_continued():
            return
        with self._locked(_CONTINUED) as state:
            size = state.get("missed", {}).get(log_name)
            if size is None:
                return
            missed = _missed(self._run, state["attempt"], log_name, size)
            lines = _missed_lines(missed.lines, {spell_key(key): value for key, value in first.items()})
            self._add(state, log_name, missed._replace(lines=lines))

    def add_all_missed(self) -> None:
        """Add what an earlier attempt has logged after its checkpoint, and this one, which ends, has not come to again.

        Those are lines of steps before the first that this one has logged anywhere; all of them where it has logged
        none. Where another process adds some just now it is left to the next attempt.
        """
        if not self._has_continued():
            return
        with contextlib.suppress(BlockingIOError), self._locked(_CONTINUED, wait=False) as state:
            pending = dict(state.get("missed", {}))
            if not pending:
                return
            limits = self._first_steps(state["metrics"], but=pending)
            for log_name, size in pending.items():
                missed = _missed(self._run, state["attempt"], log_name, size)
                self._add(state, log_name, missed._replace(lines=_lines_before(missed.lines, limits)))

    def _has_continued(self) -> bool:
        try:
            os.stat(_CONTINUED, dir_fd=self._fd)
        except FileNotFoundError:
            return False
        return True

    def _add(self, state: dict[str, Any], log_name: str, missed: _Missed) -> None:
        size = state["missed"][log_name]
        if missed.lines:
            name = f"{log_name}{_SUFFIX}"
            if not size:  # else they are there already
                self._append(f"{_KEYS}/{name}", missed.keys)
            self._append(name, missed.lines)
            state["metrics"][log_name] = size + len(missed.lines)
        del state["missed"][log_name]  # in the end: a full disk is tried again

    def _first_steps(self, prepended: Mapping[str, int], but: Mapping[str, int]) -> dict[str, float]:
        """Give the first step that this attempt has logged itself, for each key that counts some."""
        first: dict[str, float] = {}
        for log_name in self.sizes().keys() - but.keys():
            own = self._read(f"{log_name}{_SUFFIX}")[prepended.get(log_name, 0) :]
            for key, step in _steps_of(_parsed(own.split(b"\n", 1)[0])).items():
                first[key] = min(step, first.get(key, step))
        return first

    def resume_at(self, step: float) -> None:
        """Say for good at which step this attempt goes on; the last word counts. Readers join the attempts there."""
        with self._locked(_CONTINUED) as state:
            state["step"] = step
        announce(self._path)

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        """Close the descriptor, as MetricsFile does."""
        fd = self.__dict__.pop("_fd", None)
        if fd is not None:
            close(fd)

    def _open(self, name: str, flags: int) -> int:
        return os.open(name, flags | os.O_CLOEXEC, 0o666, dir_fd=self._fd)

    def _append(self, name: str, content: bytes) -> None:
        fd = self._open(name, _APPEND)
        try:
            written = os.write(fd, content) if content else 0
            if written != len(content):
                refuse_half_a_line(fd, written, self.path_of(name))
        except OSError as error:
            error.filename = str(self.path_of(name))
            raise
        finally:
            os.close(fd)

    def _read(self, name: str) -> bytes:
        with contextlib.suppress(FileNotFoundError), os.fdopen(self._open(name, os.O_RDONLY), "rb") as file:
            return file.read()
        return b""

    def _replace(self, name: str, content: bytes) -> None:
        # as atomic_files.write_atomic, which goes by path: the folder may have been renamed
        temporary = f".{os.getpid()}.{os.urandom(4).hex()}"
        with os.fdopen(self._open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
            file.write(content)
        os.rename(temporary, name, src_dir_fd=self._fd, dst_dir_fd=self._fd)

    @contextlib.contextmanager
    def _locked(self, name: str, *, wait: bool = True) -> Iterator[dict[str, Any]]:
        """Lend a small JSON object in a file to one process at a time; saved also if the block raises in its midst.

        Raises BlockingIOError where another one has it and ``wait`` is False.
        """
        with os.fdopen(self._open(name, os.O_RDWR | os.O_CREAT), "r+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise
            except OSError:  # a file system without locks: one process resumes a run, as a rule
                pass
            state = _decoded(file.read())
            try:
                yield state
            finally:
                file.seek(0)
                file.write(json.dumps(state))
                file.truncate()


def _log_names(run: RunDir) -> list[str]:
    return [path.stem for path in run.metrics.glob(f"[!.]*{_SUFFIX}")]


def _read_file(path: Path, *, needed: bool = False) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        if needed:
            raise
        return b""


class _Missed(NamedTuple):
    """What an attempt has logged after a checkpoint, and the list of its log's keys."""

    lines: bytes
    keys: bytes


def _missed(run: RunDir, attempt: int, log_name: str, size: int) -> _Missed:
    """Read what comes after ``size`` in an attempt's log; if it has not come to it, what that has missed itself."""
    earlier = run.attempt_dir(attempt)
    lines, keys = _read_file(earlier.metric_file(log_name))[size:], _read_file(earlier.metric_keys_file(log_name))
    state = _state_of(earlier)
    if log_name not in state.get("missed", {}):
        return _Missed(lines, keys)
    before = _missed(run, state["attempt"], log_name, state["missed"][log_name])
    return _Missed(before.lines + lines, before.keys + keys)


def _state_of(run: RunDir) -> dict[str, Any]:
    return _decoded(_read_file(run.metrics_continued).decode())


def _decoded(text: str) -> dict[str, Any]:
    # what a kill between write and truncate leaves behind the newer state is passed over
    state: dict[str, Any] = json.JSONDecoder().raw_decode(text or '{"attempt": 0, "metrics": {}}')[0]
    return state


def _missed_lines(content: bytes, first: Metrics) -> bytes:
    """Take the lines up to the step of ``first``, without it; none where no step tells."""
    from mlxp_core.runs.steps import step_keys  # noqa: PLC0415  (of runs that are resumed)

    key = next(iter(step_keys(first)), None)
    end = _step_of(first, key)
    kept = []
    for line in content.split(b"\n")[:-1]:
        step = _step_of(_parsed(line), key)
        if step is None or end is None or step >= end:
            break
        kept.append(line + b"\n")
    return b"".join(kept)


def _lines_before(content: bytes, limits: Mapping[str, float]) -> bytes:
    """Take the lines until one is of a step that has been logged again, or of none that tells."""
    kept = []
    for line in content.split(b"\n")[:-1]:
        found = _steps_of(_parsed(line))
        if not found or any(step >= limits[key] for key, step in found.items() if key in limits):
            break
        kept.append(line + b"\n")
    return b"".join(kept)


def _steps_of(metrics: Metrics) -> dict[str, float]:
    """Give the keys that count steps, the finest first, and their steps."""
    from mlxp_core.runs.steps import step_keys  # noqa: PLC0415

    found = {key: _step_of(metrics, key) for key in step_keys(metrics)}
    return {key: step for key, step in found.items() if step is not None}


def _step_of(metrics: Metrics, key: str | None) -> float | None:
    if key is None:
        return None
    try:
        step = float(metrics[key])
    except (KeyError, TypeError, ValueError):
        return None
    return None if math.isnan(step) else step


def _parsed(line: bytes) -> Metrics:
    try:
        row = json.loads(line)
    except ValueError:  # cut short
        return {}
    return row if isinstance(row, dict) else {}

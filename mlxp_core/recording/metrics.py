"""Write metric files: one JSON object a line.

Strict JSON: NaN and the infinities, which JSON has no number for, are written as the strings ``"NaN"``, ``"Infinity"``
and ``"-Infinity"``. A line is one write of a whole line, so every call that returned has reached the operating
system and outlives the process, however that ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from mlxp_core.errors import MetricsError, MetricsTypeError
from mlxp_core.plain_values import PlainValueError, spell_key, to_metric, unwrap
from mlxp_core.runs.digest import announce
from mlxp_core.runs.layout import RunDir

Metrics = Mapping[str, Any]

_APPEND = os.O_RDWR | os.O_CREAT | os.O_APPEND
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NUMBERS = (int, float)
_OTHERS = (str, bytes, dict, list, tuple)
# names inside of the metrics folder
_HOME = RunDir(Path())
_KEYS = os.fspath(_HOME.metric_keys.relative_to(_HOME.metrics))
_CONTINUED = os.fspath(_HOME.metrics_continued.relative_to(_HOME.metrics))
_SUFFIX = _HOME.metric_file("").name
# what a reader's columns of other things begin with
_TAKEN = {"config": "the configuration", "info": "the facts of a run", "artifact": "artifacts"}


def _encoder() -> Callable[[Any], str]:
    """What JSONEncoder.encode does, with the parts that it makes anew at each call (0.7 of 1.7 µs) made once."""
    slow = json.JSONEncoder(allow_nan=False, default=unwrap)
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:  # not CPython
        return slow.encode
    chunks = make(
        markers=None,  # a structure that contains itself is a RecursionError
        default=unwrap,
        encoder=json.encoder.encode_basestring_ascii,
        indent=None,
        key_separator=slow.key_separator,
        item_separator=slow.item_separator,
        sort_keys=False,
        skipkeys=False,
        allow_nan=False,
    )
    return lambda value: "".join(chunks(value, 0))


_encode = _encoder()


def encode_line(metrics: Metrics) -> bytes:
    r"""Encode one call's metrics as one line of strict JSON.

    >>> encode_line({"loss": float("nan"), "step": 3})
    b'{"loss": "NaN", "step": 3}\n'
    """
    try:
        return (_encode(metrics) + "\n").encode()
    except (ValueError, TypeError, RecursionError):  # a non-finite number, a key that is no string, a Mapping, a cycle
        # not to_metric(metrics): two keys of one spelling are MetricsFile's to refuse
        return (_encode({spell_key(key): to_metric(value) for key, value in metrics.items()}) + "\n").encode()


@cache
def line_encoder() -> Callable[[Metrics], bytes]:
    """Give ``encode_line``, or where orjson is installed what writes lines with the same values in a tenth of the time.

    Spaces, escapes and exponents may differ. Called with the first line and not at the start of a run: it imports.
    """
    try:
        import orjson  # noqa: PLC0415
    except ImportError:
        return encode_line
    dumps = orjson.dumps
    # as json has it: no words for a date or a dataclass, and subclasses of str or dict by their own rules
    options = (
        orjson.OPT_APPEND_NEWLINE
        | orjson.OPT_PASSTHROUGH_DATACLASS
        | orjson.OPT_PASSTHROUGH_DATETIME
        | orjson.OPT_PASSTHROUGH_SUBCLASS
    )

    alike = {float, int, str, bool, type(None), dict, list, tuple}  # types that both write in the same way

    def encode(metrics: Metrics) -> bytes:
        try:
            if not alike.issuperset(map(type, metrics.values())):
                kinds = set(map(type, metrics.values()))
                if any(issubclass(kind, Enum) or kind.__module__ == "uuid" for kind in kinds):  # no option leaves these
                    return encode_line(metrics)
                alike.update(kinds)
            line = dumps(metrics, unwrap, options)
        except TypeError:  # an integer of more than 64 bits, a lone surrogate, a key that is no string, a Mapping
            return encode_line(metrics)
        # which it writes for a number that is not finite, too
        return line if line.find(b"null") < 0 else encode_line(metrics)

    return encode


def type_of(value: object) -> str | None:
    """Return ``number`` or ``other``, the kind of column that a reader makes of the key; None for a missing value."""
    if value is None:
        return None
    if isinstance(value, _NUMBERS):
        return "number"
    if isinstance(value, _OTHERS):
        return "other"
    return type_of(unwrap(value))


def text_log_name(log_name: object) -> str:
    """Give the text of a log's name that is of a subclass of str. Raises MetricsTypeError for anything else."""
    if isinstance(log_name, str):
        return str.__str__(log_name)
    hint = (
        'write run.log_metrics({"loss": 0.1}, log_name="train"), the metrics first'
        if isinstance(log_name, Mapping)
        else f"write log_name={str(log_name)!r}"
    )
    raise MetricsTypeError(f"log_name={log_name!r} is no text but {type(log_name).__name__}: {hint}")


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
                wanted = {**dict.fromkeys([*_log_names(earlier), *prepended], 0), **sizes}
            else:
                wanted = {name: size for name, size in sizes.items() if size > prepended.get(name, 0)}
            # all is read before anything is changed
            files = {name: _read_file(earlier.metric_file(name), needed=size > 0) for name, size in wanted.items()}
            keys = {name: _read_file(earlier.metric_keys_file(name)) for name in wanted}
            for log_name, size in wanted.items():
                name = f"{log_name}{_SUFFIX}"
                before, own = files[log_name][:size], self._read(name)[prepended.get(log_name, 0) :]
                missed = state.setdefault("missed", {})
                missed[log_name] = len(before)
                if own:
                    first = _parsed(own.split(b"\n", 1)[0])
                    before += _missed_lines(files[log_name][missed.pop(log_name) :], first)
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
        try:
            os.stat(_CONTINUED, dir_fd=self._fd)
        except FileNotFoundError:
            return
        with self._locked(_CONTINUED) as state:
            size = state.get("missed", {}).pop(log_name, None)
            if size is None:
                return
            earlier, name = self._run.attempt_dir(state["attempt"]), f"{log_name}{_SUFFIX}"
            content = _read_file(earlier.metric_file(log_name))[size:]
            if lines := _missed_lines(content, {spell_key(key): value for key, value in first.items()}):
                if not size:  # else they are there already
                    self._append(f"{_KEYS}/{name}", _read_file(earlier.metric_keys_file(log_name)))
                self._append(name, lines)
                state["metrics"][log_name] = size + len(lines)

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
            if content:
                os.write(fd, content)
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
    def _locked(self, name: str) -> Iterator[dict[str, Any]]:
        """Lend a small JSON object in a file to one process at a time; saved also if the block raises in its midst."""
        with os.fdopen(self._open(name, os.O_RDWR | os.O_CREAT), "r+", encoding="utf-8") as file:
            with contextlib.suppress(OSError):  # a file system without locks: one process resumes a run, as a rule
                fcntl.flock(file, fcntl.LOCK_EX)
            # what a kill between write and truncate leaves behind the newer state is passed over
            state, _ = json.JSONDecoder().raw_decode(file.read() or '{"attempt": 0, "metrics": {}}')
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


class MetricsFile:
    """Appends to ``metrics/<log_name>.json`` of one run; a forked child may as well, whole lines stay whole.

    There is no close(): the descriptor goes with the last reference. Another thread that is about to write has one, so
    that its line never gets into whatever file is opened next under the same number.
    """

    __slots__ = ("_descriptor", "_encode", "_folder", "_keys", "_known", "_name", "path")

    def __init__(self, folder: MetricsFolder, name: str, known: dict[str, str]) -> None:
        """Open or make the file; what is in it already stays. ``known`` are the keys that its list has from here."""
        self._folder, self._name, self.path = folder, name, folder.path_of(name)
        self._encode = line_encoder()
        self._known = known  # the type recorded for a key; "other" is final
        self._keys = set(known)  # the same keys, for a quick look
        self._descriptor = fd = folder.open_file(name)
        end = os.fstat(fd).st_size
        if end and os.pread(fd, 1, end - 1) != b"\n":
            os.write(fd, b"\n")  # a line that a full disk cut short must not swallow the next one

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        """Close the file; every line is on disk already."""
        fd = getattr(self, "_descriptor", None)
        if fd is not None:
            close(fd)

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled or copied: the descriptor would be a number of another file."""
        raise TypeError(f"the open file {self.path} cannot be pickled: pickle the run, which opens its files again")

    def append(self, metrics: Metrics) -> None:
        """Write one line; once this has returned, the line outlives the process."""
        if type(metrics) is not dict and not isinstance(metrics, Mapping):
            raise self._not_a_mapping(metrics)
        try:
            line = self._encode(metrics)
        except TypeError as error:
            raise self._refusal(metrics, error) from None
        # a line of known keys and of numbers, which most are, has no quotes but those of its keys, and no array
        plain = line.count(b'"') == 2 * len(metrics) and line.find(b"[") < 0  # quicker than `in`
        if not self._keys.issuperset(metrics) or (not plain and self._type_changed(metrics)):
            self._record_keys(metrics)
        if os.write(self._descriptor, line) != len(line):
            raise MetricsError(f"{self.path}: the disk took only a part of a line; is it full?")

    def replaced(self) -> bool:
        """Return True where another file is in its place: ``continue_from`` of another process has put it there."""
        return os.fstat(self._descriptor).st_nlink == 0

    def _type_changed(self, metrics: Metrics) -> bool:
        """Return True where a key that was a number holds something else; of many lines, so no value is converted."""
        return any(
            # an array has dimensions, a scalar of numpy or torch has none
            (isinstance(value, _OTHERS) or getattr(value, "ndim", None)) and self._known[key] == "number"
            for key, value in metrics.items()
        )

    def _record_keys(self, metrics: Metrics) -> None:
        # before the line itself: a reader that knows a key with no line yet is right, the reverse is not
        # None has no type: the key is learnt with its first value
        kinds = {key: kind for key, value in self._spelled(metrics).items() if (kind := type_of(value)) is not None}
        new = {key: kind for key, kind in kinds.items() if self._known.get(key) not in {kind, "other"}}
        self._folder.add_keys(self._name, new)
        self._known.update(new)
        self._keys.update(new)  # text alone: a key that is none is looked at each time
        if new:
            announce(self.path.parent)

    def _spelled(self, metrics: Metrics) -> dict[str, object]:
        """Spell the keys as they are in the line, which two of them must not share."""
        spelled: dict[str, object] = {}
        keys: dict[str, object] = {}
        for key, value in metrics.items():
            name = spell_key(key)
            if name in spelled:
                raise MetricsError(
                    f"log {self.path.stem!r}: the keys {keys[name]!r} and {key!r} are both written {name!r}: "
                    "rename one of them"
                )
            spelled[name], keys[name] = value, key
        return spelled

    def _not_a_mapping(self, metrics: object) -> MetricsTypeError:
        log_name = self.path.stem
        shown = repr(metrics) if isinstance(metrics, (int, float)) else "…"
        return MetricsTypeError(
            f"log_metrics takes a mapping of names to values, not {type(metrics).__name__}: "
            f'write run.log_metrics({{"{log_name}": {shown}}}, log_name={log_name!r})'
        )

    def _refusal(self, metrics: Metrics, error: TypeError) -> MetricsTypeError:
        """Name the value that cannot be written, with its key and log."""
        for key, value in metrics.items():
            try:
                to_metric(value)
            except PlainValueError as reason:
                reason.path.insert(0, key)
                return MetricsTypeError(
                    f"{reason.place('metrics')} of log {self.path.stem!r}: {reason}; write a number, a text, or lists "
                    "and mappings of these: float(x), str(x), sorted(x)"
                )
        return MetricsTypeError(f"log {self.path.stem!r}: {error}")

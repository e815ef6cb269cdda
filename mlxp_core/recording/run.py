"""A run being written, as the user's script sees it: ``current_run().log_metrics(...)``."""

from __future__ import annotations

import json
import logging
import os
import socket
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from mlxp_core.atomic_files import Stamp, stamp_at
from mlxp_core.errors import (
    ArtifactError,
    ArtifactNotFoundError,
    MetricsError,
    RunError,
    StoreError,
    SupersededError,
)
from mlxp_core.recording import signals
from mlxp_core.recording.metrics import Metrics, MetricsFile, text_log_name
from mlxp_core.recording.metrics_folder import MetricsFolder
from mlxp_core.runs.digest import announce
from mlxp_core.runs.layout import RunDir
from mlxp_core.runs.process import is_alive
from mlxp_core.runs.status import Status
from mlxp_core.yaml_io import load_yaml, load_yaml_or_empty

if TYPE_CHECKING:
    from mlxp_core.recording.running_code import RunningCode

log = logging.getLogger(__name__)

_OPEN_LOGS = 64  # a program has 1,024 descriptors as a rule, 256 on macOS, and files of its own
_CHECKPOINTS = "pickle"  # the artifact type that checkpoints are kept under


_ELSEWHERE = 0  # the pid of no process


class Run:
    """One run being written. Made by the callback, the launchers' jobs and start_run, not by hand.

    It can be pickled and copied, also within a checkpoint: what comes out is the handle of the same run that the
    process has, or else one that opens the run's files again, by its folder and attempt. Any process may log to it;
    the one that has started it ends it.
    """

    keeps_nothing = False  # True for the stand-in of a run in a program that is not recorded

    def __init__(
        self,
        layout: RunDir,
        attempt: int = 1,
        launch_dir: Path | None = None,
        *,
        end: Callable[[Run, BaseException | None], None] | None = None,
        pid: int | None = None,
    ) -> None:
        """Attempt 1 is the first; a requeued job is the next attempt of the same run, in the same folder.

        ``end`` is what ``finish`` calls, where the user ends the run. ``pid``: of another process, whose run it is.
        """
        self.layout = layout
        self.attempt = attempt
        self._launch_dir = launch_dir or Path.cwd()
        # the process whose run it is; a forked child may log to it, not end it
        self.pid = os.getpid() if pid is None else pid
        self._end = end
        self.has_ended = False  # its outcome is written
        self.code: RunningCode | None = None  # of the process that has started it
        self._is_entered = False
        self._folder: MetricsFolder | None = None
        self._files: dict[str, MetricsFile] = {}
        self._has_warned = False
        self._has_followed = False  # of another process, what that is told
        self._last_look: tuple[Stamp | None, bool] = None, False
        _handles[os.path.realpath(layout.path)] = self

    def __enter__(self) -> Run:
        """Allow ``with start_run(...) as run``. Raises RunError for a run that is not the caller's to end."""
        self._check_owned()
        self._is_entered = True
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        """End the run: COMPLETE, or by the exception; a forked child that leaves the block ends nothing."""
        if self._end is not None:
            self._end(self, error)

    def __reduce__(self) -> tuple[Callable[..., Run], tuple[str, int, str, bool]]:
        """Pickle what finds the run again; descriptors are numbers of other files in another process."""
        return reopen, (*self.as_arguments(), _being_saved.get() is self)

    def __repr__(self) -> str:
        """Name the folder."""
        return f"<Run {self.id}: {self.dir}>"

    @property
    def id(self) -> int | None:
        """The run's id, also 0; None where the user's own ``hydra.run.dir`` names a folder that is no number."""
        return self.layout.id

    @property
    def dir(self) -> Path:
        """The run's folder, an absolute path."""
        return self.layout.path

    @property
    def config(self) -> dict[str, Any]:
        """The run's configuration as plain values, as ``metadata/config.yaml`` has them."""
        return load_yaml(self.layout.config)

    def metrics(self, log_name: str) -> dict[str, list[Any]]:
        """Read back what has been logged: a list for each key, with a value for each line of ``log_name``.

        None where a line lacks the key. Raises MetricsError, with the logs that there are, for a name that none has.
        """
        from mlxp_core.recording.metric_columns import load_columns  # noqa: PLC0415  (few programs ask)

        try:
            return load_columns(self.layout.metric_file(log_name))
        except FileNotFoundError:
            logs = ", ".join(sorted(path.stem for path in self.layout.metrics.glob("[!.]*.json")))
            raise MetricsError(f"{self!r} has no log {log_name!r}; it has {logs or 'none'}") from None

    def finish(self, error: BaseException | None = None) -> None:
        """End a run that ``start_run`` has started without ``with``: COMPLETE, or FAILED by the exception ``error``.

        A run that has ended stays as it is. Raises RunError for a run that is not the caller's to end: that of another
        process, and that of a Hydra job.
        """
        self._check_owned()
        self.__exit__(None, error, None)

    @property
    def is_finishable(self) -> bool:
        """True for a run of ``start_run`` that has not ended."""
        return self._end is not None and not self.has_ended

    @property
    def may_be_dropped(self) -> bool:
        """True where the user's name for it is all that keeps it: to be finished, and not in a ``with`` block."""
        return self.is_finishable and not self._is_entered

    @property
    def is_recorded(self) -> bool:
        """True while this attempt of the run is going on, by what its folder says."""
        try:
            stamp = stamp_at(self.layout.info)
        except OSError:
            return False
        if stamp != self._last_look[0]:
            info = load_yaml_or_empty(self.layout.info)
            going_on = info.get("status") == Status.RUNNING and info.get("attempt") == self.attempt
            self._last_look = stamp, going_on
        return self._last_look[1]

    def as_arguments(self) -> tuple[str, int, str]:
        """What ``reopen`` takes: folder, attempt, directory of the command line; plain values for another process."""
        return os.fspath(self.layout.path.absolute()), self.attempt, os.fspath(self._launch_dir)

    def original_path(self, path: str | os.PathLike[str]) -> Path:
        """An absolute path for one that is relative to the directory of the command line, such as ``data/train.bin``.

        A launched job starts in a folder of its run, where data that git does not know is not.
        """
        return self._launch_dir / path

    @property
    def stop_requested(self) -> bool:
        """True once the job should leave: a time limit is near, or its place is needed (SIGUSR1, SIGUSR2, SIGTERM).

        A loop that looks at it once for each step or epoch saves a checkpoint when it is True, and returns. The run is
        then PREEMPTED, and resumed where the scheduler requeues it. From the first look on, the first of these signals
        does not end the program. Only a run that is recorded in the main thread is told; its workers on the same host,
        forked or spawned, hear of it by it.
        """
        if self.pid == _ELSEWHERE and not self._has_followed:
            self._follow()
        name = signals.stop_signal(self)
        if name is not None and not self._has_warned:
            self._has_warned = True
            log.warning("%r: %s asks it to stop; stop_requested is True from now on", self, name)
        return name is not None

    def log_metrics(self, metrics_dict: Metrics, log_name: str) -> None:
        """Append one line to ``metrics/<log_name>.json``.

        ``metrics_dict`` maps names to numbers or strings: one step, epoch or evaluation. NaN and infinities are kept.
        Scalars and arrays of numpy, torch, jax and the like are their numbers, what is masked is null. A name that is
        no text (a bool, a number, None, an enum) is spelled as JSON does, in files and columns alike.
        When this returns the line outlives the process. A reader sees one list per name, along the calls; of a name
        with numbers alone it is of floats, to which a whole number beyond 2**53 is rounded: the file has its digits.
        Raises MetricsError for what cannot be written (two names of one spelling, a ``log_name`` that hides behind
        other columns, such as ``config``), and of it MetricsTypeError, a TypeError, that names key and log.
        """
        if type(log_name) is not str:
            log_name = text_log_name(log_name)
        file = self._files.get(log_name)
        if file is None or (os.getpid() != self.pid and file.replaced()):
            file = self._open_log(log_name, metrics_dict)
        file.append(metrics_dict)

    def log_artifacts(self, artifact: Any, artifact_name: str, artifact_type: str = "pickle") -> Path:
        """Save an object as ``artifacts/<artifact_type>/<artifact_name>``, whole or not at all; give its path.

        Types: pickle, json, text, numpy (an array, or a dict of arrays), torch, image (a matplotlib figure), and
        those added with ``register_artifact_type``. In ``json`` arrays are lists, sets sorted lists, dataclasses
        mappings; what is not finite has a name in the file, and is a number again when loaded. An artifact of the same
        type and name is replaced.
        Raises SupersededError where a later attempt of the run has taken over, ArtifactTypeError for an object that
        the type cannot hold, and what the saver raises.
        """
        from mlxp_core.runs import artifacts  # noqa: PLC0415  (every run imports this module, few have artifacts)

        kind = artifacts.artifact_type(artifact_type)
        path = self._artifact_file(artifact_type, artifact_name)
        self._check_current()
        artifacts.save_artifact(kind, artifact, self.layout, artifact_name)
        announce(self.layout.artifacts)
        return path

    def load_artifacts(
        self,
        artifact_name: str,
        artifact_type: str | None = None,
        root: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> Any:
        """Load an artifact of this run, or of the run whose folder is ``root``.

        The type may be left out where only one type has that name. Loading a pickle runs what its writer put there.
        ``options``: keywords of the type, see ``Artifact.load``. Raises ArtifactNotFoundError with what there is.
        """
        from mlxp_core.runs import artifact_place, artifacts  # noqa: PLC0415

        layout = self.layout if root is None else RunDir(Path(root))
        if artifact_type is None:
            artifact_type = _only_type(layout, artifact_name)
        kind = artifacts.artifact_type(artifact_type)
        path = artifact_place.stored_at(layout.artifact_file(artifact_type, artifact_name))
        if not path.exists():
            raise ArtifactNotFoundError(f"there is no artifact {path}; {_listed(layout)}")
        return kind.load(str(path), **options)

    def register_artifact_type(self, name: str, save: Callable[[Any, str], None], load: Callable[[str], Any]) -> None:
        """Add a type of artifact for this process.

        ``save(object, path)`` makes a file or a folder, ``load(path)`` reads it.
        ``path`` ends in the artifact's own name; what is saved takes its place once ``save`` has returned.
        """
        from mlxp_core.runs import artifacts  # noqa: PLC0415

        artifacts.register_artifact_type(name, save, load)

    def log_checkpoint(self, checkpoint: Any, log_name: str = "checkpoint") -> Path:
        """Save a checkpoint, and where the metrics stand now; the earlier one is replaced when this one is whole.

        A later attempt of the run that loads it continues its metrics from that place.
        Functions and classes of ``__main__``, and those that no module holds, are saved with it; the rest of what a
        checkpoint needs to be loaded are the modules that it names.
        Raises SupersededError where a later attempt has taken over already, ArtifactTypeError for what no pickle holds.
        """
        from mlxp_core.runs import pickles  # noqa: PLC0415  (every run imports this module)
        from mlxp_core.runs.artifact_place import artifact_place  # noqa: PLC0415

        path = self._artifact_file(_CHECKPOINTS, log_name)
        # pickle stops reading at its own end, so what follows can be added without a second file to keep in step
        position = {"attempt": self.attempt, "metrics": self._metrics().sizes()}
        self._check_current()
        with artifact_place(self.layout, _CHECKPOINTS, log_name) as temporary:
            with temporary.open("wb") as stream, _saving(self):
                pickles.dump(checkpoint, stream, path)
                stream.write(b"\n" + json.dumps(position).encode())
            self._check_current()  # a large one takes its time
        announce(self.layout.artifacts)
        return path

    def load_checkpoint(
        self, log_name: str = "checkpoint", root: str | os.PathLike[str] | None = None, *, map_location: Any = None
    ) -> Any:
        """Load a checkpoint of this run, or of the run whose folder is ``root``.

        In a later attempt of a run, its metrics continue from where they stood when the checkpoint was made: each
        step is there once. It runs what its writer put there. ``map_location`` is where torch's tensors go, as for
        torch.load; else where they were, or to the CPU where that device is not there.
        Raises ArtifactNotFoundError (a FileNotFoundError) where there is none yet.
        """
        from mlxp_core.runs import pickles  # noqa: PLC0415
        from mlxp_core.runs.artifact_place import stored_at  # noqa: PLC0415

        layout = self.layout if root is None else RunDir(Path(root))
        path = stored_at(layout.artifact_file(_CHECKPOINTS, log_name))
        try:
            with path.open("rb") as stream, _loading(self, layout):
                checkpoint = pickles.load(stream, path, map_location=map_location)
                position = stream.read()
        except FileNotFoundError:
            raise ArtifactNotFoundError(f"there is no checkpoint {path} yet") from None
        if root is None and position:
            self._continue_metrics(json.loads(position))
        return checkpoint

    def resume_metrics(self, step: float) -> None:
        """Say that this attempt goes on at ``step``, from a checkpoint that was not made by ``log_checkpoint``.

        To be called once it is loaded, however often. Readers join the logs of the attempts by their step (``step``,
        ``epoch``, ``global_step``, …): of the earlier ones the lines before ``step`` count, and of this one all.
        Without this call the earlier lines end where those of this attempt begin. In a log without a step, which a
        warning names, lines are taken for one a step; one that has fewer is not joined. ``step=0``: the attempt starts
        anew, and the earlier lines count no more. In the first attempt it says nothing.

        Raises MetricsError for what is no step.
        """
        from mlxp_core.runs.steps import step_keys  # noqa: PLC0415  (of runs that are resumed)

        if isinstance(step, bool) or not isinstance(step, (int, float)):
            step = _number(step)
        if not 0 <= step < float("inf"):
            raise MetricsError(f"resume_metrics(step={step!r}): give the step at which the run goes on, from 0")
        without = sorted(name for name, keys in self._earlier_logs().items() if not step_keys(keys)) if step else []
        if without:
            log.warning(
                "%r: no step in log %s, so the first %s lines of its earlier attempts count as one a step, and if they "
                'are fewer, none: log a step with the metrics, as in {"loss": 0.1, "step": %s}',
                self,
                ", ".join(without),
                step,
                step,
            )
        self._metrics().resume_at(step)

    def _earlier_logs(self) -> dict[str, list[str]]:
        """Give the keys of each log of the attempts before this one."""
        logs: dict[str, list[str]] = {}
        for attempt in range(1, self.attempt):
            for path in self.layout.attempt_dir(attempt).metric_keys.glob("*.json"):
                keys = logs.setdefault(path.stem, [])
                for line in path.read_bytes().splitlines():
                    with suppress(ValueError):  # one that was cut short when the attempt was killed
                        keys.append(json.loads(line)[0])
        return logs

    def open(self) -> None:
        """Take hold of the metrics folder, while it is this attempt's."""
        self._folder = MetricsFolder(self.layout)

    def close(self) -> None:
        """Close the metric files; every line is on disk already, but what only an earlier attempt has logged."""
        self._files.clear()
        if self._folder is not None:
            try:
                self._folder.add_all_missed()
            except (OSError, ValueError) as error:
                log.warning("%r: what an earlier attempt has logged after its checkpoint is not added: %s", self, error)
        self._folder = None

    def _open_log(self, log_name: str, first: Metrics) -> MetricsFile:
        """Open a log for a line, and close the one that has been open for longest where there are many."""
        self._files.pop(log_name, None)  # a file that another one has replaced
        for oldest in list(self._files)[: max(0, len(self._files) - _OPEN_LOGS + 1)]:
            self._files.pop(oldest, None)
        file = self._files[log_name] = self._metrics().open(log_name, first)
        return file

    def _metrics(self) -> MetricsFolder:
        if self._folder is None:  # a run that has been closed, and is logged to again, or that of another process
            self._check_current()
            folder = MetricsFolder(self.layout)
            self._check_current()  # a later attempt may have moved the one before aside, and this one is its own
            self._folder = folder
        return self._folder

    def _follow(self) -> None:
        self._has_followed = True
        info = load_yaml_or_empty(self.layout.info)
        if not (is_alive(info) and signals.follow(self, info["process_id"], self.as_arguments())):
            log.warning(
                "%r: stop_requested stays False in this process, which cannot see that of the run, process %s on %s: "
                "ask there, and tell this one",
                self,
                info.get("process_id"),
                info.get("hostname"),
            )

    def _check_owned(self) -> None:
        if os.getpid() != self.pid:
            raise RunError(
                f"{self!r} belongs to the process that has started it, and ends there: this is another one (a child, "
                "or one that has loaded it), which may log to it and cannot end it."
            )
        if self._end is None:
            raise RunError(
                f"{self!r} was not started by start_run: it ends with its job, COMPLETE when the task function returns "
                "and FAILED when it raises. Leave out `with` and finish()."
            )

    def _check_current(self) -> None:
        if self.pid == _ELSEWHERE and not self.layout.path.is_dir():
            raise StoreError(
                f"{self!r} was started elsewhere, and its folder is not there on {socket.gethostname()}: log to it "
                "where its log directory can be reached, or send back what is to be logged."
            )
        info = load_yaml_or_empty(self.layout.info)
        latest = info.get("attempt")
        if isinstance(latest, int) and latest > self.attempt:
            raise SupersededError(
                f"attempt {latest} has taken over {self!r}, on {info.get('hostname')} at {info.get('start_time')}; "
                f"this is attempt {self.attempt}, perhaps on a node that was believed dead: it saves nothing more, so "
                "that it does not overwrite what the later one saves. End it."
            )

    def _continue_metrics(self, position: dict[str, Any]) -> None:
        """Put the lines that the checkpoint knows of before those of this attempt."""
        attempt = position["attempt"]
        if attempt == self.attempt:
            return  # a checkpoint of this very attempt: the metrics are where they are
        self._files.clear()  # others come in their place
        try:
            self._metrics().continue_from(self.layout.attempt_dir(attempt), attempt, position["metrics"])
        except FileNotFoundError as error:
            # not raised: it would say to the caller that there is no checkpoint
            log.warning("%r: its metrics up to the checkpoint are not there (%s); they begin here", self, error)

    def _artifact_file(self, artifact_type: str, name: str) -> Path:
        path = self.layout.artifact_file(artifact_type, name)
        if not name or self.layout.artifacts / artifact_type not in Path(os.path.normpath(path)).parents:
            raise ArtifactError(f"artifact_name={name!r} lies outside of the run: give a name or a relative path")
        return path


class _Loading:
    """A checkpoint that is being loaded: who loads it, whose it is, the runs of other folders that are in it."""

    def __init__(self, by: Run, layout: RunDir) -> None:
        self.by, self.layout = by, layout
        self.others: list[Run] = []

    def handle(self, launch_dir: Path) -> Run:
        """Give the handle of the run whose checkpoint it is, wherever its folder was when it was saved."""
        if self.layout is self.by.layout:
            return self.by
        latest = load_yaml_or_empty(self.layout.info).get("attempt")
        return _handle(self.layout, latest if isinstance(latest, int) else 1, launch_dir)


# the handle of each run's latest attempt that this process has, by the resolved path of its folder
_handles: weakref.WeakValueDictionary[str, Run] = weakref.WeakValueDictionary()
_being_saved: ContextVar[Run | None] = ContextVar("mlxp_being_saved", default=None)
_being_loaded: ContextVar[_Loading | None] = ContextVar("mlxp_being_loaded", default=None)


def reopen(path: str, attempt: int, launch_dir: str, is_of_checkpoint: bool = False) -> Run:  # noqa: FBT001, FBT002
    """Give the handle of a run that was pickled. Checkpoints on users' disks name this function: it stays.

    In a process that records a later attempt of the run it is that attempt's. ``is_of_checkpoint``: the run was in a
    checkpoint of its own, and belongs to the run that is resumed from it, also where the folder has been moved.
    """
    loading, launched_in = _being_loaded.get(), Path(launch_dir)
    if loading is not None and is_of_checkpoint:
        run = loading.handle(launched_in)
    else:
        run = _handle(RunDir(Path(path)), attempt, launched_in)
    if loading is not None and run is not loading.by:
        loading.others.append(run)
    return run


def resuming_run() -> Run | None:
    """Give the run that is loading a checkpoint just now, which what is pickled in it belongs to."""
    loading = _being_loaded.get()
    return None if loading is None else loading.by


def _handle(layout: RunDir, attempt: int, launch_dir: Path) -> Run:
    known = _handles.get(os.path.realpath(layout.path))
    # its own run is also that of a process which a later attempt has superseded: it must not write into that one's
    if known is not None and (known.attempt >= attempt or known.pid == os.getpid()):
        return known
    return Run(layout, attempt, launch_dir, pid=_ELSEWHERE)


@contextmanager
def _saving(run: Run) -> Iterator[None]:
    token = _being_saved.set(run)
    try:
        yield
    finally:
        _being_saved.reset(token)


@contextmanager
def _loading(run: Run, layout: RunDir) -> Iterator[None]:
    """Have the run that a checkpoint holds become the one that is resumed, and say of others whose they are."""
    loading = _Loading(run, layout)
    token = _being_loaded.set(loading)
    try:
        yield
    finally:
        _being_loaded.reset(token)
    for other in dict.fromkeys(loading.others):
        log.warning(
            "the checkpoint holds the handle of %r: what is logged to it goes there, and not to %r. To go on here, put "
            "current_run() in its place.",
            other,
            run,
        )


def _number(step: Any) -> Any:
    """Give the number that a scalar of numpy, torch or jax is."""
    number = step.item() if getattr(step, "ndim", None) == 0 else None
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise MetricsError(f"resume_metrics(step={step!r}): give the step at which the run goes on, a number from 0")
    return number


def _only_type(layout: RunDir, name: str) -> str:
    from mlxp_core.runs.artifact_place import stored_at  # noqa: PLC0415

    folders = sorted(path for path in layout.artifacts.glob("[!.]*") if path.is_dir())
    types = [folder.name for folder in folders if stored_at(folder / name).exists()]
    if len(types) == 1:
        return types[0]
    if types:
        raise ArtifactError(f"several artifacts are called {name!r}: say artifact_type, one of {', '.join(types)}")
    raise ArtifactNotFoundError(f"there is no artifact {name!r} in {layout.artifacts}; {_listed(layout)}")


def _listed(layout: RunDir) -> str:
    from mlxp_core.runs.artifact_listing import artifact_files  # noqa: PLC0415

    names = artifact_files(os.fspath(layout.path)).names
    return "there are: " + ", ".join(names) if names else "the run has none"

"""The run that this process records: ``current_run()``.

Each thread and each asyncio task has the run that was started in it, or in what has started it with a copy of its
context (``asyncio.create_task``, ``asyncio.to_thread``, ``contextvars.copy_context().run``). Elsewhere the process's
run counts: the newest that its main thread has started. A worker process of multiprocessing or joblib has the run of
whoever started it, which its Process object brings along: no variable of the environment, which programs and jobs that
are started from here would inherit as well.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
import weakref
from contextlib import suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from mlxp_core.errors import ConfigurationError, NoActiveRunError

if TYPE_CHECKING:
    from mlxp_core.recording.run import Run

_HOW = (
    "Add hydra/callbacks=mlxp to the command line of a Hydra program, submit it with hydra/launcher=mlxp_slurm (or "
    "mlxp_local, …), or use `with mlxp_core.start_run(log_dir, config) as run:`. To run without recording: "
    "current_run(optional=True), hydra/callbacks=mlxp_off or MLXP_MODE=off give a run that keeps nothing."
)
_MODE = "MLXP_MODE"  # off: whatever would be recorded is not
_FOR_CHILDREN = (
    "A child process that was not started by multiprocessing or joblib while a run was current (subprocess, ray, dask) "
    "does not know the run: pass it the run itself, which can be pickled."
)
_FOR_WORKERS = "mlxp_run"  # the key in a Process object


class _Recorded:
    """A run that is being recorded, and who started it: thread, asyncio task."""

    def __init__(self, run: Run) -> None:
        self.run = weakref.ref(run)
        self.thread = threading.get_ident()
        self.in_main_thread = threading.current_thread() is threading.main_thread()
        self.task = _task()

    @property
    def task_is_on(self) -> bool:
        """Return True while the asyncio task that started it has not ended."""
        task = None if self.task is None else self.task()
        return task is not None and not task.done()


_recorded: dict[int, _Recorded] = {}  # by id of the run, in the order of their starts
# A run is kept here unless another was started in its place: what nothing refers to then has been forgotten
_kept: dict[int, Run] = {}
_of_context: ContextVar[tuple[weakref.ref[Run], ...]] = ContextVar("mlxp_runs", default=())
_failure: BaseException | None = None


def current_run(*, optional: bool = False) -> Run:
    """Return the run that this thread or asyncio task records, or else this process, or who started it as a worker.

    Raises NoActiveRunError where none is on, with how to switch one on; and the recording's own error where it failed.
    ``optional``: where none is on, give a run instead that takes every call and keeps nothing; so does MLXP_MODE=off.
    An error is raised all the same where a run was to be recorded: the recording has failed, or there are several, and
    nothing says which of them this thread works for.
    """
    run = recorded_run()
    if run is not None:
        return run
    if _failure is not None:
        raise _failure
    run = _of_worker()
    if run is not None:
        return run
    elsewhere = _elsewhere()
    if (optional or is_off()) and not elsewhere:
        return _null_run()
    raise NoActiveRunError(f"no run is being recorded{elsewhere}. {_HOW} {_FOR_CHILDREN}")


def recorded_run() -> Run | None:
    """Give the run that current_run() returns, without a look at who started this process; None where there is none."""
    run = _find()
    # a forked worker's may have ended long ago
    return run if run is not None and (run.pid == os.getpid() or run.is_recorded) else None


def is_off() -> bool:
    """Tell whether MLXP_MODE says that nothing is to be recorded. Raises ConfigurationError for an unknown word."""
    mode = os.environ.get(_MODE, "on").strip().lower()
    if mode not in {"on", "off", ""}:
        raise ConfigurationError(f"{_MODE}={mode} means nothing: it is off, and then nothing is recorded, or on")
    return mode == "off"


@functools.cache
def _null_run() -> Run:
    """Give the one run of this process that keeps nothing, for who asks where none is on."""
    from mlxp_core.recording.null_run import NullRun  # noqa: PLC0415  (few programs need it)

    return NullRun()


def push(run: Run) -> None:
    """Make a run the current one of this context; started in the main thread, also of the process."""
    _recorded[id(run)] = _Recorded(run)
    _kept[id(run)] = run
    before = (known for known in _of_context.get() if _is_recorded(known()))
    _of_context.set((*before, weakref.ref(run)))
    _tell_workers()


def pop(key: int) -> bool:
    """Make the run before it the current one again; ``key`` is the id() of the run. False: it was not recorded."""
    _kept.pop(key, None)
    return _recorded.pop(key, None) is not None


def let_go() -> None:
    """Keep those runs no longer that this thread or task has started by start_run and not entered by ``with``.

    Called before another one is started there: a cell of a notebook was executed again, and the name that the run had
    is about to be another's; or the program has several at once, and refers to each.
    """
    for key, known in list(_recorded.items()):
        run = known.run()
        here = known.thread == threading.get_ident() and (not known.task_is_on or _is(known.task, _task()))
        if run is not None and here and run.may_be_dropped:
            _kept.pop(key, None)


def recorded_runs() -> list[Run]:
    """Give the runs that are being recorded in this process, oldest first."""
    runs = [known.run() for known in list(_recorded.values())]
    return [run for run in runs if run is not None]


def remember_failure(error: BaseException | None) -> None:
    """Keep the reason why there is no run, for current_run to raise; None: there is no such reason any more."""
    global _failure  # noqa: PLW0603  (of the process's one recording)
    _failure = error


def _find() -> Run | None:
    for reference in reversed(_of_context.get()):
        run = reference()
        if _is_recorded(run):
            return run
    return _of_process()


def _is_recorded(run: Run | None) -> bool:
    return run is not None and id(run) in _recorded


def _of_process() -> Run | None:
    """The run of a thread that has none of its own; None where there are several, and nothing says which."""
    mains = [known for known in list(_recorded.values()) if known.in_main_thread]
    outside = [known for known in mains if not known.task_is_on]
    if outside:
        return outside[-1].run()
    tasks = {id(known.task and known.task()) for known in mains}
    # the run of one task is not another's; a thread that a task has started may use it, where there is only one
    return mains[-1].run() if len(tasks) == 1 and _task() is None else None


def _task() -> weakref.ref[Any] | None:
    """Refer to the asyncio task that this is called in."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is not None:
        with suppress(RuntimeError, AttributeError):  # no loop runs in this thread; it is just being imported
            task = asyncio.current_task()
            return None if task is None else weakref.ref(task)
    return None


def _is(one: weakref.ref[Any] | None, other: weakref.ref[Any] | None) -> bool:
    return one is not None and other is not None and one() is other()


def _elsewhere() -> str:
    """Name the runs of other threads and tasks, for the error message."""
    others = recorded_runs()
    if not others:
        return ""
    return (
        f" in this thread or asyncio task, and which of {', '.join(map(repr, others))} it works for nothing says: "
        "pass it the run, or start it by contextvars.copy_context().run"
    )


def _tell_workers() -> None:
    """Have each Process that is made from now on bring the run along that is current where it is made.

    Processes copy ``_config`` of the one that they are made in, and are pickled for their worker, whether it is
    spawned, comes from the fork server (which began long before, perhaps in another run) or is loky's.
    Source: CPython, Lib/multiprocessing/process.py, BaseProcess.__init__, from 3.4 to 3.14. Where that is not imported
    yet, and need not be for this (1 ms), the worker asks its parent's shared page, which only Linux has.
    """
    if "multiprocessing.process" not in sys.modules and hasattr(os, "memfd_create"):
        return
    from multiprocessing import process  # noqa: PLC0415

    own = process.current_process()
    config = getattr(own, "_config", None)
    if isinstance(config, dict) and not isinstance(config, _Config):
        own._config = _Config(config)  # type: ignore[attr-defined]  # noqa: SLF001  (there is no public way)


class _Config(dict[str, Any]):
    """The settings that a process hands on to those that it starts, and its run."""

    def copy(self) -> dict[str, Any]:
        """Give a plain dict, which a worker can load that has not imported this package."""
        run = _find()
        told = {} if run is None else {_FOR_WORKERS: run.as_arguments()}
        return {**self, **told}


def _of_worker() -> Run | None:
    """Open the run that this worker was started for, or that its parent is at now: pools outlive runs."""
    process: Any = sys.modules.get("multiprocessing.process")
    parent = None if process is None else process.parent_process()
    if parent is None:
        return None
    from mlxp_core.recording import run, signals  # noqa: PLC0415  (run imports what imports this)

    config = getattr(process.current_process(), "_config", {})
    arguments = config.get(_FOR_WORKERS)
    if arguments is not None and not arguments[0]:
        return _null_run()
    first = None if arguments is None else run.reopen(*arguments)
    if first is not None and first.is_recorded:
        return first
    now = signals.recorded_by(parent.pid)
    if len(now) == 1 and not now[0][0]:
        return _null_run()
    if len(now) == 1 and (present := run.reopen(*now[0])).is_recorded:
        config[_FOR_WORKERS] = now[0]  # for workers of its own
        return present
    if first is None and not now:
        return None
    began = "when no run was" if first is None else f"for {first!r}, attempt {first.attempt}, which is not"
    raise NoActiveRunError(
        f"this worker process was started {began} being recorded, and its parent records {len(now) or 'none'} now: "
        "pass it the run of its work, which can be pickled."
    )

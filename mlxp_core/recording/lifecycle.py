"""Open and close runs: write info.yaml with RUNNING when the work starts, and with its outcome when it ends."""

from __future__ import annotations

import atexit
import dataclasses
import functools
import logging
import os
import sys
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mlxp_core import nested
from mlxp_core.errors import ConfigurationError, ConfigurationTypeError, RunError
from mlxp_core.plain_values import PlainValueError, to_builtins
from mlxp_core.recording import current, signals
from mlxp_core.recording.environment import describe_environment
from mlxp_core.recording.packages import installed_distributions, lock_files
from mlxp_core.recording.run import Run
from mlxp_core.recording.running_code import RunningCode, running_code
from mlxp_core.runs import digest, return_value
from mlxp_core.runs import info as metadata
from mlxp_core.runs.allocation import RunAllocator
from mlxp_core.runs.attempts import archive
from mlxp_core.runs.layout import RunDir
from mlxp_core.runs.process import current_user, is_alive, this_process
from mlxp_core.runs.status import Status
from mlxp_core.yaml_io import load_yaml_or_empty, write_yaml

log = logging.getLogger(__name__)

_ATTEMPT = "MLXP_ATTEMPT"  # the number that script.sh gives its start


def start_recording(
    layout: RunDir,
    *,
    config: Mapping[str, Any] | None,
    config_unresolved: Mapping[str, Any] | None = None,
    facts: Mapping[str, Any] | None = None,
    code: Path | None = None,
    running: RunningCode | None = None,
    launch_dir: Path | None = None,
    end: Callable[[Run, BaseException | None], None] | None = None,
) -> Run:
    """Start recording in a run folder, and make it the current run. ``end``: see Run.

    ``code`` is the top of the code that runs, where it is known, and ``running`` its version; ``launch_dir`` the
    directory of the command line.
    ``config`` is None where the submission has written the configuration already. A folder that holds an attempt
    which has started before gets the next one: what the earlier wrote is put aside, not over. script.sh counts those
    that ended before a program of theirs was up, too.
    """
    layout.metadata.mkdir(parents=True, exist_ok=True)
    before = load_yaml_or_empty(layout.info)
    attempt = before.get("attempt", 1)
    if before.get("status") not in {None, Status.PENDING}:
        in_place = (layout.config, layout.config_unresolved, layout.stdout, layout.stderr)  # script.sh moves its logs
        replaced = (layout.metrics, *(() if config is None else in_place))
        archive(layout, attempt, replaced, info=before)
        attempt += 1
    if config is None:
        attempt = max(attempt, _counted_by_script())
    written = None if config is None else _write_config(layout, config, config_unresolved)
    _write_environment(layout, code)
    info = metadata.running_info(layout, before, attempt, this_process(), {**_program(), **(facts or {})})
    info = metadata.with_requirements(info, installed_distributions().requirements(list(sys.modules)))
    if running is not None:
        info = running.record(info, layout)
    run = Run(layout, attempt, launch_dir, end=end)
    run.code = running
    run.open()  # before the folder says that the attempt is there, and another one can move it aside
    if written is None:  # its readers have had the digest of the submission; while it runs, they read info.yaml
        write_yaml(layout.info, info)
    else:
        digest.write_info(layout, info, config=written)
    _make_current(run)
    return run


def _write_config(
    layout: RunDir, config: Mapping[str, Any], config_unresolved: Mapping[str, Any] | None
) -> digest.WrittenYaml:
    written = digest.write_config(layout, to_builtins(config))
    if config_unresolved is not None:
        write_yaml(layout.config_unresolved, to_builtins(config_unresolved))
    return written


def _make_current(run: Run) -> None:
    handle = weakref.ref(run)  # of which nothing but its user keeps hold

    def end_by_signal(name: str) -> None:
        if (signalled := handle()) is not None:
            finish(signalled, *metadata.outcome_of_signal(name), stop_signal=name)

    signals.install(run, end_by_signal, run.as_arguments())
    current.push(run)
    current.remember_failure(None)


def _write_environment(layout: RunDir, code: Path | None) -> None:
    distributions = {
        "distributions": installed_distributions().pip_freeze,
        "lock_files": lock_files(code) if code else {},
    }
    write_yaml(layout.environment, {**describe_environment(), **distributions})


def start_unrecorded(config: Mapping[str, Any], launch_dir: Path | None = None) -> Run:
    """Make a run the current one that takes every call and keeps nothing, until it is finished."""
    from mlxp_core.recording.null_run import NullRun  # noqa: PLC0415  (few programs need it)

    def end(ended: Run, _: BaseException | None) -> None:
        current.pop(id(ended))

    run = NullRun(to_builtins(config), launch_dir, end=end)
    current.push(run)
    current.remember_failure(None)
    return run


def end_recording(run: Run, error: BaseException | None, value: Any = None, *, advice: str = "") -> None:
    """Write the outcome of a run whose program raised an exception, or none and returned a value.

    ``advice``: what to do about the exception, for the error's message.
    """
    if run.keeps_nothing:
        run.finish(error)
        return
    stop_signal = signals.observed_stop_signal(run)
    status, described = metadata.outcome(error, stopping=stop_signal is not None)
    if described and advice:
        described["message"] = f"{described['message']}\n{advice}"
    finish(run, status, described, stop_signal=stop_signal, value=value)


def finish(
    run: Run,
    status: Status,
    error: Mapping[str, Any] | None = None,
    *,
    stop_signal: str | None = None,
    value: Any = None,
) -> None:
    """Write the outcome of a run, and what it returned; it is no longer the current one. Once it has one, it stays."""
    current.pop(id(run))
    if os.getpid() != run.pid or run.has_ended:
        return  # a child that comes to an end of its own, and the run is its parent's; a cell that is executed again
    try:
        run.close()
        if status is Status.COMPLETE and load_yaml_or_empty(run.layout.info).get("attempt") == run.attempt:
            _save_return_value(run.layout, value)
        _write_outcome(run.layout, run.attempt, status, error, stop_signal=stop_signal, code=run.code)
        run.has_ended = True
    finally:
        signals.remove(run)


def _write_outcome(
    layout: RunDir,
    attempt: int,
    status: Status,
    error: Mapping[str, Any] | None,
    *,
    stop_signal: str | None = None,
    code: RunningCode | None = None,
) -> None:
    before = load_yaml_or_empty(layout.info)
    latest = before.get("attempt")
    if latest == attempt:
        info = metadata.with_requirements(before, installed_distributions().requirements(list(sys.modules)))
        if code is not None:  # by now it has loaded all that it runs
            info = code.record(info, layout)
        digest.write_info(layout, metadata.ended_info(info, status, error, stop_signal), ended=True)
    elif not before:
        log.warning("%s is gone, and with it what the run has recorded: %s", layout.path, status)
    else:
        # a node believed dead lets two attempts run at once; the later one owns the folder
        log.warning(
            "run %s: attempt %s has taken over, this one (%s) records nothing more", layout.path, latest, attempt
        )


def _save_return_value(layout: RunDir, value: Any) -> None:
    try:
        return_value.save_return_value(layout, value)
    except OSError as error:  # a full disk is no reason for a run that is complete not to say so
        log.warning("what the run returned is not kept: %s", error)


def close_for_dead_child(layout: RunDir, error: BaseException) -> None:
    """Write the outcome of a run whose process, a child of this one, was killed before it could."""
    info = load_yaml_or_empty(layout.info)
    ours = info.get("parent_process_id") == os.getpid()
    if ours and info.get("status") == Status.RUNNING and is_alive(info) is False:
        digest.write_info(layout, metadata.ended_info(info, *metadata.outcome(error)), ended=True)


def _as_configuration(config: Any) -> dict[str, Any]:
    """Convert what a user gives for a configuration; before a run has a folder and a number."""
    if not isinstance(config, Mapping):
        written = '{"lr": 0.1}'
        if dataclasses.is_dataclass(config):
            written = "dataclasses.asdict(config)"
        elif hasattr(config, "__dict__"):  # argparse's, for example
            written = "vars(config)"
        raise ConfigurationTypeError(
            f"the configuration of a run is a mapping, not {type(config).__name__}: write start_run(log_dir, {written})"
        )
    try:
        plain: dict[str, Any] = to_builtins(config)
    except PlainValueError as error:
        raise ConfigurationError(f"{error.place('config')}: {error}") from None
    if nested.count_values(plain) > nested.MAX_VALUES:
        largest = max(plain, key=lambda key: nested.count_values(plain[key]))
        raise ConfigurationError(
            f"config[{largest!r}] holds {nested.count_values(plain[largest]):,} values, and all of a configuration at "
            f"most {nested.MAX_VALUES:,}: keep data as an artifact, run.log_artifacts(array, {str(largest)!r}, 'numpy')"
        )
    return plain


def start_run(
    log_dir: str | os.PathLike[str], config: Mapping[str, Any] | None = None, *, snapshot: str = "auto"
) -> Run:
    """Record a run outside of Hydra: a plain script, a notebook.

    ``config`` is any mapping. Values of numpy, torch, jax and the like become numbers and lists, sets sorted lists, str
    and int enums their values, dataclasses mappings, paths and dates text, anything else its text. Raises
    ConfigurationError for one that cannot be kept. In a git repository the run records the version of its code, with
    changes that are not committed; ``snapshot="commit"`` the last commit alone, ``"none"`` nothing.

    Either ``with start_run(...) as run:``, which is COMPLETE when the block
    ends and FAILED when it raises; or ``run = start_run(...)``, in one cell of a notebook, and ``run.finish()`` in
    another. One that the program forgets to finish is CANCELLED when the program ends, or when another was started
    and nothing refers to this one any more; a program that dies of an exception is FAILED by that. With MLXP_MODE=off
    it is a run that takes every call and keeps nothing.
    """
    if _imports_main_again():
        raise RunError(
            "start_run was called while a worker process imports the program: each worker would record a run of its "
            'own. Put the call below `if __name__ == "__main__":`, or into a function that is called from there.'
        )
    plain = _as_configuration({} if config is None else config)
    if current.is_off():
        return start_unrecorded(plain)
    with RunAllocator(log_dir) as allocator:
        layout = allocator.allocate()
    current.let_go()
    running = running_code(_calling_program(), layout.path.parent, snapshot)
    top = None if running is None else running.tree
    run = start_recording(layout, config=plain, end=end_recording, code=top, running=running)
    weakref.finalize(run, _end_dropped, id(run), layout, run.attempt, run.pid).atexit = False
    _watch_exit(run.pid)
    return run


def _calling_program() -> Path:
    """The file of whoever calls start_run: that of a console script has no more than an import."""
    file = Path(sys._getframe(2).f_code.co_filename).absolute()  # noqa: SLF001  (inspect.stack reads all sources)
    return file if file.is_file() else Path.cwd() / "-"


def _imports_main_again() -> bool:
    """Tell whether this is a worker that multiprocessing has spawned, and that is not at its own work yet."""
    process = sys.modules.get("multiprocessing.process")
    return process is not None and getattr(process.current_process(), "_inheriting", False)


@functools.cache
def _watch_exit(_: int) -> None:
    """Have the end of this process noticed, once for each; forked workers of multiprocessing pass atexit by."""
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        from multiprocessing.util import Finalize  # noqa: PLC0415

        Finalize(None, _end_unfinished, exitpriority=0)
    else:
        atexit.register(_end_unfinished)


def _end_unfinished() -> None:
    """End the runs of start_run that are still on when the program ends: nobody has said that they are complete."""
    # a program goes on after an exception where it is interactive; a worker, before Python 3.13, ends while one passes
    error = sys.exc_info()[1] or (None if hasattr(sys, "ps1") else getattr(sys, "last_value", None))
    error = None if isinstance(error, SystemExit) else error
    for run in current.recorded_runs():
        if run.pid != os.getpid() or not run.is_finishable:
            continue
        try:
            if error is not None or signals.observed_stop_signal(run) is not None:
                end_recording(run, error)
            else:
                finish(run, Status.CANCELLED, _not_finished("the program, or the notebook's kernel, ended"))
        except OSError as problem:
            log.warning("%r: how it ended cannot be written: %s", run, problem)


def _end_dropped(key: int, layout: RunDir, attempt: int, pid: int) -> None:
    """End a run of which nothing is left but its folder, since another was started under its name."""
    if not current.pop(key) or os.getpid() != pid:
        return
    log.warning("run %s was not finished: nothing refers to it any more, so it is CANCELLED", layout.path)
    try:
        _write_outcome(layout, attempt, Status.CANCELLED, _not_finished("another run was started in its place"))
    except OSError as problem:
        log.warning("run %s: how it ended cannot be written: %s", layout.path, problem)


def _not_finished(what: str) -> dict[str, Any]:
    message = f"{what} before run.finish() was called, so that nothing says the work was complete"
    return {"type": "NotFinished", "message": message, "traceback": None}


def _counted_by_script() -> int:
    """The number that script.sh gave this start; taken out of the environment, so that no child inherits it."""
    number = os.environ.pop(_ATTEMPT, "")
    return int(number) if number.isdigit() else 1


def _program() -> dict[str, Any]:
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    return {
        "user": current_user(),
        "executable": sys.executable,
        "command": list(sys.orig_argv),
        "work_dir": str(Path.cwd()),
        "current_file_path": None if main is None else str(Path(main).absolute()),
    }

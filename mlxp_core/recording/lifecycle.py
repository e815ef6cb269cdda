"""Open and close runs: write info.yaml with RUNNING when the work starts, and with its outcome when it ends."""

from __future__ import annotations

import logging
import os
import sys
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlxp_core import nested
from mlxp_core.recording import current, signals
from mlxp_core.recording.environment import describe_environment
from mlxp_core.recording.packages import installed_distributions, lock_files
from mlxp_core.recording.run import Run
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
    launch_dir: Path | None = None,
) -> Run:
    """Start recording in a run folder, and make it the current run.

    ``code`` is the top of the code that runs, where it is known; ``launch_dir`` the directory of the command line.
    ``config`` is None where the submission has written the configuration already. A folder that holds an attempt
    which has started before gets the next one: what the earlier wrote is put aside, not over. script.sh counts those
    that ended before a program of theirs was up, too.
    """
    layout.metadata.mkdir(parents=True, exist_ok=True)
    before = load_yaml_or_empty(layout.info)
    attempt = before.get("attempt", 1)
    if before.get("status") not in {None, Status.PENDING}:
        replaced = (layout.metrics, *(() if config is None else (layout.config, layout.config_unresolved)))
        archive(layout, attempt, replaced, info=before)
        attempt += 1
    if config is None:
        attempt = max(attempt, _counted_by_script())
    written = None if config is None else _write_config(layout, config, config_unresolved)
    _write_environment(layout, code)
    info = metadata.running_info(layout, before, attempt, this_process(), {**_program(), **(facts or {})})
    info = metadata.with_requirements(info, installed_distributions().requirements(list(sys.modules)))
    run = Run(layout, attempt, launch_dir or Path.cwd())
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
    written = digest.write_config(layout, nested.to_builtins(config))
    if config_unresolved is not None:
        write_yaml(layout.config_unresolved, nested.to_builtins(config_unresolved))
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


def end_recording(run: Run, error: BaseException | None, value: Any = None) -> None:
    """Write the outcome of a run whose program raised an exception, or none and returned a value."""
    stop_signal = signals.observed_stop_signal(run)
    status, described = metadata.outcome(error, stopping=stop_signal is not None)
    finish(run, status, described, stop_signal=stop_signal, value=value)


def finish(
    run: Run,
    status: Status,
    error: Mapping[str, Any] | None = None,
    *,
    stop_signal: str | None = None,
    value: Any = None,
) -> None:
    """Write the outcome of a run, and what it returned; it is no longer the current one."""
    current.pop(id(run))
    if os.getpid() != run.pid:
        return  # a child that comes to an end of its own; the run is its parent's
    try:
        run.close()
        before = load_yaml_or_empty(run.layout.info)
        attempt = before.get("attempt")
        if attempt == run.attempt:
            if status is Status.COMPLETE:
                _save_return_value(run.layout, value)
            info = metadata.with_requirements(before, installed_distributions().requirements(list(sys.modules)))
            digest.write_info(run.layout, metadata.ended_info(info, status, error, stop_signal), ended=True)
        else:
            # a node believed dead lets two attempts run at once; the later one owns the folder
            log.warning("%r: attempt %s has taken over, this one (%s) records nothing more", run, attempt, run.attempt)
    finally:
        signals.remove(run)


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


@contextmanager
def start_run(log_dir: str | os.PathLike[str], config: Mapping[str, Any] | None = None) -> Iterator[Run]:
    """Record a run outside of Hydra: a notebook, a plain script.

    ``config`` is any mapping of plain values. The run is COMPLETE when the block ends, FAILED when it raises.
    """
    with RunAllocator(log_dir) as allocator:
        layout = allocator.allocate()
    run = start_recording(layout, config=config or {})
    try:
        yield run
    except BaseException as error:
        end_recording(run, error)
        raise
    end_recording(run, None)


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

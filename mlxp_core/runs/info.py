"""The content of info.yaml at each stage of a run. Pure: plain values in, plain values out."""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from mlxp_core.runs.code_version import CodeVersion
from mlxp_core.runs.layout import RunDir
from mlxp_core.runs.status import Status

# of a run folder: raised where an earlier version of the package would take what a later one wrote for something else.
# A folder without one is of the time before there was a number, and is understood; 1 is the first
FORMAT = 1


def newer_format(info: Mapping[str, Any]) -> str:
    """Say that a run folder is of a later version of the package; empty for one that this version understands."""
    number = info.get("format")
    if not isinstance(number, int) or number <= FORMAT:
        return ""
    return (
        f"a newer version of hydra-mlxp wrote it (format {number}, and this version knows {FORMAT}): "
        "pip install --upgrade hydra-mlxp"
    )


def now() -> str:
    """The time, ISO 8601 with zone and microseconds."""
    return datetime.now().astimezone().isoformat()


def pending_info(layout: RunDir, facts: Mapping[str, Any], attempt: int) -> dict[str, Any]:
    """Info of a run that is about to be submitted."""
    return {
        "status": str(Status.PENDING),
        "attempt": attempt,
        "format": FORMAT,
        "submit_time": now(),
        **facts,
        "logger": _logger(layout),
    }


def running_info(
    layout: RunDir, before: Mapping[str, Any], attempt: int, process: Mapping[str, Any], facts: Mapping[str, Any]
) -> dict[str, Any]:
    """Info of a run that starts now; ``before`` is what was known when it was submitted."""
    ended = {"end_time", "error", "stop_signal"}  # of an earlier attempt
    return {
        **{key: value for key, value in before.items() if key not in ended},
        "status": str(Status.RUNNING),
        "attempt": attempt,
        "format": FORMAT,
        "start_time": now(),
        **process,
        **facts,
        "logger": _logger(layout),
    }


def relocated_info(layout: RunDir, before: Mapping[str, Any]) -> dict[str, Any]:
    """Info of a run whose folder was moved to where it is."""
    return {**before, "logger": _logger(layout)}


def with_requirements(info: Mapping[str, Any], requirements: Sequence[str]) -> dict[str, Any]:
    """Info of a run that has loaded modules of these distributions, by ``name==version``."""
    return {**info, **replace(CodeVersion.from_info(info), requirements=tuple(requirements)).as_info}


def ended_info(
    before: Mapping[str, Any], status: Status, error: Mapping[str, Any] | None = None, stop_signal: str | None = None
) -> dict[str, Any]:
    """Info of a run that has ended now. script.sh looks for the lines of status, attempt and stop_signal."""
    info = {**before, "status": str(status), "end_time": now()}
    if stop_signal is not None:
        info["stop_signal"] = stop_signal
    if error is not None:
        info["error"] = dict(error)
    return info


def outcome(error: BaseException | None, *, stopping: bool = False) -> tuple[Status, dict[str, Any] | None]:
    """Status, and the ``error`` field, of a task function that ended with this exception, or with none.

    ``stopping``: it knew that it was asked to stop, and left in an orderly way unless it raised.
    """
    if stopping and (error is None or isinstance(error, SystemExit)):
        return Status.PREEMPTED, None
    if error is None or (isinstance(error, SystemExit) and not error.code):
        return Status.COMPLETE, None
    status = Status.CANCELLED if isinstance(error, _cancelling()) else Status.FAILED
    return status, describe_error(error)


def _cancelling() -> tuple[type[BaseException], ...]:
    """What ends work from outside: Ctrl-C, a generator that nobody asks for more, a task that asyncio cancels."""
    asyncio = sys.modules.get("asyncio")
    cancelled = getattr(asyncio, "CancelledError", None)
    return (KeyboardInterrupt, GeneratorExit, *([cancelled] if cancelled else []))


def outcome_of_signal(name: str) -> tuple[Status, dict[str, Any]]:
    """Status and ``error`` field of a program that a signal ends: SIGTERM cancels, the others are warnings."""
    number = int(signal.Signals[name])
    error = {"type": name, "message": f"ended by signal {number}, {name}", "traceback": None}
    return Status.CANCELLED if name == "SIGTERM" else Status.PREEMPTED, error


def describe_error(error: BaseException) -> dict[str, Any]:
    """The ``error`` field: type, message, traceback."""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return {
        "type": name,
        "message": _text(error),
        "traceback": "".join(traceback.format_exception(kind, error, error.__traceback__)),
    }


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as other:  # noqa: BLE001  (an exception of the user's may do anything)
        return f"(its message cannot be had: {type(other).__name__})"


def _logger(layout: RunDir) -> dict[str, Any]:
    run_id = layout.id
    return {"log_id": layout.path.name if run_id is None else run_id, "log_dir": str(layout.path)}

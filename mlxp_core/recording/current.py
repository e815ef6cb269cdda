"""The run that this process records: ``current_run()``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlxp_core.errors import NoActiveRunError

if TYPE_CHECKING:
    from mlxp_core.recording.run import Run

_active: list[Run] = []
_failure: BaseException | None = None


def current_run() -> Run:
    """Return the run that this process records.

    Raises NoActiveRunError where none is on, with how to switch one on; and the recording's own error where it failed.
    """
    if _active:
        return _active[-1]
    if _failure is not None:
        raise _failure
    raise NoActiveRunError(
        "no run is being recorded. Add hydra/callbacks=mlxp to the command line of a Hydra program, submit it with "
        "hydra/launcher=mlxp_slurm (or mlxp_local, …), or use `with mlxp_core.start_run(log_dir, config) as run:`."
    )


def push(run: Run) -> None:
    """Make a run the current one."""
    _active.append(run)


def pop(run: Run) -> None:
    """Make the run before it the current one again."""
    if run in _active:
        _active.remove(run)


def remember_failure(error: BaseException | None) -> None:
    """Keep the reason why there is no run, for current_run to raise; None: there is no such reason any more."""
    global _failure  # noqa: PLW0603  (of the process's one recording)
    _failure = error

"""Which run this process records: ``current_run()``. The only module that remembers it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlxp_core.errors import NoActiveRunError

if TYPE_CHECKING:
    from mlxp_core.recording.run import Run

_active: list[Run] = []
_failure: BaseException | None = None


def current_run() -> Run:
    """The run that this process records.

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
    """Take a run away from being current."""
    if run in _active:
        _active.remove(run)


def remember_failure(error: BaseException | None) -> None:
    """Keep why there is no run, for current_run to raise."""
    global _failure  # noqa: PLW0603  (what the process's one recording came to)
    _failure = error

"""This process's program in a session of ``mlxpsub``; none outside of one, where nothing of mlxpsub is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hydra_plugins.mlxp._mlxpsub_program import MlxpsubProgram

_program: MlxpsubProgram | None = None


def set_current(program: MlxpsubProgram) -> None:
    """Register the program of this process."""
    global _program  # noqa: PLW0603  (one program for each process)
    _program = program


def current() -> MlxpsubProgram | None:
    """The program, where mlxpsub has started it."""
    return _program


def is_dry() -> bool:
    """Tell whether nothing is to be written."""
    return _program is not None and _program.session.dry_run


def is_job_variable(name: str) -> bool:
    """Tell whether only a job has a variable: one of the scheduler's, or one that the script makes of them."""
    from mlxp_core.scheduler import variables  # noqa: PLC0415  (each recorded run loads this module, and none of them)

    return variables.is_of_a_job(name) or (_program is not None and name in _program.job_variables)

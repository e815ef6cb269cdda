"""hydra-mlxp: runs that explain themselves, written from a plain Hydra script and read with Polars.

In a script: ``from mlxp_core import current_run``. To read: ``from mlxp_core.reader import Reader``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlxp_core.recording.current import current_run
    from mlxp_core.recording.lifecycle import start_run
    from mlxp_core.recording.run import Run

__all__ = ["Run", "__version__", "current_run", "start_run"]

__version__ = "0.1.0"

_HOMES = {"Run": "recording.run", "current_run": "recording.current", "start_run": "recording.lifecycle"}


if not TYPE_CHECKING:  # to which any name would be one of these

    def __getattr__(name: str) -> object:
        # every Hydra program of the environment imports this package, few of them record a run
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module  # noqa: PLC0415

        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

"""MLXP's own interface over this pack, for projects that were written for it: ``import mlxp_core.mlxp as mlxp``.

A thin adapter: runs are recorded and read as everywhere else here. An installed ``mlxp`` is another package, and stays.
Not here: ``GitVM``, parsers of queries, and schedulers, in whose place Hydra's launchers submit.
What each setting of MLXP becomes: ``mlxp_core.migrate``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlxp_core.mlxp.data_structures.config_dict import ConfigDict
    from mlxp_core.mlxp.data_structures.dataframe import DataFrame
    from mlxp_core.mlxp.launcher import Context, launch
    from mlxp_core.mlxp.logger import DefaultLogger, Logger
    from mlxp_core.mlxp.reader import Reader

__all__ = ["ConfigDict", "Context", "DataFrame", "DefaultLogger", "Logger", "Reader", "launch"]

_HOMES = {
    "ConfigDict": "data_structures.config_dict",
    "Context": "launcher",
    "DataFrame": "data_structures.dataframe",
    "DefaultLogger": "logger",
    "Logger": "logger",
    "Reader": "reader",
    "launch": "launcher",
}


if not TYPE_CHECKING:  # to which any name would be one of these

    def __getattr__(name: str) -> object:
        # who trains need not load Polars, who reads need not load Hydra
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module  # noqa: PLC0415

        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

"""``mlxp.Reader``: MLXP's names over this pack's reader, which reads the log directories of both."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlxp_core.mlxp.data_structures.dataframe import LAZYARTIFACT, LAZYDATA, DataDict, DataFrame, artifact_columns
from mlxp_core.mlxp.logger import logger_info
from mlxp_core.reader import Reader as RunReader
from mlxp_core.reader import Runs
from mlxp_core.reader.load.attempts import attempt_path, load_resumption
from mlxp_core.reader.load.fields import path_of
from mlxp_core.reader.load.metrics import list_logs, load_keys
from mlxp_core.runs.layout import RunDir
from mlxp_core.yaml_io import load_yaml_or_empty

_FORMATS = ("pandas", "datadict")
_SEARCHABLE = ("info.", "config.")


class Reader:
    """The runs of a log directory, as they are when they are asked for; ordered by number. Nothing is written."""

    def __init__(
        self,
        src_dir: str | os.PathLike[str],
        dst_dir: str | os.PathLike[str] | None = None,
        parser: None = None,
        refresh: bool = True,  # noqa: FBT001, FBT002, ARG002  (there is no data base that could be out of date)
    ) -> None:
        """``dst_dir`` and ``refresh`` have no effect. Raises StoreError (an OSError) where there are no runs."""
        if parser is not None:
            raise TypeError("parser: queries are in the language of mlxp_core.reader, of which MLXP's is a part")
        self.src_dir = os.path.abspath(src_dir)  # noqa: PTH100  (text, as MLXP gives)
        self.dst_dir = self.src_dir if dst_dir is None else os.fspath(dst_dir)
        self._reader = RunReader(src_dir)

    def __len__(self) -> int:
        """Count the runs."""
        return len(self._reader)

    def filter(self, query_string: str = "", result_format: str = "datadict") -> Any:
        """Give the runs for which a query holds, as a DataFrame, or with ``result_format="pandas"`` one of pandas.

        Raises QueryError (a ValueError), which points at the fault in the query.
        """
        if result_format not in _FORMATS:
            raise ValueError(f"result_format={result_format!r}: it is one of {', '.join(_FORMATS)}")
        frame = _rows(self._reader.filter(query_string))
        return frame.toPandas(lazy=False) if result_format == "pandas" else frame

    @property
    def fields(self) -> Any:
        """All columns and their types, a pandas DataFrame."""
        return self._described(("",))

    @property
    def searchable(self) -> Any:
        """Those of them that a query may ask for."""
        return self._described(_SEARCHABLE)

    def _described(self, starts: tuple[str, ...]) -> Any:
        import pandas as pd  # noqa: PLC0415  (an extra)

        types: dict[str, str] = {}
        for row in self.filter():
            for key, value in row.flattened().items():
                is_lazy = isinstance(value, str) and not key.startswith(_SEARCHABLE)
                types[key] = {LAZYARTIFACT: "Artifact"}.get(value, value) if is_lazy else str(type(value))
        rows = sorted((key, kind) for key, kind in types.items() if key.startswith(starts))
        return pd.DataFrame(rows, columns=["Fields", "Type"]).set_index("Fields")


def _rows(runs: Runs) -> DataFrame:
    described = runs.metadata.select("path", "info.status").iter_rows() if len(runs) else ()
    return DataFrame(_row(path_of(path), status) for path, status in described)


def _row(path: str, status: str | None) -> DataDict:
    """Give the columns of a run, by name: its configuration, its info.yaml, its metrics and artifacts."""
    run = RunDir(Path(path))
    info = load_yaml_or_empty(run.info)
    info = {**info, "status": status or info.get("status"), "logger": {**logger_info(run), **info.get("logger", {})}}
    values = {**_flat(load_yaml_or_empty(run.config), "config"), **_flat(info, "info")}
    metrics = {f"{log_name}.{key}": (log_name, key) for log_name, key in _metrics(path)}
    values |= dict.fromkeys(metrics, LAZYDATA)
    values |= dict.fromkeys(artifact_columns(path), LAZYARTIFACT)
    return DataDict(dict(sorted(values.items())), path, metrics)


def _metrics(path: str) -> Iterator[tuple[str, str]]:
    """Give log and key of the metrics of a run, with those that only attempts before it have."""
    for log_name in list_logs(path)[0]:
        yield from ((log_name, key) for key, _ in load_keys(path, log_name).kinds)
    for log_name, parts in load_resumption(path, 0).joins:
        for attempt in dict.fromkeys(part[0] for part in parts):
            yield from ((log_name, key) for key, _ in load_keys(attempt_path(path, attempt), log_name).kinds)


def _flat(content: dict[str, Any], before: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in content.items():
        flat |= _flat(value, f"{before}.{key}") if isinstance(value, dict) else {f"{before}.{key}": value}
    return flat

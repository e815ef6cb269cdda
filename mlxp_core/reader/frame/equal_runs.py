"""Runs that are one measurement made several times: the same configuration, seed included, and the same code."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import polars as pl

from mlxp_core.atomic_files import load_bytes
from mlxp_core.errors import StatisticsWarning
from mlxp_core.reader.frame.schema import Schema
from mlxp_core.reader.load.fields import path_of
from mlxp_core.reader.statistics.steps import POSITION, RUN, in_words, run_name
from mlxp_core.runs.layout import RunDir

_CONFIG = "config."
_VERSION = "info.version_manager."
_DIRTY = f"{_VERSION}dirty"
_CODE = (f"{_VERSION}commit_hash", f"{_VERSION}function_hash", _DIRTY)
# the program: its name for Hydra, and its file, which for the jobs of a launcher is that of a copy
_JOB_NAME = "info.hydra.job_name"
_FILE = "info.current_file_path"
_START = "info.start_time"
_DIFF = "diff"
_SET = "set"

_MAX_NAMED = 3


def warn_of_equal_runs(runs: pl.LazyFrame, schema: Schema, keys: Sequence[str]) -> None:
    """Warn, where two runs of a group are equal, that they are one: at the line which called who calls this."""
    equal = _equal_runs(runs, schema, keys)
    if equal is None:
        return
    sets = [in_words(names) for names in equal.group_by(_SET, maintain_order=True).agg(RUN)[RUN].to_list()]
    others = [f"{len(sets) - _MAX_NAMED} more such sets"] if len(sets) > _MAX_NAMED else []
    warnings.warn(
        f"{'; '.join(sets[:_MAX_NAMED] + others)}: equal in configuration, seed included, and in the code recorded, "
        "and yet counted as several in n, std and intervals. runs.latest() keeps the newest of equal ones",
        StatisticsWarning,
        stacklevel=3,
    )


def superseded(runs: pl.LazyFrame, schema: Schema) -> pl.Series:
    """Give the paths of those runs of which there is a newer, equal one."""
    equal = _equal_runs(runs, schema, [])
    if equal is None:
        return pl.Series("path", [], dtype=pl.String)
    started = pl.lit(None)
    if _START in schema.metadata:
        # one without a time has not started yet, or it is not known: older than all others, in the order of their ids
        times = runs.select("path", _START).collect()
        equal = equal.join(times, on="path", how="left", maintain_order="left")
        started = pl.col(_START)
    newest = equal.with_columns(started.alias(_START)).sort(_START, "id", "path")  # missing ones first
    return newest.filter(~pl.col(_SET).is_last_distinct())["path"]


def _equal_runs(runs: pl.LazyFrame, schema: Schema, keys: Sequence[str]) -> pl.DataFrame | None:
    """Give ``id``, ``path``, ``run`` (its name) and ``set`` (a number) of runs that have an equal one; None for none.

    Of the metadata no more is read than tells. A run whose configuration is empty, or cannot be read, equals no other.
    """
    config = [name for name in schema.metadata if name.startswith(_CONFIG)]
    identity = [name for name in dict.fromkeys((*config, *keys, *_CODE, _JOB_NAME, _FILE)) if name in schema.metadata]
    if not config:
        return None
    frame = runs.select("id", "path", *(name for name in identity if name not in {"id", "path"})).collect()
    frame = frame.with_row_index(POSITION).filter(pl.any_horizontal(pl.col(config).is_not_null()))
    frame = frame.with_columns(run_name(frame.schema))
    if _FILE in identity:  # the program is known by it where Hydra has given no name
        name = pl.col(_FILE).str.split("/").list.last()
        unnamed = pl.col(_JOB_NAME).is_null() if _JOB_NAME in identity else pl.lit(value=True)
        frame = frame.with_columns(pl.when(unnamed).then(name).alias(_FILE))
    equal = _among_equals(frame, identity)
    if equal is not None and _DIRTY in identity:
        changes = [_changes(path) if dirty else None for path, dirty in equal.select("path", _DIRTY).iter_rows()]
        equal = _among_equals(equal.with_columns(pl.Series(_DIFF, changes, dtype=pl.String)), [*identity, _DIFF])
    return None if equal is None else equal.select("id", "path", RUN, _SET)


def _among_equals(frame: pl.DataFrame, identity: Sequence[str]) -> pl.DataFrame | None:
    """Give the rows that have an equal one in these columns, with the number of their set; None for none."""
    sets = frame.group_by(identity, maintain_order=True).agg(POSITION).filter(pl.col(POSITION).list.len() > 1)
    if not sets.height:
        return None
    members = sets.select(POSITION).with_row_index(_SET).explode(POSITION)
    return frame.drop(_SET, strict=False).join(members, on=POSITION, maintain_order="left")


def _changes(path: str) -> str:
    """Give a digest of what a run's code had changed of its commit; where that is not known, one of its own."""
    try:
        return sha256(load_bytes(os.fspath(RunDir(Path(path_of(path))).diff))).hexdigest()
    except OSError:
        return path

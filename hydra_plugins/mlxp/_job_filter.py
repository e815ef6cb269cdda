"""The reader's query language, asked of jobs instead of runs. The only module of the plugins that loads the reader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from mlxp_core.reader import compile_query
from mlxp_core.reader.load.column_types import column_type, conversions, is_one_type
from mlxp_core.reader.load.fields import Kind, kind_of, read_fields


def matching(configs: Sequence[Mapping[str, Any]], overrides: Sequence[Mapping[str, Any]], query: str) -> set[int]:
    """The indices of the jobs for which a query holds.

    A query may ask for ``config.…``, as of a run, and for the value of each override by its own key, such as
    the choice of a config group. Raises QueryError.
    """
    rows = [_cells(config, values) for config, values in zip(configs, overrides, strict=True)]
    names = dict.fromkeys(name for row in rows for name in row)
    schema: dict[str, pl.DataType] = {}
    untyped = set()
    columns = []
    for name in names:
        cells = [row.get(name, ("null", None)) for row in rows]
        kinds = {kind for kind, _ in cells}
        dtype = schema[name] = column_type(kinds)
        if not is_one_type(kinds):  # looked at of String columns alone
            untyped.add(name)
        convert = conversions(dtype)
        columns.append(pl.Series(name, [convert[kind](value) for kind, value in cells], dtype=dtype))
    condition = compile_query(query, schema, untyped=untyped)
    table = pl.DataFrame(columns).with_row_index("\0index")
    return set(table.filter(condition)["\0index"].to_list())


def _cells(config: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, tuple[Kind, Any]]:
    fields, _ = read_fields("config", config)
    set_values = {key: (kind_of(value), value) for key, value in overrides.items()}
    names = zip(fields.schema.items, fields.values, strict=True)
    return set_values | {name: (kind, value) for (name, kind), value in names}

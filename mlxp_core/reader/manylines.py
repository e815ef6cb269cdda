"""Columns of numbers out of many metric files at once, by Polars' own parser: some times faster than line by line.

Only for what is beyond doubt: every line one flat object, every value of the columns asked for a number. Anything else
(NaN, text, null, nested values, broken lines, a key twice in a line, numbers beyond every float) is declined, and read
line by line. What is not declined is the same as there, which a test compares.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import polars as pl

_RUN = "run"


def columns_of(contents: Sequence[bytes | None], keys: Mapping[str, str]) -> list[pl.Series] | None:
    """Give for each column (name -> key) a list for each file: one value a line, null where a line lacks the key.

    As ``Lines.column`` has it: null for a file that is not there (None) or has lines, but none with the key, and an
    empty list for one without lines. None for what is declined. ``contents`` end at a newline, or are empty.
    """
    text = b"".join(content for content in contents if content)
    lines = text.count(b"\n")
    if not text or not _is_flat(text, lines):
        return None
    try:
        # with types given, Polars refuses text, true and false, lists, and numbers beyond a float
        frame = pl.read_ndjson(text, schema=dict.fromkeys(keys.values(), pl.Float64))
    except (pl.exceptions.PolarsError, ValueError):
        return None
    if frame.height != lines:
        return None
    for key in keys.values():
        # as often as the key is in the text there is a number: so none is null, and none is there twice in a line
        if lines - frame[key].null_count() != text.count(json.dumps(key).encode()):
            return None
    values = {name: frame[key] for name, key in keys.items()}
    counts = [content.count(b"\n") if content else 0 for content in contents]
    return _lists(values, contents, counts)


def _is_flat(text: bytes, lines: int) -> bool:
    """Whether every line begins with a brace, ends with one, and has no others."""
    return (
        text.startswith(b"{")
        and text.count(b"\n{") == lines - 1
        and text.count(b"}\n") == lines
        and text.count(b"{") == lines
        and text.count(b"}") == lines
    )


def _lists(values: Mapping[str, pl.Series], contents: Sequence[bytes | None], counts: Sequence[int]) -> list[pl.Series]:
    places = pl.Series(range(len(counts)), dtype=pl.UInt32)
    run = places.repeat_by(pl.Series(counts, dtype=pl.UInt32)).explode(empty_as_null=False)
    frame = pl.DataFrame([run.alias(_RUN), *(column.alias(f"column {name}") for name, column in values.items())])
    lists = frame.group_by(_RUN, maintain_order=True).agg(pl.all())
    every = places.alias(_RUN).to_frame().join(lists, on=_RUN, how="left", maintain_order="left")
    empty = pl.Series([content is not None and not count for content, count in zip(contents, counts, strict=True)])
    result = []
    for name in values:
        column = every[f"column {name}"]
        lacking = column.list.len() == column.list.eval(pl.element().is_null()).list.sum()
        wanted = pl.select(
            pl.when(empty).then(pl.lit([], dtype=pl.List(pl.Float64))).when(lacking).then(None).otherwise(column)
        ).to_series()
        result.append(wanted.alias(name))
    return result

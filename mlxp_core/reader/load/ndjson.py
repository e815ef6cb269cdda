"""Read columns of numbers from many metric files at once, by Polars' own parser: faster than line by line.

Only for what is beyond doubt: every line one object, every value of the columns asked for a number. Anything else (NaN,
text, null, broken lines, a key twice in a line, numbers beyond every float) is declined, and read line by line. What is
not declined is the same as there, which a test compares.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import polars as pl

_RUN = "run"  # no name of a metric column, which has a dot


def read_columns(contents: Sequence[bytes | None], keys: Mapping[str, str]) -> list[pl.Series] | None:
    """Give for each column (name -> key) a list for each file: one value a line, null where a line lacks the key.

    As ``Lines.column`` has it: null for a file that is not there (None) or has lines, but none with the key, and an
    empty list for one without lines. None for what is declined. ``contents`` end at a newline, or are empty.
    """
    line_counts = [content.count(b"\n") if content else 0 for content in contents]
    lines = sum(line_counts)
    text = b"".join(content for content in contents if content)
    # a line that begins with a brace is one object for Polars, and a row, or an error
    if not text.startswith(b"{") or text.count(b"\n{") != lines - 1:
        return None
    try:
        # with types given, Polars refuses text, true and false, lists, and numbers beyond a float
        frame = pl.read_ndjson(text, schema=dict.fromkeys(keys.values(), pl.Float64))
    except (pl.exceptions.PolarsError, ValueError):
        return None
    if frame.height != lines:
        return None
    if not _occur_once(text, frame):
        return None
    values = {name: frame[key] for name, key in keys.items()}
    return _lists(values, contents, line_counts)


def _occur_once(text: bytes, frame: pl.DataFrame) -> bool:
    """Check that there is a number wherever one of the keys is in the text: so none is null, none twice in a line."""
    counts = [frame.height - column.null_count() for column in frame]
    if frame.width > 1 and sum(counts) == text.count(b":"):  # then there are no other keys
        return True
    # a key may be spelt with escapes
    return b"\\" not in text and all(
        text.count(json.dumps(key).encode()) == count for key, count in zip(frame.columns, counts, strict=True)
    )


def _lists(values: Mapping[str, pl.Series], contents: Sequence[bytes | None], counts: Sequence[int]) -> list[pl.Series]:
    if counts[0] and counts.count(counts[0]) == len(counts):  # as long as each other, as those of a sweep often are
        lists = pl.DataFrame({name: column.reshape((len(counts), counts[0])) for name, column in values.items()})
        lists = lists.select(pl.all().arr.to_list())
    else:
        lists = _ragged(values, counts)
    empty = pl.Series([content is not None and not count for content, count in zip(contents, counts, strict=True)])
    if empty.any():
        lists = lists.select(pl.when(empty).then(pl.lit([], dtype=pl.List(pl.Float64))).otherwise(pl.all()).name.keep())
    return [
        lists[name] if not column.null_count() else _without_lacking(lists[name]) for name, column in values.items()
    ]


def _ragged(values: Mapping[str, pl.Series], counts: Sequence[int]) -> pl.DataFrame:
    files = pl.Series(_RUN, range(len(counts)), dtype=pl.UInt32)
    file_of_line = files.repeat_by(pl.Series(counts, dtype=pl.UInt32)).explode(empty_as_null=False).set_sorted()
    frame = pl.DataFrame([file_of_line, *(column.alias(name) for name, column in values.items())])
    lists = frame.group_by(_RUN, maintain_order=True).agg(pl.all())
    return files.to_frame().join(lists, on=_RUN, how="left", maintain_order="left").drop(_RUN)


def _without_lacking(column: pl.Series) -> pl.Series:
    """Put null where no line has the key."""
    lacking = (column.list.len() > 0) & (column.list.len() == column.list.eval(pl.element().is_null()).list.sum())
    return pl.select(pl.when(lacking).then(None).otherwise(column).alias(column.name)).to_series()

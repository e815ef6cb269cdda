"""Tables for programs: whole values, with tabs between them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def print_tsv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a header, and a line for each row; None is an empty cell, tabs and line breaks are escaped."""
    print(*columns, sep="\t")
    for row in rows:
        print(*("" if value is None else _escaped(str(value)) for value in row), sep="\t")


def _escaped(cell: str) -> str:
    return cell.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")

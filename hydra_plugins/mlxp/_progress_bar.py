"""A progress bar on the terminal, for work that takes longer than a second; none where there is no terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

_PATIENCE = 1.0  # seconds without a bar


def shown(items: Sequence[T], label: str) -> Iterator[T]:
    """Give the items, and show the progress."""
    if not sys.stderr.isatty():
        yield from items
        return
    start = time.monotonic()
    for number, item in enumerate(items):
        if time.monotonic() - start > _PATIENCE:
            yield from _with_bar(items, number, label)
            return
        yield item


def _with_bar(items: Sequence[T], done: int, label: str) -> Iterator[T]:
    from rich.console import Console  # noqa: PLC0415  (slow to load)
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=len(items), completed=done)
        for item in items[done:]:
            yield item
            bar.advance(task)

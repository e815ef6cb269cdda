"""One run as it was when it was looked at: plain values, which the other modules pass on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

from mlxp_core.reader.fields import Fields
from mlxp_core.reader.problem import Problem

# log name, and the keys in it, each with whether it holds numbers only
Logs = tuple[tuple[str, tuple[tuple[str, bool], ...]], ...]


@dataclass(frozen=True, slots=True, eq=False)  # the same run looked at twice is the same object where nothing changed
class RunRecord:
    """One run. ``status`` is derived, None where info.yaml cannot be read."""

    path: str
    id: int | None
    status: str | None
    config: Fields
    info: Fields
    problems: tuple[Problem, ...]
    artifacts: tuple[str, ...] = ()  # "<type>/<name>" each, sorted
    logs: Logs = ()
    # it stays as it is for as long as nothing is put into its folders: it has ended, or waits for its start
    settled: bool = False

    @property
    def name(self) -> str:
        """Name of its folder."""
        return self.path.rpartition("/")[2]

    @property
    def order(self) -> tuple[bool, int, str]:
        """What runs are ordered by: their ids, then those that the user named, by name."""
        return self.id is None, self.id or 0, self.name


T = TypeVar("T", bound=tuple[Any, ...])
_MOST_KNOWN = 10_000
_known: dict[Any, Any] = {}


def interned(items: T) -> T:
    """Give the one tuple that is equal to this one: the runs of a sweep share theirs, and equal is then identical."""
    if len(_known) > _MOST_KNOWN:
        _known.clear()
    same: T = _known.setdefault(items, items)
    return same

"""One run as it was when it was looked at: plain values, which the other modules pass on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from mlxp_core.reader.load.fields import NO_FIELDS, Fields, valid_text
from mlxp_core.reader.load.problem import Problem

# log name, and the keys in it, each with whether it holds numbers only
Logs = tuple[tuple[str, tuple[tuple[str, bool], ...]], ...]


SCALARS = (str, int, float)


class Document(NamedTuple):
    """What one file of metadata holds."""

    fields: Fields = NO_FIELDS
    facts: Mapping[str, Any] = MappingProxyType({})  # some of its values, as they are, those that are SCALARS
    problems: tuple[Problem, ...] = ()
    readable: bool = True
    out_of_reach: bool = False  # to this user, or for now: not what the file holds

    @classmethod
    def of(cls, path: str, fields: Fields, facts: Mapping[str, Any], claimed_twice: Iterable[str]) -> Document:
        """``claimed_twice``: see read_fields."""
        problems = (
            Problem(valid_text(path), f"two values claim {name}; the deeper one counts") for name in claimed_twice
        )
        return cls(fields, facts, tuple(problems))


# the same run looked at twice is the same object where nothing changed; frozen ones take three times as long to make
@dataclass(slots=True, eq=False)
class RunRecord:
    """One run, never changed. ``status`` is derived, None where info.yaml cannot be read."""

    path: str
    name: str  # of its folder
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


# Three numbers each for info.yaml, config.yaml, and the folders metadata, metrics, artifacts: ctime, size, inode.
Signature = tuple[int, ...]

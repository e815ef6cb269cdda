"""Values of one run as it was when it was read, which the other modules pass on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from mlxp_core.reader.load.fields import NO_FIELDS, Fields, valid_text
from mlxp_core.reader.load.problem import Problem

# log name, and the keys in it, each with what it holds: "number", "other", or "mixed"
Logs = tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
# bytes of an earlier attempt's metric file that still count: attempt, start, end
Part = tuple[int, int, int]
# of each log that goes on from earlier attempts (see load/attempts.py), what comes before the run's own lines
Joins = tuple[tuple[str, tuple[Part, ...]], ...]
KEY_KINDS = frozenset({"number", "other", "mixed"})

SCALARS = (str, int, float)


class Document(NamedTuple):
    """Contents of one file of metadata."""

    fields: Fields = NO_FIELDS
    raw: Mapping[str, Any] = MappingProxyType({})  # some of its values, as they are, those that are SCALARS
    problems: tuple[Problem, ...] = ()
    readable: bool = True
    out_of_reach: bool = False  # to this user, or for now: not what the file holds

    @classmethod
    def of(cls, path: str, fields: Fields, raw: Mapping[str, Any], claimed_twice: Iterable[str]) -> Document:
        """Make the document of the file at ``path``; each name in ``claimed_twice`` (see read_fields) is a problem."""
        problems = (
            Problem(valid_text(path), f"two values claim {name}; the deeper one counts") for name in claimed_twice
        )
        return cls(fields, raw, tuple(problems))


# a frozen dataclass takes three times as long to make
@dataclass(slots=True, eq=False)
class RunRecord:
    """One run, never changed: read twice, it is the same object where nothing has changed.

    ``status`` is derived, None where info.yaml cannot be read.
    """

    path: str
    name: str  # of its folder
    id: int | None
    status: str | None
    config: Fields
    info: Fields
    problems: tuple[Problem, ...]
    artifacts: tuple[str, ...] = ()  # "<type>/<name>" each, sorted
    logs: Logs = ()
    joins: Joins = ()
    # it stays as it is for as long as nothing is put into its folders: it has ended, or waits for its start
    cacheable: bool = False

    @property
    def order(self) -> tuple[bool, int, str]:
        """Sort key of the run."""
        return run_order(self.id, self.name)


def run_order(run_id: int | None, name: str) -> tuple[bool, int, str]:
    """Give the sort key of a run: by id, then those without one (folders that the user named) by name."""
    return run_id is None, run_id or 0, name


T = TypeVar("T", bound=tuple[Any, ...])
_MAX_INTERNED = 10_000
_interned: dict[Any, Any] = {}


def interned(items: T) -> T:
    """Give the one tuple that is equal to this one: the runs of a sweep share theirs, and equal is then identical."""
    if len(_interned) > _MAX_INTERNED:
        _interned.clear()
    same: T = _interned.setdefault(items, items)
    return same


# Three numbers each for info.yaml, config.yaml, and the folders metadata, metrics, artifacts: ctime, size, inode.
Signature = tuple[int, ...]

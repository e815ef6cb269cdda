"""What a reader could not read: a value that says so. Nothing unreadable is dropped without one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One file, or one part of it, that could not be used."""

    path: str
    what: str

    def __str__(self) -> str:
        """Path and reason on one line."""
        return f"{self.path}: {self.what}"


class Problems:
    """Those met so far; of each file those of the last time that it was read."""

    def __init__(self) -> None:
        """None yet."""
        self._met: dict[str, dict[str, Problem]] = {}

    def __call__(self, problem: Problem) -> None:
        """Report one."""
        self._met.setdefault(problem.path, {})[problem.what] = problem

    def forget(self, path: str) -> None:
        """Forget those of a file, which is about to be read again."""
        self._met.pop(path, None)

    def __iter__(self) -> Iterator[Problem]:
        """Go through them, in the order of the files."""
        return iter([problem for problems in list(self._met.values()) for problem in list(problems.values())])

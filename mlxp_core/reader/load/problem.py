"""Problems: values that name what could not be read. Nothing unreadable is dropped without one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """A file, or a part of it, that could not be used: its path, and what is wrong with it."""

    path: str
    what: str

    def __str__(self) -> str:
        """Path and reason on one line."""
        return f"{self.path}: {self.what}"


class Problems:
    """Problems reported so far; of each file those of the last time that it was read."""

    def __init__(self) -> None:
        """Begin with none."""
        self._by_path: dict[str, dict[str, Problem]] = {}

    def __call__(self, problem: Problem) -> None:
        """Report a problem."""
        self._by_path.setdefault(problem.path, {})[problem.what] = problem

    def forget(self, path: str) -> None:
        """Forget the problems of a file, which is about to be read again."""
        self._by_path.pop(path, None)

    def __iter__(self) -> Iterator[Problem]:
        """Go through the problems, in the order in which their files were first reported."""
        return iter([problem for problems in list(self._by_path.values()) for problem in list(problems.values())])

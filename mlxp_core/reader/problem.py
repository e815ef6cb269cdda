"""What a reader could not read: a value that says so. Nothing unreadable is dropped without one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One file, or one part of it, that could not be used."""

    path: str
    what: str

    def __str__(self) -> str:
        """Path and reason on one line."""
        return f"{self.path}: {self.what}"

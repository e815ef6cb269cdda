"""This user's folders for caches and state, by the XDG base directory specification.

By hand: importing platformdirs, which gives the same paths on Linux, takes a hundredth of a small program's start.
"""

from __future__ import annotations

import os
from pathlib import Path

_NAME = "hydra-mlxp"


def cache_dir() -> Path | None:
    """This user's cache folder, made or not; None for a user without a home."""
    return _user_dir("XDG_CACHE_HOME", "~/.cache")


def state_dir() -> Path | None:
    """This user's folder for what outlives a process and is no cache; None for a user without a home."""
    return _user_dir("XDG_STATE_HOME", "~/.local/state")


def writable_cache_dir(*parts: str) -> Path | None:
    """A folder of this user's cache folder, made private; None where it cannot be written."""
    cache = cache_dir()
    if cache is None:
        return None
    folder = cache.joinpath(*parts)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError:  # a home that is full or read-only
        return None
    return folder if os.access(folder, os.W_OK | os.X_OK) else None


def _user_dir(variable: str, default: str) -> Path | None:
    given = os.environ.get(variable, "")
    folder = given if given.strip() else os.path.expanduser(default)  # noqa: PTH111  (Path's raises without a home)
    return None if folder.startswith("~") else Path(folder, _NAME)

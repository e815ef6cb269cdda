"""Keep what runs write out of git's sight: ``.gitignore`` with ``*`` in a folder of theirs, as pytest's cache has."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from mlxp_core.atomic_files import create_atomic
from mlxp_core.runs.layout import LogDir, RunDir, is_run_id

_NAME = ".gitignore"
_CONTENT = b"# by hydra-mlxp, once: git is not to see what runs write here. Put what you like into this file.\n*\n"
# what else lies in a log directory: Hydra's sweepers write the YAML files, and users keep an empty folder by a dot file
SWEEP_FILES = frozenset({"multirun.yaml", "optimization_results.yaml"})
_OTHERS = SWEEP_FILES | {LogDir(Path()).internal.name, _NAME, ".gitkeep", ".keep"}


def hide_log_dir(log_dir: LogDir) -> bool:
    """Hide a log directory from git; False where it holds other things, so that each run has to be hidden by itself.

    A .gitignore that is there stays as it is. Never raises: it only saves the user a line in one.
    """
    with contextlib.suppress(OSError):
        if _is_ours(log_dir.path / _NAME):
            return True
        log_dir.internal.mkdir(parents=True, exist_ok=True)
        if not hide_folder(log_dir.path, _is_of_log_dir):
            hide_folder(log_dir.internal)
            return False
    return True


def hide_folder(folder: Path, belongs: Callable[[os.DirEntry[str]], bool] = lambda _: True) -> bool:
    """Hide all of a folder from git, unless it holds something that does not belong to what is to be hidden."""
    with os.scandir(folder) as entries:
        if not all(entry.name.startswith(f"{_NAME}.") or belongs(entry) for entry in entries):
            return False
    with contextlib.suppress(FileExistsError):
        create_atomic(folder / _NAME, _CONTENT)
    return True


def _is_ours(path: Path) -> bool:
    try:
        return path.read_bytes() == _CONTENT
    except OSError:
        return False


def _is_of_log_dir(entry: os.DirEntry[str]) -> bool:
    if entry.name in _OTHERS:
        return True
    if not entry.is_dir():
        return False
    run = RunDir(Path(entry.path))
    if run.metadata.is_dir() or (run.path / ".hydra").is_dir():
        return True
    # another launch has just made it
    return is_run_id(entry.name) and not any(run.path.iterdir())

"""List the artifacts of a run. Apart from how they are saved and loaded: every run and every reader imports this."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from mlxp_core.atomic_files import NOT_THERE, Stamp, stamp_at
from mlxp_core.runs.layout import RunDir

EARLIER = ".earlier"  # a folder with what is being replaced, where a file system cannot swap two names
_HOME = os.fspath(RunDir(Path()).artifacts)
_MARKS = os.fspath(RunDir(Path()).artifact_folders)
_MOST_FILES = 10_000  # of one run; a dataset put there by mistake must not become columns without end


class ArtifactFiles(NamedTuple):
    """The artifacts of a run, as its folders list them."""

    names: tuple[str, ...]  # "<type>/<name>" each, sorted
    folders: tuple[tuple[str, Stamp], ...]  # those that were listed, and how each stood before
    problems: tuple[tuple[str, str], ...]  # a folder, and what is wrong with it


def artifact_files(run: str) -> ArtifactFiles:
    """List every artifact of the run in this folder, be it a file or a folder; none is opened."""
    names: list[str] = []
    folders: list[tuple[str, Stamp]] = []
    problems: list[tuple[str, str]] = []
    left = [_HOME]
    while left and len(names) <= _MOST_FILES:
        folder = left.pop()
        try:
            stamp = stamp_at(f"{run}/{folder}")
            folders.append((folder, stamp))
            if stamp != NOT_THERE:
                _list_folder(run, folder, names, left)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            problems.append((folder, f"its artifacts cannot be listed: {error}"))
    if left:
        problems.append((_HOME, f"more than {_MOST_FILES} artifacts: the others are in no column"))
    return ArtifactFiles(tuple(sorted(names[:_MOST_FILES])), tuple(folders), tuple(problems))


def _list_folder(run: str, folder: str, names: list[str], left: list[str]) -> None:
    """Add the artifacts in a folder to ``names``, and the folders that may have more to ``left``."""
    is_home, prefix, is_replaced = folder == _HOME, folder[len(_HOME) + 1 :], False
    with os.scandir(f"{run}/{folder}") as entries:
        for entry in entries:
            name = entry.name
            if name.startswith("."):  # being written, or another writer's own
                is_replaced = is_replaced or name == EARLIER
            elif entry.is_dir(follow_symlinks=False):  # a link may lead round in a circle
                if is_home or not _is_marked(run, f"{prefix}/{name}"):
                    left.append(f"{folder}/{name}")
                else:
                    names.append(f"{prefix}/{name}")
            elif not is_home and (entry.is_file() or _is_marked(run, f"{prefix}/{name}")):
                names.append(f"{prefix}/{name}")
    if is_replaced:  # by a process that was killed in between
        earlier = {f"{prefix}/{name}" for name in os.listdir(f"{run}/{folder}/{EARLIER}")}  # noqa: PTH208
        names += earlier.difference(names)


def _is_marked(run: str, name: str) -> bool:
    """Whether ``artifacts/<name>`` was saved as a folder."""
    return os.path.isfile(f"{run}/{_MARKS}/{name}")  # noqa: PTH113

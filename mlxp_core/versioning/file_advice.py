"""Say what to do about a file that a job could not read or write where it would have in the launch directory."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mlxp_core.versioning.copy_guard import WHY_READ_ONLY

_QUOTED = re.compile(r"'([^'\n]+)'|\"([^\"\n]+)\"")
_MOST_NAMES = 100  # of a message


@dataclass(frozen=True)
class JobPlaces:
    """Where the files of a launched job are."""

    copy: Path  # of the code
    repo: Path  # what it is a copy of
    work: Path  # the run's working folder, whether the job has one or not
    start: Path  # in which the job has started
    launch_dir: Path


def advise(error: BaseException, places: JobPlaces) -> str:
    """Say what to do about an exception that a file is the reason of; empty for any other."""
    seen: BaseException | None = error
    for _ in range(10):
        if seen is None:
            break
        for name in _names(seen):
            if advice := _advice(seen, name, places):
                return advice
        seen = seen.__cause__ or seen.__context__
    return ""


def _names(error: BaseException) -> Iterator[str]:
    """Paths that an exception may be about: those that it has, and those of its message."""
    for name in (getattr(error, "filename", None), getattr(error, "filename2", None)):
        if isinstance(name, str | bytes):
            yield os.fsdecode(name)
    try:
        text = str(error)
    except Exception:  # noqa: BLE001  (an exception of the user's may do anything)
        return
    words = [one or other for one, other in _QUOTED.findall(text)]
    words += [word.rstrip(".,:;!?)]") for word in text.split()]
    if not isinstance(error, OSError):  # whose message may have words that are folders by chance
        words = [word for word in words if os.sep in word.strip("./") or "." in word.strip(".")]
    yield from words[:_MOST_NAMES]


def _advice(error: BaseException, name: str, places: JobPlaces) -> str:
    here = places.start / name
    there = _in_place(name, places)
    try:
        if there is None:
            return ""
        if isinstance(error, PermissionError):
            return "" if WHY_READ_ONLY in str(error) or not _is_of_copy(here, places) else f"{name}: {WHY_READ_ONLY}"
        if _has_content(there) and not _has_content(here):
            return _missing(name, there)
        if not os.path.lexists(here) and there.parent.is_dir() and not here.parent.exists():
            # a file that could not be opened; or the folder that a library misses
            folder = os.path.dirname(name) if isinstance(error, OSError) else name  # noqa: PTH120
            return (
                f"the folder {there.parent} is in the launch directory, but git does not have it, and so it is not "
                f"where this job runs: make it before you write, os.makedirs({folder!r}, exist_ok=True)"
            )
    except (OSError, ValueError):  # a text that is no path
        pass
    return ""


def _in_place(name: str, places: JobPlaces) -> Path | None:
    """The path that a program in the launch directory would have meant; None for one that is the same for all."""
    if not os.path.isabs(name):  # noqa: PTH117
        return places.launch_dir / name
    for top in (places.copy, places.work):
        if Path(name).is_relative_to(top):
            return places.repo / Path(name).relative_to(top)
    return None


def _is_of_copy(path: Path, places: JobPlaces) -> bool:
    """Tell whether a file, or the folder that it was to be made in, is part of the copy."""
    copy = os.path.realpath(places.copy)
    return any(Path(os.path.realpath(one)).is_relative_to(copy) for one in (path, path.parent))


def _has_content(path: Path) -> bool:
    """Tell whether there is a file, or a folder with anything in it."""
    return any(path.iterdir()) if path.is_dir() else path.exists()


def _missing(name: str, there: Path) -> str:
    if os.path.isabs(name):  # noqa: PTH117
        wanted, instead = there.name, f"run.original_path({str(there)!r})"
    else:
        wanted, instead = name, f"run.original_path({name!r})"
    return (
        f"{wanted} is there, as {there}, but not in the version of the code that this job runs, because git ignores it "
        f"or it was not committed: open {instead}, or let the jobs start in the launch directory itself, with "
        "hydra.launcher.work_dir=launch"
    )

"""Templates of the folders in which jobs start: what the copy of the code has, to be read and written beside.

A template has the folders of the copy as folders, so that what a job writes lands in its own; Python files and what is
large as links into the copy; other files as copies, which a job may change. A job fills its working folder from it
with one `cp`, and at its end takes out what is still the same (jobs/shell/work_folder.sh). The links lead through one
link in the working folder, so a template holds no path of this machine.
"""

from __future__ import annotations

import hashlib
import heapq
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mlxp_core.runs.layout import CodeDir, RunDir
from mlxp_core.runs.state import RunState
from mlxp_core.versioning.export import remove_tree
from mlxp_core.versioning.run_output import BYTE_CODE

CODE_LINK = ".mlxp-code"  # in a working folder: the copy; work_folder.sh has the name, too

# entries that each job makes and removes: 0.08 s of CPU for all, 0.02 for 60, where starting Hydra takes longer.
# Folders become folders in the order of their size until then; larger ones, such as a tracked dataset, stay links.
_MOST_ENTRIES = 500
_MOST_COPIED = 1 << 20  # bytes of a file that each job gets as its own
_MOST_COPIED_TOGETHER = 16 << 20
_LINKED = frozenset({".py", ".pyi", ".pyx", ".so"})  # nobody writes these, and Python finds their byte code in the copy
# not newer than anything that a job writes: by its time a file is known to be as it was. Not 1980, which zip has.
_TIME = 100_000.0
_MOST_EMPTY_FOLDERS = 50


@dataclass(frozen=True)
class WorkFolderTemplate:
    """What the working folder of a job is made of."""

    copy: Path  # the version's files
    path: Path  # of the template
    empty_folders: tuple[str, ...] = ()  # that the work tree has and git does not know, paths from the top


def publish_template(copy: Path, part: Path = Path()) -> Path:
    """Make the template of a copy's working folders, unless it is there already.

    ``part`` is the folder in it where jobs start, from the top; it is a folder whatever its size. Raises OSError.
    """
    folder = CodeDir(copy.parent).templates(copy.name)
    target = folder / ("top" if part == Path() else hashlib.sha256(os.fsencode(part)).hexdigest()[:16])
    if target.is_dir():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    temporary = copy.parent / f".{copy.name}.{os.getpid()}.{os.urandom(4).hex()}.work"
    try:
        _Writer(copy, temporary).write({Path(), *part.parents, part})
        try:
            temporary.rename(target)
        except OSError:
            if not target.is_dir():  # else another launch was quicker
                raise
    finally:
        remove_tree(temporary)
    return target


def recorded_work(state: RunState) -> Path:
    """The working folder of a run at the place where it was made, by which its info.yaml names it."""
    logger = state.info.get("logger")
    recorded = logger.get("log_dir") if isinstance(logger, dict) else None
    return (RunDir(Path(recorded)) if isinstance(recorded, str) else state.run).work


def empty_folders(repo: Path, template: Path) -> tuple[str, ...]:
    """Empty folders of a work tree, which git does not know: programs that write into them expect them.

    One that has files is not among them: it may be data, and an empty folder in its place would be read as no data.
    """
    found: list[str] = []
    for folder, _, _ in os.walk(template):
        part = os.path.relpath(folder, template)
        for entry in _scan(os.path.join(repo, part)):  # noqa: PTH118
            if entry.name.startswith(".") or not entry.is_dir(follow_symlinks=False):
                continue
            if not os.path.lexists(f"{folder}/{entry.name}") and not any(_scan(entry.path)):
                found.append(os.path.normpath(f"{part}/{entry.name}"))
    return tuple(sorted(found)[:_MOST_EMPTY_FOLDERS])


def _scan(folder: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except OSError:
        return


@dataclass
class _Writer:
    copy: Path
    target: Path
    _bytes: int = field(default=0, init=False)

    def write(self, folders: set[Path]) -> None:
        """Write the template; ``folders`` become folders whatever their size."""
        self.target.mkdir()
        left = _MOST_ENTRIES
        waiting = [(0, "", self._entries(""))]
        while waiting:
            size, part, entries = heapq.heappop(waiting)
            if size > left and Path(part) not in folders:
                self._link(part)
                continue
            left -= size
            (self.target / part).mkdir(exist_ok=True)
            for entry in entries:
                path = os.path.join(part, entry.name)  # noqa: PTH118
                if entry.is_dir(follow_symlinks=False):
                    inside = self._entries(path)
                    # first of all what has to be a folder
                    heapq.heappush(waiting, (0 if Path(path) in folders else len(inside), path, inside))
                else:
                    self._add_file(entry, path)

    def _entries(self, part: str) -> list[os.DirEntry[str]]:
        entries = _scan(os.path.join(self.copy, part))  # noqa: PTH118
        return [entry for entry in entries if entry.name != BYTE_CODE]

    def _add_file(self, entry: os.DirEntry[str], path: str) -> None:
        size = entry.stat(follow_symlinks=False).st_size
        if entry.is_symlink():
            self._add_link(path)
        elif os.path.splitext(path)[1] in _LINKED or size > min(_MOST_COPIED, _MOST_COPIED_TOGETHER - self._bytes):  # noqa: PTH122
            self._link(path)
        else:
            self._bytes += size
            made = self.target / path
            shutil.copyfile(entry.path, made)
            made.chmod(0o755 if entry.stat().st_mode & 0o100 else 0o644)
            os.utime(made, (_TIME, _TIME))

    def _add_link(self, path: str) -> None:
        """A link that was committed: to what the working folder has where it leads there, else as the copy has it."""
        leads_to = os.readlink(self.copy / path)  # noqa: PTH115
        inside = os.path.normpath(os.path.join(os.path.dirname(path), leads_to))  # noqa: PTH118, PTH120
        if os.path.isabs(leads_to) or Path(inside).parts[0] == os.pardir:  # noqa: PTH117
            self._link(path)
        else:
            (self.target / path).symlink_to(leads_to)

    def _link(self, path: str) -> None:
        up = f"..{os.sep}" * path.count(os.sep)
        (self.target / path).symlink_to(f"{up}{CODE_LINK}{os.sep}{path}")

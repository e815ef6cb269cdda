"""Allocate run ids: 1, 2, 3, … as folder names.

Creating the folder ``<log_dir>/<id>`` is the lock: mkdir succeeds for one process only, on local disks and on NFS.
No lock file is needed, so nothing stays locked when a process dies.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from mlxp_core.errors import StoreError
from mlxp_core.runs.git_exclusion import hide_folder, hide_log_dir
from mlxp_core.runs.layout import LogDir, RunDir, is_run_id

_WIDTH = 20  # digits of the hint; one fixed length, so that an overwrite is never seen half


class RunAllocator:
    """Allocates run folders in one log directory, for any number of processes and hosts at once.

    Every id up to the last one given is taken, or was taken by a run that has been deleted since: an id is never
    given twice, and there is no gap. ``.mlxp/last_id`` is only a hint where to start looking; a stale one costs
    a few failing mkdir calls, a missing one a listing.
    """

    def __init__(self, log_dir: str | os.PathLike[str]) -> None:
        """Make the log directory if it is not there."""
        self.log_dir = LogDir(Path(log_dir).absolute())
        try:
            self.log_dir.internal.mkdir(parents=True, exist_ok=True)
            self._hint = os.open(self.log_dir.last_id, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise StoreError(
                f"no runs can be recorded in the log directory {self.log_dir.path}: {error}. "
                "Choose another one (hydra.launcher.log_dir, hydra.callbacks.mlxp.log_dir) or make it writable."
            ) from error
        self._is_hidden = hide_log_dir(self.log_dir)
        self._last = self._first_guess()

    @property
    def last_id(self) -> int:
        """An id up to which all are taken, as far as this store knows."""
        return self._last

    def close(self) -> None:
        """Give the hint file back."""
        os.close(self._hint)

    def __enter__(self) -> RunAllocator:
        """Allow ``with RunAllocator(...) as allocator``."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def allocate(self) -> RunDir:
        """Make the folder of the next run; it holds nothing of a run yet and belongs to the caller alone.

        Raises StoreError when the folder cannot be made.
        """
        parent = str(self.log_dir.path)
        candidate = self._last + 1
        while True:
            try:
                os.mkdir(f"{parent}/{candidate}")  # noqa: PTH102  (this is the hot loop)
            except FileExistsError:
                candidate += 1
            except OSError as error:
                raise StoreError(f"the run folder {parent}/{candidate} cannot be made: {error}") from error
            else:
                break
        self._last = candidate
        # two processes may write in either order: the hint may fall back, which costs the next one a few mkdir calls
        os.pwrite(self._hint, b"%0*d\n" % (_WIDTH, candidate), 0)
        run = self.log_dir.run(candidate)
        if not self._is_hidden:
            with contextlib.suppress(OSError):
                hide_folder(run.path)
        return run

    def allocate_block(self, count: int) -> list[RunDir]:
        """Make the folders of ``count`` runs, ids ascending; consecutive unless another process allocates meanwhile."""
        return [self.allocate() for _ in range(count)]

    def _first_guess(self) -> int:
        if (hint := _read_hint(self._hint)) >= 0:
            return hint
        names = (entry.name for entry in os.scandir(self.log_dir.path))
        return max((int(name) for name in names if is_run_id(name)), default=0)


def keep_taken(log_dir: LogDir, run_id: int) -> None:
    """Have an id count as taken although its folder is about to be removed, the highest one, too. Raises OSError."""
    log_dir.internal.mkdir(parents=True, exist_ok=True)
    hint = os.open(log_dir.last_id, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        if _read_hint(hint) < run_id:
            os.pwrite(hint, b"%0*d\n" % (_WIDTH, run_id), 0)
    finally:
        os.close(hint)


def _read_hint(descriptor: int) -> int:
    hint = os.pread(descriptor, _WIDTH + 1, 0)
    return int(hint) if len(hint) == _WIDTH + 1 and hint.strip().isdigit() else -1


def allocate_numbered_dir(parent: Path) -> Path:
    """Make the next of a folder's numbered folders: 1, 2, 3, …; for what is made seldom, such as submissions."""
    parent.mkdir(parents=True, exist_ok=True)
    number = max((int(entry.name) for entry in os.scandir(parent) if is_run_id(entry.name)), default=0) + 1
    while True:
        folder = parent / str(number)
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
        else:
            return folder

"""Tell code from what running leaves in a work tree: log directories, Hydra's output, copies and checkouts of code.

Most of that carries a .gitignore of its own (runs/git_exclusion.py). What does not is looked into here: it was made
by an earlier version, or by Hydra alone, or lies among the user's own files.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from mlxp_core.runs.git_exclusion import SWEEP_FILES
from mlxp_core.runs.layout import CodeDir, LogDir, RunDir
from mlxp_core.versioning.origin import CHECKOUT_MARKER

# what Python makes of the code as it imports it, the launch itself too: no change of the code, .gitignore or not
BYTE_CODE = "__pycache__"
_INTERNAL = LogDir(Path()).internal.name
_HYDRA = ".hydra"
# of a run whose folder holds code as well
_IN_RUN = frozenset(
    path.name
    for run in [RunDir(Path())]
    for path in (run.metadata, run.metrics, run.artifacts, run.work, run.script, run.stdout, run.stderr)
)
_COPY = re.compile(
    rf"\.?(?:[0-9a-f]{{40}}(?:[0-9a-f]{{24}})?|{re.escape(CodeDir(Path()).repository.name)})(?:\.[\w.]+)?"
)
_SOURCES = (".py", ".ipynb")
# entries of untracked folders to look at; what is larger is data that nobody has told git to ignore, or is ignored
_MOST_ENTRIES = 20_000


class RunOutput:
    """What running has left in a work tree."""

    def __init__(
        self, top: Path, log_dir: Path | None = None, program: Path | None = None, tracked: Iterable[str] = ()
    ) -> None:
        """Look below ``top``. All of ``log_dir`` was left by running, unless there is code in it.

        That is where ``program`` or ``top`` lies in it, a source beside its runs, or one of ``tracked``: changed files
        that git knows, by their paths from the top.
        """
        self._top = top
        self._code = [place.resolve() for place in (top, program) if place is not None]
        self._log_dir: Path | None = None
        self._known: dict[Path, bool] = {}
        self._entries = 0
        if log_dir is not None:
            self._code += [(top / path).resolve() for path in tracked if self._is_source(path)]
            real = log_dir.resolve()
            self._log_dir = None if self._holds_code(real) or (real.is_dir() and _has_sources(real)) else real
            self._known.clear()

    @property
    def all_of_log_dir(self) -> bool:
        """Whether nothing in the log directory is code."""
        return self._log_dir is not None

    def includes_tracked(self, path: str) -> bool:
        """Tell whether a file that git knows, by its path from the top, lies in a run.

        One of Hydra's alone does not count: what the user has committed is code unless it is surely none.
        """
        place = self._top / path
        if self._log_dir is not None and place.resolve().is_relative_to(self._log_dir):
            return True
        return any(
            folder.name == _INTERNAL or ((folder.parent / _INTERNAL).is_dir() and self._is_output(folder))
            for folder in place.parents
            if self._is_below_top(folder)
        )

    def split(self, path: str) -> tuple[list[str], list[str]]:
        """Split an untracked path, from the top, into code and what running has left; folders end with a slash.

        Neither has byte code. Folders that hold one of the two alone are not split, nor is one that has too much in it
        to look at.
        """
        place = self._top / path.rstrip("/")
        if BYTE_CODE in Path(path).parts:
            return [], []
        if any(self._is_output(folder) for folder in (place, *place.parents) if self._is_below_top(folder)):
            return [], [path]
        return self._split(place, path)

    def _split(self, place: Path, path: str) -> tuple[list[str], list[str]]:
        if place.name == BYTE_CODE:
            return [], []
        if self._is_output(place):
            return [], [path]
        is_link = place.is_symlink() and self._leads_away(place)
        if not (is_link or path.endswith("/")) or (place / ".git").exists():  # a file; a clone
            return [path], []
        try:
            entries = sorted(os.scandir(place), key=lambda entry: entry.name)
        except OSError:  # gone, or nobody may look into it
            return [path], []
        self._entries += len(entries)
        if self._entries > _MOST_ENTRIES:
            return [path], []
        code: list[str] = []
        left: list[str] = []
        for entry in entries:
            is_folder = entry.is_dir(follow_symlinks=False)
            inner = self._split(place / entry.name, f"{path}{entry.name}{'/' if is_folder else ''}")
            code += inner[0]
            left += inner[1]
        if is_link and (code or not left):  # git sees no more of it than where it leads
            return [path], []
        if code and left:
            return code, left
        return [path] if code else [], [path] if left else []

    def _leads_away(self, link: Path) -> bool:
        real = link.resolve()
        return real.is_dir() and not self._holds_code(real) and not real.is_relative_to(self._code[0])

    def _is_below_top(self, folder: Path) -> bool:
        return folder != self._top and folder.is_relative_to(self._top)

    def _is_output(self, path: Path) -> bool:
        if path not in self._known:
            self._known[path] = self._look_at(path)
        return self._known[path]

    def _look_at(self, path: Path) -> bool:
        name, real = path.name, path.resolve()
        if self._log_dir is not None and real.is_relative_to(self._log_dir):
            return True
        if name == _INTERNAL or (name == _HYDRA and _is_hydra_record(path)):
            return path.is_dir()
        if name in SWEEP_FILES:
            return _is_of_sweep(path)
        if is_copy(name):
            return True
        if name in _IN_RUN and RunDir(path.parent).info.is_file():
            # with hydra.run.dir=. the user's own package `metrics` is where the run's are
            return not (self._holds_code(real.parent) and real.is_dir() and _has_sources(real))
        if name.endswith(".log"):
            return path.is_file() and _is_hydra_record(path.parent / _HYDRA)
        if not real.is_dir() or self._holds_code(real):
            return False
        return (real / CHECKOUT_MARKER).is_file() or _is_log_dir(real) or _is_run(real)

    def _is_source(self, path: str) -> bool:
        return path.endswith(_SOURCES) and not self.includes_tracked(path)

    def _holds_code(self, folder: Path) -> bool:
        return any(place.is_relative_to(folder) for place in self._code)


def is_copy(name: str) -> bool:
    """Tell whether a name is that of a copy of the code, or of what lies beside it, also while it is being made."""
    return _COPY.fullmatch(name) is not None


def _is_hydra_record(folder: Path) -> bool:
    return (folder / "hydra.yaml").is_file() or (folder / "overrides.yaml").is_file()


def _is_of_sweep(path: Path) -> bool:
    """A file of a sweeper of Hydra's; a configuration of the user's may have the same name."""
    saved = path.with_name("multirun.yaml")
    try:
        return saved.read_bytes()[:6] == b"hydra:"
    except OSError:
        return False


def _is_log_dir(folder: Path) -> bool:
    return (folder / _INTERNAL).is_dir() and not _has_sources(folder)


def _is_run(folder: Path) -> bool:
    """A folder that a run has, or had, for itself: not the directory that its program was started in."""
    try:
        text = (folder / _HYDRA / "hydra.yaml").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return (RunDir(folder).info.is_file() or _is_hydra_record(folder / _HYDRA)) and not _has_sources(folder)
    # a value may go on in lines that are further in
    places = {key: re.search(rf"^    {key}: (.*(?:\n {{6,}}.*)*)", text, re.MULTILINE) for key in ("cwd", "output_dir")}
    directory, output = (" ".join(found[1].split()) if found else "" for found in places.values())
    return directory != output


def _has_sources(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return any(entry.name.endswith(_SOURCES) for entry in entries)

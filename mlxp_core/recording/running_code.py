"""The version of the code that a run runs: what git knows, and of each file that was loaded whether it is in there.

What the recorded commit does not hold is recorded by its hash, and kept in the run folder.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlxp_core.atomic_files import write_atomic
from mlxp_core.errors import MlxpError
from mlxp_core.recording.packages import installed_distributions, installed_package
from mlxp_core.runs.code_version import CodeVersion, SnapshotMode
from mlxp_core.runs.layout import LogDir, RunDir
from mlxp_core.versioning.origin import find_origin

if TYPE_CHECKING:
    from mlxp_core.recording.commit_files import CommitFiles
    from mlxp_core.recording.loaded_files import LoadedFile

log = logging.getLogger(__name__)

_MOST_KEPT = 1 << 20  # bytes of one file
_MOST_FILES = 1000  # of one run; above that it is not somebody's code


class RunningCode:
    """The code of this process, in one version; a run's record of it grows with the modules that it loads."""

    def __init__(self, version: CodeVersion, tree: Path, *, package: str = "", diff: str = "") -> None:
        """``tree`` is where the version's files lie; ``package`` the top package of an installed program."""
        self.tree, self.diff = tree, diff
        self.version = self._described = version  # with what was found of the loaded files; as git knows it
        self._package = package
        self._own: CommitFiles | None = None
        self._others: dict[Path, CommitFiles] = {}  # submodules, and repositories beside this one
        self._repositories: dict[Path, dict[str, Any]] = {}
        self._tops: dict[str, Path | None] = {}  # the top of the repository that a folder is in

    def refresh(self) -> CodeVersion:
        """Look at the files that are loaded now; returns the version with what the commit does not hold of them."""
        try:
            files = self._differing()
        except (MlxpError, OSError) as error:
            log.warning("it is not known if the recorded version holds the code that this run runs: %s", error)
            return self.version
        known = [self._repositories[top] for top in sorted(self._repositories)]
        version = replace(self._described, repositories=tuple(known)) if known else self._described
        self.version = replace(version, files=files, dirty=True) if files else version
        return self.version

    def record(self, info: Mapping[str, Any], run: RunDir) -> dict[str, Any]:
        """Put the version into a run's info, and keep in its folder what the commit does not hold."""
        before, version = CodeVersion.from_info(info), self.refresh()
        for oid in {oid for oid in (version.files or {}).values() if oid}:
            content = self._content(oid)
            if content is not None and len(content) <= _MOST_KEPT and not (run.code / oid).exists():
                run.code.mkdir(parents=True, exist_ok=True)
                write_atomic(run.code / oid, content)
        if self.diff and not run.diff.exists():
            write_atomic(run.diff, self.diff)
        recorded = replace(version, function_hash=before.function_hash, requirements=before.requirements)
        return {**info, **recorded.as_info}

    def _content(self, oid: str) -> bytes | None:
        known = [files.contents for files in (self._own, *self._others.values()) if files is not None]
        return next((contents[oid] for contents in known if oid in contents), None)

    def _differing(self) -> dict[str, str | None]:
        """The files that were loaded and that the commit does not hold, with their hashes."""
        from mlxp_core.recording.commit_files import CommitFiles  # noqa: PLC0415  (where there is a version)
        from mlxp_core.recording.loaded_files import loaded_files  # noqa: PLC0415

        below: list[LoadedFile] = []
        installed: list[LoadedFile] = []
        others: dict[Path, list[LoadedFile]] = {}
        for file in loaded_files(installed_distributions().local_modules, self._package):
            top = None if file.inner else self._top_of(os.path.dirname(file.path))  # noqa: PTH120
            if file.inner:
                installed.append(file)
            elif self._is_below(file.path) and (top is None or self.tree.is_relative_to(top)):
                below.append(file)
            elif top is not None:
                others.setdefault(top, []).append(file)
        self._own = self._own or CommitFiles(self._described.repo_path, self._described.commit, self.tree)
        # nobody edits a copy
        different = {} if self._described.copy is not None else self._own.differing(below)
        different |= {self._name(path): oid for path, oid in self._own.differing_copies(installed).items()}
        for top, loaded in others.items():
            if top not in self._others:
                self._others[top] = self._describe_other(top, self._own)
            found = self._others[top].differing(loaded)
            different |= {self._name(str(top / path)): oid for path, oid in found.items()}
        if len(different) > _MOST_FILES:
            log.warning("%d files that were loaded are not in the recorded version: too many to keep", len(different))
            return {str(self.tree): None}
        return dict(sorted(different.items()))

    def _describe_other(self, top: Path, own: CommitFiles) -> CommitFiles:
        """The files of a submodule, at the commit that the version has of it, or of another repository at its own."""
        from mlxp_core.recording.commit_files import CommitFiles  # noqa: PLC0415
        from mlxp_core.versioning.repositories import describe_repository  # noqa: PLC0415

        path = self._name(str(top))
        if not os.path.isabs(path):  # noqa: PTH117
            own.ask([path])
            if (commit := own.held(path)) is not None:
                return CommitFiles(top, commit, top)
        self._repositories[top] = describe_repository(top)
        return CommitFiles(top, self._repositories[top]["commit_hash"], top)

    def _name(self, path: str) -> str:
        return os.path.relpath(path, self.tree) if self._is_below(path) else path

    def _is_below(self, path: str) -> bool:
        return path.startswith(f"{self.tree}{os.sep}")

    def _top_of(self, folder: str) -> Path | None:
        if folder not in self._tops:
            parent = os.path.dirname(folder)  # noqa: PTH120
            here = os.path.exists(f"{folder}/.git")  # noqa: PTH110
            self._tops[folder] = Path(folder) if here else None if parent == folder else self._top_of(parent)
        return self._tops[folder]


def code_of_launched(info: Mapping[str, Any], program: Path) -> RunningCode | None:
    """The code of a job, by the version that its submission has recorded; None where that is not known."""
    version = CodeVersion.from_info(info)
    tree = version.copy or version.repo_path
    return None if tree is None else RunningCode(version, tree.resolve(), package=installed_package(program))


_latest: dict[tuple[Path, str], RunningCode | None] = {}


def running_code(program: Path, log_dir: Path, snapshot: str) -> RunningCode | None:
    """Describe the code that this process runs, in place; None where it is not known. Never keeps a run from starting.

    ``program`` is its file, or any name in its folder. A later run of this process has the version of an earlier one
    while that holds what is loaded: a file that was edited and not loaded again does not run. Where a person sits at
    the process, git is asked for each run.
    """
    if snapshot == SnapshotMode.NONE:
        return None
    key = (program, snapshot)
    if key in _latest and not _is_interactive():
        known = _latest[key]
        if known is None or known.version.files == known.refresh().files:
            return known
    _latest[key] = None
    try:
        _latest[key] = _describe(program, LogDir(log_dir), snapshot)
    except (MlxpError, OSError) as error:
        log.warning("which code this run runs is not recorded: %s", error)
    return _latest[key]


def _describe(program: Path, log_dir: LogDir, snapshot: str) -> RunningCode | None:
    package = installed_package(program)
    source = installed_distributions().local_modules.get(package)
    if package and source is None:
        return None  # an index has it, and its version is among the requirements
    origin = find_origin(Path(source) / "-" if package and source else program)
    if origin is None:
        return RunningCode(CodeVersion(), Path(source), package=package) if package and source else None
    from mlxp_core.versioning.snapshot import describe_origin  # noqa: PLC0415  (and subprocess, for those that need it)

    version, diff = describe_origin(origin, log_dir, snapshot)
    return RunningCode(version, origin.tree.resolve(), package=package, diff=diff)


def _is_interactive() -> bool:
    return hasattr(sys, "ps1")  # in a kernel, too

"""The version of the code that a run ran, as its info.yaml records it."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_KEY = "version_manager"
_NOT_KNOWN = "unknown"  # in the place of a hash
UNKNOWN = "not known"  # for a function_hash that could not be taken
_NULLABLE = ("commit_hash", "head", "branch")  # written as null where git has none


class SnapshotMode(str, enum.Enum):
    """The code that jobs are to run; recorded in info.yaml, the code that a run did run."""

    AUTO = "auto"  # HEAD where nothing has changed, else what OnChanges says; never recorded
    COMMIT = "commit"  # HEAD
    WORKTREE = "worktree"  # a commit made of the work tree, with its changes
    NONE = "none"  # the files in place, which may be others when a job starts

    def __str__(self) -> str:
        """Give the bare value, on every Python version."""
        return self.value


@dataclass(frozen=True)
class CodeVersion:
    """A version of the user's code. A field is None where info.yaml has no usable value for it."""

    repo_path: Path | None = None  # top of the repository's work tree
    commit: str | None = None  # full hash; None before the first commit of code that runs in place
    snapshot: SnapshotMode | str | None = None  # text: a mode that this version of the package does not know
    head: str | None = None  # what was checked out
    branch: str | None = None
    dirty: bool | None = None  # the work tree differed from HEAD
    uncommitted: tuple[str, ...] | None = None  # how, as `git status` lists it
    copy: Path | None = None  # the version's files, which the jobs run
    function_hash: str | None = None  # of a task function that was sent to the jobs
    requirements: tuple[str, ...] | None = None  # distributions that were loaded, as ``name==version``
    # files that the process has loaded and the commit does not hold: by path, from the top where they lie below it,
    # git's hash of what was loaded; None where that is not known
    files: Mapping[str, str | None] | None = field(default=None, hash=False)
    # of other repositories that it has loaded files of: path, commit_hash, dirty
    repositories: tuple[Mapping[str, Any], ...] | None = field(default=None, hash=False)
    checkout: Path | None = None  # the folder of `mlxp checkout` that it ran in
    other: Mapping[str, Any] = field(default_factory=dict, hash=False)  # recorded values that these fields cannot hold

    @classmethod
    def from_info(cls, info: Mapping[str, Any]) -> CodeVersion:
        """Read it from the content of an info.yaml, which may be another user's or edited by hand."""
        recorded = info.get(_KEY)
        if not isinstance(recorded, Mapping):
            return cls()
        fields: dict[str, Any] = {
            "repo_path": _path(recorded.get("repo_path")),
            "commit": _text(recorded.get("commit_hash")),
            "snapshot": _mode(recorded.get("snapshot")),
            "head": _text(recorded.get("head")),
            "branch": _text(recorded.get("branch")),
            "dirty": None if recorded.get("dirty") is None else bool(recorded["dirty"]),
            "uncommitted": _texts(recorded.get("uncommitted")),
            "copy": _path(recorded.get("copy")),
            "function_hash": _text(recorded.get("function_hash")),
            "requirements": _texts(recorded.get("requirements")),
            "files": _hashes(recorded.get("files")),
            "repositories": _mappings(recorded.get("repositories")),
            "checkout": _path(recorded.get("checkout")),
        }
        held = _values(cls(**fields))
        return cls(**fields, other={key: value for key, value in recorded.items() if held.get(key) is None})

    @classmethod
    def of_work_tree(
        cls,
        repo_path: Path,
        *,
        commit: str | None,
        snapshot: SnapshotMode,
        head: str | None,
        branch: str | None,
        uncommitted: tuple[str, ...],
    ) -> CodeVersion:
        """Describe a version as git knows it now."""
        return cls(
            repo_path,
            commit,
            snapshot,
            head,
            branch,
            dirty=bool(uncommitted),
            uncommitted=uncommitted,
            other=dict.fromkeys(_NULLABLE),
        )

    @property
    def as_info(self) -> dict[str, Any]:
        """The part of an info.yaml that records it, as plain values; what else was recorded there stays."""
        values = _values(self)
        recorded = {key: self.other.get(key) if value is None else value for key, value in values.items()}
        return {
            _KEY: {
                **{key: value for key, value in recorded.items() if value is not None or key in self.other},
                **{key: value for key, value in self.other.items() if key not in values},
            }
        }

    @property
    def locations(self) -> list[Path]:
        """The folders that the code lay in when it ran, the one that jobs ran first."""
        return [folder for folder in (self.copy, self.checkout, self.repo_path) if folder is not None]

    @property
    def is_known(self) -> bool:
        """False where something was loaded of which nobody knows what it held."""
        return None not in (self.files or {}).values() and self.function_hash != UNKNOWN

    @property
    def lost_changes(self) -> tuple[str, ...]:
        """Changes that ran and are not in the commit, so that nobody has them; a copy has no more than its commit."""
        unknown = tuple(f"?? {path} (as it was loaded)" for path, oid in (self.files or {}).items() if oid is None)
        in_place = self.snapshot is None or self.snapshot == SnapshotMode.NONE
        if not in_place or self.copy is not None:
            return unknown
        return (*(self.uncommitted or (("changes that are not listed",) if self.dirty else ())), *unknown)


def _values(version: CodeVersion) -> dict[str, Any]:
    """The fields under the keys that info.yaml has for them, in its order."""
    return {
        "repo_path": _plain(version.repo_path),
        "commit_hash": version.commit,
        "snapshot": _plain(version.snapshot),
        "head": version.head,
        "branch": version.branch,
        "dirty": version.dirty,
        "uncommitted": None if version.uncommitted is None else [*version.uncommitted],
        "copy": _plain(version.copy),
        "function_hash": version.function_hash,
        "requirements": None if version.requirements is None else [*version.requirements],
        "files": None
        if version.files is None
        else [f"{oid or _NOT_KNOWN} {path}" for path, oid in version.files.items()],
        "repositories": None if version.repositories is None else [{**one} for one in version.repositories],
        "checkout": _plain(version.checkout),
    }


def _mode(value: Any) -> SnapshotMode | str | None:
    try:
        return SnapshotMode(value)
    except ValueError:
        return _text(value)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _path(value: Any) -> Path | None:
    return Path(value) if isinstance(value, str) and value else None


def _texts(value: Any) -> tuple[str, ...] | None:
    return tuple(map(str, value)) if isinstance(value, list) else None


def _hashes(value: Any) -> dict[str, str | None] | None:
    """Paths and hashes of lines such as ``8b13789… scratch/main.py``."""
    pairs = (line.partition(" ") for line in _texts(value) or ())
    return {path: None if oid == _NOT_KNOWN else oid for oid, _, path in pairs} if isinstance(value, list) else None


def _mappings(value: Any) -> tuple[Mapping[str, Any], ...] | None:
    return tuple(one for one in value if isinstance(one, Mapping)) if isinstance(value, list) else None


def _plain(value: Path | str | None) -> str | None:
    return None if value is None else str(value)

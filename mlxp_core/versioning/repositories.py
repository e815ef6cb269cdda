"""The state of repositories beside the program's, of which a run has loaded files: an editable library, say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlxp_core.errors import MlxpError
from mlxp_core.runs.code_version import CodeVersion
from mlxp_core.versioning.git import Repository, run_git


def describe_repository(top: Path) -> dict[str, Any]:
    """Describe a repository: its path, its commit, and whether the work tree differs. Raises SnapshotError."""
    status = Repository(top, run_git).status()
    return {"repo_path": str(top), "commit_hash": status.head, "dirty": bool(status.changes)}


def repositories_unchanged(version: CodeVersion) -> bool:
    """Tell if those that a run has recorded are at the same commits, without changes then and now."""
    for recorded in version.repositories or ():
        try:
            now = describe_repository(Path(str(recorded.get("repo_path"))))
        except (MlxpError, OSError):
            return False
        if now["dirty"] or now != {**now, **recorded}:
            return False
    return True

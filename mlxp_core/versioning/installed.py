"""Compare an installed package with the source that it was installed from, so that its jobs can run a frozen copy."""

from __future__ import annotations

from pathlib import Path

from mlxp_core.errors import SnapshotError
from mlxp_core.runs.code_files import blob_hash
from mlxp_core.versioning.git import Repository
from mlxp_core.versioning.run_output import BYTE_CODE

_MOST_NAMED = 10


def source_root(repository: Repository, commit: str, package: Path) -> Path:
    """Give the folder, from the top, from which a commit has an installed package, of which ``package`` is the folder.

    Raises SnapshotError, with the files, where the commit has it otherwise.
    """
    installed = {path.relative_to(package.parent).as_posix(): path for path in _sources(package)}
    entries = {entry.path: entry.oid for entry in repository.tree_entries(commit)}
    roots: dict[str, int] = {}
    for path in entries:
        for name in installed:
            if f"/{path}".endswith(f"/{name}"):
                roots[path[: -len(name)]] = roots.get(path[: -len(name)], 0) + 1
    root = max(roots, key=lambda one: (roots[one], -len(one)), default="")
    hashes = {name: blob_hash(path.read_bytes(), commit) for name, path in installed.items()}
    different = [str(installed[name]) for name, oid in hashes.items() if entries.get(f"{root}{name}") != oid]
    if different:
        listed = "\n  ".join(different[:_MOST_NAMED])
        raise SnapshotError(
            f"{package.name} is installed, and not as {repository.top} has it in commit {commit[:10]}:\n  {listed}\n"
            "Install it again (pip install .), or so that it is the source itself (pip install -e .)"
        )
    return Path(root)


def _sources(package: Path) -> list[Path]:
    if package.is_file():
        return [package]
    return sorted(path for path in package.rglob("*.py") if BYTE_CODE not in path.parts)

"""Compare files as they were loaded with those of a commit, by git's hashes."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from mlxp_core.recording.loaded_files import LoadedFile, content_as_loaded
from mlxp_core.runs.code_files import blob_hash


class CommitFiles:
    """The files of a commit, asked for as far as files of these names are loaded."""

    def __init__(self, repository: Path | None, commit: str | None, tree: Path) -> None:
        """``tree`` is the folder that has them, ``repository`` where git is asked. Without a commit it holds none."""
        self._repository = repository if repository is not None and repository.is_dir() else None
        self._commit, self.tree = commit, tree
        self.contents: dict[str, bytes] = {}  # of what was loaded, by hash
        self._held: dict[str, str] = {}  # the commit's hashes, by path
        self._asked: set[str] = set()
        self._all: list[tuple[str, str]] | None = None
        self._hashes: dict[bytes, str] = {}

    def differing(self, files: Iterable[LoadedFile]) -> dict[str, str | None]:
        """Those files below the tree that the commit does not hold, by path, with their hashes."""
        paths = {os.path.relpath(file.path, self.tree): file for file in files}
        self.ask(paths)
        hashes = {path: self._hash(file, path) for path, file in paths.items()}
        return {path: oid for path, oid in hashes.items() if oid is None or oid != self._held.get(path)}

    def differing_copies(self, files: Iterable[LoadedFile]) -> dict[str, str | None]:
        """Those installed copies of files that the commit holds nowhere, by their full path."""
        different = {}
        for file in files:
            oid = self._hash(file)
            if oid is None or not any(
                oid == held and f"/{path}".endswith(f"/{file.inner}") for path, held in self._entries()
            ):
                different[file.path] = oid
        return different

    def ask(self, paths: Iterable[str]) -> None:
        """Ask git for the hashes that the commit has of these paths; of a submodule it is that of its commit."""
        new = [path for path in paths if path not in self._asked]
        self._asked.update(new)
        if new and self._commit is not None and self._repository is not None:
            from mlxp_core.versioning.git import Repository, run_git  # noqa: PLC0415  (subprocess)

            self._held |= Repository(self._repository, run_git).oids(self._commit, new)

    def held(self, path: str) -> str | None:
        """The commit's hash of a path that was asked for."""
        return self._held.get(path)

    def _entries(self) -> list[tuple[str, str]]:
        if self._all is None:
            self._all = []
            if self._commit is not None and self._repository is not None:
                from mlxp_core.versioning.git import Repository, run_git  # noqa: PLC0415

                entries = Repository(self._repository, run_git).tree_entries(self._commit)
                self._all = [(entry.path, entry.oid) for entry in entries]
        return self._all

    def _hash(self, file: LoadedFile, path: str = "") -> str | None:
        """Git's hash of a file as it was loaded; the commit's, where a filter of git's makes that of it."""
        held = self._held.get(path)
        content = content_as_loaded(file)
        if content is None and held is not None:  # edited since: it may have been the commit's
            content = content_as_loaded(file, self._run(b"", "cat-file", "blob", held))
        if content is None:
            return None
        if content not in self._hashes:
            oid = blob_hash(content, self._commit)
            if held is not None and oid != held:
                filtered = self._run(content, "hash-object", "--stdin", f"--path={path}")
                oid = held if os.fsdecode(filtered).strip() == held else oid
            self._hashes[content] = oid
            self.contents[oid] = content
        return self._hashes[content]

    def _run(self, stdin: bytes, *words: str) -> bytes:
        from mlxp_core.versioning.git import run_git  # noqa: PLC0415

        return run_git(("git", *words), self._repository or self.tree, {}, stdin)

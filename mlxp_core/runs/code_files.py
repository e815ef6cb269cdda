"""Files of the code that no commit holds, known by git's hash of them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from mlxp_core.runs.code_version import CodeVersion

_SHA256_DIGITS = 64


def blob_hash(content: bytes, commit: str | None = None) -> str:
    """Git's hash of a file, by the algorithm of the repository that has ``commit``."""
    kind = hashlib.sha256 if commit is not None and len(commit) == _SHA256_DIGITS else hashlib.sha1
    return kind(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def files_unchanged(version: CodeVersion) -> bool:
    """Tell if the files that a run has loaded beside its commit are on the disk as they were."""
    return all(
        oid is not None
        and (content := _content_now(path, version)) is not None
        and blob_hash(content, version.commit) == oid
        for path, oid in (version.files or {}).items()
    )


def _content_now(path: str, version: CodeVersion) -> bytes | None:
    place = (version.checkout or version.repo_path or Path()) / path
    try:
        return place.read_bytes()
    except OSError:
        return read_from_archive(str(place))


def read_from_archive(path: str) -> bytes | None:
    """Read a file within a zip file, by the path that Python gives it; None where there is none."""
    archive = next((str(folder) for folder in Path(path).parents if folder.is_file()), None)
    if archive is None:
        return None
    from zipfile import BadZipFile, ZipFile  # noqa: PLC0415  (for zipapps)

    try:
        with ZipFile(archive) as opened:
            return opened.read(os.path.relpath(path, archive).replace(os.sep, "/"))
    except (OSError, KeyError, BadZipFile):
        return None

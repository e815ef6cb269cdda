"""Find the tree of files that a program is part of: a work tree, a frozen copy, a checkout; the nearest counts.

Copies and checkouts carry a marker with their version: a copy beside it, for its files are the version's alone, a
checkout in it, for its user may move it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlxp_core.atomic_files import write_atomic
from mlxp_core.runs.code_version import CodeVersion
from mlxp_core.runs.layout import CodeDir

# in a checkout, where its version is recorded
CHECKOUT_MARKER = ".mlxp-checkout.json"


@dataclass(frozen=True)
class CodeOrigin:
    """The tree that a program is part of."""

    tree: Path
    version: CodeVersion | None  # of a copy or a checkout, as its marker has it; None: a work tree, whose git knows

    @property
    def is_copy(self) -> bool:
        """A frozen copy, which nobody edits."""
        return self.version is not None and self.version.copy is not None


def find_origin(program: Path) -> CodeOrigin | None:
    """Find the tree of a program by its file, links resolved; None where it is in none."""
    for folder in program.resolve().parents:
        if (folder / ".git").exists():
            # by the name that the user has for it: a home is often a link to somewhere else
            named = next((above for above in program.parents if (above / ".git").exists()), folder)
            return CodeOrigin(named if named.resolve() == folder else folder, None)
        if version := _read_marker(folder / CHECKOUT_MARKER):
            return CodeOrigin(folder, replace(version, checkout=folder))
        if len(folder.name) in {40, 64} and (version := _version_of_copy(folder)):
            return CodeOrigin(folder, replace(version, copy=folder))
    return None


def write_checkout_marker(folder: Path, version: CodeVersion) -> None:
    """Have a checkout say which version it is."""
    write_atomic(folder / CHECKOUT_MARKER, _marker(version))


def write_copy_marker(copy: Path, version: CodeVersion) -> None:
    """Have a copy say which version it is; of several launches of one version the first counts."""
    path = CodeDir(copy.parent).marker(copy.name)
    if not path.exists():
        write_atomic(path, _marker(version))


def _marker(version: CodeVersion) -> str:
    ours = replace(version, copy=None, checkout=None, function_hash=None, requirements=None, files=None)
    return f"{json.dumps(ours.as_info, indent=1)}\n"


def _version_of_copy(folder: Path) -> CodeVersion | None:
    if version := _read_marker(CodeDir(folder.parent).marker(folder.name)):
        return version
    # made before copies had one: the log directory is in its repository, as a rule
    if folder.parent.parent.name == ".mlxp" and set(folder.name) <= set("0123456789abcdef"):
        top = next((above for above in folder.parents if (above / ".git").exists()), None)
        return None if top is None else CodeVersion(repo_path=top, commit=folder.name)
    return None


def _read_marker(path: Path) -> CodeVersion | None:
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    version = CodeVersion.from_info(content) if isinstance(content, Mapping) else None
    return version if version is not None and version.commit else None

"""Copies of the code that runs have: found, aged, and compared file by file."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from support import Project

# what a job says of the files that it runs: the kind of each, whether it is executable, and what it holds
TREE = """\
import hashlib
import os


def tree(top):
    found = {}
    for folder, folders, files in os.walk(top):
        folders[:] = [name for name in folders if name not in {"__pycache__", ".git", "logs"}]
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        for name in [*(name for name in files if name != ".git"), *links]:
            path = os.path.join(folder, name)
            if os.path.islink(path):
                what = ["link", os.readlink(path)]
            else:
                with open(path, "rb") as file:
                    what = ["file", os.access(path, os.X_OK), hashlib.sha256(file.read()).hexdigest()]
            found[os.path.relpath(path, top)] = what
    return found
"""


def files(top: Path) -> dict[str, Any]:
    """As TREE has it; but for the marker of a checkout."""
    names: dict[str, Any] = {}
    exec(TREE, names)
    found: dict[str, Any] = names["tree"](top)
    found.pop(".mlxp-checkout.json", None)
    return found


def edit(project: Project, code: str) -> None:
    """Have the program call itself otherwise."""
    text = (project.dir / "main.py").read_text()
    project.write(**{"main.py": text.replace('"code": "A"', f'"code": "{code}"')})


def copy_of(project: Project, run: int) -> Path:
    """The copy that a run was given."""
    return Path(project.info(run)["version_manager"]["copy"])


def age(*paths: Path, hours: float = 2) -> None:
    """Have these last been touched that long ago."""
    moment = time.time() - hours * 3600
    for path in paths:
        os.utime(path, (moment, moment), follow_symlinks=False)

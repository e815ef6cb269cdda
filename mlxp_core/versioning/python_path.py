"""Make the PYTHONPATH by which jobs import a package from the frozen copy, and check that they have.

An editable install leads to the work tree: by a folder on sys.path, by an import hook that knows where each package
lies (setuptools with a src layout or a package_dir, the library editables), or by links. Such hooks come after the
folders of sys.path, and all of it after PYTHONPATH, so a folder of the copy that is named there is found first.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from os.path import realpath
from pathlib import Path
from typing import Any

from mlxp_core.errors import SnapshotError

_PathMap = Callable[[Path], Path]


def python_path(map_path: _PathMap, links: Path | None) -> list[str]:
    """Folders for the jobs' PYTHONPATH. ``map_path`` translates a path of the work tree to the copy.

    ``links`` is a folder for packages that are named otherwise than their folder, which it then has as links. Raises
    SnapshotError where that cannot be made.
    """
    inherited = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    # a relative one is of the launch directory, which jobs do not start in
    entries = [str(map_path(Path(os.path.abspath(entry)))) for entry in inherited]  # noqa: PTH100  (no links)
    # a folder of the repository on sys.path comes behind those of PYTHONPATH
    others = [(Path(entry), map_path(Path(entry))) for entry in sys.path[1:] if entry]
    entries += [str(copied) for entry, copied in others if copied != entry and copied.is_dir()]
    for name, path in (*_hooked_packages(), *_linked_modules(map_path)):
        copied = map_path(path)
        if copied == path or not copied.exists():
            continue
        if copied.name in {name, f"{name}.py"}:
            entries.append(str(copied.parent))
        elif links is not None:
            entries.append(str(_link(links, name, copied)))
    return list(dict.fromkeys(entries))


def _hooked_packages() -> Iterator[tuple[str, Path]]:
    """Name and path of each package that an import hook of an editable install knows, its folder or its one file."""
    for finder in sys.meta_path:
        module = sys.modules.get(getattr(finder, "__module__", ""))
        # setuptools: a module __editable___<project>_finder; editables: an attribute of the finder
        for mapping in (getattr(module, "MAPPING", None), getattr(finder, "_redirections", None)):
            yield from _mapped_packages(mapping)


def _linked_modules(map_path: _PathMap) -> Iterator[tuple[str, Path]]:
    """Modules of this program that links lead to: a strict editable install, a link in the environment."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if not isinstance(file, str) or "." in name or name == "__main__":
            continue
        path = _package_of(Path(file))
        # what lies in a folder of sys.path that the copy has is found there already
        if str(path.parent) not in sys.path or not map_path(path).exists():
            yield name, _package_of(Path(realpath(file)))


def _package_of(file: Path) -> Path:
    return file.parent if file.stem == "__init__" else file


def _mapped_packages(mapping: Any) -> Iterator[tuple[str, Path]]:
    if not isinstance(mapping, Mapping):
        return
    for name, text in mapping.items():
        if isinstance(name, str) and isinstance(text, str) and "." not in name:
            path = Path(text)
            if path.name == "__init__.py":
                path = path.parent
            if not path.exists() and path.with_name(f"{path.name}.py").exists():  # setuptools leaves the suffix out
                path = path.with_name(f"{path.name}.py")
            yield name, path


def _link(links: Path, name: str, copied: Path) -> Path:
    """Make a link of the package's own name, in a folder beside the copy; returns that folder."""
    link = links / (name if copied.is_dir() else f"{name}.py")
    try:
        links.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(copied, links))
    except FileExistsError:
        pass
    except OSError as error:
        raise SnapshotError(f"the package {name} cannot be linked to the copy of its code: {error}") from error
    return links


def modules_outside_copy(modules: Mapping[str, Any], repo: Path, copy: Path) -> list[str]:
    """Files of modules that were loaded from a work tree although the copy of its code has them, too."""
    work_tree = f"{realpath(repo)}{os.sep}"
    files = [getattr(module, "__file__", None) for module in list(modules.values())]
    real = [realpath(file) for file in files if isinstance(file, str)]
    return sorted(file for file in real if file.startswith(work_tree) and (copy / file[len(work_tree) :]).exists())

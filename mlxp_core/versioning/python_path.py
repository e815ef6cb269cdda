"""From where jobs import: a PYTHONPATH by which the frozen copy of a package wins over the installed one.

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

_Place = Callable[[Path], Path]


def python_path(place: _Place, links: Path | None) -> list[str]:
    """Folders for the jobs' PYTHONPATH. ``place`` says where a path of the work tree lies in the copy.

    ``links`` is a folder for packages that are named otherwise than their folder, which it then has as links. Raises
    SnapshotError where that cannot be made.
    """
    entries = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    placed = [str(place(Path(entry))) if Path(entry).is_absolute() else entry for entry in entries]
    # a folder of the repository on sys.path comes behind those of PYTHONPATH
    others = [(Path(entry), place(Path(entry))) for entry in sys.path[1:] if entry]
    placed += [str(copied) for entry, copied in others if copied != entry and copied.is_dir()]
    for name, path in (*_hooked(), *_loaded(place)):
        copied = place(path)
        if copied == path or not copied.exists():
            continue
        if copied.name in {name, f"{name}.py"}:
            placed.append(str(copied.parent))
        elif links is not None:
            placed.append(str(_link(links, name, copied)))
    return list(dict.fromkeys(placed))


def _hooked() -> Iterator[tuple[str, Path]]:
    """Name and place of each package that an import hook of an editable install knows, its folder or its one file."""
    for finder in sys.meta_path:
        module = sys.modules.get(getattr(finder, "__module__", ""))
        # setuptools: a module __editable___<project>_finder; editables: an attribute of the finder
        for known in (getattr(module, "MAPPING", None), getattr(finder, "_redirections", None)):
            yield from _paths(known)


def _loaded(place: _Place) -> Iterator[tuple[str, Path]]:
    """Modules of this program that links lead to: a strict editable install, a link in the environment."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if not isinstance(file, str) or "." in name or name == "__main__":
            continue
        path, real = (Path(one).parent if Path(one).stem == "__init__" else Path(one) for one in (file, realpath(file)))
        # what lies in a folder of sys.path that the copy has is found there already
        if str(path.parent) not in sys.path or not place(path).exists():
            yield name, real


def _paths(known: Any) -> Iterator[tuple[str, Path]]:
    if not isinstance(known, Mapping):
        return
    for name, text in known.items():
        if isinstance(name, str) and isinstance(text, str) and "." not in name:
            path = Path(text)
            if path.name == "__init__.py":
                path = path.parent
            if not path.exists() and path.with_name(f"{path.name}.py").exists():  # setuptools leaves the suffix out
                path = path.with_name(f"{path.name}.py")
            yield name, path


def _link(links: Path, name: str, copied: Path) -> Path:
    """Have a package under its name in a folder of its own."""
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
    top = os.path.realpath(repo)
    inside, own = f"{top}{os.sep}", f"{os.path.realpath(copy)}{os.sep}"
    found = []
    for module in list(modules.values()):
        file = getattr(module, "__file__", None)
        real = os.path.realpath(file) if isinstance(file, str) else ""
        if real.startswith(inside) and not real.startswith(own) and (copy / real[len(inside) :]).exists():
            found.append(real)
    return sorted(found)

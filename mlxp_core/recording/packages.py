"""List the distributions of an environment, and those that a running program has loaded, with their versions.

importlib.metadata is asked which distribution a module belongs to once for each state of an environment: reading the
records of sixty packages takes 70 ms of CPU, reading a cache of it 1.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mlxp_core.atomic_files import write_atomic
from mlxp_core.user_dirs import cache_dir

# of the repository's top, where there are any: what the environment was made from
LOCK_FILES = (
    "uv.lock",
    "poetry.lock",
    "pdm.lock",
    "pixi.lock",
    "Pipfile.lock",
    "conda-lock.yml",
    "requirements.txt",
    "environment.yml",
    "environment.yaml",
    "pyproject.toml",
    "setup.cfg",
    "setup.py",
)
SITES = {"site-packages", "dist-packages"}
_VERSION = "2"  # of the cache


class InstalledDistributions(NamedTuple):
    """The distributions of an environment."""

    versions: Mapping[str, str]  # by name
    owners: Mapping[str, Sequence[str]]  # names of distributions by module; of a shared package by its submodules
    sources: Mapping[str, str]  # the folder of this machine that a distribution was installed from, by name

    @property
    def pip_freeze(self) -> list[str]:
        """All of them, as ``name==version``, by name."""
        return [f"{name}=={self.versions[name]}" for name in sorted(self.versions, key=str.lower)]

    @property
    def local_modules(self) -> dict[str, str]:
        """The folder that each module was installed from, of those that no index has given: by `pip install .`."""
        if not self.sources:
            return {}
        pairs = ((module, name) for module, names in self.owners.items() for name in names)
        return {module: self.sources[name] for module, name in pairs if name in self.sources}

    def requirements(self, modules: Iterable[str]) -> list[str]:
        """Those of them that these modules belong to, as ``name==version``, by name."""
        names: set[str] = set()
        for package in {".".join(module.split(".")[:depth]) for module in modules for depth in (1, 2)}:
            names.update(self.owners.get(package, ()))
        return [f"{name}=={self.versions[name]}" for name in sorted(names, key=str.lower)]


@functools.cache
def installed_distributions() -> InstalledDistributions:
    """List what importlib.metadata finds on sys.path, from the cache where the environment is the same as before."""
    key = hashlib.sha256(json.dumps([_VERSION, sys.version, _stamps()]).encode()).hexdigest()[:32]
    cache = cache_dir()
    if cache is None:
        return _scan()
    path = cache / "environments" / f"{key}.json"
    with contextlib.suppress(OSError, ValueError, TypeError):
        return InstalledDistributions(**json.loads(path.read_text(encoding="utf-8")))
    installed = _scan()
    with contextlib.suppress(OSError):  # a home that is full or read-only
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(installed._asdict()))
    return installed


def installed_package(file: Path) -> str:
    """The top package, or module, of a file among the installed distributions; empty for any other file."""
    parts = file.parts
    place = next((index for index, part in enumerate(parts) if part in SITES), len(parts))
    return parts[place + 1].removesuffix(".py") if place + 1 < len(parts) else ""


def lock_files(top: Path) -> dict[str, str]:
    """Hash each file that pins an environment, with SHA-256, by name."""
    hashes = {}
    for name in LOCK_FILES:
        try:
            content = (top / name).read_bytes()
        except OSError:
            continue
        hashes[name] = hashlib.sha256(content).hexdigest()
    return hashes


def _stamps() -> list[tuple[str, int]]:
    """The folders of sys.path that hold distributions, with the times of their last change.

    An installation adds and removes entries, whatever it installs.
    """
    stamps = []
    for entry in dict.fromkeys(sys.path):
        try:
            if any(name.endswith((".dist-info", ".egg-info")) for name in os.listdir(entry or ".")):  # noqa: PTH208
                stamps.append((entry, os.stat(entry or ".").st_mtime_ns))  # noqa: PTH116
        except OSError:
            continue
    return stamps


def _scan() -> InstalledDistributions:
    from importlib import metadata  # noqa: PLC0415  (25 ms)

    versions: dict[str, str] = {}
    owners: dict[str, list[str]] = {}
    sources: dict[str, str] = {}
    distributions: dict[str, metadata.Distribution] = {}
    for distribution in metadata.distributions():
        name = distribution.metadata["Name"]
        if name and name not in versions:  # the first on the path is the one that is imported
            versions[name] = distribution.version
            distributions[name] = distribution
            if source := _source_folder(distribution.read_text("direct_url.json")):
                sources[name] = source
    for module, names in metadata.packages_distributions().items():
        sharing = sorted(set(names) & set(versions))
        if len(sharing) == 1:
            owners[module] = sharing
            continue
        for name in sharing:
            for submodule in _submodules(distributions[name], module):
                owners.setdefault(submodule, []).append(name)
    return InstalledDistributions(versions, owners, sources)


def _source_folder(direct_url: str | None) -> str | None:
    """The folder, or the archive in one, that a distribution was installed from. Source: PEP 610."""
    from urllib.parse import unquote, urlsplit  # noqa: PLC0415  (pathlib has it, on some versions of Python)

    try:
        url = urlsplit(json.loads(direct_url or "{}").get("url", ""))
    except (ValueError, AttributeError):
        return None
    return unquote(url.path) if url.scheme == "file" else None


def _submodules(distribution: Any, package: str) -> set[str]:
    """What one distribution has in a package that several share, such as google."""
    parts = (path.parts for path in distribution.files or ())
    return {f"{package}.{path[1].partition('.')[0]}" for path in parts if len(path) > 1 and path[0] == package}

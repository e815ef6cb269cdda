"""The PYTHONPATH by which jobs find packages in the copy, in process. With installs: test_version_of_every_run.py."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from mlxp_core.errors import SnapshotError
from mlxp_core.versioning import python_path as paths
from mlxp_core.versioning.python_path import modules_outside_copy, python_path


class Finder:
    """An import hook as the library editables has it."""

    def __init__(self, **packages: object) -> None:
        self._redirections = packages

    def find_spec(self, *_: object) -> None:
        return None


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A work tree, its copy beside it, and a program that has loaded nothing of either."""
    for top in ("work", "copy"):
        for file in (
            "src/pkg/__init__.py",
            "src/pkg/sub/__init__.py",
            "src/one.py",
            "lib/code/__init__.py",
            "lib/code/deep.py",
        ):
            (tmp_path / top / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / top / file).touch()
    (tmp_path / "work" / "ignored").mkdir()
    interpreter = SimpleNamespace(path=[str(tmp_path / "work"), "/usr/lib"], meta_path=[], modules={})
    monkeypatch.setattr(paths, "sys", interpreter)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    return tmp_path


def found(tree: Path, *, links: str = "links") -> list[str]:
    def map_path(path: Path) -> Path:
        inside = path.is_relative_to(tree / "work")
        return tree / "copy" / path.relative_to(tree / "work") if inside else path

    entries = python_path(map_path, tree / links if links else None)
    return [entry.replace(f"{tree}/", "") for entry in entries]


def test_folders_of_the_work_tree_come_behind_those_of_the_user(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: the program's own folder, which is found anyway; what git does not know; a relative entry made absolute."""
    monkeypatch.setenv("PYTHONPATH", f"{tree}/work/lib:here::/opt/x")
    monkeypatch.setattr(
        paths.sys, "path", [str(tree / "work"), "", str(tree / "work/src"), str(tree / "work/ignored"), "/usr"]
    )
    assert found(tree) == ["copy/lib", "here", "/opt/x", "copy/src"]


def test_a_hook_that_knows_packages_is_followed(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: the part of a package, by its dotted name, makes a link of its own, or hides the package."""
    packages = {
        "pkg": f"{tree}/work/src/pkg/__init__.py",
        "pkg.sub": f"{tree}/work/lib/code",
        "one": f"{tree}/work/src/one",
    }
    odd = {"gone": f"{tree}/work/gone", "elsewhere": "/usr", "none": None}
    monkeypatch.setattr(
        paths.sys, "meta_path", [Finder(**packages, **odd), Finder(named=f"{tree}/work/lib/code"), object()]
    )
    assert found(tree) == ["copy/src", "links"]
    assert os.listdir(tree / "links") == ["named"]
    assert (tree / "links" / "named").resolve() == tree / "copy/lib/code"
    assert found(tree) == ["copy/src", "links"]  # the next launch has the same
    assert found(tree, links="") == ["copy/src"]
    (tree / "taken").touch()
    with pytest.raises(SnapshotError, match="the package named cannot be linked to the copy of its code"):
        found(tree, links="taken/links")


def test_a_module_that_a_link_leads_to_is_found_in_the_copy(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: a strict editable install, whose packages are links, runs the work tree."""
    (tree / "work/build").mkdir()  # which git ignores
    (tree / "work/build" / "code").symlink_to(tree / "work/lib/code")
    (tree / "work/build" / "one.py").symlink_to(tree / "work/src/one.py")

    def module(file: str | None) -> ModuleType:
        made = ModuleType("x")
        made.__file__ = file
        return made

    names = {
        "code": "work/build/code/__init__.py",
        "code.deep": "work/build/code/deep.py",
        "one": "work/build/one.py",
        "__main__": "work/lib/code/deep.py",
    }
    modules = {name: module(f"{tree}/{file}") for name, file in names.items()}
    monkeypatch.setattr(paths.sys, "modules", {**modules, "builtin": module(None), "os": os})
    monkeypatch.setattr(paths.sys, "path", [str(tree / "work"), str(tree / "work/build")])
    assert found(tree) == ["copy/lib", "copy/src"]
    outside = modules_outside_copy(
        {**modules, "new": module(f"{tree}/work/ignored/x.py")}, tree / "work", tree / "copy"
    )
    assert outside == [
        f"{tree}/work/{file}" for file in ("lib/code/__init__.py", "lib/code/deep.py", "lib/code/deep.py", "src/one.py")
    ]
    copied = {"code": module(f"{tree}/copy/lib/code/__init__.py")}
    assert modules_outside_copy(copied, tree / "work", tree / "copy") == []

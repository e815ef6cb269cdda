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
        path = Path(os.path.abspath(path))
        inside = path.is_relative_to(tree / "work")
        return tree / "copy" / path.relative_to(tree / "work") if inside else path

    entries = python_path(map_path, tree / links if links else None)
    return [entry.replace(f"{tree}/", "") for entry in entries]


def test_folders_of_the_work_tree_come_behind_those_of_the_user(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: the program's own folder, which is found anyway; what git does not know; an entry that is relative."""
    monkeypatch.chdir(tree / "work" / "lib")  # for which an empty entry stands, and which no job is in
    monkeypatch.setenv("PYTHONPATH", f"{tree}/work/src:here::/opt/x")
    monkeypatch.setattr(
        paths.sys, "path", [str(tree / "work"), str(tree / "work/lib/code"), "", str(tree / "work/ignored"), "/usr"]
    )
    assert found(tree) == ["copy/src", "copy/lib/here", "/opt/x", "copy/lib/code"]


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


def test_each_package_of_a_hook_has_one_path(tree: Path) -> None:
    """Bug: a module whose suffix setuptools leaves out is not found; or the one beside a package of its name is."""
    (tree / "work/src/pkg.py").touch()
    src = tree / "work/src"
    mapping = {"pkg": f"{src}/pkg", "one": f"{src}/one", "init": f"{src}/pkg/__init__.py", "gone": f"{src}/gone"}
    odd = {3: f"{src}/pkg", "pkg.sub": f"{src}/pkg/sub", "none": None}
    assert list(paths._mapped_packages({**odd, **mapping})) == [
        ("pkg", src / "pkg"),
        ("one", src / "one.py"),
        ("init", src / "pkg"),
        ("gone", src / "gone"),
    ]
    for nothing in (None, [], "pkg"):
        assert list(paths._mapped_packages(nothing)) == []


def test_packages_of_other_names_share_a_folder_of_links(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: only the first is linked; a module without its suffix, which Python does not import."""
    hook = Finder(first=f"{tree}/work/lib/code", second=f"{tree}/work/src/one.py")
    monkeypatch.setattr(paths.sys, "meta_path", [hook])
    assert found(tree, links="a/links") == ["a/links"]
    assert {path.name: os.readlink(path) for path in (tree / "a/links").iterdir()} == {
        "first": "../../copy/lib/code",  # relative: the log directory may be moved
        "second.py": "../../copy/src/one.py",
    }


def test_a_module_that_a_link_leads_to_is_found_in_the_copy(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: a strict editable install, whose packages are links, runs the work tree."""
    (tree / "work/ignored/x.py").touch()
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
    others = {"code": module(f"{tree}/copy/lib/code/__init__.py"), "builtin": module(None), "short": module("/x.py")}
    assert modules_outside_copy(others, tree / "work", tree / "copy") == []


def test_modules_that_the_copy_has_in_the_same_place_need_no_path(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: a path for each module of the program; or none for a link, or for a folder that jobs do not search."""
    (tree / "work/build").mkdir()
    (tree / "work/build/one.py").symlink_to(tree / "work/src/one.py")
    files = {"there": "src/one.py", "linked": "build/one.py", "unsearched": "lib/code/deep.py"}
    modules = {name: SimpleNamespace(__file__=f"{tree}/work/{file}") for name, file in files.items()}
    monkeypatch.setattr(paths.sys, "modules", modules)
    monkeypatch.setattr(paths.sys, "path", [f"{tree}/work/src", f"{tree}/work/build"])

    def map_path(path: Path) -> Path:
        return tree / "copy" / path.relative_to(tree / "work")

    assert list(paths._linked_modules(map_path)) == [
        ("linked", tree / "work/src/one.py"),
        ("unsearched", tree / "work/lib/code/deep.py"),
    ]

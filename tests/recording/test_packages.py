"""Which distributions there are and which modules are theirs, by folders that look like installed ones."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlxp_core.recording import packages


def test_a_folder_with_one_distribution_among_other_files_holds_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: a site-packages, where packages lie beside what they are known by, is never scanned again."""
    for name in ("site/numpy", "site/numpy-2.0.dist-info", "old/x.egg-info", "old/x.py", "code/main.py", "empty"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "site")
    folders = [str(tmp_path / name) for name in ("site", "old", "code", "empty", "gone")]
    monkeypatch.setattr(sys, "path", [*folders, "", folders[0]])
    found = packages._stamps()
    assert [entry for entry, _ in found] == [folders[0], folders[1], ""]
    assert [stamp for _, stamp in found] == [os.stat(folder or ".").st_mtime_ns for folder, _ in found]


def install(site: Path, name: str, version: str, *files: str) -> None:
    """Put there what an installer leaves of a distribution."""
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    for file in files:
        (site / file).parent.mkdir(parents=True, exist_ok=True)
        (site / file).write_text("")
    (folder / "RECORD").write_text("".join(f"{file},,\n" for file in (*files, f"{folder.name}/METADATA")))


@pytest.fixture
def sites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """Two folders of packages, and nothing else; with a cache of their own."""
    folders = [tmp_path / "first", tmp_path / "second"]
    monkeypatch.setattr(sys, "path", [str(folder) for folder in folders])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    packages.installed_distributions.cache_clear()
    yield folders
    packages.installed_distributions.cache_clear()


def test_each_module_has_the_distribution_that_brought_it(sites: list[Path]) -> None:
    """Bug: scikit-learn looked for as sklearn; an older copy further down the path; all of google for a part."""
    first, second = sites
    install(first, "scikit-learn", "1.5", "sklearn/__init__.py", "sklearn/tree.py", "_loose.py")
    install(first, "google-auth", "2.0", "google/auth/__init__.py", "google/oauth2/x.py")
    install(first, "googleapis", "1.0", "google/api/__init__.py", "google/one.py", "README")
    install(second, "scikit-learn", "0.9", "sklearn/__init__.py")
    install(second, "Zope", "5", "zope/__init__.py")
    (second / "broken-1.dist-info").mkdir()

    found = packages._scan()
    assert found.versions == {"scikit-learn": "1.5", "google-auth": "2.0", "googleapis": "1.0", "Zope": "5"}
    assert found.pip_freeze == ["google-auth==2.0", "googleapis==1.0", "scikit-learn==1.5", "Zope==5"]
    assert found.requirements(["sklearn.tree", "os", "google", "zope.interface.common"]) == [
        "scikit-learn==1.5",
        "Zope==5",
    ]
    assert found.requirements(["google.auth.transport"]) == ["google-auth==2.0"]
    assert found.requirements(["google.one", "_loose", "google.oauth2"]) == [
        "google-auth==2.0",
        "googleapis==1.0",
        "scikit-learn==1.5",
    ]


def test_an_environment_is_scanned_once_and_anew_when_it_has_changed(
    sites: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: a package installed since is not on record; or each start of each job reads all records again."""
    scans: list[None] = []
    scan = packages._scan

    def counted() -> packages.InstalledDistributions:
        scans.append(None)
        return scan()

    def listed() -> list[str]:
        """As a new process would."""
        packages.installed_distributions.cache_clear()
        return packages.installed_distributions().pip_freeze

    monkeypatch.setattr(packages, "_scan", counted)
    install(sites[0], "one", "1", "one.py")
    assert [listed(), listed(), len(scans)] == [["one==1"], ["one==1"], 1]
    install(sites[1], "two", "2", "two.py")
    assert [listed(), listed(), len(scans)] == [["one==1", "two==2"], ["one==1", "two==2"], 2]
    assert packages.installed_distributions().requirements(["two"]) == ["two==2"]
    sys.path.reverse()  # another environment: what is first may hide what is second
    assert [len(listed()), len(scans)] == [2, 3]


@pytest.mark.parametrize("damage", ["{", "[]", '{"versions": {}, "more": 1}', None])
def test_a_cache_that_cannot_be_used_is_made_anew_or_done_without(
    sites: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str | None
) -> None:
    """Bug: a run that cannot start, as a cache was cut short, is another version's, or has no place."""
    install(sites[0], "one", "1", "one.py")
    assert packages.installed_distributions().pip_freeze == ["one==1"]
    (file,) = (tmp_path / "cache").glob("hydra-mlxp/environments/*.json")
    if damage is None:
        monkeypatch.setattr(packages, "cache_dir", lambda: None)
    else:
        file.write_text(damage)
    packages.installed_distributions.cache_clear()
    assert packages.installed_distributions().pip_freeze == ["one==1"]
    if damage is not None:
        assert json.loads(file.read_text()) == {"versions": {"one": "1"}, "owners": {"one": ["one"]}, "sources": {}}


def test_lock_files_are_known_by_what_is_in_them(tmp_path: Path) -> None:
    """Bug: a lock file that cannot be read ends the run; the hash of another one, or of its name."""
    (tmp_path / "uv.lock").write_text("abc")
    (tmp_path / "setup.cfg").write_text("")
    (tmp_path / "poetry.lock").mkdir()
    (tmp_path / "main.py").write_text("abc")
    # `printf abc | sha256sum`, and of nothing
    assert packages.lock_files(tmp_path) == {
        "uv.lock": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        "setup.cfg": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    }

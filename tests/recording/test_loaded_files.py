"""What a file held when it was loaded, where it was edited since: known, or said not to be."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlxp_core.recording import loaded_files as loaded
from mlxp_core.recording.loaded_files import LoadedFile, content_as_loaded

ONE = "LR = 1\n\n\ndef f():\n    return 'one'\n"
TWO = "LR = 1\n\n\ndef f():\n    return 'two, and longer'\n"
THREE = "LR = 30\n\n\ndef f():\n    return 'two, and longer'\n"


class Module:
    """A module of a process that began a day ago, or that begins tomorrow."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = folder / "of_the_user.py"
        monkeypatch.syspath_prepend(folder)
        monkeypatch.setattr(loaded, "_looks", {})
        self.patch = monkeypatch
        self.started(-1)

    def started(self, days: int) -> None:
        moment = int((os.stat(__file__).st_atime + days * 86400) * 1e9) if days > 0 else 0
        self.patch.setattr(loaded, "_process_start", lambda: moment or 1)

    def write(self, text: str) -> None:
        self.path.write_text(text)

    def load(self, text: str) -> None:
        self.write(text)
        importlib.invalidate_caches()
        self.module: Any = importlib.import_module(self.path.stem)

    def reload(self, text: str) -> None:
        self.write(text)
        importlib.reload(self.module)

    def held(self, *candidates: str) -> str | None:
        content = content_as_loaded(LoadedFile(self.module, str(self.path), ""), *(one.encode() for one in candidates))
        return None if content is None else content.decode()


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Module]:
    yield Module(tmp_path, monkeypatch)
    sys.modules.pop("of_the_user", None)


@pytest.mark.parametrize("other", [TWO, THREE, "", "LR = 2\n\n\ndef f():\n    return 'one'\n"])
def test_a_file_that_was_edited_before_anybody_looked_is_not_known(module: Module, other: str) -> None:
    """Bug: what the file says now is recorded as what ran."""
    module.load(ONE)
    module.write(other)
    assert module.held() == ("" if not other else None)
    assert module.held(other or ONE, ONE) == ("" if not other else ONE)


def test_a_file_that_was_made_in_a_kernel_and_not_edited_is_known(module: Module) -> None:
    """Bug: a kernel that is older than each of its files knows none of them."""
    module.load(ONE)
    assert module.held() == ONE


def test_a_file_older_than_the_process_needs_no_comparison(module: Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: each file is compiled once more at each start."""
    module.load(ONE)
    module.started(1000)
    monkeypatch.setattr(loaded, "_runs", lambda *_, **__: pytest.fail("compiled"))
    assert module.held() == ONE


def test_what_was_edited_and_not_loaded_again_is_what_it_was(module: Module) -> None:
    """Bug: a kernel's next run has the version of the edited file, which it has not loaded."""
    module.load(ONE)
    assert module.held() == ONE
    for other in (TWO, THREE):
        module.write(other)
        assert module.held() == ONE
    module.write(ONE)
    assert module.held() == ONE


def test_what_was_loaded_again_is_what_it_is_now(module: Module) -> None:
    """Bug: with importlib.reload the version of the process's first run."""
    module.load(ONE)
    assert module.held() == ONE
    module.reload(TWO)
    assert module.held() == TWO
    module.write(THREE)
    assert module.held() == TWO
    module.reload(THREE)
    module.write(ONE)
    assert module.held() is None
    assert module.held(ONE, THREE) == THREE


def test_functions_that_were_put_into_a_module_count(module: Module) -> None:
    """Bug: %autoreload of IPython 9 patches a module without loading it again, and the old version is recorded."""
    module.load(ONE)
    assert module.held() == ONE
    module.write(TWO)
    patched: dict[str, Any] = {}
    exec(compile(TWO, str(module.path), "exec"), patched)
    module.module.f.__code__ = patched["f"].__code__
    assert module.held() == TWO


def test_files_of_others_are_not_listed(module: Module) -> None:
    """Bug: thousands of files of torch are hashed for each run; this package's own; the standard library's."""
    module.load(ONE)
    listed = {file.path for file in loaded.loaded_files({})}
    assert str(module.path) in listed
    assert not [path for path in listed if "site-packages" in path or "mlxp_core" in path]
    assert os.__file__ not in listed
    assert pytest.__file__ in {file.path for file in loaded.loaded_files({}, "pytest")}
    assert pytest.__file__ in {file.path for file in loaded.loaded_files({"pytest"})}

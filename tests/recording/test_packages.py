"""Which folders hold distributions: what is installed there is scanned anew when they change."""

from __future__ import annotations

import os
import sys
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

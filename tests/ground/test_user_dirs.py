"""Where this user's caches and state lie, also where there is no place for them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlxp_core import user_dirs
from mlxp_core.recording import packages


def test_the_variables_of_the_specification_count_unless_they_are_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: a cache in the current directory, where `XDG_CACHE_HOME=` stands in a container's environment."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "/scratch/me")
    monkeypatch.setenv("XDG_STATE_HOME", "")
    assert user_dirs.cache_dir() == Path("/scratch/me/hydra-mlxp")
    assert user_dirs.state_dir() == tmp_path / ".local" / "state" / "hydra-mlxp"


def test_a_cache_that_cannot_be_written_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: `mlxp status` that ends with an error in a home that is read-only."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = user_dirs.writable_cache_dir("queues", "here")
    assert folder == tmp_path / "cache" / "hydra-mlxp" / "queues" / "here"
    assert folder.stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert user_dirs.writable_cache_dir("queues", "here") is None
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert user_dirs.writable_cache_dir("queues") is None


def test_a_user_without_a_home_records_its_packages_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: a container without a passwd entry, and a RuntimeError at the start of the run."""
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert user_dirs.cache_dir() is user_dirs.state_dir() is None
    packages.installed_distributions.cache_clear()
    try:
        assert "hydra-core" in packages.installed_distributions().versions
    finally:
        packages.installed_distributions.cache_clear()

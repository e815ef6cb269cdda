"""A path that every scheduler takes, for a folder whose own path is not one."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlxp_core.errors import ConfigurationError
from mlxp_core.jobs.safe_path import shell_safe_alias


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "hydra-mlxp" / "links"


def test_a_plain_path_is_itself(tmp_path: Path, cache: Path) -> None:
    """Bug: a link for every log directory."""
    assert shell_safe_alias(tmp_path / "12") == tmp_path / "12"
    assert not cache.exists()


def test_another_is_reached_by_a_link_to_its_parent(tmp_path: Path, cache: Path) -> None:
    """Bug: OAR takes a node for broken by the quote in a path; a link a submission, or one that is made twice."""
    home = tmp_path / "a user's 100% prôject"
    for name in ("1", "2", "1"):
        (home / name).mkdir(parents=True, exist_ok=True)
        alias = shell_safe_alias(home / name)
        assert alias.parent.parent == cache
        assert alias.name == name
        assert alias.parent.name.isalnum()
        assert alias.resolve() == home / name
    assert len(list(cache.iterdir())) == 1
    shell_safe_alias(tmp_path / "another's" / "1")
    assert len(list(cache.iterdir())) == 2


def test_where_a_link_cannot_be_had_the_error_says_what_would_do(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: a job that never starts, for the link leads to another's folder, or has a blank in its own path."""
    folder = tmp_path / "a b" / "1"
    link = shell_safe_alias(folder).parent
    link.unlink()
    link.symlink_to(tmp_path)
    with pytest.raises(ConfigurationError, match="cannot stand for it"):
        shell_safe_alias(folder)
    link.unlink()
    link.parent.rmdir()
    link.parent.touch()
    with pytest.raises(ConfigurationError, match="to it cannot be made"):
        shell_safe_alias(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "c d"))
    with pytest.raises(ConfigurationError, match="cannot stand for it"):
        shell_safe_alias(folder)
    monkeypatch.setattr("mlxp_core.jobs.safe_path.cache_dir", lambda: None)
    with pytest.raises(ConfigurationError, match="you have no home in which a link to it could lie"):
        shell_safe_alias(folder)

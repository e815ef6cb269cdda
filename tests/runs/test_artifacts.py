"""Which artifacts a run's folder lists. Their contents: tests/recording/test_artifacts.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlxp_core.runs import artifact_listing
from mlxp_core.runs.artifact_listing import artifact_files


def write(run: Path, *names: str) -> None:
    for name in names:
        (run / "artifacts" / name).parent.mkdir(parents=True, exist_ok=True)
        (run / "artifacts" / name).touch()


def test_files_of_every_type_are_listed_with_the_folders_that_were_looked_into(tmp_path: Path) -> None:
    """Bug: a column for a file that is being written, or that a colleague's link leads round in a circle to."""
    write(tmp_path, "json/b.json", "json/a.json", "image/deep/c.png", "json/.d.json-1", "stray")
    (tmp_path / "artifacts" / "json" / "link").symlink_to("a.json")
    (tmp_path / "artifacts" / "json" / "gone").symlink_to("nowhere")
    (tmp_path / "artifacts" / "json" / "circle").symlink_to("..", target_is_directory=True)
    files = artifact_files(str(tmp_path))
    assert files.names == ("image/deep/c.png", "json/a.json", "json/b.json", "json/link")
    folders = {folder for folder, _ in files.folders}
    assert folders == {"artifacts", "artifacts/json", "artifacts/image", "artifacts/image/deep"}
    assert files.problems == ()


def test_a_run_without_artifacts_has_none(tmp_path: Path) -> None:
    """Bug: FileNotFoundError for the first run of a project."""
    files = artifact_files(str(tmp_path))
    assert ([folder for folder, _ in files.folders], files.names, files.problems) == (["artifacts"], (), ())


def test_a_folder_that_cannot_be_listed_is_a_problem_of_its_own(tmp_path: Path) -> None:
    """Bug: one broken link, and the run has no artifacts; or has lost some, and nobody says so."""
    (tmp_path / "artifacts").symlink_to("artifacts")
    files = artifact_files(str(tmp_path))
    ((folder, why),) = files.problems
    assert (folder, files.names) == ("artifacts", ())
    assert why.startswith("its artifacts cannot be listed: ")


def test_of_too_many_artifacts_the_first_are_listed_and_the_rest_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: a million files, and every query waits for all of them; or a column that is missing without a word."""
    monkeypatch.setattr(artifact_listing, "_MOST_FILES", 2)
    write(tmp_path, "a/1", "a/2")
    assert artifact_files(str(tmp_path)).problems == ()
    write(tmp_path, "b/1", "b/2", "c/1", "c/2")
    files = artifact_files(str(tmp_path))
    assert len(files.names) == 2
    assert files.problems == (("artifacts", "more than 2 artifacts: the others are in no column"),)

"""What `mlxp checkout` asks for and says, in process. With repositories: versioning/test_checkout.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from mlxp_core.cli import app
from mlxp_core.versioning import checkout as versioning
from mlxp_core.versioning.checkout import Checkout

FOLDER = Path("/a b/code-of-run-7")


@pytest.fixture
def called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Callable[..., Result], list[tuple[str, Path, Any, Any]]]:
    """Call the command in a folder with runs 7 and 8: its result, and what it asked for."""
    asked: list[tuple[str, Path, Any, Any]] = []
    for name in ("7", "8"):
        (tmp_path / "logs" / name / "metadata").mkdir(parents=True)
        (tmp_path / "logs" / name / "metadata" / "info.yaml").touch()
    monkeypatch.chdir(tmp_path)

    def call(*words: str, **made: Any) -> Result:
        values = {"not_from_git": "", "lost_changes": (), "directory": FOLDER / "pkg", "command": "python x.py"}
        values["elsewhere"] = {}

        def checkout_run(run: Any, folder: Path, *, repository: Path | None, commit_only: bool) -> Checkout:
            asked.append((run.path.name, folder, repository, commit_only))
            return Checkout(**{"folder": FOLDER, "commit": "f" * 40, **values, **made})

        monkeypatch.setattr(versioning, "checkout_run", checkout_run)
        return CliRunner().invoke(app, ["checkout", *words])

    return call, asked


def test_the_folder_is_the_answer_and_the_rest_is_for_people(called: Any) -> None:
    """Bug: `cd $(mlxp checkout 7)` with a sentence in it; a path with a blank that cannot be pasted."""
    call, asked = called
    done = call("7")
    assert (done.exit_code, done.stdout) == (0, f"{FOLDER}\n")
    assert done.stderr == f"commit {'f' * 40}; run it with\n  cd '/a b/code-of-run-7/pkg'\n  python x.py\n"
    assert asked == [("7", Path.cwd() / "code-of-run-7", None, False)]
    assert call("8", command="").stderr == ""


def test_what_is_not_as_it_was_is_said(called: Any) -> None:
    """Bug: a commit is passed off as what ran."""
    call, _ = called
    done = call(
        "7", not_from_git="it is lost", lost_changes=(" M a", "?? b"), command="", elsewhere={"/site/lib.py": "/kept"}
    )
    assert done.stderr.splitlines() == [
        "taken from the copy that the jobs run, for git cannot give it: it is lost",
        "without these changes, which the run had:",
        "   M a",
        "  ?? b",
        "not part of the code, it loaded /site/lib.py, which is kept as /kept",
    ]
    assert done.stdout == f"{FOLDER}\n"


def test_options_are_handed_on_as_paths_from_here(called: Any) -> None:
    """Bug: --repo is looked for in another directory; --commit-only is forgotten."""
    call, asked = called
    call("8", "there", "--repo", "clone", "--commit-only")
    assert asked == [("8", Path.cwd() / "there", Path.cwd() / "clone", True)]


def test_it_is_the_code_of_one_run(called: Any) -> None:
    """Bug: of 7-8 the first, without a word."""
    call, asked = called
    done = call("7-8")
    assert done.exit_code == 2
    assert "7-8 is more than one run" in done.stderr
    assert asked == []

"""Log directories hide themselves from git, and nothing of the user's with them."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from support import git

from mlxp_core import start_run
from mlxp_core.atomic_files import create_atomic
from mlxp_core.runs.allocation import RunAllocator
from mlxp_core.runs.git_exclusion import hide_log_dir
from mlxp_core.runs.layout import LogDir


def repository(top: Path, **files: str) -> Path:
    """A repository with these files committed."""
    for name, text in files.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(text)
    git("init", "--quiet", cwd=top)
    git("add", "--all", cwd=top)
    git("commit", "--quiet", "--message", "x", cwd=top)
    return top


def untracked(top: Path) -> list[str]:
    """What git shows, file by file."""
    return git("status", "--porcelain", "--untracked-files=all", cwd=top).splitlines()


@pytest.mark.parametrize(
    "there",
    [
        {},
        {"logs/1/metadata/info.yaml": "", "logs/.mlxp/last_id": f"{1:020}\n"},  # made by an earlier version
        {"logs/baseline/metadata/info.yaml": "", "logs/multirun.yaml": ""},
        {"logs/0/.hydra/hydra.yaml": "", "logs/optimization_results.yaml": ""},
    ],
)
def test_a_log_directory_is_hidden_once_with_all_that_runs_write(tmp_path: Path, there: dict[str, str]) -> None:
    """Bug: `git status` is full of runs; a log directory that was there before stays so."""
    top = repository(tmp_path, **{"main.py": ""})
    for name, text in there.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(text)
    with start_run(top / "logs") as run:
        run.log_metrics({"loss": 1.0}, log_name="train")
        run.log_artifacts({"a": 1}, "x", "json")
    assert untracked(top) == []
    ignore = top / "logs" / ".gitignore"
    assert ignore.read_text().splitlines()[1:] == ["*"]
    before = ignore.stat()
    with start_run(top / "logs"):
        pass
    assert (ignore.stat().st_ino, ignore.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("text", ["", "*.pt\n", "!metrics/\n"])
def test_the_users_own_file_stays_as_it_is(tmp_path: Path, text: str) -> None:
    """Bug: whoever commits the results finds them ignored after the next launch."""
    top = repository(tmp_path, **{"logs/.gitignore": text, "logs/.gitkeep": ""})
    with start_run(top / "logs") as run:
        run.log_metrics({"loss": 1.0}, log_name="train")
    assert (top / "logs" / ".gitignore").read_text() == text
    assert "?? logs/1/metadata/info.yaml" in untracked(top)


@pytest.mark.parametrize("log_dir", [".", "study"])
def test_a_log_directory_among_the_users_files_hides_its_runs_alone(tmp_path: Path, log_dir: str) -> None:
    """Bug: start_run(".") and no new file of the project is ever committed again."""
    top = repository(tmp_path, **{"study/main.py": "", ".gitignore": "*.pt\n"})
    for _ in range(2):
        with start_run(top / log_dir) as run:
            run.log_metrics({"loss": 1.0}, log_name="train")
    (top / "study" / "new.py").touch()
    (top / "new.py").touch()
    assert untracked(top) == ["?? new.py", "?? study/new.py"]


def test_other_folders_of_numbers_are_not_runs(tmp_path: Path) -> None:
    """Bug: chapters 1 and 2 of a book vanish from git."""
    top = repository(tmp_path, **{"book/1/a.tex": ""})
    (top / "book" / "2").mkdir()
    (top / "book" / "2" / "b.tex").touch()
    with start_run(top / "book") as run:
        assert run.id == 3
    assert untracked(top) == ["?? book/2/b.tex"]


def test_launches_at_once_write_it_whole(tmp_path: Path) -> None:
    """Bug: an empty .gitignore, or an error, of launches at once; another one's run is a file of the user's."""
    barrier = threading.Barrier(8)
    errors: list[BaseException] = []

    def launch() -> None:
        try:
            barrier.wait()
            with RunAllocator(tmp_path / "logs") as allocator:
                allocator.allocate_block(3)
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=launch) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sorted(os.listdir(tmp_path / "logs"), key=str) == sorted(
        [".gitignore", ".mlxp", *map(str, range(1, 25))], key=str
    )
    assert (tmp_path / "logs" / ".gitignore").read_text().endswith("\n*\n")


@pytest.mark.parametrize("has_links", [True, False])
def test_what_is_there_already_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, has_links: bool
) -> None:
    """Bug: the file that the user has just written is gone; FAT and some network disks have no links."""

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    if not has_links:
        monkeypatch.setattr(os, "link", refuse)
    create_atomic(tmp_path / "x", b"first")
    with pytest.raises(FileExistsError):
        create_atomic(tmp_path / "x", b"second")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x").read_bytes() == b"first"


def test_a_log_directory_that_cannot_be_written_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: a run that does not start for want of a .gitignore."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "logs").mkdir()
    monkeypatch.setattr("mlxp_core.runs.git_exclusion.create_atomic", refuse)
    assert hide_log_dir(LogDir(tmp_path / "logs")) is True
    assert not (tmp_path / "logs" / ".gitignore").exists()

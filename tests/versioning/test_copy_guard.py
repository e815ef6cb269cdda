"""What a job may do to the copy of its code, and what it is told about files that are not where it runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from machines import User

from mlxp_core.versioning import copy_guard
from mlxp_core.versioning.copy_guard import WHY_READ_ONLY, guard_copy
from mlxp_core.versioning.export import _make_read_only
from mlxp_core.versioning.file_advice import JobPlaces, advise


@pytest.fixture(scope="module")
def _hook() -> None:
    """The hook stays for good: it refuses nothing where no copy is guarded."""
    sys.addaudithook(copy_guard._refuse)


@pytest.fixture
def copy(_hook: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy that is guarded in this process, for as long as the test runs."""
    monkeypatch.setattr(copy_guard, "_guarded", ["/nowhere/"])
    top = tmp_path / "copy"
    (top / "results" / "__pycache__").mkdir(parents=True)
    (top / "main.py").write_text("A")
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "code").symlink_to(top)
    (tmp_path / "work" / "main.py").symlink_to(top / "main.py")
    guard_copy(top)
    yield top
    copy_guard._guarded.clear()


REFUSED: dict[str, Callable[[Path], object]] = {
    "a new file": lambda top: (top / "out.txt").open("w"),
    "more of a file": lambda top: (top / "main.py").open("a"),
    "bytes": lambda top: open(os.fsencode(top / "out"), "xb"),  # noqa: SIM115
    "both ways": lambda top: (top / "main.py").open("r+"),
    "a descriptor": lambda top: os.open(top / "out", os.O_CREAT | os.O_WRONLY),
    "a folder": lambda top: (top / "results" / "new").mkdir(),
    "folders": lambda top: os.makedirs(top / "a" / "b"),
    "no file": lambda top: (top / "main.py").unlink(),
    "no folder": lambda top: (top / "results").rmdir(),
    "another name": lambda top: (top / "main.py").rename(top.parent / "x"),
    "a name in it": lambda top: (top.parent / "work" / "main.py").rename(top / "x"),
    "a link in it": lambda top: (top / "link").symlink_to("main.py"),
    "a shorter file": lambda top: os.truncate(top / "main.py", 0),
    "nothing": lambda top: shutil.rmtree(top / "results"),
    "through a link": lambda top: (top.parent / "work" / "main.py").open("w"),
    "through the link of a folder": lambda top: (top.parent / "work" / "code" / "new").mkdir(),
}


@pytest.mark.parametrize("what", REFUSED)
def test_nothing_of_a_copy_is_changed(copy: Path, what: str) -> None:
    """Bug: as root, or as its owner, a job writes in silence into what all jobs of that version run."""
    before = sorted(copy.rglob("*"))
    with pytest.raises(PermissionError, match="write to a relative path") as raised:
        REFUSED[what](copy)
    assert raised.value.errno == 13
    assert (sorted(copy.rglob("*")), (copy / "main.py").read_text()) == (before, "A")


def test_reading_byte_code_and_what_lies_beside_are_allowed(copy: Path) -> None:
    """Bug: a job cannot read its code, compile it, or take a link out of its own folder."""
    assert (copy / "main.py").read_text() == "A"
    (copy / "results" / "__pycache__" / "x.pyc").write_text("")
    work = copy.parent / "work"
    (work / "main.py").rename(work / "old.py")
    (work / "old.py").unlink()
    (work / "code").unlink()
    (copy.parent / "copy2").mkdir()
    os.write(os.open(work / "out", os.O_CREAT | os.O_WRONLY), b"x")


@pytest.fixture
def places(tmp_path: Path) -> JobPlaces:
    """A job that runs in a folder of its run, of a launch from apps/ of a repository."""
    made = JobPlaces(
        tmp_path / "copy", tmp_path / "repo", tmp_path / "1/work", tmp_path / "1/work/apps", tmp_path / "repo/apps"
    )
    for folder in (made.copy / "apps", made.start, made.launch_dir / "data", made.launch_dir / "results"):
        folder.mkdir(parents=True)
    (made.launch_dir / "data" / "train.csv").touch()
    (made.start / "main.py").symlink_to(made.copy / "main.py")
    (made.start / "empty").mkdir()
    (made.copy / "main.py").touch()
    return made


def raised(action: Callable[[], object]) -> BaseException:
    with pytest.raises(OSError) as info:
        action()
    return info.value


def test_data_that_git_ignores_is_named_with_what_to_do(places: JobPlaces) -> None:
    """Bug: No such file or directory: 'data/train.csv', which is there for all to see."""
    said = (
        f"data/train.csv is there, as {places.launch_dir}/data/train.csv, but not in the version of the code that this "
        "job runs, because git ignores it or it was not committed: open run.original_path('data/train.csv'), or let "
        "the jobs start in the launch directory itself, with hydra.launcher.work_dir=launch"
    )
    missing = FileNotFoundError(2, "No such file or directory", "data/train.csv")
    assert advise(missing, places) == said
    hdf5 = OSError("Unable to open file (unable to open file: name = 'data/train.csv', errno = 2, flags = 0)")
    assert advise(hdf5, places) == said
    wrapped = RuntimeError("no data")
    wrapped.__cause__ = missing
    assert advise(wrapped, places) == said
    library = RuntimeError("File data/train.csv cannot be opened.")
    assert advise(library, places) == said
    beside = FileNotFoundError(2, "No such file or directory", str(places.copy / "apps/data/train.csv"))
    assert f"open run.original_path('{places.launch_dir}/data/train.csv')" in advise(beside, places)
    folder = FileNotFoundError(2, "No such file or directory", "data")
    assert advise(folder, places).startswith(f"data is there, as {places.launch_dir}/data, but not")


def test_a_folder_that_git_ignores_is_to_be_made(places: JobPlaces) -> None:
    """Bug: No such file or directory: 'results/a.txt', for a file that is only now being written."""
    said = (
        f"the folder {places.launch_dir}/results is in the launch directory, but git does not have it, and so it is "
        "not where this job runs: make it before you write, os.makedirs('results', exist_ok=True)"
    )
    assert advise(FileNotFoundError(2, "No such file or directory", "results/a.txt"), places) == said
    torch = RuntimeError("Parent directory results/deep does not exist.")
    assert advise(torch, places) == said.replace("'results'", "'results/deep'")


def test_a_file_of_the_code_is_not_to_be_written(places: JobPlaces) -> None:
    """Bug: Permission denied, and not a word that this is shared by all jobs."""
    assert advise(PermissionError(13, "Permission denied", "main.py"), places) == f"main.py: {WHY_READ_ONLY}"
    new = str(places.copy / "out.txt")
    assert advise(PermissionError(13, "Permission denied", new), places) == f"{new}: {WHY_READ_ONLY}"
    assert advise(PermissionError(13, WHY_READ_ONLY, "main.py"), places) == ""  # which says so itself


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(2, "No such file or directory", "nowhere.csv"),
        FileNotFoundError(2, "No such file or directory", "/data/train.csv"),
        FileNotFoundError(2, "No such file or directory", "empty"),
        PermissionError(13, "Permission denied", "/etc/shadow"),
        PermissionError(13, "Permission denied", "empty"),
        FileExistsError(17, "File exists", 7),
        ValueError("the results and the data do not agree: 'x\0y'"),
        KeyError("data"),
        OSError(),
    ],
    ids=str,
)
def test_of_other_errors_nothing_is_said(places: JobPlaces, error: BaseException) -> None:
    """Bug: advice that is none, for a file that is nowhere, or for a word that is a folder by chance."""
    assert advise(error, places) == ""


def test_its_owner_can_remove_a_log_directory(ordinary_user: User) -> None:
    """Bug: rm: cannot remove 'logs/.mlxp/code/…/main.py': Permission denied."""

    def make() -> str:
        top = Path("logs", "copy")
        (top / "pkg").mkdir(parents=True)
        (top / "pkg" / "a.py").write_text("A")
        _make_read_only(top)
        return subprocess.run(["rm", "-rf", "logs"], capture_output=True, text=True, check=False).stderr

    assert ordinary_user.call(make) == ""
    assert not (ordinary_user.home / "logs").exists()

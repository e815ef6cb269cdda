"""The code of a program that is in no git repository: its folder, as it is, within bounds."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
from code_copies import age, copy_of, edit
from machines import User
from support import Mlxp, Project, git

from mlxp_core.errors import SnapshotError
from mlxp_core.runs.code_version import SnapshotMode
from mlxp_core.runs.layout import CodeDir, LogDir
from mlxp_core.versioning import own_repository
from mlxp_core.versioning.own_repository import freeze_folder, program_folder
from mlxp_core.versioning.snapshot import check_repository, freeze_code

LOCAL = ("-m", "hydra/launcher=mlxp_local", "hydra.launcher.wait=true")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A program's folder with what is its code and what is not."""
    top = tmp_path / "a project"
    names = ["main.py", "pkg/__init__.py", "conf/config.yaml", "data/train.csv", "run.sh", "env/__init__.py"]
    left_out = [".env", "pkg/__pycache__/a.pyc", ".venv/bin/x.py", "wandb/run", "my env/pyvenv.cfg", "my env/lib/x.py"]
    for name in (*names, *left_out, "logs/1/metadata/info.yaml", "scratch/x", "co[d]e/x"):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(name)
    (top / "run.sh").chmod(0o755)
    (top / ".gitignore").write_text("scratch/\n")
    return top


def frozen(folder: Path, logs: Path | None = None, place: Path | None = None) -> list[str]:
    code = freeze_code(folder / "main.py", LogDir(logs or folder / "logs"), place=place)
    return sorted(
        str(path.relative_to(code.copy))
        for path in code.copy.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    )


CODE = [
    ".gitignore",
    "co[d]e/x",
    "conf/config.yaml",
    "data/train.csv",
    "env/__init__.py",
    "main.py",
    "pkg/__init__.py",
    "run.sh",
]


def test_the_folder_is_frozen_without_what_is_no_code(folder: Path) -> None:
    """Bug: the environment, the log directory or secrets are copied; a package named env is not."""
    before = sorted(folder.rglob("*"))
    assert frozen(folder, folder.parent / "logs") == CODE  # runs of another log directory are none, either
    assert sorted(folder.rglob("*")) == before  # no .git, nothing at all
    assert frozen(folder) == CODE
    assert frozen(folder, folder.parent / "logs", folder / "co[d]e") == [name for name in CODE if name != "co[d]e/x"]


def test_runs_beside_the_program_are_no_code(folder: Path) -> None:
    """Bug: hydra.launcher.log_dir=. makes another version at each launch."""
    (folder / "7" / "metadata").mkdir(parents=True)
    (folder / "7" / "metadata" / "info.yaml").touch()
    assert "7/metadata/info.yaml" not in frozen(folder, folder)
    assert (folder / ".mlxp" / "code" / "repository.git").is_dir()


def test_what_running_leaves_is_no_change_of_a_folder_without_git(folder: Path) -> None:
    """Bug: after an `mlxp checkout` into the folder `skip` computes everything again, and copies hold copies."""
    before = freeze_code(folder / "main.py", LogDir(folder / "logs")).version.commit
    left = ["code of/.mlxp-checkout.json", "code of/main.py", "old/.mlxp/last_id", "old/1/metadata/info.yaml"]
    left += ["results/b/.hydra/hydra.yaml", "results/b/main.log"]
    for name in left:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    assert freeze_code(folder / "main.py", LogDir(folder / "logs")).version.commit == before
    (folder / "results" / "new.py").touch()
    assert frozen(folder) == sorted([*CODE, "results/new.py"])


def test_code_in_the_log_directory_is_code(folder: Path) -> None:
    """Bug: hydra.launcher.log_dir=pkg, and the jobs do not find the package."""
    (folder / "pkg" / "1" / "metadata").mkdir(parents=True)
    (folder / "pkg" / "1" / "metadata" / "info.yaml").touch()
    assert [name for name in frozen(folder, folder / "pkg") if name.startswith("pkg")] == ["pkg/__init__.py"]


def test_the_same_files_are_the_same_version_whoever_launches(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: `skip` that knows no run again, for its version has the time, the user or the place in it."""
    first = freeze_code(folder / "main.py", LogDir(folder / "logs"))
    monkeypatch.setenv("GIT_AUTHOR_NAME", "somebody else")
    moved = folder.rename(folder.parent / "elsewhere")
    again = freeze_code(moved / "main.py", LogDir(moved.parent / "logs" / "other"), place=moved.parent / "copies")
    names = [name for name in os.listdir(again.copy) if name != "logs"]
    assert "main.py" in names
    (moved / "main.py").write_text("B")
    changed = freeze_code(moved / "main.py", LogDir(moved / "logs"))
    (moved / "main.py").write_text("main.py")
    assert freeze_code(moved / "main.py", LogDir(moved / "logs")).version.commit == first.version.commit
    assert changed.version.commit != first.version.commit
    recorded = first.recorded
    assert (recorded.repo_path, recorded.snapshot, recorded.dirty) == (folder, SnapshotMode.WORKTREE, False)
    assert (recorded.head, recorded.branch, first.diff) == (None, None, None)


def test_large_files_are_left_out_and_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Bug: a checkpoint of two gigabytes is committed; or it is left out, and nobody hears of it."""
    monkeypatch.setattr(own_repository, "_LARGE", 100)
    (folder / "data" / "all [1].csv").write_text("x" * 101)
    caplog.set_level(logging.INFO)
    assert frozen(folder) == CODE
    place = folder / "logs" / ".mlxp" / "code"
    assert f"{folder} is in no git repository: the jobs run a copy of its 8 files, which {place}" in caplog.text
    assert "larger than 0 MiB: data/all [1].csv (0 MiB); open it by run.original_path" in caplog.text


@pytest.mark.parametrize(
    ("bound", "said"),
    [
        ("_MOST_LOOKED_AT", "holds more than 5 files. Put the program into a folder of its own"),
        ("_MOST_FILES", r"holds 8 files of 0 MiB, and at most 5 of 200 MiB are copied. Most of it is in"),
        ("_MOST_BYTES", r"holds 8 files of 0 MiB, and at most 5,000 of 0 MiB are copied. Most of it is in conf"),
    ],
)
def test_what_is_no_code_by_its_size_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, bound: str, said: str
) -> None:
    """Bug: a launch that copies a dataset, or walks through a home for minutes."""
    monkeypatch.setattr(own_repository, bound, 5)
    with pytest.raises(SnapshotError, match=said) as refused:
        freeze_code(folder / "main.py", LogDir(folder / "logs"))
    assert "hydra.launcher.snapshot=none" in str(refused.value)
    assert not list((folder / "logs").glob(".mlxp/code/[0-9a-f]*"))


def test_a_home_or_the_root_is_nobodys_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: ~/main.py has all of the home copied into the log directory."""
    home = tmp_path / "home" / "me"
    (home / "project").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    for program in (home / "main.py", home.parent / "main.py", Path("/main.py"), Path("/tmp/main.py"), home):
        with pytest.raises(SnapshotError, match="is a home or a folder of the system, which is not copied"):
            program_folder(program)
        with pytest.raises(SnapshotError, match="is a home or a folder of the system"):
            check_repository(program, home)
    assert program_folder(home / "project" / "main.py", home) == home / "project"


def test_the_folder_is_that_of_the_launch_where_the_program_is_part_of_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: `python scripts/train.py` without conf/ and data/; `python -m pkg.app` without pkg; all projects at once."""
    assert program_folder(folder / "main.py") == folder
    assert program_folder(folder / "pkg" / "app.py") == folder  # of the top package
    assert program_folder(folder / "conf" / "train.py", folder) == folder
    assert program_folder(folder / "main.py", folder.parent.parent / "elsewhere") == folder
    monkeypatch.setattr(own_repository, "_MOST_LOOKED_AT", 30)
    (folder.parent / "other").mkdir()
    for number in range(30):
        (folder.parent / "other" / str(number)).touch()
    assert program_folder(folder / "main.py", folder.parent) == folder


def test_a_clone_within_is_part_of_the_version(folder: Path) -> None:
    """Bug: the repository of the program's folder is taken for that of the clone; or its files are missing."""
    clone = folder / "lib"
    clone.mkdir()
    (clone / "lib.py").write_text("L")
    git("init", "--quiet", cwd=clone)
    git("add", "--all", cwd=clone)
    git("commit", "--quiet", "--message", "x", cwd=clone)
    (clone / "lib.py").write_text("changed")
    code = freeze_code(folder / "main.py", LogDir(folder / "logs"))
    assert (code.copy / "lib" / "lib.py").read_text() == "changed"


def test_an_ordinary_user_freezes_what_is_the_users(ordinary_user: User) -> None:
    """Bug: git refuses a repository, for its folder belongs to another user; root's configuration is read."""

    def freeze() -> str:
        top = Path("project").absolute()
        top.mkdir()
        (top / "main.py").write_text("A")
        version = freeze_folder(top, top / "logs" / ".mlxp" / "code", LogDir(top / "logs"))
        return version.repository.git("show", f"{version.commit}:main.py")

    assert ordinary_user.call(freeze) == "A"


@pytest.fixture
def plain(project: Project) -> Project:
    """A project that is in no repository."""
    (project.dir / ".git").rename(project.dir.parent / "was git")
    project.write(**{"data/train.csv": "1"})
    return project


def test_jobs_run_a_frozen_copy_without_any_git_of_the_users(plain: Project, mlxp: Mlxp) -> None:
    """Bug: the launcher refuses; an edit gets into jobs that wait; `skip` and `mlxp checkout` know nothing of it."""
    flag = plain.dir.parent / "flag"
    plain.run(*LOCAL[:2], "seed=1", "do=hold", f"flag='{flag}'")
    edit(plain, "B")
    flag.touch()
    plain.wait_for_end(1)
    assert (plain.status(1), plain.said(1)["code"]) == ("COMPLETE", "A")
    assert Path(plain.said(1)["file"]) == copy_of(plain, 1) / "main.py"
    assert not (plain.dir / ".git").exists()
    skip = ("hydra/sweeper=mlxp", "hydra.sweeper.skip=[COMPLETE]")
    plain.run(*LOCAL, *skip, "seed=1,2")
    again = plain.run(*LOCAL, *skip, "seed=1,2,3")
    assert "1 of 3 jobs new" in again.stdout + again.stderr
    folder = plain.dir.parent / "then"
    assert "not from git" not in mlxp("checkout", "1", str(folder)).stdout
    assert '"code": "A"' in (folder / "main.py").read_text()
    assert (folder / "data" / "train.csv").read_text() == "1"


def test_a_checkout_of_code_without_git_can_be_launched(plain: Project, mlxp: Mlxp) -> None:
    """Bug: "is in no git repository", of the folder that the code once came from; or what was edited does not run."""
    plain.run(*LOCAL, "seed=1")
    made = copy_of(plain, 1).name
    mlxp("checkout", "1", str(plain.dir.parent / "then"))
    plain.dir = plain.dir.parent / "then"
    plain.run(*LOCAL, "seed=1")
    edit(plain, "B")
    plain.run(*LOCAL, "seed=1")
    assert [plain.said(run)["code"] for run in (1, 2)] == ["A", "B"]
    assert copy_of(plain, 1).name == made != copy_of(plain, 2).name


def test_a_pruned_copy_is_made_again_and_a_moved_log_directory_gives_its_code(plain: Project, mlxp: Mlxp) -> None:
    """Bug: `mlxp snapshots prune` keeps all for ever; a rerun, or a checkout elsewhere, asks the folder for git."""
    plain.run(*LOCAL, "seed=1")
    edit(plain, "B")
    copy = copy_of(plain, 1)
    age(copy)
    assert "removed: 1 copy" in mlxp("snapshots", "prune").stderr
    mlxp("rerun", "1", "--complete", "--wait")
    assert plain.said(1)["code"] == "A"
    assert copy.is_dir()
    moved = plain.logs.rename(plain.dir.parent / "moved logs")
    plain.dir.rename(plain.dir.parent / "gone")
    mlxp.project.dir = moved.parent
    folder = moved.parent / "then"
    mlxp("checkout", "1", str(folder), "--log-dir", str(moved))
    assert '"code": "A"' in (folder / "main.py").read_text()
    assert CodeDir(moved / ".mlxp" / "code").repository.is_dir()

"""The code of a run, recreated in process: from real repositories, or its copy. With programs: test_checkout.py."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from code_copies import files
from support import git

from mlxp_core.errors import SnapshotError, StoreError
from mlxp_core.runs.code_version import CodeVersion
from mlxp_core.runs.layout import RunDir
from mlxp_core.runs.state import RunState
from mlxp_core.versioning import checkout
from mlxp_core.versioning.checkout import checkout_run


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    top = tmp_path / "a repo"
    (top / "pkg").mkdir(parents=True)
    (top / "main.py").write_text("print(1)\n")
    (top / "pkg" / "lib.py").write_text("x = 1\n")
    (top / "run.sh").write_text("#!/bin/sh\n")
    (top / "run.sh").chmod(0o755)
    git("init", "--quiet", cwd=top)
    git("add", "--all", cwd=top)
    git("commit", "--quiet", "--message", "x", cwd=top)
    return top


def head(repo: Path) -> str:
    return git("rev-parse", "HEAD", cwd=repo)


def recorded(tmp_path: Path, version: dict[str, Any] | None = None, **info: Any) -> RunDir:
    """A run that has recorded this of its code."""
    run = RunDir(tmp_path / "logs" / "7")
    run.metadata.mkdir(parents=True, exist_ok=True)
    run.info.write_text(yaml.safe_dump({"status": "COMPLETE", "version_manager": version, **info}))
    return run


def of_commit(repo: Path, **more: Any) -> dict[str, Any]:
    return {"repo_path": str(repo), "commit_hash": head(repo), "snapshot": "commit", **more}


def copied(tmp_path: Path, commit: str) -> Path:
    """A copy as jobs have it: read-only, with byte code and links."""
    copy = tmp_path / "logs" / ".mlxp" / "code" / commit
    (copy / "pkg" / "__pycache__").mkdir(parents=True)
    (copy / "main.py").write_text("of the copy")
    (copy / "pkg" / "__pycache__" / "lib.pyc").touch()
    (copy / "pkg" / "run").touch()
    (tmp_path / "outside").touch()
    (tmp_path / "outside").chmod(0o444)
    (copy / "link").symlink_to(tmp_path / "outside")
    (copy / "nowhere").symlink_to("/nowhere/at all")
    for path, mode in ((copy / "main.py", 0o444), (copy / "pkg" / "run", 0o555), (copy / "pkg", 0o555), (copy, 0o555)):
        path.chmod(mode)
    return copy


def test_the_commit_is_written_and_all_that_is_known_of_it_comes_back(repo: Path, tmp_path: Path) -> None:
    """Bug: the work tree as it is now; a command that is forgotten; a folder that must be made first."""
    run = recorded(tmp_path, of_commit(repo), command=["python", "main.py", 3], work_dir=str(repo / "pkg"))
    expected = files(repo)
    commit = head(repo)
    (repo / "main.py").write_text("changed since")
    folder = tmp_path / "new" / "deep" / "code"
    assert checkout_run(run, folder) == checkout.Checkout(
        folder=folder,
        commit=commit,
        not_from_git="",
        lost_changes=(),
        directory=folder / "pkg",
        command="python main.py 3",
        elsewhere={},
    )
    assert json.loads((folder / ".mlxp-checkout.json").read_text())["version_manager"]["commit_hash"] == commit
    (folder / ".mlxp-checkout.json").unlink()
    assert files(folder) == expected
    assert os.listdir(folder.parent) == ["code"]


def test_an_empty_folder_is_taken_and_nothing_else_that_is_there(repo: Path, tmp_path: Path) -> None:
    """Bug: a file of the user's among those of the run; a link whose folder is written over."""
    run = recorded(tmp_path, of_commit(repo))
    empty, full, file, link = (tmp_path / name for name in ("empty", "full", "file", "link"))
    for folder in (empty, full):
        folder.mkdir()
    (full / "mine").touch()
    file.touch()
    link.symlink_to("empty")
    for taken in (full, file, link):
        with pytest.raises(StoreError, match=f"{taken} is there already, and not an empty folder"):
            checkout_run(run, taken)
    assert (os.listdir(full), os.listdir(empty)) == (["mine"], [])
    checkout_run(run, empty)
    assert (empty / "main.py").exists()
    (tmp_path / "dangling").symlink_to("nothing")
    with pytest.raises(StoreError, match="dangling is there already"):
        checkout_run(run, tmp_path / "dangling")


def test_a_run_without_a_version_says_why(tmp_path: Path) -> None:
    """Bug: "outside of a git repository" of a run whose info.yaml is torn; a traceback."""
    with pytest.raises(SnapshotError, match=r"run 7 has recorded no version of its code, as outside of a git repo"):
        checkout_run(recorded(tmp_path), tmp_path / "code")
    run = recorded(tmp_path)
    run.info.write_text("a: [\n")
    with pytest.raises(SnapshotError, match=r"no version of its code: info\.yaml cannot be read"):
        checkout_run(run, tmp_path / "code")
    assert sorted(os.listdir(tmp_path)) == ["logs"]


def test_changes_that_nobody_kept_are_named_and_the_commit_alone_is_given_when_asked_for(
    repo: Path, tmp_path: Path
) -> None:
    """Bug: the last commit is passed off as what ran."""
    commit = head(repo)
    run = recorded(tmp_path, of_commit(repo, snapshot="none", dirty=True, uncommitted=[" M main.py", "?? new"]))
    with pytest.raises(SnapshotError) as refused:
        checkout_run(run, tmp_path / "code")
    assert str(refused.value) == (
        f"run 7 ran commit {commit} with changes that were not kept, so its code cannot be recreated:\n"
        "   M main.py\n  ?? new\nWith --commit-only you get the commit without them."
    )
    assert not (tmp_path / "code").exists()
    given = checkout_run(run, tmp_path / "code", commit_only=True)
    assert given.lost_changes == (" M main.py", "?? new")
    assert (tmp_path / "code" / "main.py").exists()
    assert checkout_run(recorded(tmp_path, of_commit(repo)), tmp_path / "2", commit_only=True).lost_changes == ()


def test_what_git_has_lost_comes_from_the_copy_without_byte_code_and_can_be_changed(tmp_path: Path) -> None:
    """Bug: a read-only file, a link that became a file, a mode changed of a file outside; byte code of the jobs."""
    commit = "a" * 40
    copy = copied(tmp_path, commit)
    version = {"repo_path": str(tmp_path / "gone"), "commit_hash": commit, "snapshot": "commit", "copy": str(copy)}
    folder = tmp_path / "code"
    done = checkout_run(recorded(tmp_path, version), folder)
    assert "gone, where its repository was, is not there" in done.not_from_git
    found = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
    assert found == [".mlxp-checkout.json", "link", "main.py", "nowhere", "pkg", "pkg/run"]
    assert os.readlink(folder / "link") == str(tmp_path / "outside")
    modes = [path.lstat().st_mode & 0o777 for path in (folder, folder / "main.py", folder / "pkg", folder / "pkg/run")]
    assert modes == [0o755, 0o644, 0o755, 0o755]
    assert (tmp_path / "outside").stat().st_mode & 0o777 == 0o444


def test_what_neither_git_nor_a_copy_has_is_refused_with_what_to_do(tmp_path: Path) -> None:
    """Bug: FileNotFoundError of a copy that was pruned, or of one that there never was."""
    commit = "a" * 40
    version = {"repo_path": str(tmp_path / "gone"), "commit_hash": commit, "snapshot": "commit"}
    for more in ({}, {"copy": str(tmp_path / "pruned" / commit)}):
        with pytest.raises(SnapshotError, match=f"(?s)commit {commit} cannot be recreated: .*is not there.*--repo"):
            checkout_run(recorded(tmp_path, {**version, **more}), tmp_path / "code")
    assert os.listdir(tmp_path) == ["logs"]


def test_half_of_what_git_gave_is_not_mixed_with_the_copy(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: FileExistsError after a filter of git, such as LFS, has failed on one of the files."""

    def fail(_: object, commit: str, folder: Path) -> None:
        folder.mkdir()
        (folder / "half").touch()
        raise SnapshotError("smudge filter lfs failed")

    monkeypatch.setattr(checkout, "export_commit", fail)
    copy = copied(tmp_path, head(repo))
    done = checkout_run(recorded(tmp_path, of_commit(repo, copy=str(copy))), tmp_path / "code")
    assert done.not_from_git == "smudge filter lfs failed"
    assert sorted(os.listdir(tmp_path / "code")) == [".mlxp-checkout.json", "link", "main.py", "nowhere", "pkg"]


def test_a_repository_that_was_moved_is_named(repo: Path, tmp_path: Path) -> None:
    """Bug: only the path that was recorded counts."""
    run = recorded(tmp_path, of_commit(repo))
    repo.rename(tmp_path / "moved")
    checkout_run(run, tmp_path / "code", repository=tmp_path / "moved")
    (tmp_path / "code" / ".mlxp-checkout.json").unlink()
    assert files(tmp_path / "code") == files(tmp_path / "moved")


def test_an_error_leaves_nothing(repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: half of a checkout beside the folder that was named."""
    written: list[Path] = []

    def fail(_: object, commit: str, folder: Path) -> None:
        folder.mkdir()
        (folder / "half").touch()
        written.append(folder)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkout, "export_commit", fail)
    with pytest.raises(OSError, match="No space left"):
        checkout_run(recorded(tmp_path, of_commit(repo)), tmp_path / "code")
    assert sorted(os.listdir(tmp_path)) == ["a repo", "logs"]
    (aside,) = written
    assert aside.parent == tmp_path
    assert re.fullmatch(rf"\.code\.{os.getpid()}\.[0-9a-f]{{8}}", aside.name)  # hidden, and nobody else's


@pytest.mark.parametrize(
    ("work_dir", "directory"),
    [
        ("repo", ""),
        ("repo/pkg", "pkg"),
        ("repo/main.py", ""),
        ("repo/data", ""),  # which is in no commit
        ("repo/logs/code/C/pkg", "pkg"),  # the copy lies in the repository
        ("elsewhere/pkg", ""),
        (None, ""),
    ],
)
def test_it_is_started_where_it_was_if_that_is_part_of_it(tmp_path: Path, work_dir: str | None, directory: str) -> None:
    """Bug: `cd` into the copy, or into a folder that is not there."""
    made = tmp_path / "made"
    (made / "pkg").mkdir(parents=True)
    (made / "main.py").touch()
    version = CodeVersion(repo_path=tmp_path / "repo", copy=tmp_path / "repo/logs/code/C")
    info = {"work_dir": work_dir and str(tmp_path / work_dir)}
    assert checkout._directory(RunState(RunDir(tmp_path), info), version, made) == made / directory


JOB = ["hydra.mode=RUN", "hydra.run.dir=/x", "hydra.sweep.dir=/x", "hydra.sweep.subdir=1", "hydra.job.num=0"]
ALSO = ["hydra.job.id=7", "+hydra.job.id=7", "hydra.job.idle=7", "lr=hydra.run.dir=", "hydra.run=x"]


def test_the_command_is_the_runs_own_without_what_led_its_output_away(tmp_path: Path) -> None:
    """Bug: the new start writes into the run's folder; or an override of the user's is lost, as in a plain run."""
    made = tmp_path / "made"
    (made / "pkg").mkdir(parents=True)
    (made / "my main.py").touch()
    repo, copy = tmp_path / "repo", tmp_path / "repo" / "logs" / "C"
    words = [f"{repo}/.venv/bin/python", f"{copy}/my main.py", 3, f"{repo}/pkg", "pkg", f"{tmp_path}/repository"]
    state = RunState(RunDir(tmp_path), {"command": [*words, *JOB, *ALSO]})
    launched = CodeVersion(repo_path=repo, copy=copy)
    kept = "+hydra.job.id=7 hydra.job.idle=7 lr=hydra.run.dir= hydra.run=x"
    start = f"{repo}/.venv/bin/python '{made}/my main.py' 3 {made}/pkg pkg {tmp_path}/repository"
    assert checkout._command(state, launched, made) == f"{start} {kept}"
    in_place = CodeVersion(repo_path=repo)
    start = start.replace(f"{made}/my main.py", f"{copy}/my main.py")  # of which it knows nothing
    assert checkout._command(state, in_place, made) == " ".join([start, *JOB, "hydra.job.id=7", kept])
    for nothing in (None, "python main.py"):
        assert checkout._command(RunState(RunDir(tmp_path), {"command": nothing}), launched, made) == ""


def test_packages_come_from_the_new_folder(tmp_path: Path) -> None:
    """Bug: a package that is installed with `pip install -e` comes from the work tree, edited since."""
    made = tmp_path / "made"
    (made / "src").mkdir(parents=True)
    run = RunDir(tmp_path)
    run.script.write_text(f"export PYTHONPATH='{tmp_path}/C/src:/opt/a b:{tmp_path}/C/gone'\n")
    state = RunState(run, {"command": ["python", "a.py"]})
    version = CodeVersion(repo_path=tmp_path / "repo", copy=tmp_path / "C")
    assert checkout._command(state, version, made) == (
        f"PYTHONPATH='{made}/src:/opt/a b:{tmp_path}/C/gone' python a.py"
    )


@pytest.mark.parametrize(
    ("script", "entries"),
    [
        (None, []),
        ("export PATH=/x\n", []),
        ("export PYTHONPATH=/a:/b\n", ["/a", "/b"]),
        ("export PYTHONPATH='/a b:c'\necho\n", ["/a b", "c"]),
        ("export PYTHONPATH=/a\nexport PYTHONPATH=/b\n", ["/b"]),
        ('export PYTHONPATH=/a\nexport PYTHONPATH="$HOME/lib:$PYTHONPATH"\n', ["/a"]),  # set up by the user
        ("export PYTHONPATH=/a\nexport PYTHONPATH='/b\n", ["/a"]),  # of several lines
        ("  export PYTHONPATH=/a\n", []),
    ],
)
def test_the_path_of_packages_is_read_from_the_jobs_script(
    tmp_path: Path, script: str | None, entries: list[str]
) -> None:
    """Bug: a line of the user's set-up, whose variables nobody sets here, taken for the launcher's."""
    run = RunDir(tmp_path)
    if script is not None:
        run.script.write_text(script)
    assert checkout._python_path(run) == entries

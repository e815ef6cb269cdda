"""The code of a run, recreated: byte for byte, whole or absent. With real repositories, and runs of the local queue."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from code_copies import age, copy_of, files
from support import Mlxp, Project, git

from mlxp_core.versioning.export import remove_tree

WAIT = ("-m", "hydra/launcher=mlxp_local", "hydra.launcher.wait=true")


@pytest.mark.parametrize("state", ["copy there", "copy pruned", "git has lost it"])
@pytest.mark.parametrize("dirty", [False, True], ids=["commit", "work tree"])
def test_a_checkout_is_what_the_job_ran_to_the_byte(mlxp: Mlxp, hostile: Project, state: str, dirty: bool) -> None:
    """Bug: a mode, a link, an attribute, a submodule or a change that was not committed is lost; or is read-only."""
    if dirty:
        hostile.write(**{"new file.py": "new", "third party/lib.py": "changed"})
        (hostile.dir / "dos.bat").chmod(0o755)
    hostile.run(*WAIT, "seed=1")
    copy, ran = copy_of(hostile, 1), hostile.said(1)["tree"]
    assert ran["to nothing"] == ["link", "/nowhere/at all"]
    assert ran["to folder"] == ["link", "sub dir"]
    assert ran["run.sh"][1] is True
    assert ran["dos.bat"][1] is dirty
    assert ("new file.py" in ran) is dirty
    assert {"kept.txt", "third party/lib.py", "sub dir/ünï\tname"} < set(ran)
    before = git("status", "--porcelain", cwd=hostile.dir)
    if state == "copy pruned":
        age(copy)
        mlxp("snapshots", "prune")
        assert not copy.exists()
    if state == "git has lost it":
        shutil.rmtree(hostile.dir / ".git")
    done = mlxp("checkout", "1", str(hostile.dir.parent / "else where" / "code"))
    made = hostile.dir.parent / "else where" / "code"
    assert done.stdout == f"{made}\n"
    assert ("taken from the copy" in done.stderr) is (state == "git has lost it")
    assert files(made) == ran
    assert not list(made.rglob("__pycache__"))
    assert all(path.stat().st_mode & 0o200 for path in (made, *made.rglob("*")) if not path.is_symlink())
    assert os.listdir(made.parent) == ["code"]
    if state != "git has lost it":
        assert git("status", "--porcelain", cwd=hostile.dir) == before


def test_what_a_checkout_prints_runs_that_code(mlxp: Mlxp, project: Project, tmp_path: Path) -> None:
    """Bug: the command writes into the run's folder, or imports the package of the work tree, edited since."""
    main = (project.dir / "main.py").read_text().replace("import hydra\n", "import hydra\nimport mypackage\n", 1)
    main = main.replace('"code": "A"', '"code": mypackage.CODE').replace('config_path="conf"', 'config_path="../conf"')
    project.write(**{"app/main.py": main, "src/mypackage/__init__.py": "CODE = 'A'\n"})
    project.write(**{".gitignore": "logs/\n__pycache__/\n"})
    project.commit()
    project.command = [project.command[0], "app/main.py"]
    project.environment["PYTHONPATH"] = str(project.dir / "src")
    project.run(*WAIT, "seed=7", "hydra.job.chdir=false")
    project.write(**{"src/mypackage/__init__.py": "CODE = 'B'\n"})
    done = mlxp("checkout", "1")
    folder = project.dir / "code-of-run-1"
    lines = done.stderr.splitlines()
    assert lines[0] == f"commit {copy_of(project, 1).name}; run it with"
    assert lines[1] == f"  cd {shlex.quote(str(folder))}"
    before = project.info(1)
    again = subprocess.run(
        ["bash", "-e", "-c", "\n".join(lines[1:])],
        env=project.environment,
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert again.returncode == 0, again.stderr
    said = json.loads(again.stdout.splitlines()[-1])
    assert (said["code"], said["cwd"]) == ("A", str(folder))
    assert project.info(1) == before


def test_a_checkout_is_whole_or_absent_and_touches_no_folder_that_has_something(mlxp: Mlxp, project: Project) -> None:
    """Bug: files of the user's are mixed with the run's; a half folder after an error."""
    project.run(*WAIT, "seed=1")
    (project.dir / "full").mkdir()
    (project.dir / "full" / "mine").touch()
    (project.dir / "empty").mkdir()
    assert "is there already, and not an empty folder" in mlxp("checkout", "1", "full", code=1).stderr
    assert "is there already" in mlxp("checkout", "1", "main.py", code=1).stderr
    assert os.listdir(project.dir / "full") == ["mine"]
    mlxp("checkout", "1", "empty")
    assert (project.dir / "empty" / "main.py").exists()
    assert "there is no run 2" in mlxp("checkout", "2", code=1).stderr
    remove_tree(project.logs / ".mlxp")  # by hand, with what is kept for this
    shutil.rmtree(project.dir / ".git")
    done = mlxp("checkout", "1", "gone", code=1)
    assert "cannot be recreated" in done.stderr
    assert "--repo" in done.stderr
    assert not [name for name in os.listdir(project.dir) if "gone" in name]


@pytest.mark.parametrize("pruned", [False, True], ids=["copy there", "copy pruned"])
def test_the_code_is_there_when_its_repository_is_gone_and_the_log_directory_moved(
    mlxp: Mlxp, hostile: Project, tmp_path: Path, *, pruned: bool
) -> None:
    """Bug: whoever archives the log directory and removes the project has results without the code that made them."""
    hostile.write(**{"new file.py": "new", "third party/lib.py": "changed"})
    hostile.run(*WAIT, "seed=1")
    hostile.run(*WAIT, "seed=2")
    hostile.write(**{"new file.py": "newer"})
    hostile.run(*WAIT, "seed=3")
    ran = [hostile.said(run)["tree"] for run in (1, 3)]
    if pruned:
        age(copy_of(hostile, 1), copy_of(hostile, 3))
        mlxp("snapshots", "prune")
        assert not copy_of(hostile, 1).exists()
    hostile.logs.rename(tmp_path / "archive")
    shutil.rmtree(hostile.dir)
    hostile.dir.mkdir()
    for run, tree in zip((1, 3), ran, strict=True):
        done = mlxp("checkout", str(run), str(tmp_path / f"code {run}"), "--log-dir", str(tmp_path / "archive"))
        assert files(tmp_path / f"code {run}") == tree
        assert ("taken from the copy" in done.stderr) is not pruned


def test_a_repository_that_has_moved_is_named(mlxp: Mlxp, project: Project, tmp_path: Path) -> None:
    """Bug: only the path that was recorded counts; or the clone's HEAD is given."""
    project.run(*WAIT, "seed=1")
    age(copy_of(project, 1))
    mlxp("snapshots", "prune")
    git("clone", "--quiet", str(project.dir), str(tmp_path / "a clone"), cwd=tmp_path)
    shutil.rmtree(project.dir / ".git")
    (tmp_path / "a clone" / "main.py").write_text("B")
    mlxp("checkout", "1", "--repo", str(tmp_path / "a clone"))
    assert (project.dir / "code-of-run-1" / "main.py").read_bytes() == (project.dir / "main.py").read_bytes()


def test_the_code_of_a_plain_run_is_recreated_as_far_as_it_was_kept(mlxp: Mlxp, hostile: Project) -> None:
    """Bug: the last commit is passed off as what ran."""
    hostile.write(**{"new file.py": "new"})
    hostile.run("hydra/callbacks=mlxp")
    hostile.run("hydra/callbacks=mlxp", "hydra.callbacks.mlxp.snapshot=commit")
    hostile.run("hydra/callbacks=mlxp", "hydra.callbacks.mlxp.snapshot=none")
    mlxp("checkout", "1")
    made = hostile.dir / "code-of-run-1"
    assert (made / "new file.py").read_text() == "new"
    # the work tree has in it what was made since
    shutil.move(made, hostile.dir.parent / "made")
    shutil.rmtree(hostile.dir / "outputs", ignore_errors=True)
    assert files(hostile.dir.parent / "made") == files(hostile.dir)
    refused = mlxp("checkout", "2", code=1)
    assert f"ran commit {hostile.commit_hash()} with changes that were not kept" in refused.stderr
    assert "\n  ?? new file.py\n" in refused.stderr
    assert not (hostile.dir / "code-of-run-2").exists()
    allowed = mlxp("checkout", "2", "--commit-only")
    assert "?? new file.py" in allowed.stderr
    assert not (hostile.dir / "code-of-run-2" / "new file.py").exists()
    assert "has recorded no version" in mlxp("checkout", "3", code=1).stderr

"""All that running does, in a row, in a repository without .gitignore: `git status` stays as it was."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from code_copies import copy_of
from support import Mlxp, Project, git

WAIT = ("-m", "hydra/launcher=mlxp_local", "hydra.launcher.wait=true")
SKIP = (*WAIT, "hydra/sweeper=mlxp", "hydra.sweeper.skip=COMPLETE")


def shown(project: Project) -> str:
    return git("status", "--porcelain", "--untracked-files=all", cwd=project.dir)


@pytest.fixture
def counted(project: Project, tmp_path: Path) -> Path:
    """A file with a line for each `git status` of the project's programs."""
    file, real = tmp_path / "statuses", shutil.which("git")
    (tmp_path / "bin").mkdir()
    wrapper = tmp_path / "bin" / "git"
    wrapper.write_text(f'#!/bin/sh\ncase " $* " in *" status "*) echo "$*" >> "{file}" ;; esac\nexec {real} "$@"\n')
    wrapper.chmod(0o755)
    project.environment["PATH"] = f"{tmp_path / 'bin'}:{project.environment['PATH']}"
    file.touch()
    return file


def test_nothing_that_running_leaves_is_seen_by_git(no_gitignore: Project, mlxp: Mlxp, counted: Path) -> None:
    """Bug: a launch makes the tree dirty; the next asks, computes all again, and copies what the last has left."""
    project, tracked = (
        no_gitignore,
        ["conf/config.yaml", "conf/optimizer/adam.yaml", "conf/optimizer/sgd.yaml", "main.py"],
    )
    scratch = project.dir.parent / "scratch"
    scratch.mkdir()
    (project.dir / "linked").symlink_to(scratch)
    project.commit("a link")
    head = project.commit_hash()
    project.run(*SKIP, "seed=1,2")
    assert len(counted.read_text().splitlines()) == 1
    project.run("hydra/callbacks=mlxp", "seed=3")
    project.run("hydra/callbacks=mlxp", "hydra.run.dir=outputs/a/b", "seed=3")
    project.run(
        "-m", "hydra/callbacks=mlxp", "hydra.sweep.dir=multirun/a", "hydra.sweep.subdir=${hydra.job.num}", "seed=3"
    )
    for folder in ("results/may", "linked/logs", "."):
        project.run(*WAIT, f"hydra.launcher.log_dir={folder}", "seed=3")
    project.run(*WAIT, "hydra.launcher.code_dir=copies", "seed=4")
    mlxp("checkout", "1")
    mlxp("checkout", "2", "old/code [2]")
    (project.dir / "multirun.yaml").unlink()  # Hydra's, in the user's own folder
    assert shown(project) == ""
    done = project.run(*SKIP, "seed=1,2,5")
    assert "1 of 3 jobs new" in done.stdout
    assert shown(project) == ""
    versions = [project.info(run)["version_manager"] for run in project.runs()]
    assert {(version["commit_hash"], version["dirty"]) for version in versions} == {(head, False)}
    copies = {copy_of(project, 1), *(path.parent for path in project.dir.parent.rglob(f"{head}/main.py"))}
    assert len(copies) == 5
    for copy in copies:
        files = [str(path.relative_to(copy)) for path in copy.rglob("*") if path.is_file() and path.suffix != ".pyc"]
        assert sorted(files) == tracked


def test_what_hydra_alone_or_an_earlier_version_has_left_is_no_change(no_gitignore: Project) -> None:
    """Bug: a `skip` that promised "2 of 8 new" computes all 8 again, for a plain run of Hydra's in between."""
    project = no_gitignore
    main = (project.dir / "main.py").read_text()
    project.write(
        **{"plain.py": main.replace("from mlxp_core import current_run", "").split("    run = ")[0] + "    pass\n"}
    )
    plain = (project.dir / "plain.py").read_text() + "\n\nmain()\n"
    project.write(**{"plain.py": plain})
    head = project.commit("a plain program")
    project.run(*SKIP, "seed=1,2")
    project.command[1] = "plain.py"
    project.run()
    project.run("-m", "seed=1,2")
    project.command[1] = "main.py"
    (project.logs / ".gitignore").unlink()
    shutil.copytree(project.logs, project.dir / "old logs", symlinks=True)
    done = project.run(*SKIP, "seed=1,2,3")
    assert "1 of 3 jobs new" in done.stdout
    assert project.info(3)["version_manager"]["commit_hash"] == head
    assert git("status", "--porcelain", cwd=project.dir) == '?? multirun/\n?? "old logs/"\n?? outputs/'


def test_a_commit_has_what_was_listed_and_the_launch_says_what(no_gitignore: Project) -> None:
    """Bug: on_changes=commit commits the log directory, its artifacts and copies of the code to the user's branch."""
    for option, value in (("user.name", "Me"), ("user.email", "me@example.org")):
        git("config", option, value, cwd=no_gitignore.dir)
    no_gitignore.run(*WAIT, "seed=1")
    (no_gitignore.logs / ".gitignore").unlink()  # as by an earlier version
    no_gitignore.write(
        **{"new.py": "", "conf/config.yaml": (no_gitignore.dir / "conf/config.yaml").read_text() + "x: 1\n"}
    )
    options = ("hydra.launcher.on_changes=commit", "hydra.launcher.commit_message=more")
    done = no_gitignore.run(*WAIT, *options, "seed=1")
    head = no_gitignore.commit_hash()
    assert f"as {head[:10]}, which the jobs run:\n  M conf/config.yaml\n  A new.py\n" in done.stdout
    assert git("show", "--format=%s", "--name-status", cwd=no_gitignore.dir) == "more\n\nM\tconf/config.yaml\nA\tnew.py"
    assert shown(no_gitignore) == ""

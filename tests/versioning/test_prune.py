"""The copies of the code: listed, pruned and made again. With real repositories, and runs of the local queue."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from code_copies import age, copy_of, edit
from machines import User
from support import PATIENCE, Mlxp, Project, git, read_yaml, until

from mlxp_core.runs.code_version import SnapshotMode
from mlxp_core.runs.layout import CodeDir, LogDir, RunDir
from mlxp_core.runs.state import RunState
from mlxp_core.versioning.copies import all_runs
from mlxp_core.versioning.prune import prune
from mlxp_core.versioning.snapshot import SnapshotOptions, freeze_code

LOCAL = ("-m", "hydra/launcher=mlxp_local")
WAIT = (*LOCAL, "hydra.launcher.wait=true")


def listed(mlxp: Mlxp) -> dict[str, dict[str, Any]]:
    """What `mlxp snapshots` says, by version."""
    rows = map(json.loads, mlxp("snapshots", "--json").stdout.splitlines())
    return {row["version"]: row for row in rows}


def test_versions_are_listed_with_their_size_and_runs(mlxp: Mlxp, project: Project, tmp_path: Path) -> None:
    """Bug: sizes of files and not of disk blocks; runs of a copy elsewhere forgotten; a cut hash when piped."""
    project.run(*WAIT, "seed=1,2")
    edit(project, "B")
    flag = tmp_path / "flag"
    project.run(*LOCAL, "seed=1,2,3", "do=hold", f"flag='{flag}'", "hydra.launcher.max_parallel=1")
    until(lambda: project.status(3) == "RUNNING")
    project.commit("B")
    project.run(*WAIT, "seed=1", f"hydra.launcher.code_dir='{tmp_path}/my code'")
    first, second, third = (copy_of(project, run) for run in (1, 3, 6))
    assert third.parent == tmp_path / "my code"
    rows = listed(mlxp)
    assert [row["runs"] for row in rows.values()] == [["1", "2"], ["3", "4", "5"], ["6"]]
    assert [row["needed_by"] for row in rows.values()] == [[], ["3", "4", "5"], []]
    assert [row["snapshot"] for row in rows.values()] == ["commit", "worktree", "commit"]
    assert [row["path"] for row in rows.values()] == [str(first), str(second), str(third)]
    assert [row["problem"] for row in rows.values()] == [""] * 3
    for row in rows.values():
        command = ["du", "--summarize", "--block-size=1", row["path"]]
        assert row["size"] == int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0])
    plain = mlxp("snapshots")
    lines = [line.split("\t") for line in plain.stdout.splitlines()]
    assert lines[0] == ["version", "snapshot", "made", "size", "runs", "needed_by", "problem", "path"]
    assert [[line[0], *line[4:7]] for line in lines[1:]] == [
        [first.name, "1-2", "", ""],
        [second.name, "3-5", "3-5", ""],
        [third.name, "6", "", ""],
    ]
    assert plain.stderr.startswith("3 copies, ")
    code, shown = mlxp.in_terminal("snapshots", columns=120)
    assert code == 0
    assert [line.split()[0] for line in shown.splitlines() if " yes" in line] == [
        path.name[:10] for path in (first, second, third)
    ]
    flag.touch()
    project.wait_for_end(3, 4, 5)


def test_pruning_keeps_what_pending_and_running_runs_need_and_what_a_launch_has_just_chosen(
    mlxp: Mlxp, project: Project, tmp_path: Path
) -> None:
    """Bug: a job that waits finds no code; a launch finds the copy, and it is gone when its job starts."""
    project.run(*WAIT, "seed=1")
    edit(project, "B")
    flag = tmp_path / "flag"
    project.run(*LOCAL, "seed=1,2", "do=hold", f"flag='{flag}'", "hydra.launcher.max_parallel=1")
    until(lambda: project.status(2) == "RUNNING")
    project.commit("B")
    project.run(*WAIT, "seed=1")
    ended, needed, young = (copy_of(project, run) for run in (1, 2, 4))
    age(ended, needed)
    dry = mlxp("snapshots", "prune", "--dry-run")
    assert f"would be removed: {ended.name[:10]}" in dry.stdout
    assert ended.is_dir()
    done = mlxp("snapshots", "prune")
    assert f"removed: {ended.name[:10]}" in done.stdout
    assert any(
        line.startswith(f"kept: {needed.name[:10]}") and line.endswith("run 2-3 needs it")
        for line in done.stdout.splitlines()
    )
    assert any(
        line.startswith(f"kept: {young.name[:10]}") and "within the last hour" in line
        for line in done.stdout.splitlines()
    )
    assert [path.is_dir() for path in (ended, needed, young)] == [False, True, True]
    assert not list(ended.parent.glob(f"*{ended.name}*"))
    flag.touch()
    project.wait_for_end(2, 3)
    assert [project.said(run)["code"] for run in (2, 3)] == ["B", "B"]
    age(needed, young)
    mlxp("snapshots", "prune")
    assert list(ended.parent.iterdir()) == [CodeDir(ended.parent).repository]
    # what the versions are made from stays
    assert git("for-each-ref", "--format=%(refname)", "refs/mlxp", cwd=project.dir) == f"refs/mlxp/{needed.name}"


def test_a_launch_that_chooses_a_copy_again_keeps_it_from_being_pruned(mlxp: Mlxp, project: Project) -> None:
    """Bug: an old copy counts as unused although the launch that reuses it has only just begun."""
    project.run(*WAIT, "seed=1")
    age(copy_of(project, 1))
    project.run(*WAIT, "seed=1")
    assert "within the last hour" in mlxp("snapshots", "prune").stdout
    assert copy_of(project, 1).is_dir()


def test_a_run_that_says_running_and_was_killed_needs_no_code(mlxp: Mlxp, project: Project, tmp_path: Path) -> None:
    """Bug: prune believes info.yaml, and what was killed keeps its copy for ever."""
    project.run(*LOCAL, "do=wait", "seed=1", f"flag='{tmp_path}/flag'")
    until((tmp_path / "flag").exists)
    os.kill(project.info(1)["process_id"], signal.SIGKILL)
    project.wait_for_end(1)
    assert project.status(1) == "RUNNING"
    age(copy_of(project, 1))
    mlxp("snapshots", "prune")
    assert not copy_of(project, 1).exists()


# nothing and nobody knows this script
UNCLEAR = {"script": "/nowhere/job.sh", "name": "nobody knows"}


@pytest.mark.parametrize(
    "known",
    [
        {"info": {"status": "PREEMPTED"}, "submission": {"state": "RUNNING", "hostname": "elsewhere"}},
        {"info": {"status": "RUNNING"}, "submission": {"state": "RUNNING", "hostname": "elsewhere"}},
        {"info": {"status": "CANCELLED"}, "submission": {**UNCLEAR, "job_id": None, "state": None}},
        {"info": {"status": "FAILED"}, "submission": {"state": "FAILED", "stuck": True}},
    ],
    ids=["gave way, and may start again", "last known", "unclear", "held in an error state"],
)
def test_a_run_of_which_it_is_not_sure_that_it_has_ended_keeps_its_code(
    mlxp: Mlxp, project: Project, known: dict[str, dict[str, Any]]
) -> None:
    """Bug: a requeued job starts, and cd fails."""
    project.run(*WAIT, "seed=1")
    metadata = project.logs / "1" / "metadata"
    (metadata / "exit_code").unlink()
    for name, change in known.items():
        changed = {**read_yaml(metadata / f"{name}.yaml"), **change}
        (metadata / f"{name}.yaml").write_text(yaml.safe_dump(changed))
    age(copy_of(project, 1))
    assert "run 1 needs it" in mlxp("snapshots", "prune").stdout
    assert copy_of(project, 1).is_dir()


def lose_repository(project: Project, commit: str) -> str:
    (project.dir / ".git").rename(project.dir / "elsewhere")
    return "is in no git repository"


def lose_ref(project: Project, commit: str) -> str:
    git("update-ref", "-d", f"refs/mlxp/{commit}", cwd=project.dir)
    return "no branch, tag or other ref"


def lose_commit(project: Project, commit: str) -> str:
    lose_ref(project, commit)
    git("gc", "--quiet", "--prune=now", cwd=project.dir)
    return "does not have commit"


def lose_file(project: Project, commit: str) -> str:
    oid = git("rev-parse", f"{commit}:new.py", cwd=project.dir)
    (project.dir / ".git" / "objects" / oid[:2] / oid[2:]).unlink()
    return "has lost files of commit"


def lose_folder(project: Project, commit: str) -> str:
    oid = git("rev-parse", f"{commit}:conf", cwd=project.dir)
    (project.dir / ".git" / "objects" / oid[:2] / oid[2:]).unlink()
    return "has lost"


def lose_submodule(project: Project, commit: str) -> str:
    shutil.rmtree(project.dir / "third party")
    return "the submodule third party"


def lose_submodules_ref(project: Project, commit: str) -> str:
    there = git("rev-parse", f"{commit}:third party", cwd=project.dir)
    git("update-ref", "-d", f"refs/mlxp/{there}", cwd=project.dir / "third party")
    return "no branch, tag or other ref"


@pytest.mark.parametrize(
    "lose", [lose_repository, lose_ref, lose_commit, lose_file, lose_folder, lose_submodule, lose_submodules_ref]
)
def test_what_git_cannot_give_again_is_kept_and_the_reason_is_said(mlxp: Mlxp, hostile: Project, lose: Any) -> None:
    """Bug: the only copy of what a run has run is removed."""
    hostile.write(**{"new.py": "new", "conf/new.yaml": "x: 1\n", "third party/new.py": "new"})
    hostile.run(*WAIT, "seed=1")
    copy = copy_of(hostile, 1)
    assert listed(mlxp)[copy.name]["problem"] == ""
    why = lose(hostile, copy.name)
    age(copy)
    assert why in listed(mlxp)[copy.name]["problem"]
    assert why in mlxp("snapshots", "prune").stdout
    assert (copy / "third party" / "new.py").read_text() == "new"


def test_what_a_filter_makes_otherwise_now_is_kept(mlxp: Mlxp, project: Project) -> None:
    """Bug: files of LFS come back as pointers, because git has the pointers and nobody the files."""
    git("config", "filter.x.clean", "sed s/secret/pointer/", cwd=project.dir)
    git("config", "filter.x.smudge", "sed s/pointer/secret/", cwd=project.dir)
    project.write(**{"big.bin": "secret", ".gitattributes": "big.bin filter=x\n"})
    project.commit()
    project.run(*WAIT, "seed=1")
    copy = copy_of(project, 1)
    assert (copy / "big.bin").read_text() == "secret"
    assert listed(mlxp)[copy.name]["problem"] == ""
    git("config", "filter.x.smudge", "cat", cwd=project.dir)
    age(copy)
    assert "a filter of git, such as LFS, makes something else of big.bin now" in mlxp("snapshots", "prune").stdout
    mlxp("checkout", "1")
    assert (project.dir / "code-of-run-1" / "big.bin").read_text() == "secret"


def test_a_prune_that_is_killed_leaves_nothing_that_a_launch_takes_for_whole(mlxp: Mlxp, project: Project) -> None:
    """Bug: files are removed in place; the next launch finds the folder, and its jobs half of their code."""
    project.write(**{f"many/{number % 40}/{number}.txt": str(number) for number in range(4000)})
    project.commit()
    project.run(*WAIT, "seed=1")
    copy = copy_of(project, 1)
    for most in (3900, 1000):
        age(copy)
        before = set(copy.parent.glob(f".{copy.name}.pruned.*"))  # what the kill before has left is removed, too
        process = mlxp.start("snapshots", "prune")
        while process.poll() is None:
            aside = [path for path in copy.parent.glob(f".{copy.name}.pruned.*") if path not in before]
            if aside and sum(len(names) for _, _, names in os.walk(aside[0])) <= most:
                process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert not copy.exists()
        assert list(copy.parent.glob(f".{copy.name}.pruned.*"))
        project.run(*WAIT, "seed=1")
        assert len(list((copy / "many").glob("*/*"))) == 4000
    done = mlxp("snapshots", "prune")
    assert done.stdout.count("left by what was killed") >= 1
    assert sorted(os.listdir(copy.parent)) == [copy.name, f"{copy.name}.json", f"{copy.name}.work", "repository.git"]


def test_prunes_that_race_remove_each_copy_once(mlxp: Mlxp, project: Project) -> None:
    """Bug: FileNotFoundError; or both say that they have freed it."""
    project.run(*WAIT, "seed=1")
    edit(project, "B")
    project.run(*WAIT, "seed=1")
    age(*(copy_of(project, run) for run in (1, 2)))
    racers = [mlxp.start("snapshots", "prune") for _ in range(4)]
    answers = [racer.communicate(timeout=PATIENCE) for racer in racers]
    assert [racer.returncode for racer in racers] == [0] * 4, answers
    assert sum(out.count("removed: ") for out, _ in answers) == 2
    assert os.listdir(project.logs / ".mlxp" / "code") == ["repository.git"]


def test_what_killed_launches_left_goes_and_nothing_else(mlxp: Mlxp, project: Project, tmp_path: Path) -> None:
    """Bug: half copies stay for ever; or files of somebody else's go; or a link is followed out of a copy."""
    project.run(*WAIT, "seed=1")
    copy = copy_of(project, 1)
    code, name = copy.parent, copy.name
    outside = tmp_path / "outside"
    (outside / "deep").mkdir(parents=True)
    (outside / "deep" / "data").write_text("data")
    dead = subprocess.Popen(["true"])
    dead.wait()
    half = code / f".{name}.{dead.pid}.deadbeef"
    (half / "sub").mkdir(parents=True)
    (half / "sub" / "link").symlink_to(outside)
    (half / "sub").chmod(0o555)
    gone = [half, code / f".{name}.{dead.pid}.deadbeef.index", code / f".{name}.1.deadbeef", code / f"{'a' * 40}.diff"]
    gone += [code / f".{name}.{dead.pid}.deadbeef.work", code / f"{'a' * 40}.work"]
    kept = [code / f".{name}.{os.getpid()}.deadbeef.index", code / f".{name}.{dead.pid}.0000beef", code / "notes.txt"]
    for path in (*gone[1:], *kept):
        path.touch()
    (code / ("b" * 40)).symlink_to(outside)
    kept.append(code / ("b" * 40))
    age(*gone, kept[0], kept[2], kept[3])
    age(gone[2], hours=25)  # of a process that lives: its number was given again
    done = mlxp("snapshots", "prune")
    assert [os.path.lexists(path) for path in gone] == [False] * 6, done.stdout
    assert [os.path.lexists(path) for path in kept] == [True] * 4, done.stdout
    assert copy.is_dir()
    assert (outside / "deep" / "data").read_text() == "data"
    assert oct(outside.stat().st_mode)[-3:] == "755"


def prune_own(top: Path) -> tuple[list[str], str, list[str], list[str], list[str]]:
    """Freeze the code for a run that has ended, and prune: what was removed of which version, and what was kept."""
    logs = LogDir(top / "logs")
    code = freeze_code(top / "main.py", logs, SnapshotOptions(SnapshotMode.COMMIT))
    assert code is not None
    run = RunDir(logs.path / "1")
    run.metadata.mkdir(parents=True)
    run.info.write_text(yaml.safe_dump({"status": "COMPLETE", "attempt": 1, **code.recorded.as_info}))
    age(code.copy)
    done = prune(logs, [RunState.load(run) for run in all_runs(logs)])
    removed = [copy.commit for copy in done.removed]
    kept = [why for _, why in done.kept.values()]
    return removed, code.copy.name, sorted(os.listdir(logs.code)), kept, list(done.failed.values())


def test_a_user_removes_the_users_own_read_only_copies_and_is_told_of_those_of_others(another_user: User) -> None:
    """Bug: PermissionError, or a half removed copy. Root may do everything, so this is nobody."""
    top = another_user.home / "re po"
    (top / "pkg").mkdir(parents=True)
    (top / "main.py").write_text("")
    (top / "pkg" / "lib.py").write_text("")
    git("init", "--quiet", cwd=top)
    git("add", "--all", cwd=top)
    git("commit", "--quiet", "--message", "x", cwd=top)
    other = "c" * 40
    theirs = top / "logs" / ".mlxp" / "code" / other
    theirs.mkdir(parents=True)
    another_user.owns(top)
    (theirs / "main.py").touch()
    os.chown(theirs, 0, 0)
    rest = theirs.with_name(f".{other}.pruned.1.deadbeef")
    (rest / "full").mkdir(parents=True)
    (rest / "full" / "x").touch()
    removed, own, left, kept, failed = another_user.call(prune_own, top, imports=["git"])
    assert removed == [own]
    assert left == sorted([rest.name, other, "repository.git"])  # which keeps what the copy was made of
    assert any("it belongs to user 0, who alone can remove it" in why for why in (*kept, *failed))
    assert (theirs / "main.py").exists()
    assert (rest / "full" / "x").exists()


# what an editable install with a package_dir leaves in an environment: see python_path.py
FINDER = """\
import sys
from importlib.util import spec_from_file_location

MAPPING = {{"mypackage": {folder!r}}}


class Finder:
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name in MAPPING:
            return spec_from_file_location(name, MAPPING[name] + "/__init__.py", submodule_search_locations=[])


sys.meta_path.append(Finder)
"""


def test_a_rerun_makes_the_pruned_code_again_and_its_links_lead_there(mlxp: Mlxp, project: Project) -> None:
    """Bug: `its code is not there any more`; or it is, and the package comes from the work tree."""
    main = (project.dir / "main.py").read_text()
    main = main.replace("import hydra\n", "import hydra\nimport finder\nimport mypackage\n", 1)
    project.write(**{"main.py": main.replace('"code": "A"', '"code": mypackage.CODE')})
    project.write(**{"lib/code/__init__.py": "CODE = 'A'\n", ".gitignore": "logs/\n__pycache__/\n"})
    project.write(**{"finder.py": FINDER.format(folder=str(project.dir / "lib" / "code"))})
    project.commit()
    project.run(*LOCAL, "do=exit3,null")
    project.wait_for_end(1, 2)
    copy = copy_of(project, 1)
    links = copy.with_name(f"{copy.name}.path")
    assert os.listdir(links) == ["mypackage"]
    project.write(**{"lib/code/__init__.py": "CODE = 'B'\n"})
    age(copy, links)
    mlxp("snapshots", "prune")
    assert sorted(os.listdir(copy.parent)) == [links.name, "repository.git"]
    assert mlxp("rerun", "1", "--dry-run").stdout == "would be submitted: 1\n"
    assert not copy.exists()
    mlxp("rerun", "1", "--wait", code=1)
    assert project.said(1)["code"] == "A"
    assert project.said(1)["file"] == str(copy / "main.py")
    assert project.info(1)["attempt"] == 2
    shutil.rmtree(links)
    for more in ([], ["--dry-run"]):
        refused = mlxp("rerun", "1", *more, code=1)
        assert f"the links to its packages are not there any more, and only a launch can make them: {links}" in (
            refused.stderr.replace("make them again", "make them")
        )


def test_a_rerun_of_code_that_cannot_be_made_again_says_why(mlxp: Mlxp, project: Project) -> None:
    """Bug: a job is submitted whose first line fails; or no reason."""
    project.run(*LOCAL, "do=exit3", f"hydra.launcher.code_dir='{project.dir.parent}/my code'")
    project.wait_for_end(1)
    copy = copy_of(project, 1)
    age(copy)
    mlxp("snapshots", "prune", "--elsewhere")
    mlxp("rerun", "1", "--wait", code=1)
    assert (copy / "main.py").exists()
    age(copy)
    mlxp("snapshots", "prune", "--elsewhere")
    shutil.rmtree(project.dir / ".git")
    shutil.rmtree(CodeDir(copy.parent).repository)  # by hand: it would be made of that
    refused = mlxp("rerun", "1", code=1)
    assert f"its code is not there any more, and cannot be made again: {copy}: {project.dir} is in no git" in (
        refused.stderr
    )
    assert project.info(1)["attempt"] == 2

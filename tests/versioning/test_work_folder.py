"""What the working folders of jobs are made of: folders of their own, and what the copy has."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from scripts import job

from mlxp_core.jobs.run_script import RunScriptSpec, render_job
from mlxp_core.jobs.template import Template
from mlxp_core.scheduler import load_scheduler
from mlxp_core.versioning import work_folder
from mlxp_core.versioning.export import _make_read_only
from mlxp_core.versioning.work_folder import WorkFolderTemplate, empty_folders, publish_template

COMMIT = "c" * 40
CAPTURED: dict[str, Any] = {"capture_output": True, "text": True, "stdin": subprocess.DEVNULL}


def write(top: Path, **files: str) -> None:
    for name, text in files.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the code, as jobs have it."""
    top = tmp_path / "lo gs" / ".mlxp" / "code" / COMMIT
    names = {"main.py": "A", "table.csv": "a\n", "results/.gitkeep": "", "sub dir/deep/x.yaml": "x: 1", "run.sh": "#!"}
    write(top, **names, **{"pkg/__init__.py": "", "pkg/__pycache__/x.pyc": "", "data/train.csv": "1,2"})
    (top / "run.sh").chmod(0o755)
    (top / "latest").symlink_to("results")
    (top / "away").symlink_to("/etc/hostname")
    _make_read_only(top)
    return top


def spec(tmp_path: Path, copy: Path, *command: str, part: str = ".", empty: tuple[str, ...] = ()) -> RunScriptSpec:
    """A job with a working folder, as the launcher makes it."""
    one = job(tmp_path / "lo gs" / "1", *command)
    template = WorkFolderTemplate(copy, publish_template(copy, Path(part)), empty)
    return RunScriptSpec(one.run, one.name, one.command, str(one.run.work / part), one.environment, template)


def run(one: RunScriptSpec, shell: str = "bash", code: int = 0) -> str:
    """Run its script; give what it printed."""
    one.run.script.write_text(render_job(one, Template(shebang=f"#!/bin/{shell}"), load_scheduler("local")))
    done = subprocess.run([shell, one.run.script], check=False, **CAPTURED)
    assert (done.returncode, done.stderr) == (code, "")
    return done.stdout


def tree(top: Path) -> dict[str, str]:
    """Each file of a folder with its text; a link with where it leads."""
    return {
        str(path.relative_to(top)): f"-> {os.readlink(path)}" if path.is_symlink() else path.read_text()
        for path in sorted(top.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def test_a_template_has_folders_links_to_python_files_and_copies_of_others(copy: Path) -> None:
    """Bug: a folder that is a link, through which a job writes into what all jobs share; byte code copied about."""
    template = publish_template(copy)
    assert template == copy.parent / f"{COMMIT}.work" / "top"
    assert tree(template) == {
        "main.py": "-> .mlxp-code/main.py",
        "pkg/__init__.py": "-> ../.mlxp-code/pkg/__init__.py",
        "table.csv": "a\n",
        "results/.gitkeep": "",
        "sub dir/deep/x.yaml": "x: 1",
        "run.sh": "#!",
        "data/train.csv": "1,2",
        "latest": "-> results",
        "away": "-> .mlxp-code/away",
    }
    assert [path.name for path in template.rglob("*") if path.is_dir() and path.is_symlink()] == ["latest"]
    modes = {name: (template / name).stat().st_mode & 0o777 for name in ("run.sh", "table.csv")}
    assert modes == {"run.sh": 0o755, "table.csv": 0o644}  # which a job may change
    assert publish_template(copy) == template
    assert sorted(os.listdir(copy.parent)) == [COMMIT, f"{COMMIT}.work"]


def test_large_folders_and_files_stay_links_but_not_where_jobs_start(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: two thousand jobs that make a link for each file of a dataset; a job that starts in the shared copy."""
    monkeypatch.setattr(work_folder, "_MOST_ENTRIES", 20)
    monkeypatch.setattr(work_folder, "_MOST_COPIED", 10)
    write(copy, **{f"images/{number}": "" for number in range(15)}, **{"data/large.csv": "x" * 11})
    write(copy, **{f"apps/one/{number}": "" for number in range(30)})
    top = tree(publish_template(copy))
    assert (top["images"], top["data/large.csv"]) == ("-> .mlxp-code/images", "-> ../.mlxp-code/data/large.csv")
    assert top["apps/one"] == "-> ../.mlxp-code/apps/one"
    assert {"results/.gitkeep", "sub dir/deep/x.yaml"} <= top.keys()
    inside = publish_template(copy, Path("apps/one"))
    assert inside != publish_template(copy)
    assert (inside / "apps" / "one" / "29").is_file()
    assert not (inside / "apps" / "one").is_symlink()


def test_empty_folders_of_the_work_tree_are_there_and_none_that_holds_data(copy: Path, tmp_path: Path) -> None:
    """Bug: open("figs/a.png", "w") fails, for git keeps no empty folder; a folder of data looks as if it were empty."""
    repo = tmp_path / "repo"
    for name in ("figs", "results/plots", "sub dir/deep/er", ".venv", "data", "unknown/deep"):
        (repo / name).mkdir(parents=True)
    write(repo, **{"ignored/train.csv": "1"})
    assert empty_folders(repo, publish_template(copy)) == ("figs", "results/plots", "sub dir/deep/er")


@pytest.mark.parametrize("shell", ["bash", "dash"])
def test_a_job_reads_what_the_code_has_and_keeps_what_it_has_written(tmp_path: Path, copy: Path, shell: str) -> None:
    """Bug: what a job writes ends in the copy that all share, or is lost; what it has not touched stays in each run."""
    before = tree(copy)
    lines = (
        "cat main.py table.csv; ls figs; echo row >>table.csv; echo r >results/r.txt; echo l >latest/l.txt; "
        "mkdir -p a/b; echo new >'a/b/new file'; echo f >figs/f; rm data/train.csv; : >main2.py; "
        "ln -s f figs/last; rm run.sh"
    )
    one = spec(tmp_path, copy, "sh", "-c", lines, empty=("figs", "plots"))
    assert run(one, shell) == "Aa\n"
    assert tree(copy) == before
    assert tree(one.run.work) == {
        "table.csv": "a\nrow\n",
        "results/r.txt": "r\n",
        "results/l.txt": "l\n",
        "a/b/new file": "new\n",
        "figs/f": "f\n",
        "figs/last": "-> f",
        "main2.py": "",
    }
    assert sorted(os.listdir(one.run.work)) == ["a", "figs", "main2.py", "results", "table.csv"]


def test_the_next_attempt_finds_what_the_one_before_has_written(tmp_path: Path, copy: Path) -> None:
    """Bug: a checkpoint that a program keeps beside itself is gone, or a file of the code is put over it."""
    lines = "cat state table.csv 2>/dev/null; cat data/train.csv; echo row >>table.csv; echo one >state; exit 3"
    one = spec(tmp_path, copy, "sh", "-c", lines)
    assert run(one, code=3) == "a\n1,2"
    assert run(one, code=3) == "one\na\nrow\n1,2"
    assert tree(one.run.work) == {"state": "one\n", "table.csv": "a\nrow\nrow\n"}


def test_a_job_that_writes_nothing_leaves_no_folder_and_starts_in_its_part(tmp_path: Path, copy: Path) -> None:
    """Bug: an empty tree in each of a thousand runs; a launch from a folder of the repository starts at its top."""
    one = spec(tmp_path, copy, "sh", "-c", "cat x.yaml ../../table.csv; pwd", part="sub dir/deep")
    assert run(one) == f"x: 1a\n{one.run.work}/sub dir/deep\n"
    assert not one.run.work.exists()


def test_a_working_folder_that_cannot_be_made_ends_the_job_with_the_reason(tmp_path: Path, copy: Path) -> None:
    """Bug: the job runs in whatever directory its shell was in."""
    one = spec(tmp_path, copy, "touch", str(tmp_path / "ran"))
    one.run.work.write_text("in the way")
    one.run.script.write_text(render_job(one, Template(), load_scheduler("local")))
    done = subprocess.run(["bash", one.run.script], check=False, **CAPTURED)
    assert done.returncode == 1
    assert str(one.run.work) in done.stderr
    assert not (tmp_path / "ran").exists()

"""Where jobs start, what they find there, and what becomes of what they write: in programs as users write them."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from code_copies import age, copy_of, edit, files
from support import Mlxp, Project, git

from hydra_plugins.mlxp import _start_dir
from hydra_plugins.mlxp._context import JobCode
from hydra_plugins.mlxp.config import LauncherConf
from mlxp_core.errors import ConfigurationError
from mlxp_core.runs.code_version import SnapshotMode
from mlxp_core.runs.layout import RunDir
from mlxp_core.versioning.snapshot import FrozenCode, WorkTreeVersion

LOCAL = ("-m", "hydra/launcher=mlxp_local", "hydra.launcher.wait=true")

# what a program does as if it were alone in its folder: it reads what git knows, and writes into what it finds or makes
WRITER = """\
import json
import os
from pathlib import Path

import hydra
from omegaconf import OmegaConf


@hydra.main(version_base=None, config_path="conf", config_name="config")
def main(cfg):
    data = open("data/train.csv").read()
    assert OmegaConf.load("conf/optimizer/adam.yaml").lr == 0.01
    os.makedirs("./figs/deep", exist_ok=True)
    Path("figs/deep/a.png").write_text(f"figure {cfg.seed}")
    for name in ("out.txt", "results/r.csv", "conf/used.yaml", "plots/empty/p.txt"):
        Path(name).write_text(f"{name} of {cfg.seed}")
    with open("table.csv", "a") as table:
        table.write(f"row {cfg.seed}\\n")
    print(json.dumps([data, open("table.csv").read(), hydra.utils.get_original_cwd(), __file__]))


if __name__ == "__main__":
    main()
"""


@pytest.fixture
def writer(no_gitignore: Project) -> Project:
    """A project whose program writes beside itself, and whose folders git knows or does not."""
    tracked = {"data/train.csv": "1,2", "table.csv": "a\n", "results/.gitkeep": ""}
    no_gitignore.write(**{"main.py": WRITER}, **tracked)
    no_gitignore.commit()
    (no_gitignore.dir / "plots" / "empty").mkdir(parents=True)
    (no_gitignore.dir / "plots" / ".gitkeep").touch()
    no_gitignore.commit()
    return no_gitignore


def kept(project: Project, run: int) -> dict[str, str]:
    """The files that a run has kept of its working folder."""
    top = project.logs / str(run) / "work"
    return {str(path.relative_to(top)): path.read_text() for path in top.rglob("*") if path.is_file()}


def test_what_jobs_write_is_kept_with_their_runs_and_shared_with_none(writer: Project) -> None:
    """Bug: as root it lands in the copy that all jobs share, else the job dies of PermissionError (HySUPP's ./figs)."""
    writer.run(*LOCAL, "seed=1,2")
    for seed in (1, 2):
        assert writer.status(seed) == "COMPLETE"
        said: Any = writer.said(seed)
        assert said[:3] == ["1,2", f"a\nrow {seed}\n", str(writer.dir)]
        assert Path(said[3]) == copy_of(writer, seed) / "main.py"
        written = ("out.txt", "results/r.csv", "conf/used.yaml", "plots/empty/p.txt")
        assert kept(writer, seed) == {
            "figs/deep/a.png": f"figure {seed}",
            "table.csv": f"a\nrow {seed}\n",
            **{name: f"{name} of {seed}" for name in written},
        }
        assert writer.info(seed)["work_dir"] == str(writer.logs / str(seed) / "work")
    copy = copy_of(writer, 1)
    assert files(copy).keys() == files(writer.dir).keys()
    assert git("status", "--porcelain", cwd=writer.dir) == ""


def test_jobs_of_any_user_write_alike(writer: Project, as_root: None) -> None:
    """Bug: root ignores modes, so that what an ordinary user is refused goes into the copy in silence."""
    code = 'Path(__file__).with_name("out.txt").write_text("x")'
    writer.write(**{"main.py": WRITER.replace("    data = open", f"    {code}\n    data = open")})
    writer.commit()
    writer.run(*LOCAL, "seed=1", code=1)
    error = writer.info(1)["error"]
    assert error["type"] == "PermissionError"
    assert "write to a relative path" in error["message"]
    assert not (copy_of(writer, 1) / "out.txt").exists()


@pytest.mark.parametrize("chosen", ["copy", "launch", "run"])
def test_jobs_start_where_the_option_says(project: Project, chosen: str) -> None:
    """Bug: hydra.launcher.work_dir that nobody looks at."""
    project.run(*LOCAL, "seed=1", f"hydra.launcher.work_dir={chosen}")
    copy = copy_of(project, 1)
    places = {"copy": copy, "launch": project.dir, "run": project.logs / "1" / "work"}
    said = project.said(1)
    assert (said["cwd"], said["file"]) == (str(places[chosen]), str(copy / "main.py"))
    assert not (project.logs / "1" / "work").exists()  # it has written nothing


def test_without_a_copy_jobs_start_in_the_launch_directory(project: Project) -> None:
    """Bug: a job of the files as they are, in an empty folder without them."""
    project.run(*LOCAL, "seed=1", "hydra.launcher.snapshot=none")
    assert project.said(1)["cwd"] == str(project.dir)


def test_chdir_is_hydras(project: Project) -> None:
    """Bug: hydra.job.chdir=true does not lead into the run's folder, as everywhere."""
    project.run(*LOCAL, "seed=1", "hydra.job.chdir=true")
    assert project.said(1)["cwd"] == str(project.logs / "1")


def test_a_module_and_a_relative_pythonpath_are_the_copys(project: Project) -> None:
    """Bug: `python -m` and PYTHONPATH=. find modules where the job starts: links, or the work tree itself."""
    main = (project.dir / "main.py").read_text().replace('config_path="conf"', 'config_path="../conf"')
    main = main.replace('"code": "A"', '"code": lib.__file__').replace(
        "import hydra\n", "import hydra\nimport lib\n", 1
    )
    project.write(**{"pkg/__init__.py": "", "pkg/app.py": main, "libs/lib.py": ""})
    project.commit()
    project.command[1:] = ["-m", "pkg.app"]
    for number, chosen in enumerate(["run", *(["launch"] if sys.version_info >= (3, 11) else [])], start=1):
        project.run(*LOCAL, "seed=1", f"hydra.launcher.work_dir={chosen}", PYTHONPATH="libs")
        said, copy = project.said(number), copy_of(project, number)
        if sys.version_info >= (3, 11):
            assert (said["file"], said["code"]) == (str(copy / "pkg/app.py"), str(copy / "libs/lib.py"))
        assert os.path.realpath(said["file"]) == str(copy / "pkg/app.py")


def test_data_that_git_ignores_is_named_in_the_error_and_in_the_log(project: Project) -> None:
    """Bug: a job fails hours later for a file that is there, and nobody is told what to do."""
    main = (project.dir / "main.py").read_text()
    project.write(
        **{"main.py": main.replace("    run = current_run()\n", "    run = current_run()\n    open('data/x')\n")}
    )
    project.write(**{"data/x": "1", ".gitignore": "logs/\ndata/\n"})
    project.commit()
    project.run(*LOCAL, "seed=1", code=1)
    error = project.info(1)["error"]
    assert error["type"] == "FileNotFoundError"
    assert "\n" in error["message"]
    advice = error["message"].split("\n", 1)[1]
    assert "open run.original_path('data/x')" in advice
    assert advice in (project.logs / "1" / "log.stdout").read_text()
    project.run(*LOCAL, "seed=1", "hydra.launcher.work_dir=launch")
    assert project.status(2) == "COMPLETE"


def test_what_jobs_have_written_outlives_reruns_checkouts_and_prunes(writer: Project, mlxp: Mlxp) -> None:
    """Bug: files of a run go with the copy of its code; a rerun after that finds no folder to start in."""
    writer.run(*LOCAL, "seed=1")
    edit(writer, "B")
    writer.write(**{"other.py": ""})
    copy = copy_of(writer, 1)
    age(copy)
    assert "removed: 1 copy" in mlxp("snapshots", "prune").stderr
    assert os.listdir(copy.parent) == ["repository.git"]
    assert kept(writer, 1)["out.txt"] == "out.txt of 1"
    mlxp("rerun", "1", "--complete", "--wait")
    assert kept(writer, 1)["table.csv"] == "a\nrow 1\nrow 1\n"
    folder = writer.dir.parent / "checkout"
    done = mlxp("checkout", "1", str(folder))
    assert f"cd {folder}" in done.stdout.replace("'", "") or str(folder) in done.stdout
    assert not (folder / "out.txt").exists()


def test_a_copy_that_a_job_has_written_into_is_not_pruned(project: Project, mlxp: Mlxp) -> None:
    """Bug: results that an earlier version, or a program without Python, has put there are deleted."""
    project.run(*LOCAL, "seed=1")
    copy = copy_of(project, 1)
    (copy / "conf" / "result.h5").write_text("42")
    age(copy)
    said = mlxp("snapshots", "prune").stdout
    assert "result.h5" in said.replace("\n", "")
    assert (copy / "conf" / "result.h5").read_text() == "42"
    (copy / "conf" / "result.h5").unlink()
    (copy / "main.py").chmod(0o644)
    (copy / "main.py").write_text("changed")
    age(copy)
    assert "main.py" in mlxp("snapshots", "prune").stdout.replace("\n", "")
    assert copy.exists()


OPTIONS: list[tuple[dict[str, str], str]] = [
    ({}, "run"),
    ({"work_dir": "copy"}, "copy"),
    ({"work_dir": "launch"}, "launch"),
    ({"snapshot": "none"}, "launch"),
    ({"snapshot": "none", "work_dir": "launch"}, "launch"),
    ({"work_dir": "run", "snapshot": "commit"}, "run"),
]


@pytest.mark.parametrize(("options", "chosen"), OPTIONS)
def test_the_default_goes_by_whether_there_is_a_copy(options: dict[str, str], chosen: str) -> None:
    """Bug: a job that starts in a copy that there is not."""
    assert str(_start_dir.work_dir(LauncherConf(**options))) == chosen


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"work_dir": "here"}, "hydra.launcher.work_dir=here is not one of auto, run, copy, launch"),
        ({"work_dir": "run", "snapshot": "none"}, "hydra.launcher.work_dir=run needs a copy of the code"),
    ],
)
def test_a_choice_that_means_nothing_is_refused(options: dict[str, str], said: str) -> None:
    """Bug: a typo is a default; work_dir=copy without a copy is the launch directory in silence."""
    with pytest.raises(ConfigurationError, match=said):
        _start_dir.work_dir(LauncherConf(**options))


def test_a_launch_from_a_folder_that_git_does_not_know_has_it_and_from_elsewhere_none(tmp_path: Path) -> None:
    """Bug: `cd: no such directory` in each job; jobs of a launch from elsewhere that all write there."""
    repo, copy = tmp_path / "repo", tmp_path / "code" / ("c" * 40)
    copy.mkdir(parents=True)
    version = WorkTreeVersion(repo, "c" * 40, SnapshotMode.COMMIT, "c" * 40, "main", ())
    code, run = JobCode(FrozenCode(version, copy), None), RunDir(tmp_path / "1")
    (repo / "runs").mkdir(parents=True)
    start = _start_dir.start_dir(LauncherConf(), code, repo / "runs")
    assert start.path(run) == tmp_path / "1" / "work" / "runs"
    assert start.template is not None
    assert "runs" in start.template.empty_folders or (start.template.path / "runs").is_dir()
    assert _start_dir.start_dir(LauncherConf(), code, tmp_path / "else").path(run) == tmp_path / "1" / "work"


def test_a_module_of_an_unknown_python_is_not_started_in_the_work_tree(tmp_path: Path) -> None:
    """Bug: `python -m app` in the launch directory runs the files there, or -P stops a Python that has it not."""
    program: Any = SimpleNamespace(module="app", words=lambda python, _: [python, "-m", "app"])
    code = JobCode(SimpleNamespace(map_path=lambda path: path), None)  # type: ignore[arg-type]
    assert _start_dir.job_words(program, LauncherConf(python="/py"), code) == ["/py", "-m", "app"]
    with pytest.raises(ConfigurationError, match="`python -m app` would run the launch directory's files"):
        _start_dir.job_words(program, LauncherConf(python="/py", work_dir="launch"), code)

"""The version that is recorded is the code that ran: what the commit does not hold is recorded by hash, and kept."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support import Mlxp, Project, git

HERE = "hydra/callbacks=mlxp"
SKIP = ("-m", HERE, "hydra/sweeper=mlxp", "hydra.sweeper.skip=[COMPLETE]")
MAIN = """\
import hydra


@hydra.main(version_base=None, config_path=None)
def main(cfg):
    print("A")


if __name__ == "__main__":
    main()
"""


def oid(path: Path) -> str:
    """Git's own hash of a file."""
    return git("hash-object", "--no-filters", str(path), cwd=path.parent)


def version(project: Project, run: int) -> dict[str, object]:
    """What a run says of its version; its files by path."""
    recorded = project.info(run)["version_manager"]
    if "files" in recorded:
        recorded["files"] = {line.partition(" ")[2]: line.partition(" ")[0] for line in recorded["files"]}
    return recorded


def kept(project: Project, run: int) -> dict[str, str]:
    """What a run has kept, by hash."""
    folder = project.logs / str(run) / "metadata" / "code"
    return {path.name: path.read_text() for path in folder.iterdir()} if folder.exists() else {}


def test_a_program_in_an_ignored_folder_is_recorded_by_its_hash(project: Project) -> None:
    """Bug: the program edited, the same commit twice and `dirty: false`; skip then leaves the edited one out."""
    project.write(**{"scratch/main.py": MAIN, "scratch/lib.py": "X = 1\n", ".gitignore": "logs/\nscratch/\n"})
    project.write(**{"scratch/main.py": MAIN.replace("import hydra\n", "import hydra\nimport lib\n")})
    project.commit()
    project.command = [project.command[0], "scratch/main.py"]
    project.run(*SKIP, "+seed=1")
    first = {f"scratch/{name}": oid(project.dir / "scratch" / name) for name in ("lib.py", "main.py")}
    assert (version(project, 1)["files"], version(project, 1)["dirty"]) == (first, True)
    assert set(kept(project, 1)) == set(first.values())
    assert kept(project, 1)[first["scratch/lib.py"]] == "X = 1\n"
    assert "0 of 1 job new" in project.run(*SKIP, "+seed=1").stdout
    project.write(**{"scratch/lib.py": "X = 2\n"})
    assert "1 of 1 job new" in project.run(*SKIP, "+seed=1").stdout
    assert version(project, 2)["files"] == {**first, "scratch/lib.py": oid(project.dir / "scratch" / "lib.py")}
    assert version(project, 1)["commit_hash"] == version(project, 2)["commit_hash"] == project.commit_hash()


def test_a_run_of_what_git_has_keeps_nothing(project: Project) -> None:
    """Bug: each run keeps what its commit has, or calls it dirty: with line ends that git converts, say."""
    project.write(**{".gitattributes": "lib.py text eol=crlf\n"})
    (project.dir / "lib.py").write_bytes(b"X = 1\r\n")
    main = (project.dir / "main.py").read_text().replace("import hydra\n", "import hydra\nimport lib\n", 1)
    project.write(**{"main.py": main})
    project.commit()
    project.run(HERE)
    assert "files" not in version(project, 1)
    assert version(project, 1)["dirty"] is False
    assert kept(project, 1) == {}


def test_what_is_loaded_at_the_end_counts(project: Project) -> None:
    """Bug: a module that the task function imports, or that a run writes, is not looked at."""
    main = (project.dir / "main.py").read_text()
    late = "    open('made.py', 'w').write('Y = 1\\n')\n    sys.path.insert(0, os.getcwd())\n    import made\n"
    project.write(**{"main.py": main.replace("    run = current_run()\n", f"    run = current_run()\n{late}")})
    project.commit()
    project.run(HERE, "hydra.job.chdir=false")
    assert version(project, 1)["files"] == {"made.py": oid(project.dir / "made.py")}
    assert set(kept(project, 1).values()) == {"Y = 1\n"}


@pytest.fixture
def python(project: Project, tmp_path: Path) -> Path:
    """An environment within the repository, that has the packages of the tests' own."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", project.dir / ".venv"], check=True)
    (site,) = (project.dir / ".venv").glob("lib/python*/site-packages")
    own = [entry for entry in sys.path if entry.endswith("site-packages")]
    (site / "tests.pth").write_text("\n".join([*own, str(Path(__file__).resolve().parents[2])]) + "\n")
    return project.dir / ".venv" / "bin" / "python"


PROJECT = """\
[project]
name = "my-train"
version = "1"
scripts = {my-train = "mytrain.main:main"}
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[tool.setuptools.packages.find]
where = ["src"]
"""


def install(project: Project, python: Path, *options: str) -> None:
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps"]
    words = [*pip, "--no-build-isolation", "--disable-pip-version-check", "--force-reinstall", *options]
    subprocess.run([*words, str(project.dir)], check=True, capture_output=True, cwd=project.dir.parent)


@pytest.mark.parametrize("options", [(), ("-e",)], ids=["installed", "editable"])
@pytest.mark.parametrize("started", ["console script", "module"])
def test_an_installed_program_is_compared_with_the_source(
    project: Project, python: Path, options: tuple[str, ...], started: str
) -> None:
    """Bug: the source was edited and committed since `pip install .`: the new commit is recorded, the old code ran.

    And a console script finds no repository, or its environment's.
    """
    ignored = "logs/\n.venv/\n*.egg-info/\nbuild/\n__pycache__/\n"
    project.write(**{"src/mytrain/main.py": MAIN, "src/mytrain/__init__.py": "", "pyproject.toml": PROJECT})
    project.write(**{".gitignore": ignored})
    project.commit()
    install(project, python, *options)
    script = [str(python), "-m", "mytrain.main"] if started == "module" else [str(python.parent / "my-train")]
    project.command = script
    project.run(HERE)
    assert version(project, 1)["commit_hash"] == project.commit_hash()
    assert version(project, 1)["repo_path"] == str(project.dir)
    assert "files" not in version(project, 1)
    project.write(**{"src/mytrain/main.py": MAIN.replace('"A"', '"B"')})
    project.commit()
    project.run(HERE)
    assert version(project, 2)["commit_hash"] == project.commit_hash()
    if options:
        assert "files" not in version(project, 2)
    else:
        (site,) = (project.dir / ".venv").glob("lib/python*/site-packages")
        ran = site / "mytrain" / "main.py"
        assert version(project, 2)["files"] == {str(ran.relative_to(project.dir)): oid(ran)}
        assert list(kept(project, 2).values()) == [MAIN]
        assert version(project, 2)["dirty"] is True


@pytest.mark.parametrize("options", [(), ("-e",)], ids=["installed", "editable"])
@pytest.mark.parametrize("started", ["console script", "module"])
def test_a_launch_of_an_installed_program_freezes_its_source(
    project: Project, python: Path, options: tuple[str, ...], started: str
) -> None:
    """Bug: a console script is in no repository, or not in its version; its jobs run what is installed by then."""
    main = MAIN.replace('print("A")', 'import json; print(json.dumps({"code": "A", "file": __file__}))')
    project.write(**{"src/mytrain/main.py": main, "src/mytrain/__init__.py": "", "pyproject.toml": PROJECT})
    project.write(**{".gitignore": "logs/\n.venv/\n*.egg-info/\nbuild/\n__pycache__/\n"})
    first = project.commit()
    install(project, python, *options)
    module = [str(python), "-m", "mytrain.main"]
    project.command = module if started == "module" else [str(python.parent / "my-train")]
    launch = ("-m", "hydra/launcher=mlxp_local", "hydra.launcher.wait=true", "+x=1")
    project.run(*launch)
    assert version(project, 1)["commit_hash"] == first
    assert Path(project.said(1)["file"]) == Path(str(version(project, 1)["copy"]), "src", "mytrain", "main.py")
    project.write(**{"src/mytrain/main.py": main.replace('"A"', '"B"')})
    project.commit()
    if options:
        project.run(*launch)
        assert project.said(2)["code"] == "B"
        return
    done = project.run(*launch, code=1)
    (site,) = (project.dir / ".venv").glob("lib/python*/site-packages")
    assert f"as {project.dir} has it in commit {project.commit_hash()[:10]}" in done.stderr
    assert f"\n  {site / 'mytrain' / 'main.py'}\nInstall it again (pip install .)" in done.stderr
    assert not (project.logs / "2").exists()


def test_a_zipapp_is_compared_with_the_source(project: Project, tmp_path: Path) -> None:
    """Bug: a program whose file is within another has no version at all."""
    project.write(**{"src/mytrain/main.py": MAIN, "src/mytrain/__init__.py": "", ".gitignore": "logs/\n*.pyz\n"})
    project.write(**{"src/__main__.py": "from mytrain.main import main\nmain()\n"})
    project.commit()
    subprocess.run([sys.executable, "-m", "zipapp", "src", "-o", "app.pyz"], cwd=project.dir, check=True)
    project.start_for_real()
    project.command = [project.command[0], "app.pyz"]
    project.run(HERE)
    assert version(project, 1)["commit_hash"] == project.commit_hash()
    assert "files" not in version(project, 1)
    project.write(**{"src/mytrain/main.py": MAIN.replace('"A"', '"B"')})
    project.commit()
    project.run(*SKIP, "+x=1")
    assert list(version(project, 2)["files"]) == ["app.pyz/mytrain/main.py"]
    assert list(kept(project, 2).values()) == [MAIN]
    assert "0 of 1 job new" in project.run(*SKIP, "+x=1").stdout


def test_another_repository_is_recorded_with_its_commit(project: Project, tmp_path: Path) -> None:
    """Bug: an editable library beside the program changes, and the run says the same; skip leaves it out."""
    library = tmp_path / "library"
    library.mkdir()
    (library / "mylib.py").write_text("X = 1\n")
    git("init", "--quiet", cwd=library)
    git("add", "--all", cwd=library)
    git("commit", "--quiet", "--message", "x", cwd=library)
    main = (project.dir / "main.py").read_text().replace("import hydra\n", "import hydra\nimport mylib\n", 1)
    project.write(**{"main.py": main})
    project.commit()
    project.environment = {**project.environment, "PYTHONPATH": str(library)}
    project.run(*SKIP, "seed=1")
    clean = {"repo_path": str(library), "commit_hash": git("rev-parse", "HEAD", cwd=library), "dirty": False}
    assert version(project, 1)["repositories"] == [clean]
    assert "files" not in version(project, 1)
    assert "0 of 1 job new" in project.run(*SKIP, "seed=1").stdout
    (library / "mylib.py").write_text("X = 2\n")
    assert "1 of 1 job new" in project.run(*SKIP, "seed=1").stdout
    assert version(project, 2)["repositories"] == [{**clean, "dirty": True}]
    assert version(project, 2)["files"] == {str(library / "mylib.py"): oid(library / "mylib.py")}
    git("commit", "--all", "--quiet", "--message", "y", cwd=library)
    assert "1 of 1 job new" in project.run(*SKIP, "seed=1").stdout


@pytest.mark.parametrize("edited", [False, True], ids=["as it was", "edited"])
def test_a_program_started_from_a_checkout_is_that_version(project: Project, mlxp: Mlxp, edited: bool) -> None:
    """Bug: the commit of the repository above, where the work tree has moved on; or what was edited there is lost."""
    first = project.commit_hash()
    project.run(HERE)
    mlxp("checkout", "1", "code")
    project.write(**{"later.txt": "later"})
    project.commit()
    code = project.dir / "code"
    if edited:
        (code / "main.py").write_text((code / "main.py").read_text().replace('"A"', '"B"'))
        (code / "new.py").write_text("")
    # what Hydra leaves there is no edit
    project.write(**{"code/outputs/1/.hydra/hydra.yaml": "", "code/outputs/1/main.log": ""})
    project.command = [project.command[0], "code/main.py"]
    done = project.run(HERE)
    now = version(project, 2)
    assert (now["head"], now["repo_path"], now["checkout"]) == (first, str(project.dir), str(code))
    assert (now["snapshot"], now["dirty"]) == (("worktree", True) if edited else ("commit", False))
    assert ('"code": "B"' in done.stdout) is edited
    assert "files" not in now
    changed = git("diff-tree", "-r", "--name-only", first, now["commit_hash"], cwd=project.dir).split()
    assert changed == (["main.py", "new.py"] if edited else [])
    assert (project.logs / "2" / "metadata" / "uncommitted.diff").exists() is edited
    # and a launch from there freezes it
    project.run("-m", "hydra/launcher=mlxp_local", "hydra.launcher.wait=true", "seed=1")
    assert project.said(3)["code"] == ("B" if edited else "A")
    assert version(project, 3)["commit_hash"] == now["commit_hash"]


STEP = """\
import json
import os
import subprocess
import sys

import hydra


@hydra.main(version_base=None, config_path=None)
def main(cfg):
    print(json.dumps({"file": __file__}), flush=True)
    if cfg.step == 1:
        command = [sys.executable, __file__, *os.environ["STEP"].split("|"), "+step=2"]
        subprocess.run(command, check=True, stdout=sys.stderr)
        print(json.dumps({"file": __file__}), flush=True)


if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize("how", ["plain", "launch", "marker is gone", "repository is gone"])
def test_a_job_that_starts_another_run_hands_its_own_version_on(project: Project, how: str) -> None:
    """Bug: a step of a pipeline is told that its program is not in the version, or records the work tree's HEAD."""
    project.write(**{"main.py": STEP})
    first = project.commit()
    logs = str(project.logs)
    step = [HERE, f"hydra.run.dir='{quoted(logs)}/step'"]
    if how != "plain":
        step = [
            "-m",
            "hydra/launcher=mlxp_local",
            "hydra.launcher.wait=true",
            f"hydra.launcher.log_dir='{quoted(logs)}'",
        ]
    flag = project.dir / "go"
    wait = f"while ! test -e '{quoted(str(flag), shell=True)}'; do sleep 0.05; done"
    option = wait.replace("\\", "\\\\").replace("'", "\\'")
    project.run("-m", "hydra/launcher=mlxp_local", "+step=1", f"hydra.launcher.setup=['{option}']", STEP="|".join(step))
    project.write(**{"main.py": "raise SystemExit('the work tree')\n"})
    project.commit()
    copy = Path(str(version(project, 1)["copy"]))
    marker = copy.with_name(f"{copy.name}.json")
    if how == "marker is gone":
        marker.unlink()
    if how == "repository is gone":
        (project.dir / ".git").rename(project.dir / "git")
    flag.touch()
    project.wait_for_end(1)
    assert project.status(1) == "COMPLETE", (project.logs / "1" / "log.stderr").read_text()
    run = "step" if how == "plain" else "2"
    now = project.info(run)["version_manager"]
    assert (now["commit_hash"], now["copy"], now["repo_path"]) == (first, str(copy), str(project.dir))
    assert project.status(run) == "COMPLETE"


def quoted(text: str, *, shell: bool = False) -> str:
    return text.replace("'", "'\\''" if shell else "\\'")


def test_a_checkout_has_what_the_commit_does_not(project: Project, mlxp: Mlxp) -> None:
    """Bug: `mlxp checkout` gives the bare commit, without the program; or what was too large to keep, in silence."""
    project.write(**{"scratch/main.py": MAIN, ".gitignore": "logs/\nscratch/\n"})
    project.commit()
    project.command = [project.command[0], "scratch/main.py"]
    project.run(HERE)
    done = mlxp("checkout", "1", "code")
    assert (project.dir / "code" / "scratch" / "main.py").read_text() == MAIN
    assert "scratch/main.py" in done.stderr.splitlines()[-1]
    project.write(**{"scratch/main.py": f"{MAIN}# {'x' * (1 << 20)}\n"})
    project.run(HERE)
    done = mlxp("checkout", "2", "second", code=1)
    assert "scratch/main.py" in done.stderr
    assert "not kept" in done.stderr


def test_the_command_of_a_checkout_is_the_runs_own(project: Project, mlxp: Mlxp) -> None:
    """Bug: `mlxp checkout 2` of a run of a multirun prints the sweep, which runs everything again."""
    project.run("-m", HERE, "seed=1,2", "optimizer=sgd,adam", "msg=hi")
    assert project.info(2)["hydra"]["overrides"] == ["seed=1", "optimizer=adam", "msg=hi"]
    command = mlxp("checkout", "2", "code").stderr.splitlines()[-1].split()
    assert [word.strip("'") for word in command[1:]] == [
        *("main.py", HERE, "seed=1", "optimizer=adam", "msg=hi"),
    ]


KERNEL = """\
import importlib
import pathlib
import sys

import lib

from mlxp_core import start_run

sys.ps1 = ">>> "
text = pathlib.Path("lib.py").read_text()
for step in ("as it was", "edited", "loaded again"):
    if step == "edited":
        pathlib.Path("lib.py").write_text(text.replace("'one'", "'two, and longer'"))
    if step == "loaded again":
        importlib.reload(lib)
    with start_run("logs"):
        print(lib.f())
"""


def test_in_a_kernel_each_run_has_the_version_that_it_ran(project: Project) -> None:
    """Bug: start_run records no version; with importlib.reload that of the process's first run; an edited file that
    was not loaded again is taken for what ran.
    """
    lib = "def f():\n    return 'one'\n"
    project.write(**{"lib.py": lib, "main.py": KERNEL})
    project.commit()
    assert project.run().stdout.split("\n")[:3] == ["one", "one", "two, and longer"]
    versions = [version(project, number) for number in (1, 2, 3)]
    assert versions[0]["commit_hash"] == project.commit_hash() != versions[2]["commit_hash"]
    assert [one["repo_path"] for one in versions] == [str(project.dir)] * 3
    assert ["files" in one for one in versions] == [False, True, False]
    assert list(kept(project, 2).values()) == [lib]
    assert "two, and longer" in git("show", f"{versions[2]['commit_hash']}:lib.py", cwd=project.dir)
    assert [one["snapshot"] for one in versions] == ["commit", "worktree", "worktree"]


def test_start_run_takes_what_the_callback_takes(project: Project) -> None:
    """Bug: a version for who wants none; none of the changes; a program that no longer starts where git fails."""
    main = "import sys\nfrom mlxp_core import start_run\n\nwith start_run('logs', {}, snapshot=sys.argv[1]) as run:\n"
    project.write(**{"main.py": f"{main}    print(run.id)\n"})
    project.run("auto")
    project.run("commit")
    project.run("none")
    modes = [version(project, number).get("snapshot") for number in (1, 2, 3)]
    assert modes == ["worktree", "none", None]
    assert version(project, 1)["uncommitted"] == [" M main.py"]
    assert (project.logs / "1" / "metadata" / "uncommitted.diff").exists()
    (project.dir / ".git" / "HEAD").write_text("broken")
    done = project.run("auto")
    assert "which code this run runs is not recorded" in done.stderr
    assert project.status(4) == "COMPLETE"


CELL = """\
import sys
import hydra

source = '''
@hydra.main(version_base=None, config_path=None)
def main(cfg):
    print("RESULT")
'''
sys.argv = ["notebook", *sys.argv[2:]]
exec(compile(source.replace("RESULT", RESULT), "<cell>", "exec"), globals())
main()
"""


def test_a_function_of_a_cell_is_known_by_its_hash(project: Project) -> None:
    """Bug: a task function that was edited in its cell is skipped, for the commit is the same."""

    def run(result: str) -> str:
        program = f"RESULT = {result!r}\n{CELL}"
        command = [project.command[0], "-c", program, "-", *SKIP, "+seed=1"]
        return project.popen_and_end(command)

    assert "1 of 1 job new" in run("A")
    assert "0 of 1 job new" in run("A")
    assert "1 of 1 job new" in run("B")
    first, second = (version(project, number) for number in (1, 2))
    assert first["commit_hash"] == second["commit_hash"] == project.commit_hash()
    assert first["function_hash"] != second["function_hash"]
    done = project.popen_and_end(
        [project.command[0], "-c", f"RESULT = 'B'\n{CELL}", "-", *SKIP, "+seed=1", "hydra/launcher=mlxp_local"]
    )
    assert "0 of 1 job new" in done  # one rule for both

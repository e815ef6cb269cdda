"""Every job runs the code that it was submitted with, and every run says which that was. From the command line."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from machines import User
from support import ROOT, Project, Terminal, git, read_yaml, until

from mlxp_core.runs.code_version import SnapshotMode
from mlxp_core.runs.layout import LogDir
from mlxp_core.versioning.export import remove_tree
from mlxp_core.versioning.snapshot import SnapshotOptions, freeze_code

LOCAL = ("-m", "hydra/launcher=mlxp_local")
WAIT = (*LOCAL, "hydra.launcher.wait=true")


def edit(project: Project, code: str) -> None:
    """Have the program call itself otherwise."""
    text = (project.dir / "main.py").read_text()
    old = text.split('"code": ')[1].split(",")[0]
    project.write(**{"main.py": text.replace(f'"code": {old}', f'"code": "{code}"')})


def test_changes_run_as_they_are_and_the_launch_says_so(project: Project) -> None:
    """Bug: jobs silently run the last commit, or silently run what is not committed."""
    head = project.commit_hash()
    edit(project, "B")
    project.write(**{"new file.txt": "new\n"})
    done = project.run(*WAIT, "seed=1,2")
    places = [done.stdout.index(text) for text in ("as it is now", " M main.py", "?? new file.txt", "submitted")]
    assert places == sorted(places)
    assert [project.said(name)["code"] for name in (1, 2)] == ["B", "B"]
    version = project.info(1)["version_manager"]
    assert (version["head"], version["snapshot"], version["dirty"]) == (head, "worktree", True)
    assert version["uncommitted"] == [" M main.py", "?? new file.txt"]
    assert git("show", f"{version['commit_hash']}:new file.txt", cwd=project.dir) == "new"
    diff = (project.logs / "2" / "metadata" / "uncommitted.diff").read_text()
    assert '+    print(json.dumps({"code": "B"' in diff
    assert git("status", "--porcelain", cwd=project.dir) == 'M main.py\n?? "new file.txt"'


def test_the_same_command_with_other_files_is_another_launch(project: Project) -> None:
    """Bug: a changed file that is taken for what an earlier launch did not finish; or a copy for each launch."""
    edit(project, "B")
    project.run(*WAIT, "seed=1")
    project.run(*WAIT, "seed=1")
    edit(project, "C")
    project.run(*WAIT, "seed=1")
    assert [project.said(name)["code"] for name in (1, 2, 3)] == ["B", "B", "C"]
    commits = [project.info(name)["version_manager"]["commit_hash"] for name in (1, 2, 3)]
    assert commits[0] == commits[1] != commits[2]


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (["on_changes=ignore"], "A", None),
        (["on_changes=capture"], "B", None),
        (["snapshot=none"], "B", None),
        (["on_changes=stop"], None, "there are changes that are not committed"),
        (["on_changes=commit"], None, "needs hydra.launcher.commit_message"),
        (["on_changes=maybe"], None, "is not one of ask, capture, commit, ignore, stop"),
        (["on_changes=commit", "commit_message='by option'", "commit_files=[main.py]"], "B", None),
    ],
)
def test_every_answer_can_be_given_beforehand(
    project: Project, arguments: list[str], code: str | None, error: str | None
) -> None:
    """Bug: an option that is read and not followed; a commit that nobody asked for."""
    before = project.commit_hash()
    edit(project, "B")
    project.write(**{"other.txt": "not to be committed"})
    for option, value in (("user.name", "Me"), ("user.email", "me@example.org")):
        git("config", option, value, cwd=project.dir)
    options = [f"hydra.launcher.{argument}" for argument in arguments]
    done = project.run(*WAIT, "seed=1", *options, code=1 if error else 0)
    if error:
        assert error in done.stderr
        assert not (project.logs / "1").exists()
    else:
        assert project.said(1)["code"] == code
    if "commit_message" in " ".join(arguments):
        assert git("log", "-1", "--format=%s %an %P", cwd=project.dir) == f"by option Me {before}"
        assert git("status", "--porcelain", cwd=project.dir) == "?? other.txt"
        assert project.info(1)["version_manager"]["commit_hash"] == project.commit_hash()
    else:
        assert project.commit_hash() == before


@pytest.fixture
def dirty(project: Project) -> Project:
    """A project with two changes, by somebody whom git knows."""
    edit(project, "B")
    project.write(**{"new.txt": "new"})
    for option, value in (("user.name", "Me"), ("user.email", "me@example.org")):
        git("config", option, value, cwd=project.dir)
    return project


def test_at_a_terminal_the_launch_asks_once_and_enter_runs_the_files_as_they_are(dirty: Project) -> None:
    """Bug: a question for each batch of a sweep; an answer that commits something by default."""
    before = dirty.commit_hash()
    terminal = Terminal(dirty, *WAIT, "seed=1,2,3,4", "hydra.sweeper.max_batch_size=2")
    terminal.answer("modified   main.py", "")
    terminal.answer("untracked  new.txt", "")
    terminal.answer("[r/c/i/s] (r)", "\n")
    code, shown = terminal.end()
    assert code == 0, shown
    assert "[r/c/i/s]" not in shown
    assert [dirty.said(name)["code"] for name in (1, 2, 3, 4)] == ["B"] * 4
    assert dirty.commit_hash() == before


def test_chosen_files_are_committed_and_run(dirty: Project) -> None:
    """Bug: all files are committed where one was chosen; what was left out runs all the same."""
    terminal = Terminal(dirty, *WAIT, "seed=1")
    terminal.answer("(r)", "c\n")
    terminal.answer("Which of them?", "7\n")  # no such number: asked again
    terminal.answer("Which of them?", "1\n")
    terminal.answer("Commit message:", "chosen\n")
    code, shown = terminal.end()
    assert code == 0, shown
    assert git("show", "--format=%s", "--name-only", cwd=dirty.dir).split() == ["chosen", "main.py"]
    assert git("status", "--porcelain", cwd=dirty.dir) == "?? new.txt"
    assert (dirty.said(1)["code"], dirty.info(1)["version_manager"]["snapshot"]) == ("B", "commit")


@pytest.mark.parametrize("typed", ["s\n", "\x03", "\x04"])
def test_stop_and_ctrl_c_and_no_answer_submit_nothing(dirty: Project, typed: str) -> None:
    """Bug: a launch that nobody wanted; or a stack trace."""
    terminal = Terminal(dirty, *WAIT, "seed=1")
    terminal.answer("(r)", typed)
    code, shown = terminal.end()
    assert code == 1
    assert "stopped: there are changes" in shown
    assert "Traceback" not in shown
    assert not (dirty.logs / "1").exists()


def test_the_last_commit_runs_where_changes_are_ignored(dirty: Project) -> None:
    """Bug: `i` that runs the changes."""
    terminal = Terminal(dirty, *WAIT, "seed=1")
    terminal.answer("(r)", "i\n")
    assert terminal.end()[0] == 0
    assert dirty.said(1)["code"] == "A"


def test_a_launch_in_the_background_of_a_terminal_does_not_ask(dirty: Project) -> None:
    """Bug: it asks, and is stopped by the terminal for reading from it (SIGTTIN): it hangs for ever."""
    script = dirty.dir.parent / "background.sh"
    words = " ".join(f"'{word}'" for word in (*dirty.command, *WAIT, "seed=1"))
    script.write_text(f"set -m\n{words} &\nwait $!\n")
    pid, master = pty.fork()
    if pid == 0:
        os.chdir(dirty.dir)
        os.execve("/bin/bash", ["bash", str(script)], {**dirty.environment, "TERM": "xterm"})
    try:
        until((dirty.logs / "1" / "metadata" / "exit_code").exists)
    finally:
        os.close(master)
        os.waitpid(pid, 0)
    assert dirty.said(1)["code"] == "B"


SETUP = """\
from setuptools import setup

setup(name="mypackage", version="1", packages=["mypackage"], package_dir={package_dir})
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that sees what the tests' own has, for installations of the user's."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    own = [entry for entry in sys.path if entry.endswith("site-packages")]
    (site / "tests.pth").write_text("\n".join([*own, str(ROOT)]) + "\n")
    return folder / "bin" / "python"


@pytest.mark.parametrize(
    ("package_dir", "folder"),
    [
        pytest.param({"": "src"}, "src/mypackage", id="src layout"),
        pytest.param({}, "mypackage", id="flat", marks=pytest.mark.thorough),
        pytest.param({"mypackage": "lib/code"}, "lib/code", id="renamed", marks=pytest.mark.thorough),
    ],
)
@pytest.mark.parametrize("mode", ["lenient", "strict"])
def test_the_frozen_package_wins_over_the_one_that_is_installed_editable(
    project: Project, python: Path, package_dir: dict[str, str], folder: str, mode: str
) -> None:
    """Bug: the job's script is frozen and the package that it imports is the work tree's, edited since."""
    project.write(**{f"{folder}/__init__.py": "CODE = 'A'\n", "setup.py": SETUP.format(package_dir=package_dir)})
    project.write(**{".gitignore": "logs/\n*.egg-info\nbuild/\n__pycache__\n"})
    main = (project.dir / "main.py").read_text()
    main = main.replace("import hydra\n", "import hydra\nimport mypackage\n", 1).replace(
        '"code": "A"', '"code": mypackage.CODE'
    )
    project.write(**{"app/main.py": main.replace('config_path="conf"', 'config_path="../conf"')})
    project.commit()
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
    ]
    more = ["--config-settings=editable_mode=strict"] if mode == "strict" else []
    subprocess.run([*pip, *more, "-e", str(project.dir)], check=True, capture_output=True)
    project.command = [str(python), "app/main.py"]
    flag = project.dir.parent / "flag"
    hold = ("do=hold", f"flag='{flag}'", "hydra.launcher.max_parallel=1")
    project.run(*LOCAL, "seed=1,2", *hold)
    until(lambda: project.status(1) == "RUNNING")
    project.write(**{f"{folder}/__init__.py": "CODE = 'B'\n"})
    flag.touch()
    project.wait_for_end(1, 2)
    assert [project.status(name) for name in (1, 2)] == ["COMPLETE", "COMPLETE"]
    assert [project.said(name)["code"] for name in (1, 2)] == ["A", "A"]


def test_a_job_that_has_loaded_the_work_trees_module_refuses_to_run(project: Project) -> None:
    """Bug: a template that puts the work tree first on sys.path: the recorded version is not what ran."""
    project.write(**{"mylib.py": "CODE = 'A'\n"})
    main = (project.dir / "main.py").read_text().replace("import hydra\n", "import mylib\nimport hydra\n", 1)
    head = "import os, sys\nif 'PUT_FIRST' in os.environ: sys.path.insert(0, os.environ['PUT_FIRST'])\n"
    project.write(**{"main.py": head + main})
    project.commit()
    setup = f'export PUT_FIRST="{project.dir}"'
    escaped = setup.replace("'", "\\'")
    project.run(*LOCAL, "seed=1", f"hydra.launcher.setup=['{escaped}']")
    project.wait_for_end(1)
    assert project.status(1) == "FAILED"
    assert str(project.dir / "mylib.py") in project.info(1)["error"]["message"]
    assert project.info(1)["error"]["type"].endswith("SnapshotError")


def test_a_module_of_a_package_in_a_folder_of_the_repository(project: Project) -> None:
    """Bug: `python -m pkg.app` from a sub-directory starts in the wrong folder of the copy, or in the work tree."""
    main = (project.dir / "main.py").read_text().replace('config_path="conf"', 'config_path="../../conf"')
    project.write(**{"apps/pkg/__init__.py": "", "apps/pkg/app.py": main})
    project.commit()
    project.write(**{"apps/pkg/app.py": "raise SystemExit('the work tree')"})
    words = "[sys.executable, '-m', 'pkg.app', *sys.argv[1:]]"
    program = f"import os, sys; os.chdir('apps'); os.execv(sys.executable, {words})"
    project.write(**{"apps/pkg/app.py": main})
    project.command = [sys.executable, "-c", program]
    flag = project.dir.parent / "flag"
    project.run(*LOCAL, "seed=1", "do=hold", f"flag='{flag}'", f"hydra.launcher.log_dir='{escape(project.logs)}'")
    project.write(**{"apps/pkg/app.py": "raise SystemExit('the work tree')"})
    flag.touch()
    project.wait_for_end(1)
    assert project.status(1) == "COMPLETE"
    assert Path(project.said(1)["cwd"]).name == "apps"
    assert ".mlxp/code/" in project.said(1)["file"]


def escape(path: Path) -> str:
    return str(path).replace("'", "\\'")


def test_relative_paths_of_data_have_a_base_that_can_be_named(project: Project) -> None:
    """Bug: data that git ignores is looked for in the copy; or what git knows is not there."""
    main = (project.dir / "main.py").read_text()
    base = 'open("known.txt").read(), run.original_path("data/x").read_text(), hydra.utils.get_original_cwd()'
    main = main.replace('"cwd": os.getcwd()', f'"cwd": [{base}]')
    project.write(**{"main.py": main, "known.txt": "known", "data/x": "data", ".gitignore": "logs/\ndata/\n"})
    project.commit()
    project.run(*WAIT, "seed=1", "hydra.job.chdir=false")
    assert project.said(1)["cwd"] == ["known", "data", str(project.dir)]


def test_what_a_launch_leaves_is_no_change_where_nothing_is_ignored(no_gitignore: Project) -> None:
    """Bug: the log directory of the first launch makes the code of the second another one, and all runs again."""
    no_gitignore.run(*WAIT, "seed=1")
    assert git("status", "--porcelain", cwd=no_gitignore.dir) == ""
    again = freeze_code(no_gitignore.dir / "main.py", LogDir(no_gitignore.logs))
    assert again is not None
    assert again.version.changes == ()
    assert str(again.copy) == no_gitignore.info(1)["version_manager"]["copy"]


def change_copy(top: Path, python: str) -> tuple[list[str], list[str], bool]:
    """Try to change a copy, run it, remove it: what was refused, what Python compiled, and whether the copy is left."""
    code = freeze_code(top / "main.py", LogDir(top / "logs"), SnapshotOptions(SnapshotMode.COMMIT))
    assert code is not None
    refused = []
    for name in ("new.txt", "lib.py", "sub/x"):
        try:
            (code.copy / name).parent.mkdir(exist_ok=True)
            (code.copy / name).write_text("changed")
        except PermissionError:
            refused.append(name)
    subprocess.run([python, code.copy / "main.py"], env={"PATH": os.environ["PATH"]}, check=True)
    compiled = [path.name.split(".")[0] for path in code.copy.glob("__pycache__/*")]
    remove_tree(code.copy)
    return refused, compiled, code.copy.exists()


def test_files_of_copies_cannot_be_written_by_jobs(ordinary_user: User) -> None:
    """Bug: a job changes the code of those that wait; or Python cannot keep its byte code, and compiles at each start.

    As a user without root's rights. New files are refused by Python itself: see test_copy_guard.py.
    """
    top = ordinary_user.home / "repo"
    top.mkdir()
    (top / "main.py").write_text("import lib")
    (top / "lib.py").write_text("")
    git("init", "--quiet", cwd=top)
    git("add", "--all", cwd=top)
    git("commit", "--quiet", "--message", "x", cwd=top)
    ordinary_user.owns(top)
    assert ordinary_user.call(change_copy, top, ordinary_user.interpreter, imports=["git"]) == (
        ["lib.py"],
        ["lib"],
        False,
    )


def test_a_plain_run_says_which_code_it_ran(project: Project) -> None:
    """Bug: a run without a launcher that nobody can repeat."""
    project.run("hydra/callbacks=mlxp")
    version = project.info(1)["version_manager"]
    assert (version["commit_hash"], version["snapshot"], version["dirty"]) == (project.commit_hash(), "commit", False)
    edit(project, "B")
    project.run("hydra/callbacks=mlxp")
    version = project.info(2)["version_manager"]
    assert (version["snapshot"], version["dirty"], version["head"]) == ("worktree", True, project.commit_hash())
    assert '"code": "B"' in git("show", f"{version['commit_hash']}:main.py", cwd=project.dir)
    assert '+    print(json.dumps({"code": "B"' in (project.logs / "2" / "metadata" / "uncommitted.diff").read_text()
    project.run("hydra/callbacks=mlxp", "hydra.callbacks.mlxp.snapshot=commit")
    version = project.info(3)["version_manager"]
    assert (version["snapshot"], version["dirty"], version["commit_hash"]) == ("none", True, project.commit_hash())
    project.run("hydra/callbacks=mlxp", "hydra.callbacks.mlxp.snapshot=none")
    assert "commit_hash" not in project.info(4)["version_manager"]
    assert not (project.logs / ".mlxp" / "code").exists()


def test_jobs_of_other_launchers_say_it_too(project: Project) -> None:
    """Bug: only the first job of a multirun knows its version; or git is asked for each."""
    edit(project, "B")
    project.run("-m", "hydra/callbacks=mlxp", "seed=1,2")
    first, second = (project.info(name)["version_manager"] for name in (1, 2))
    assert first["commit_hash"] == second["commit_hash"]
    assert first["snapshot"] == "worktree"


def test_a_run_records_the_packages_that_it_has_loaded(project: Project) -> None:
    """Bug: a guess from the imports in the source; a package that is imported late is missing; the standard library."""
    main = (
        (project.dir / "main.py")
        .read_text()
        .replace("    run = current_run()\n", "    run = current_run()\n    import filelock\n")
    )
    project.write(**{"main.py": main, "requirements.txt": "filelock\n"})
    project.commit()
    project.start_for_real()
    project.run(*WAIT, "seed=1")
    project.run("hydra/callbacks=mlxp")
    from importlib.metadata import distributions, version

    for name in (1, 2):
        loaded = project.info(name)["version_manager"]["requirements"]
        for package in ("hydra-core", "omegaconf", "PyYAML", "filelock", "hydra-mlxp"):
            assert f"{package}=={version(package)}" in loaded
        assert not [line for line in loaded if line.startswith(("polars", "pytest", "json", "GitPython"))]
        environment = read_yaml(project.logs / str(name) / "metadata" / "environment.yaml")
        everything = {f"{one.metadata['Name']}=={one.version}" for one in distributions()}
        assert set(environment["distributions"]) == everything
        # by sha256sum
        digest = subprocess.run(
            ["sha256sum", "requirements.txt"], cwd=project.dir, capture_output=True, text=True, check=True
        )
        assert environment["lock_files"] == {"requirements.txt": digest.stdout.split()[0]}


def test_code_goes_where_it_is_wanted(project: Project, tmp_path: Path) -> None:
    """Bug: hydra.launcher.code_dir that is read and not used; a diff that cannot be linked across file systems."""
    edit(project, "B")
    project.run(*WAIT, "seed=1", f"hydra.launcher.code_dir='{tmp_path}/my code'")
    assert project.said(1)["file"].startswith(f"{tmp_path}/my code/")
    assert not (project.logs / ".mlxp" / "code").exists()
    assert (project.logs / "1" / "metadata" / "uncommitted.diff").exists()

"""What running leaves in a work tree is told from code, by looking into it. With git, and no .gitignore."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support import git

from mlxp_core.versioning import run_output
from mlxp_core.versioning.capture import commit_work_tree
from mlxp_core.versioning.git import Repository, WorkTreeStatus, find_repository

COMMIT = "0123456789" * 4
# of one and the same directory, folded as YAML folds what is long
IN_PLACE = "hydra:\n  runtime:\n    cwd: /a/long\n      path\n    output_dir: /a/long path\n"
APART = "hydra:\n  runtime:\n    cwd: /a/long\n      path\n    output_dir: /a/long path/outputs\n"


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A repository with one file that nobody has changed, and no .gitignore."""
    top = tmp_path / "top"
    write(top, {"main.py": "", "pkg/known.py": ""})
    git("init", "--quiet", cwd=top)
    git("add", "--all", cwd=top)
    git("commit", "--quiet", "--message", "x", cwd=top)
    return find_repository(top)


def write(top: Path, files: dict[str, str]) -> None:
    """Put files in; a text that begins with -> is a link's."""
    for name, text in files.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if text.startswith("->"):
            path.symlink_to(text[2:])
        else:
            path.write_text(text)


def status(repository: Repository, log_dir: str = "logs") -> WorkTreeStatus:
    return repository.status(repository.top / log_dir, repository.top / "main.py")


RUN = "metadata/info.yaml"
LEFT = {
    "the log directory": {f"logs/1/{RUN}": "", "logs/.mlxp/last_id": "", "logs/multirun.yaml": "hydra:\n"},
    "the log directory, before its first run": {"logs/multirun.yaml": "hydra:\n"},
    "what programs put beside their runs": {"logs/tensorboard/events": "", "logs/notes.txt": ""},
    "another log directory": {f"old/1/{RUN}": "", "old/.mlxp/last_id": "", "old/slurm-7.out": "", "old/tb/x": ""},
    "one below a folder": {f"results/may/1/{RUN}": "", "results/may/.mlxp/last_id": ""},
    "one behind a link": {"more": "->../scratch", f"../scratch/1/{RUN}": "", "../scratch/.mlxp/last_id": ""},
    "one below a folder behind a link": {
        "more": "->../scratch",
        f"../scratch/a/1/{RUN}": "",
        "../scratch/a/.mlxp/x": "",
    },
    "runs alone": {f"results/1/{RUN}": "", f"results/baseline/{RUN}": "", "results/1/model.pt": ""},
    "one of an earlier version": {f"old/1/{RUN}": "", "old/.mlxp/submissions/1/job.sh": ""},
    "Hydra's runs": {"outputs/2026-01-01/12-00-00/.hydra/hydra.yaml": APART, "outputs/2026-01-01/12-00-00/a.png": ""},
    "Hydra's sweeps": {
        "multirun/2026-01-01/12-00-00/multirun.yaml": "hydra:\n",
        "multirun/2026-01-01/12-00-00/optimization_results.yaml": "name: optuna\n",
        "multirun/2026-01-01/12-00-00/0/.hydra/overrides.yaml": "",
    },
    "a run that keeps the program's source": {"outputs/x/.hydra/hydra.yaml": APART, "outputs/x/main.py": ""},
    "a run in the program's own directory": {
        ".hydra/hydra.yaml": IN_PLACE,
        "main.log": "",
        RUN: "",
        "metrics/train.json": "",
        "artifacts/x": "",
        "log.stdout": "",
        "script.sh": "",
    },
    "copies of the code": {f"copies/{COMMIT}/main.py": "", f"copies/{COMMIT}.diff": "", f"copies/.{COMMIT}.1.ab/x": ""},
    "a checkout that was moved": {
        "old/code/.mlxp-checkout.json": "{}",
        "old/code/main.py": "",
        "old/code/pkg/a.py": "",
    },
    "byte code": {"__pycache__/main.pyc": "", "gone/sub/__pycache__/x.pyc": ""},
}


@pytest.mark.parametrize("left", LEFT.values(), ids=LEFT)
def test_what_running_leaves_is_no_change(repository: Repository, left: dict[str, str]) -> None:
    """Bug: each launch asks about the results of the last, and `skip` computes all of it again, with results in it."""
    write(repository.top, left)
    found = status(repository)
    assert found.changes == ()
    assert commit_work_tree(repository, found.head, found.output) == found.head


@pytest.mark.parametrize("left", LEFT.values(), ids=LEFT)
def test_what_running_leaves_is_not_captured_with_what_has_changed(
    repository: Repository, left: dict[str, str]
) -> None:
    """Bug: copies of the code with copies and checkpoints in them."""
    write(repository.top, {**left, "new.py": "new"})
    found = status(repository)
    assert [str(change) for change in found.changes] == ["?? new.py"]
    captured = commit_work_tree(repository, found.head, found.output)
    assert git("ls-tree", "-r", "--name-only", captured, cwd=repository.top).split() == [
        "main.py",
        "new.py",
        "pkg/known.py",
    ]


CODE = {
    "a file": ({"new.py": ""}, ["?? new.py"]),
    "a folder, with its byte code": ({"new/a.py": "", "new/__pycache__/a.pyc": ""}, ["?? new/"]),
    "a folder named as what is left": ({"outputs/a.py": "", "multirun/b.py": "", "metadata/c": ""}, None),
    "a configuration named as Hydra's": ({"conf/multirun.yaml": "seed: 1\n"}, ["?? conf/"]),
    "data": ({"data/1/a": "", "data/2/b": ""}, ["?? data/"]),
    "a log": ({"main.log": ""}, ["?? main.log"]),
    "a link": ({"new": "->pkg", "self": "->.", "none": "->nowhere"}, ["?? new", "?? none", "?? self"]),
    "a link to data": ({"data": "->../data", "../data/a": ""}, ["?? data"]),
    "a link to data and runs": ({"data": "->../data", "../data/a": "", f"../data/1/{RUN}": ""}, ["?? data"]),
    "a folder with runs in it": (
        {"study/a.py": "", "study/sub/b.py": "", f"study/1/{RUN}": "", "study/out/x/.hydra/hydra.yaml": APART},
        ["?? study/a.py", "?? study/sub/"],
    ),
    "a folder with a log directory's files in it": (
        {"study/a.py": "", f"study/1/{RUN}": "", "study/.mlxp/last_id": ""},
        ["?? study/a.py"],
    ),
    "a project that ran in its own directory": (
        {"other/app.py": "", "other/.hydra/hydra.yaml": IN_PLACE, "other/conf/a.yaml": "", "other/app.log": ""},
        ["?? other/app.py", "?? other/conf/"],
    ),
}


@pytest.mark.parametrize(("files", "listed"), CODE.values(), ids=CODE)
def test_code_is_a_change_whatever_lies_around_it(
    repository: Repository, files: dict[str, str], listed: list[str] | None
) -> None:
    """Bug: the user's new file is taken for output, and the jobs run without it."""
    write(repository.top, files)
    found = status(repository)
    assert [str(change) for change in found.changes] == (
        listed or [f"?? {name.split('/')[0]}/" for name in sorted(files)]
    )
    captured = commit_work_tree(repository, found.head, found.output)
    kept = git("ls-tree", "-r", "--name-only", captured, cwd=repository.top).split()
    assert not [name for name in kept if ".hydra" in name or RUN in name or ".mlxp" in name]


@pytest.mark.parametrize("log_dir", [".", "..", "pkg", "pkg/.."])
def test_a_log_directory_that_holds_the_code_hides_none_of_it(repository: Repository, log_dir: str) -> None:
    """Bug: hydra.launcher.log_dir=. and every job runs the last commit, whatever has changed, without a word."""
    place = repository.top / log_dir
    write(place, {".mlxp/last_id": "", f"1/{RUN}": ""})
    write(repository.top, {"main.py": "changed", "pkg/known.py": "changed", "pkg/new.py": ""})
    found = repository.status(place, repository.top / "pkg" / "known.py")
    assert [str(change) for change in found.changes] == [" M main.py", " M pkg/known.py", "?? pkg/new.py"]


@pytest.mark.parametrize("name", ["model.py", "pkg/model.py", "plot.ipynb"])
def test_a_log_directory_in_which_git_knows_code_hides_no_change_of_it(repository: Repository, name: str) -> None:
    """Bug: hydra.launcher.log_dir=experiments, where the models are: each job runs the last commit, without a word."""
    run = {f"exp/1/{RUN}": "", "exp/.mlxp/last_id": "", "exp/1/saved.py": ""}
    write(repository.top, {f"exp/{name}": "", "exp/1/.hydra/hydra.yaml": APART, **run})
    git("add", "--all", cwd=repository.top)
    git("commit", "--quiet", "--message", "all", cwd=repository.top)
    write(repository.top, {f"exp/{name}": "changed", **dict.fromkeys(run, "changed"), f"exp/2/{RUN}": ""})
    found = status(repository, "exp")
    assert [str(change) for change in found.changes] == [f" M exp/{name}"]
    captured = commit_work_tree(repository, found.head, found.output)
    assert git("show", f"{captured}:exp/{name}", cwd=repository.top) == "changed"


def test_a_new_source_beside_the_runs_is_code(repository: Repository) -> None:
    """Bug: the model that was written into the log directory just now is not in the copy of the code."""
    write(repository.top, {"exp/new.py": "", f"exp/1/{RUN}": "", "exp/.mlxp/last_id": ""})
    assert [str(change) for change in status(repository, "exp").changes] == ["?? exp/new.py"]


def test_a_package_that_is_called_as_a_part_of_a_run_is_code(repository: Repository) -> None:
    """Bug: after a run with hydra.run.dir=. a new file of the user's own package `metrics` is not in the copy."""
    write(repository.top, {RUN: "", "metrics/accuracy.py": "", "metrics/train.json": "", "artifacts/x": ""})
    assert [str(change) for change in status(repository).changes] == ["?? metrics/"]


def test_what_git_knows_is_code_unless_a_run_has_written_it(repository: Repository) -> None:
    """Bug: results that are committed make each run a change; or what looks like Hydra's hides a change of the code."""
    tracked = {
        f"old/1/{RUN}": "",
        "old/.mlxp/last_id": "",
        "old/study.py": "",
        "src/.hydra/hydra.yaml": APART,
        "src/a.py": "",
    }
    write(repository.top, {**tracked, f"logs/1/{RUN}": "", "logs/README": ""})
    git("add", "--all", cwd=repository.top)
    git("commit", "--quiet", "--message", "all", cwd=repository.top)
    names = ["old/1/" + RUN, "old/.mlxp/last_id", "old/study.py", "src/a.py", "logs/1/" + RUN, "logs/README"]
    write(repository.top, dict.fromkeys(names, "changed"))
    assert [str(change) for change in status(repository).changes] == [" M old/study.py", " M src/a.py"]


def test_what_git_ignores_in_a_folder_that_is_split_stays_ignored(repository: Repository) -> None:
    """Bug: the weights that .gitignore names are a change, and captured, as soon as there is a run beside them."""
    write(repository.top, {".gitignore": "*.pt\n", "study/a.py": "", "study/a.pt": "", f"study/1/{RUN}": ""})
    assert [str(change) for change in status(repository).changes] == ["?? .gitignore", "?? study/a.py"]


def test_the_files_that_importing_leaves_in_a_submodule_are_no_change(
    repository: Repository, local_submodules: None
) -> None:
    """Bug: a library that is a submodule, without a .gitignore, is "modified" as soon as it has been imported."""
    library = repository.top.parent / "library"
    write(library, {"lib.py": ""})
    git("init", "--quiet", cwd=library)
    git("add", "--all", cwd=library)
    git("commit", "--quiet", "--message", "lib", cwd=library)
    git("submodule", "--quiet", "add", str(library), "lib", cwd=repository.top)
    git("commit", "--quiet", "--message", "lib", cwd=repository.top)
    write(repository.top, {"lib/__pycache__/lib.pyc": ""})
    assert status(repository).changes == ()
    write(repository.top, {"lib/new.py": ""})
    assert [str(change) for change in status(repository).changes] == [" M lib"]


def test_a_data_set_is_not_searched_to_its_end(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: a launch that takes minutes, for a million pictures that nobody has told git to ignore."""
    monkeypatch.setattr(run_output, "_MOST_ENTRIES", 30)
    write(repository.top, {f"data/{number:02}/x": "" for number in range(40)})
    looked: list[object] = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda place: looked.append(place) or scandir(place))
    assert [str(change) for change in status(repository).changes] == ["?? data/"]
    assert len(looked) < 5


@pytest.mark.parametrize(
    ("log_dir", "ignored", "left_out"),
    [
        ("logs", "", True),
        ("logs", "logs/", False),  # git knows
        ("deep/logs", "deep/", False),
        ("link/logs", "", True),
    ],
)
def test_a_log_directory_that_another_launch_is_about_to_fill_is_left_out(
    repository: Repository, log_dir: str, ignored: str, *, left_out: bool
) -> None:
    """Bug: of ten launches at once, one captures the folders of the others; or names git a path that it ignores."""
    write(
        repository.top, {".gitignore": f"{ignored}\n", "../link": "->top", **({f"{log_dir}/x": ""} if ignored else {})}
    )
    log_dir = f"../{log_dir}" if log_dir.startswith("link") else log_dir
    found = status(repository, log_dir)
    assert (repository.top / log_dir in found.output) is left_out
    write(repository.top / log_dir, {f"1/{RUN}": ""})
    captured = commit_work_tree(repository, found.head, found.output)
    assert RUN not in git("ls-tree", "-r", "--name-only", captured, cwd=repository.top)


def test_a_folder_that_cannot_be_read_is_a_change(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: PermissionError where git only lists it."""
    write(repository.top, {"new/a.py": ""})

    def refuse(_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "scandir", refuse)
    assert [str(change) for change in status(repository).changes] == ["?? new/"]

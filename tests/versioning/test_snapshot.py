"""The code that jobs run: HEAD, whole, once, and nothing of the user's touched."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support import PATIENCE, Project, git, until

from mlxp_core.errors import SnapshotError
from mlxp_core.runs.code_version import SnapshotMode
from mlxp_core.runs.layout import LogDir
from mlxp_core.versioning import export, snapshot
from mlxp_core.versioning.git import FileChange, WorkTreeStatus
from mlxp_core.versioning.snapshot import (
    Decision,
    FrozenCode,
    OnChanges,
    SnapshotOptions,
    WorkTreeVersion,
    _decide,
    freeze_code,
)


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A repository with what a copy may lose: modes, links, odd names, attributes."""
    top = tmp_path / "re po"
    (top / "sub dir").mkdir(parents=True)
    (top / "main.py").write_text("A")
    (top / "sub dir" / "ünï\tname").write_text("x")
    (top / "run.sh").write_text("#!/bin/sh\n")
    (top / "run.sh").chmod(0o755)
    (top / "link").symlink_to("main.py")
    (top / "kept.txt").write_text("kept")
    (top / ".gitattributes").write_text("kept.txt export-ignore\n")
    (top / ".gitignore").write_text("ignored\n")
    git("init", "--quiet", cwd=top)
    git("add", "--all", cwd=top)
    git("commit", "--quiet", "--message", "A", cwd=top)
    return top


def test_the_copy_is_the_commit_and_not_the_work_tree(repo: Path) -> None:
    """Bug: changes that nobody committed run, or files that git archive leaves out are missing."""
    commit = git("rev-parse", "HEAD", cwd=repo)
    (repo / "main.py").write_text("B")
    (repo / "new.py").write_text("new")
    (repo / "ignored").write_text("ignored")
    code = freeze_code(repo / "main.py", LogDir(repo / "logs"), SnapshotOptions(SnapshotMode.COMMIT))
    assert code.version.commit == commit
    assert code.copy == repo / "logs" / ".mlxp" / "code" / commit
    assert (code.copy / "main.py").read_text() == "A"
    assert (code.copy / "kept.txt").read_text() == "kept"
    assert (code.copy / "sub dir" / "ünï\tname").read_text() == "x"
    assert os.access(code.copy / "run.sh", os.X_OK)
    assert os.readlink(code.copy / "link") == "main.py"
    assert not (code.copy / "new.py").exists()
    assert not (code.copy / ".git").exists()


def test_what_is_not_committed_is_listed_and_the_log_directory_is_no_part_of_it(repo: Path) -> None:
    """Bug: a dirty tree that nobody hears of; or `?? logs/` at every launch."""
    (repo / "main.py").write_text("B")
    (repo / "new file.py").write_text("new")
    (repo / "logs" / "1").mkdir(parents=True)
    (repo / "logs" / "1" / "x").touch()
    git("mv", "kept.txt", "renamed.txt", cwd=repo)
    code = freeze_code(repo / "main.py", LogDir(repo / "logs"))
    assert sorted(map(str, code.version.changes)) == [" M main.py", "?? new file.py", "R  renamed.txt"]


def test_the_users_index_branch_and_files_stay_as_they_are(repo: Path) -> None:
    """Bug: git stash, git add, a checkout in the user's own tree."""
    (repo / "main.py").write_text("staged")
    git("add", "main.py", cwd=repo)
    (repo / "main.py").write_text("changed again")
    index = (repo / ".git" / "index").read_bytes()
    status, refs = git("status", "--porcelain", cwd=repo), git("for-each-ref", cwd=repo)
    freeze_code(repo / "main.py", LogDir(repo.parent / "logs"), SnapshotOptions(SnapshotMode.COMMIT))
    assert (repo / ".git" / "index").read_bytes() == index
    assert (git("status", "--porcelain", cwd=repo), git("for-each-ref", cwd=repo)) == (status, refs)


def test_taking_a_snapshot_runs_no_hook_and_leaves_the_index_alone(repo: Path) -> None:
    """Bug: `git status` refreshes the index, `read-tree` runs post-index-change."""
    hook = repo / ".git" / "hooks" / "post-index-change"
    hook.write_text(f"#!/bin/sh\ntouch '{repo}/hook ran'\n")
    hook.chmod(0o755)
    os.utime(repo / "main.py")  # what makes git want to refresh its index
    before = (repo / ".git" / "index").stat().st_mtime_ns
    freeze_code(repo / "main.py", LogDir(repo / "logs"))
    assert (repo / ".git" / "index").stat().st_mtime_ns == before
    assert not (repo / "hook ran").exists()


def test_a_commit_is_copied_once(repo: Path) -> None:
    """Bug: a copy for each launch."""
    logs = LogDir(repo / "logs")
    first = freeze_code(repo / "main.py", logs)
    (first.copy / "mark").touch()
    assert freeze_code(repo / "main.py", logs).copy == first.copy
    assert (first.copy / "mark").exists()
    assert sorted(os.listdir(logs.code)) == [first.version.commit, f"{first.version.commit}.json"]


RACER = """
import sys
from pathlib import Path
from mlxp_core.runs.code_version import SnapshotMode
from mlxp_core.runs.layout import LogDir
from mlxp_core.versioning.snapshot import SnapshotOptions, freeze_code
sys.stdin.readline()
top, options = Path(sys.argv[1]), SnapshotOptions(SnapshotMode(sys.argv[2]))
code = freeze_code(top / "main.py", LogDir(top / "logs"), options)
print((code.copy / "main.py").read_text(), len(list(code.copy.iterdir())))
"""


@pytest.mark.parametrize("wish", ["commit", "worktree"])
def test_launches_that_race_all_get_the_same_whole_copy(repo: Path, wish: str) -> None:
    """Bug: rename onto a folder that another has just published; a half copy taken for a whole one; a locked ref."""
    if wish == "worktree":
        (repo / "main.py").write_text("B")
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(repo), wish], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(10)
    ]
    for racer in racers:
        assert racer.stdin
        racer.stdin.write("go\n")
        racer.stdin.flush()
    answers = [racer.communicate(timeout=PATIENCE)[0].strip() for racer in racers]
    # seven names, and a place for byte code
    assert answers == ["A 8" if wish == "commit" else "B 8"] * 10
    copies = [name for name in os.listdir(repo / "logs" / ".mlxp" / "code") if not name.endswith((".diff", ".json"))]
    assert len(copies) == 1


def test_what_a_killed_launch_left_is_not_taken_for_a_copy(repo: Path) -> None:
    """Bug of MLXP 1.0.5: an interrupted clone is a complete copy ever after."""
    logs = LogDir(repo / "logs")
    commit = git("rev-parse", "HEAD", cwd=repo)
    half = logs.code / f".{commit}.4711.deadbeef"
    half.mkdir(parents=True)
    (half / "main.py").write_text("half")
    assert (freeze_code(repo / "main.py", logs).copy / "main.py").read_text() == "A"


HOLD = """#!/bin/sh
# a filter that lets nothing through before it is told to
echo $$ >>'{0}/held'
until [ -e '{0}/go' ]; do sleep 0.05; done
exec cat
"""


@pytest.mark.parametrize("whole_group", [False, True], ids=["the launch alone", "the launch and its git"])
def test_a_launch_that_is_killed_while_it_copies_leaves_nothing_that_is_taken_for_whole(
    project: Project, tmp_path: Path, *, whole_group: bool
) -> None:
    """Bug of MLXP 1.0.5: the next launch runs from half a clone. The git of a launch that is killed alone goes on."""
    local = ("-m", "hydra/launcher=mlxp_local", "seed=1")
    files = {f"many/{number}.txt": f"{number}\n" for number in range(100)}
    project.write(**files, **{".gitattributes": "many/50.txt filter=hold\n"})
    script = tmp_path / "hold.sh"
    script.write_text(HOLD.format(tmp_path))
    script.chmod(0o755)
    commit = project.commit("many")
    git("config", "filter.hold.smudge", f"'{script}'", cwd=project.dir)
    place = project.logs / ".mlxp" / "code"
    launch = project.start(*local, new_session=True)
    until((tmp_path / "held").exists)
    if whole_group:
        os.killpg(launch.pid, signal.SIGKILL)
    else:
        launch.kill()
    _, err = launch.communicate()
    assert launch.returncode == -signal.SIGKILL, err
    assert not (place / commit).exists()
    halves = list(place.glob(f".{commit}.*"))
    assert any(half.is_dir() for half in halves)
    (tmp_path / "go").touch()
    project.run(*local, "hydra.launcher.wait=true")
    copy = place / commit
    assert {f"many/{path.name}": path.read_text() for path in (copy / "many").iterdir()} == files
    assert project.said(1)["file"] == str(copy / "main.py")


def test_a_place_in_the_work_tree_is_found_in_the_copy(repo: Path) -> None:
    """Bug: a job that starts in the repository's top although it was launched from a folder of it."""
    code = freeze_code(repo / "main.py", LogDir(repo / "logs"))
    assert code.map_path(repo / "sub dir") == code.copy / "sub dir"
    assert code.map_path(Path("/elsewhere/x")) == Path("/elsewhere/x")


def test_without_a_repository_or_a_commit_the_error_says_what_to_do(tmp_path: Path) -> None:
    """Bug: InvalidGitRepositoryError, or jobs that run whatever is there."""
    (tmp_path / "main.py").touch()
    with pytest.raises(SnapshotError, match=r"(?s)no git repository.*git init.*snapshot=none"):
        freeze_code(tmp_path / "main.py", LogDir(tmp_path / "logs"), SnapshotOptions(SnapshotMode.COMMIT))
    git("init", "--quiet", cwd=tmp_path)
    with pytest.raises(SnapshotError, match=r"(?s)no commit yet.*snapshot=none"):
        freeze_code(tmp_path / "main.py", LogDir(tmp_path / "logs"), SnapshotOptions(SnapshotMode.COMMIT))


def test_without_the_program_git_the_error_says_so(tmp_path: Path) -> None:
    """Bug: ImportError: Bad git executable, with a page of advice on GitPython."""
    program = (
        "from pathlib import Path; from mlxp_core.runs.layout import LogDir\n"
        "from mlxp_core.versioning.snapshot import freeze_code\n"
        "try: freeze_code(Path('main.py'), LogDir(Path('logs')))\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    environment = {**os.environ, "PATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(
        "SnapshotError the code of main.py cannot be frozen: there is no program git: install"
    )


def test_a_program_that_is_not_committed_is_refused_before_its_jobs_fail(repo: Path) -> None:
    """Bug: a sweep of `python: can't open file`."""
    (repo / "new.py").touch()
    with pytest.raises(SnapshotError, match=r"new\.py is not in the version"):
        freeze_code(repo / "new.py", LogDir(repo / "logs"), SnapshotOptions(SnapshotMode.COMMIT))


def test_too_many_untracked_files_are_refused_by_the_names_of_the_largest(
    repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: a data set is copied for each version; or a list of ten thousand names, the smallest first."""
    monkeypatch.setattr(snapshot, "_MOST_UNTRACKED", 1 << 20)
    for number in range(1, 7):
        (repo / f"{number}.bin").write_bytes(b"x" * number * 1000)
    folder = repo / "data"
    folder.mkdir()
    for number in range(3):
        (folder / str(number)).write_bytes(b"x" * 400_000)
    with pytest.raises(SnapshotError, match=r"more than 1 MiB .*: data/, 6\.bin, 5\.bin, 4\.bin, 3\.bin\. Name them"):
        freeze_code(repo / "main.py", LogDir(repo / "logs"))
    (folder / "2").unlink()
    assert freeze_code(repo / "main.py", LogDir(repo / "logs")).version.snapshot is SnapshotMode.WORKTREE


def test_a_linked_work_tree_is_a_repository_too(repo: Path, tmp_path: Path) -> None:
    """Bug: .git is a file there; HEAD of the main work tree is taken."""
    git("worktree", "add", "--quiet", "-b", "side", str(tmp_path / "side"), cwd=repo)
    (tmp_path / "side" / "main.py").write_text("side")
    git("commit", "--quiet", "--all", "--message", "side", cwd=tmp_path / "side")
    code = freeze_code(tmp_path / "side" / "main.py", LogDir(tmp_path / "side" / "logs"))
    assert (code.copy / "main.py").read_text() == "side"
    assert (repo / "main.py").read_text() == "A"


def frozen(repo: Path, copy: Path) -> FrozenCode:
    version = WorkTreeVersion(repo, "c" * 40, SnapshotMode.COMMIT, "c" * 40, "main", ())
    return FrozenCode(version, copy)


@pytest.mark.parametrize(
    ("path", "mapped"),
    [
        ("repo", "copy"),
        ("repo/main.py", "copy/main.py"),
        ("repo/a/../main.py", "copy/main.py"),
        ("repo/../data", "data"),  # beside it, however it is spelt
        ("repo/../repo/main.py", "copy/main.py"),
        ("repo/../repository", "repository"),
        ("repository/x", "repository/x"),
        ("other", "other"),
        ("home/main.py", "copy/main.py"),  # a link to the repository
        ("home/pkg/x", "copy/pkg/x"),
        ("repo/link", "copy/link"),  # one that is committed, to what is outside
        ("home/link", "copy/link"),
        ("repo/link/x", "copy/link/x"),
        ("data/to repo", "data/to repo"),  # a link from outside, which may lead elsewhere tomorrow
    ],
)
def test_a_path_is_mapped_by_where_it_leads(tmp_path: Path, path: str, mapped: str) -> None:
    """Bug: `repo/../data` read from <copy>/../data, where nothing is; a sister folder taken for a part of the code."""
    for folder in ("repo/a", "repo/pkg", "data", "other", "repository"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "home").symlink_to("repo")
    (tmp_path / "repo" / "link").symlink_to("../data")
    (tmp_path / "data" / "to repo").symlink_to("../repo")
    assert frozen(tmp_path / "repo", tmp_path / "copy").map_path(tmp_path / path) == tmp_path / mapped


def test_a_relative_path_is_one_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: a relative path that no job can have, whose directory is another; a repository that is reached by a link."""
    (tmp_path / "repo" / "a").mkdir(parents=True)
    (tmp_path / "home").symlink_to("repo")
    monkeypatch.chdir(tmp_path / "repo" / "a")
    copy = tmp_path / "copy"
    for repo in ("repo", "home"):
        code = frozen(tmp_path / repo, copy)
        assert code.map_path(Path()) == copy / "a"
        assert code.map_path(Path("../main.py")) == copy / "main.py"
        assert code.map_path(Path("../../data")) == tmp_path / "data"
        assert code.map_path(tmp_path / "repo" / "x") == copy / "x"


def test_nobody_can_change_files_of_a_copy_and_it_can_be_removed(tmp_path: Path) -> None:
    """Bug: the group, or everybody, may change what jobs run; folders without the right to write stop `rm -rf`."""
    top = tmp_path / "copy"
    (top / "pkg" / "data").mkdir(parents=True)
    (top / "data" / "__pycache__").mkdir(parents=True)  # one that is committed
    for name, mode in (("pkg/a.py", 0o666), ("pkg/run.sh", 0o777), ("pkg/data/x", 0o622), ("secret", 0o640)):
        (top / name).write_text("x")
        (top / name).chmod(mode)
    (tmp_path / "outside").write_text("x")
    (tmp_path / "outside").chmod(0o666)
    (top / "link").symlink_to("../outside")
    for folder in (top / "pkg" / "data", top / "pkg", top / "data", top):
        folder.chmod(0o777)
    export._make_read_only(top)
    modes = {str(path.relative_to(tmp_path)): path.lstat().st_mode & 0o777 for path in top.rglob("*")}
    modes.pop("copy/link")
    caches = {name: modes.pop(name) for name in sorted(modes) if name.endswith("__pycache__")}
    assert list(caches) == ["copy/data/__pycache__", "copy/pkg/__pycache__"]  # Python's, beside what it compiles
    assert all(mode & 0o200 for mode in caches.values())
    assert modes == {
        "copy/data": 0o755,
        "copy/pkg": 0o755,
        "copy/pkg/data": 0o755,
        "copy/pkg/a.py": 0o444,
        "copy/pkg/run.sh": 0o555,
        "copy/pkg/data/x": 0o400,
        "copy/secret": 0o440,
    }
    assert top.lstat().st_mode & 0o777 == 0o755
    assert (tmp_path / "outside").stat().st_mode & 0o777 == 0o666
    export.remove_tree(top)
    assert sorted(os.listdir(tmp_path)) == ["outside"]
    export.remove_tree(top)


CHANGED = WorkTreeStatus("f" * 40, "main", (FileChange(" M", "main.py"),), ())
CLEAN = WorkTreeStatus("f" * 40, "main", (), ())
ASKED = Decision(OnChanges.COMMIT, ("main.py",), "asked")


@pytest.mark.parametrize(
    ("snapshot", "on_changes", "status", "is_asked", "decision"),
    [
        ("auto", "ask", CLEAN, True, Decision(OnChanges.IGNORE)),
        ("auto", "capture", CLEAN, True, Decision(OnChanges.IGNORE)),
        ("auto", "ask", CHANGED, True, ASKED),
        ("auto", "ask", CHANGED, False, Decision(OnChanges.CAPTURE)),
        ("auto", "stop", CHANGED, True, Decision(OnChanges.STOP, ("a",), "given")),
        ("auto", "commit", CHANGED, True, Decision(OnChanges.COMMIT, ("a",), "given")),
        ("commit", "stop", CHANGED, True, Decision(OnChanges.IGNORE)),
        ("commit", "ask", CLEAN, True, Decision(OnChanges.IGNORE)),
        ("worktree", "stop", CHANGED, True, Decision(OnChanges.CAPTURE)),
        ("worktree", "ask", CLEAN, True, Decision(OnChanges.CAPTURE)),
    ],
)
def test_who_decides_which_code_is_run(
    snapshot: str, on_changes: str, status: WorkTreeStatus, *, is_asked: bool, decision: Decision
) -> None:
    """Bug: a question where nothing has changed, or none where the user wants to be asked."""
    options = SnapshotOptions.parse("x", snapshot=snapshot, on_changes=on_changes, files=["a"], message="given")
    ask = (lambda *_: ASKED) if is_asked else None
    assert _decide(None, status, options, ask) == decision  # type: ignore[arg-type]

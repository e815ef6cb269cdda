"""The work tree as it is: captured exactly, and nothing of the user's touched. Real repositories, real git."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import git

from mlxp_core.errors import SnapshotError
from mlxp_core.runs.code_version import SnapshotMode
from mlxp_core.runs.layout import LogDir
from mlxp_core.versioning.snapshot import FrozenCode, SnapshotOptions, freeze_code


@pytest.fixture(autouse=True)
def files_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Git takes no submodule from a local path unless it is told to (CVE-2022-39253)."""
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "protocol.file.allow")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "always")


def make(top: Path, **files: str) -> Path:
    """A repository with one commit of these files."""
    top.mkdir(parents=True)
    git("init", "--quiet", cwd=top)
    write(top, **files)
    commit(top)
    return top


def write(top: Path, **files: str) -> None:
    for name, text in files.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def commit(top: Path) -> str:
    git("add", "--all", cwd=top)
    git("commit", "--quiet", "--message", "x", cwd=top)
    return git("rev-parse", "HEAD", cwd=top)


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return make(tmp_path / "re po", **{"main.py": "A", "lib/a.py": "a", "gone.txt": "gone", ".gitignore": "ignored\n"})


def freeze(top: Path, wish: str = "worktree", **more: object) -> FrozenCode:
    return freeze_code(top / "main.py", LogDir(top / "logs"), SnapshotOptions(SnapshotMode(wish), **more))  # type: ignore[arg-type]


def tree(folder: Path) -> dict[str, str]:
    """What lies in a folder: content, link or mode of each file; byte code aside."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if ".git" in path.parts or "__pycache__" in path.parts or name.split("/", maxsplit=1)[0] == "logs":
            continue
        if path.is_symlink():
            found[name] = f"-> {os.readlink(path)}"
        elif path.is_file():
            executable = "x" if path.stat().st_mode & 0o100 else "-"
            found[name] = f"{executable} {hashlib.sha256(path.read_bytes()).hexdigest()}"
    return found


def test_a_changed_work_tree_is_captured_exactly(repo: Path) -> None:
    """Bug: a file that is missing, an old one that is still there, a lost mode or link; staged instead of present."""
    (repo / "gone.txt").unlink()
    write(repo, **{"main.py": "staged", "new dir/ünï\tname": "new", "ignored": "ignored", "empty": ""})
    git("add", "main.py", cwd=repo)
    write(repo, **{"main.py": "after it was staged"})
    (repo / "run.sh").write_bytes(b"#!/bin/sh\n\xff\0")
    (repo / "run.sh").chmod(0o755)
    (repo / "link").symlink_to("lib")
    (repo / os.fsdecode(b"no utf-8 \xff")).write_text("x")
    (repo / "logs" / "1").mkdir(parents=True)
    (repo / "logs" / "1" / "output").touch()
    code = freeze(repo)
    expected = tree(repo)
    del expected["ignored"]
    assert tree(code.copy) == expected
    assert not (code.copy / "logs").exists()
    assert code.version.snapshot == "worktree"
    assert code.version.excluded_changes == ()


def test_branch_index_files_and_their_times_stay_as_they_are(repo: Path) -> None:
    """Bug: git add or git stash in the user's own tree."""
    write(repo, **{"main.py": "staged"})
    git("add", "main.py", cwd=repo)
    write(repo, **{"main.py": "changed", "new": "x"})

    def state() -> list[object]:
        # not git status, which would write the index itself
        times = {str(path): path.lstat().st_mtime_ns for path in repo.rglob("*") if ".git" not in path.parts}
        files = (repo / ".git" / "index", repo / ".git" / "HEAD", repo / ".git" / "config")
        own = [(path.read_bytes(), path.stat().st_mtime_ns) for path in files]
        return [own, times, git("for-each-ref", "refs/heads", cwd=repo), git("stash", "list", cwd=repo)]

    before = state()
    code = freeze_code(repo / "main.py", LogDir(repo.parent / "logs"), SnapshotOptions(SnapshotMode.WORKTREE))
    assert state() == before
    assert git("for-each-ref", "--format=%(refname)", "refs/mlxp", cwd=repo) == f"refs/mlxp/{code.version.commit}"


def test_git_keeps_what_was_captured(repo: Path) -> None:
    """Bug: gc takes the only trace of what a run ran."""
    write(repo, **{"main.py": "changed"})
    captured = freeze(repo).version.commit
    write(repo, **{"main.py": "changed again"})
    git("gc", "--quiet", "--prune=now", cwd=repo)
    assert git("show", f"{captured}:main.py", cwd=repo) == "changed"
    assert git("rev-parse", f"{captured}^", cwd=repo) == git("rev-parse", "HEAD", cwd=repo)


def test_the_same_files_are_the_same_version_again(repo: Path) -> None:
    """Bug: a copy for each launch; or one that is taken for another's."""
    write(repo, **{"main.py": "one"})
    first = freeze(repo)
    write(repo, **{"main.py": "two"})
    second = freeze(repo)
    write(repo, **{"main.py": "one"})
    assert freeze(repo).copy == first.copy != second.copy
    assert [(code.copy / "main.py").read_text() for code in (first, second)] == ["one", "two"]


def test_a_clean_work_tree_is_its_commit(repo: Path) -> None:
    """Bug: a captured commit beside each commit; or no trace that the tree was clean."""
    os.utime(repo / "main.py")
    (repo / "logs").mkdir()
    write(repo / "logs", **{"1/x": "x"})
    for wish in ("worktree", "auto"):
        version = freeze(repo, wish).version
        assert version.commit == git("rev-parse", "HEAD", cwd=repo)
        assert (version.snapshot, version.recorded.dirty) == ("commit", False)
    assert git("for-each-ref", "refs/mlxp", cwd=repo) == ""


def test_the_diff_says_what_the_version_changes(repo: Path) -> None:
    """Bug: a diff of what is staged alone; new files that are not in it; one that git cannot apply."""
    write(repo, **{"main.py": "B\n", "new.txt": "new\n"})
    git("config", "diff.noprefix", "true", cwd=repo)
    code = freeze(repo)
    assert code.diff is not None
    clean = repo.parent / "clean"
    git("clone", "--quiet", str(repo), str(clean), cwd=repo.parent)
    git("apply", str(code.diff), cwd=clean)
    assert tree(clean) == tree(repo)


def test_what_git_was_told_not_to_look_at_is_a_change_as_well(repo: Path) -> None:
    """Bug: `update-index --assume-unchanged conf.yaml`: jobs run the committed one, and nobody is told."""
    git("update-index", "--assume-unchanged", "lib/a.py", cwd=repo)
    assert freeze(repo, "auto").version.changes == ()
    write(repo, **{"lib/a.py": "local"})
    code = freeze(repo, "auto")
    assert [str(change) for change in code.version.changes] == [" M lib/a.py"]
    assert (code.copy / "lib" / "a.py").read_text() == "local"
    assert git("ls-files", "-v", "lib/a.py", cwd=repo) == "h lib/a.py"


def test_before_the_first_commit_there_is_a_work_tree(tmp_path: Path) -> None:
    """Bug: `fatal: ambiguous argument HEAD`."""
    top = tmp_path / "new"
    top.mkdir()
    git("init", "--quiet", cwd=top)
    write(top, **{"main.py": "A"})
    code = freeze(top, "auto")
    assert (code.copy / "main.py").read_text() == "A"
    assert (code.version.head, code.version.recorded.dirty) == (None, True)
    assert "+A" in code.diff.read_text() if code.diff else False
    with pytest.raises(SnapshotError, match="no commit yet"):
        freeze(top, "commit")


def test_a_detached_head_is_named_by_its_commit(repo: Path) -> None:
    """Bug: an error for a HEAD that is no branch, or its hash for a branch."""
    git("checkout", "--quiet", "--detach", cwd=repo)
    version = freeze(repo, "auto").version
    assert (version.branch, version.commit) == (None, git("rev-parse", "HEAD", cwd=repo))


def test_a_conflict_runs_as_it_stands_in_the_files(repo: Path) -> None:
    """Bug: `error: you need to resolve your current index first`."""
    git("checkout", "--quiet", "-b", "other", cwd=repo)
    write(repo, **{"main.py": "other"})
    commit(repo)
    git("checkout", "--quiet", "-", cwd=repo)
    write(repo, **{"main.py": "mine"})
    commit(repo)
    with pytest.raises(subprocess.CalledProcessError):
        git("merge", "--quiet", "other", cwd=repo)
    assert "<<<<<<<" in (freeze(repo).copy / "main.py").read_text()


@pytest.fixture
def nested(repo: Path, tmp_path: Path) -> Path:
    """A repository with a submodule in a folder, which has a submodule itself."""
    inner = make(tmp_path / "inner", **{"deep.py": "deep"})
    outer = make(tmp_path / "outer", **{"lib.py": "lib", ".gitignore": "ignored\n"})
    git("submodule", "--quiet", "add", str(inner), "inner", cwd=outer)
    commit(outer)
    git("submodule", "--quiet", "add", str(outer), "third party/outer", cwd=repo)
    git("submodule", "--quiet", "update", "--init", "--recursive", cwd=repo)
    commit(repo)
    return repo


def test_submodules_are_copied_at_their_commits(nested: Path) -> None:
    """Bug: empty folders, and ImportError on the cluster; or what is checked out there, and not what was committed."""
    outer = nested / "third party" / "outer"
    recorded = tree(nested)
    write(outer, **{"lib.py": "moved on"})
    commit(outer)
    assert tree(freeze(nested, "commit").copy) == recorded


def test_changes_in_submodules_are_captured_with_them(nested: Path) -> None:
    """Bug: `git add` takes the submodule's last commit, whatever its files say."""
    outer = nested / "third party" / "outer"
    write(outer, **{"lib.py": "changed", "new.py": "new", "ignored": "x"})
    write(outer / "inner", **{"deep.py": "changed too"})
    refs = git("for-each-ref", "refs/heads", cwd=outer)
    code = freeze(nested, "auto")
    expected = tree(nested)
    del expected["third party/outer/ignored"]
    assert tree(code.copy) == expected
    assert git("for-each-ref", "refs/heads", cwd=outer) == refs
    assert git("status", "--porcelain", cwd=outer / "inner") == "M deep.py"
    git("gc", "--quiet", "--prune=now", cwd=outer)
    write(outer, **{"lib.py": "later"})
    assert freeze(nested, "auto").copy != code.copy


def test_a_submodule_that_is_not_there_is_empty_here_as_well(nested: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Bug: git finds the repository around it, and fills the folder with that one's files."""
    git("submodule", "--quiet", "deinit", "--force", "--all", cwd=nested)
    code = freeze(nested, "auto")
    assert list((code.copy / "third party" / "outer").iterdir()) == []
    assert "third party/outer" in caplog.text


def test_a_submodule_without_its_commit_is_an_error_that_says_what_to_do(nested: Path, tmp_path: Path) -> None:
    """Bug: an empty folder for a commit that was never fetched."""
    other = make(tmp_path / "elsewhere", x="x")
    missing = commit_of = git("rev-parse", "HEAD", cwd=other)
    git("update-index", "--cacheinfo", f"160000,{commit_of},third party/outer", cwd=nested)
    git("commit", "--quiet", "--message", "moved", cwd=nested)
    with pytest.raises(SnapshotError, match=rf"{missing[:10]}: git submodule update --init"):
        freeze(nested, "commit")


def test_a_clone_within_the_work_tree_is_captured_as_well(repo: Path) -> None:
    """Bug: a repository that nobody declared as a submodule is an empty folder in the copy."""
    make(repo / "clone", **{"x.py": "x"})
    write(repo / "clone", **{"x.py": "changed"})
    assert (freeze(repo).copy / "clone" / "x.py").read_text() == "changed"
    make(repo / "second", y="y")
    (repo / "third").mkdir()
    git("init", "--quiet", cwd=repo / "third")
    write(repo / "third", z="z")
    with pytest.raises(SnapshotError, match="no commit yet, and git cannot add it"):
        freeze(repo)


def test_files_behind_a_filter_arrive_whole_and_stay_small_in_git(repo: Path, tmp_path: Path) -> None:
    """Bug: pointers instead of the files that git LFS stands for; or the large files themselves in the repository.

    LFS is two commands, clean and smudge, of which these are the smallest: what is stored is a hash.
    """
    store = tmp_path / "store"
    store.mkdir()
    clean = tmp_path / "clean.sh"
    clean.write_text(
        f"#!/bin/sh\ncat >'{store}/new'\nname=$(sha256sum <'{store}/new' | cut -c1-64)\n"
        f"mv '{store}/new' '{store}/'$name\necho $name\n"
    )
    smudge = tmp_path / "smudge.sh"
    smudge.write_text(f"#!/bin/sh\nread -r name\ncat '{store}/'$name\n")
    git("config", "filter.large.clean", f"sh '{clean}'", cwd=repo)
    git("config", "filter.large.smudge", f"sh '{smudge}'", cwd=repo)
    git("config", "filter.large.required", "true", cwd=repo)
    write(repo, **{".gitattributes": "*.bin filter=large\n", "weights.bin": "w" * 10_000})
    commit(repo)
    assert len(git("show", "HEAD:weights.bin", cwd=repo)) == 64
    assert (freeze(repo, "commit").copy / "weights.bin").read_text() == "w" * 10_000
    write(repo, **{"weights.bin": "v" * 10_000})
    code = freeze(repo)
    assert (code.copy / "weights.bin").read_text() == "v" * 10_000
    assert len(git("show", f"{code.version.commit}:weights.bin", cwd=repo)) == 64


@pytest.mark.skipif(
    shutil.which("git-lfs") is None and os.environ.get("CI") != "true", reason="git-lfs is not installed; CI has it"
)
def test_files_of_git_lfs_arrive_whole(repo: Path) -> None:
    """Bug: as above, with the real one: `version https://git-lfs.github.com/spec/v1` where a model is expected."""
    git("lfs", "install", "--local", cwd=repo)
    git("lfs", "track", "*.bin", cwd=repo)
    write(repo, **{"weights.bin": "w" * 10_000})
    commit(repo)
    assert git("show", "HEAD:weights.bin", cwd=repo).startswith("version https://git-lfs")
    assert (freeze(repo, "commit").copy / "weights.bin").read_text() == "w" * 10_000
    write(repo, **{"weights.bin": "v" * 10_000})
    code = freeze(repo)
    assert (code.copy / "weights.bin").read_text() == "v" * 10_000
    assert git("show", f"{code.version.commit}:weights.bin", cwd=repo).startswith("version https://git-lfs")


def test_a_shallow_clone_and_a_linked_work_tree_are_captured(repo: Path, tmp_path: Path) -> None:
    """Bug: commits that are not there are asked for; .git that is a file; the index of the main work tree."""
    write(repo, **{"main.py": "second"})
    commit(repo)
    shallow = tmp_path / "shallow"
    git("clone", "--quiet", "--depth=1", repo.as_uri(), str(shallow), cwd=tmp_path)
    linked = tmp_path / "linked"
    git("worktree", "add", "--quiet", "-b", "side", str(linked), cwd=repo)
    for top in (shallow, linked):
        write(top, **{"main.py": f"in {top.name}"})
        assert (freeze(top).copy / "main.py").read_text() == f"in {top.name}"
    assert (repo / "main.py").read_text() == "second"


def test_variables_of_a_hook_do_not_lead_to_another_repository(repo: Path, tmp_path: Path) -> None:
    """Bug: a launch from within a git hook or alias captures the repository of GIT_DIR, into its index."""
    other = make(tmp_path / "other", **{"main.py": "other"})
    index = (other / ".git" / "index").read_bytes()
    program = (
        "import sys; from pathlib import Path; from mlxp_core.runs.layout import LogDir\n"
        "from mlxp_core.runs.code_version import SnapshotMode\n"
        "from mlxp_core.versioning.snapshot import SnapshotOptions, freeze_code\n"
        "top = Path(sys.argv[1])\n"
        "print(freeze_code(top / 'main.py', LogDir(top / 'logs'), SnapshotOptions(SnapshotMode.WORKTREE)).copy)"
    )
    write(repo, **{"main.py": "changed"})
    local = {"GIT_DIR": str(other / ".git"), "GIT_WORK_TREE": str(other), "GIT_INDEX_FILE": str(other / ".git/index")}
    command = [sys.executable, "-c", program, str(repo)]
    done = subprocess.run(command, env={**os.environ, **local}, capture_output=True, text=True, check=True)
    assert (Path(done.stdout.strip()) / "main.py").read_text() == "changed"
    assert (other / ".git" / "index").read_bytes() == index


def test_so_much_that_nobody_calls_it_code_is_refused_unless_it_is_asked_for(repo: Path) -> None:
    """Bug: a dataset that was forgotten in .gitignore is copied into git, and once more for each version."""
    (repo / "data").mkdir()
    with (repo / "data" / "large.bin").open("wb") as file:
        file.truncate(201 << 20)  # sparse
    with pytest.raises(SnapshotError, match=r"200 MiB of untracked files.*data/.*\.gitignore"):
        freeze(repo, "auto")
    assert not (repo / "logs" / ".mlxp" / "code").exists()
    write(repo, **{".gitignore": "data\n"})
    assert not (freeze(repo, "auto").copy / "data").exists()


def test_a_hook_of_the_users_does_not_run_when_nothing_is_committed(repo: Path) -> None:
    """Bug: pre-commit, post-checkout or reference-transaction hooks that run for a copy."""
    for name in ("pre-commit", "post-index-change", "reference-transaction", "post-checkout"):
        hook = repo / ".git" / "hooks" / name
        hook.write_text(f"#!/bin/sh\ntouch '{repo}/hook ran'\n")
        hook.chmod(0o755)
    write(repo, **{"main.py": "changed"})
    freeze(repo)
    assert not (repo / "hook ran").exists()

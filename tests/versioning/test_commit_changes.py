"""`on_changes=commit` commits what the question has listed, and no more. With git, and no .gitignore."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import git

from mlxp_core.errors import SnapshotError
from mlxp_core.runs.layout import LogDir
from mlxp_core.versioning.git import Repository, WorkTreeStatus, find_repository
from mlxp_core.versioning.snapshot import Decision, FrozenCode, OnChanges, SnapshotOptions, freeze_code

MESSAGE = "by the launch"
ALL = SnapshotOptions(on_changes=OnChanges.COMMIT, message=MESSAGE)


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """A repository with changes of each kind, and with what runs have left."""
    top = tmp_path / "top"
    write(top, *("main.py", "changed.py", "gone.py", "staged gone.py", "old.py", "a1.py", "hidden.py", "local.py"))
    write(top, "conf/config.yaml", "sub/known.py")
    git("init", "--quiet", cwd=top)
    for option, value in (("user.name", "Me"), ("user.email", "me@example.org")):
        git("config", option, value, cwd=top)
    git("add", "--all", cwd=top)
    git("commit", "--quiet", "--message", "first", cwd=top)
    git("update-index", "--assume-unchanged", "hidden.py", cwd=top)
    git("update-index", "--skip-worktree", "local.py", cwd=top)
    return top


def write(top: Path, *names: str) -> None:
    for name in names:
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(f"{name}\n")


def change(top: Path) -> None:
    """Leave what a user and runs leave."""
    (top / "gone.py").unlink()
    git("rm", "--quiet", "staged gone.py", cwd=top)
    git("mv", "old.py", "new name.py", cwd=top)
    for name in ("changed.py", "hidden.py", "local.py"):
        (top / name).write_text("changed\n")
    write(top, "staged.py")
    git("add", "staged.py", cwd=top)
    write(top, "a[1].py", "pkg/__init__.py", "pkg/__pycache__/x.pyc", "conf/optimizer/sgd.yaml", "ünï code.py")
    write(top, "logs/.mlxp/last_id", "logs/1/metadata/info.yaml", "logs/1/artifacts/x/big", "logs/1/main.py")
    write(top, "old/.mlxp/code/main.py", "old/1/metadata/info.yaml", "outputs/a/b/.hydra/overrides.yaml")
    write(top, "sub/1/metadata/info.yaml", "sub/new.py")


def freeze(top: Path, options: SnapshotOptions, decision: Decision | None = None) -> tuple[FrozenCode, list[str]]:
    """The frozen code, and what the question has listed."""
    asked: list[str] = []

    def ask(_: Repository, status: WorkTreeStatus) -> Decision:
        asked.extend(change.path for change in status.changes)
        assert decision is not None
        return decision

    code = freeze_code(top / "main.py", LogDir(top / "logs"), options, ask=ask if decision else None)
    return code, asked


def committed(top: Path) -> list[str]:
    """What the last commit has changed, by git."""
    return (
        git("-c", "core.quotePath=false", "show", "--format=", "--name-status", cwd=top).replace("\t", " ").splitlines()
    )


EXPECTED = [
    "A a[1].py",
    "M changed.py",
    "A conf/optimizer/sgd.yaml",
    "D gone.py",
    "M hidden.py",
    "M local.py",
    "R100 old.py new name.py",
    "A pkg/__init__.py",
    "D staged gone.py",
    "A staged.py",
    "A sub/new.py",
    "A ünï code.py",
]


@pytest.mark.parametrize("by", ["option", "answer"])
def test_all_that_was_listed_is_committed_and_said_and_nothing_that_runs_left(top: Path, by: str) -> None:
    """Bug: artifacts, the log directory and copies of the code on the user's branch; a hidden change is left out."""
    change(top)
    if by == "option":
        code, _ = freeze(top, ALL)
    else:
        paths = tuple(change.path for change in listed(top).changes)
        code, asked = freeze(
            top, SnapshotOptions(), Decision(OnChanges.COMMIT, (*paths, "hidden.py", "local.py"), MESSAGE)
        )
        assert sorted(asked) == sorted([*paths, "hidden.py", "local.py"])
    assert git("log", "-1", "--format=%s %an", cwd=top) == f"{MESSAGE} Me"
    assert sorted(committed(top)) == sorted(EXPECTED)
    assert sorted(code.version.committed) == sorted(EXPECTED)
    assert code.version.changes == ()
    assert (code.version.commit, code.version.head) == (git("rev-parse", "HEAD", cwd=top),) * 2
    flags = git("ls-files", "-v", "hidden.py", "local.py", cwd=top)
    assert flags.splitlines() == ["h hidden.py", "S local.py"]


def listed(top: Path) -> WorkTreeStatus:
    return find_repository(top).status(top / "logs", top / "main.py")


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        (("changed.py",), ["M changed.py"]),  # and not what was staged before
        (("a[1].py",), ["A a[1].py"]),  # and not what the brackets stand for
        (("gone.py", "staged gone.py"), ["D gone.py", "D staged gone.py"]),
        (("new name.py",), ["R100 old.py new name.py"]),
        (("pkg/",), ["A pkg/__init__.py"]),
        (("hidden.py",), ["M hidden.py"]),
    ],
)
def test_of_the_listed_the_chosen_are_committed(top: Path, chosen: tuple[str, ...], expected: list[str]) -> None:
    """Bug: what was staged beforehand goes along; a name with brackets is a pattern; half of a renaming."""
    change(top)
    (top / "a1.py").write_text("changed\n")
    code, _ = freeze(top, SnapshotOptions(), Decision(OnChanges.COMMIT, chosen, MESSAGE))
    assert committed(top) == expected
    assert list(code.version.committed) == expected
    left = {change.path for change in code.version.changes}
    assert not left & set(chosen)
    assert {"staged.py", "ünï code.py"} <= left


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ((".",), EXPECTED),
        (("./",), [line for line in EXPECTED if "local" not in line]),
        (("sub", "*.yaml"), ["A conf/optimizer/sgd.yaml", "A sub/new.py"]),
    ],
)
def test_patterns_of_the_user_match_nothing_that_runs_left(
    top: Path, files: tuple[str, ...], expected: list[str]
) -> None:
    """Bug: commit_files=[.] commits the artifacts."""
    change(top)
    code, _ = freeze(top, SnapshotOptions(on_changes=OnChanges.COMMIT, files=files, message=MESSAGE))
    assert sorted(code.version.committed) == sorted(expected)


def test_the_first_commit_and_a_merge_are_committed_as_a_whole(tmp_path: Path, top: Path) -> None:
    """Bug: "cannot do a partial commit during a merge"; no first commit without a HEAD."""
    fresh = tmp_path / "fresh"
    write(fresh, "main.py", "logs/1/metadata/info.yaml")
    git("init", "--quiet", cwd=fresh)
    for option, value in (("user.name", "Me"), ("user.email", "me@example.org")):
        git("config", option, value, cwd=fresh)
    assert freeze(fresh, ALL)[0].version.committed == ("A main.py",)
    git("checkout", "--quiet", "-b", "other", cwd=top)
    (top / "changed.py").write_text("other\n")
    git("commit", "--quiet", "--all", "--message", "other", cwd=top)
    git("checkout", "--quiet", "-", cwd=top)
    git("merge", "--quiet", "--no-commit", "--no-ff", "other", cwd=top)
    write(top, "new.py")
    assert freeze(top, ALL)[0].version.committed == ("M changed.py", "A new.py")
    assert len(git("log", "-1", "--format=%P", cwd=top).split()) == 2


def test_a_hook_that_refuses_leaves_the_files_hidden_that_were(top: Path) -> None:
    """Bug: after a commit that failed, git shows the local tweak that it was told not to look at."""
    change(top)
    hook = top / ".git" / "hooks" / "pre-commit"
    hook.write_text("#!/bin/sh\necho no >&2\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(SnapshotError, match="no"):
        freeze(top, ALL)
    assert git("ls-files", "-v", "hidden.py", "local.py", cwd=top).splitlines() == ["h hidden.py", "S local.py"]

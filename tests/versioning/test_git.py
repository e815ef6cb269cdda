"""What git prints of a work tree, read: text in, values out. By git-status(1), Porcelain Format Version 2."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import git

from mlxp_core.errors import SnapshotError
from mlxp_core.versioning.git import find_repository, read_status

OID = "1111111111111111111111111111111111111111"
MODES = f"N... 100644 100644 100644 {OID} {OID}"


@pytest.mark.parametrize(
    ("entry", "listed"),
    [
        (f"1 .M {MODES} main.py", " M main.py"),
        (f"1 A. {MODES} a b/c  d", "A  a b/c  d"),
        (f"2 R. {MODES} R100 new name\0old name", "R  new name"),
        (f"u UU N... 100644 100644 100644 100644 {OID} {OID} {OID} both.py", "UU both.py"),
        ("? new.py", "?? new.py"),
        ("? new/", "?? new/"),
        ("? pkg/__pycache__/main.cpython-311.pyc", None),
        ("? __pycache__/", None),
        ("? __pycache__.py", "?? __pycache__.py"),
        ("? logs/1/x", None),
        ("? data/logs/x", "?? data/logs/x"),
        (f"1 .M {MODES} logs/kept.txt", None),
    ],
)
def test_each_kind_of_change_is_one_and_byte_code_and_logs_are_none(
    tmp_path: Path, entry: str, listed: str | None
) -> None:
    """Bug: "your work tree differs" in each project without a .gitignore; an old name as another change."""
    status = read_status(f"# branch.oid {OID}\0{entry}\0? last\0", tmp_path, tmp_path / "logs")
    assert [str(change) for change in status.changes] == [*([listed] if listed else []), "?? last"]
    assert status.ignored == ()


def test_what_is_ignored_is_listed_apart_byte_code_too(tmp_path: Path) -> None:
    """Bug: what git is told to ignore makes a work tree dirty; or a configuration that it ignores is not looked for."""
    status = read_status("! conf/a.yaml\0! __pycache__/\0? b\0", tmp_path, None)
    assert [str(change) for change in status.ignored] == ["!! conf/a.yaml", "!! __pycache__/"]
    assert [str(change) for change in status.changes] == ["?? b"]


@pytest.mark.parametrize(
    ("header", "head", "branch"),
    [
        (f"# branch.oid {OID}\0# branch.head main\0", OID, "main"),
        (f"# branch.oid {OID}\0# branch.head (detached)\0", OID, None),
        ("# branch.oid (initial)\0# branch.head main\0", None, "main"),
        (f"# branch.oid {OID}\0# branch.head a/b\0# branch.upstream o/x\0# branch.ab +1 -2\0", OID, "a/b"),
        ("", None, None),
    ],
)
def test_the_head_is_a_commit_on_a_branch_or_on_none(
    tmp_path: Path, header: str, head: str | None, branch: str | None
) -> None:
    """Bug: "(initial)" for a commit, "(detached)" for a branch, the upstream's for the user's own."""
    status = read_status(header, tmp_path, None)
    assert (status.head, status.branch, status.changes) == (head, branch, ())


def test_a_log_directory_behind_a_link_is_left_out(tmp_path: Path) -> None:
    """Bug: runs of a log directory on the scratch disk are changes of the code."""
    (tmp_path / "scratch").mkdir()
    (tmp_path / "logs").symlink_to("scratch")
    status = read_status("? logs/1\0? x\0", tmp_path, tmp_path / "scratch")
    assert [str(change) for change in status.changes] == ["?? x"]


def test_a_repository_without_gitignore_is_clean_after_a_run(tmp_path: Path) -> None:
    """Bug: Python's byte code asks the user of a fresh project whether to commit it."""
    (tmp_path / "pkg" / "__pycache__").mkdir(parents=True)
    (tmp_path / "main.py").touch()
    git("init", "--quiet", cwd=tmp_path)
    git("add", "main.py", cwd=tmp_path)
    git("commit", "--quiet", "--message", "x", cwd=tmp_path)
    (tmp_path / "pkg" / "__pycache__" / "x.cpython-311.pyc").touch()
    assert find_repository(tmp_path).status(None).changes == ()
    (tmp_path / "pkg" / "data" / "__pycache__").mkdir(parents=True)
    (tmp_path / "pkg" / "data" / "x").touch()
    assert [str(change) for change in find_repository(tmp_path).status(None).changes] == ["?? pkg/"]


def test_a_git_that_has_gone_since_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: GitPython's own error, of which nobody catches anything, where a module was unloaded or PATH has changed."""
    git("init", "--quiet", cwd=tmp_path)
    found = find_repository(tmp_path)
    assert found is not None
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SnapshotError, match=r"^there is no program git: install it$"):
        found.status(tmp_path / "logs")

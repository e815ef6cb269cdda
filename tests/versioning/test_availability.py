"""Whether git can still give a version, and keeps it: asked in process, of repositories that have lost something."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import git

from mlxp_core.errors import SnapshotError
from mlxp_core.runs.code_version import CodeVersion
from mlxp_core.versioning import availability
from mlxp_core.versioning.availability import locate_commit, missing_objects_reason, unreferenced_reason
from mlxp_core.versioning.export import export_commit
from mlxp_core.versioning.git import Repository, find_repository


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A repository with one commit: a program, data in a folder, a link."""
    top = tmp_path / "a project"
    (top / "data").mkdir(parents=True)
    (top / "main.py").write_text("print(1)\n")
    (top / "data" / "x.bin").write_text("pointer")
    (top / "link").symlink_to("main.py")
    git("init", "--quiet", cwd=top)
    return committed(top)


def committed(top: Path) -> Repository:
    git("add", "--all", cwd=top)
    git("commit", "--quiet", "--message", "x", cwd=top)
    return find_repository(top)


def head(repository: Repository) -> str:
    return git("rev-parse", "HEAD", cwd=repository.top)


def lose(repository: Repository, oid: str) -> None:
    """Have git lose one object."""
    (repository.top / ".git" / "objects" / oid[:2] / oid[2:]).unlink()


def with_submodule(repository: Repository, tmp_path: Path) -> Repository:
    library = tmp_path / "library"
    library.mkdir()
    (library / "lib.py").write_text("lib")
    git("init", "--quiet", cwd=library)
    committed(library)
    git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(library), "lib", cwd=repository.top)
    return committed(repository.top)


def test_a_version_is_looked_for_where_it_is_now(repository: Repository, tmp_path: Path) -> None:
    """Bug: a folder of the same name that is another repository; a record with one half of what is needed."""
    commit = head(repository)
    there = CodeVersion(repo_path=repository.top / "data", commit=commit)
    assert locate_commit(there).top == repository.top
    moved = CodeVersion(repo_path=tmp_path / "gone", commit=commit)
    assert locate_commit(moved, repository.top).top == repository.top
    with pytest.raises(SnapshotError, match="gone, where its repository was, is not there"):
        locate_commit(moved)
    for half in (CodeVersion(repo_path=repository.top), CodeVersion(commit=commit), CodeVersion()):
        with pytest.raises(SnapshotError, match="not recorded which commit of which repository"):
            locate_commit(half)
    other = tmp_path / "other"
    other.mkdir()
    git("init", "--quiet", cwd=other)
    with pytest.raises(SnapshotError, match=f"other does not have commit {commit[:10]}$"):
        locate_commit(there, other)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("", "does not have commit"),
        ("data/x.bin", "has lost files of commit"),
        ("data", "has lost (part|files) of commit"),
    ],
)
def test_what_git_has_lost_of_a_version_is_told(repository: Repository, path: str, reason: str) -> None:
    """Bug: a version that is said to be kept, and the checkout fails on it: its commit, a folder, one file."""
    commit = head(repository)
    assert missing_objects_reason(repository, commit) == ""
    lose(repository, git("rev-parse", f"{commit}:{path}" if path else commit, cwd=repository.top))
    with pytest.raises(SnapshotError, match=reason):
        locate_commit(CodeVersion(repo_path=repository.top, commit=commit), repository.top)


def test_of_a_submodule_all_is_there_or_it_is_told(repository: Repository, tmp_path: Path) -> None:
    """Bug: a version without its submodule's files; or one whose copy had none, for which none are missing."""
    repository = with_submodule(repository, tmp_path)
    commit = head(repository)
    copy, without = tmp_path / "copy", tmp_path / "without"
    export_commit(repository, commit, copy)
    (without / "lib").mkdir(parents=True)
    assert missing_objects_reason(repository, commit, copy) == ""
    submodule = repository.submodule("lib")
    assert submodule is not None
    kept = (submodule.top / ".git").read_text()
    (submodule.top / ".git").unlink()  # as one that is not checked out
    assert [missing_objects_reason(repository, commit, place) for place in (without, None)] == ["", ""]
    assert "the submodule lib of" in missing_objects_reason(repository, commit, copy)
    (submodule.top / ".git").write_text(kept)
    git("update-ref", "-d", "HEAD", cwd=submodule.top)
    objects = Path(git("rev-parse", "--absolute-git-dir", cwd=submodule.top), "objects")
    for pack in [*objects.glob("pack/*"), *objects.glob("??/*")]:
        pack.unlink()
    assert "lib does not have commit" in missing_objects_reason(repository, commit, copy)


@pytest.mark.parametrize("attributes", [".gitattributes", "data/.gitattributes"])
def test_a_filter_that_makes_something_else_now_is_told(
    repository: Repository, tmp_path: Path, attributes: str
) -> None:
    """Bug: LFS, which no longer has the file, leaves its pointer in the checkout, and `mlxp snapshots` says kept."""
    top = repository.top
    (top / attributes).write_text("*.bin filter=fetch\n")
    git("config", "filter.fetch.smudge", "sed s/pointer/content/", cwd=top)
    commit = head(committed(top))
    copy = tmp_path / "copy"
    export_commit(repository, commit, copy)
    assert (copy / "data" / "x.bin").read_text() == "content"
    assert missing_objects_reason(repository, commit, copy) == ""
    git("config", "filter.fetch.smudge", "cat", cwd=top)
    assert missing_objects_reason(repository, commit) == ""  # nothing to compare with
    assert "makes something else of data/x.bin now" in missing_objects_reason(repository, commit, copy)
    git("config", "filter.fetch.smudge", "false", cwd=top)
    git("config", "filter.fetch.required", "true", cwd=top)
    assert "data/x.bin" in missing_objects_reason(repository, commit, copy)


def test_without_a_filter_no_files_are_made_again(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: `mlxp snapshots` writes out every version of a large project; or a text that speaks of `filter=` does it."""
    (repository.top / ".gitattributes").write_text("*.bin binary\n")
    (repository.top / "notes").write_text("filter=lfs\n")
    monkeypatch.setattr(availability, "export_commit", None)
    assert missing_objects_reason(repository, head(committed(repository.top)), tmp_path) == ""


def test_what_no_ref_holds_git_may_throw_away(repository: Repository, tmp_path: Path) -> None:
    """Bug: a version is said to be safe, and is gone after `git gc`; or a ref of ours holds nothing."""
    repository = with_submodule(repository, tmp_path)
    commit = head(repository)
    assert unreferenced_reason(repository, commit) == ""
    git("update-ref", "refs/mlxp/x", commit, cwd=repository.top)
    git("commit", "--quiet", "--amend", "--message", "another", cwd=repository.top)
    assert unreferenced_reason(repository, commit) == ""
    git("update-ref", "-d", "refs/mlxp/x", cwd=repository.top)
    assert f"has commit {commit[:10]}, so git may throw it away" in unreferenced_reason(repository, commit)
    submodule = repository.submodule("lib")
    assert submodule is not None
    held = head(submodule)
    git("commit", "--quiet", "--amend", "--message", "another", cwd=submodule.top)
    git("update-ref", "-d", "refs/remotes/origin/HEAD", cwd=submodule.top)
    git("update-ref", "-d", "refs/remotes/origin/main", cwd=submodule.top)
    assert f"lib has commit {held[:10]}" in unreferenced_reason(repository, head(repository))


def test_copies_differ_by_names_contents_links_and_the_right_to_execute(tmp_path: Path) -> None:
    """Bug: a file more or less, another link, another byte: the same; byte code and a missing right to write: not."""
    first, second = tmp_path / "first", tmp_path / "second"

    def make(folder: Path) -> None:
        (folder / "a" / "b").mkdir(parents=True)
        (folder / "a" / "b" / "x").write_text("x")
        (folder / "run.sh").write_text("y")
        (folder / "run.sh").chmod(0o755)
        (folder / "link").symlink_to("run.sh")

    def difference() -> str:
        return availability._difference(first, second)

    make(first)
    make(second)
    (second / "a" / "__pycache__").mkdir()
    (second / "run.sh").chmod(0o555)
    assert difference() == ""
    x, run, link = second / "a" / "b" / "x", second / "run.sh", second / "link"
    x.write_text("z")
    assert difference() == "a/b/x"
    x.write_text("x")
    (second / "a" / "b" / "more").write_text("")
    assert difference() == "a/b"
    (second / "a" / "b" / "more").unlink()
    run.chmod(0o644)
    assert difference() == "run.sh"
    run.chmod(0o755)
    link.unlink()
    link.symlink_to("a")
    assert difference() == "link"
    link.unlink()
    link.write_text("y")
    assert difference() == "link"

"""What a prune removes and what it leaves, in process: of folders alone. With repositories: test_prune.py."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fake_scheduler import Clock

from mlxp_core.runs.layout import LogDir, RunDir
from mlxp_core.versioning import prune
from mlxp_core.versioning.copies import CodeCopy, Inventory

A, B, C, D = (letter * 40 for letter in "abcd")
HOUR = 3600
GONE = 4_194_305  # more than a pid can be: https://man7.org/linux/man-pages/man5/proc_sys_kernel.5.html
MADE = datetime(2026, 11, 25, tzinfo=timezone.utc)


@pytest.fixture
def log_dir(tmp_path: Path) -> LogDir:
    log_dir = LogDir(tmp_path / "logs")
    log_dir.code.mkdir(parents=True)
    return log_dir


def aged(path: Path, hours: float = 2) -> Path:
    os.utime(path, (time.time() - hours * HOUR,) * 2)
    return path


def copied(place: Path, commit: str, **change: Any) -> CodeCopy:
    """A copy with a diff and links that nothing needs and that was chosen two hours ago."""
    path = place / commit
    (path / "pkg").mkdir(parents=True)
    (path / "pkg" / "a.py").touch()
    for folder in (path / "pkg", path):
        folder.chmod(0o555)
    (place / f"{commit}.diff").touch()
    (place / f"{commit}.path").mkdir()
    (place / f"{commit}.path" / "link").symlink_to(path)
    aged(path)
    values = {"own": True, "snapshot": "commit", "size": 1, "runs": (), "needed": (), "problem": "", **change}
    return CodeCopy(path=path, made=MADE, used=MADE, **values)


Listed = Callable[..., None]


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> Listed:
    """Have these be the copies that there are."""

    def give(*copies: CodeCopy, named: tuple[str, ...] = ()) -> None:
        monkeypatch.setattr(prune, "list_copies", lambda *_: Inventory(copies, frozenset(named)))

    return give


def left(log_dir: LogDir) -> list[str]:
    return sorted(os.listdir(log_dir.code))


RUN = RunDir(Path("/logs/1"))


def test_what_nothing_needs_goes_with_its_diff_and_its_links(log_dir: LogDir, listed: Listed) -> None:
    """Bug: the copy that a run waits for goes; a diff stays that belongs to nothing."""
    free, needed, lost = (
        copied(log_dir.code, A),
        copied(log_dir.code, B, needed=(RUN,), runs=(RUN,), problem="it is lost"),
        copied(log_dir.code, C, problem="it is lost"),
    )
    listed(free, needed, lost)
    result = prune.prune(log_dir, [])
    assert result == prune.PruneResult(
        (free,), {str(needed.path): (needed, "needed"), str(lost.path): (lost, "it is lost")}, {}, ()
    )
    assert left(log_dir) == [B, f"{B}.diff", f"{B}.path", C, f"{C}.diff", f"{C}.path"]


def test_the_links_of_a_version_that_a_run_names_stay(log_dir: LogDir, listed: Listed) -> None:
    """Bug: `mlxp rerun` makes the copy again, and not its links, so that the job finds no packages."""
    listed(copied(log_dir.code, A), copied(log_dir.code, B), named=(B,))
    prune.prune(log_dir, [])
    assert left(log_dir) == [f"{B}.path"]


def test_a_dry_run_says_the_same_and_removes_nothing(log_dir: LogDir, listed: Listed) -> None:
    """Bug: --dry-run that removes; or that is silent about what killed launches have left."""
    rest = log_dir.code / f".{D}.pruned.1.01234567"
    rest.mkdir()
    copy = copied(log_dir.code, A)
    listed(copy)
    before = left(log_dir)
    dry = prune.prune(log_dir, [], dry_run=True)
    assert left(log_dir) == before
    assert dry == prune.prune(log_dir, []) == prune.PruneResult((copy,), {}, {}, (rest,))
    assert left(log_dir) == []


def test_copies_of_several_log_directories_go_only_when_asked_for(
    log_dir: LogDir, listed: Listed, tmp_path: Path
) -> None:
    """Bug: runs of another log directory lose their code; or --elsewhere does nothing."""
    copy = copied(tmp_path / "my code", A, own=False)
    listed(copy)
    assert prune.prune(log_dir, []).kept == {
        str(copy.path): (copy, "outside of the log directory, so runs of another may need it (--elsewhere)")
    }
    assert copy.path.is_dir()
    assert prune.prune(log_dir, [], elsewhere=True).removed == (copy,)
    assert os.listdir(copy.path.parent) == []
    kept = copied(tmp_path / "my code", B, own=False, problem="it is lost")
    listed(kept)
    assert prune.prune(log_dir, [], elsewhere=True).kept == {str(kept.path): (kept, "it is lost")}


def test_a_copy_that_a_launch_has_just_chosen_stays(log_dir: LogDir, listed: Listed) -> None:
    """Bug: the jobs that the launch is writing find no code."""
    copy = copied(log_dir.code, A)
    aged(copy.path, 0.9)
    listed(copy)
    result = prune.prune(log_dir, [])
    assert result.kept == {str(copy.path): (copy, "a launch has chosen it within the last hour")}
    assert copy.path.is_dir()


def test_a_copy_that_a_launch_chooses_in_between_is_put_back(
    log_dir: LogDir, listed: Listed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: between the look and the removal a launch chooses it, and its jobs find no code."""
    copy = copied(log_dir.code, A)
    listed(copy)
    rename = Path.rename

    def choose_first(path: Path, target: Path) -> Path:
        os.utime(path)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", choose_first)
    result = prune.prune(log_dir, [])
    assert result.kept == {str(copy.path): (copy, "a launch has just chosen it")}
    assert (copy.path / "pkg" / "a.py").exists()
    assert left(log_dir) == [A, f"{A}.diff", f"{A}.path"]


def test_a_copy_that_a_launch_makes_again_in_between_is_the_launchs(
    log_dir: LogDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: FileExistsError; or the one that was moved aside stays for ever."""
    copy = copied(log_dir.code, A)
    os.utime(copy.path)
    rename = Path.rename

    def make_again(path: Path, target: Path) -> Path:
        made = rename(path, target)
        if path == copy.path:
            path.mkdir()
            (path / "again").touch()
        return made

    monkeypatch.setattr(Path, "rename", make_again)
    assert prune._remove(copy.path, keep_links=False) is False
    assert left(log_dir) == [A, f"{A}.diff", f"{A}.path"]
    assert os.listdir(copy.path) == ["again"]


def test_a_copy_that_is_gone_already_counts_as_removed(log_dir: LogDir) -> None:
    """Bug: FileNotFoundError where two prune."""
    assert prune._remove(log_dir.code / A, keep_links=False) is True
    copy = copied(log_dir.code, B)
    (log_dir.code / f"{B}.diff").unlink()  # of a commit there is none
    assert prune._remove(copy.path, keep_links=True) is True
    assert left(log_dir) == [f"{B}.path"]


def test_what_is_moved_aside_first_is_known_for_what_it_is_by_the_next_prune(
    log_dir: LogDir, monkeypatch: pytest.MonkeyPatch, listed: Listed
) -> None:
    """Bug: the leftover of a prune that could not remove all is taken for a copy, or never tried again."""
    copies = [copied(log_dir.code, A), copied(log_dir.code, B)]
    listed(*copies)
    with monkeypatch.context() as patched:
        patched.setattr(prune, "remove_tree", lambda _: None)
        result = prune.prune(log_dir, [])
    said = "not all of it could be removed; the next prune tries again"
    leftovers = [name for name in left(log_dir) if name.startswith(".")]
    ours = ["pruned", str(os.getpid())]
    assert [name.split(".")[1:4] for name in leftovers] == [[A, *ours], [B, *ours]]
    assert result.failed == {
        **{str(copy.path): said for copy in copies},
        **{str(log_dir.code / name): "it could not be removed" for name in leftovers},
    }
    assert (result.removed, result.kept, result.leftovers) == ((), {}, ())
    listed()
    assert [path.name for path in prune.prune(log_dir, []).leftovers] == leftovers
    assert [name for name in left(log_dir) if name.startswith(".")] == []


def test_a_copy_that_cannot_be_moved_fails_alone(
    log_dir: LogDir, listed: Listed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: a stack trace, and the copies after it stay."""
    first, second = copied(log_dir.code, A), copied(log_dir.code, B)
    listed(first, second)
    rename = Path.rename

    def refuse(path: Path, target: Path) -> Path:
        if path == first.path:
            raise PermissionError(13, "no permission", str(path))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    result = prune.prune(log_dir, [])
    assert (result.removed, result.kept) == ((second,), {})
    assert "no permission" in result.failed.pop(str(first.path))
    assert result.failed == {}


class Owned:
    """A path that belongs to somebody."""

    def __init__(self, owner: int) -> None:
        self.owner = owner

    def lstat(self) -> SimpleNamespace:
        return SimpleNamespace(st_uid=self.owner, st_mtime=0.0)


@pytest.mark.parametrize(
    ("user", "owner", "said"),
    [
        (1000, 1000, ""),
        (0, 1000, ""),
        (0, 0, ""),
        (1, 1000, "it belongs to user 1000, who alone can remove it"),
        (1000, 0, "it belongs to user 0, who alone can remove it"),
    ],
)
def test_a_copy_of_another_user_is_left_to_that_user(
    monkeypatch: pytest.MonkeyPatch, user: int, owner: int, said: str
) -> None:
    """Bug: half of it is removed, and its name is taken for a whole copy; root is refused."""
    monkeypatch.setattr(os, "geteuid", lambda: user)
    assert prune._foreign_owner(Owned(owner)) == said  # type: ignore[arg-type]
    copy = CodeCopy(Owned(owner), True, None, MADE, MADE, 0, (), (), "")  # type: ignore[arg-type]
    assert prune._keep_reason(copy, elsewhere=False) == said


def test_what_another_user_has_left_is_named_with_the_owner(
    log_dir: LogDir, listed: Listed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: "it could not be removed", and nobody knows whom to ask."""
    listed()
    rest = log_dir.code / f".{A}.pruned.1.01234567"
    rest.mkdir()
    owner = rest.stat().st_uid
    monkeypatch.setattr(prune, "remove_tree", lambda _: None)
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    result = prune.prune(log_dir, [])
    assert result.failed == {str(rest): f"it belongs to user {owner}, who alone can remove it"}
    assert result.leftovers == ()


def test_leftovers_are_looked_for_in_the_log_directory_and_elsewhere_when_asked_for(
    log_dir: LogDir, listed: Listed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: halves of copies in hydra.launcher.code_dir stay for ever; or those of others go unasked."""
    other = tmp_path / "a place"
    copy = copied(other, A, own=False, needed=(RUN,))
    listed(copy, named=(B,))
    gone = [
        log_dir.code / f".{A}.{GONE}.01234567",
        log_dir.code / f".{A}.{GONE}.01234567.diff",
        log_dir.code / f"{C}.diff",
        log_dir.code / f"{C}.path",
    ]
    kept = [log_dir.code / f"{B}.path"]  # which a run still names
    for path in (*gone, *kept):
        path.mkdir()
        aged(path)
    there = other / f".{B}.{GONE}.01234567.index"
    there.touch()
    aged(there)
    assert prune.prune(log_dir, [], dry_run=True).leftovers == tuple(gone)
    assert prune.prune(log_dir, [], dry_run=True, elsewhere=True).leftovers == (there, *gone)
    prune.prune(log_dir, [], elsewhere=True)
    assert sorted(os.listdir(other)) == [A, f"{A}.diff", f"{A}.path"]
    assert left(log_dir) == [f"{B}.path"]
    # the folder may be gone, or something in it
    listdir = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda path: iter([log_dir.code / ".gone", *listdir(path)]))
    aged(log_dir.code / f"{B}.path")
    listed()
    assert prune.prune(log_dir, []).leftovers == (log_dir.code / f"{B}.path",)
    log_dir.code.rmdir()
    assert prune.prune(log_dir, []).leftovers == ()


@pytest.mark.parametrize(
    ("name", "age", "is_leftover"),
    [
        (f".{A}.{GONE}.01234567", HOUR, False),
        (f".{A}.{GONE}.01234567", HOUR + 1, True),
        (f".{A}.OURS.01234567", 24 * HOUR, False),
        (f".{A}.OURS.01234567", 24 * HOUR + 1, True),
        (f".{A}.OURS.01234567", HOUR + 1, False),
        (f".{A}.{GONE}.01234567.index.lock", HOUR + 1, True),
        (f".{A[:12]}.{GONE}.01234567", 48 * HOUR, False),
        (A, 48 * HOUR, False),
        ("notes.diff", 48 * HOUR, False),
        (f"{A}.diff", HOUR, False),
        (f"{A}.diff", HOUR + 1, True),
        (f"{A}.path", HOUR + 1, True),
        (f"{B}.path", HOUR + 1, False),  # a run names that version
        (f"{B}.diff", HOUR + 1, True),  # of which a run has one of its own
        (f"{C}.path", HOUR + 1, False),  # of a copy that is there
        (f"{C}.diff", HOUR + 1, False),
        (f"{A}.txt", 48 * HOUR, False),
        (f"{A[:12]}.path", 48 * HOUR, False),
    ],
)
def test_leftovers_have_an_age(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, age: int, *, is_leftover: bool
) -> None:
    """Bug: links that a run needs again go with a copy; a launch of this minute loses its half."""
    (tmp_path / C).mkdir()
    path = tmp_path / name.replace("OURS", str(os.getpid()))
    path.touch()
    os.utime(path, (1_800_000_000,) * 2)
    monkeypatch.setattr(prune, "time", Clock(1_800_000_000.0 + age))
    assert prune._is_leftover(path, {B}, own=True) is is_leftover


@pytest.mark.parametrize(
    ("age", "own", "is_leftover"), [(0, True, True), (HOUR, False, False), (HOUR + 1, False, True)]
)
def test_what_a_prune_elsewhere_has_moved_aside_is_left_to_it_for_an_hour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, age: int, *, own: bool, is_leftover: bool
) -> None:
    """Bug: two prunes remove one tree, and one of them says that it could not."""
    path = tmp_path / f".{A}.pruned.7.01234567"
    path.mkdir()
    aged(path, 48)
    monkeypatch.setattr(prune, "time", Clock(path.stat().st_ctime + age))
    assert prune._is_leftover(path, set(), own=own) is is_leftover


def test_a_copy_is_young_for_an_hour_to_the_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: the age of what a link leads to, or of another clock's beginning."""
    path = tmp_path / A
    path.mkdir()
    os.utime(path, (1_800_000_000,) * 2)
    young = []
    for age in (0, HOUR - 1, HOUR):
        monkeypatch.setattr(prune, "time", Clock(1_800_000_000.0 + age))
        young.append(prune._is_young(path))
    assert young == [True, True, False]


def test_what_is_discarded_is_gone_and_what_it_leads_to_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: a link is followed, and the data behind it are gone; or a file that cannot be removed ends all."""
    data, link, file, folder = (tmp_path / name for name in ("data", "link", "file", "folder"))
    for made in (data, folder):
        (made / "deep").mkdir(parents=True)
    link.symlink_to("data")
    file.touch()
    for path in (link, file, folder, tmp_path / "nothing"):
        prune._discard(path)
    assert sorted(os.listdir(tmp_path)) == ["data"]
    assert (data / "deep").is_dir()

    def refuse(path: Path) -> None:
        raise PermissionError(1, "immutable", str(path))

    monkeypatch.setattr(Path, "unlink", refuse)
    file.touch()
    prune._discard(file)
    assert file.exists()

"""Which version is chosen, described and refused, with a repository that only answers. With git: test_snapshot.py."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mlxp_core.errors import ConfigurationError, SnapshotError
from mlxp_core.runs.code_version import SnapshotMode
from mlxp_core.runs.layout import LogDir, RunDir
from mlxp_core.versioning import snapshot
from mlxp_core.versioning.git import FileChange, Repository, WorkTreeStatus
from mlxp_core.versioning.snapshot import Decision, FrozenCode, OnChanges, SnapshotOptions, WorkTreeVersion

HEAD, NEW = "f" * 40, "a" * 40
CHANGES = (FileChange(" M", "main.py"), FileChange("??", "new.py"))
HIDDEN = FileChange(" M", "hidden.py")
IGNORED = (FileChange("!!", "data/"),)
CLEAN = WorkTreeStatus(HEAD, "main", (), IGNORED)
LEFT = (Path("/a/repo/logs"),)
CHANGED = WorkTreeStatus(HEAD, "main", CHANGES, IGNORED, LEFT)
UNBORN = WorkTreeStatus(None, "main", CHANGES, ())


@dataclass
class Answering:
    """A repository that says what it is told to, and what it was asked."""

    top: Path
    statuses: list[WorkTreeStatus]
    answers: dict[str, str] = field(default_factory=dict)  # by git's command
    asked: list[Any] = field(default_factory=list)

    def status(self, log_dir: Path | None = None, program: Path | None = None) -> WorkTreeStatus:
        self.asked.append(("status", log_dir))
        return self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]

    def git(self, *words: str) -> str:
        self.asked.append(words)
        return next(answer for word, answer in self.answers.items() if word in words)


@dataclass
class Stage:
    """What the module's neighbours are asked to do."""

    repository: Answering
    hidden: tuple[FileChange, ...] = ()
    committed: list[Any] = field(default_factory=list)
    captured: list[Any] = field(default_factory=list)
    sizes: list[Any] = field(default_factory=list)
    made: str = NEW  # by a capture


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    made = Stage(Answering(tmp_path / "repo", [CHANGED], {"diff-tree": "the diff"}))
    made.repository.top.mkdir()

    def commit(_: object, status: WorkTreeStatus, files: tuple[str, ...], message: str) -> tuple[str, ...]:
        made.committed.append((files, message))
        return ("M main.py",)

    def capture(repository: object, head: str | None, written: tuple[Path, ...]) -> str:
        made.captured.append((head, written))
        return made.made

    monkeypatch.setattr(snapshot, "hidden_changes", lambda _: made.hidden)
    monkeypatch.setattr(snapshot, "commit_files", commit)
    monkeypatch.setattr(snapshot, "unhidden", lambda *_: nullcontext())
    monkeypatch.setattr(snapshot, "commit_work_tree", capture)
    monkeypatch.setattr(snapshot, "_check_size", lambda _, status: made.sizes.append(status.changes))
    return made


def choose(stage: Stage, options: SnapshotOptions, decision: Decision | None = None) -> WorkTreeVersion:
    asked: list[WorkTreeStatus] = []

    def ask(_: object, status: WorkTreeStatus) -> Decision:
        asked.append(status)
        assert decision is not None
        return decision

    log_dir = LogDir(stage.repository.top / "logs")
    repository: Any = stage.repository
    version = snapshot._choose(repository, log_dir, options, ask if decision else None)
    assert all(question == ("status", log_dir.path) for question in stage.repository.asked if question[0] == "status")
    return version


AUTO = SnapshotOptions()


def version_of(stage: Stage, commit: str, mode: SnapshotMode, **change: Any) -> WorkTreeVersion:
    values = {"head": HEAD, "branch": "main", "changes": CHANGES, "ignored": IGNORED, **change}
    return WorkTreeVersion(stage.repository.top, commit, mode, **values)


def test_changes_are_captured_with_their_diff(stage: Stage) -> None:
    """Bug: HEAD is recorded for what has changed; the user's diff is lost; a data set is captured unasked."""
    expected = version_of(stage, NEW, SnapshotMode.WORKTREE, diff="the diff\n")
    assert choose(stage, AUTO) == expected
    assert stage.captured == [(HEAD, LEFT)]
    assert stage.sizes == [CHANGES]
    assert choose(stage, SnapshotOptions(SnapshotMode.WORKTREE)) == expected
    assert stage.sizes == [CHANGES]  # whoever asks for the work tree gets all of it
    assert stage.committed == []


def test_a_capture_that_is_the_last_commit_is_that(stage: Stage) -> None:
    """Bug: a work tree whose changes are of byte code or of modes alone is a version of its own, with an empty diff."""
    stage.made = HEAD
    assert choose(stage, AUTO) == version_of(stage, HEAD, SnapshotMode.COMMIT)


def test_the_last_commit_is_chosen_where_nothing_has_changed_or_changes_are_to_be_left_out(stage: Stage) -> None:
    """Bug: changes run that were to be left out; or nobody hears that there were any."""
    left_out = choose(stage, SnapshotOptions(SnapshotMode.COMMIT))
    assert left_out == version_of(stage, HEAD, SnapshotMode.COMMIT)
    assert choose(stage, AUTO, Decision(OnChanges.IGNORE)) == left_out
    stage.repository.statuses = [CLEAN]
    assert choose(stage, AUTO) == version_of(stage, HEAD, SnapshotMode.COMMIT, changes=())
    assert (stage.captured, stage.committed) == ([], [])


def test_changes_that_git_hides_are_changes(stage: Stage) -> None:
    """Bug: a file that is marked `assume-unchanged` runs otherwise than the version has it, and nobody knows."""
    stage.hidden = (HIDDEN,)
    assert choose(stage, SnapshotOptions(SnapshotMode.COMMIT)).changes == (*CHANGES, HIDDEN)
    stage.repository.statuses = [CLEAN]
    assert choose(stage, AUTO).snapshot is SnapshotMode.WORKTREE
    assert stage.sizes == [(HIDDEN,)]


def test_stopping_lists_what_has_changed(stage: Stage) -> None:
    """Bug: "stopped", and the user has to find out over what."""
    with pytest.raises(SnapshotError) as stopped:
        choose(stage, SnapshotOptions(on_changes=OnChanges.STOP))
    assert str(stopped.value) == "stopped: there are changes that are not committed\n   M main.py\n  ?? new.py"


@pytest.mark.parametrize(
    ("options", "decision", "committed"),
    [
        (SnapshotOptions(on_changes=OnChanges.COMMIT, files=("a",), message="why"), None, (("a",), "why")),
        (SnapshotOptions(on_changes=OnChanges.COMMIT, message="why"), None, ((), "why")),
        (AUTO, Decision(OnChanges.COMMIT, ("b", "c"), "asked"), (("b", "c"), "asked")),
    ],
)
def test_what_is_committed_is_run(
    stage: Stage, options: SnapshotOptions, decision: Decision | None, committed: object
) -> None:
    """Bug: the commit before is run; all files are committed where some were named, or none where none was."""
    after = WorkTreeStatus(NEW, "main", CHANGES[1:], ())
    stage.repository.statuses = [CHANGED, after]
    chosen = choose(stage, options, decision)
    expected = {"head": NEW, "changes": CHANGES[1:], "ignored": (), "committed": ("M main.py",)}
    assert chosen == version_of(stage, NEW, SnapshotMode.COMMIT, **expected)
    assert stage.committed == [committed]
    assert stage.captured == []


def test_before_the_first_commit_there_is_only_the_work_tree(stage: Stage) -> None:
    """Bug: TypeError over a commit that is None."""
    stage.repository.statuses = [UNBORN]
    with pytest.raises(SnapshotError, match="repo has no commit yet"):
        choose(stage, SnapshotOptions(SnapshotMode.COMMIT))
    stage.repository.answers["hash-object"] = "4b825dc"
    assert choose(stage, AUTO).commit == NEW
    assert stage.captured[0][0] is None
    assert ("-c", "core.bigFileThreshold=10m", "diff-tree", "-p", "4b825dc", NEW) in stage.repository.asked
    assert snapshot._commit_of(version_of(stage, NEW, SnapshotMode.COMMIT)) == NEW
    with pytest.raises(SnapshotError, match="repo has no commit yet"):
        snapshot._commit_of(version_of(stage, None, SnapshotMode.NONE))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wish", "status", "mode", "commit", "sizes"),
    [
        ("commit", CHANGED, SnapshotMode.NONE, HEAD, 0),
        ("commit", CLEAN, SnapshotMode.COMMIT, HEAD, 0),
        ("commit", UNBORN, SnapshotMode.NONE, None, 0),
        ("auto", CLEAN, SnapshotMode.COMMIT, HEAD, 0),
        ("auto", CHANGED, SnapshotMode.WORKTREE, NEW, 1),
        ("worktree", CLEAN, SnapshotMode.COMMIT, HEAD, 0),
        ("worktree", CHANGED, SnapshotMode.WORKTREE, NEW, 0),
    ],
)
def test_code_that_runs_in_place_is_described_as_what_it_is(
    stage: Stage,
    monkeypatch: pytest.MonkeyPatch,
    wish: str,
    status: WorkTreeStatus,
    mode: SnapshotMode,
    commit: str | None,
    sizes: int,
) -> None:
    """Bug: files with changes recorded as the commit, which a checkout then gives as what ran."""
    top = stage.repository.top
    (top / ".git").mkdir()
    (top / "pkg").mkdir()
    stage.repository.statuses = [status]
    monkeypatch.setattr(snapshot, "Repository", lambda found, _: stage.repository if found == top else None)
    found = snapshot.describe_version(top / "pkg" / "main.py", LogDir(top / "logs"), wish)
    assert found is not None
    assert (found.snapshot, found.commit, found.changes, found.head) == (mode, commit, status.changes, status.head)
    assert (len(stage.sizes), bool(found.diff)) == (sizes, mode is SnapshotMode.WORKTREE)


def test_nothing_is_described_outside_of_a_repository_or_where_nobody_asks(stage: Stage, tmp_path: Path) -> None:
    """Bug: each plain run pays for git although it is told not to; a fault where there is no repository."""
    (stage.repository.top / ".git").touch()  # of a linked work tree
    log_dir = LogDir(tmp_path / "logs")
    assert snapshot.describe_version(stage.repository.top / "main.py", log_dir, "none") is None
    outside = Path("/", "nowhere", "main.py")
    assert snapshot.describe_version(outside, log_dir, "auto") is None


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ({"snapshot": "head"}, r"l\.snapshot=head is not one of auto, commit, worktree, none"),
        ({"on_changes": "no"}, r"l\.on_changes=no is not one of ask, capture, commit, ignore, stop"),
        ({"on_changes": "commit"}, r"l\.on_changes=commit needs l\.commit_message='…'"),
        ({"on_changes": "commit", "message": ""}, "needs l.commit_message"),
        ({"on_changes": "commit", "message": "x"}, None),
        ({"on_changes": "stop"}, None),
    ],
)
def test_an_option_that_means_nothing_is_refused(words: dict[str, str], error: str | None) -> None:
    """Bug: ValueError without the option's name; a commit without a message."""
    values: dict[str, Any] = {"snapshot": "auto", "on_changes": "ask", **words}
    if error is None:
        made = SnapshotOptions.parse("l", **values, files=["a", "b"])
        assert (made.snapshot, str(made.on_changes)) == (SnapshotMode.AUTO, words["on_changes"])
        assert (made.files, made.message) == (("a", "b"), words.get("message", ""))
        assert SnapshotOptions.parse("l", **values).files == ()
    else:
        with pytest.raises(ConfigurationError, match=error):
            SnapshotOptions.parse("l", **values)


def test_a_version_says_what_it_does_not_have_and_what_is_recorded_of_it(tmp_path: Path) -> None:
    """Bug: "your changes are not in it" for a version that has them; a copy that no later command finds."""
    committed = WorkTreeVersion(tmp_path, NEW, SnapshotMode.COMMIT, HEAD, None, CHANGES)
    captured = WorkTreeVersion(tmp_path, NEW, SnapshotMode.WORKTREE, HEAD, "main", CHANGES)
    assert (committed.excluded_changes, captured.excluded_changes) == (CHANGES, ())
    recorded = {
        "repo_path": str(tmp_path),
        "commit_hash": NEW,
        "snapshot": "commit",
        "head": HEAD,
        "branch": None,
        "dirty": True,
        "uncommitted": [" M main.py", "?? new.py"],
    }
    assert committed.recorded.as_info == {"version_manager": recorded}
    code = FrozenCode(committed, tmp_path / "code" / NEW)
    assert code.recorded.as_info == {"version_manager": {**recorded, "copy": str(tmp_path / "code" / NEW)}}
    assert code.links == tmp_path / "code" / f"{NEW}.path"


def test_runs_share_the_diff_or_have_one_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: a thousand copies of a megabyte; or none where the disk has no links; an empty file for no diff."""
    diff = tmp_path / "x.diff"
    diff.write_text("+1\n")
    version = WorkTreeVersion(tmp_path, NEW, SnapshotMode.WORKTREE, HEAD, None, CHANGES)
    runs = [RunDir(tmp_path / str(number)) for number in range(3)]
    for run in runs:
        run.metadata.mkdir(parents=True)
    FrozenCode(version, tmp_path).keep_diff(runs[0])
    assert not runs[0].diff.exists()
    FrozenCode(version, tmp_path, diff).keep_diff(runs[1])
    assert runs[1].diff.samefile(diff)

    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    FrozenCode(version, tmp_path, diff).keep_diff(runs[2])
    assert runs[2].diff.read_text() == "+1\n"
    assert not runs[2].diff.samefile(diff)


OPT_OUT = "or let the jobs run the files as they are when they start, with hydra.launcher.snapshot=none"


@pytest.fixture
def publishing(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What is asked of the neighbours: where a repository is looked for, and what is published where."""
    asked: list[tuple[Any, ...]] = []

    def publish(_: object, commit: str, place: Path) -> Path:
        asked.append(("publish", commit, place))
        (place / commit).mkdir(parents=True)
        (place / commit / "main.py").touch()
        return place / commit

    def find(folder: Path) -> Answering:
        asked.append(("find", folder))
        return stage.repository

    monkeypatch.setattr(snapshot, "find_repository", find)
    monkeypatch.setattr(snapshot, "publish_copy", publish)
    return asked


def test_a_frozen_version_lies_where_it_is_told_to(stage: Stage, publishing: list[Any], tmp_path: Path) -> None:
    """Bug: hydra.launcher.code_dir has no effect; the diff lies in one place and the copy in another."""
    top, log_dir = stage.repository.top, LogDir(tmp_path / "logs")
    (top / "main.py").touch()
    code = snapshot.freeze_code(top / "main.py", log_dir)
    assert (code.copy, code.diff) == (log_dir.code / NEW, log_dir.code / f"{NEW}.diff")
    assert (log_dir.code / f"{NEW}.diff").read_text() == "the diff\n"
    assert code.version == version_of(stage, NEW, SnapshotMode.WORKTREE, diff="the diff\n")
    wished = snapshot.freeze_code(top, log_dir, SnapshotOptions(SnapshotMode.COMMIT), place=tmp_path / "third")
    assert wished.copy == tmp_path / "third" / HEAD
    asked = snapshot.freeze_code(
        top, log_dir, place=tmp_path / "elsewhere", ask=lambda *_: Decision(OnChanges.IGNORE)
    )  # a notebook's folder
    assert (asked.copy, asked.diff) == (tmp_path / "elsewhere" / HEAD, None)
    assert publishing == [
        ("find", top),
        ("publish", NEW, log_dir.code),
        ("find", top),
        ("publish", HEAD, tmp_path / "third"),
        ("find", top),
        ("publish", HEAD, tmp_path / "elsewhere"),
    ]


def test_a_program_that_the_version_does_not_have_is_refused(stage: Stage, publishing: list[Any]) -> None:
    """Bug: a sweep of `python: can't open file`."""
    program = stage.repository.top / "new.py"
    with pytest.raises(SnapshotError) as refused:
        snapshot.freeze_code(program, LogDir(stage.repository.top / "logs"))
    assert str(refused.value) == (
        f"{program} is not in the version aaaaaaaaaa that the jobs would run: commit it, or use "
        f"hydra.launcher.snapshot=worktree (it must not be ignored by git), {OPT_OUT}."
    )


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            SnapshotError("git says no"),
            f"the code of PROGRAM cannot be frozen: git says no\nPut that right, {OPT_OUT}.",
        ),
        (OSError("a full disk"), f"the code of PROGRAM could not be copied, {OPT_OUT}: a full disk"),
    ],
)
def test_what_keeps_the_code_from_being_frozen_is_said_with_a_way_out(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    """Bug: a stack trace of the copying; git's words alone."""

    def fail(_: Path) -> Repository:
        raise error

    monkeypatch.setattr(snapshot, "find_repository", fail)
    program = stage.repository.top / "main.py"
    with pytest.raises(SnapshotError) as refused:
        snapshot.freeze_code(program, LogDir(stage.repository.top / "logs"))
    assert str(refused.value) == said.replace("PROGRAM", str(program))
    with pytest.raises((SnapshotError, OSError)) as raised:
        snapshot.check_repository(program)
    assert raised.value is error


def test_a_repository_is_looked_for_around_the_program(stage: Stage, publishing: list[Any]) -> None:
    """Bug: git is run in a file, or above a folder that is the repository itself."""
    (stage.repository.top / "main.py").touch()
    snapshot.check_repository(stage.repository.top)
    snapshot.check_repository(stage.repository.top / "main.py")
    assert publishing == [("find", stage.repository.top)] * 2


@pytest.mark.parametrize(("extra", "is_refused"), [(0, False), (1, True)])
def test_untracked_files_are_code_up_to_a_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extra: int, *, is_refused: bool
) -> None:
    """Bug: a large file that is tracked counts; the list of names is endless, or begins with the smallest."""
    monkeypatch.setattr(snapshot, "_MOST_UNTRACKED", 3 << 20)
    sizes = {f"{number}.bin": number for number in (3, 7, 1, 6, 2, 5)} | {"large.bin": (3 << 20) - 24 + extra}
    for name, size in {**sizes, "tracked.bin": 5 << 20}.items():
        with (tmp_path / name).open("wb") as file:
            file.truncate(size)
    changes = (FileChange(" M", "tracked.bin"), *(FileChange("??", name) for name in sizes))
    repository: Any = Answering(tmp_path, [])
    status = WorkTreeStatus(HEAD, None, changes, ())
    if not is_refused:
        snapshot._check_size(repository, status)
        return
    with pytest.raises(SnapshotError) as refused:
        snapshot._check_size(repository, status)
    assert f"more than 3 MiB of untracked files in {tmp_path}, which would be copied: " in str(refused.value)
    assert ": large.bin, 7.bin, 6.bin, 5.bin, 3.bin. Name them in .gitignore" in str(refused.value)


def test_the_size_of_a_folder_is_that_of_its_files_and_a_link_is_only_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: a link to a data set counts as that; a folder of a million files is read to its end."""
    (tmp_path / "folder" / "deep").mkdir(parents=True)
    (tmp_path / "folder" / "a").write_bytes(b"x" * 5)
    (tmp_path / "folder" / "deep" / "b").write_bytes(b"x" * 7)
    (tmp_path / "link").symlink_to("folder")
    (tmp_path / "dangling").symlink_to("n")
    names = ("folder", "link", "folder/a", "dangling")
    assert [snapshot._size(tmp_path / name, 100) for name in names] == [12, 6, 5, 1]

    def endless(_: Path) -> Iterator[tuple[str, list[str], list[str]]]:
        yield str(tmp_path / "folder"), [], ["a"]
        yield str(tmp_path / "folder"), [], ["a"]
        yield str(tmp_path / "folder"), [], ["a"]
        pytest.fail("goes on although it is enough")

    with monkeypatch.context() as patched:
        patched.setattr(snapshot.os, "walk", endless)
        assert snapshot._size(tmp_path / "folder", 14) == 15
        patched.setattr(snapshot.os, "walk", lambda _: iter([(str(tmp_path / "folder"), [], ["a"])] * 2))
        assert snapshot._size(tmp_path / "folder", 5) == 10  # 5 is not more than enough


def test_the_diff_of_a_version_is_written_once(tmp_path: Path) -> None:
    """Bug: an empty diff beside each copy; the file that runs have links to is replaced."""
    version = WorkTreeVersion(tmp_path, NEW, SnapshotMode.WORKTREE, HEAD, None, CHANGES, diff="+1\n")
    without = WorkTreeVersion(tmp_path, NEW, SnapshotMode.COMMIT, HEAD, None, CHANGES)
    assert snapshot._publish_diff(without, tmp_path / NEW) is None
    assert os.listdir(tmp_path) == []
    path = tmp_path / f"{NEW}.diff"
    assert snapshot._publish_diff(version, tmp_path / NEW) == path
    assert path.read_text() == "+1\n"
    path.write_text("as it was")
    assert snapshot._publish_diff(version, tmp_path / NEW) == path
    assert path.read_text() == "as it was"


@pytest.mark.parametrize(
    ("length", "end"), [(20, ""), (21, "\n… 1 more characters: git diff-tree -p " + f"{HEAD} {NEW}")]
)
def test_a_long_diff_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int, end: str) -> None:
    """Bug: a gigabyte of text with each run; or what is cut off is lost without a word."""
    monkeypatch.setattr(snapshot, "_MOST_DIFF", 20)
    repository: Any = Answering(tmp_path, [], {"diff-tree": "x" * length})
    assert snapshot._diff(repository, HEAD, NEW) == "x" * 20 + end + "\n"
    assert repository.asked == [("-c", "core.bigFileThreshold=10m", "diff-tree", "-p", HEAD, NEW)]


def test_the_limits_are_these() -> None:
    """Bug: a limit that is off by a power of two: 200 MiB of untracked files, 1 MiB of diff."""
    assert (snapshot._MOST_UNTRACKED, snapshot._MOST_DIFF) == (209_715_200, 1_048_576)

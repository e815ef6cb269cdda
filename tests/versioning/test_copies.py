"""Which copies of the code there are, who uses and needs them: of folders alone, git's answers by a stand-in."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlxp_core.errors import SnapshotError
from mlxp_core.runs.layout import LogDir, RunDir
from mlxp_core.runs.state import RunState
from mlxp_core.versioning import copies
from mlxp_core.versioning.copies import CodeCopy, all_runs, list_copies

A, B, C, D = (letter * 40 for letter in "abcd")
LONG = "e" * 64  # of a repository with SHA-256


@pytest.fixture
def log_dir(tmp_path: Path) -> LogDir:
    (tmp_path / "logs").mkdir()
    return LogDir(tmp_path / "logs")


Git = dict[tuple[str, str], str | BaseException]


@pytest.fixture
def git(monkeypatch: pytest.MonkeyPatch) -> Git:
    """What git says of a version, by repository and "find", "objects", "ref" or "foreign": why it is lost."""
    said: Git = {}

    def answer(folder: Path, question: str) -> str:
        what = said.get((Path(folder).name, question), "")
        if isinstance(what, BaseException):
            raise what
        return what

    def find(folder: Path, commit: str, *_: Path) -> Path:
        answer(folder, "find")
        return folder

    monkeypatch.setattr(copies, "find_version", find)
    monkeypatch.setattr(copies, "missing_objects_reason", lambda folder, *_: answer(folder, "objects"))
    monkeypatch.setattr(copies, "unreferenced_reason", lambda folder, *_: answer(folder, "ref"))
    monkeypatch.setattr(copies, "foreign_files_reason", lambda folder, *_: answer(folder, "foreign"))
    return said


def run_of(log_dir: LogDir, number: int, version: dict[str, Any] | None = None, **info: Any) -> RunState:
    run = log_dir.run(number)
    run.metadata.mkdir(parents=True)
    recorded = {"version_manager": {key: str(value) for key, value in version.items()}} if version else {}
    run.info.write_text(yaml.safe_dump({"status": "COMPLETE", **recorded, **info}))
    return RunState.load(run)


def copied(place: Path, commit: str, *, age: float = 0) -> Path:
    copy = place / commit
    copy.mkdir(parents=True)
    (copy / "main.py").touch()
    for path in (copy / "main.py", copy):
        os.utime(path, (time.time() - age,) * 2)
    return copy


def listed(log_dir: LogDir, *states: RunState) -> dict[str, CodeCopy]:
    return {copy.commit: copy for copy in list_copies(log_dir, states).copies}


def names(runs: tuple[RunDir, ...]) -> list[str]:
    return [run.path.name for run in runs]


def test_copies_are_whole_folders_here_and_where_a_run_names_one(log_dir: LogDir, git: Git, tmp_path: Path) -> None:
    """Bug: a half copy, a link or a file for a copy; one that is elsewhere is forgotten, or comes twice."""
    for commit, age in ((A, 300), (LONG, 100)):
        copied(log_dir.code, commit, age=age)
    for name in (f".{B}.1.01234567", "notes", A[1:], A[1:] + "g", A + "a"):
        (log_dir.code / name).mkdir()
    (log_dir.code / ("1" * 40)).symlink_to(A)
    (log_dir.code / ("2" * 40)).touch()
    elsewhere = copied(tmp_path / "elsewhere", C, age=200)
    (tmp_path / "link").symlink_to("elsewhere")
    (tmp_path / "logs link").symlink_to("logs")
    states = [
        run_of(log_dir, 1, {"commit_hash": A, "copy": log_dir.code / A}),
        run_of(log_dir, 2, {"commit_hash": A, "copy": tmp_path / "logs link" / ".mlxp" / "code" / A}),
        run_of(log_dir, 3, {"commit_hash": C, "copy": elsewhere}),
        run_of(log_dir, 4, {"commit_hash": C, "copy": tmp_path / "link" / C}),
        run_of(log_dir, 5, {"commit_hash": D, "copy": tmp_path / "pruned" / D}),
        run_of(log_dir, 6, {"commit_hash": D}),
        run_of(log_dir, 7),
        run_of(log_dir, 8, {"commit_hash": D, "copy": tmp_path / "link"}),  # which a prune must never take for one
    ]
    inventory = list_copies(log_dir, states)
    assert [(copy.commit, copy.own, names(copy.runs)) for copy in inventory.copies] == [
        (A, True, ["1", "2"]),
        (C, False, ["3", "4"]),
        (LONG, True, []),
    ]
    assert [copy.path for copy in inventory.copies] == [log_dir.code / A, elsewhere, log_dir.code / LONG]
    assert inventory.named == {A, C, D, "link"}


def test_copies_of_one_moment_are_in_the_order_of_their_names(log_dir: LogDir, git: Git) -> None:
    """Bug: another order at each call."""
    for commit in (B, A):
        os.utime(copied(log_dir.code, commit) / "main.py", (5, 5))
    assert list(listed(log_dir)) == [A, B]


def test_a_log_directory_without_copies_has_none(log_dir: LogDir, git: Git) -> None:
    """Bug: FileNotFoundError of `mlxp snapshots` where all runs were plain ones."""
    assert list_copies(log_dir, [run_of(log_dir, 1)]) == copies.Inventory((), frozenset())


def test_a_copy_that_is_pruned_meanwhile_is_passed_over(
    log_dir: LogDir, git: Git, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: FileNotFoundError of `mlxp snapshots`, beside a prune; or the copies after it are not listed."""
    for commit in (A, B):
        copied(log_dir.code, commit)
    measure = copies._measure

    def vanish(path: Path) -> tuple[int, float, float]:
        if path.name == A:
            raise FileNotFoundError(2, "gone", str(path))
        return measure(path)

    monkeypatch.setattr(copies, "_measure", vanish)
    assert list(listed(log_dir)) == [B]


def test_a_run_uses_the_copy_that_it_names_also_where_the_log_directory_was_moved(log_dir: LogDir, git: Git) -> None:
    """Bug: all copies of a moved log directory count as used by nobody; or a run uses another log directory's too."""
    here = copied(log_dir.code, A)
    there = copied(log_dir.path.parent / "other", A)
    states = [
        run_of(log_dir, 1, {"commit_hash": A, "copy": "/nowhere/logs/.mlxp/code/" + A}),
        run_of(log_dir, 2, {"commit_hash": A, "copy": here}),
        run_of(log_dir, 3, {"commit_hash": A, "copy": there}),
        run_of(log_dir, 4, {"commit_hash": B, "copy": "/nowhere/logs/.mlxp/code/" + B}),
    ]
    inventory = list_copies(log_dir, states)
    assert {copy.path: names(copy.runs) for copy in inventory.copies} == {here: ["1", "2"], there: ["1", "3"]}


@pytest.mark.parametrize(
    ("info", "submission", "uses"),
    [
        ("a: [", "", True),
        (
            "a: [",
            "{scheduler: slurm, script: /s, job_id: '7', time: '2026-01-01T00:00:00+00:00', state: FAILED}",
            False,
        ),
        ("status: PENDING", "a: [", False),  # it has said what it uses: nothing
        ("status: PENDING", "", False),
        ("", "", True),
    ],
)
def test_a_run_that_cannot_be_read_may_use_any_copy_until_it_has_ended(
    log_dir: LogDir, git: Git, info: str, submission: str, *, uses: bool
) -> None:
    """Bug: a full disk tears one info.yaml, and the prune removes the code of its job; or no copy is removed again."""
    copied(log_dir.code, A)
    run = run_of(log_dir, 1).run
    run.info.write_text(info)
    run.submission.write_text(submission)
    copy = listed(log_dir, RunState.load(run))[A]
    assert (copy.runs, copy.needed) == (((run,), (run,)) if uses else ((), ()))


def test_only_runs_that_have_not_ended_need_a_copy(log_dir: LogDir, git: Git) -> None:
    """Bug: no copy is ever removed, for a run has used it."""
    copied(log_dir.code, A)
    version = {"commit_hash": A, "copy": log_dir.code / A}
    states = [run_of(log_dir, number, version, status=status) for number, status in enumerate(("COMPLETE", "PENDING"))]
    copy = listed(log_dir, *states)[A]
    assert (names(copy.runs), names(copy.needed)) == (["0", "1"], ["1"])


@pytest.mark.parametrize(
    ("versions", "has_diff", "snapshot"),
    [
        ([], False, None),
        ([], True, "worktree"),
        ([{"commit_hash": A, "snapshot": "commit"}], True, "commit"),
        ([{"commit_hash": A}, {"commit_hash": A, "snapshot": "worktree"}], False, "worktree"),
        ([{"commit_hash": B, "snapshot": "commit"}], False, None),  # edited by hand: of another version
        ([{"commit_hash": A, "snapshot": "novel"}], False, "novel"),
    ],
)
def test_what_kind_of_version_it_is_says_a_run_or_its_diff(
    log_dir: LogDir, git: Git, versions: list[dict[str, str]], has_diff: bool, snapshot: str | None
) -> None:
    """Bug: SnapshotMode.COMMIT in a table; a version with changes that counts as a commit of the user's."""
    copy = copied(log_dir.code, A)
    if has_diff:
        (log_dir.code / f"{A}.diff").touch()
    states = [run_of(log_dir, number, {**version, "copy": copy}) for number, version in enumerate(versions)]
    assert listed(log_dir, *states)[A].snapshot == snapshot


def test_times_are_those_of_the_oldest_file_and_of_the_last_launch(log_dir: LogDir, git: Git) -> None:
    """Bug: made when it was last used; a time without its zone, which JSON shows."""
    copy = copied(log_dir.code, A)
    os.utime(copy / "main.py", (1_700_000_000,) * 2)
    os.utime(copy, (1_800_000_000,) * 2)
    found = listed(log_dir)[A]
    assert (found.made.timestamp(), found.used.timestamp()) == (1_700_000_000, 1_800_000_000)
    assert (found.made.tzinfo, found.used.tzinfo) != (None, None)
    assert found.size == 512 * sum(os.lstat(path).st_blocks for path in (copy, copy / "main.py"))


def test_a_file_that_vanishes_while_it_is_measured_counts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: FileNotFoundError, or the files after it left out, while a job cleans up its byte code."""
    for name in ("a", "z"):
        (tmp_path / name).write_bytes(b"x" * 5000)
    os.utime(tmp_path / "z", (5, 5))
    blocks = sum(os.lstat(path).st_blocks for path in (tmp_path, tmp_path / "a", tmp_path / "z"))
    with monkeypatch.context() as patched:
        patched.setattr(copies.os, "walk", lambda top: iter([(str(top), [], ["a", "gone", "z"])]))
        size, made, _ = copies._measure(tmp_path)
    assert (size, made) == (512 * blocks, 5)


def test_git_is_asked_where_the_runs_of_a_copy_say_else_everywhere(log_dir: LogDir, git: Git) -> None:
    """Bug: a copy of another repository counts as lost, or one without runs as lost although git has it."""
    for commit in (A, B):
        copied(log_dir.code, commit)
    git["one", "ref"] = "nothing holds it"
    states = [
        run_of(log_dir, 1, {"commit_hash": A, "copy": log_dir.code / A, "repo_path": "/one"}),
        run_of(log_dir, 2, {"commit_hash": C, "repo_path": "/two"}),
    ]
    found = listed(log_dir, *states)
    assert (found[A].problem, found[B].problem) == ("nothing holds it", "")


@pytest.mark.parametrize(
    ("said", "repositories", "reason"),
    [
        ({}, [], "no run says which repository it is of"),
        ({}, ["/one"], ""),
        ({("one", "objects"): "lost files", ("one", "ref"): "no ref"}, ["/one"], "lost files"),
        ({("one", "ref"): "no ref"}, ["/one"], "no ref"),
        ({("one", "foreign"): "results/x.csv"}, ["/one"], "results/x.csv"),
        ({("one", "find"): SnapshotError("not there")}, ["/one"], "not there"),
        ({("one", "objects"): OSError("a full disk")}, ["/one"], "a full disk"),
        ({("one", "find"): SnapshotError("not there")}, ["/one", "/two"], ""),
        ({("two", "find"): SnapshotError("not there")}, ["/one", "/two"], ""),
        ({("one", "ref"): "first", ("two", "ref"): "second"}, ["/one", "/two", "/one"], "second"),
    ],
)
def test_a_copy_is_lost_where_no_repository_can_give_it_again(
    git: Git, tmp_path: Path, said: Git, repositories: list[str], reason: str
) -> None:
    """Bug: the only copy of what a run has run is removed; or one that a clone has is kept for ever."""
    git.update(said)
    assert copies._lost_reason(tmp_path / A, map(Path, repositories)) == reason


def test_all_runs_are_those_in_the_folder_and_those_that_submissions_name(log_dir: LogDir) -> None:
    """Bug: the code of runs in hydra.sweep.subdir=a/b goes while they wait; a run twice; one that was deleted."""
    run_of(log_dir, 2)
    assert names(tuple(all_runs(log_dir))) == ["2"]

    def deep(name: str) -> RunDir:
        return RunDir(log_dir.path / "sweep" / name)

    for name in ("a", "b", "c"):
        deep(name).metadata.mkdir(parents=True)
        deep(name).info.touch()
    for number, runs in ((1, [deep("b"), log_dir.run(2)]), (2, [deep("gone"), deep("a"), deep("b")])):
        folder = log_dir.submissions / str(number)
        folder.mkdir(parents=True)
        (folder / "manifest").write_text("".join(f"{run.path}\n" for run in runs))
    assert all_runs(log_dir) == [log_dir.run(2), deep("b"), deep("a")]


TIME = "time: '2026-11-25T18:00:00+00:00'"
QUEUED = f"scheduler: slurm, script: /job.sh, job_id: '7', {TIME}"


@pytest.mark.parametrize(
    ("info", "submission", "is_current", "may_run"),
    [
        ("status: COMPLETE", QUEUED, True, False),
        ("status: COMPLETE", QUEUED, False, True),  # its scheduler has not answered
        ("status: COMPLETE", f"scheduler: slurm, script: /job.sh, job_id: null, {TIME}", True, True),  # perhaps again
        ("status: FAILED, error: {type: KeyError}", QUEUED, True, False),
        ("status: FAILED", QUEUED, True, True),  # killed, so it may be started again
        ("status: FAILED", f"{QUEUED}, state: FAILED", True, False),
        ("status: FAILED", f"{QUEUED}, state: FAILED, stuck: true", True, True),
        ("status: RUNNING, hostname: elsewhere", QUEUED, True, True),
        ("status: PENDING", "", True, True),  # not submitted: `mlxp rerun` may
    ],
)
def test_a_copy_is_needed_by_what_may_still_run(
    tmp_path: Path, info: str, submission: str, *, is_current: bool, may_run: bool
) -> None:
    """Bug: the code of a job that gave way is removed while it waits to go on; or none is ever removed."""
    run = RunDir(tmp_path)
    run.metadata.mkdir()
    run.info.write_text(f"{{{info}}}")
    run.submission.write_text(f"{{{submission}}}")
    state = RunState.load(run).with_is_current(is_current=is_current)
    assert state.problem == ""
    assert copies._may_still_run(state) is may_run


def test_the_size_is_that_on_disk_and_the_times_are_of_the_oldest_file_and_the_last_choice(tmp_path: Path) -> None:
    """Bug: bytes of files and not of blocks, folders left out, or the first launch forgotten with the last."""
    now = time.time()
    (tmp_path / "pkg" / "deep").mkdir(parents=True)
    for name, age in (("a.py", 300), ("pkg/b.py", 500), ("pkg/deep/c.py", 400)):
        (tmp_path / name).write_bytes(b"x" * 5000)
        os.utime(tmp_path / name, (now - age,) * 2)
    os.utime(tmp_path, (now - 100,) * 2)
    parts = (tmp_path, *tmp_path.rglob("*"))
    blocks = sum(path.stat().st_blocks for path in parts)
    assert len(parts) == 6
    size, made, used = copies._measure(tmp_path)
    assert size == 512 * blocks
    assert (made, used) == (pytest.approx(now - 500, abs=1e-3), pytest.approx(now - 100, abs=1e-3))

"""Run ids: one for each run, none twice, none left out."""

from __future__ import annotations

import multiprocessing
import os
import stat
from pathlib import Path

import pytest

from mlxp_core.errors import StoreError
from mlxp_core.runs.allocation import RunAllocator, allocate_numbered_dir


def _allocate(log_dir: Path, count: int, results: multiprocessing.Queue) -> None:
    with RunAllocator(log_dir) as store:
        results.put([store.allocate().id for _ in range(count)])


def test_ids_count_from_one_and_name_folders_that_are_there(tmp_path: Path) -> None:
    """Bug: an id off by one, or given before its folder exists."""
    with RunAllocator(tmp_path / "logs") as store:
        runs = store.allocate_block(3)
    assert [run.id for run in runs] == [1, 2, 3]
    assert all((tmp_path / "logs" / str(number)).is_dir() for number in (1, 2, 3))


def test_a_run_0_of_hydras_own_numbers_takes_no_id_from_others(tmp_path: Path) -> None:
    """Bug: 0 taken for "no run yet", so that its folder is given again, or an id is left out."""
    (tmp_path / "0").mkdir()
    with RunAllocator(tmp_path) as store:
        assert [run.id for run in store.allocate_block(2)] == [1, 2]
    assert allocate_numbered_dir(tmp_path).name == "3"


def test_processes_that_allocate_at_once_get_every_id_once(tmp_path: Path) -> None:
    """Bug: two processes read the same counter; or one skips ids that another has just freed up to."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    workers = [context.Process(target=_allocate, args=(tmp_path, 200, results)) for _ in range(4)]
    for worker in workers:
        worker.start()
    ids = [number for _ in workers for number in results.get(timeout=60)]
    for worker in workers:
        worker.join(60)
    assert sorted(ids) == list(range(1, 801))


def test_an_id_of_a_deleted_run_is_not_given_again(tmp_path: Path) -> None:
    """Bug: run 3 of last week's notes is another one today."""
    with RunAllocator(tmp_path) as store:
        store.allocate_block(3)
    (tmp_path / "3").rmdir()
    (tmp_path / "2").rmdir()
    with RunAllocator(tmp_path) as store:
        assert store.allocate().id == 4


@pytest.mark.parametrize("hint", [b"", b"garbage", b"00000000000000000007\n", b"\xff" * 21, b"00000000000000000000\n"])
def test_a_hint_that_is_stale_torn_or_nonsense_costs_no_id(tmp_path: Path, hint: bytes) -> None:
    """Bug: trusting .mlxp/last_id; after a crash it may hold anything at or below the truth."""
    with RunAllocator(tmp_path) as store:
        store.allocate_block(9)
    (tmp_path / ".mlxp" / "last_id").write_bytes(hint)
    with RunAllocator(tmp_path) as store:
        assert store.allocate().id == 10


def test_folders_that_are_no_runs_do_not_count(tmp_path: Path) -> None:
    """Bug: int("007") or a folder called 2024-01-01 moves the ids."""
    for name in ("007", "multirun", "2024-01-01", "٣", "-5"):
        (tmp_path / name).mkdir()
    with RunAllocator(tmp_path) as store:
        assert store.allocate().id == 1


def test_a_log_directory_that_cannot_be_made_is_named_with_a_way_out(tmp_path: Path) -> None:
    """Bug: a bare OSError from the depths of a launcher."""
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"log directory .*file/logs.*log_dir"):
        RunAllocator(tmp_path / "file" / "logs")


def test_the_hint_is_no_secret_and_survives_another_user(tmp_path: Path) -> None:
    """Bug: mode 0600 keeps the members of a group out of a shared log directory."""
    before = os.umask(0o002)
    try:
        with RunAllocator(tmp_path) as store:
            store.allocate()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / ".mlxp" / "last_id").stat().st_mode) == 0o664


def test_numbered_folders_count_on(tmp_path: Path) -> None:
    """Bug: a second submission writes into the first one's folder."""
    assert [allocate_numbered_dir(tmp_path / "s").name for _ in range(3)] == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        ((), 1),
        (("1", "2"), 3),
        (("1", "2", "7"), 8),  # 3 to 6 were deleted, and are not given again
        (("9", "10"), 11),  # by number, not by name
        (("10", "9", "2", "007", "x", ".mlxp", "11.bak"), 11),
    ],
)
def test_without_its_hint_a_directory_goes_on_after_the_highest_id(
    tmp_path: Path, there: tuple[str, ...], expected: int
) -> None:
    """Bug: a log directory that was copied without .mlxp, and of which runs were deleted: an id is given twice."""
    for name in there:
        (tmp_path / name).mkdir()
    with RunAllocator(tmp_path) as store:
        assert (store.last_id, store.allocate().id, store.allocate().id) == (expected - 1, expected, expected + 1)
    assert (tmp_path / ".mlxp" / "last_id").read_text() == f"{expected + 1:020d}\n"


def test_a_hint_that_has_fallen_back_gives_no_id_twice(tmp_path: Path) -> None:
    """Bug: two processes write the hint in the other order, and the third one starts in the middle of the runs."""
    with RunAllocator(tmp_path) as store:
        store.allocate_block(6)
    (tmp_path / "4").rmdir()
    (tmp_path / ".mlxp" / "last_id").write_text(f"{4:020d}\n")
    with RunAllocator(tmp_path) as store:
        assert store.allocate().id == 7


def test_stores_that_are_open_at_once_take_turns(tmp_path: Path) -> None:
    """Bug: an id by what a store knew when it was opened."""
    with RunAllocator(tmp_path) as one, RunAllocator(tmp_path) as two:
        ids = [store.allocate().id for store in (one, two, two, one, one)]
        assert (one.last_id, two.last_id) == (5, 3)
    assert ids == [1, 2, 3, 4, 5]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: a launch that tries one id after the other on a full disk, for ever."""

    def full(path: str) -> None:
        raise OSError(28, "No space left on device", path)

    with RunAllocator(tmp_path) as store:
        monkeypatch.setattr(os, "mkdir", full)
        with pytest.raises(StoreError, match=r"run folder .*/1 cannot be made: .*No space left"):
            store.allocate()
        assert store.last_id == 0


@pytest.mark.parametrize(
    ("there", "expected"), [((), "1"), (("1", "3"), "4"), (("9", "10"), "11"), (("2", "x", "007"), "3")]
)
def test_numbered_folders_go_on_after_the_highest(tmp_path: Path, there: tuple[str, ...], expected: str) -> None:
    """Bug: a submission in the place of one that was removed; the tenth before the second."""
    for name in there:
        (tmp_path / "s" / name).mkdir(parents=True)
    assert allocate_numbered_dir(tmp_path / "s").name == expected


def test_a_numbered_folder_that_another_has_just_made_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: two submissions in one folder, since both have listed it before either made its own."""
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    (tmp_path / "3").mkdir()
    monkeypatch.setattr(os, "scandir", lambda _: iter([]))  # as it was before
    assert allocate_numbered_dir(tmp_path).name == "4"

"""Which runs are chosen by ids, ranges and names, in process. By queries: test_cli.py."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from mlxp_core.cli.selection import choose, insist
from mlxp_core.errors import StoreError
from mlxp_core.runs.layout import LogDir


@pytest.fixture
def log_dir(tmp_path: Path) -> LogDir:
    for name in ("2", "3", "5", "12", "baseline", "2-3", "deep/1"):
        (tmp_path / name / "metadata").mkdir(parents=True)
        (tmp_path / name / "metadata" / "info.yaml").touch()
    return LogDir(tmp_path)


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        ([], ["2", "3", "5", "12", "2-3", "baseline"]),
        (["5"], ["5"]),
        (["12", "2"], ["2", "12"]),
        (["3-5"], ["3", "5"]),
        (["4-11"], ["5"]),
        (["1-2", "2,5"], ["2", "5"]),
        (["2, 12"], ["2", "12"]),
        (["baseline", "3"], ["3", "baseline"]),
        (["2-3"], ["2-3"]),  # a folder of this name goes before a range
        (["deep/1", "3"], ["3", "deep/1"]),
    ],
)
def test_each_run_that_is_named_is_chosen_once_in_order(log_dir: LogDir, names: list[str], chosen: list[str]) -> None:
    """Bug: the ends of a range left out; a run cancelled that nobody named; an order that changes with the call."""
    assert [str(run.path.relative_to(log_dir.path)) for run in choose(log_dir, names)] == chosen


@pytest.mark.parametrize(
    ("names", "chosen"), [([], ["0", "2", "3"]), (["0"], ["0"]), (["0-2"], ["0", "2"]), (["3,0"], ["0", "3"])]
)
def test_the_run_0_of_hydras_own_numbers_is_chosen_as_others_are(
    tmp_path: Path, names: list[str], chosen: list[str]
) -> None:
    """Bug: 0 is a name and no id, so that a range leaves it out and it stands behind all others."""
    for name in ("3", "0", "2"):
        (tmp_path / name / "metadata").mkdir(parents=True)
        (tmp_path / name / "metadata" / "info.yaml").touch()
    assert [run.path.name for run in choose(LogDir(tmp_path), names)] == chosen


def test_a_folder_of_log_directories_is_no_empty_one(tmp_path: Path) -> None:
    """Bug: `mlxp status --log-dir multirun` says 0 runs."""
    (tmp_path / "multirun/day/10-00/0/metadata").mkdir(parents=True)
    (tmp_path / "multirun/day/10-00/0/metadata/info.yaml").touch()
    with pytest.raises(StoreError, match=r"multirun holds no runs, but .*/multirun/day/10-00 below it: give one of"):
        choose(LogDir(tmp_path / "multirun"), [])
    (tmp_path / "logs").mkdir()
    assert choose(LogDir(tmp_path / "logs"), []) == []


@pytest.mark.parametrize(
    ("name", "error", "what"),
    [
        ("4", StoreError, "there is no run 4 in"),
        ("6-11", StoreError, "there is no run 6-11 in"),
        ("2,4", StoreError, "there is no run 4 in"),
        ("basline", StoreError, "there is 2-3, 5, 12, 2-3, baseline"),
        ("5-2", typer.BadParameter, "5-2: a range goes from the smaller id to the larger"),
        ("", StoreError, "there is no run ''"),
        (".", StoreError, "there is no run '.'"),
    ],
)
def test_what_is_not_there_is_an_error_that_says_what_is(
    log_dir: LogDir, name: str, error: type[Exception], what: str
) -> None:
    """Bug: a slip that cancels nothing, and says nothing; or the log directory itself taken for a run."""
    with pytest.raises(error) as caught:
        choose(log_dir, ["2", name])
    assert what in str(caught.value)


def test_a_command_that_changes_runs_insists_on_a_choice() -> None:
    """Bug: `mlxp cancel` cancels everything."""
    insist(["1"], None, "cancel")
    insist(None, "", "cancel")
    for names in ([], None):
        with pytest.raises(typer.BadParameter, match="say which runs to cancel"):
            insist(names, None, "cancel")

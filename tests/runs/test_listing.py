"""The runs of a log directory in order, and in few words."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlxp_core.errors import StoreError
from mlxp_core.runs.layout import LogDir, RunDir
from mlxp_core.runs.listing import format_runs, list_runs, pluralize


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ([], "none"),
        (["7"], "7"),
        (["9", "10"], "9-10"),
        (["3", "1", "2", "3"], "1-3"),
        (["1", "3", "5"], "1, 3, 5"),
        (["baseline", "2", "0", "1"], "0-2, baseline"),
        (["00", "0"], "0, 00"),
        (["baseline", "11", "2", "1", "10", "a b", "7"], "1-2, 7, 10-11, a b, baseline"),
        (["baseline", "007"], "007, baseline"),  # no ids
    ],
)
def test_runs_are_named_in_few_words(names: list[str], text: str) -> None:
    """Bug: a gap in the ids that is taken for runs, or a thousand numbers in an error."""
    assert format_runs(RunDir(Path("/logs") / name) for name in names) == text


def test_one_is_no_plural() -> None:
    """Bug: "1 jobs submitted"."""
    assert [pluralize(number, "job") for number in (0, 1, 2)] == ["0 jobs", "1 job", "2 jobs"]


def test_runs_are_listed_by_id_and_then_by_name(tmp_path: Path) -> None:
    """Bug: 10 before 9, 0 behind them; a folder of the user's, a file or `.mlxp` taken for a run."""
    for name in ("10", "9", "b", "a", "0", ".hidden"):
        (tmp_path / name / "metadata").mkdir(parents=True)
        (tmp_path / name / "metadata" / "info.yaml").touch()
    (tmp_path / "plots" / "metadata").mkdir(parents=True)
    (tmp_path / "notes").touch()
    assert [run.path.name for run in list_runs(LogDir(tmp_path))] == ["0", "9", "10", "a", "b"]
    with pytest.raises(StoreError, match="No such file or directory"):
        list_runs(LogDir(tmp_path / "none"))

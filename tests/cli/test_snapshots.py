"""What `mlxp snapshots` prints of copies of the code, in process. With repositories: versioning/test_prune.py."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest

from mlxp_core.cli import snapshots
from mlxp_core.runs.layout import RunDir
from mlxp_core.versioning.copies import CodeCopy
from mlxp_core.versioning.prune import PruneResult

RUNS = tuple(RunDir(Path("/logs") / str(number)) for number in (1, 2, 3, 7))
MADE = datetime(2026, 11, 25, 18, 0, 5, tzinfo=timezone.utc)
ONE = CodeCopy(Path("/logs/.mlxp/code") / ("a" * 40), True, "commit", MADE, MADE, 2_621_440, RUNS, RUNS[2:], "")
TWO = replace(
    ONE, path=ONE.path.with_name("b" * 40), snapshot=None, size=1023, runs=(), needed=(), problem="it is lost"
)


def test_a_table_says_which_copies_git_can_make_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bug: a column without a name, the runs that have ended among those that have not, or "yes" for what is lost."""
    monkeypatch.setenv("COLUMNS", "100")
    snapshots._show([ONE, TWO])
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == [
        "",
        " version     snapshot  made                 size  runs    not ended  can be made again",
        " " + "─" * 86,
        " aaaaaaaaaa  commit    2026-11-25 18:00  2.5 MiB  1-3, 7          2  yes",
        " bbbbbbbbbb            2026-11-25 18:00   1023 B  none            0  no: it is lost",
        "",
        "2 copies, 2.5 MiB",
    ]
    snapshots._show([])
    assert capsys.readouterr().out == "no copies\n"


def test_programs_get_whole_values(capsys: pytest.CaptureFixture[str]) -> None:
    """Bug: half a hash; "none" as the name of a run."""
    snapshots._print_plain([ONE, TWO])
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["version", "snapshot", "made", "size", "runs", "needed_by", "problem", "path"]
    time = "2026-11-25T18:00:05+00:00"
    assert lines[1] == ["a" * 40, "commit", time, "2621440", "1-3, 7", "3, 7", "", str(ONE.path)]
    assert lines[2] == ["b" * 40, "", time, "1023", "", "", "it is lost", str(TWO.path)]


def test_a_prune_says_what_went_what_stays_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    """Bug: bytes of what was kept counted as freed; a failure among the answers of a program."""
    free = replace(ONE, path=ONE.path.with_name("c" * 40), needed=())
    kept = {str(ONE.path): (ONE, "needed"), str(TWO.path): (TWO, "it is lost")}
    left = (Path("/logs/.mlxp/code/.x"),)
    snapshots._report(PruneResult((free,), kept, {"/y": "it belongs to user 7"}, left), "removed")
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "removed: cccccccccc, 2.5 MiB, of run 1-3, 7",
        "removed: .x, left by what was killed",
        "kept: aaaaaaaaaa, 2.5 MiB: run 3, 7 needs it",
        "kept: bbbbbbbbbb, 1023 B: it is lost",
    ]
    assert err.splitlines() == [
        "removed: 1 copy, 2.5 MiB; kept: 2 copies",
        "cannot be removed: /y: it belongs to user 7",
    ]


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (1024**2, "1.0 MiB"),
        (5 * 1024**3, "5.0 GiB"),
        (3 * 1024**5, "3072.0 TiB"),
    ],
)
def test_sizes_are_short(size: int, text: str) -> None:
    """Bug: 1024 B, or a size a thousand times too large."""
    assert snapshots._short_size(size) == text

"""What `mlxp logs` makes of files, in process. With jobs: test_cli.py."""

from __future__ import annotations

import importlib
import io
from pathlib import Path

import pytest

from mlxp_core.runs.layout import RunDir

logs = importlib.import_module("mlxp_core.cli.logs")  # as an attribute of its package it is the command


def source(path: Path, label: str = "a", *, optional: bool = False):
    return logs._Source(RunDir(path.parent), path, label, optional=optional)


def test_pieces_of_several_files_say_whose_they_are_where_that_changes(tmp_path: Path) -> None:
    """Bug: a header in the middle of a line, one for every piece, or none for a file that came in between."""
    out, stdout, stderr = io.BytesIO(), source(tmp_path / "x", "stdout"), source(tmp_path / "x", "stderr")
    printer = logs._Printer(out, labelled=True)
    for place, text in (
        (stdout, b"1\n"),
        (stdout, b"2"),
        (stderr, b""),
        (stdout, b"3"),
        (stderr, b"4\n"),
        (stdout, b"5\n"),
    ):
        printer.print(place, text)
    assert out.getvalue() == b"==> stdout <==\n1\n23\n\n==> stderr <==\n4\n\n==> stdout <==\n5\n"


def test_one_file_alone_is_printed_as_it_is_but_the_schedulers_own_has_its_name(tmp_path: Path) -> None:
    """Bug: `mlxp logs 1 --stdout > file` with a header in it; what Slurm says taken for what the program says."""
    out = io.BytesIO()
    printer = logs._Printer(out, labelled=False)
    printer.print(source(tmp_path / "x", "stdout"), b"1\n")
    printer.print(source(tmp_path / "x", "slurm", optional=True), b"killed\n")
    assert out.getvalue() == b"1\n\n==> slurm <==\nkilled\n"


@pytest.mark.parametrize(
    ("text", "lines", "tail"),
    [
        (b"1\n2\n3\n", 2, b"2\n3\n"),
        (b"1\n2\n3", 2, b"2\n3"),
        (b"1\n2\n3\n", 3, b"1\n2\n3\n"),
        (b"1\n2\n3\n", 9, b"1\n2\n3\n"),
        (b"1\n2\n3\n", 0, b""),
        (b"\n\n", 1, b"\n"),
        (b"", 2, b""),
        (b"a" * 70_000 + b"\nb\n" + b"c" * 70_000 + b"\n", 2, b"b\n" + b"c" * 70_000 + b"\n"),  # longer than one read
        (b"x\n" * 40_000, 35_000, b"x\n" * 35_000),
    ],
)
def test_the_last_lines_are_read_from_the_end(tmp_path: Path, text: bytes, lines: int, tail: bytes) -> None:
    """Bug: one line too many or too few; half of the first one; what comes later printed twice."""
    (tmp_path / "log").write_bytes(text)
    place = source(tmp_path / "log")
    assert place.last(lines) == tail
    assert place.more() == b""
    with (tmp_path / "log").open("ab") as file:
        file.write(b"more")
    assert place.more() == b"more"
    place.close()


def test_a_file_that_comes_later_grows_and_is_replaced_is_followed(tmp_path: Path) -> None:
    """Bug: silence after the next attempt has begun a file of its own; or what was shown is shown again."""
    path = tmp_path / "log"
    place = source(path)
    assert (place.seen, place.last(None), place.more()) == (False, b"", b"")
    path.write_bytes(b"1\n")
    assert (place.more(), place.seen) == (b"1\n", True)
    assert place.more() == b""  # nothing new, and it is the same file
    with path.open("ab") as file:
        file.write(b"2\n")
    path.rename(tmp_path / "moved")
    assert place.more() == b"2\n"
    path.write_bytes(b"next\n")
    assert place.more() == b"next\n"
    path.write_bytes(b"a\n")  # shorter than what was read: begun anew
    assert place.more() == b"a\n"
    path.unlink()
    assert place.more() == b""
    place.close()
    assert place.last(1) == b""


class Clock:
    """Time that passes when somebody sleeps; not for ever."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        assert self.now < 1060, "follows for ever"


@pytest.mark.parametrize("code", ["", "0 1\n"])
def test_following_ends_with_the_run_also_where_it_has_left_no_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    """Bug: `mlxp logs -f` of a run that was started by hand, or killed, never ends; or misses the last line."""
    run, clock, out = RunDir(tmp_path), Clock(), io.BytesIO()
    run.metadata.mkdir()
    run.info.write_text("{status: RUNNING, hostname: elsewhere}")

    class Ending(logs._Source):
        """Prints a line a second; the run ends with the third, which comes as it is looked at."""

        def more(self) -> bytes:
            if clock.now > 1003 and "RUNNING" in run.info.read_text():
                run.info.write_text("{status: COMPLETE}")
                if code:
                    run.exit_code.write_text(code)
                self.path.write_bytes(b"1\n2\n3\n")
            return super().more()

    monkeypatch.setattr(logs, "time", clock)
    (tmp_path / "log").write_bytes(b"1\n2\n")
    place = Ending(run, tmp_path / "log", "stdout")
    logs._follow([run], [place], logs._Printer(out, labelled=False))
    place.close()
    assert out.getvalue() == b"1\n2\n3\n"
    assert clock.now == pytest.approx(1003.4 if code else 1004.3, abs=0.7)

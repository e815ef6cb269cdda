"""What `mlxp logs` makes of files, in process. With jobs: test_cli.py."""

from __future__ import annotations

import importlib
import io
from pathlib import Path

import pytest

from mlxp_core.errors import ConfigurationError
from mlxp_core.runs.layout import LogDir, RunDir

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


def sources(log_dir: Path, *streams: str, attempt: int | None = None) -> list[tuple[str, str, bool]]:
    """File (relative to the log directory), label and whether it is optional."""
    found = [*logs._sources(LogDir(log_dir), RunDir(log_dir / "7"), streams or ("stdout", "stderr"), attempt)]
    for source in found:
        source.close()
    return [(str(source.path.relative_to(log_dir)), source.label, source.optional) for source in found]


@pytest.fixture
def third(tmp_path: Path) -> RunDir:
    """A run at its third attempt; of the first stdout was kept, of the second stderr."""
    run = RunDir(tmp_path / "7")
    run.metadata.mkdir(parents=True)
    run.info.write_text("{status: RUNNING, attempt: 3}")
    run.starts.write_text("one\ntwo\nthree\n")
    for attempt in (1, 2):
        run.attempt_dir(attempt).metadata.mkdir(parents=True)
    run.attempt_dir(1).stdout.touch()
    run.attempt_dir(2).stderr.touch()
    return run


def test_an_attempt_has_its_own_output(tmp_path: Path, third: RunDir) -> None:
    """Bug: what the third attempt prints, under the name of the second, for that has printed nothing to stdout."""
    out, err = third.stdout.name, third.stderr.name
    assert sources(tmp_path) == [(f"7/{out}", "run 7: stdout", False), (f"7/{err}", "run 7: stderr", False)]
    assert sources(tmp_path, attempt=3) == sources(tmp_path)
    for attempt in (1, 2):
        place = third.attempt_dir(attempt).path.relative_to(tmp_path)
        assert sources(tmp_path, attempt=attempt) == [
            (f"{place}/{out}", f"run 7, attempt {attempt}: stdout", False),
            (f"{place}/{err}", f"run 7, attempt {attempt}: stderr", False),
        ]
    assert sources(tmp_path, "stderr", attempt=1) == [
        (f"{third.attempt_dir(1).path.relative_to(tmp_path)}/{err}", "run 7, attempt 1: stderr", False)
    ]
    with pytest.raises(ConfigurationError, match=r"run 7 of .* has no attempt 4: its latest is 3"):
        sources(tmp_path, attempt=4)


def test_an_attempt_that_has_ended_is_where_it_was_until_the_next_one_begins(tmp_path: Path, third: RunDir) -> None:
    """Bug: nothing is shown of a run that failed and waits for its next attempt: its output was not moved yet."""
    third.info.write_text("{status: PENDING, attempt: 4}")
    assert [path for path, *_ in sources(tmp_path, attempt=3)] == [f"7/{third.stdout.name}", f"7/{third.stderr.name}"]
    for attempt in (1, 2):
        assert all(str(third.attempt_dir(attempt).path.name) in path for path, *_ in sources(tmp_path, attempt=attempt))


def test_what_the_scheduler_says_is_shown_beside_both_streams_alone(
    tmp_path: Path, third: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: `mlxp logs 7 --stdout > file` with Slurm's words in it; or that of the third attempt beside the first's."""
    own = tmp_path / "slurm.out"
    monkeypatch.setattr(logs.RunState, "scheduler_output", own)
    third.submission.write_text("{scheduler: slurm, job_id: '1', time: '2026-11-25T18:00:00+00:00'}")
    assert sources(tmp_path)[2:] == [("slurm.out", "run 7: slurm", True)]
    assert [len(sources(tmp_path, "stdout")), len(sources(tmp_path, attempt=1))] == [1, 2]

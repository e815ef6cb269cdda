"""What `mlxp logs` makes of files, in process. With jobs: test_cli.py."""

from __future__ import annotations

import importlib
import io
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from mlxp_core.cli import app
from mlxp_core.errors import ConfigurationError
from mlxp_core.jobs.refresh import UnreachableScheduler
from mlxp_core.runs.layout import LogDir, RunDir
from mlxp_core.runs.state import RunState

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
        (b"a" * 70_000 + b"\nb\n", 2, b"a" * 70_000 + b"\nb\n"),  # of which one read has both ends of lines
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
    with (tmp_path / "moved").open("ab") as file:
        file.write(b"3\n")  # by a program that has it open still
    assert place.more() == b"3\n"
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


@pytest.fixture
def log_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LogDir:
    """Runs 1 and 2 have printed; 3 has not yet."""
    log_dir = LogDir(tmp_path / "logs")
    for number, out, err in ((1, "out 1\n", "err 1\nlast\n"), (2, "out 2\n", ""), (3, None, None)):
        run = log_dir.run(number)
        run.metadata.mkdir(parents=True)
        run.info.write_text("status: COMPLETE\n" if out else "status: PENDING\n")
        if out is not None:
            run.stdout.write_text(out)
            run.stderr.write_text(err or "")
    monkeypatch.chdir(tmp_path)
    return log_dir


def called(*words: str) -> Result:
    return CliRunner().invoke(app, ["logs", *words])


BOTH_RUNS = "==> run 1: stdout <==\nout 1\n\n==> run 2: stdout <==\nout 2\n"


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (("1",), "==> run 1: stdout <==\nout 1\n\n==> run 1: stderr <==\nerr 1\nlast\n"),
        (("1", "--stdout", "--stderr"), "==> run 1: stdout <==\nout 1\n\n==> run 1: stderr <==\nerr 1\nlast\n"),
        (("1", "--stdout"), "out 1\n"),
        (("1", "--stderr"), "err 1\nlast\n"),
        (("1-2", "--stdout"), "==> run 1: stdout <==\nout 1\n\n==> run 2: stdout <==\nout 2\n"),
        (
            ("-q", "info.status == 'COMPLETE'", "--stdout"),
            "==> run 1: stdout <==\nout 1\n\n==> run 2: stdout <==\nout 2\n",
        ),
        (("2-3", "-q", "info.status == 'COMPLETE'", "--stdout"), "out 2\n"),
        (("1", "-n", "1"), "==> run 1: stdout <==\nout 1\n\n==> run 1: stderr <==\nlast\n"),
        (("1", "--stderr", "-n", "0"), ""),
        (("1", "--stderr", "-n", "9"), "err 1\nlast\n"),
        (("1", "--stdout", "--attempt", "1"), "out 1\n"),  # the latest
        (("1", "--stdout", "--follow"), "out 1\n"),  # it has ended
    ],
)
def test_streams_are_both_or_one_of_one_run_or_several(log_dir: LogDir, words: tuple[str, ...], shown: str) -> None:
    """Bug: headers in what is piped on, or none where they are needed; stderr forgotten."""
    done = called(*words)
    assert (done.exit_code, done.stdout, done.stderr) == (0, shown, "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "say which runs to logs"),
        (("1", "-n", "-1"), "Invalid value for '--lines' / '-n'"),
        (("1", "--attempt", "0"), "Invalid value for '--attempt'"),
    ],
)
def test_what_makes_no_sense_is_refused(log_dir: LogDir, words: tuple[str, ...], said: str) -> None:
    """Bug: the log of every run, or of the attempt before the first."""
    done = called(*words)
    assert done.exit_code == 2
    assert said in done.stderr


ORDER = {"scheduler": "slurm", "name": "n", "shebang": "#!/bin/bash", "header": ["#SBATCH --mem=1G"], "directory": "/"}


@pytest.mark.parametrize(
    ("order", "submission", "why"),
    [
        (
            None,
            None,
            "it was not made by a launcher, so its output went to the terminal alone: "  # noqa: ISC004
            "hydra.callbacks.mlxp.log_streams=true keeps it",
        ),
        ({}, None, "it is PENDING (not submitted)"),
        ({}, {"state": "RUNNING"}, "it is PENDING"),
        (
            {"header": ["#SBATCH --output=/x", "#SBATCH --mem=1G", "#SBATCH -e y"]},
            None,
            "its header sends what it prints elsewhere (#SBATCH --output=/x; #SBATCH -e y)",
        ),
    ],
)
def test_why_there_is_no_log_is_said(
    log_dir: LogDir, order: dict[str, Any] | None, submission: dict[str, Any] | None, why: str
) -> None:
    """Bug: nothing, and exit code 0, for output that the user's own header has sent elsewhere."""
    run = log_dir.run(3)
    if order is not None:
        run.settings.write_text(yaml.safe_dump({"order": {**ORDER, **order}}))
    if submission is not None:
        record = {"scheduler": "slurm", "job_id": "7", "time": "2026-11-25T18:00:00+00:00", **submission}
        run.submission.write_text(yaml.safe_dump(record))
    done = called("2-3", "--stdout")
    assert (done.exit_code, done.stdout) == (0, "==> run 2: stdout <==\nout 2\n")
    assert done.stderr == f"mlxp: run 3 has no log: {why}\n"


def of_attempts(run: RunDir, *, archived: Iterable[str] = ("stdout", "stderr"), starts: int = 2) -> None:
    """Have a run be at its second attempt, which has started or waits, and this be left of the first."""
    run.info.write_text("{status: RUNNING, attempt: 2}" if starts == 2 else "{status: FAILED, attempt: 1}")
    record = {"scheduler": "slurm", "job_id": "7", "time": "2026-11-25T18:00:00+00:00", "attempt": 2}
    run.submission.write_text(yaml.safe_dump(record))
    run.starts.write_text("a start\n" * starts)
    first = run.attempt_dir(1)
    first.path.mkdir(parents=True)
    for name in archived:
        (first.path / f"log.{name}").write_text(f"first {name}\n")


@pytest.mark.parametrize(
    ("archived", "starts", "words", "shown"),
    [
        (("stdout", "stderr"), 2, ("--attempt", "1", "--stdout"), "first stdout\n"),
        (
            ("stdout", "stderr"),
            2,
            ("--attempt", "1"),
            "==> run 1, attempt 1: stdout <==\nfirst stdout\n\n==> run 1, attempt 1: stderr <==\nfirst stderr\n",
        ),
        (("stderr",), 1, ("--attempt", "1"), "==> run 1, attempt 1: stderr <==\nfirst stderr\n"),
        (("stdout",), 1, ("--attempt", "1"), "==> run 1, attempt 1: stdout <==\nfirst stdout\n"),
        # nothing was moved yet, for the second waits
        (
            (),
            1,
            ("--attempt", "1", "-n", "1"),
            "==> run 1, attempt 1: stdout <==\nout 1\n\n==> run 1, attempt 1: stderr <==\nlast\n",
        ),
        ((), 2, ("--attempt", "1"), ""),  # what is in the folder is the second's
        (("stdout",), 2, ("--attempt", "2", "--stdout"), "out 1\n"),
        (("stdout",), 2, ("--stdout",), "out 1\n"),
    ],
)
def test_an_earlier_attempt_is_shown_by_what_it_has_left(
    log_dir: LogDir, archived: tuple[str, ...], starts: int, words: tuple[str, ...], shown: str
) -> None:
    """Bug: the output of the second attempt as that of the first."""
    of_attempts(log_dir.run(1), archived=archived, starts=starts)
    done = called("1", *words)
    assert (done.exit_code, done.stdout) == (0, shown)
    assert done.stderr.startswith("" if shown else "mlxp: run 1 has no log of attempt 1: ")
    assert bool(done.stderr) is not bool(shown)


def test_an_attempt_that_there_never_was_is_refused(log_dir: LogDir) -> None:
    """Bug: an empty log of the seventh attempt; or one that the folder has, and the records do not know, is refused."""
    of_attempts(log_dir.run(1), archived=())
    error = called("1", "--attempt", "3").exception
    assert isinstance(error, ConfigurationError)
    assert str(error) == f"run 1 of {log_dir.path} has no attempt 3: its latest is 2"
    log_dir.run(1).attempt_dir(3).path.mkdir()
    log_dir.run(1).attempt_dir(3).stdout.write_text("third\n")
    assert called("1", "--attempt", "3", "--stdout").stdout == "third\n"
    log_dir.run(1).attempt_dir(1).path.rmdir()
    assert called("1", "--attempt", "1").exit_code == 0  # it was there, and has printed nothing


def test_what_the_scheduler_says_is_shown_beside_both_streams_where_there_is_any(log_dir: LogDir) -> None:
    """Bug: "slurmstepd: error: Detected 1 oom_kill event" is seen by nobody; or an empty part with its name."""
    folder = log_dir.submissions / "1"
    folder.mkdir(parents=True)
    of_attempts(log_dir.run(1))
    record = yaml.safe_load(log_dir.run(1).submission.read_text())
    log_dir.run(1).submission.write_text(yaml.safe_dump({**record, "script": str(folder / "job.sh")}))
    both = "==> run 1: stdout <==\nout 1\n\n==> run 1: stderr <==\nerr 1\nlast\n"
    for text, more in ((None, ""), ("", ""), ("oom\n", "\n==> run 1: slurm <==\noom\n")):
        if text is not None:
            (folder / "job.out").write_text(text)
        assert called("1").stdout == both + more
        assert called("1", "--stdout").stdout == "out 1\n"
        assert "slurm" not in called("1", "--attempt", "1").stdout  # of the latest it is
    for path in (log_dir.run(1).stdout, log_dir.run(1).stderr):
        path.unlink()
    alone = called("1")
    assert alone.stdout == "==> run 1: slurm <==\noom\n"
    assert "run 1 has no log: " in alone.stderr


@pytest.mark.parametrize("follow", [False, True])
def test_ctrl_c_closes_all_and_says_nothing(log_dir: LogDir, monkeypatch: pytest.MonkeyPatch, *, follow: bool) -> None:
    """Bug: a stack trace; a file that stays open."""
    closed: list[str] = []
    close = logs._Source.close

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    def noted(place: Any) -> None:
        closed.append(place.label)
        close(place)

    monkeypatch.setattr(logs._Source, "close", noted)
    monkeypatch.setattr(logs, "_follow" if follow else "_tail", interrupt)
    done = called("1", *(["--follow"] if follow else ["-n", "1"]))
    assert (done.exit_code, done.stderr) == (130, "")
    assert closed == ["run 1: stdout", "run 1: stderr"]


class Reached(io.RawIOBase):
    """What has really left the process."""

    def __init__(self) -> None:
        super().__init__()
        self.text = b""

    def writable(self) -> bool:
        return True

    def write(self, piece: Any) -> int:
        self.text += bytes(piece)
        return len(piece)


def test_what_is_there_is_shown_before_a_scheduler_is_waited_for_and_each_line_as_it_comes(
    log_dir: LogDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: `mlxp logs -f | tee log` shows nothing for minutes; or ends with the first of two runs."""
    clock, raw, seen = Clock(), Reached(), []
    first, second = log_dir.run(1), log_dir.run(2)
    asked: list[list[str]] = []
    for run in (first, second):
        run.info.write_text("status: RUNNING\nhostname: elsewhere\n")

    def refresh(states: list[RunState]) -> tuple[list[RunState], list[UnreachableScheduler]]:
        asked.append([state.run.path.name for state in states])
        seen.append(raw.text)
        if len(asked) == 2:
            first.info.write_text("status: COMPLETE\n")
        if len(asked) == 3:
            second.info.write_text("status: FAILED\n")
        return [RunState.load(state.run) for state in states], []

    def sleep(seconds: float) -> None:
        seen.append(raw.text)
        if clock.now == 1000.0:
            with second.stdout.open("a") as file:
                file.write("more\n")
        Clock.sleep(clock, seconds)

    monkeypatch.setattr(logs.refresh, "refresh", refresh)
    monkeypatch.setattr(logs, "time", clock)
    monkeypatch.setattr(clock, "sleep", sleep)
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BufferedWriter(raw)))
    logs.logs(["1-2"], stdout=True, follow=True, folder=log_dir.path)
    start = BOTH_RUNS.encode()
    assert seen[:3] == [start, start, start + b"more\n"]
    assert asked == [["1", "2"]] * 3
    assert clock.now == pytest.approx(1004.0, abs=0.5)


def test_runs_that_have_ended_are_not_asked_about(log_dir: LogDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: squeue for runs of last year."""
    monkeypatch.setattr(logs.refresh, "refresh", None)
    monkeypatch.setattr(logs, "time", Clock())
    logs._follow([log_dir.run(1), log_dir.run(2)], [], logs._Printer(io.BytesIO(), labelled=False))


def test_exit_codes_of_all_are_looked_for(log_dir: LogDir) -> None:
    """Bug: the folders of a thousand runs are read five times a second as one of them has ended."""
    runs = [log_dir.run(1), log_dir.run(2)]
    log_dir.run(1).exit_code.touch()
    assert logs._has_exit_codes(runs) is False
    log_dir.run(2).exit_code.touch()
    assert logs._has_exit_codes(runs) is True


def test_what_comes_after_the_end_is_waited_for(log_dir: LogDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: the last lines of a log on a slow disk are missed, as the run has ended; or those of one of two files."""

    class Piecewise(logs._Source):
        pieces: list[bytes]

        def more(self) -> bytes:
            return self.pieces.pop(0)

    out = io.BytesIO()
    sources = [Piecewise(log_dir.run(1), log_dir.path / name, name) for name in ("a", "b")]
    sources[0].pieces, sources[1].pieces = [b"1", b"", b"3", b""], [b"", b"2", b"", b""]
    monkeypatch.setattr(logs, "time", Clock())
    logs._follow([log_dir.run(1)], sources, logs._Printer(out, labelled=False))
    assert out.getvalue() == b"123"


def test_of_a_long_log_only_the_end_is_read() -> None:
    """Bug: `mlxp logs -n 1` reads ten gigabytes."""

    class Counted(io.BytesIO):
        read_bytes = 0

        def read(self, size: int | None = -1) -> bytes:
            piece = super().read(size)
            self.read_bytes += len(piece)
            return piece

    file = Counted(b"x\n" * 500_000)
    assert logs._tail(file, 2) == b"x\nx\n"
    assert file.read_bytes == 65_536

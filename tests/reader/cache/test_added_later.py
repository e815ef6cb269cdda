"""What this package adds to a run that has ended is seen by every later reader, whatever that has kept of the run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from reader_caches import forget
from support import until

from mlxp_core.reader import Reader
from mlxp_core.reader.cache import run_cache
from mlxp_core.reader.load import file_cache
from mlxp_core.recording.lifecycle import finish, start_recording, start_run
from mlxp_core.recording.run import Run
from mlxp_core.runs import digest
from mlxp_core.runs.layout import RunDir
from mlxp_core.runs.status import Status


def in_child(work: Callable[[], object]) -> None:
    """Do something in a forked child."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0


def again(run: Run) -> None:
    """Run it again, as its second attempt."""
    second = start_recording(run.layout, config={"i": 1})
    second.log_metrics({"second": 1}, "t")
    finish(second, Status.COMPLETE)


def resumed(run: Run) -> None:
    """Run it again from its checkpoint, which puts the first attempt's lines and keys there."""
    second = start_recording(run.layout, config={"i": 1})
    second.log_metrics({"second": 1}, "t")
    finish(second, Status.COMPLETE)
    Reader(run.dir.parent).filter()
    second.load_checkpoint()
    second.close()


def registered(run: Run) -> None:
    run.register_artifact_type("lines", lambda lines, path: Path(path).write_text("\n".join(lines)), None)
    run.log_artifacts(["a"], "b", "lines")


# by what is added: a column that there was not, and how it comes about
ADDED: dict[str, tuple[str, Callable[[Run], object]]] = {
    "a key": ("t.acc", lambda run: run.log_metrics({"x": 2.0, "acc": 0.9}, "t")),
    "a key after others": ("t.b", lambda run: [run.log_metrics({key: 1.0}, "t") for key in ("x", "a", "x", "b")]),
    "a log": ("test.acc", lambda run: run.log_metrics({"acc": 0.9}, "test")),
    "a key that was null": ("t.nothing", lambda run: run.log_metrics({"nothing": 0.9}, "t")),
    "an artifact": ("artifact.json.b", lambda run: run.log_artifacts(2, "b", "json")),
    "an artifact of a new type": ("artifact.text.b", lambda run: run.log_artifacts("2", "b", "text")),
    "an artifact in folders": ("artifact.json.in/d/b", lambda run: run.log_artifacts(2, "in/d/b", "json")),
    "an artifact of a user's type": ("artifact.lines.b", registered),
    "a checkpoint": ("artifact.pickle.last", lambda run: run.log_checkpoint(2, "last")),
    "a forked child's key": ("t.acc", lambda run: in_child(lambda: run.log_metrics({"acc": 0.9}, "t"))),
    "a forked child's artifact": ("artifact.json.b", lambda run: in_child(lambda: run.log_artifacts(2, "b", "json"))),
    "a key by another handle": ("t.acc", lambda run: Run(run.layout).log_metrics({"acc": 0.9}, "t")),
    "a second attempt": ("t.second", again),
    "a checkpoint loaded late": ("t.second", resumed),
}


def columns(logs: Path) -> set[str]:
    return {name for name, runs in Reader(logs).fields.select("name", "runs").rows() if runs}


def columns_elsewhere(logs: Path) -> set[str]:
    """The same in a new process."""
    code = "import sys; from mlxp_core.reader import Reader; print(*Reader(sys.argv[1]).fields['name'], sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code, logs], check=True, capture_output=True, text=True)
    return set(done.stdout.splitlines())


def recorded(logs: Path, count: int) -> list[Run]:
    """Runs that have ended, each with a log, an artifact and a checkpoint."""
    runs = []
    for number in range(count):
        with start_run(logs, {"i": number}) as run:
            run.log_metrics({"x": 1.0, "nothing": None}, "t")
            run.log_artifacts(1, "a", "json")
            run.log_checkpoint(1)
        run.close()
        runs.append(run)
    return runs


def next_tick(folder: Path) -> None:
    """Wait until what is written now has another time than what was written before, as it has 2 s later in real use."""
    probe = folder / "probe"
    probe.touch()
    before = probe.stat().st_ctime_ns

    def has_passed() -> bool:
        os.utime(probe)
        return probe.stat().st_ctime_ns != before

    until(has_passed)


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    """Three runs of whose last state a reader's memory and index know, and digests."""
    monkeypatch.setattr(file_cache, "RACY_NS", 0)
    monkeypatch.setattr(run_cache, "_MIN_NEW", 1)
    runs = recorded(tmp_path / "logs", 3)
    forget()
    next_tick(tmp_path)
    Reader(tmp_path / "logs").filter().collect()
    assert (tmp_path / "logs/.mlxp/reader-index").exists()
    next_tick(tmp_path)
    return runs


@pytest.mark.parametrize("reader", ["the same", "by the index", "by the digests"])
@pytest.mark.parametrize("added", ADDED)
def test_what_is_added_to_an_ended_run_is_seen(kept: list[Run], added: str, reader: str) -> None:
    """Bug: evaluated after the end, and the test accuracy is in no table, for ever: mlflow#244."""
    run, logs = kept[1], kept[1].dir.parent
    column, add = ADDED[added]
    assert column not in columns(logs)
    add(run)
    run.close()
    if reader != "the same":
        forget()
    if reader == "by the digests":
        shutil.rmtree(logs / ".mlxp")
    assert columns(logs) >= {column, "t.x", "artifact.json.a", "artifact.pickle.checkpoint"}


def test_what_is_added_to_ended_runs_is_seen_in_a_new_process(kept: list[Run]) -> None:
    """Bug: the index that another process has written counts for ever."""
    for _, add in list(ADDED.values())[:-2]:  # a new attempt would hide what the others have added to its metrics
        add(kept[1])
        kept[1].close()
    ADDED["a second attempt"][1](kept[2])
    assert columns_elsewhere(kept[1].dir.parent) >= {column for column, _ in ADDED.values()}


def test_what_is_added_is_seen_at_once_by_its_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: added within the tick of the clock in which the run has ended, by which the digest still counts."""
    real, stopped = digest.stamp_at, {}

    def stamp_at(path: str | Path) -> tuple[int, int, int]:
        """As of a file system whose clock stands still."""
        return stopped.setdefault(str(path), real(path))

    (run,) = recorded(tmp_path, 1)
    own = run.layout.digest.read_bytes()
    monkeypatch.setattr(digest, "stamp_at", stamp_at)
    run.log_metrics({"acc": 0.9}, "t")
    assert not run.layout.digest.exists()
    run.layout.digest.write_bytes(own)
    run.log_artifacts(2, "b", "json")
    assert not run.layout.digest.exists()
    run.close()


def test_a_run_whose_folders_are_another_users_takes_what_is_added(tmp_path: Path) -> None:
    """Bug: an error where the folder's time cannot be set: what was asked for has been done."""
    digest.announce(RunDir(tmp_path / "gone").metrics)
    with start_run(tmp_path, {}) as run:
        run.log_metrics({"x": 1}, "t")
        run.layout.digest.write_text("[]\n")
        digest.announce(run.layout.metrics)
        digest.announce(run.layout.artifacts)
    assert columns(tmp_path) >= {"t.x"}

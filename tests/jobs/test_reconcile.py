"""Submissions that were cut short: looked for in their folders, in the queue and in started runs, until it is clear."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_scheduler import Clock, FakeClient
from support import read_yaml

from mlxp_core.errors import CommandError, SubmissionUnclearError
from mlxp_core.jobs import reconcile as reconcile_module
from mlxp_core.jobs.reconcile import find_queued, find_started_job, reconcile
from mlxp_core.runs.layout import LogDir, RunDir
from mlxp_core.runs.process import current_user
from mlxp_core.runs.submission_record import QueuedJob
from mlxp_core.scheduler.base import NativeJob, QueueQuery


@pytest.fixture
def log_dir(tmp_path: Path) -> LogDir:
    return LogDir(tmp_path / "logs")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(reconcile_module, "time", clock)
    return clock


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    return FakeClient().install(monkeypatch)


def unclear(
    log_dir: LogDir, number: int, *, submission: int = 0, age: float = 0.0, started: str = "", **change: Any
) -> RunDir:
    """A run whose submission was cut short, ``age`` seconds before the clock begins."""
    run = log_dir.run(number)
    run.metadata.mkdir(parents=True)
    folder = log_dir.submissions / str(submission or number)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "manifest").open("a") as file:
        file.write(f"{run.path}\n")
    when = datetime.fromtimestamp(Clock().now).astimezone() - timedelta(seconds=age)
    record = {"scheduler": "slurm", "script": str(folder / "job.sh"), "name": f"n-{submission or number}"}
    more = {"time": when.isoformat(), "job_id": None, "state": None, "attempt": 1}
    run.submission.write_text(yaml.safe_dump({**record, **more, **change}))
    if started:
        run.starts.write_text(f"2026-11-25T18:00:00+0000 n1 100 {started}\n")
    return run


def note(run: RunDir) -> dict[str, Any]:
    return read_yaml(run.submission)


def shown(log_dir: LogDir, number: int, job_id: str) -> NativeJob:
    return NativeJob(job_id, 1, "PENDING", script=str(log_dir.submissions / str(number) / "job.sh"))


def test_the_youngest_of_several_decides_how_long_it_is_looked_for(
    log_dir: LogDir, clock: Clock, client: FakeClient
) -> None:
    """Bug: the oldest decides: the job of one that was submitted a second ago is not waited for, and comes twice."""
    old, young = unclear(log_dir, 1, age=3600), unclear(log_dir, 2, age=1)
    client.queue = [[], [], [shown(log_dir, 2, "8")]]
    assert find_queued([old, young], limit=60) == {young: QueuedJob(young, "slurm", "8", None)}
    # asked after 1, 11 and 21 seconds, and at 31 for the old one alone
    assert clock.slept == [10, 10, 10]
    assert client.questions == [QueueQuery(current_user())] * 4


def test_what_is_found_at_once_is_not_waited_for(
    log_dir: LogDir, clock: Clock, client: FakeClient, caplog: pytest.LogCaptureFixture
) -> None:
    """Bug: ten seconds, and a warning that it is looked for, for a job that the queue has shown already."""
    run = unclear(log_dir, 1, age=1)
    client.queue = [[shown(log_dir, 1, "8")]]
    assert list(find_queued([run], limit=60)) == [run]
    assert (clock.slept, len(client.questions), caplog.messages) == ([], 1, [])


def test_what_is_in_no_queue_once_its_time_is_over_was_not_submitted(
    log_dir: LogDir, clock: Clock, client: FakeClient
) -> None:
    """Bug: a submit command that outlives its launch is not waited for; or no run is ever submitted again."""
    run = unclear(log_dir, 1, age=5)
    assert find_queued([run], limit=30) == {}
    assert clock.slept == [10, 10, 10]  # asked after 5, 15, 25 and 35 seconds
    assert len(client.questions) == 4
    late = unclear(log_dir, 2, age=100)
    client.questions.clear()
    clock.slept.clear()
    assert find_queued([late], limit=30) == {}
    assert (clock.slept, len(client.questions)) == ([], 1)


def test_a_short_limit_is_a_short_pause(log_dir: LogDir, clock: Clock, client: FakeClient) -> None:
    """Bug: ten seconds of sleep for a command that may take two."""
    assert find_queued([unclear(log_dir, 1, age=1)], limit=2) == {}
    assert clock.slept == [2]


def test_what_its_folder_knows_is_not_asked_for(log_dir: LogDir, clock: Clock, client: FakeClient) -> None:
    """Bug: a scheduler that is down keeps a launch from a job whose id is on the disk."""
    client.queue = [CommandError("down")]
    one, two = (unclear(log_dir, number, submission=1, array_index=number, error="Socket") for number in (1, 2))
    (log_dir.submissions / "1" / "job_id").write_text("42\n")
    done = unclear(log_dir, 3, job_id="7")
    refused = unclear(log_dir, 4, state="FAILED")
    assert find_queued([one, done, refused, two], limit=60) == {
        one: QueuedJob(one, "slurm", "42", 1),
        done: QueuedJob(done, "slurm", "7", None),
        two: QueuedJob(two, "slurm", "42", 2),
    }
    assert (client.questions, clock.slept) == ([], [])
    assert "error" not in note(one)


def test_a_queue_that_does_not_answer_leaves_all_as_it_is(log_dir: LogDir, clock: Clock, client: FakeClient) -> None:
    """Bug: silence is taken for `not there`, and a job is submitted twice."""
    client.queue = [CommandError("Unable to contact")]
    runs = [unclear(log_dir, number, age=100) for number in (1, 2, 3)]
    before = [run.submission.read_bytes() for run in runs]
    with pytest.raises(SubmissionUnclearError, match=r"(?s)whether run 1-3 is in the queue.*Unable to contact"):
        find_queued(runs, limit=5)
    assert [run.submission.read_bytes() for run in runs] == before


def test_each_scheduler_is_asked_for_its_own(log_dir: LogDir, clock: Clock, client: FakeClient) -> None:
    """Bug: the job of one scheduler given to a run of another; or the second scheduler is not asked."""
    one = unclear(log_dir, 1, age=100)
    two = unclear(log_dir, 2, age=100, scheduler="sge", name="m-2")
    client.queue = [[shown(log_dir, 1, "8")], [NativeJob("9", None, "qw", name="m-2")]]
    found = find_queued([two, one], limit=5)
    assert len(client.questions) == 2
    # in the order in which they are met: Grid Engine has nothing with this name, Slurm nothing of this script
    assert found == {}
    client.queue = [[NativeJob("9", None, "qw", name="m-2")], [shown(log_dir, 1, "8")]]
    assert find_queued([two, one], limit=5) == {
        two: QueuedJob(two, "sge", "9", None),
        one: QueuedJob(one, "slurm", "8", None),
    }


def test_of_several_only_what_is_hidden_is_named(log_dir: LogDir, clock: Clock, client: FakeClient) -> None:
    """Bug: all runs are to be looked for by hand, or none, where one has a name of the user's."""
    hidden = unclear(log_dir, 1, age=100, name=None)
    plain = unclear(log_dir, 2, age=100)
    with pytest.raises(SubmissionUnclearError) as caught:
        find_queued([plain, hidden], limit=5)
    assert "whether run 1 is in the queue" in str(caught.value)
    assert f"remove {hidden.submission} and" in str(caught.value)
    client.queue = [[shown(log_dir, 1, "8")]]
    assert list(find_queued([plain, hidden], limit=5)) == [hidden]


def test_each_run_gets_the_job_of_its_own_submission(log_dir: LogDir) -> None:
    """Bug: the first job of the queue for all; or a run that is in none of them loses what is known of it."""
    by_id = unclear(log_dir, 1, age=1)
    (log_dir.submissions / "1" / "job_id").write_text("41\n")
    empty = unclear(log_dir, 2, error="Socket timed out")
    (log_dir.submissions / "2" / "job_id").write_text("\n")  # a disk that was full
    by_script, by_name = unclear(log_dir, 3), unclear(log_dir, 4)
    started, beside = unclear(log_dir, 5, submission=5, started="45"), unclear(log_dir, 6, submission=5)
    nowhere = unclear(log_dir, 7, error="Socket timed out")
    submitted = unclear(log_dir, 8, job_id="7", state="RUNNING")
    (log_dir.submissions / "8" / "job_id").write_text("48\n")
    runs = [by_id, empty, by_script, by_name, started, beside, nowhere, submitted]
    reconcile(runs, [NativeJob("40", 1, "PENDING"), shown(log_dir, 3, "43"), NativeJob("44", 1, "R", name="n-4")])
    assert [note(run)["job_id"] for run in runs] == ["41", None, "43", "44", "45", "45", None, "7"]
    assert [note(run).get("error") for run in (empty, nowhere)] == ["Socket timed out"] * 2
    assert note(submitted)["state"] == "RUNNING"


def test_an_id_on_the_disk_counts_more_than_what_the_queue_shows(log_dir: LogDir) -> None:
    """Bug: a task's own id taken for that of its array."""
    run = unclear(log_dir, 1, started="99")
    (log_dir.submissions / "1" / "job_id").write_text("41\n")
    reconcile([run], [shown(log_dir, 1, "98")])
    assert note(run)["job_id"] == "41"
    other = unclear(log_dir, 2, started="99")
    reconcile([other], [shown(log_dir, 2, "98")])
    assert note(other)["job_id"] == "98"


def test_a_note_that_cannot_be_written_leaves_the_others_to_the_next_look(
    log_dir: LogDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: of an array of three one run knows its job, as the disk was full for a moment, and the others never do."""
    runs = [unclear(log_dir, number, submission=1) for number in (1, 2, 3)]
    (log_dir.submissions / "1" / "job_id").write_text("41\n")
    with monkeypatch.context() as patched:
        save, saved = reconcile_module.SubmissionRecord.save, iter(range(9))

        def full(record: Any, run: RunDir) -> None:
            if next(saved):
                raise OSError("No space left on device")
            save(record, run)

        patched.setattr(reconcile_module.SubmissionRecord, "save", full)
        with pytest.raises(OSError, match="No space"):
            reconcile(runs)
    assert [note(run)["job_id"] for run in runs] == ["41", None, None]
    reconcile(runs)
    assert [note(run)["job_id"] for run in runs] == ["41"] * 3


def test_the_first_run_that_has_started_tells_the_job(log_dir: LogDir) -> None:
    """Bug: the job of an earlier attempt; none, since the first run of the array has not started."""
    waits = unclear(log_dir, 1)
    second = unclear(log_dir, 2, attempt=2, started="41")  # the first attempt's
    unknown = unclear(log_dir, 3, scheduler="novel", started="42")
    by_hand = unclear(log_dir, 4)
    by_hand.starts.write_text("2026-11-25T18:00:00+0000 n1 100 \n")
    started, other = unclear(log_dir, 5, started="43"), unclear(log_dir, 6, started="44")
    assert find_started_job([waits, second, unknown, by_hand]) is None
    assert find_started_job([waits, second, unknown, by_hand, started, other]) == "43"

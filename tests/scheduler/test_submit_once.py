"""Patience with a scheduler, by a clock: how often it is tried, how long between two tries, when to give up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_scheduler import Clock, FakeClient

from mlxp_core.errors import CommandError, SubmissionBusyError, SubmissionRefusedError, SubmissionUnclearError
from mlxp_core.scheduler import load_scheduler
from mlxp_core.scheduler import submit as submit_module
from mlxp_core.scheduler.base import NativeJob, QueueQuery
from mlxp_core.scheduler.submit import SubmitCall, find_job, submit_once

SLURM = replace(load_scheduler("slurm"), min_query_interval=10.0)
BUSY = SubmissionBusyError("job submit limit")
UNCLEAR = SubmissionUnclearError("Socket timed out")
DOWN = CommandError("Unable to contact slurm controller")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(submit_module, "time", clock)
    return clock


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    return FakeClient().install(monkeypatch)


def call(*, patience: float, name: str = "n-abc", started: Callable[[], str | None] = lambda: None) -> SubmitCall:
    return SubmitCall(SLURM, Path("/x/job.sh"), ("-a",), Path("/work"), "ada", name, started, 7.0, patience)


def shown(job_id: str, script: str = "", name: str = "") -> NativeJob:
    return NativeJob(job_id, 1, "PENDING", script=script, name=name)


def test_between_tries_the_pauses_grow_up_to_a_minute(clock: Clock, client: FakeClient) -> None:
    """Bug: no pause at all, which hammers the controller; or one that goes on doubling, to hours."""
    client.does = dict.fromkeys(range(1, 10), BUSY)
    assert submit_once(call(patience=300)) == "10"
    assert clock.slept == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert client.questions == []
    assert {(made.extra, made.directory, made.limit) for made in client.calls} == {(("-a",), Path("/work"), 7.0)}


def test_what_stays_busy_is_given_up_in_time(clock: Clock, client: FakeClient) -> None:
    """Bug: a launch that waits past submit_timeout, or gives up with half of it left."""
    client.does = dict.fromkeys(range(1, 99), BUSY)
    with pytest.raises(SubmissionRefusedError, match=r"job submit limit\nIt was tried for .*submit_timeout=63 seconds"):
        submit_once(call(patience=63))
    assert clock.slept == [1, 2, 4, 8, 16, 32]  # 63 seconds: the next pause would end after them
    clock.slept.clear()
    with pytest.raises(SubmissionBusyError):
        submit_once(call(patience=62.9))
    assert clock.slept == [1, 2, 4, 8, 16]


def test_a_refusal_is_not_tried_again(clock: Clock, client: FakeClient) -> None:
    """Bug: five minutes for a header that no scheduler will ever take."""
    client.does = {1: SubmissionRefusedError("Invalid qos")}
    with pytest.raises(SubmissionRefusedError, match=r"^Invalid qos$"):
        submit_once(call(patience=300))
    assert (clock.slept, len(client.calls)) == ([], 1)


def test_after_an_unclear_answer_the_queue_is_asked_twice_with_a_pause(clock: Clock, client: FakeClient) -> None:
    """Bug: submitted again at once, before the controller shows the job; or asked without a pause."""
    client.does = {1: UNCLEAR}
    client.queue = [[shown("3", "/y/job.sh")]]
    assert submit_once(call(patience=300)) == "2"
    assert clock.slept == [10]
    assert client.questions == [QueueQuery("ada")] * 2
    client.does = {3: UNCLEAR}
    client.queue = [[], [shown("3", "/y/job.sh"), shown("8", "/x/job.sh")]]
    assert submit_once(call(patience=300)) == "8"
    assert len(client.calls) == 3
    assert clock.slept == [10, 10]


def test_a_second_unclear_answer_is_looked_for_as_the_first_was(clock: Clock, client: FakeClient) -> None:
    """Bug: what the first search has counted ends the second one at its first answer."""
    client.does = {1: UNCLEAR, 2: UNCLEAR}
    assert submit_once(call(patience=300)) == "3"
    assert clock.slept == [10, 10]
    assert len(client.questions) == 4


def test_an_answer_that_comes_late_counts_and_silence_does_not(clock: Clock, client: FakeClient) -> None:
    """Bug: a queue that was silent twice is taken for one without the job, which is then there twice."""
    client.does = {1: UNCLEAR}
    client.queue = [DOWN, DOWN, [], DOWN, []]
    assert submit_once(call(patience=300)) == "2"
    assert clock.slept == [10, 10, 10, 10]
    client.queue, client.does = [DOWN], {3: UNCLEAR}
    clock.slept.clear()
    with pytest.raises(SubmissionUnclearError) as caught:
        submit_once(call(patience=35))
    assert clock.slept == [10, 10, 10]
    assert "Socket timed out\nIts queue could not be asked:\nUnable to contact" in str(caught.value)


def test_a_queue_that_answered_once_is_not_said_to_be_silent(clock: Clock, client: FakeClient) -> None:
    """Bug: a user who is sent to the administrators of a scheduler that answers."""
    client.does, client.queue = {1: UNCLEAR}, [DOWN, []]
    with pytest.raises(SubmissionUnclearError, match="Its queue does not show the job yet"):
        submit_once(call(patience=15))
    assert len(client.calls) == 1


def test_without_a_name_of_ours_an_absent_job_is_never_submitted_again(clock: Clock, client: FakeClient) -> None:
    """Bug: a job under the user's own name is there, and the queue is taken for one without it."""
    client.does = {1: UNCLEAR}
    with pytest.raises(SubmissionUnclearError, match="your header gives it a name of its own"):
        submit_once(call(patience=300, name=""))
    assert len(client.calls) == 1
    assert len(client.questions) == 31
    client.does = {2: UNCLEAR}
    assert submit_once(call(patience=300, name="", started=lambda: "9")) == "9"


def test_a_job_that_has_started_need_not_be_in_the_queue(clock: Clock, client: FakeClient) -> None:
    """Bug: one of a second that the queue has forgotten is submitted once more."""
    client.does = {1: UNCLEAR}
    assert submit_once(call(patience=300, started=iter([None, "9"]).__next__)) == "9"
    assert (len(client.calls), clock.slept) == (1, [10])


@pytest.mark.parametrize(
    ("jobs", "name", "found"),
    [
        ([], "n", None),
        ([("1", "/y/job.sh", "m"), ("2", "/x/job.sh", "m")], "n", "2"),
        ([("1", "", "m"), ("2", "", "n")], "n", "2"),
        ([("1", "", "")], "", None),  # none of both is known
        ([("1", "", "n")], "", None),
        ([("1", "bash '/x/job.sh'", "")], "", "1"),
        ([("1", 'sh "/x/job.sh"', "")], "", "1"),
        ([("1", "/x/job.sh.old", "")], "", None),
        ([("1", "/x/job.sh /y", "")], "", None),
        ([("1", "/x/job.sh", ""), ("2", "", "n")], "n", "1"),
    ],
)
def test_a_job_is_found_by_its_script_or_its_name(jobs: list[Any], name: str, found: str | None) -> None:
    """Bug: a job with no name taken for one whose name is not known; another script whose path begins alike."""
    assert find_job([shown(*job) for job in jobs], Path("/x/job.sh"), name) == found

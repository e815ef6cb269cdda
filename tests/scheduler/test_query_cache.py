"""Answers of schedulers that are kept: for how long, and for whom; one cluster's are not another's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from fake_scheduler import Clock
from filelock import FileLock

from mlxp_core.errors import CommandError
from mlxp_core.scheduler import SCHEDULERS, client, load_scheduler, query_cache
from mlxp_core.scheduler.base import NativeJob, QueueQuery, StatusQuery
from mlxp_core.scheduler.query_cache import QueueAnswer, ask_queue

ANSWERS = {"pbs": "", "sge": "<job_info/>", "slurm": "", "lsf": '{"RECORDS": []}'}


@pytest.mark.parametrize(
    ("name", "variable"),
    [
        ("pbs", "PBS_CONF_FILE"),
        ("sge", "SGE_QMASTER_PORT"),
        ("sge", "SGE_ROOT"),
        ("slurm", "SLURM_CLUSTERS"),
        ("lsf", "LSF_ENVDIR"),
    ],
)
def test_two_clusters_are_two_questions(
    name: str, variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: jobs of one cluster LOST, for the answer is that of another which the same command speaks to."""
    scheduler = load_scheduler(name)
    client = tmp_path / scheduler.status.command(QueueQuery("ada"))[0]
    client.write_text(f"#!/bin/sh\necho \"${variable}\" >>'{tmp_path}/asked'\nprintf %s '{ANSWERS[name]}'\n")
    client.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for value in ("one", "two", "one", "two"):
        monkeypatch.setenv(variable, value)
        answer = ask_queue(scheduler, [], None, user="ada")
        assert (answer.error, answer.jobs) == (None, ())
    assert (tmp_path / "asked").read_text() == "one\ntwo\n"


def test_every_scheduler_says_how_its_clients_find_it() -> None:
    """Bug: a new scheduler whose clusters share one answer, because nobody has thought of it."""
    assert [name for name in SCHEDULERS if not load_scheduler(name).client_variables] == []


@dataclass
class Site:
    """A queue and its history: what is shown, what is asked, how long an answer takes."""

    clock: Clock
    queue: Sequence[NativeJob] | CommandError = ()
    history: Sequence[NativeJob] | CommandError = ()
    takes: float = 0.0
    asked: list[tuple[str, QueueQuery, float]] = field(default_factory=list)  # which, what, and the limit

    def query(self, scheduler: Any, how: StatusQuery, what: QueueQuery, *, limit: float) -> list[NativeJob]:
        which = "queue" if how is scheduler.status else "history"
        self.asked.append((which, what, limit))
        self.clock.now += self.takes
        answer = self.queue if which == "queue" else self.history
        if isinstance(answer, CommandError):
            raise answer
        return list(answer)


SLURM = load_scheduler("slurm")
SINCE = datetime(2026, 11, 25, 18, tzinfo=timezone.utc)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    site = Site(Clock())
    monkeypatch.setattr(query_cache, "time", site.clock)
    monkeypatch.setattr(client, "query", site.query)
    return site


def job(job_id: str, index: int | None, state: str = "RUNNING") -> NativeJob:
    return NativeJob(job_id, index, state)


def test_the_history_is_asked_for_what_the_queue_does_not_show(site: Site) -> None:
    """Bug: the history of the whole queue, or not of the array of which one task has ended; or not from its start."""
    site.queue = [job("7", 1), job("8", None), job("5", 1)]
    site.history = [job("7", 1, "PENDING"), job("7", 2, "FAILED"), job("9", None, "COMPLETED")]
    answer = ask_queue(SLURM, [("7", 1), ("7", 2), ("8", 4), ("9", None)], SINCE, user="ada")
    assert [(which, what) for which, what, _ in site.asked] == [
        ("queue", QueueQuery("ada", ("7", "8", "9"), SINCE)),
        ("history", QueueQuery("ada", ("7", "9"), SINCE)),
    ]
    # of the same task the queue's word comes last, and counts
    assert answer.jobs == (*site.history, *site.queue)
    assert (answer.ids, answer.error) == (frozenset({"7", "8", "9"}), None)


def test_without_anything_missing_no_history_is_asked(site: Site) -> None:
    """Bug: sacct at each status, of a database that others share."""
    site.queue = [job("7", None), job("8", 1)]
    assert ask_queue(SLURM, [("7", 3), ("8", 1)], SINCE, user="ada").jobs == (job("7", None), job("8", 1))
    ask_queue(replace(load_scheduler("local"), history=None), [("9", 1)], None, user="ada")
    assert [which for which, *_ in site.asked] == ["queue", "queue"]


def test_without_a_history_what_is_missing_is_not_known(site: Site) -> None:
    """Bug: LOST for a job whose end only the database knows, which is down; or nothing at all of those in the queue."""
    ask_queue(SLURM, [("7", 1)], None, user="ada")
    site.clock.now += 60
    site.queue, site.history = [job("7", 1)], CommandError("slurmdbd is down")
    answer = ask_queue(SLURM, [("7", 1), ("8", None)], None, user="ada")
    assert (answer.ids, answer.jobs, answer.error) == (frozenset({"7"}), (job("7", 1),), "slurmdbd is down")
    assert (answer.answered, answer.asked) == (site.clock.now, site.clock.now)


def test_an_answer_holds_for_ten_seconds_and_no_longer(site: Site) -> None:
    """Bug: a controller asked at each look; an answer of yesterday; or none at all since the clock was set back."""
    begun = site.clock.now
    for later, asked in ((0, 1), (9.9, 1), (10, 2), (15, 2), (-3599.5, 3), (-3600, 4), (-3595, 4)):
        site.clock.now = begun + later
        answer = ask_queue(SLURM, [("7", 1)], None, user="ada")
        assert [which for which, *_ in site.asked].count("queue") == asked, later
    assert (answer.time, answer.answered, answer.ids) == (begun - 3600, begun - 3600, frozenset({"7"}))


def test_an_answer_is_as_old_as_its_question(site: Site) -> None:
    """Bug: what a busy queue has said of twelve seconds ago is taken for now; or the next question comes at once."""
    site.takes = 2.0
    site.queue = [job("7", 1)]
    begun = site.clock.now
    answer = ask_queue(SLURM, [("7", 1)], None, user="ada")
    assert (answer.asked, answer.time, answer.answered) == (begun, begun + 2, begun + 2)


def test_a_silent_scheduler_is_said_to_have_answered_when_it_last_did(site: Site) -> None:
    """Bug: `has not answered since` the first of its failures, or ever."""
    begun = site.clock.now
    site.queue = CommandError("down")
    assert ask_queue(SLURM, [("7", 1)], None, user="ada").answered is None
    site.queue = [job("7", 1)]
    site.clock.now += 20
    ask_queue(SLURM, [("7", 1)], None, user="ada")
    site.queue = CommandError("down")
    for later in (40, 60):
        site.clock.now = begun + later
        answer = ask_queue(SLURM, [("7", 1)], None, user="ada")
        assert answer == QueueAnswer(site.clock.now, frozenset(), (), "down", answered=begun + 20)


def test_both_questions_together_have_one_limit(site: Site) -> None:
    """Bug: six seconds for each, and a status that takes twelve; or none left for the second."""
    for takes, left in ((0.0, 6.0), (2.0, 4.0), (5.5, 1.0)):
        site.takes = takes
        site.clock.now += 100
        site.asked.clear()
        ask_queue(SLURM, [("7", 1)], None, user="ada")
        assert [limit for *_, limit in site.asked] == [6.0, left]


@pytest.mark.parametrize("known", [False, True])
def test_whoever_waits_for_anothers_question_gives_up_in_time(
    site: Site, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    """Bug: a status that hangs with another process's; or one that knows nothing of what was answered before."""
    monkeypatch.setattr(query_cache, "QUERY_TIMEOUT", 0.05)
    begun = site.clock.now
    path = query_cache._cache_file(SLURM)
    if known:
        ask_queue(SLURM, [("7", 1)], None, user="ada")
        site.clock.now += 60
    with FileLock(path.with_suffix(".lock"), is_singleton=False):
        answer = ask_queue(SLURM, [("7", 1)], None, user="ada")
    why = "slurm is being asked by another process, and has not answered within 0.05 s"
    assert answer == QueueAnswer(site.clock.now, frozenset(), (), why, answered=begun if known else None)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "3",
        "{}",
        '{"time": 1800000000.0}',
        '{"time": 1800000000.0, "ids": ["7"], "jobs": [{"id": "7"}]}',
        '{"time": 1800000000.0, "ids": ["7"], "jobs": [3]}',
        '{"time": 1800000000.0, "ids": 7, "jobs": []}',
        '{"time": 1800000000.0, "ids": [], "jobs": [], "novel": 1}',
    ],
)
def test_what_another_version_has_kept_is_asked_anew(site: Site, content: str) -> None:
    """Bug: a stack trace of `mlxp status` after an update, until somebody empties the cache."""
    site.queue = [job("7", 1)]
    path = query_cache._cache_file(SLURM)
    path.write_text(content)
    assert ask_queue(SLURM, [("7", 1)], None, user="ada").jobs == (job("7", 1),)
    assert json.loads(path.read_text())["ids"] == ["7"]
    assert ask_queue(SLURM, [("7", 1)], None, user="ada").jobs == (job("7", 1),)
    assert len(site.asked) == 1


def test_where_no_cache_can_be_written_answers_are_kept_in_a_temporary_folder(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: no status at all without a home; or a question at each look."""
    monkeypatch.setattr(query_cache, "writable_cache_dir", lambda *_: None)
    monkeypatch.setattr(query_cache.tempfile, "gettempdir", lambda: str(tmp_path))
    ask_queue(SLURM, [("7", 1)], None, user="ada")
    ask_queue(SLURM, [("7", 1)], None, user="ada")
    assert [which for which, *_ in site.asked] == ["queue", "history"]
    assert list(tmp_path.glob("hydra-mlxp-*/queues/*/slurm-*.json"))


def test_answers_are_shared_by_what_speaks_to_the_same_cluster(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: two sites' squeue, or two local queues, with one answer; or a question more for each log directory."""
    monkeypatch.delenv("MLXP_LOG_DIR", raising=False)
    paths = [query_cache._cache_file(SLURM)]
    monkeypatch.setenv("MLXP_LOG_DIR", "/logs")
    assert query_cache._cache_file(SLURM) == paths[0]
    monkeypatch.setenv("MLXP_LOCAL_SPOOL", str(tmp_path))
    paths.append(query_cache._cache_file(SLURM))
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "squeue").write_text("#!/bin/sh\n")
        (tmp_path / name / "squeue").chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path / name))
        paths.append(query_cache._cache_file(SLURM))
    assert len(set(paths)) == 4

"""What each scheduler has answered, and what it must be taken for: ``tests/recorded/<scheduler>.yaml``.

A new scheduler has such a file before it can land. Each record says where it is from; what is expected was worked out
by hand from the manuals, and never by the code. The records are given by a program that stands for the scheduler's own,
so exit codes and stderr count as they do outside.
"""

from __future__ import annotations

import shlex
from dataclasses import replace
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import ROOT

from mlxp_core.errors import CommandError, SubmissionBusyError, SubmissionRefusedError, SubmissionUnclearError
from mlxp_core.jobs.array_script import ArraySpec, render_submission
from mlxp_core.jobs.directives import array_arguments
from mlxp_core.jobs.template import add_header, read_template
from mlxp_core.runs.layout import RunDir
from mlxp_core.runs.status import Status
from mlxp_core.scheduler import SCHEDULERS, client, load_scheduler
from mlxp_core.scheduler.base import NativeJob, QueueQuery, Scheduler, StatusQuery

RECORDS = ROOT / "tests" / "recorded"
SECTIONS = ("submit", "status", "history", "limit", "cancel", "header")

# what must be recorded, or named under "absent" with the reason for which there is no such thing
SUBMIT = {"one", "array", "words before the id", "refused", "busy", "unclear", "garbage", "too many"}
ENDS = {
    "ended 0",
    "ended 3",
    "cancelled while it waits",
    "cancelled while it runs",
    "time limit",
    "killed",
    "tasks that ended",
}
STATUS = {
    "waiting",
    "running",
    "unheard of",
    "tasks",
    "tasks that wait",
    "odd names",
    "nothing",
    "garbage",
    "no answer",
} | ENDS
HISTORY = {"nothing", "garbage", "no answer"}  # and the ends that the queue does not show
LIMIT = {"told", "not told"}
CANCEL = {"jobs and tasks"}
HEADER = {"none of the user's", "own name", "own output", "own error", "joined", "array", "bytes", "DOS line ends"}


@cache
def load(name: str) -> dict[str, Any]:
    path = RECORDS / f"{name}.yaml"
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}


def cases(*sections: str) -> list[Any]:
    return [
        pytest.param(name, section, record, id=f"{name}-{section}-{record['case']}-{number}")
        for name in SCHEDULERS
        for section in sections
        for number, record in enumerate(load(name).get(section, []))
    ]


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_scheduler_has_a_complete_record(name: str) -> None:
    """Bug: a backend that lands untested where no scheduler of its kind can be started."""
    record = load(name)
    assert record, f"{RECORDS / name}.yaml is not there: copy another scheduler's, and have its answers in it"
    absent = record.get("absent", {})
    assert set(record) <= {*SECTIONS, "absent", "commands"}
    assert record.keys() >= {"commands"}
    recorded = {section: {each["case"] for each in record.get(section, [])} for section in SECTIONS}
    wanted = {
        "submit": SUBMIT,
        "status": STATUS - recorded["history"] if recorded["history"] else STATUS,
        "history": HISTORY if load_scheduler(name).history else set(),
        "limit": LIMIT,
        "cancel": CANCEL,
        "header": HEADER,
    }
    wanted["status"] |= {"nothing", "garbage", "no answer"}
    for section, names in wanted.items():
        gone = {case for case, why in absent.get(section, {}).items() if why}
        assert names - recorded[section] - gone == set(), f"{name}: {section} has no record of these"
        assert gone & recorded[section] == set(), f"{name}: {section} has a record of these, which it calls absent"
    assert all(each.get("from") for section in SECTIONS for each in record.get(section, []))


@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_commands_are_these(name: str) -> None:
    """Bug: an option that is lost, and answers that no record foresees."""
    scheduler = load_scheduler(name)
    question = QueueQuery("ada", ("12", "15"), datetime(2026, 11, 25, 9, 5).astimezone())
    commands = {"submit": scheduler.submit, "status": scheduler.status.command(question)}
    if scheduler.history is not None:
        commands["history"] = scheduler.history.command(question)
    if scheduler.limit is not None and scheduler.limit.command is not None:
        commands["limit"] = scheduler.limit.command
    assert {what: without_our_paths(command) for what, command in commands.items()} == load(name)["commands"]


def stand_in(folder: Path, record: dict[str, Any]) -> str:
    """Make a program that answers as recorded."""
    (folder / "stdout").write_text(record.get("stdout", ""), encoding="utf-8")
    (folder / "stderr").write_text(record.get("stderr", ""), encoding="utf-8")
    program = folder / "client"
    where = shlex.quote(str(folder))
    program.write_text(f"#!/bin/sh\ncat {where}/stdout; cat {where}/stderr >&2; exit {record.get('code', 0)}\n")
    program.chmod(0o755)
    return str(program)


OUTCOMES = {"refused": SubmissionRefusedError, "busy": SubmissionBusyError, "unclear": SubmissionUnclearError}


@pytest.mark.parametrize(("name", "section", "record"), cases("submit"))
def test_an_answer_to_a_submission_is_taken_for_what_it_is(
    name: str, section: str, record: dict[str, Any], tmp_path: Path
) -> None:
    """Bug: a number in a warning taken for the id; a job submitted twice, or taken for refused while it runs."""
    scheduler = replace(load_scheduler(name), submit=(stand_in(tmp_path, record),))
    (tmp_path / "job.sh").touch()
    if record["is"] not in OUTCOMES:
        assert client.submit(scheduler, tmp_path / "job.sh", limit=10) == record["is"].removeprefix("job ")
        return
    with pytest.raises((CommandError, SubmissionRefusedError, SubmissionUnclearError)) as caught:
        client.submit(scheduler, tmp_path / "job.sh", limit=10)
    assert type(caught.value) is OUTCOMES[record["is"]]
    too_many = scheduler.array_too_large is not None and bool(scheduler.array_too_large.search(str(caught.value)))
    assert too_many == (record["case"] == "too many")


@pytest.mark.parametrize(("name", "section", "record"), cases("status", "history"))
def test_an_answer_about_jobs_is_understood(name: str, section: str, record: dict[str, Any], tmp_path: Path) -> None:
    """Bug: a job under another's index; COMPLETE for one that was killed; a broken answer taken for an empty queue."""
    scheduler = load_scheduler(name)
    asking: StatusQuery | None = getattr(scheduler, section)
    assert asking is not None
    program = stand_in(tmp_path, record)
    asking = replace(asking, command=lambda _: (program,))
    if record["jobs"] == "no answer":
        with pytest.raises(CommandError):
            client.query(scheduler, asking, QueueQuery("ada"), limit=10)
        return
    jobs = client.query(scheduler, asking, QueueQuery("ada"), limit=10)
    told = [{key: value for key, value in job.items() if key != "status"} for job in record["jobs"]]
    assert [shown(job, like) for job, like in zip(jobs, told, strict=True)] == told
    statuses = [None if job["status"] is None else Status(job["status"]) for job in record["jobs"]]
    assert [scheduler.status_of(job) for job in jobs] == statuses


def shown(job: NativeJob, like: dict[str, Any]) -> dict[str, Any]:
    """A job as the records write it: always id, index and state, and the rest where the record has it."""
    fields = {"id": job.job_id, "index": job.index, "state": job.state}
    return fields | {key: getattr(job, key) for key in like if key not in fields}


@pytest.mark.parametrize(("name", "section", "record"), cases("limit"))
def test_the_largest_array_is_read(name: str, section: str, record: dict[str, Any], tmp_path: Path) -> None:
    """Bug: arrays that are refused, or many small ones, for a number that was misread."""
    scheduler = load_scheduler(name)
    assert scheduler.limit is not None
    limit = replace(scheduler.limit, command=(stand_in(tmp_path, record),))
    assert client.array_limit(replace(scheduler, limit=limit), limit=10) == record["number"]


@pytest.mark.parametrize(("name", "section", "record"), cases("cancel"))
def test_jobs_are_cancelled_by_these_words(name: str, section: str, record: dict[str, Any]) -> None:
    """Bug: a whole array that is cancelled for one of its tasks, or a task that is not."""
    jobs = [(job_id, index) for job_id, index in record["jobs"]]
    assert without_our_paths(load_scheduler(name).cancel_command(jobs)) == record["command"]


def without_our_paths(command: tuple[str, ...]) -> list[str]:
    """A command, without the interpreter that is ours and where our program lies."""
    words = [Path(word).name if word.startswith("/") else word for word in command]
    return words[1:] if words[0].startswith("python") else words


@pytest.mark.parametrize(("name", "section", "record"), cases("header"))
def test_the_header_that_is_submitted_is_this(name: str, section: str, record: dict[str, Any]) -> None:
    """Bug: a byte of the user's own lines that is another; a line of ours beside the user's for the same."""
    scheduler = load_scheduler(name)
    template = add_header(read_template(record["template"], scheduler, "main.py"), record.get("more"), scheduler)
    count = record.get("count", 1)
    submission = ArraySpec(
        [[RunDir(Path(f"/logs/{number}"))] for number in range(1, count + 1)],
        "lr-1",
        template.shebang,
        template.header,
        Path("/logs/sub"),
        record.get("throttle"),
    )
    text = render_submission(submission, scheduler)
    assert text.split("\n\n", 1)[0].split("\n") == record["header"]
    assert "\r" not in text
    assert redirects(text) == record.get("output", '>>"$1/log.stdout" 2>>"$1/log.stderr"')
    words = array_arguments(scheduler, "lr-1", template.header, count, record.get("throttle")) if count > 1 else ()
    assert list(words) == record.get("words", [])


def redirects(text: str) -> str:
    (line,) = (line for line in text.split("\n") if '"$1/script.sh"' in line)
    return line.partition('"$1/script.sh"')[2].strip()


def test_every_record_is_a_schedulers() -> None:
    """Bug: a file under a name that is misspelt, which no test reads."""
    assert {path.stem for path in RECORDS.glob("*.yaml")} == set(SCHEDULERS)
    assert all(isinstance(load_scheduler(name), Scheduler) for name in SCHEDULERS)

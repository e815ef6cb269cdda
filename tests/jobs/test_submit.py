"""Submissions: which runs go together, in which order and place, and what their folders say at every step."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_scheduler import FakeClient
from support import read_yaml

from mlxp_core.errors import (
    CommandError,
    SubmissionRefusedError,
    SubmissionUnclearError,
)
from mlxp_core.jobs import array_script
from mlxp_core.jobs import submit as submit_module
from mlxp_core.jobs.reconcile import reconcile
from mlxp_core.jobs.submit import mark_not_submitted, submit
from mlxp_core.runs.layout import LogDir, RunDir
from mlxp_core.runs.process import current_user
from mlxp_core.runs.submission_record import SubmissionRecord
from mlxp_core.scheduler import load_scheduler
from mlxp_core.scheduler.base import ArrayLimit, any_of
from mlxp_core.scheduler.client import InterruptedSubmission
from mlxp_core.scheduler.submit import SubmitCall

ORDER: dict[str, Any] = {
    "scheduler": "slurm",
    "name": "main",
    "shebang": "#!/bin/bash",
    "header": [],
    "directory": "/",
    "command_timeout": 7.0,
}


@pytest.fixture
def log_dir(tmp_path: Path) -> LogDir:
    return LogDir(tmp_path / "logs")


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    return FakeClient().install(monkeypatch)


def written(log_dir: LogDir, number: int, *, starts: int = 0, **order: Any) -> RunDir:
    """A run whose folder is written, and which is not submitted."""
    run = log_dir.run(number)
    run.metadata.mkdir(parents=True)
    run.info.write_text("status: PENDING\nattempt: 1\n")
    run.settings.write_text(yaml.safe_dump({"order": {**ORDER, **order}}))
    if starts:
        run.starts.write_text("a start\n" * starts)
    return run


def several(log_dir: LogDir, count: int, **order: Any) -> list[RunDir]:
    return [written(log_dir, number, **order) for number in range(1, count + 1)]


def note(run: RunDir) -> dict[str, Any]:
    return read_yaml(run.submission)


def arrays(client: FakeClient) -> list[tuple[list[str], str | None]]:
    """For each call the runs, and the words of its --array."""
    lines = [[line for line in call.text.splitlines() if "--array=" in line] for call in client.calls]
    return [
        (call.runs, line[0].partition("--array=")[2] if line else None)
        for call, line in zip(client.calls, lines, strict=True)
    ]


def test_runs_of_one_spec_are_one_array_and_know_their_place(log_dir: LogDir, client: FakeClient) -> None:
    """Bug: an index that is off by one, an attempt of another run's; a note without what it is found again by."""
    runs = [written(log_dir, number, starts=starts) for number, starts in ((1, 0), (2, 2), (3, 0))]
    jobs = submit(runs, log_dir)
    assert [(job.run, job.scheduler, job.job_id, job.array_index) for job in jobs] == [
        (run, "slurm", "1", index) for index, run in enumerate(runs, start=1)
    ]
    assert arrays(client) == [(["1", "2", "3"], "1-3")]
    script = log_dir.submissions / "1" / "job.sh"
    assert client.calls[0].script == script
    assert script.stat().st_mode & 0o777 == 0o755
    assert (script.parent / "job_id").read_text() == "1\n"
    notes = [note(run) for run in runs]
    for index, said in enumerate(notes, start=1):
        assert abs(datetime.fromisoformat(said.pop("time")).timestamp() - time.time()) < 60
        name = said.pop("name")
        assert name == notes[0].get("name", name)
        assert f"#SBATCH --job-name={name}\n" in script.read_text()
        assert said == {
            "scheduler": "slurm",
            "script": str(script),
            "hostname": socket.gethostname(),
            "user": current_user(),
            "job_id": "1",
            "state": None,
            "array_index": index,
            "packed": 1,
            "attempt": 3 if index == 2 else 1,
        }


def test_jobs_come_back_in_the_order_of_their_runs(log_dir: LogDir, client: FakeClient) -> None:
    """Bug: by submission, so that the results of a sweep with two headers belong to other jobs."""
    headers = ["#SBATCH --mem=1G", "#SBATCH --mem=2G"]
    runs = [written(log_dir, number, header=[headers[number % 2]]) for number in range(1, 6)]
    jobs = submit(runs, log_dir)
    assert [(job.run.path.name, job.job_id, job.array_index) for job in jobs] == [
        ("1", "1", 1),
        ("2", "2", 1),
        ("3", "1", 2),
        ("4", "2", 2),
        ("5", "1", 3),
    ]
    assert arrays(client) == [(["1", "3", "5"], "1-3"), (["2", "4"], "1-2")]


def test_two_submissions_never_have_the_same_name(log_dir: LogDir, client: FakeClient) -> None:
    """Bug: a job that is looked for by its name is another one's; or a name that qsub refuses for its length."""
    runs = [written(log_dir, number, scheduler="torque", name="a" * 40, array=False) for number in (1, 2)]
    submit(runs, log_dir)
    names = [note(run)["name"] for run in runs]
    assert names[0] != names[1]
    assert all(len(name) <= 15 and name.startswith("aaaa") for name in names)


@pytest.mark.parametrize(
    ("pack", "places"),
    [
        (2, [(1, 2), (1, 2), (2, 1)]),
        (3, [(None, 3)] * 3),
        (9, [(None, 3)] * 3),
    ],
)
def test_packed_runs_share_a_place(
    log_dir: LogDir, client: FakeClient, pack: int, places: list[tuple[int | None, int]]
) -> None:
    """Bug: an index for each run of a job that has one; a last job that counts runs which are not there."""
    runs = several(log_dir, 3, pack=pack)
    jobs = submit(runs, log_dir)
    assert [job.array_index for job in jobs] == [index for index, _ in places]
    assert [(note(run)["array_index"], note(run)["packed"]) for run in runs] == places
    assert client.calls[0].runs == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("order", "sizes", "expected"),
    [
        ({}, (3, 1), ["1-3%3", None]),  # 4 at once: 3 of the 4 runs, and 1
        ({"max_parallel": 5}, (4, 2), ["1-4%3", "1-2%1"]),  # 20/6 and 10/6
        ({"max_parallel": 1}, (3, 2), ["1-3%1", "1-2%1"]),  # less than one each is none at all
        ({"pack": 2}, (6,), ["1-3%2"]),  # 4 runs at once are 2 jobs
        ({"pack": 3, "max_parallel": 2}, (6,), ["1-2%1"]),
        ({"max_parallel": None}, (2,), ["1-2"]),
    ],
)
def test_what_may_run_at_once_is_shared_out(
    log_dir: LogDir, client: FakeClient, order: dict[str, Any], sizes: tuple[int, ...], expected: list[str | None]
) -> None:
    """Bug: twice as many at once, for there are two headers; or %0, which is none; jobs counted as runs."""
    runs: list[RunDir] = []
    for group, size in enumerate(sizes):
        header = [f"#SBATCH --mem={group}G"]
        for _ in range(size):
            runs.append(written(log_dir, len(runs) + 1, header=header, **{"max_parallel": 4, **order}))
    submit(runs, log_dir)
    assert [words for _, words in arrays(client)] == expected


def test_runs_without_a_limit_do_not_count_for_those_with_one(log_dir: LogDir, client: FakeClient) -> None:
    """Bug: half of the throttle, since as many others are submitted that have none."""
    limited = [written(log_dir, number, max_parallel=4) for number in range(1, 5)]
    free = [written(log_dir, number) for number in range(5, 9)]
    submit([*limited, *free], log_dir)
    assert [words for _, words in arrays(client)] == ["1-4%4", "1-4"]


def site(monkeypatch: pytest.MonkeyPatch, name: str = "slurm", **change: Any) -> None:
    """A site whose scheduler differs."""
    changed = replace(load_scheduler(name), **change)
    monkeypatch.setattr(submit_module, "load_scheduler", lambda _: changed)


ASKED = ArrayLimit(2, ("scontrol",), any_of(""))


@pytest.mark.parametrize(
    ("count", "change", "site_limit", "expected"),
    [
        (2, {"limit": ASKED}, 1, ["1-2"]),  # that many are never too many: nobody is asked
        (5, {"limit": ASKED}, 3, ["1-3", "1-2"]),
        (5, {"limit": ASKED}, 9, ["1-5"]),
        (5, {"limit": ASKED}, None, ["1-2", "1-2", None]),  # it does not say
        (5, {"limit": None}, 3, ["1-5"]),
        (3, {"array": None}, None, [None] * 3),
        (5, {"limit": ASKED, "min_array_size": 3}, 3, ["1-3", None, None]),
    ],
)
def test_an_array_is_no_larger_than_the_site_takes(
    log_dir: LogDir,
    client: FakeClient,
    monkeypatch: pytest.MonkeyPatch,
    count: int,
    change: dict[str, Any],
    site_limit: int | None,
    expected: list[str | None],
) -> None:
    """Bug: an array of 5 where 3 are allowed; a last array of one, which PBS refuses; arrays where there are none."""
    site(monkeypatch, **change)
    client.array_limit = site_limit
    runs = several(log_dir, count)
    jobs = submit(runs, log_dir)
    assert [words for _, words in arrays(client)] == expected
    assert [name for names, _ in arrays(client) for name in names] == [run.path.name for run in runs]
    assert [job.run for job in jobs] == runs


def test_array_false_is_a_job_for_each_task(log_dir: LogDir, client: FakeClient) -> None:
    """Bug: an array all the same."""
    submit(several(log_dir, 3, array=False, pack=2), log_dir)
    assert arrays(client) == [(["1", "2"], None), (["3"], None)]


TOO_LARGE = SubmissionRefusedError("sbatch: error: Invalid job array specification")


@pytest.mark.parametrize(
    ("site_limit", "sizes"),
    [(3, [8, 3, 3, 2]), (None, [8, 4, 4]), (0, [8, 4, 4]), (8, [8, 4, 4]), (9, [8, 4, 4])],
)
def test_a_limit_that_only_a_refusal_tells_is_learned(
    log_dir: LogDir, client: FakeClient, site_limit: int | None, sizes: list[int]
) -> None:
    """Bug: the same array again and again, or one job at a time, or a run that is in two arrays."""
    client.does, client.array_limit = {1: TOO_LARGE}, site_limit
    runs = several(log_dir, 8, max_parallel=4)
    jobs = submit(runs, log_dir)
    assert [len(call.runs) for call in client.calls] == sizes
    assert [name for call in client.calls[1:] for name in call.runs] == [run.path.name for run in runs]
    assert [words.partition("%")[2] for _, words in arrays(client) if words] == [str(4 * n // 8) for n in sizes]
    assert [job.run for job in jobs] == runs
    assert {note(run)["state"] for run in runs} == {None}  # not the FAILED of the array that was too large
    assert {note(run).get("error") for run in runs} == {None}


def test_a_throttle_that_cannot_be_kept_without_arrays_is_an_error(log_dir: LogDir, client: FakeClient) -> None:
    """Bug: max_parallel=1, and all of the jobs at once, since the site has no arrays."""
    client.does = dict.fromkeys(range(1, 9), TOO_LARGE)
    with pytest.raises(SubmissionRefusedError, match=r"Without arrays hydra\.launcher\.max_parallel=1 cannot be kept"):
        submit(several(log_dir, 2, max_parallel=1), log_dir)
    assert len(client.calls) == 1
    free = [written(log_dir, number) for number in (3, 4)]
    client.does = {2: TOO_LARGE}
    assert [job.job_id for job in submit(free, log_dir)] == ["3", "4"]


def test_a_single_job_that_is_refused_as_too_large_is_not_tried_again(log_dir: LogDir, client: FakeClient) -> None:
    """Bug: a launch that never ends, with arrays of no jobs."""
    client.does = {1: TOO_LARGE}
    with pytest.raises(SubmissionRefusedError, match="Invalid job array"):
        submit(several(log_dir, 1), log_dir)
    assert len(client.calls) == 1


REFUSED = SubmissionRefusedError("slurm refused the submission:\n  stderr: Invalid qos")


def test_after_a_refusal_the_folders_and_the_error_say_which_are_submitted(log_dir: LogDir, client: FakeClient) -> None:
    """Bug: runs that are PENDING for ever; one that is submitted is said to have failed; an attempt not theirs."""
    order = {"array": False, "header": ["#SBATCH --qos=x"]}
    runs = [written(log_dir, number, starts=starts, **order) for number, starts in ((1, 0), (2, 0), (3, 1), (4, 2))]
    client.does = {3: REFUSED}
    with pytest.raises(SubmissionRefusedError) as caught:
        submit(runs, log_dir)
    text = str(caught.value)
    assert "Invalid qos\nThe directives of your header:\n  #SBATCH --qos=x\n" in text
    assert "Submitted: run 1-2. Failed: run 3. Not submitted: run 4. The same command again" in text
    notes = [note(run) for run in runs]
    assert [said["job_id"] for said in notes] == ["1", "2", None, None]
    assert [said["state"] for said in notes] == [None, None, "FAILED", "FAILED"]
    assert [said["attempt"] for said in notes] == [1, 1, 2, 3]
    assert notes[2]["error"] == str(REFUSED)
    assert notes[3]["error"] == "not submitted, after another submission had failed"
    assert "scheduler" not in notes[3]  # nothing was sent
    assert abs(datetime.fromisoformat(notes[3]["time"]).timestamp() - time.time()) < 60


@pytest.mark.parametrize(
    ("headers", "failing", "told"),
    [
        (("a", "a"), 1, False),  # all there is
        (("a", "b"), 1, True),
        (("a", "b"), 2, True),
    ],
)
def test_an_error_of_the_only_submission_stands_alone(
    log_dir: LogDir, client: FakeClient, headers: tuple[str, ...], failing: int, told: bool
) -> None:
    """Bug: `Submitted: run none. Failed: run 1-2.` for a sweep that is one array; or not a word of what is there."""
    runs = [written(log_dir, number, header=[f"#SBATCH -J{own}"]) for number, own in enumerate(headers, start=1)]
    client.does = {failing: REFUSED}
    with pytest.raises(SubmissionRefusedError) as caught:
        submit(runs, log_dir)
    assert ("Submitted: run" in str(caught.value)) is told


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (SubmissionUnclearError("no clear answer"), None),
        (SubmissionRefusedError("Invalid qos"), "FAILED"),
        (CommandError("sbatch is not on this machine's PATH"), "FAILED"),
    ],
)
def test_a_failed_answer_is_on_record_for_every_run_of_the_array(
    log_dir: LogDir, client: FakeClient, monkeypatch: pytest.MonkeyPatch, error: CommandError, state: str | None
) -> None:
    """Bug: FAILED for a job that may be there, and is then submitted twice; or `not known` for one that was refused."""
    monkeypatch.setattr(submit_module, "submit_once", lambda _: (_ for _ in ()).throw(error))
    runs = several(log_dir, 2)
    with pytest.raises(type(error)) as caught:
        submit(runs, log_dir)
    assert ("directives of your header:\n  (none)" in str(caught.value)) is isinstance(error, SubmissionRefusedError)
    for run in runs:
        assert (note(run)["job_id"], note(run)["state"], note(run)["error"]) == (None, state, str(error))
        assert SubmissionRecord.load(run).is_unresolved is (state is None)


def dies(at: int, error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the Nth writing of a submission.yaml fail, and all after it in other words."""
    count = iter(range(1, 99))
    save = SubmissionRecord.save

    def failing(record: SubmissionRecord, run: RunDir) -> None:
        number = next(count)
        if number >= at:
            raise error if number == at else OSError("once more")
        save(record, run)

    monkeypatch.setattr(SubmissionRecord, "save", failing)


@pytest.mark.parametrize("written_notes", [0, 1, 2])
def test_a_launch_that_dies_after_the_schedulers_answer_has_kept_the_id(
    log_dir: LogDir, client: FakeClient, monkeypatch: pytest.MonkeyPatch, written_notes: int
) -> None:
    """Bug: sbatch has said 1, and no note or one of three says so: the others are submitted a second time."""
    runs = several(log_dir, 3)
    with monkeypatch.context() as patched:
        dies(3 + written_notes + 1, KeyboardInterrupt(), patched)
        with pytest.raises(KeyboardInterrupt):
            submit(runs, log_dir)
    assert [note(run)["job_id"] for run in runs] == ["1"] * written_notes + [None] * (3 - written_notes)
    reconcile(runs)
    assert [(note(run)["job_id"], note(run)["array_index"]) for run in runs] == [("1", 1), ("1", 2), ("1", 3)]


@pytest.mark.parametrize(
    ("error", "state", "why"),
    [
        (OSError("No space left on device"), "FAILED", "not submitted: No space left on device"),
        (KeyboardInterrupt(), "CANCELLED", "interrupted before it was submitted"),
    ],
)
def test_an_error_between_two_notes_submits_nothing_and_leaves_nothing_open(
    log_dir: LogDir,
    client: FakeClient,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    state: str,
    why: str,
) -> None:
    """Bug: the first run is on record as being submitted, and `mlxp status` looks for its job ever after."""
    runs = several(log_dir, 2)
    save, count = SubmissionRecord.save, iter(range(9))

    def once(record: SubmissionRecord, run: RunDir) -> None:
        if next(count) == 1:
            raise error
        save(record, run)

    monkeypatch.setattr(SubmissionRecord, "save", once)
    with pytest.raises(type(error)):
        submit(runs, log_dir)
    assert client.calls == []
    assert [(note(run)["state"], note(run)["error"], note(run)["job_id"]) for run in runs] == [(state, why, None)] * 2


def test_a_disk_that_stays_full_shows_its_own_error(
    log_dir: LogDir, client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: the error of the note about the error."""
    runs = several(log_dir, 2)
    dies(2, OSError("No space left on device"), monkeypatch)
    with pytest.raises(OSError, match="No space left"):
        submit(runs, log_dir)
    assert client.calls == []
    assert [run.submission.exists() for run in runs] == [True, False]


def test_a_submission_that_is_interrupted_and_taken_is_on_record(log_dir: LogDir, client: FakeClient) -> None:
    """Bug: Ctrl-C while sbatch was at it: the job is there, and the same command submits it again."""
    client.does = {1: InterruptedSubmission("42")}
    runs = several(log_dir, 2)
    with pytest.raises(KeyboardInterrupt):
        submit(runs, log_dir)
    assert [note(run)["job_id"] for run in runs] == ["42", "42"]
    assert (log_dir.submissions / "1" / "job_id").read_text() == "42\n"


def make(folder: Path) -> str:
    folder.mkdir()
    return str(folder)


@pytest.mark.parametrize(
    ("scheduler", "directory", "expected"),
    [
        ("slurm", lambda top: make(top / "a b"), "a b"),
        ("slurm", lambda top: str(top / "gone"), "logs/.mlxp/submissions/1"),
        ("sge", lambda top: make(top / "plain"), "plain"),
        ("sge", lambda top: make(top / "a b"), "logs/.mlxp/submissions/1"),  # it would have to be quoted
        ("sge", lambda top: str(top / "gone"), "logs/.mlxp/submissions/1"),
    ],
)
def test_the_submit_command_is_run_where_the_launch_was(
    tmp_path: Path, client: FakeClient, scheduler: str, directory: Callable[[Path], str], expected: str
) -> None:
    """Bug: in the directory of `mlxp rerun`, from which a relative --output of the header leads elsewhere."""
    log_dir = LogDir(tmp_path / "logs")
    submit(several(log_dir, 1, scheduler=scheduler, directory=directory(tmp_path)), log_dir)
    assert client.calls[0].directory == tmp_path / expected
    assert client.calls[0].limit == 7.0


def test_a_log_directory_that_the_scheduler_cannot_be_told_is_reached_by_a_link(
    tmp_path: Path, client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: a script whose path holds a blank, which qsub takes for two arguments."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    log_dir = LogDir(tmp_path / "my logs")
    (run,) = several(log_dir, 1, scheduler="sge", directory=str(tmp_path / "gone"))
    submit([run], log_dir)
    call = client.calls[0]
    assert " " not in str(call.script)
    assert call.script.samefile(log_dir.submissions / "1" / "job.sh")
    assert call.directory == call.script.parent
    assert note(run)["script"] == str(call.script)


def test_an_array_that_the_header_cannot_make_is_an_argument(log_dir: LogDir, client: FakeClient) -> None:
    """Bug: an array of LSF without its indices; or a single job as one of one task."""
    submit(several(log_dir, 2, scheduler="lsf", max_parallel=1), log_dir)
    submit([written(log_dir, 3, scheduler="lsf", header=["#BSUB -J mine"])], log_dir)
    submit([written(log_dir, number, scheduler="lsf", header=["#BSUB -J mine"]) for number in (4, 5)], log_dir)
    name = note(log_dir.run(1))["name"]
    assert [call.extra for call in client.calls] == [("-J", f"{name}[1-2]%1"), (), ("-J", "mine[1-2]")]


@pytest.mark.parametrize(("header", "is_named"), [("#$ -N mine", False), ("#$ -l h_rt=3", True)])
def test_a_submission_is_looked_for_by_a_name_that_the_queue_shows_and_by_its_runs(
    log_dir: LogDir, monkeypatch: pytest.MonkeyPatch, header: str, is_named: bool
) -> None:
    """Bug: a job under the user's own name is held for absent, or a short one that has gone, and submitted twice."""
    calls: list[SubmitCall] = []
    monkeypatch.setattr(submit_module, "submit_once", lambda call: calls.append(call) or "7")
    run = written(log_dir, 1, scheduler="sge", header=[header], command_timeout=3.0, submit_timeout=11.0)
    submit([run], log_dir)
    (call,) = calls
    name = note(run)["name"]
    assert (name is not None, call.name) == (is_named, name or "")
    assert (call.user, call.command_timeout, call.submit_timeout) == (current_user(), 3.0, 11.0)
    assert call.find_started() is None
    run.starts.write_text("2026-11-25T18:00:00+0000 n1 100 9\n")
    assert call.find_started() == "9"


def prepared(log_dir: LogDir) -> list[RunDir]:
    """Runs 1: submitted, 2: being submitted, 3: refused, 4: not come to, 5: its folder is not written yet."""
    runs = several(log_dir, 5)
    open_note = {"scheduler": "slurm", "script": "/x/job.sh", "time": "2026-11-25T18:00:00+00:00", "job_id": None}
    runs[0].submission.write_text(yaml.safe_dump({**open_note, "job_id": "7"}))
    runs[1].submission.write_text(yaml.safe_dump({**open_note, "state": None}))
    runs[2].submission.write_text(yaml.safe_dump({**open_note, "state": "FAILED", "error": "Invalid qos"}))
    runs[4].info.unlink()
    return runs


@pytest.mark.parametrize(
    ("error", "state", "why"),
    [
        (ValueError("no luck"), "FAILED", "not submitted: no luck"),
        (KeyboardInterrupt(), "CANCELLED", "interrupted before it was submitted"),
    ],
)
def test_only_runs_of_which_nothing_was_sent_are_marked(
    log_dir: LogDir, error: BaseException, state: str, why: str
) -> None:
    """Bug: FAILED over the note of a run that is submitted, or may be; or a note in a folder that is no run."""
    runs = prepared(log_dir)
    before = [run.submission.read_bytes() for run in runs[:3]]
    mark_not_submitted(runs, error)
    assert [run.submission.read_bytes() for run in runs[:3]] == before
    marked = note(runs[3])
    assert abs(datetime.fromisoformat(marked.pop("time")).timestamp() - time.time()) < 60
    assert marked == {"job_id": None, "state": state, "error": why}
    assert not runs[4].submission.exists()


def test_an_interrupt_says_what_is_submitted(log_dir: LogDir, caplog: pytest.LogCaptureFixture) -> None:
    """Bug: `1 of 3` for one whose outcome is open; a submission that is open and not named; a word after an error."""
    one, unclear, refused, *rest = prepared(log_dir)
    caplog.set_level(logging.WARNING)
    mark_not_submitted([one, unclear, refused, *rest], ValueError("no luck"))
    assert caplog.messages == []
    mark_not_submitted([one, unclear, refused], KeyboardInterrupt())
    assert caplog.messages == ["interrupted while /x/job.sh was being submitted: the same command again finds out"]
    caplog.clear()
    mark_not_submitted([refused, one, *rest], KeyboardInterrupt())
    assert caplog.messages == ["interrupted: 1 of 4 jobs are submitted; the same command again submits the rest"]


def test_a_full_disk_for_one_run_does_not_keep_the_others_unmarked(
    log_dir: LogDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: the error of the first note hides the error of the launch, and two runs are PENDING for ever."""
    runs = several(log_dir, 3)
    save = SubmissionRecord.save

    def full(record: SubmissionRecord, run: RunDir) -> None:
        if run == runs[1]:
            raise OSError("No space left on device")
        save(record, run)

    monkeypatch.setattr(SubmissionRecord, "save", full)
    mark_not_submitted(runs, ValueError("no luck"))
    assert [run.submission.exists() for run in runs] == [True, False, True]


def test_a_manifest_has_the_runs_of_each_task_one_after_the_other(tmp_path: Path) -> None:
    """Bug: the second run of the first job is that of the second job."""
    runs = [RunDir(tmp_path / str(number)) for number in range(1, 6)]
    text = array_script.render_manifest([runs[:2], runs[2:4], runs[4:]])
    assert text == "".join(f"{run.path}\n" for run in runs)

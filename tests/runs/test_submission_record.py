"""What a submission.yaml may say, also one that somebody else has written."""

from __future__ import annotations

import resource
from dataclasses import fields
from pathlib import Path

import pytest

from mlxp_core.atomic_files import write_atomic
from mlxp_core.errors import ConfigurationError, SubmissionUnclearError
from mlxp_core.jobs.reconcile import find_queued, find_started_job
from mlxp_core.runs.layout import RunDir
from mlxp_core.runs.state import RunState
from mlxp_core.runs.submission_record import QueuedJob, SubmissionRecord

TIME = 'time: "2026-11-25T18:00:00+00:00"'


def run_with(folder: Path, text: str) -> RunDir:
    run = RunDir(folder / "1")
    run.metadata.mkdir(parents=True)
    run.submission.write_text(text)
    return run


def test_what_the_submitting_side_writes_is_read(tmp_path: Path) -> None:
    """Bug: a check that refuses an array of PBS, or a note of a submission that is under way."""
    run = run_with(
        tmp_path, f'{{scheduler: pbs, job_id: "12[]", array_index: 3, script: /a/job.sh, user: null, {TIME}}}'
    )
    assert QueuedJob.from_record(run, SubmissionRecord.load(run)) == QueuedJob(run, "pbs", "12[]", 3)
    run.submission.write_text(f"{{scheduler: slurm, job_id: null, script: /a/job.sh, state: null, {TIME}}}")
    assert SubmissionRecord.load(run).is_unresolved
    run.submission.write_text("{job_id: null, state: FAILED, error: not submitted}")
    assert not SubmissionRecord.load(run).is_unresolved
    run.submission.unlink()
    assert SubmissionRecord.load(run).is_empty


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (f'{{scheduler: slurm, job_id: "--user=me", {TIME}}}', "job_id is '--user=me'"),
        (f'{{scheduler: oar, job_id: "1) or (1=1", {TIME}}}', "job_id"),
        (f"{{scheduler: oar, job_id: true, {TIME}}}", "job_id is True"),
        (f"{{scheduler: slurm, job_id: 1.5, {TIME}}}", "job_id is 1.5"),
        (f"{{scheduler: slurm, job_id: [1], {TIME}}}", "job_id is [1]"),
        ("{scheduler: slurm, job_id: 1, time: nonsense}", "time is 'nonsense'"),
        ('{scheduler: slurm, job_id: 1, time: "2026-01-01T00:00:00"}', "time"),  # of which zone?
        ("{scheduler: slurm, job_id: 1, time: 2026-01-01}", "time"),
        ("{scheduler: slurm, job_id: 1}", "does not say time"),
        (f"{{job_id: 1, {TIME}}}", "does not say scheduler"),
        (f"{{scheduler: [slurm], job_id: 1, {TIME}}}", "scheduler is"),
        (f"{{scheduler: slurm, job_id: 1, array_index: {{a: 1}}, {TIME}}}", "array_index is"),
        (f"{{scheduler: slurm, script: [x], {TIME}}}", "script is"),
        (f"{{scheduler: slurm, job_id: 1, packed: x, {TIME}}}", "packed is 'x'"),
        ("[1, 2]", "holds no mapping"),
        ("{", "is no YAML"),
        ("{job_id: !!bool x}", "is no YAML"),  # PyYAML's own conversions raise KeyError, AttributeError, …
        ("{time: !!timestamp x}", "is no YAML"),
    ],
)
def test_what_nobody_of_us_has_written_is_refused_by_name(tmp_path: Path, text: str, names: str) -> None:
    """Bug: a stack trace of `mlxp status`; `scancel --user=me` because another one's log directory says so."""
    run = run_with(tmp_path, text)
    with pytest.raises(ConfigurationError) as caught:
        SubmissionRecord.load(run)
    assert names in str(caught.value)
    assert str(run.submission) in str(caught.value)


# as the version before SubmissionRecord wrote them: submitted; refused; cancelled before it was asked for; not yet
WRITTEN = (
    """scheduler: slurm
script: /logs/.mlxp/submissions/1/job.sh
name: null
hostname: login1
user: me
time: '2026-11-25T18:00:00+00:00'
job_id: '42'
state: RUNNING
array_index: 3
packed: 1
attempt: 2
own_id: '57'
reason: None
stuck: false
state_time: '2026-11-25T18:10:00+00:00'
cancel_time: '2026-11-25T18:20:00+00:00'
""",
    """scheduler: sge
script: /logs/.mlxp/submissions/1/job.sh
name: main-01abc
hostname: login1
user: me
time: '2026-11-25T18:00:00+00:00'
job_id: null
state: FAILED
error: 'qsub has refused it: no such queue'
array_index: null
packed: 1
attempt: 1
""",
    """scheduler: slurm
script: /logs/.mlxp/submissions/1/job.sh
name: main-01abc
hostname: login1
user: me
time: '2026-11-25T18:00:00+00:00'
job_id: '42'
state: CANCELLED
array_index: null
packed: 1
attempt: 1
cancel_time: '2026-11-25T18:00:01+00:00'
reason: cancelled before it had started
state_time: '2026-11-25T18:00:02+00:00'
""",
    """job_id: null
time: '2026-11-25T18:00:00+00:00'
state: FAILED
attempt: 1
error: not submitted, after another submission had failed
""",
    """state: FAILED
attempt: 1
""",
)


@pytest.mark.parametrize("text", WRITTEN)
def test_a_record_is_written_as_earlier_versions_wrote_it(tmp_path: Path, text: str) -> None:
    """Bug: a key, an order or a null that is lost as a file is written again."""
    run = run_with(tmp_path, text)
    SubmissionRecord.load(run).save(run)
    assert run.submission.read_text() == text


def test_a_record_is_written_with_what_is_known_of_a_submission(tmp_path: Path) -> None:
    """Bug: other keys, or another order, in new files than in those of earlier versions."""
    run = run_with(tmp_path, "")
    record = SubmissionRecord(
        scheduler="slurm",
        script="/logs/.mlxp/submissions/1/job.sh",
        name=None,
        hostname="login1",
        user="me",
        time="2026-11-25T18:00:00+00:00",
        array_index=3,
        packed=1,
        attempt=2,
    )
    record.save(run)
    submitted = ("job_id: '42'\nstate: RUNNING", "job_id: null\nstate: null")
    assert run.submission.read_text() == WRITTEN[0].replace(*submitted).partition("own_id")[0]
    loaded = SubmissionRecord.load(run)
    assert loaded == record
    changes = {"job_id": "42", "state": "RUNNING", "own_id": "57", "reason": "None", "stuck": False}
    later = loaded.updated(**changes, state_time="2026-11-25T18:10:00+00:00")
    later.updated(cancel_time="2026-11-25T18:20:00+00:00").save(run)
    assert run.submission.read_text() == WRITTEN[0]


def test_what_a_later_version_has_recorded_is_kept(tmp_path: Path) -> None:
    """Bug: `mlxp status` of this version removes what a newer one relies on."""
    run = run_with(tmp_path, f"{{scheduler: slurm, job_id: '1', novel: [1], {TIME}}}")
    SubmissionRecord.load(run).updated(state="RUNNING").save(run)
    assert "novel:\n- 1\n" in run.submission.read_text()


@pytest.mark.parametrize(
    ("job", "job_id"),
    [("43", "43"), ("12.server", "12"), ("12[3].server", "12[]"), ("", None), ("$(reboot)", None), ("-u", None)],
)
def test_a_run_that_has_started_knows_its_job(tmp_path: Path, job: str, job_id: str | None) -> None:
    """Bug: an earlier attempt's job, or what was run by hand, is taken for the one that was submitted."""
    run = run_with(tmp_path, f"{{scheduler: pbs, job_id: null, script: /a/job.sh, attempt: 2, {TIME}}}")
    run.starts.write_text("2026-11-25T17:00:00+0000 n1 100 7\n")
    assert find_started_job([run]) is None
    run.starts.write_text(f"2026-11-25T17:00:00+0000 n1 100 7\n2026-11-25T18:00:01+0000 n1 101 {job}\n")
    assert find_started_job([run]) == job_id


def test_a_file_that_cannot_be_written_whole_is_named(tmp_path: Path) -> None:
    """Bug: "No space left on device", and which of five disks that is remains a riddle."""
    path = tmp_path / "info.yaml"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(OSError, match=r"info\.yaml"):
            write_atomic(path, "x" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_a_job_under_the_users_own_name_is_not_held_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: a queue that shows names alone has a job of the user's name, and the run is submitted a second time."""
    old = 'time: "2026-01-01T00:00:00+00:00"'
    run = run_with(tmp_path, f"{{scheduler: sge, job_id: null, script: /a/job.sh, name: null, attempt: 1, {old}}}")
    client = tmp_path / "qstat"
    client.write_text("#!/bin/sh\necho '<job_info><queue_info/></job_info>'\n")
    client.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(SubmissionUnclearError, match="gives the job a name of its own"):
        find_queued([run], limit=5)
    run.submission.write_text(run.submission.read_text().replace("name: null", "name: n-1"))
    assert find_queued([run], limit=5) == {}


SOME = {"scheduler": "slurm", "job_id": "1", "time": "2026-11-25T18:00:00+00:00"}
BAD = {
    **dict.fromkeys(("scheduler", "script", "name", "hostname", "user", "own_id"), (3, True, ["x"], {"a": 1})),
    **dict.fromkeys(("array_index", "packed", "attempt"), (0, -1, "1", 1.5, True, [1])),
    **dict.fromkeys(("time", "state_time", "cancel_time"), (3, "", "now", "2026-11-25", "2026-11-25T18:00:00", ["x"])),
    "job_id": (True, False, 1.5, ["1"], {"a": 1}, "", "1 2", "x", "-1", "1;reboot", "1\n"),
}
ANY = {"state", "error", "reason", "stuck"}  # taken as text, or as true or false, whatever they are


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in BAD.items() for value in values])
def test_each_field_is_checked(tmp_path: Path, key: str, value: object) -> None:
    """Bug: `scancel` of what another one has written; a stack trace of `mlxp status` for one file of a thousand."""
    path = tmp_path / "submission.yaml"
    with pytest.raises(ConfigurationError) as caught:
        SubmissionRecord.from_yaml({**SOME, key: value}, path)
    assert str(caught.value) == f"{path}: {key} is {value!r}, which hydra-mlxp does not write"


def test_every_field_has_bad_values_here_or_takes_any() -> None:
    """Bug: a new field of a file that others write, which nobody has thought to check."""
    assert {*BAD, *ANY} == {item.name for item in fields(SubmissionRecord)} - {"unknown", "keys"}


@pytest.mark.parametrize("key", sorted({*BAD, *ANY}))
def test_each_field_may_be_null(tmp_path: Path, key: str) -> None:
    """Bug: a file that says `not known` is refused."""
    content = {key: None} if key in {"scheduler", "time"} else {**SOME, key: None}
    assert getattr(SubmissionRecord.from_yaml(content, tmp_path), key) is None


@pytest.mark.parametrize(
    ("key", "value", "read"),
    [
        ("job_id", 42, "42"),
        ("state", 3, "3"),
        ("error", ["a"], "['a']"),
        ("reason", True, "True"),
        ("stuck", 1, True),
        ("array_index", 1, 1),
        ("packed", 2, 2),
        ("attempt", 9, 9),
        ("name", "", ""),
        ("own_id", "57", "57"),
        ("cancel_time", "2026-11-25T18:00:00+01:00", "2026-11-25T18:00:00+01:00"),
    ],
)
def test_each_field_is_read_as_what_it_is(tmp_path: Path, key: str, value: object, read: object) -> None:
    """Bug: 42 is not \"42\", and a job that is in the queue is not found in its answer."""
    assert getattr(SubmissionRecord.from_yaml({**SOME, key: value}, tmp_path), key) == read


def test_the_id_of_a_scheduler_that_this_version_does_not_know_is_left_alone(tmp_path: Path) -> None:
    """Bug: the runs of a newer version's scheduler cannot be listed; or an id that is checked by another's pattern."""
    record = SubmissionRecord.from_yaml({**SOME, "scheduler": "novel", "job_id": "a/b"}, tmp_path)
    assert (record.job_id, record.is_submitted) == ("a/b", True)
    with pytest.raises(ConfigurationError, match="job_id is True"):
        SubmissionRecord.from_yaml({**SOME, "scheduler": "novel", "job_id": True}, tmp_path)
    for scheduler, job_id in (("pbs", "12[]"), ("flux", "f2oLkTLb")):
        assert SubmissionRecord.from_yaml({**SOME, "scheduler": scheduler, "job_id": job_id}, tmp_path).job_id == job_id
        with pytest.raises(ConfigurationError):
            SubmissionRecord.from_yaml({**SOME, "job_id": job_id}, tmp_path)


@pytest.mark.parametrize(
    ("content", "missing"),
    [
        ({"job_id": "1"}, "scheduler and time"),
        ({"job_id": "1", "scheduler": "slurm"}, "time"),
        ({"job_id": "1", "time": SOME["time"]}, "scheduler"),
        ({"script": "/a/job.sh"}, "scheduler and time"),
        ({"script": "/a/job.sh", "scheduler": "slurm"}, "time"),
        ({"job_id": 0}, "scheduler and time"),
    ],
)
def test_what_was_sent_says_to_whom_and_when(tmp_path: Path, content: dict[str, object], missing: str) -> None:
    """Bug: a job that no scheduler can be asked for, and whose age nobody knows."""
    with pytest.raises(ConfigurationError) as caught:
        SubmissionRecord.from_yaml(content, tmp_path)
    assert str(caught.value) == f"{tmp_path} does not say {missing}"


@pytest.mark.parametrize(
    ("script", "job_id", "state", "unresolved"),
    [
        ("/a/job.sh", None, None, True),
        ("/a/job.sh", "1", None, False),
        ("/a/job.sh", None, "FAILED", False),
        (None, None, None, False),
        ("", None, None, False),
    ],
)
def test_a_submission_is_open_while_neither_its_job_nor_its_end_is_known(
    script: str | None, job_id: str | None, state: str | None, unresolved: bool
) -> None:
    """Bug: a run that was refused is looked for in the queue; or one that may be there is submitted again."""
    record = SubmissionRecord(scheduler="slurm", script=script, job_id=job_id, state=state)
    assert (record.is_unresolved, record.is_submitted) == (unresolved, job_id is not None)


def test_where_the_scheduler_has_its_say_on_a_task() -> None:
    """Bug: `mlxp logs` shows what the scheduler has said of the first task of the array, or of none."""
    record = SubmissionRecord(scheduler="slurm", script="/logs/.mlxp/submissions/4/job.sh", job_id="1")
    folder = record.folder
    assert folder is not None
    assert (folder.output(None), folder.output(3)) == (folder.path / "job.out", folder.path / "3.out")
    run = RunDir(Path("/logs/1"))
    places = [RunState(run, {}, record.updated(array_index=index)).scheduler_output for index in (None, 1, 12)] + [
        RunState(run, {}, SubmissionRecord()).scheduler_output
    ]
    assert places == [folder.path / "job.out", folder.path / "1.out", folder.path / "12.out", None]
    unlike = [
        ({"scheduler": "oar", "array_index": 2, "own_id": "8"}, "8.out"),
        ({"scheduler": "oar", "array_index": 1}, "7.out"),  # the array's id is that of its first task
        ({"scheduler": "oar"}, "job.out"),
        ({"scheduler": "torque", "job_id": "7[]", "array_index": 2}, "task.out-2"),
        ({"scheduler": "mwm", "array_index": 2}, "task.out-2"),
        ({"scheduler": "pbs", "job_id": "7[]", "array_index": 2}, "2.out"),
        ({"scheduler": "sge", "array_index": 2, "own_id": "8"}, "2.out"),
        ({"scheduler": "novel", "array_index": 2}, "2.out"),
        ({"scheduler": "slurm", "array_index": 2, "script": None}, None),
    ]
    for change, name in unlike:
        place = record.updated(**{"job_id": "7", **change}).output
        assert (place and place.name) == name, change


@pytest.mark.parametrize(("index", "reason"), [(1, ""), (2, "out of memory"), (None, "")])
def test_memory_is_looked_for_in_the_tasks_own_output(tmp_path: Path, index: int | None, reason: str) -> None:
    """Bug: `out of memory` for every task of an array of which one ran out of it."""
    (tmp_path / "1.out").write_text("slurmstepd: error: something else\n")
    (tmp_path / "2.out").write_text("slurmstepd: error: Detected 1 oom_kill event\n")
    record = SubmissionRecord(scheduler="slurm", script=str(tmp_path / "job.sh"), job_id="1", state="FAILED")
    state = RunState(RunDir(tmp_path / "run"), {"status": "RUNNING"}, record.updated(array_index=index))
    assert (state.status, state.reason) == ("FAILED", reason)


def test_records_of_later_versions_can_be_told_apart(tmp_path: Path) -> None:
    """Bug: TypeError for a set of records, as one of them has a key that this version does not know."""
    run = run_with(tmp_path, f"{{scheduler: slurm, job_id: 1, {TIME}, novel: {{a: [1]}}}}")
    first = SubmissionRecord.load(run)
    run.submission.write_text(f"{{scheduler: slurm, job_id: 1, {TIME}, novel: {{a: [2]}}}}")
    assert len({first, first, SubmissionRecord.load(run)}) == 2

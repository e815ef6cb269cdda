"""What a submission.yaml may say, also one that somebody else has written."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from mlxp_core.atomic_files import write_atomic
from mlxp_core.errors import ConfigurationError, SubmissionUnclearError
from mlxp_core.jobs.reconcile import find_queued, find_started_job
from mlxp_core.runs.layout import RunDir
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

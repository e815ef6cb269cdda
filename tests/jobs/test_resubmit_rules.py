"""Why a run is left alone or cannot be submitted again, and what is done before it is; each rule by itself."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import read_yaml

from mlxp_core.errors import CommandError, SnapshotError
from mlxp_core.jobs import resubmit as rules
from mlxp_core.jobs.refresh import UnreachableScheduler
from mlxp_core.runs.layout import LogDir, RunDir
from mlxp_core.runs.state import RunState
from mlxp_core.runs.submission_record import QueuedJob

ORDER = {"scheduler": "slurm", "name": "n", "shebang": "#!/bin/bash", "header": [], "directory": "/"}
JOB = {"scheduler": "slurm", "script": "/x/job.sh", "time": "2026-11-25T18:00:00+00:00", "attempt": 1, "job_id": "7"}
COMMIT = "c" * 40


@pytest.fixture
def log_dir(tmp_path: Path) -> LogDir:
    return LogDir(tmp_path / "logs")


Made = Callable[..., RunState]


@pytest.fixture
def made(log_dir: LogDir) -> Made:
    """Make a run, by default one that has failed in a job."""

    def make(
        info: dict[str, Any] | None = None,
        submission: dict[str, Any] | None = None,
        *,
        number: int = 1,
        exit_code: str | None = None,
        starts: int = 0,
    ) -> RunState:
        run = log_dir.run(number)
        run.metadata.mkdir(parents=True, exist_ok=True)
        known = {"status": "FAILED", "attempt": 1, "logger": {"log_dir": str(log_dir.path)}, **(info or {})}
        run.info.write_text(yaml.safe_dump(known))
        record = JOB if submission is None else {**JOB, **submission} if submission else {}
        run.submission.write_text(yaml.safe_dump(record))
        run.settings.write_text(yaml.safe_dump({"order": ORDER}))
        run.script.write_text("#!/bin/bash\n")
        if exit_code is not None:
            run.exit_code.write_text(exit_code)
        if starts:
            run.starts.write_text("a start\n" * starts)
        return RunState.load(run)

    return make


GAVE_WAY = "PREEMPTED, and its job has not ended: the scheduler may start it again"
RUNS_HERE = {"status": "RUNNING", "hostname": "elsewhere"}
NO_JOB: dict[str, Any] = {}


@pytest.mark.parametrize(
    ("info", "submission", "exit_code", "reason"),
    [
        ({"status": "FAILED"}, None, None, None),
        ({"status": "COMPLETE"}, None, None, "COMPLETE"),
        ({"status": "PENDING"}, None, None, "PENDING"),
        (RUNS_HERE, None, None, "RUNNING"),
        ({"status": "PENDING"}, NO_JOB, None, None),  # never submitted
        (RUNS_HERE, NO_JOB, None, "RUNNING"),  # by hand
        (RUNS_HERE, NO_JOB, "137 1", None),  # and was killed
        (RUNS_HERE, {"job_id": None, "attempt": 2}, None, None),  # an attempt before
        ({"status": "PREEMPTED"}, {"state": "RUNNING"}, None, GAVE_WAY),
        ({"status": "PREEMPTED"}, {"state": "RUNNING"}, "75 1", None),
        ({"status": "PREEMPTED"}, {"state": "PREEMPTED"}, None, None),
        ({"status": "FAILED", "error": {"type": "x"}}, {"state": "RUNNING"}, None, None),
    ],
)
def test_what_waits_runs_or_is_complete_is_left_alone(
    made: Made, info: dict[str, Any], submission: dict[str, Any] | None, exit_code: str | None, reason: str | None
) -> None:
    """Bug: the same run twice at once, in one folder; or one that failed is left alone for ever."""
    state = made(info, submission, exit_code=exit_code)
    assert rules._why_skipped(state, {}, complete=False) == reason


def test_complete_runs_go_again_where_that_is_asked_for(made: Made) -> None:
    """Bug: --complete does nothing, or takes what runs along."""
    assert rules._why_skipped(made({"status": "COMPLETE"}), {}, complete=True) is None
    assert rules._why_skipped(made({"status": "PENDING"}), {}, complete=True) == "PENDING"


def test_what_a_launch_is_at_is_left_to_it_until_it_has_a_job(made: Made) -> None:
    """Bug: a run is submitted twice, by the launch and by rerun; or is left alone for a launch that is done with it."""
    waits, failed, other = made({"status": "PENDING"}, NO_JOB), made(number=2), made(NO_JOB, NO_JOB, number=3)
    launching = {waits.run: "a launch is at it", failed.run: "a launch is at it"}
    reasons = [rules._why_skipped(state, launching, complete=True) for state in (waits, failed, other)]
    assert reasons == ["a launch is at it", None, None]


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the schedulers say: who is silent, which runs are not current, and what a look into the queue finds."""
    said: dict[str, Any] = {"silent": [], "unknown": set(), "looked": [], "found": lambda run: None}

    def refresh(states: Iterable[RunState]) -> tuple[list[RunState], list[UnreachableScheduler]]:
        known = [state.with_is_current(is_current=state.run.path.name not in said["unknown"]) for state in states]
        return known, said["silent"]

    def find(runs: list[RunDir], *, limit: float) -> None:
        said["looked"].append(([run.path.name for run in runs], limit))
        for run in runs:
            said["found"](run)

    monkeypatch.setattr(rules, "refresh", refresh)
    monkeypatch.setattr(rules, "find_queued", find)
    return said


SILENT = [UnreachableScheduler("slurm", "squeue: away", None), UnreachableScheduler("oar", "oarstat: away", None)]
UNCLEAR = {"job_id": None, "state": None}


def test_nothing_is_submitted_while_it_is_not_known_where_a_run_stands(made: Made, known: dict[str, Any]) -> None:
    """Bug: a run is submitted again that waits in a queue which does not answer."""
    runs = [made(number=number).run for number in (1, 2, 3)]
    known["silent"], known["unknown"] = SILENT, {"1", "3"}
    with pytest.raises(CommandError) as refused:
        rules._up_to_date(runs)
    assert str(refused.value) == (
        "it is not known where run 1, 3 stands, so nothing is submitted:\nsqueue: away\noarstat: away"
    )
    known["unknown"] = set()  # it has been asked for others
    assert [state.run for state in rules._up_to_date(runs)] == runs
    known["silent"], known["unknown"] = [], {"1"}  # another user's, which nobody can ask for
    assert [state.is_current for state in rules._up_to_date(runs)] == [False, True, True]
    assert known["looked"] == []


def test_what_may_have_been_submitted_is_looked_for_and_read_again(made: Made, known: dict[str, Any]) -> None:
    """Bug: a submission that was cut short is done twice; the state from before the look decides."""
    runs = [made(submission=UNCLEAR, number=number).run for number in (1, 2)] + [made(number=3).run]
    runs[0].settings.write_text(yaml.safe_dump({"order": {**ORDER, "command_timeout": 90.0}}))
    known["unknown"] = {"2"}  # it is another host's

    def found(run: RunDir) -> None:
        run.submission.write_text(yaml.safe_dump(JOB))
        runs[2].info.write_text("status: COMPLETE\n")  # which was not unclear

    known["found"] = found
    states = rules._up_to_date(runs)
    assert known["looked"] == [(["1"], 90.0)]
    assert [state.is_submitted for state in states] == [True, False, True]
    assert states[2].status == "FAILED"


@pytest.mark.parametrize("text", [None, "a: [", "order: 3", "order: {command_timeout: 9}"])
def test_a_limit_that_is_not_known_is_the_usual_one(made: Made, text: str | None) -> None:
    """Bug: a stack trace over another run's file; a look that ends before the submit command may."""
    run = made().run
    run.settings.write_text(yaml.safe_dump({"order": {**ORDER, "command_timeout": 7.0}}))
    assert rules._command_timeout(run) == 7.0
    if text is None:
        run.settings.unlink()
        run.settings.mkdir()
    else:
        run.settings.write_text(text)
    assert rules._command_timeout(run) == 60.0


def blocker(state: RunState) -> str:
    return rules._blocker(state, dry_run=False)


def test_a_run_that_a_launcher_has_left_whole_can_be_submitted_again(made: Made, log_dir: LogDir) -> None:
    """Bug: a run of MLXP's own launcher, or of a log directory behind a link, is refused."""
    assert blocker(made()) == ""
    assert blocker(made({"logger": None})) == ""
    (log_dir.path.parent / "link").symlink_to("logs")
    assert blocker(made({"logger": {"log_dir": str(log_dir.path.parent / "link")}})) == ""


def test_what_keeps_a_run_from_being_submitted_again_is_said(made: Made, tmp_path: Path) -> None:
    """Bug: a stack trace of `mlxp rerun`, or a job that fails within a second."""
    state = made()
    run = state.run
    elsewhere = made(submission={"user": "sam", "hostname": "n1"}).with_is_current(is_current=False)
    assert blocker(elsewhere) == "it was submitted by sam on n1: only from there"
    run.settings.write_text("{}")
    assert blocker(state) == (
        f"{run.path} was not made by a launcher of hydra-mlxp, so it is not known how to submit it again"
    )
    run.settings.write_text("a: [")
    assert blocker(state).startswith(f"{run.settings} cannot be used: ")
    run.settings.unlink()
    run.settings.mkdir()
    assert blocker(state).startswith(f"{run.settings} cannot be used: ")
    run.settings.rmdir()
    state = made()
    run.script.unlink()
    assert blocker(state) == f"{run.script} is not there, which is what a job of it runs"
    run.info.write_text("a: [")
    assert blocker(RunState.load(run)).startswith("info.yaml cannot be read: ")


def test_a_run_of_the_first_versions_is_told_from_one_of_no_launcher(made: Made) -> None:
    """Bug: "was not made by a launcher of hydra-mlxp", of one that the first commits of this package made."""
    state = made()
    state.run.settings.write_text("version: 0.1.0\nlauncher: {scheduler: local, launch_dir: /x}\n")
    said = blocker(state)
    assert said.startswith(
        f"{state.run.path} was made by a launcher of an earlier version of hydra-mlxp, which has not"
    )
    assert f"bash {state.run.script}" in said


def test_a_run_of_a_later_version_of_the_package_is_left_to_that(made: Made) -> None:
    """Bug: it is submitted again by rules that its folder no longer follows."""
    state = made({"status": "FAILED", "format": 99})
    assert rules._blocker(state, dry_run=True).startswith("a newer version of hydra-mlxp wrote it (format 99, and this")


def test_a_run_that_was_copied_is_not_submitted_again(made: Made, tmp_path: Path) -> None:
    """Bug: the job of a copy writes into the original's folder."""
    (tmp_path / "original" / "1").mkdir(parents=True)
    state = made({"logger": {"log_dir": str(tmp_path / "original")}})
    why = f"{tmp_path}/original/1 has it, too, so this is a copy: submit that one again, or remove it first"
    assert blocker(state) == why


def test_a_script_of_another_user_is_named_with_its_owner(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: in a shared log directory `mlxp rerun` runs what somebody else has put there."""
    state = made()
    owner = state.run.script.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    assert blocker(state) == f"its script.sh belongs to user {owner}, and would run as you"


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Copies that are made again: from where, of which commit, and where. A first value that is an error is raised."""
    asked: list[Any] = []

    def locate(version: Any, *, log_dir: LogDir) -> Path:
        if asked and isinstance(asked[0], BaseException):
            raise asked.pop(0)
        return version.repo_path

    def publish(repository: Path, commit: str, place: Path) -> None:
        asked.append((repository, commit, place))
        (place / commit).mkdir(parents=True)

    monkeypatch.setattr(rules, "locate_commit", locate)
    monkeypatch.setattr(rules, "publish_copy", publish)
    return asked


def with_copy(made: Made, tmp_path: Path) -> tuple[RunState, Path]:
    copy = tmp_path / "code" / COMMIT
    version = {"repo_path": "/repo", "commit_hash": COMMIT, "copy": str(copy)}
    return made({"version_manager": version, "work_dir": str(copy)}), copy


def test_a_copy_that_was_pruned_is_made_again(made: Made, published: list[Any], tmp_path: Path) -> None:
    """Bug: the job ends with `cd: no such file`; a dry run that writes; the copy is made although it is there."""
    state, copy = with_copy(made, tmp_path)
    assert rules._missing_code(state, dry_run=True) == ""
    assert published == []
    assert blocker(state) == ""
    assert published == [(Path("/repo"), COMMIT, copy.parent)]
    assert blocker(state) == ""
    assert len(published) == 1


@pytest.mark.parametrize("error", [SnapshotError("git has lost it"), OSError("a full disk")])
@pytest.mark.parametrize("dry_run", [False, True])
def test_code_that_cannot_be_made_again_is_said(
    made: Made, published: list[Any], tmp_path: Path, error: Exception, *, dry_run: bool
) -> None:
    """Bug: a stack trace, and no run is submitted; a dry run says that it can be."""
    state, copy = with_copy(made, tmp_path)
    published.append(error)
    assert rules._missing_code(state, dry_run=dry_run) == (
        f"its code is not there any more, and cannot be made again: {copy}: {error}"
    )


def test_links_to_packages_that_were_pruned_are_missed_where_the_script_has_them(
    made: Made, published: list[Any], tmp_path: Path
) -> None:
    """Bug: the job ends with ModuleNotFoundError, or imports the work tree."""
    state, copy = with_copy(made, tmp_path)
    links = copy.parent / f"{COMMIT}.path"
    said = f"the links to its packages are not there any more, and only a launch can make them again: {links}"
    state.run.script.write_bytes(b"\xff\nexport PYTHONPATH=" + os.fsencode(links) + b"\n")
    assert rules._missing_code(state, dry_run=True) == said
    assert rules._missing_code(state, dry_run=False) == said
    assert copy.is_dir()
    assert rules._missing_code(state, dry_run=False) == said
    links.mkdir()
    assert rules._missing_code(state, dry_run=False) == ""


def test_code_that_ran_in_place_must_still_be_there(made: Made, tmp_path: Path) -> None:
    """Bug: a job that fails as its work tree was removed; or a run without one is refused."""
    assert blocker(made({"work_dir": str(tmp_path)})) == ""
    assert blocker(made({"work_dir": str(tmp_path / "gone")})) == f"its code is not there any more: {tmp_path}/gone"
    assert blocker(made({"work_dir": None})) == ""


@pytest.mark.parametrize(
    ("exit_code", "starts", "is_moved"),
    [("1 1", 1, True), ("1 2", 2, True), (None, 1, False), ("1 1", 0, False)],
)
def test_an_exit_code_is_moved_to_its_attempt_before_the_next(
    made: Made, exit_code: str | None, starts: int, *, is_moved: bool
) -> None:
    """Bug: the new attempt has ended before it has begun; or the run counts as never ended if this is killed."""
    state = made(exit_code=exit_code, starts=starts)
    archived = state.run.attempt_dir(starts).exit_code
    archived.parent.mkdir(parents=True)
    archived.write_text("of an archiving that was killed")
    rules._archive_exit_code(state)
    assert state.run.exit_code.exists() is (exit_code is not None and not is_moved)
    assert archived.read_text() == (exit_code if is_moved else "of an archiving that was killed")
    said = read_yaml(state.run.submission)
    assert (said.get("state"), said["attempt"]) == (("FAILED", starts) if is_moved else (None, 1))


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is done, in order."""
    done: list[Any] = []

    @contextmanager
    def exclusive(_: LogDir) -> Iterator[None]:
        done.append("locked")
        yield
        done.append("unlocked")

    def submit(runs: list[RunDir], log_dir: LogDir) -> list[QueuedJob]:
        done.append(("submit", [run.path.name for run in runs], [run.exit_code.exists() for run in runs]))
        return [QueuedJob(run, "slurm", "8", None) for run in runs]

    def cancel(states: list[RunState]) -> None:
        done.append(("cancel", [state.run.path.name for state in states]))

    monkeypatch.setattr(rules, "exclusive", exclusive)
    monkeypatch.setattr(rules, "submit", submit)
    monkeypatch.setattr(rules, "cancel_jobs", cancel)
    monkeypatch.setattr(rules, "runs_being_launched", lambda log_dir: {log_dir.run(5): "a launch is at it"})
    monkeypatch.setattr(rules, "remove_finished", lambda _: done.append("finished"))
    return done


def test_what_is_held_is_cancelled_and_the_rest_told_apart(
    made: Made, log_dir: LogDir, known: dict[str, Any], steps: list[Any]
) -> None:
    """Bug: a job in an error state starts beside its rerun; a note of a launch stays for ever; one list for all."""
    first = made(exit_code="1 1", starts=1)
    held = made(submission={"state": "FAILED", "stuck": True}, number=2)
    done, gone = made({"status": "COMPLETE"}, number=3), made({"work_dir": "/nowhere/at all"}, number=4)
    launched = made({"status": "PENDING"}, NO_JOB, number=5)
    runs = [state.run for state in (first, held, done, gone, launched)]
    outcome = {
        "runs": (first.run, held.run),
        "skipped": {done.run: "COMPLETE", launched.run: "a launch is at it"},
        "blocked": {gone.run: "its code is not there any more: /nowhere/at all"},
    }
    assert rules.resubmit(log_dir, runs, dry_run=True) == rules.Resubmission(submitted=(), **outcome)
    assert steps == ["locked", "unlocked"]
    assert first.run.exit_code.exists()
    steps.clear()
    jobs = tuple(QueuedJob(state.run, "slurm", "8", None) for state in (first, held))
    assert rules.resubmit(log_dir, runs) == rules.Resubmission(submitted=jobs, **outcome)
    assert steps == ["locked", ("cancel", ["2"]), ("submit", ["1", "2"], [False, False]), "finished", "unlocked"]
    steps.clear()
    assert rules.resubmit(log_dir, [done.run]).submitted == ()
    assert steps == ["locked", "unlocked"]
    assert rules.resubmit(log_dir, [done.run], complete=True).runs == (done.run,)

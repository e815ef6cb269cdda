"""What schedulers say of runs, with stand-ins for Slurm's clients: asked once, believed, kept, not waited for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import PATIENCE, read_yaml

from mlxp_core.errors import CommandError, ConfigurationError
from mlxp_core.jobs import cancel, refresh
from mlxp_core.jobs.resubmit import resubmit
from mlxp_core.runs import submission_record
from mlxp_core.runs.layout import LogDir, RunDir
from mlxp_core.runs.listing import list_runs
from mlxp_core.runs.process import current_user
from mlxp_core.runs.state import RunState, load_status
from mlxp_core.runs.status import Status
from mlxp_core.scheduler.base import NativeJob
from mlxp_core.scheduler.query_cache import QueueAnswer


def client(folder: Path, name: str, script: str) -> None:
    """Put a stand-in for a scheduler's client on the path, which counts its calls."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\necho {name} \"$@\" >>'{folder}/calls'\n{script}\n")
    (folder / name).chmod(0o755)


def calls(clients: Path) -> list[str]:
    """Which stand-ins were called."""
    path = clients / "calls"
    return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def clients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    client(folder, "squeue", "")
    client(folder, "sacct", "")
    return folder


@pytest.fixture
def log_dir(tmp_path: Path) -> LogDir:
    return LogDir(tmp_path / "log s")


def forget_answers(tmp_path: Path) -> None:
    """As after ten seconds."""
    for path in (tmp_path / "cache").rglob("*.json"):
        path.unlink()


def ago(seconds: float) -> str:
    return (datetime.now().astimezone() - timedelta(seconds=seconds)).isoformat()


def write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content))


def submitted(
    log_dir: LogDir, number: int, *, starts: int = 0, info: dict[str, Any] | None = None, **note: Any
) -> RunDir:
    """A run that was submitted ten minutes ago, as the launcher leaves it."""
    run = log_dir.run(number)
    write(run.info, {"status": "PENDING", "attempt": 1, **(info or {})})
    script = run.path.parent / ".mlxp" / "submissions" / "1" / "job.sh"
    common = {"scheduler": "slurm", "job_id": "7", "array_index": number, "packed": 1, "script": str(script)}
    more = {"name": "n-1", "user": current_user(), "time": ago(600), "attempt": 1, "state": None}
    write(run.submission, {**common, **more, **note})
    if starts:
        run.starts.write_text("started\n" * starts)
        os.utime(run.starts, (time.time() - 300,) * 2)
    return run


def note(run: RunDir) -> dict[str, Any]:
    return read_yaml(run.submission)


def test_a_thousand_runs_cost_one_command(clients: Path, log_dir: LogDir) -> None:
    """Bug: a squeue for each run, at which the site's administrators call."""
    runs = [submitted(log_dir, number) for number in range(1, 1001)]
    client(clients, "squeue", "seq 1 1000 | sed 's/.*/7|&|PENDING|Resources|x/'")
    before = time.process_time()
    assert refresh.refresh_runs(runs) == []
    assert time.process_time() - before < 5
    assert calls(clients) == ["squeue"]
    assert {load_status(run) for run in runs[::100]} == {"PENDING"}
    assert note(runs[999])["reason"] == "Resources"


def test_however_often_it_is_asked_the_scheduler_is_asked_once_in_ten_seconds(
    clients: Path, log_dir: LogDir, tmp_path: Path
) -> None:
    """Bug: ten users of `watch mlxp status`, or ten processes at once, that stop the controller."""
    run = submitted(log_dir, 1)
    client(clients, "squeue", "echo '7|1|PENDING|Priority|x'; sleep 0.3")
    program = "import sys; from pathlib import Path; from mlxp_core.jobs.refresh import refresh_runs; "
    program += "from mlxp_core.runs.layout import RunDir; print(len(refresh_runs([RunDir(Path(sys.argv[1]))])))"
    command = [sys.executable, "-c", program, str(run.path)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert [process.communicate(timeout=PATIENCE)[0] for process in processes] == ["0\n"] * 4
    assert calls(clients) == ["squeue"]
    forget_answers(tmp_path)
    refresh.refresh_runs([run])
    assert calls(clients) == ["squeue"] * 2


@pytest.mark.parametrize(
    ("squeue", "sacct", "starts", "info", "status", "reason"),
    [
        ("7|1|RUNNING|None|x", "", 0, {}, "PENDING", ""),  # not up yet: the folder says so first
        ("7|1|CANCELLED|None|x", "", 0, {}, "CANCELLED", ""),
        ("7|1|OUT_OF_MEMORY|OutOfMemory|x", "", 1, {"status": "RUNNING"}, "FAILED", "out of memory"),
        ("7|1|NODE_FAIL|NodeDown|x", "", 1, {"status": "RUNNING"}, "LOST", "node failure"),
        ("7|1|TIMEOUT|TimeLimit|x", "", 1, {"status": "CANCELLED"}, "TIMEOUT", "TimeLimit"),
        ("7|1|PREEMPTED|None|x", "", 1, {"status": "CANCELLED"}, "PREEMPTED", "PREEMPTED"),
        ("", "7_1|OUT_OF_MEMORY", 1, {"status": "RUNNING"}, "FAILED", "out of memory"),
        ("", "7_1|CANCELLED by 1000", 0, {}, "CANCELLED", ""),
        ("", "7_[1-4]|CANCELLED by 1000", 0, {}, "CANCELLED", ""),
        ("", "", 0, {}, "CANCELLED", "no longer in the queue, and it had never started"),
        ("", "", 1, {"status": "RUNNING"}, "LOST", "no longer in the queue, and it left no word"),
        ("7|1|FROBNICATING|None|x", "", 0, {}, "PENDING", ""),
        ("7|1|FAILED|NonZeroExitCode|x", "", 1, {"status": "COMPLETE"}, "COMPLETE", ""),
    ],
)
def test_the_schedulers_word_and_the_folder_make_a_status(
    clients: Path,
    log_dir: LogDir,
    squeue: str,
    sacct: str,
    starts: int,
    info: dict[str, Any],
    status: str,
    reason: str,
) -> None:
    """Bug: RUNNING for ever; or a reason that nobody is told."""
    run = submitted(log_dir, 1, starts=starts, info=info)
    client(clients, "squeue", f"echo '{squeue}'" if squeue else "")
    client(clients, "sacct", f"echo '{sacct}'" if sacct else "")
    assert refresh.refresh_runs([run]) == []
    one = RunState.load(run)
    assert (one.status, one.reason) == (status, reason)


def test_a_job_that_was_just_submitted_is_not_missed(clients: Path, log_dir: LogDir) -> None:
    """Bug: CANCELLED, because the controller is a second behind."""
    run = submitted(log_dir, 1, time=ago(5))
    refresh.refresh_runs([run])
    assert load_status(run) == "PENDING"


def test_a_site_without_accounting_is_one_where_the_folder_has_the_last_word(clients: Path, log_dir: LogDir) -> None:
    """Bug: `Slurm accounting storage is disabled` at every status, and runs that stay RUNNING."""
    run = submitted(log_dir, 1, starts=1, info={"status": "RUNNING"})
    client(clients, "sacct", "echo 'Slurm accounting storage is disabled' >&2; exit 1")
    assert refresh.refresh_runs([run]) == []
    assert load_status(run) == "LOST"


def test_without_its_accounting_a_scheduler_is_believed_for_what_its_queue_shows(
    clients: Path, log_dir: LogDir
) -> None:
    """Bug: all of the answer thrown away, or what is not in the queue called lost, as slurmdbd is down."""
    waits, gone = submitted(log_dir, 1), submitted(log_dir, 2, job_id="8", starts=1, info={"status": "RUNNING"})
    client(clients, "squeue", "echo '7|1|PENDING|Resources|x'")
    client(clients, "sacct", "echo 'slurmdbd is down' >&2; exit 1")
    states, (scheduler,) = refresh.refresh([RunState.load(waits), RunState.load(gone)])
    assert "slurmdbd is down" in scheduler.why
    assert [(state.status, state.is_current) for state in states] == [("PENDING", True), ("RUNNING", False)]
    assert note(waits)["reason"] == "Resources"


def test_a_scheduler_that_hangs_is_given_up(clients: Path, log_dir: LogDir, tmp_path: Path) -> None:
    """Bug: a status that hangs with the controller; two of them one after the other; or a last state shown as new."""
    run = submitted(log_dir, 1, starts=1, info={"status": "RUNNING"})
    client(clients, "squeue", "echo '7|1|RUNNING|None|x'")
    assert refresh.refresh_runs([run]) == []
    forget_answers(tmp_path)
    client(clients, "squeue", f"sleep {PATIENCE}")  # the limits themselves: scheduler/test_query_cache.py
    command = [Path(sys.executable).with_name("mlxp"), "status", "--log-dir", str(log_dir.path), "--json"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=PATIENCE / 2) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    for stdout, stderr in outputs:
        assert (json.loads(stdout)["status"], json.loads(stdout)["last_known"]) == ("RUNNING", True)
        assert f"slurm has not answered since {note(run)['state_time'][:16]}" in stderr
        assert "1 of its runs is the last that is known" in stderr


def test_an_answer_that_takes_long_is_as_old_as_its_question(
    clients: Path, log_dir: LogDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: a run that has started and ended while a busy squeue was at its answer is said to wait anew."""
    monkeypatch.setattr(refresh, "_SKEW", 0.2)
    run = submitted(log_dir, 1, starts=1, job_id="7", array_index=1)
    client(clients, "squeue", f"echo '7|1|PENDING|Resources|x'; touch '{run.starts}'; sleep 0.6")
    write(run.info, {"status": "RUNNING", "attempt": 1})
    refresh.refresh_runs([run])
    assert note(run).get("attempt", 1) == 1
    assert load_status(run) != "PENDING"


def test_a_requeued_job_waits_as_its_next_attempt(clients: Path, log_dir: LogDir, tmp_path: Path) -> None:
    """Bug: the end of the first attempt taken for that of the run; or an answer from before the start for a requeue."""
    run = submitted(log_dir, 1, starts=1, info={"status": "CANCELLED"})
    client(clients, "squeue", "echo '7|1|PENDING|BeginTime|x'")
    os.utime(run.starts)  # a moment ago: what the queue says may be older
    refresh.refresh_runs([run])
    assert note(run)["state"] is None
    os.utime(run.starts, (time.time() - 60,) * 2)
    forget_answers(tmp_path)
    refresh.refresh_runs([run])
    assert (note(run)["state"], note(run)["attempt"]) == ("PENDING", 2)
    assert (load_status(run), RunState.load(run).reason) == ("PENDING", "BeginTime")
    # it runs, and script.sh has not noted it yet
    client(clients, "squeue", "echo '7|1|RUNNING|None|x'")
    forget_answers(tmp_path)
    refresh.refresh_runs([run])
    assert (note(run)["state"], note(run)["attempt"]) == ("RUNNING", 2)


def test_the_second_attempt_cancelled_in_the_queue_is_cancelled(clients: Path, log_dir: LogDir) -> None:
    """Bug: FAILED, as in the attempt before; or the state said of the wrong attempt."""
    failed = {"status": "FAILED", "error": {"type": "ValueError", "message": "no"}}
    run = submitted(log_dir, 1, starts=1, info=failed, attempt=2)
    assert load_status(run) == "PENDING"
    client(clients, "squeue", "echo '7|1|CANCELLED|None|x'")
    refresh.refresh_runs([run])
    assert (note(run)["state"], note(run)["attempt"]) == ("CANCELLED", 2)
    assert load_status(run) == "CANCELLED"


def test_a_run_of_another_user_or_from_another_machines_queue_is_left_as_it_is(clients: Path, log_dir: LogDir) -> None:
    """Bug: LOST, for a colleague's runs that squeue does not list, or those of another machine's local queue."""
    colleague = submitted(log_dir, 1, starts=1, info={"status": "RUNNING"}, user="somebody-else")
    elsewhere = submitted(log_dir, 2, scheduler="local", hostname="elsewhere.example")
    states, unreachable = refresh.refresh([RunState.load(colleague), RunState.load(elsewhere)])
    assert unreachable == []
    assert [(state.status, state.is_current) for state in states] == [("RUNNING", False), ("PENDING", False)]
    assert calls(clients) == []


def test_what_has_ended_is_not_asked_for_again(clients: Path, log_dir: LogDir, tmp_path: Path) -> None:
    """Bug: a scheduler asked for years about what it has forgotten, or from a laptop that has none."""
    failed = {"status": "FAILED", "error": {"type": "ValueError", "message": "no"}}
    done = [submitted(log_dir, 1, starts=1, info={"status": "COMPLETE"}), submitted(log_dir, 2, starts=1, info=failed)]
    killed = submitted(log_dir, 3, starts=1, info={"status": "RUNNING"})
    killed.exit_code.write_text("137\n")
    refresh.refresh_runs(done)
    assert calls(clients) == []
    refresh.refresh_runs([killed])
    assert calls(clients) == ["squeue", "sacct"]
    assert (RunState.load(killed).status, RunState.load(killed).reason) == ("FAILED", "exit code 137")
    forget_answers(tmp_path)
    refresh.refresh_runs([*done, killed])
    assert calls(clients) == ["squeue", "sacct"]


def test_a_submission_of_which_nothing_was_known_is_found(clients: Path, log_dir: LogDir) -> None:
    """Bug: a run whose launch was killed in the middle, and that runs without anybody knowing."""
    run = submitted(log_dir, 1, job_id=None)
    assert RunState.load(run).reason == "it is not known whether it was submitted"
    client(clients, "squeue", f"echo '9|1|PENDING|Resources|{note(run)['script']}'")
    refresh.refresh_runs([run])
    assert (note(run)["job_id"], note(run)["state"]) == ("9", "PENDING")


def test_an_answer_does_not_undo_what_happened_meanwhile(clients: Path, log_dir: LogDir) -> None:
    """Bug: `mlxp status` that hung takes away the job id of a run that was submitted again meanwhile."""
    run = submitted(log_dir, 1)
    before = RunState.load(run)
    submitted(log_dir, 1, job_id="8", script="/other/job.sh")
    client(clients, "squeue", "echo '7|1|CANCELLED|None|x'")
    (state,), _ = refresh.refresh([before])
    assert (note(run)["job_id"], note(run)["state"]) == ("8", None)
    assert (state.submission.job_id, before.submission.job_id) == ("8", "7")


def test_a_folder_that_may_not_be_written_can_be_looked_at(
    clients: Path, log_dir: LogDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: PermissionError instead of a table, for a colleague's log directory."""
    run = submitted(log_dir, 1)
    client(clients, "squeue", "echo '7|1|CANCELLED|None|x'")

    def refuse(*_: object) -> None:
        raise PermissionError("not yours")

    monkeypatch.setattr(submission_record, "write_yaml", refuse)
    (state,), unreachable = refresh.refresh([RunState.load(run)])
    assert unreachable == []
    assert state.status == "CANCELLED"


def test_runs_that_share_a_job_are_cancelled_together_or_not_at_all(clients: Path, log_dir: LogDir) -> None:
    """Bug: `mlxp cancel 1` that ends run 2 as well."""
    one, two = (submitted(log_dir, number, packed=2, array_index=1) for number in (1, 2))
    manifest = Path(note(one)["script"]).with_name("manifest")
    manifest.parent.mkdir(parents=True)
    manifest.write_text(f"{one.path}\n{two.path}\n")
    client(clients, "scancel", "")
    with pytest.raises(ConfigurationError, match="run 1 shares its job with run 2"):
        cancel.cancel_runs([one])
    assert calls(clients) == []
    assert cancel.cancel_runs([one, two]) == [one, two]
    assert (clients / "calls").read_text() == "scancel 7_1\n"


def test_a_job_that_vanishes_after_it_was_cancelled_was_cancelled(clients: Path, log_dir: LogDir) -> None:
    """Bug: LOST, for what the user has ended."""
    run = submitted(log_dir, 1, starts=1, info={"status": "RUNNING"})
    client(clients, "scancel", "")
    cancel.cancel_runs([run])
    assert RunState.load(run).reason == "cancelled, and has not ended yet"
    refresh.refresh_runs([run])
    assert load_status(run) == "CANCELLED"


def test_runs_are_listed_in_order_and_nothing_else_is(log_dir: LogDir) -> None:
    """Bug: 10 before 2; .mlxp, or a user's own folder, taken for a run."""
    for name in ("10", "2", "b", "a", "007"):
        write(RunDir(log_dir.path / name).info, {"status": "COMPLETE"})
    (log_dir.path / "notes").mkdir()
    (log_dir.path / "11").mkdir()
    assert [run.path.name for run in list_runs(log_dir)] == ["2", "10", "007", "a", "b"]


def test_a_job_that_the_queue_holds_in_an_error_is_cancelled_before_its_run_is_submitted_again(
    clients: Path, log_dir: LogDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: SGE's Eqw: an administrator clears the error, and the run is there twice."""
    sbatch_header = {"name": "n", "shebang": "#!/bin/bash", "header": [], "directory": "/", "scheduler": "slurm"}
    run = submitted(log_dir, 1, info={"logger": {"log_id": 1, "log_dir": str(log_dir.path)}, "work_dir": "/"})
    write(run.settings, {"order": sbatch_header})
    run.script.write_text("#!/bin/bash\n")
    slurm = refresh.load_scheduler("slurm")
    states = {**slurm.states, "Eqw": Status.FAILED}
    stuck = replace(slurm, states=states, held_states=frozenset({"Eqw"}))
    monkeypatch.setattr(refresh, "load_scheduler", lambda name: stuck)
    client(clients, "squeue", "echo '7|1|Eqw|None|x'")
    client(clients, "scancel", "")
    client(clients, "sbatch", "echo 12")
    result = resubmit(log_dir, [run])
    assert [one.job_id for one in result.submitted] == ["12"]
    assert calls(clients) == ["squeue", "scancel", "sbatch"]
    assert note(run)["attempt"] == 1  # it has never started


def test_nothing_is_submitted_again_while_its_scheduler_is_silent(clients: Path, log_dir: LogDir) -> None:
    """Bug: a run that the controller still has, submitted a second time as the controller is away."""
    run = submitted(log_dir, 1, starts=1, info={"status": "CANCELLED"})
    client(clients, "squeue", "echo 'slurm_load_jobs error: Unable to contact' >&2; exit 1")
    client(clients, "sbatch", "echo 12")
    with pytest.raises(CommandError, match=r"(?s)not known where run 1 stands.*Unable to contact"):
        resubmit(log_dir, [run])
    assert "sbatch" not in calls(clients)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The question to each scheduler; the answers are given under ``answers``, nothing by default."""
    questions: dict[str, Any] = {"answers": {}}

    def ask(scheduler: Any, tasks: Any, since: datetime | None, *, user: str) -> QueueAnswer:
        questions[scheduler.name] = set(tasks), since, user
        nothing = QueueAnswer(time.time(), frozenset(), answered=time.time(), asked=time.time())
        return questions["answers"].get(scheduler.name, nothing)

    monkeypatch.setattr(refresh, "ask_queue", ask)
    return questions


def test_the_history_is_asked_since_the_oldest_of_the_jobs(log_dir: LogDir, asked: dict[str, Any]) -> None:
    """Bug: since the newest: sacct does not show the older ones, which are LOST."""
    times = [ago(seconds) for seconds in (600, 7200, 60)]
    runs = [submitted(log_dir, number, time=time) for number, time in enumerate(times, start=1)]
    open_run = submitted(log_dir, 4, job_id=None, time=ago(9000))  # of it no task is known, but when it was begun
    done = submitted(log_dir, 5, starts=1, info={"status": "COMPLETE"}, time=ago(99999))
    refresh.refresh_runs([*runs, done])
    tasks = {("7", 1), ("7", 2), ("7", 3)}
    assert asked["slurm"] == (tasks, datetime.fromisoformat(times[1]), current_user())
    refresh.refresh_runs([*runs, open_run])
    assert asked["slurm"] == (tasks, datetime.fromisoformat(note(open_run)["time"]), current_user())


def test_each_scheduler_is_asked_for_its_own_runs(log_dir: LogDir, asked: dict[str, Any]) -> None:
    """Bug: a job of one scheduler looked for in the queue of another; the states in the order of the schedulers."""
    runs = [
        submitted(log_dir, number, scheduler=scheduler, job_id=str(number), array_index=None)
        for number, scheduler in enumerate(("slurm", "sge", "slurm", "oar"), start=1)
    ]
    silent = QueueAnswer(time.time(), frozenset({"3"}), error="down", answered=1_800_000_000.0)
    asked["answers"] = {"slurm": silent, "oar": QueueAnswer(time.time(), frozenset(), error="gone")}
    states, unreachable = refresh.refresh(RunState.load(run) for run in runs)
    assert [asked[name][0] for name in ("slurm", "sge", "oar")] == [
        {("1", None), ("3", None)},
        {("2", None)},
        {("4", None)},
    ]
    assert [state.run for state in states] == runs
    assert [state.is_current for state in states] == [False, True, True, False]
    since = datetime.fromtimestamp(1_800_000_000).astimezone().isoformat()
    assert [(scheduler.scheduler, scheduler.why, scheduler.since) for scheduler in unreachable] == [
        ("slurm", "down", since),
        ("oar", "gone", None),
    ]


def test_a_scheduler_that_has_not_answered_here_last_did_when_its_runs_say_so(
    log_dir: LogDir, asked: dict[str, Any]
) -> None:
    """Bug: `has not answered since` the first of its words."""
    times = [ago(300), ago(100), ago(200)]
    runs = [submitted(log_dir, number, state="PENDING", state_time=said) for number, said in enumerate(times, start=1)]
    runs.append(submitted(log_dir, 4))
    asked["answers"] = {"slurm": QueueAnswer(time.time(), frozenset(), error="down")}
    (unreachable,) = refresh.refresh_runs(runs)
    assert unreachable.since == times[1]


def test_the_last_word_of_hosts_in_several_zones_is_the_latest_moment(log_dir: LogDir, asked: dict[str, Any]) -> None:
    """Bug: times compared as text: 08:00 in Tokyo, an hour before 00:00 in UTC, taken for the later one."""
    times = ["2026-11-30T08:00:00+09:00", "2026-11-30T00:00:00+00:00"]
    runs = [submitted(log_dir, number, state="PENDING", state_time=said) for number, said in enumerate(times, start=1)]
    asked["answers"] = {"slurm": QueueAnswer(time.time(), frozenset(), error="down")}
    (unreachable,) = refresh.refresh_runs(runs)
    assert unreachable.since == times[1]


def answer_of(*jobs: NativeJob, asked: float | None = None) -> QueueAnswer:
    now = time.time()
    return QueueAnswer(now, frozenset({"7"}), jobs, answered=now, asked=now if asked is None else asked)


@pytest.mark.parametrize(
    ("index", "jobs", "reason"),
    [
        (2, [("7", 1, "one"), ("7", 2, "two")], "two"),
        (2, [("7", 1, "one"), ("7", None, "all")], "all"),  # of an array that waits as one
        (2, [("7", None, "all"), ("7", 2, "two")], "two"),
        (None, [("7", 1, "one")], "one"),  # which its scheduler takes for an array of one
        (None, [("7", 2, "two")], None),
        (2, [("7", 1, "one")], None),
        (2, [("8", 2, "other")], None),
        (2, [("7", 2, "history"), ("7", 2, "queue")], "queue"),
    ],
)
def test_a_run_takes_the_word_that_is_its_own(
    log_dir: LogDir,
    asked: dict[str, Any],
    index: int | None,
    jobs: list[tuple[str, int | None, str]],
    reason: str | None,
) -> None:
    """Bug: the state of the first task for all; or CANCELLED for one of an array that waits as a whole."""
    run = submitted(log_dir, 1, array_index=index, time=ago(5))
    asked["answers"] = {"slurm": answer_of(*(NativeJob(job_id, at, "PENDING", why) for job_id, at, why in jobs))}
    refresh.refresh_runs([run])
    assert note(run).get("reason") == reason


@pytest.mark.parametrize(
    ("change", "starts", "job", "expected"),
    [
        # missing, by how long ago it was submitted, and whether it had started
        ({"time": 50}, 0, None, (None, None)),
        ({"time": 70}, 0, None, ("CANCELLED", "no longer in the queue, and it had never started")),
        ({"time": 50, "cancel_time": 1}, 0, None, ("CANCELLED", "cancelled before it had started")),
        ({"time": 50}, 1, None, ("LOST", "no longer in the queue, and it left no word")),
        ({"time": 70, "cancel_time": 1}, 1, None, ("CANCELLED", "no longer in the queue, and it left no word")),
        ({"time": 70, "attempt": 2}, 1, None, ("CANCELLED", "no longer in the queue, and it had never started")),
        ({"time": 70, "job_id": "9"}, 0, None, (None, None)),  # was not asked for
        # there
        ({}, 1, ("FAILED", "NonZeroExitCode"), ("FAILED", "NonZeroExitCode")),
        ({"cancel_time": 1}, 1, ("FAILED", "NonZeroExitCode"), ("CANCELLED", "NonZeroExitCode")),
        ({"cancel_time": 1}, 1, ("TIMEOUT", "TimeLimit"), ("TIMEOUT", "TimeLimit")),
        ({}, 1, ("RUNNING", ""), ("RUNNING", "RUNNING")),
        ({}, 1, ("FROBNICATING", ""), (None, None)),
    ],
)
def test_what_an_answer_makes_of_a_run(
    log_dir: LogDir,
    asked: dict[str, Any],
    change: dict[str, Any],
    starts: int,
    job: tuple[str, str] | None,
    expected: tuple[str | None, str | None],
) -> None:
    """Bug: CANCELLED a minute too early, or LOST for one that never began; FAILED for what the user has cancelled."""
    dated = {key: ago(value) if key in {"time", "cancel_time"} else value for key, value in change.items()}
    info = {"status": "RUNNING"} if starts else {}
    run = submitted(log_dir, 1, starts=starts, info=info, **dated)
    asked["answers"] = {"slurm": answer_of(*([NativeJob("7", 1, *job)] if job else []))}
    refresh.refresh_runs([run])
    assert (note(run).get("state"), note(run).get("reason")) == expected


def test_an_answer_that_says_nothing_new_is_not_written(log_dir: LogDir, asked: dict[str, Any]) -> None:
    """Bug: a file for each run at each look, of which there are thousands."""
    run = submitted(log_dir, 1)
    asked["answers"] = {"slurm": answer_of(NativeJob("7", 1, "PENDING", "Priority"))}
    refresh.refresh_runs([run])
    before = run.submission.stat().st_ino
    for _ in range(2):
        refresh.refresh_runs([run])
        assert run.submission.stat().st_ino == before
    asked["answers"] = {"slurm": answer_of(NativeJob("7", 1, "PENDING", "Resources"))}
    refresh.refresh_runs([run])
    assert (run.submission.stat().st_ino == before, note(run)["reason"]) == (False, "Resources")
    assert abs(datetime.fromisoformat(note(run)["state_time"]).timestamp() - time.time()) < 60


def test_a_job_that_was_cancelled_and_ended_by_itself_has_failed(log_dir: LogDir, asked: dict[str, Any]) -> None:
    """Bug: CANCELLED for a program that had failed when `mlxp cancel` came."""
    run = submitted(log_dir, 1, starts=1, info={"status": "RUNNING"}, cancel_time=ago(1))
    run.exit_code.write_text("1 1\n")
    asked["answers"] = {"slurm": answer_of(NativeJob("7", 1, "FAILED", "NonZeroExitCode"))}
    refresh.refresh_runs([run])
    assert (note(run)["state"], load_status(run)) == ("FAILED", "FAILED")


def test_a_cluster_is_asked_from_any_of_its_hosts(log_dir: LogDir, asked: dict[str, Any]) -> None:
    """Bug: runs that were submitted on the other login node are `last known` on this one."""
    runs = [submitted(log_dir, 1, hostname="login2"), submitted(log_dir, 2, scheduler="local", hostname="login2")]
    states, _ = refresh.refresh(RunState.load(run) for run in runs)
    assert [state.is_current for state in states] == [True, False]
    assert list(asked) == ["answers", "slurm"]


def test_what_the_scheduler_holds_in_an_error_state_is_stuck(log_dir: LogDir, asked: dict[str, Any]) -> None:
    """Bug: a job that would start as soon as somebody clears its state runs beside the one of the rerun."""
    run = submitted(log_dir, 1, scheduler="sge", array_index=1)
    seen = []
    for state in ("qw", "Eqw"):
        asked["answers"] = {"sge": answer_of(NativeJob("7", 1, state))}
        refresh.refresh_runs([run])
        seen.append((note(run).get("stuck"), note(run)["state"]))
    assert seen == [(None, "PENDING"), (True, "FAILED")]
    again = submitted(log_dir, 2, scheduler="sge", array_index=1, stuck=True)
    asked["answers"] = {"sge": answer_of(NativeJob("7", 1, "qw"))}
    refresh.refresh_runs([again])
    assert (note(again)["stuck"], note(again)["state"]) == (False, "PENDING")


def test_a_task_that_was_started_again_keeps_both_ids(log_dir: LogDir, asked: dict[str, Any]) -> None:
    """Bug: the id of the array is lost, by which the task is asked for."""
    run = submitted(log_dir, 1)
    asked["answers"] = {"slurm": answer_of(NativeJob("7", 1, "PENDING", own_id="57"))}
    refresh.refresh_runs([run])
    assert (note(run)["job_id"], note(run)["own_id"]) == ("7", "57")
    other = submitted(log_dir, 2, array_index=2)
    for own_id in ("", "7"):
        asked["answers"] = {"slurm": answer_of(NativeJob("7", 2, "PENDING", own_id=own_id))}
        refresh.refresh_runs([other])
        assert "own_id" not in note(other)

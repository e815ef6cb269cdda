"""The command `mlxp` as a user runs it, with the real local queue."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from support import PATIENCE, Mlxp, Project, read_yaml, until

LOCAL = ("-m", "hydra/launcher=mlxp_local")
WAIT = (*LOCAL, "hydra.launcher.wait=true")


def test_status_says_where_runs_stand_to_people_and_to_programs(mlxp: Mlxp, project: Project) -> None:
    """Bug: a table that cuts values when piped, or box characters in a file; JSON without what the table shows."""
    project.run(*WAIT, "do=null,raise,exit3", code=1)
    rows = mlxp.rows()
    assert [row["status"] for row in rows.values()] == ["COMPLETE", "FAILED", "FAILED"]
    assert [row["job"] for row in rows.values()] == ["local 1_1", "local 1_2", "local 1_3"]
    assert [row["reason"] for row in rows.values()] == ["", "ValueError: no luck", "SystemExit: 3"]
    assert [row["overrides"] for row in rows.values()] == [["do=null"], ["do=raise"], ["do=exit3"]]
    assert [(row["attempt"], row["exit_code"], row["last_known"]) for row in rows.values()] == [
        (1, 0, False),
        (1, 1, False),
        (1, 3, False),
    ]
    assert all(0 < row["elapsed"] < 60 for row in rows.values())
    plain = mlxp("status")
    lines = [line.split("\t") for line in plain.stdout.splitlines()]
    assert [len(line) for line in lines] == [11] * 4
    assert lines[2][:4] == ["2", "FAILED", "local 1_2", "1"]
    assert lines[2][-2:] == ["ValueError: no luck", "do=raise"]
    assert plain.stderr == "3 runs: 1 COMPLETE, 2 FAILED\n"
    code, shown = mlxp.in_terminal("status")
    assert code == 0
    assert "3 runs: 1 COMPLETE, 2 FAILED" in shown
    assert re.search(r"2 .*FAILED.*local 1_2.*ValueError: no luck.*do=raise", shown)


def test_runs_are_chosen_by_id_range_name_and_query(mlxp: Mlxp, project: Project) -> None:
    """Bug: 3-9 taken for a name, a run twice, or a missing one that is passed over."""
    project.run(*LOCAL, "seed=range(1,7)")
    project.run(*LOCAL, "seed=7,8", "hydra.sweep.subdir='lr-${seed}'")
    project.wait_for_end(*range(1, 7), "lr-7", "lr-8")
    assert list(mlxp.rows()) == ["1", "2", "3", "4", "5", "6", "lr-7", "lr-8"]
    assert list(mlxp.rows("2-3", "5,1", "3")) == ["1", "2", "3", "5"]
    assert list(mlxp.rows("5-9")) == ["5", "6"]
    assert list(mlxp.rows("lr-8")) == ["lr-8"]
    assert list(mlxp.rows("-q", "config.seed > 4")) == ["5", "6", "lr-7", "lr-8"]
    assert list(mlxp.rows("1-5", "-q", "config.seed > 4")) == ["5"]
    assert list(mlxp.rows("2", MLXP_LOG_DIR="logs")) == ["2"]
    assert f"there is no run 9 in {project.logs}; there is 1-6, lr-7, lr-8" in mlxp("logs", "9", code=1).stderr
    assert "there is no run 'lr-9'" in mlxp("cancel", "lr-9", code=1).stderr
    assert "from the smaller id to the larger" in mlxp("status", "5-3", code=2).stderr
    assert "say which runs to rerun" in mlxp("rerun", code=2).stderr
    assert "did you mean 'config.seed'" in mlxp("cancel", "-q", "config.sed > 1", code=1).stderr
    assert "cannot read the log directory" in mlxp("status", "--log-dir", "elsewhere", code=1).stderr


def children(queue_pid: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{queue_pid}/task/{queue_pid}/children").read_text().split()]


def test_a_program_that_was_killed_has_failed_and_a_whole_job_is_lost(
    mlxp: Mlxp, project: Project, tmp_path: Path
) -> None:
    """Bug: RUNNING for ever after kill -9."""
    project.run(*LOCAL, "do=wait", "seed=1,2", f"flag='{tmp_path}/flag.${{seed}}'")
    until(lambda: (tmp_path / "flag.1").exists() and (tmp_path / "flag.2").exists())
    assert mlxp.statuses() == ["RUNNING", "RUNNING"]
    os.kill(project.info(1)["process_id"], signal.SIGKILL)
    project.wait_for_end(1)
    for pid in children(int((tmp_path / "spool" / "1" / "pid").read_text())):
        os.killpg(pid, signal.SIGKILL)
    until(lambda: mlxp.statuses() == ["FAILED", "FAILED"] or mlxp.statuses() == ["FAILED", "LOST"])
    assert mlxp.rows()["1"]["reason"] == "exit code 137"


def test_a_queue_that_was_killed_leaves_lost_runs(mlxp: Mlxp, project: Project, tmp_path: Path) -> None:
    """Bug: PENDING for ever in a queue that nobody runs."""
    project.run(*LOCAL, "do=wait", "seed=1,2", f"flag='{tmp_path}/flag'", "hydra.launcher.max_parallel=1")
    until((tmp_path / "flag").exists)
    queue = int((tmp_path / "spool" / "1" / "pid").read_text())
    tasks = children(queue)
    os.kill(queue, signal.SIGKILL)
    for pid in tasks:
        os.killpg(pid, signal.SIGKILL)
    until(lambda: mlxp.statuses() == ["LOST", "LOST"])


def test_one_waiting_task_of_an_array_is_cancelled_and_the_others_go_on(
    mlxp: Mlxp, project: Project, tmp_path: Path
) -> None:
    """Bug: the whole array cancelled; or a run that never started and stays PENDING."""
    flag = tmp_path / "flag"
    project.run(*LOCAL, "do=hold", "seed=1,2,3", f"flag='{flag}'", "hydra.launcher.max_parallel=1")
    until(lambda: mlxp.statuses() == ["RUNNING", "PENDING", "PENDING"])
    assert mlxp("cancel", "2").stdout == "cancelled: 2\n"
    until(lambda: mlxp.statuses() == ["RUNNING", "CANCELLED", "PENDING"])
    flag.touch()
    project.wait_for_end(1, 3)
    assert mlxp.statuses() == ["COMPLETE", "CANCELLED", "COMPLETE"]
    assert mlxp("cancel", "1-3").stdout == "had ended already: 1-3\n"


def test_cancel_asks_at_a_terminal(mlxp: Mlxp, project: Project, tmp_path: Path) -> None:
    """Bug: a slip of the finger ends a week of work; or -y that asks all the same."""
    project.run(*LOCAL, "do=wait", "seed=1,2", f"flag='{tmp_path}/flag.${{seed}}'")
    until(lambda: mlxp.statuses() == ["RUNNING", "RUNNING"])
    code, shown = mlxp.in_terminal("cancel", "-q", "info.status == 'RUNNING'", answer="n\n")
    assert code == 1
    assert "Cancel 2 runs (1-2)?" in shown
    assert mlxp.statuses() == ["RUNNING", "RUNNING"]
    code, shown = mlxp.in_terminal("cancel", "1-2", "-y")
    assert (code, shown) == (0, "cancelled: 1-2\r\n")
    project.wait_for_end(1, 2)
    assert mlxp.statuses() == ["CANCELLED", "CANCELLED"]


def test_logs_are_both_streams_or_one_or_their_last_lines(mlxp: Mlxp, project: Project) -> None:
    """Bug: stderr forgotten; labels in what is piped on; -n that counts wrongly."""
    project.run(*WAIT, "do=raise", code=1)
    shown = mlxp("logs", "1")
    assert shown.stderr == ""
    both = shown.stdout
    assert both.index("==> run 1: stdout <==") < both.index('"code": "A"') < both.index("==> run 1: stderr <==")
    assert both.index("==> run 1: stderr <==") < both.index("ValueError: no luck")
    assert mlxp("logs", "1", "--stdout").stdout == (project.logs / "1" / "log.stdout").read_text()
    errors = (project.logs / "1" / "log.stderr").read_text().splitlines(keepends=True)
    assert len(errors) > 2
    assert mlxp("logs", "1", "--stderr", "-n", "2").stdout == "".join(errors[-2:])
    assert mlxp("logs", "1", "--stderr", "-n", "0").stdout == ""
    assert mlxp("logs", "1", "--stderr", "-n", "9999").stdout == "".join(errors)
    assert "has no attempt 2: its latest is 1" in mlxp("logs", "1", "--attempt", "2", code=1).stderr


def test_logs_that_are_not_there_are_explained(mlxp: Mlxp, project: Project, tmp_path: Path) -> None:
    """Bug: nothing, and exit code 0, for output that the user's own header has sent elsewhere."""
    project.run(*WAIT, "hydra.launcher.header='#LOCAL --output=/dev/null'")
    assert "its header sends what it prints elsewhere (#LOCAL --output=/dev/null)" in mlxp("logs", "1").stderr
    project.run(*LOCAL, "hydra.launcher.header='#LOCAL --foo'", code=1)
    said = mlxp("logs", "2").stderr
    assert "run 2 has no log: it is FAILED (local refused the submission" in said
    project.run("hydra/callbacks=mlxp", "hydra.callbacks.mlxp.log_streams=false")
    assert "its output went to the terminal" in mlxp("logs", "3").stderr


CHATTY = """\
import os, sys, time, hydra
@hydra.main(version_base=None, config_path="conf", config_name="config")
def main(cfg):
    print("one", flush=True)
    while not os.path.exists(cfg.flag):
        time.sleep(0.05)
    print("two", file=sys.stderr, flush=True)
    print("three", flush=True)
    if not os.path.exists(cfg.flag + ".ok"):
        sys.exit(1)
main()
"""


def test_following_shows_the_next_lines_and_ends_with_the_run(mlxp: Mlxp, project: Project, tmp_path: Path) -> None:
    """Bug: a follow that has to be interrupted, or that misses the last line; a log that must be there at the start."""
    flag = tmp_path / "flag"
    project.write(**{"main.py": CHATTY})
    project.commit()
    project.run(*LOCAL, f"flag='{flag}'", "seed=1,2", "hydra.launcher.max_parallel=1")
    waiting = mlxp.start("logs", "2", "-f")  # which has printed nothing yet
    running = mlxp.start("logs", "1", "-f", "--stdout")
    assert running.stdout is not None
    assert running.stdout.readline() == "one\n"
    flag.touch()
    assert running.stdout.readline() == "three\n"
    assert running.communicate(timeout=PATIENCE)[0] == ""
    assert running.returncode == 0
    stdout, _ = waiting.communicate(timeout=PATIENCE)
    assert waiting.returncode == 0
    assert sorted(re.findall("^(one|two|three)$", stdout, re.MULTILINE)) == ["one", "three", "two"]


def test_following_is_left_quietly(mlxp: Mlxp, project: Project, tmp_path: Path) -> None:
    """Bug: a stack trace at Ctrl-C, or a job that dies with it."""
    project.run(*LOCAL, "do=wait", f"flag='{tmp_path}/flag'")
    until((tmp_path / "flag").exists)
    process = mlxp.start("logs", "1", "-f")
    assert process.stdout is not None
    assert process.stdout.readline() == "==> run 1: stdout <==\n"
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=PATIENCE)
    assert (process.returncode, stderr) == (130, "")
    assert mlxp.statuses() == ["RUNNING"]


def test_rerun_submits_exactly_what_failed_as_the_next_attempt(mlxp: Mlxp, project: Project, tmp_path: Path) -> None:
    """Bug: a new folder, other code or another configuration; complete runs again; the first attempt's logs lost."""
    flag = tmp_path / "flag"
    project.write(**{"main.py": CHATTY})
    first = project.commit()
    flag.touch()
    project.run(*WAIT, f"flag='{flag}'", "seed=1", code=1)
    (tmp_path / "flag.ok").touch()
    project.run(*WAIT, f"flag='{flag}'", "seed=2")
    project.write(**{"main.py": "raise SystemExit('edited')\n"})
    project.commit()
    dry = mlxp("rerun", "1-2", "--dry-run").stdout
    assert dry == "would be submitted: 1\nleft alone: 2: COMPLETE\n"
    assert mlxp.statuses() == ["FAILED", "COMPLETE"]
    done = mlxp("rerun", "-q", "info.status in ['FAILED', 'TIMEOUT']", "--wait")
    assert "submitted: 1\n" in done.stdout
    assert "run 1: COMPLETE" in done.stdout
    assert project.runs() == ["1", "2"]
    rows = mlxp.rows()
    assert [(row["status"], row["attempt"]) for row in rows.values()] == [("COMPLETE", 2), ("COMPLETE", 1)]
    assert project.info(1)["version_manager"]["commit_hash"] == first
    assert mlxp("logs", "1", "--stdout").stdout == "one\nthree\n"
    assert mlxp("logs", "1", "--attempt", "1", "--stderr").stdout == "two\n"
    attempt = project.logs / "1" / "metadata" / "attempts" / "1"
    assert (attempt / "metadata" / "exit_code").read_text().split()[0] == "1"
    assert read_yaml(attempt / "metadata" / "info.yaml")["status"] == "FAILED"
    assert mlxp("rerun", "2", "--complete", "--wait").returncode == 0
    assert project.info(2)["attempt"] == 2


def test_a_run_that_waits_again_is_pending_and_left_alone(mlxp: Mlxp, project: Project, tmp_path: Path) -> None:
    """Bug: FAILED, as in its first attempt, for a run that is in the queue; or there twice."""
    flag = tmp_path / "flag"
    project.run(*WAIT, "do=raise", "seed=1,2", "hydra.launcher.max_parallel=1", code=1)
    for run in ("1", "2"):
        script = project.logs / run / "script.sh"
        script.write_text(script.read_text().replace("do=raise", f"do=hold 'flag={flag}'"))
        path = project.logs / run / "metadata"
        for name in ("config.yaml", "config_unresolved.yaml"):
            text = (path / name).read_text()
            text = text.replace("do: raise", "do: hold").replace("flag: null", f"flag: {json.dumps(str(flag))}")
            (path / name).write_text(text)
    mlxp("rerun", "1-2")
    assert [project.submission(run)["attempt"] for run in (1, 2)] == [2, 2]
    until(lambda: mlxp.statuses()[1] == "PENDING")
    assert "left alone: 2: PENDING" in mlxp("rerun", "1-2").stdout
    assert project.submission(2)["job_id"] == "2"
    assert mlxp("cancel", "2").stdout == "cancelled: 2\n"
    until(lambda: mlxp.statuses()[1] == "CANCELLED")
    flag.touch()


def test_two_reruns_at_once_submit_a_run_once(mlxp: Mlxp, project: Project, tmp_path: Path) -> None:
    """Bug: the same run twice at once, in one folder."""
    flag = tmp_path / "flag"
    project.run(*LOCAL, "do=hold", f"flag='{flag}'", "seed=1,2,3", "hydra.launcher.max_parallel=3")
    until(lambda: mlxp.statuses() == ["RUNNING"] * 3)
    mlxp("cancel", "1-3")
    until(lambda: mlxp.statuses() == ["CANCELLED"] * 3)
    both = [mlxp.start("rerun", "1-3") for _ in range(2)]
    outputs = [process.communicate(timeout=PATIENCE)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted("submitted: 1-3\n" in text for text in outputs) == [False, True], outputs
    flag.touch()
    until(lambda: mlxp.statuses() == ["COMPLETE"] * 3)
    assert [project.submission(run)["job_id"] for run in (1, 2, 3)] == ["2"] * 3
    assert [project.info(run)["attempt"] for run in (1, 2, 3)] == [2, 2, 2]
    assert len(os.listdir(project.environment["MLXP_LOCAL_SPOOL"])) == 2


def test_what_cannot_be_submitted_again_is_said(mlxp: Mlxp, project: Project) -> None:
    """Bug: a stack trace, or silence, for a run that no launcher made."""
    project.run("hydra/callbacks=mlxp", "do=raise", code=1)
    done = mlxp("rerun", "1", code=1)
    assert "was not made by a launcher of hydra-mlxp" in done.stderr
    project.run(*WAIT, "do=raise", code=1)
    (project.logs / "2" / "script.sh").unlink()
    assert "script.sh is not there" in mlxp("rerun", "2", code=1).stderr
    project.logs.rename(project.dir / "moved")
    project.run(*WAIT, "do=raise", code=1)
    (project.logs / "1").rename(project.dir / "moved" / "3")
    said = f"it was moved here from {project.logs}/1 under another name"
    assert said in mlxp("rerun", "3", "--log-dir", "moved", code=1).stderr


def test_what_a_refused_launch_left_is_submitted_by_rerun(mlxp: Mlxp, project: Project, tmp_path: Path) -> None:
    """Bug: runs that were refused can only be launched anew; or the note of their launch stays for ever."""
    project.run(*LOCAL, "seed=1,2", "hydra.launcher.header='#LOCAL --foo=1'", code=1)
    assert mlxp.statuses() == ["FAILED", "FAILED"]
    assert "unrecognized arguments" in mlxp("rerun", "1-2", code=1).stderr
    for run in ("1", "2"):
        settings = project.logs / run / "metadata" / "mlxp.yaml"
        settings.write_text(settings.read_text().replace("'#LOCAL --foo=1'", "'#LOCAL --job-name=x'"))
    assert len(os.listdir(project.logs / ".mlxp" / "launches")) == 1
    mlxp("rerun", "1-2", "--wait")
    assert [(row["status"], row["attempt"]) for row in mlxp.rows().values()] == [("COMPLETE", 1)] * 2
    assert os.listdir(project.logs / ".mlxp" / "launches") == []


def test_a_corrupt_file_spoils_one_row(mlxp: Mlxp, project: Project) -> None:
    """Bug: one torn YAML hides a thousand runs."""
    project.run(*WAIT, "seed=1,2")
    (project.logs / "1" / "metadata" / "info.yaml").write_text("a: [\n")
    rows = mlxp.rows()
    assert "info.yaml cannot be read" in rows["1"]["reason"]
    assert rows["2"]["status"] == "COMPLETE"
    assert "info.yaml cannot be read" in mlxp("rerun", "1", code=1).stderr


def test_watching_ends_when_all_runs_have(mlxp: Mlxp, project: Project, tmp_path: Path) -> None:
    """Bug: a watch that has to be interrupted."""
    flag = tmp_path / "flag"
    project.run(*LOCAL, "do=hold", f"flag='{flag}'")
    until(lambda: mlxp.statuses() == ["RUNNING"])
    process = mlxp.start("status", "--watch", "--every", "0.5", "--json")
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["status"] == "RUNNING"
    flag.touch()
    stdout, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert json.loads(stdout.splitlines()[-1])["status"] == "COMPLETE"


def test_logs_loads_no_polars(mlxp: Mlxp, project: Project) -> None:
    """Bug: half a second before the first line."""
    project.run(*WAIT, "seed=1")
    program = "import sys; from mlxp_core.cli import app; app(['logs', '1'], standalone_mode=False); "
    program += "print(*sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=project.dir,
        env=mlxp.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert {"polars", "rich.table", "git", "hydra"} & set(done.stderr.split()) == set()


def test_what_a_killed_launch_left_is_submitted_by_rerun_and_not_while_it_lives(mlxp: Mlxp, project: Project) -> None:
    """Bug: runs submitted twice, by the launch and by rerun; or never, as a launch was killed before it got to them."""
    process = project.start(*LOCAL, "seed=range(0,15)", "hydra.launcher.array=false", new_session=True)
    until(lambda: project.status(15) and project.job_id(1))
    process.send_signal(signal.SIGSTOP)
    alive = mlxp("rerun", "1-15", "--dry-run").stdout
    assert "would be submitted: none" in alive
    assert f"a launch is at it (process {process.pid} on " in alive
    process.kill()
    process.communicate(timeout=PATIENCE)
    submitted = [run for run in range(1, 16) if (project.logs / str(run) / "metadata" / "submission.yaml").exists()]
    assert len(submitted) < 15
    assert mlxp.rows()["15"]["reason"] == "not submitted"
    mlxp("rerun", "1-15")
    assert os.listdir(project.logs / ".mlxp" / "launches") == []
    until(lambda: mlxp.statuses() == ["COMPLETE"] * 15)
    assert {row["attempt"] for row in mlxp.rows().values()} == {1}
    starts = [(project.logs / str(run) / "metadata" / "starts").read_text().count("\n") for run in range(1, 16)]
    assert starts == [1] * 15


def test_a_home_that_cannot_be_written_is_enough(unwritable_home: Path, mlxp: Mlxp, project: Project) -> None:
    """Bug: a launch, a job or `mlxp status` that ends in a PermissionError over a cache."""
    del mlxp.environment["XDG_CACHE_HOME"]
    project.run(*WAIT, "seed=1,2")
    assert mlxp.statuses() == ["COMPLETE", "COMPLETE"]
    assert list(mlxp.rows("-q", "config.seed > 1")) == ["2"]
    assert os.listdir(unwritable_home) == []

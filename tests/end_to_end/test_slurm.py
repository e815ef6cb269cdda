"""The whole path on a real Slurm, which `tests/run.sh --clusters` starts: submitted, left, ended, read."""

from __future__ import annotations

import json
import pwd
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from backends import BACKENDS, USER, open_project
from support import COOPERATING, PATIENCE, Project, git, logged, read_yaml, until

pytestmark = pytest.mark.slurm

SLURM = ("-m", "hydra/launcher=mlxp_slurm")
WAIT = (*SLURM, "hydra.launcher.wait=true")

TEMPLATE = """\
#!/bin/bash
#SBATCH --time=5
#SBATCH\t--mem=50
##SBATCH --partition=nosuch
#PBS -l walltime=1:00:00
set -eu
export FROM_TEMPLATE="a b"
srun --ntasks=1 python -u main.py to be replaced
"""


@pytest.fixture(scope="module", autouse=True)
def cluster() -> None:
    """Fail, and not skip, where the tests were asked for and there is no Slurm."""
    done = subprocess.run(["sinfo", "--noheader"], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, f"no Slurm answers; start one with tests/run.sh --clusters\n{done.stderr}"


def squeue(*arguments: str) -> list[str]:
    command = ["squeue", "--noheader", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def queue_is_empty(job_id: str) -> bool:
    """Whether nothing of a job is pending or running."""
    return not squeue(f"--jobs={job_id}", "--states=PENDING,CONFIGURING,RUNNING,COMPLETING", "--format=%i")


def accounted(job_id: str, field: str) -> list[str]:
    """What slurmdbd keeps of each task of a job."""
    command = ["sacct", "--allocations", "--noheader", "--parsable2", f"--jobs={job_id}", f"--format={field}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def table(logs: Path) -> pl.DataFrame:
    """Mean and standard deviation over seeds, as a user asks for them."""
    from mlxp_core.reader import AvgStd, Reader

    runs = Reader(logs).filter("info.status == 'COMPLETE' & config.optimizer.lr <= 1.")
    return runs.group_by(["config.optimizer.lr"]).aggregate([AvgStd("train.loss")]).collect()


def test_six_jobs_are_submitted_as_one_array_left_and_read_back(project: Project) -> None:
    """Bug: anything on the main path. The loss of the project is lr * step + seed, so the table is known by hand."""
    project.write(**{"job.sh": TEMPLATE})
    project.commit()
    done = project.run(*SLURM, "hydra.launcher.template=job.sh", "optimizer.lr=0.5,1", "seed=0,1,2")
    assert "6 jobs submitted" in done.stdout
    job_id = project.submission(1)["job_id"]
    assert [project.submission(name)["job_id"] for name in project.runs()] == [job_id] * 6
    assert [project.submission(name)["array_index"] for name in project.runs()] == [1, 2, 3, 4, 5, 6]
    until(lambda: queue_is_empty(job_id))
    assert [project.info(name)["status"] for name in project.runs()] == ["COMPLETE"] * 6
    expected = pl.DataFrame(
        {
            "config.optimizer.lr": [0.5, 1.0],
            "train.loss_avg": [[1.0, 1.5, 2.0], [1.0, 2.0, 3.0]],  # seeds 0, 1, 2 at steps 0, 1, 2
            "train.loss_std": [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]],
            "train.loss_n": [[3, 3, 3], [3, 3, 3]],
        },
        schema_overrides={"train.loss_n": pl.List(pl.UInt32)},
    )
    assert table(project.logs).equals(expected), table(project.logs)
    until(lambda: accounted(job_id, "State") == ["COMPLETED"] * 6, 30)
    script = (project.logs / "1" / "script.sh").read_text()
    assert "\n#SBATCH\t--mem=50\n" in script
    assert f"srun --ntasks=1 {shlex.quote(project.command[0])} " in script


def test_jobs_that_wait_run_the_code_that_they_were_submitted_with(project: Project, tmp_path: Path) -> None:
    """Bug: what this project is for. The files are edited and committed while jobs of the array still wait."""
    flag = tmp_path / "flag"
    first = project.commit_hash()
    project.run(*SLURM, "do=hold", f"flag='{flag}'", "seed=0,1,2,3", "hydra.launcher.max_parallel=1")
    job_id = project.submission(1)["job_id"]
    until(lambda: project.info(1)["status"] == "RUNNING")
    project.write(**{"main.py": (project.dir / "main.py").read_text().replace('"code": "A"', '"code": "B"')})
    project.write(**{"conf/optimizer/sgd.yaml": "lr: 1000\n"})
    project.commit("edited while three jobs wait")
    assert squeue(f"--jobs={job_id}", "--array", "--states=PENDING", "--format=%r") == ["JobArrayTaskLimit"] * 3
    flag.touch()
    until(lambda: queue_is_empty(job_id))
    assert [project.said(name)["code"] for name in project.runs()] == ["A"] * 4
    assert {project.info(name)["version_manager"]["commit_hash"] for name in project.runs()} == {first}
    assert table(project.logs)["train.loss_avg"].to_list()[0] == pytest.approx([1.5, 1.6, 1.7])
    project.run(*WAIT, "seed=9", "optimizer.lr=0.1")
    assert project.said(5)["code"] == "B"


VALUES = ["a b", "it's", 'say "hi"', "$HOME `id` $(id)", "back\\slash", "two\nlines", "ünï ☃", "a,b"]


@pytest.mark.parametrize("committed", [True, False], ids=["with commits", "without"])
def test_the_scenario_of_the_papers_figures_6_and_7(project: Project, tmp_path: Path, *, committed: bool) -> None:
    """Bug: job 3, held back while the code changes, runs the new code; or job 4 the old.

    Three jobs at time 1, of which the third waits; the code changes, and is committed or not; a fourth job at time 2.
    """

    def change(code: str) -> None:
        text = (project.dir / "main.py").read_text()
        old = text.split('"code": "')[1].split('"')[0]
        project.write(**{"main.py": text.replace(f'"code": "{old}"', f'"code": "{code}"')})
        project.write(**{"lib.py": f"CODE = '{code}'\n"})
        if committed:
            project.commit(code)

    first, second = tmp_path / "first", tmp_path / "second"
    main = (project.dir / "main.py").read_text().replace("import hydra\n", "import hydra\nimport lib\n", 1)
    # byte code that is committed is changed by each launch
    project.write(**{"main.py": main.replace('"msg"', '"lib": lib.CODE, "msg"'), ".gitignore": "logs/\n__pycache__/\n"})
    change("version A")
    project.run(*SLURM, "seed=1,2,3", "do=hold", f"flag='{first}'", "hydra.launcher.max_parallel=2")
    until(lambda: [project.status(name) for name in (1, 2, 3)] == ["RUNNING", "RUNNING", "PENDING"])
    held = (f"--jobs={project.job_id(3)}", "--states=PENDING", "--format=%r")
    until(lambda: squeue(*held) == ["JobArrayTaskLimit"])
    change("version B")
    project.run(*SLURM, "seed=4", "do=hold", f"flag='{second}'")
    change("version C")
    second.touch()
    project.wait_for_end(4)
    first.touch()
    project.wait_for_end(1, 2, 3)
    assert [project.said(name)["code"] for name in (1, 2, 3, 4)] == ["version A"] * 3 + ["version B"]
    assert [project.said(name)["lib"] for name in (1, 2, 3, 4)] == ["version A"] * 3 + ["version B"]
    versions = [project.info(name)["version_manager"] for name in (1, 2, 3, 4)]
    for version, code in zip(versions, ["version A"] * 3 + ["version B"], strict=True):
        assert git("show", f"{version['commit_hash']}:lib.py", cwd=project.dir) == f"CODE = '{code}'"
        assert version["dirty"] is not committed


def test_values_reach_a_job_of_slurm_unharmed(project: Project) -> None:
    """Bug: a value that sbatch, the array's script or the node's shell takes apart."""
    quoted = ["'" + value.replace("'", "\\'") + "'" for value in VALUES]
    project.run(*WAIT, f"msg={','.join(quoted)}")
    assert [project.said(name)["msg"] for name in project.runs()] == VALUES


def test_a_refused_submission_says_what_slurm_said_and_leaves_nothing_in_the_queue(project: Project) -> None:
    """Bug: PENDING for ever, or exit code 0."""
    done = project.run(*SLURM, "seed=1,2", "hydra.launcher.header='#SBATCH --foo=1'", code=1)
    assert "unrecognized option '--foo=1'" in done.stderr
    assert "#SBATCH --foo=1" in done.stderr
    assert "Traceback" not in done.stderr
    assert [project.submission(name)["state"] for name in project.runs()] == ["FAILED", "FAILED"]
    assert [line for line in squeue("--states=all", "--format=%o") if line.startswith(str(project.dir))] == []
    done = project.run(*SLURM, "seed=1", "hydra.launcher.header='#SBATCH --partition=nosuch'", code=1)
    assert "invalid partition specified: nosuch" in done.stderr


def test_a_job_cancelled_while_it_waits_ends_the_wait(project: Project) -> None:
    """Bug: waiting for ever for a job that never wrote anything."""
    process = project.start(*WAIT, "seed=1,2", "hydra.launcher.header='#SBATCH --hold'")
    until(lambda: project.job_id(2))
    subprocess.run(["scancel", project.submission(1)["job_id"]], check=True)
    _, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "is CANCELLED" in stderr
    assert [project.submission(name)["state"] for name in project.runs()] == ["CANCELLED"] * 2


def test_a_running_job_that_is_cancelled_says_so_itself(project: Project, tmp_path: Path) -> None:
    """Bug of MLXP 1.0.5: scancel leaves RUNNING for ever."""
    flag = tmp_path / "flag"
    project.run(*SLURM, "do=wait", f"flag='{flag}'")
    until(flag.exists)
    subprocess.run(["scancel", project.submission(1)["job_id"]], check=True)
    project.wait_for_end(1)
    assert (project.info(1)["status"], project.info(1)["error"]["type"]) == ("CANCELLED", "SIGTERM")
    assert (project.logs / "1" / "metadata" / "exit_code").read_text() == "143 1\n"


def test_a_failing_program_fails_its_job_even_with_a_last_line_that_succeeds(project: Project) -> None:
    """Bug: Slurm says COMPLETED of a job whose program failed, as the last line of the template was an echo."""
    project.write(**{"job.sh": "#!/bin/bash\n#SBATCH --time=5\npython main.py\necho bye\n"})
    project.commit()
    project.run(*WAIT, "hydra.launcher.template=job.sh", "do=raise,exit3", code=1)
    job_id = project.submission(1)["job_id"]
    until(lambda: sorted(accounted(job_id, "State,ExitCode")) == ["FAILED|1:0", "FAILED|3:0"], 30)
    assert (project.logs / "1" / "log.stdout").read_text().endswith("bye\n")


def test_the_users_own_output_line_is_where_the_output_goes(project: Project, tmp_path: Path) -> None:
    """Bug: --output of the template overridden, or an empty file there."""
    header = f"#SBATCH --output={tmp_path}/own-%a.txt"
    project.run(*WAIT, "seed=1,2", f"hydra.launcher.header='{header}'")
    for index in (1, 2):
        assert json.loads((tmp_path / f"own-{index}.txt").read_text())["code"] == "A"
    assert not (project.logs / "1" / "log.stdout").exists()


def test_a_requeued_job_is_the_next_attempt_of_its_run(project: Project, tmp_path: Path) -> None:
    """Bug: seen with MLXP 1.0.5: a requeue appends every step a second time."""
    flag = tmp_path / "flag"
    project.run(*SLURM, "do=hold", f"flag='{flag}'", "hydra.launcher.header='#SBATCH --requeue'")
    job_id = project.submission(1)["job_id"]
    until(lambda: project.info(1)["status"] == "RUNNING" and (project.logs / "1" / "metrics" / "train.json").exists())
    subprocess.run(["scontrol", "requeue", job_id], check=True)
    until(lambda: project.info(1)["attempt"] == 2, 60)
    flag.touch()
    until(lambda: queue_is_empty(job_id))
    assert project.info(1)["status"] == "COMPLETE"
    lines = (project.logs / "1" / "metrics" / "train.json").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [0, 1, 2]


def cooperate(project: Project, flag: Path, *arguments: str) -> str:
    """Submit a job that looks at stop_requested; wait until it runs; give its id."""
    project.write(**{"main.py": COOPERATING})
    project.commit()
    project.run(*SLURM, f"flag='{flag}'", *arguments)
    until(lambda: len(logged(project.logs / "1")) > 3)
    return project.submission(1)["job_id"]


def test_a_requeued_job_goes_on_from_its_checkpoint_with_each_step_once(project: Project, tmp_path: Path) -> None:
    """Bug: the steps between checkpoint and requeue come twice, or the first attempt's metrics are gone."""
    job_id = cooperate(project, tmp_path / "flag", "do=each", "hydra.launcher.header='#SBATCH --requeue'")
    subprocess.run(["scontrol", "requeue", job_id], check=True)
    until(lambda: project.info(1)["attempt"] == 2 and project.info(1)["status"] == "RUNNING", 90)
    first = logged(project.logs / "1" / "metadata" / "attempts" / "1")
    until(lambda: len(logged(project.logs / "1")) > len(first) + 2)
    (tmp_path / "flag").touch()
    until(lambda: queue_is_empty(job_id))
    assert project.info(1)["status"] == "COMPLETE"
    steps = logged(project.logs / "1")
    assert steps == list(range(len(steps)))
    assert first == list(range(len(first)))
    starts = (project.logs / "1" / "metadata" / "starts").read_text().splitlines()
    assert [line.split()[-1] for line in starts] == [job_id] * 2
    assert (project.logs / "1" / "metadata" / "exit_code").read_text() == "0 2\n"


def test_a_job_that_is_warned_of_its_time_limit_checkpoints_and_is_requeued(project: Project, tmp_path: Path) -> None:
    """Bug: TIMEOUT; or requeued from the start; or the signal is held back until the program has ended."""
    # Slurm looks at the time limits every 30 s and warns by that much early: 40 to 70 s after the start
    header = "'#SBATCH --time=2 --signal=B:USR1@50 --requeue'"
    job_id = cooperate(project, tmp_path / "flag", "do=twice", f"hydra.launcher.header={header}")
    until(lambda: project.info(1)["attempt"] == 2, 150)
    until(lambda: queue_is_empty(job_id))
    info = project.info(1)
    assert (info["status"], info.get("stop_signal")) == ("COMPLETE", None)
    earlier = read_yaml(project.logs / "1" / "metadata" / "attempts" / "1" / "metadata" / "info.yaml")
    assert (earlier["status"], earlier["stop_signal"]) == ("PREEMPTED", "SIGUSR1")
    steps = logged(project.logs / "1")
    assert steps == list(range(len(steps)))
    printed = project.logs / "1" / "metadata" / "attempts" / "1" / "log.stdout"
    assert "SIGUSR1 asks it to stop" in printed.read_text()


def test_a_cancelled_job_may_checkpoint_and_is_not_requeued(project: Project, tmp_path: Path) -> None:
    """Bug: a job that cannot be cancelled, as its script has it started again."""
    from mlxp_core.runs.layout import RunDir
    from mlxp_core.runs.status import Status, derive_status, read_exit_code

    job_id = cooperate(project, tmp_path / "flag", "do=each", "hydra.launcher.header='#SBATCH --requeue'")
    subprocess.run(["scancel", job_id], check=True)
    project.wait_for_end(1)
    until(lambda: queue_is_empty(job_id))
    info = project.info(1)
    assert (info["status"], info["stop_signal"], info["attempt"]) == ("PREEMPTED", "SIGTERM", 1)
    assert (project.logs / "1" / "metadata" / "exit_code").read_text() == "0 1\n"
    assert squeue(f"--jobs={job_id}", "--states=all", "--format=%T") == ["CANCELLED"]
    code = read_exit_code(RunDir(project.logs / "1"))
    said = derive_status(info, exit_code=code, scheduler_state="CANCELLED", process_alive=lambda _: False)
    assert said is Status.CANCELLED


def test_a_copy_that_still_runs_when_the_next_attempt_starts_stays_out_of_it(project: Project, tmp_path: Path) -> None:
    """Bug: a node believed dead: its job goes on writing into the files of the one that took over."""
    flag = tmp_path / "flag"
    job_id = cooperate(project, flag, "do=each")
    second = subprocess.Popen(["bash", str(project.logs / "1" / "script.sh")], stderr=subprocess.DEVNULL)
    until(lambda: project.info(1)["attempt"] == 2)
    until(lambda: queue_is_empty(job_id))  # the older one ends at its next checkpoint
    assert "attempt 2 has taken over" in (project.logs / "1" / "log.stderr").read_text()
    there = len(logged(project.logs / "1"))
    until(lambda: len(logged(project.logs / "1")) > there + 2)
    flag.touch()
    assert second.wait(60) == 0
    assert (project.info(1)["status"], project.info(1)["attempt"]) == ("COMPLETE", 2)
    steps = logged(project.logs / "1")
    assert steps == list(range(len(steps)))


def test_another_user_submits_from_a_repository_of_their_own(tmp_path: Path, environment: dict[str, str]) -> None:
    """Bug: paths, permissions or a spool that only root has."""
    slurm = next(backend for backend in BACKENDS if backend.name == "slurm")
    with open_project(replace(slurm, as_user=True), tmp_path, environment) as project:
        project.run(*WAIT, "seed=1,2")
        for run in (1, 2):
            assert (project.info(run)["status"], project.info(run)["user"]) == ("COMPLETE", USER)
            path = project.logs / str(run) / "metadata" / "info.yaml"
            assert path.stat().st_uid == pwd.getpwnam(USER).pw_uid

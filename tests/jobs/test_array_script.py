"""The script that is submitted: one run a task, several side by side, attempts."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from scripts import job, shellcheck

from mlxp_core.jobs import array_script, run_script
from mlxp_core.jobs.template import Template
from mlxp_core.runs.layout import RunDir
from mlxp_core.runs.submission_record import SubmissionRecord
from mlxp_core.scheduler import SCHEDULERS, load_scheduler

LOCAL = load_scheduler("local")


def several(tmp_path: Path, *numbers: int) -> list[RunDir]:
    """Runs that say their number on stdout and stderr."""
    runs = []
    for number in numbers:
        one = job(tmp_path / "l o'g" / str(number), "sh", "-c", f"echo out {number}; echo err {number} >&2")
        one.run.script.write_text(run_script.render_job(one, Template(), LOCAL))
        runs.append(one.run)
    return runs


def submission(
    folder: Path, tasks: list[list[RunDir]], header: tuple[str, ...] = (), throttle: int | None = None
) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "manifest").write_text(array_script.render_manifest(tasks))
    made = array_script.ArraySpec(tasks, "n", "#!/bin/bash", (), folder, throttle=throttle)
    return array_script.render_submission(made, LOCAL)


def run_task(text: str, index: int | None = None) -> int:
    environment = {**os.environ, **({} if index is None else {"MLXP_LOCAL_TASK_ID": str(index)})}
    return subprocess.run(["bash", "-c", text], env=environment, check=False).returncode


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("pack", [1, 2])
def test_shellcheck_has_nothing_against_a_submission(tmp_path: Path, name: str, pack: int) -> None:
    """Bug: an unquoted path, or a word that only bash knows."""
    runs = [RunDir(tmp_path / "a 'b' $c" / str(number)) for number in range(1, 5)]
    tasks = [runs[start : start + pack] for start in range(0, 4, pack)]
    if load_scheduler(name).array is None:
        tasks = tasks[:1]
    for shell in ("/bin/bash -l", "/bin/dash"):
        spec = array_script.ArraySpec(tasks, "n", f"#!{shell}", (), tmp_path / "it's $x", throttle=None)
        assert shellcheck(array_script.render_submission(spec, load_scheduler(name))) == ""


def test_an_array_task_becomes_its_own_run(tmp_path: Path) -> None:
    """Bug: indices off by one; logs of one task in another's folder; a set -e of the header lost."""
    runs = several(tmp_path, 3, 4, 12)
    text = submission(tmp_path / "it's", [[run] for run in runs], throttle=2)
    assert "#LOCAL --array=1-3%2\n" in text
    for index, run in enumerate(runs, start=1):
        assert run_task(text, index) == 0
        number = run.path.name
        assert (run.stdout.read_text(), run.stderr.read_text()) == (f"out {number}\n", f"err {number}\n")


def test_packed_runs_go_side_by_side_each_into_its_folder(tmp_path: Path) -> None:
    """Bug: the last job, which is not full, runs a run of another; a run waits for its neighbour to end."""
    runs = several(tmp_path, 1, 2, 3)
    for run, other in ((1, 2), (2, 1)):  # each goes on when the other has begun
        wait = f"touch {tmp_path}/{run}; while [ ! -e {tmp_path}/{other} ]; do sleep 0.02; done; exit {run + 2}"
        one = run_script.RunScriptSpec(runs[run - 1], "n", ("sh", "-c", wait), "/", {})
        one.run.script.write_text(run_script.render_job(one, Template(), LOCAL))
    text = submission(tmp_path / "s", [runs[:2], runs[2:]])
    assert "--array=1-2\n" in text
    assert run_task(text, 1) in {3, 4}
    assert not runs[2].stdout.exists()
    assert run_task(text, 2) == 0
    assert runs[2].stdout.read_text() == "out 3\n"
    codes = [int(run.exit_code.read_text().split()[0]) for run in runs]
    assert codes == [3, 4, 0]


def test_of_packed_runs_the_complete_ones_do_not_run_again(tmp_path: Path) -> None:
    """Bug: a run that was asked to stop, and left with 0, counts as complete and is never resumed; or all run again."""
    runs = several(tmp_path, 1, 2, 3)
    for run, status, code in zip(runs, ("COMPLETE", "PREEMPTED", "FAILED"), (0, 0, 1), strict=True):
        run.info.write_text(f"status: {status}\n")
        run.exit_code.write_text(f"{code} 1\n")
    assert run_task(submission(tmp_path / "s", [runs])) == 0
    assert [run.stdout.exists() for run in runs] == [False, True, True]


def test_a_packed_run_that_fails_does_not_end_its_neighbour(tmp_path: Path) -> None:
    """Bug: under `#!/bin/bash -e` the job ends with the first run that fails, and takes the others with it."""
    runs = several(tmp_path, 1, 2)
    for run, command in zip(runs, ("exit 3", "sleep 0.5; echo late"), strict=True):
        one = run_script.RunScriptSpec(run, "n", ("sh", "-c", command), "/", {})
        run.script.write_text(run_script.render_job(one, Template(), LOCAL))
    text = submission(tmp_path / "s", [runs])
    assert subprocess.run(["bash", "-e", "-c", text], check=False).returncode == 3
    assert runs[1].stdout.read_text() == "late\n"


def test_an_earlier_attempt_keeps_what_it_printed(tmp_path: Path) -> None:
    """Bug: the output of a requeued job is behind, or over, that of its first attempt."""
    (run,) = several(tmp_path, 1)
    text = submission(tmp_path / "s", [[run]])
    assert run_task(text) == 0
    run.starts.write_text("first\n")  # as script.sh notes it
    assert run_task(text) == 0
    assert run.stdout.read_text() == "out 1\n"
    assert run.attempt_dir(1).stdout.read_text() == "out 1\n"


def head(text: str) -> list[str]:
    """The lines above the shell programs of ours."""
    return text.split("\n\nmlxp_start()", maxsplit=1)[0].split("\n")


def rendered(
    scheduler: str, tasks: list[list[int]], header: tuple[str, ...] = (), throttle: int | None = None
) -> list[str]:
    runs = [[RunDir(Path("/l o'g") / str(number)) for number in task] for task in tasks]
    spec = array_script.ArraySpec(runs, "n-1", "#!/bin/bash -l", header, Path("/l/s/4"), throttle)
    return head(array_script.render_submission(spec, load_scheduler(scheduler)))


MANIFEST = "mlxp_manifest=/l/s/4/manifest"
BECOME = '  exec /bin/bash -l "$1/script.sh"'


def test_an_array_of_slurm_is_this() -> None:
    """Bug: a directive behind the user's own, where the last one wins; output that names no task; an index from 0."""
    assert rendered("slurm", [[3], [4], [12]], ("#SBATCH --mem=1G",), throttle=2) == [
        "#!/bin/bash -l",
        "#SBATCH --job-name=n-1",
        '#SBATCH --output="/l/s/4/%a.out"',
        '#SBATCH --error="/l/s/4/%a.out"',
        "#SBATCH --open-mode=append",
        "#SBATCH --array=1-3%2",
        "#SBATCH --mem=1G",
        "",
        "# runs 3 to 12 of /l o'g",
        MANIFEST,
        'mlxp_first=$(("$SLURM_ARRAY_TASK_ID" * 1 - 0))',
        "mlxp_become() {",
        f'{BECOME} >>"$1/log.stdout" 2>>"$1/log.stderr"',
        "}",
    ]


def test_a_single_job_is_no_array() -> None:
    """Bug: an index where there is none; stderr that the user sends elsewhere also in the run."""
    assert rendered("slurm", [[7]], ("#SBATCH --error=x",))[1:] == [
        "#SBATCH --job-name=n-1",
        '#SBATCH --output="/l/s/4/job.out"',
        "#SBATCH --open-mode=append",
        "#SBATCH --error=x",
        "",
        "# runs 7 to 7 of /l o'g",
        MANIFEST,
        "mlxp_first=1",
        "mlxp_become() {",
        f'{BECOME} >>"$1/log.stdout"',
        "}",
    ]


def test_packed_runs_are_as_many_as_the_fullest_job_has() -> None:
    """Bug: by the last job, which is not full: the second one begins in the middle of the first."""
    lines = rendered("sge", [[1, 2, 3], [4, 5, 6], [7]], ("#$ -r y",), throttle=1)
    assert lines[1:7] == [
        "#$ -N n-1",
        "#$ -S /bin/bash",
        "#$ -o /l/s/4/$TASK_ID.out",
        "#$ -e /l/s/4/$TASK_ID.out",
        "#$ -t 1-3 -tc 1",
        "#$ -r y",
    ]
    assert 'mlxp_first=$(("$SGE_TASK_ID" * 3 - 2))' in lines
    assert lines[-2:] == ["mlxp_size=3", "mlxp_requeue='exit 99'"]
    assert rendered("sge", [[1, 2]])[-3:] == ["}", "mlxp_size=2", "mlxp_requeue=''"]


def test_an_array_that_the_command_line_makes_is_in_no_directive() -> None:
    """Bug: two -J of LSF, the last of which is no array."""
    lines = rendered("lsf", [[1], [2]])
    assert [line for line in lines if line.startswith("#BSUB")] == [
        '#BSUB -J "n-1"',
        '#BSUB -Jd "n-1"',
        "#BSUB -o /l/s/4/%I.out",
        "#BSUB -e /l/s/4/%I.out",
    ]


def test_a_folder_that_cannot_be_named_in_a_directive_loses_the_schedulers_words_alone() -> None:
    """Bug: None.out, in the directory of the launch."""
    runs = [[RunDir(Path("/l/1"))]]
    spec = array_script.ArraySpec(runs, "n-1", "#!/bin/bash", (), Path("/a b/4"), None)
    lines = head(array_script.render_submission(spec, load_scheduler("sge")))
    assert [line for line in lines if "/dev/null" in line] == ["#$ -o /dev/null", "#$ -e /dev/null"]


@pytest.mark.parametrize(
    ("name", "written"),
    [
        *((name, "3.out") for name in ("local", "slurm", "sge", "pbs", "lsf")),
        ("oar", "9.out"),  # by the task's own id
        *((name, "task.out-3") for name in ("torque", "mwm")),  # the server puts the index behind it
    ],
)
def test_the_schedulers_own_output_is_looked_for_where_it_is_written(name: str, written: str) -> None:
    """Bug: `mlxp logs` has nothing of what the scheduler says of a task: it lies under another name."""
    scheduler = load_scheduler(name)
    (line,) = {line for line in rendered(name, [[1], [2]]) if ".out" in line and ("-o" in line or "-O" in line)}
    path = line.partition("/l/s/4/")[2].strip('"')
    assert path == f"{scheduler.index_pattern}.out"
    record = SubmissionRecord(scheduler=name, script="/l/s/4/job.sh", job_id="7", array_index=3, own_id="9")
    assert record.output == Path("/l/s/4", written)
    if "task" not in written:
        assert path.replace(scheduler.index_pattern, written.removesuffix(".out")) == written
    assert "/l/s/4/job.out" in "\n".join(rendered(name, [[1]]))
    assert record.updated(array_index=None).output == Path("/l/s/4/job.out")

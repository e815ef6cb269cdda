"""Submissions that meet trouble: a scheduler that refuses, hangs, is away or answers nonsense, a launch that is killed.

The clients of Slurm are stand-ins here, which say what the real ones said; what is accepted goes to a file, the queue.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from support import PATIENCE, Project, until

SLURM = ("-m", "hydra/launcher=mlxp_slurm", "hydra.launcher.submit_timeout=3", "hydra.launcher.command_timeout=2")
SINGLE = (*SLURM, "hydra.launcher.array=false", "seed=1,2,3,4,5")

# sbatch counts its calls, and does as the file "N" (for its Nth call) or else "any" in the same folder says
SBATCH = """\
#!/bin/bash
cd "$(dirname "$0")"
echo x >>calls
n=$(wc -l <calls)
script=${@: -1}
accept() { echo "$n|N/A|PENDING|None|$script" >>queue; }
for what in "$n" any; do [ ! -e "$what" ] || . "./$what"; done
accept
echo "$n"
"""
SQUEUE = """\
#!/bin/bash
cd "$(dirname "$0")"
[ ! -e squeue-any ] || . ./squeue-any
[ ! -e queue ] || cat queue
"""


class Cluster:
    """The stand-ins, first on the path of a project."""

    def __init__(self, folder: Path, project: Project) -> None:
        self.folder = folder
        folder.mkdir()
        for name, text in (("sbatch", SBATCH), ("squeue", SQUEUE)):
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)
        project.environment["PATH"] = f"{folder}{os.pathsep}{project.environment['PATH']}"

    def does(self, when: int | str, what: str) -> None:
        """What a call does, in shell."""
        (self.folder / str(when)).write_text(what)

    def forget(self, when: int | str) -> None:
        """Back to normal."""
        (self.folder / str(when)).unlink()

    @property
    def calls(self) -> int:
        path = self.folder / "calls"
        return len(path.read_text().splitlines()) if path.exists() else 0

    @property
    def queue(self) -> list[str]:
        """Scripts of the jobs that were accepted."""
        return [line.split("|")[4] for line in (self.folder / "queue").read_text().splitlines()]


@pytest.fixture
def cluster(tmp_path: Path, project: Project) -> Cluster:
    return Cluster(tmp_path / "bin", project)


def ids(project: Project) -> list[str | None]:
    return [project.job_id(name) for name in project.runs()]


REFUSED = "echo 'sbatch: error: Batch job submission failed: Invalid qos specification' >&2; exit 1"


def test_after_a_refusal_in_the_middle_the_same_command_submits_exactly_the_rest(
    project: Project, cluster: Cluster
) -> None:
    """Bug: two jobs again for the runs that were submitted, or five new folders, or runs that are PENDING for ever."""
    cluster.does(3, REFUSED)
    done = project.run(*SINGLE, code=1)
    assert "Invalid qos specification" in done.stderr
    assert "Submitted: run 1-2. Failed: run 3. Not submitted: run 4-5." in done.stderr
    assert ids(project) == ["1", "2", None, None, None]
    assert [project.submission(name)["state"] for name in project.runs()] == [None, None, *["FAILED"] * 3]
    assert "Invalid qos" in project.submission(3)["error"]
    assert "after another" in project.submission(4)["error"]
    done = project.run(*SINGLE)
    assert "2 of 5 are submitted already (1-2)" in done.stdout
    assert project.runs() == ["1", "2", "3", "4", "5"]
    assert ids(project) == ["1", "2", "4", "5", "6"]
    assert [project.submission(name)["state"] for name in project.runs()] == [None] * 5
    assert len(set(cluster.queue)) == len(cluster.queue) == 5
    project.run(*SINGLE)  # nothing was left open: this is a sweep of its own
    assert len(project.runs()) == 10


def test_a_header_that_was_refused_can_be_put_right(project: Project, cluster: Cluster) -> None:
    """Bug: another five folders after each attempt at the header."""
    cluster.does("any", f'grep -q "qos=good" "$script" || {{ {REFUSED}; }}')
    project.run(*SLURM, "seed=1,2", "hydra.launcher.header='#SBATCH --qos=bad'", code=1)
    project.run(*SLURM, "seed=1,2", "hydra.launcher.header='#SBATCH --qos=good'")
    assert project.runs() == ["1", "2"]
    assert ids(project) == ["2", "2"]
    assert "#SBATCH --qos=good\n" in (project.logs / "2" / "script.sh").read_text()
    assert not list((project.logs / ".mlxp" / "launches").iterdir())


@pytest.mark.parametrize("accepted", [True, False])
def test_a_launch_that_is_killed_while_it_submits_is_taken_up_by_the_same_command(
    project: Project, cluster: Cluster, accepted: bool
) -> None:
    """Bug: a job that was accepted is submitted a second time; or one that was not is never submitted."""
    cluster.does(3, "accept; touch here; exec sleep 60" if accepted else "touch here; exec sleep 60")
    process = project.start(*SINGLE, new_session=True)
    until((cluster.folder / "here").exists)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert ids(project)[:3] == ["1", "2", None]
    assert project.submission(3)["state"] is None
    project.run(*SINGLE)
    assert project.runs() == ["1", "2", "3", "4", "5"]
    assert ids(project) == ["1", "2", "3", "4", "5"] if accepted else ["1", "2", "4", "5", "6"]
    assert len(set(cluster.queue)) == len(cluster.queue) == 5


def test_a_launch_that_is_killed_before_it_submits_is_taken_up_in_its_folders(project: Project) -> None:
    """Bug: empty folders with numbers of their own for ever; or a folder with half of a run that is submitted."""
    command = ("-m", "hydra/launcher=mlxp_local", "seed=range(0,15)")
    process = project.start(*command, new_session=True)
    until((project.logs / "3" / "metadata" / "info.yaml").exists)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    project.run(*command, "hydra.launcher.wait=true")
    assert project.runs() == [str(number) for number in range(1, 16)]
    assert {project.info(name)["status"] for name in project.runs()} == {"COMPLETE"}
    assert [project.said(number + 1)["code"] for number in (0, 14)] == ["A", "A"]


def test_a_launch_that_goes_on_is_not_taken_up_by_its_twin(project: Project, cluster: Cluster) -> None:
    """Bug: the same command in two terminals: the second one takes the folders of the first."""
    cluster.does(1, "while [ ! -e go ]; do sleep 0.05; done")
    process = project.start(*SLURM, "hydra.launcher.command_timeout=60", "seed=1,2")
    until(lambda: cluster.calls == 1)
    project.run(*SLURM, "hydra.launcher.command_timeout=60", "seed=1,2")
    (cluster.folder / "go").touch()
    assert process.wait(PATIENCE) == 0
    process.communicate()
    assert ids(project) == ["1", "1", "2", "2"]


GARBAGE = "echo '<html>Bad gateway</html>'; exit 0"
HANGS = "exec sleep 60"
DOWN = "echo 'sbatch: error: Unable to contact slurm controller (connect failure)' >&2; exit 1"
LOST = "accept; echo 'Batch job submission failed: Socket timed out on send/recv operation' >&2; exit 1"


@pytest.mark.parametrize("trouble", [GARBAGE, HANGS, DOWN, LOST], ids=["garbage", "hangs", "down", "lost"])
def test_trouble_that_passes_costs_no_run_and_no_second_job(project: Project, cluster: Cluster, trouble: str) -> None:
    """Bug: a launch that gives up at once; a job that was accepted behind a lost answer and runs twice."""
    quick = "hydra.launcher.submit_timeout=60"
    project.hurry("slurm")
    cluster.does(2, trouble)
    project.run(*SINGLE, quick)
    accepted = trouble == LOST
    assert ids(project) == (["1", "2", "3", "4", "5"] if accepted else ["1", "3", "4", "5", "6"])
    assert len(set(cluster.queue)) == len(cluster.queue) == 5


def test_where_nothing_is_known_nothing_is_submitted_until_the_queue_answers(
    project: Project, cluster: Cluster
) -> None:
    """Bug: `failed` for a job that may run, and a second one from the same command."""
    cluster.does("any", LOST)
    cluster.does("squeue-any", "echo 'slurm_load_jobs error: Socket timed out' >&2; exit 1")
    done = project.run(*SLURM, "seed=1,2", code=1)
    assert "The job may be there or not" in done.stderr
    assert [project.submission(name)["state"] for name in project.runs()] == [None, None]
    done = project.run(*SLURM, "seed=1,2", code=1)
    assert "it is not known whether run 1-2 is in the queue, so nothing is submitted" in done.stderr
    assert cluster.calls == 1
    cluster.forget("squeue-any")
    project.run(*SLURM, "seed=1,2")
    assert cluster.calls == 1
    assert ids(project) == ["1", "1"]


ARRAYS = """\
count=$(sed -n 's/^#SBATCH --array=1-\\([0-9]*\\).*/\\1/p' "$script")
[ "${count:-1}" -le 4 ] || {
  echo 'sbatch: error: Batch job submission failed: Invalid job array specification' >&2; exit 1; }
"""


def test_an_array_above_the_sites_limit_is_split(project: Project, cluster: Cluster) -> None:
    """Bug: a refusal of 9 jobs at a site that takes 4 in an array; a run lost or doubled at the seam."""
    cluster.does("any", ARRAYS)
    scontrol = cluster.folder / "scontrol"
    scontrol.write_text("#!/bin/sh\necho 'MaxArraySize            = 5'\n")
    scontrol.chmod(0o755)
    project.run(*SLURM, "seed=range(1,10)", "hydra.launcher.max_parallel=6")
    places = [(project.submission(name)["job_id"], project.submission(name)["array_index"]) for name in project.runs()]
    assert places == [*(("2", index) for index in range(1, 5)), *(("3", index) for index in range(1, 5)), ("4", None)]
    scripts = [Path(path).read_text() for path in cluster.queue]
    assert [line for text in scripts for line in text.splitlines() if "--array" in line] == [
        "#SBATCH --array=1-4%2"
    ] * 2
    scontrol.write_text("#!/bin/sh\nexit 1\n")  # learned from the refusals: 9, 4
    before = cluster.calls
    project.run(*SLURM, "seed=range(21,30)")
    assert cluster.calls - before == 4
    assert len(project.runs()) == 18
    assert [project.submission(name)["job_id"] for name in ("10", "13", "14", "17", "18")] == ["6", "6", "7", "7", "8"]


def test_jobs_with_different_headers_go_into_different_submissions(project: Project, cluster: Cluster) -> None:
    """Bug: every job asks for the memory of the first model."""
    header = "hydra.launcher.header='#SBATCH --mem=${optimizer.lr}G'"
    project.run(*SLURM, "optimizer.lr=1,2", "seed=1,2", header)
    assert ids(project) == ["1", "1", "2", "2"]
    scripts = [Path(path).read_text() for path in cluster.queue]
    assert ["#SBATCH --mem=1G\n" in text for text in scripts] == [True, False]
    assert ["#SBATCH --mem=2G\n" in text for text in scripts] == [False, True]
    assert "#SBATCH --mem=2G\n" in (project.logs / "4" / "script.sh").read_text()


# sbatch accepts, and the job has run and is forgotten before anybody asks the queue
GONE = 'SLURM_JOB_ID=77 bash "$script" || exit 3\n'
SHORT = ("-m", "hydra/launcher=mlxp_slurm", "hydra.launcher.submit_timeout=30", "seed=1")


def test_a_job_that_came_and_went_before_the_queue_was_asked_is_not_submitted_again(
    cluster: Cluster, project: Project
) -> None:
    """Bug: an unclear answer, a job of a second that qstat does not show any more, and the run is done twice."""
    cluster.does(1, f"{GONE}echo 'sbatch: error: Socket timed out on send/recv operation' >&2; exit 1")
    project.run(*SHORT)
    assert (cluster.calls, project.job_id(1), project.status(1)) == (1, "77", "COMPLETE")


def test_a_launch_that_was_killed_does_not_repeat_runs_that_the_queue_has_forgotten(
    cluster: Cluster, project: Project
) -> None:
    """Bug: the same command the next day: the queue knows nothing, and a complete run is PENDING and run again."""
    cluster.does(1, f"{GONE}kill -KILL $PPID; exit 1")
    project.run(*SHORT, code=-signal.SIGKILL)
    assert (project.job_id(1), project.status(1)) == (None, "COMPLETE")
    project.run(*SHORT)
    assert (cluster.calls, project.job_id(1), project.status(1)) == (1, "77", "COMPLETE")
    assert project.runs() == ["1"]

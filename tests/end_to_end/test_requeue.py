"""Warned by its scheduler, a run leaves with a checkpoint, waits again, and goes on: on real SGE, OAR and Slurm.

On LSF it is the fake cluster that warns. test_slurm.py has what is Slurm's own: its --signal, its scancel.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from backends import BACKENDS, ask, open_project
from support import COOPERATING, PATIENCE, Project, logged, read_yaml, until

NAMED = {one.name: one for one in BACKENDS}
Opened = Callable[..., AbstractContextManager[Project]]


@pytest.fixture
def opened(tmp_path: Path, environment: dict[str, str]) -> Opened:
    """A project on a cluster, with the program that cooperates and a template of these directives."""

    @contextmanager
    def opened(cluster: str, *directives: str) -> Iterator[Project]:
        with open_project(NAMED[cluster], tmp_path, environment) as project:
            lines = [f"{NAMED[cluster].directive} {one}" for one in directives]
            template = "\n".join(["#!/bin/bash", *lines, "python main.py", ""])
            project.write(**{"main.py": COOPERATING, "job.sh": template})
            project.commit()
            yield project

    return opened


def arguments(cluster: str, *more: str) -> tuple[str, ...]:
    return ("-m", f"hydra/launcher=mlxp_{NAMED[cluster].launcher}", "hydra.launcher.template=job.sh", *more)


def command(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout


def until_it_runs(project: Project, *names: int) -> None:
    for name in names or (1,):
        until(lambda name=name: len(logged(project.logs / str(name))) > 3, 60)


def check_resumed(project: Project, name: int = 1) -> None:
    """That a run is complete in its second attempt, with each step once, and all that its first attempt left."""
    folder = project.logs / str(name)
    project.wait_for_end(name)
    info = project.info(name)
    assert (info["status"], info["attempt"], info.get("stop_signal")) == ("COMPLETE", 2, None)
    assert (folder / "metadata" / "exit_code").read_text() == "0 2\n"
    steps, first = logged(folder), logged(folder / "metadata" / "attempts" / "1")
    assert steps == list(range(len(steps)))
    # the last step of the first attempt came after its checkpoint: the second one has made it anew
    assert len(first) > 3
    assert first == steps[: len(first)]
    assert (folder / "log.stdout").read_text().startswith("attempt 2\n")
    assert (folder / "metadata" / "attempts" / "1" / "log.stdout").read_text().startswith("attempt 1\n")
    before = read_yaml(folder / "metadata" / "attempts" / "1" / "metadata" / "info.yaml")
    assert before["status"] == "PREEMPTED"
    assert len((folder / "metadata" / "starts").read_text().splitlines()) == 2


@pytest.mark.sge
def test_sge_warns_at_its_soft_limit_and_the_launch_that_waits_stays_until_the_second_attempt(opened: Opened) -> None:
    """Bug: the launch leaves with PREEMPTED, or with the exit code of the first attempt; steps twice; output gone."""
    with opened("sge", "-r y", "-l s_rt=6") as project:
        launch = project.start(*arguments("sge", "do=twice", "flag=never", "hydra.launcher.wait=true"))
        until_it_runs(project)
        job_id = project.submission(1)["job_id"]
        command("qhold", job_id)  # counts once it is back in the queue
        until(lambda: project.info(1)["status"] == "PREEMPTED")
        until(lambda: ask(project, "refresh") == ["PENDING"])
        assert project.submission(1)["attempt"] == 2
        assert launch.poll() is None
        assert not (project.logs / "1" / "metadata" / "exit_code").exists()
        command("qrls", job_id)
        _, stderr = launch.communicate(timeout=PATIENCE)
        assert launch.returncode == 0, stderr
        check_resumed(project)
        until(lambda: ask(project, "refresh") == ["COMPLETE"])
        assert project.submission(1)["job_id"] == job_id
        starts = (project.logs / "1" / "metadata" / "starts").read_text().splitlines()
        assert [line.split()[-1] for line in starts] == [job_id] * 2


@pytest.mark.sge
@pytest.mark.parametrize("by", ["qdel", "mlxp"])
def test_a_job_of_sge_that_is_deleted_checkpoints_and_is_not_requeued(opened: Opened, by: str) -> None:
    """Bug: a job that cannot be cancelled, as its script has it started again; or PREEMPTED, as if it would be."""
    with opened("sge", "-r y", "-notify") as project:
        project.run(*arguments("sge", "do=each", "flag=never"))
        until_it_runs(project)
        job_id = project.submission(1)["job_id"]
        if by == "qdel":
            command("qdel", job_id)
        else:
            ask(project, "cancel")
        until(lambda: job_id not in command("qstat", "-u", "*"))
        assert (project.info(1)["status"], project.info(1)["stop_signal"]) == ("PREEMPTED", "SIGUSR2")
        until(lambda: ask(project, "refresh") == ["CANCELLED"])
        assert len((project.logs / "1" / "metadata" / "starts").read_text().splitlines()) == 1


@pytest.mark.oar
@pytest.mark.timeout(240)
def test_oar_warns_both_tasks_of_an_array_and_they_go_on_under_new_ids(opened: Opened) -> None:
    """Bug: the new job, which OAR gives an id of its own, is not followed; or it takes itself for another task."""
    # OAR warns at its next look, up to 10 s late, and starts nothing again that has not run for more than 60 s
    with opened("oar", "-t idempotent", "-l core=1,walltime=0:1:50", "--checkpoint 46") as project:
        flag = project.dir.parent / "flag"
        project.run(*arguments("oar", f"flag='{flag}'", "seed=1,2"))
        until_it_runs(project, 1, 2)
        array = project.submission(1)["job_id"]
        until(lambda: [project.info(name)["attempt"] for name in (1, 2)] == [2, 2], 110)
        until(lambda: ask(project, "refresh") == ["RUNNING"] * 2)
        notes = [project.submission(name) for name in (1, 2)]
        assert [(note["job_id"], note["array_index"], note["attempt"]) for note in notes] == [
            (array, 1, 2),
            (array, 2, 2),
        ]
        starts = [(project.logs / name / "metadata" / "starts").read_text().splitlines() for name in ("1", "2")]
        ids = [[line.split()[-1] for line in lines] for lines in starts]
        assert [note["own_id"] for note in notes] == [again for _, again in ids]
        assert all(int(again) > int(first) for first, again in ids)
        flag.touch()
        for name in (1, 2):
            check_resumed(project, name)
            assert project.info(name)["hydra"]["overrides"][-1] == f"seed={name}"
        until(lambda: ask(project, "refresh") == ["COMPLETE"] * 2)


@pytest.mark.parametrize("by", ["array", "single"])
def test_lsf_starts_a_job_with_exit_code_99_again(opened: Opened, by: str) -> None:
    """Bug: -Q 99 that nothing exits with; or a warning to every process of the job that ends the script as well."""
    with opened("fake_lsf", "-Q 99") as project:
        flags = "never" if by == "single" else "never,nowhere"
        names = list(range(1, 2 + flags.count(",")))
        project.run(*arguments("fake_lsf", "do=twice", f"flag={flags}"))
        until_it_runs(project, *names)
        spool, programs = Path(project.environment["MLXP_FAKE_CLUSTER"]), project.environment
        (spool / "slots").write_text("0")  # so that it waits once it is back in the queue
        bkill = ["bkill", "-s", "USR2", project.submission(1)["job_id"]]
        subprocess.run(bkill, env=programs, check=True, capture_output=True, timeout=60)
        until(lambda: ask(project, "refresh") == ["PENDING"] * len(names))
        assert [project.submission(name)["attempt"] for name in names] == [2] * len(names)
        (spool / "slots").unlink()
        for name in names:
            until(lambda name=name: project.info(name)["attempt"] == 2)
            check_resumed(project, name)
        until(lambda: ask(project, "refresh") == ["COMPLETE"] * len(names))


@pytest.mark.slurm
def test_of_two_runs_in_one_job_only_the_one_that_was_not_complete_runs_again(opened: Opened, tmp_path: Path) -> None:
    """Bug: a complete run overwritten by its second start; or the other, which left with 0, taken for complete."""
    there, later = tmp_path / "there", tmp_path / "later"
    there.touch()
    with opened("slurm", "--requeue") as project:
        flags = f"flag='{there}','{later}'"
        project.run(*arguments("slurm", "do=twice", flags, "hydra.launcher.pack=2"))
        project.wait_for_end(1)
        until_it_runs(project, 2)
        command("scontrol", "requeue", project.submission(1)["job_id"])
        until(lambda: project.info(2)["attempt"] == 2, 60)
        check_resumed(project, 2)
        until(lambda: ask(project, "refresh") == ["COMPLETE"] * 2)
        assert project.info(1)["attempt"] == 1
        assert len((project.logs / "1" / "metadata" / "starts").read_text().splitlines()) == 1
        assert logged(project.logs / "1") == [0]

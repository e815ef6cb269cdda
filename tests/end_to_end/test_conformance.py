"""The same for every scheduler, a real one or the fake: from the command line to the run folders and the statuses."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from backends import BACKENDS, Backend, ask, open_project, parameters, quoted, submit_commands
from support import PATIENCE, Project, until

from mlxp_core.scheduler import SCHEDULERS, load_scheduler

ENDED = {"COMPLETE", "FAILED", "CANCELLED", "TIMEOUT", "PREEMPTED", "LOST"}


@pytest.fixture(params=parameters())
def backend(request: pytest.FixtureRequest) -> Backend:
    return request.param


@pytest.fixture
def project(backend: Backend, tmp_path: Path, environment: dict[str, str]) -> Iterator[Project]:
    with open_project(backend, tmp_path, environment) as made:
        yield made


def on(concerned: Callable[[Backend], object]) -> pytest.MarkDecorator:
    """Have a test run on some of the schedulers only."""
    return pytest.mark.parametrize("backend", parameters(concerned), indirect=True)


def multirun(backend: Backend, *more: str) -> tuple[str, ...]:
    return ("-m", f"hydra/launcher=mlxp_{backend.launcher}", *more)


def submissions(backend: Backend, jobs: int) -> int:
    """How many submissions so many jobs are: one, where there are arrays."""
    return 1 if backend.array else jobs


def statuses(project: Project, limit: float = PATIENCE, *, expected: list[str]) -> None:
    """Wait until the runs have these statuses, as the scheduler and the folders have it."""
    seen: list[list[str]] = []

    def reached() -> bool:
        seen.append(ask(project, "refresh"))
        return seen[-1] == expected

    try:
        until(reached, limit)
    except AssertionError:
        pytest.fail(f"{seen[-1]} and not {expected}: {project.dir}")


def kill_all_of(project: Project, name: int) -> None:
    """SIGKILL to all processes of a run, its scripts first, so that nobody is left to note an exit code."""
    script = str(project.logs / str(name) / "script.sh").encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if script in path.read_bytes():
                found.append(int(path.parent.name))
    for pid in (*sorted(found), project.info(name)["process_id"]):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_an_array_is_submitted_in_one_piece_left_and_read_back(backend: Backend, project: Project) -> None:
    """Bug: anything on the main path: an index off by one, output elsewhere, a job that does not find Python."""
    done = project.run(*multirun(backend), "optimizer.lr=0.5,1", "seed=0,3")
    assert "4 jobs submitted" in done.stdout
    notes = [project.submission(name) for name in project.runs()]
    assert [note["array_index"] for note in notes] == ([1, 2, 3, 4] if backend.array else [None] * 4)
    assert len({note["job_id"] for note in notes}) == submissions(backend, 4)
    statuses(project, expected=["COMPLETE"] * 4)
    for name, lr, seed in (("1", 0.5, 0), ("2", 0.5, 3), ("3", 1, 0), ("4", 1, 3)):
        lines = (project.logs / name / "metrics" / "train.json").read_text().splitlines()
        assert [json.loads(line)["loss"] for line in lines] == [seed, lr + seed, 2 * lr + seed]
        assert project.said(name)["code"] == "A"
        printed = (project.logs / name / "log.stderr").read_text()
        assert not printed or "Hydra15MigrationWarning" in printed  # few schedulers pass PYTHONWARNINGS on
        assert project.info(name)["version_manager"]["commit_hash"] == project.commit_hash()
    if backend.fake:
        assert submit_commands(project) == submissions(backend, 4)


VALUES = ["a b", "it's", 'say "hi"', "$HOME `id` $(id)", "back\\slash", "two\nlines", "ünï ☃", "a,b"]


def test_values_and_single_submissions(backend: Backend, project: Project) -> None:
    """Bug: a value that a scheduler or the node's shell takes apart; array=false that submits one job only."""
    values = VALUES[:4] if backend.as_user else VALUES
    quoted_values = ["'" + value.replace("'", "\\'") + "'" for value in values]
    project.run(*multirun(backend), "hydra.launcher.array=false", f"msg={','.join(quoted_values)}")
    notes = [project.submission(name) for name in project.runs()]
    assert [note["array_index"] for note in notes] == [None] * len(quoted_values)
    assert len({note["job_id"] for note in notes}) == len(quoted_values)
    statuses(project, expected=["COMPLETE"] * len(quoted_values))
    assert [project.said(name)["msg"] for name in project.runs()] == VALUES[: len(quoted_values)]


def test_failures_and_a_kill_from_outside(backend: Backend, project: Project, tmp_path: Path) -> None:
    """Bug: COMPLETE, or RUNNING for ever, of a run that failed or was killed with all its processes."""
    flag = project.dir.parent / "flag"
    project.run(*multirun(backend), "do=raise,exit3,wait", f"flag='{flag}'")
    until(flag.exists)
    kill_all_of(project, 3)
    seen = until(lambda: (found := ask(project, "refresh")) and set(found) <= ENDED and found, 60)
    assert seen[:2] == ["FAILED", "FAILED"]
    assert seen[2] in {"FAILED", "LOST", "CANCELLED"}
    code = project.logs / "2" / "metadata" / "exit_code"
    until(code.exists)
    assert code.read_text().split()[0] == "3"


@on(lambda backend: backend.limit)
def test_a_limit_of_time_is_a_timeout(backend: Backend, project: Project) -> None:
    """Bug: FAILED, LOST or CANCELLED, so that nobody asks for more time."""
    flag = project.dir.parent / "flag"
    header = quoted(f"{backend.directive} {backend.limit}")
    project.run(*multirun(backend), "do=wait", "hydra.launcher.array=false", f"flag='{flag}'", header)
    statuses(project, backend.limit_seconds, expected=["TIMEOUT"])


@on(lambda backend: backend.knows_tasks)
def test_one_task_is_cancelled_and_the_others_go_on(backend: Backend, project: Project) -> None:
    """Bug: the whole array is cancelled; or a job cancelled in the queue is PENDING for ever."""
    flag = project.dir.parent / "flag"
    throttle = ["hydra.launcher.max_parallel=2"] if backend.throttle else []
    project.run(*multirun(backend), "do=hold", f"flag='{flag}'", "seed=1,2,3", *throttle)
    until(lambda: [project.status(1), project.status(2)] == ["RUNNING", "RUNNING"])
    ask(project, "cancel", 1)
    if throttle:
        ask(project, "cancel", 3)
    flag.parent.mkdir(exist_ok=True)
    until(lambda: ask(project, "refresh", 1) == ["CANCELLED"])
    flag.touch()
    statuses(project, expected=["CANCELLED", "COMPLETE", "CANCELLED" if throttle else "COMPLETE"])


def test_a_run_is_cancelled_before_its_program_is_up(backend: Backend, project: Project) -> None:
    """Bug: FAILED, because the scheduler knows no more than that the script ended with 143."""
    flag = project.dir.parent / "flag"
    project.run(*multirun(backend), f"hydra.launcher.setup=['touch {flag}','sleep 100']")
    until(flag.exists)
    ask(project, "cancel")
    statuses(project, expected=["CANCELLED"])


def test_so_many_run_at_once(backend: Backend, project: Project) -> None:
    """Bug: hydra.launcher.max_parallel that no scheduler is told of."""
    flag = project.dir.parent / "flag"
    arguments = (*multirun(backend), "do=hold", f"flag='{flag}'", "seed=1,2,3", "hydra.launcher.max_parallel=1")
    if not backend.throttle:
        assert "cannot limit how many jobs" in project.run(*arguments, code=1).stderr
        return
    project.run(*arguments)
    until(lambda: project.status(1) == "RUNNING")
    if backend.knows_tasks:
        assert ask(project, "refresh") == ["RUNNING", "PENDING", "PENDING"]
    flag.touch()
    statuses(project, expected=["COMPLETE"] * 3)
    times = [(project.info(name)["start_time"], project.info(name)["end_time"]) for name in project.runs()]
    times.sort()
    assert all(end <= start for (_, end), (start, _) in pairwise(times))


def test_runs_share_a_job(backend: Backend, project: Project) -> None:
    """Bug: hydra.launcher.pack that submits a job for each; output of one run in another's file."""
    project.run(*multirun(backend), "seed=1,2,3", "hydra.launcher.pack=2")
    notes = [project.submission(name) for name in project.runs()]
    assert [note["array_index"] for note in notes] == ([1, 1, 2] if backend.array else [None] * 3)
    assert len({note["job_id"] for note in notes}) == submissions(backend, 2)
    statuses(project, expected=["COMPLETE"] * 3)
    for index, name in enumerate(project.runs(), start=1):
        lines = (project.logs / name / "metrics" / "train.json").read_text().splitlines()
        assert [json.loads(line)["loss"] for line in lines] == [index, index + 0.1, index + 0.2]
        assert len((project.logs / name / "log.stdout").read_text().splitlines()) == 1


def test_a_template_with_the_users_own_name_and_output(backend: Backend, project: Project) -> None:
    """Bug: the user's lines overridden, moved, or changed by a byte."""
    spelled = {option.sets: option.yields_to[0] for option in load_scheduler(backend.launcher).options}
    own, name = spelled["stdout"], spelled["name"]
    mine = project.dir.parent / "mine.txt"
    lines = f"{backend.directive}  {own} {mine}\n{backend.directive} {name} mine\n#{backend.directive} --no such\n"
    template = f"#!/bin/bash\n{lines}export FROM_TEMPLATE='a  b'\npython main.py\necho \"$FROM_TEMPLATE\"\n"
    project.write(**{"job.sh": template})
    project.commit()
    project.run(*multirun(backend), "seed=1", "hydra.launcher.template=job.sh")
    statuses(project, expected=["COMPLETE"])
    script = (project.logs / "1" / "script.sh").read_text()
    assert "".join(lines.splitlines(keepends=True)[:2]) in script
    assert Path(project.submission(1)["script"]).read_text().count(f"{backend.directive} {name} ") == 1
    if backend.name != "torque":  # whose qsub takes no notice of -o
        # its last line comes after the program, which is what the status is of
        said = until(lambda: mine.exists() and "a  b" in (lines := mine.read_text().splitlines()) and lines)
        (program,) = [line for line in said if line.startswith("{")]  # LSF puts its report there as well
        assert json.loads(program)["code"] == "A"
        assert said[said.index(program) + 1] == "a  b"
        assert not (project.logs / "1" / "log.stdout").exists()


def test_a_refusal_shows_the_command_the_answer_and_the_header(backend: Backend, project: Project) -> None:
    """Bug: exit code 0, or PENDING for ever, for what the scheduler did not take."""
    header = f"{backend.directive} --nonsense=1"
    done = project.run(*multirun(backend), "seed=1,2", quoted(header), code=1)
    assert f"{backend.launcher} refused the submission" in done.stderr
    assert header in done.stderr
    assert "Traceback" not in done.stderr
    assert [project.submission(name)["state"] for name in project.runs()] == ["FAILED", "FAILED"]
    assert ask(project, "refresh") == ["FAILED", "FAILED"]


@on(lambda backend: backend.fake or backend.name == "local")
def test_what_the_scheduler_has_forgotten_is_lost_or_as_its_folder_says(backend: Backend, project: Project) -> None:
    """Bug: RUNNING for ever once the queue has no trace of a job."""
    flag = project.dir.parent / "flag"
    project.run(*multirun(backend), "do=wait,null", f"flag='{flag}'")
    until(flag.exists)
    until((project.logs / "2" / "metadata" / "exit_code").exists)
    if backend.fake:
        (Path(project.environment["MLXP_FAKE_CLUSTER"]) / "forget").touch()
    kill_all_of(project, 1)
    statuses(project, expected=["LOST" if backend.fake else "FAILED", "COMPLETE"])


@on(lambda backend: backend.fake)
@pytest.mark.parametrize("trouble", ["busy", "down", "garbage", "lost_answer", "hang"])
def test_trouble_at_the_submission(backend: Backend, project: Project, trouble: str) -> None:
    """Bug: a job twice, or none, after an answer in this scheduler's words that was not understood."""
    project.hurry(backend.launcher)
    (Path(project.environment["MLXP_FAKE_CLUSTER"]) / trouble).write_text("1")
    # only a command that hangs is to be given up: on a busy machine any takes seconds
    seconds = 3 if trouble == "hang" else 60
    project.run(*multirun(backend), f"hydra.launcher.command_timeout={seconds}", "seed=1,2")
    statuses(project, expected=["COMPLETE"] * 2)
    again = 0 if trouble == "lost_answer" else 1
    assert submit_commands(project) == submissions(backend, 2) + again


@on(lambda backend: backend.fake)
def test_a_silent_scheduler_leaves_what_is_known(backend: Backend, project: Project) -> None:
    """Bug: a status that waits for ever, or that says LOST because nobody answered."""
    flag = project.dir.parent / "flag"
    project.run(*multirun(backend), "do=hold", f"flag='{flag}'")
    until(lambda: project.status(1) == "RUNNING")
    (Path(project.environment["MLXP_FAKE_CLUSTER"]) / "down").touch()
    with pytest.raises(AssertionError, match=r"does not say what is in its queue|no answer that can be understood"):
        ask(project, "refresh")
    assert ask(project, "look") == ["RUNNING"]
    (Path(project.environment["MLXP_FAKE_CLUSTER"]) / "down").unlink()
    flag.touch()
    statuses(project, expected=["COMPLETE"])


def test_every_scheduler_has_a_backend() -> None:
    """Bug: a new scheduler that nothing runs."""
    assert {one.launcher for one in BACKENDS} == set(SCHEDULERS)

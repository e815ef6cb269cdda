"""``hydra/sweeper=mlxp``: which jobs a sweep has, and which of them need not run."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hydra.test_utils.launcher_common_tests import BatchedSweeperTestSuite, IntegrationTestSuite, LauncherTestSuite
from support import Project, until

from hydra_plugins.mlxp._points import in_grammar


@pytest.mark.program
@pytest.mark.parametrize(("launcher_name", "overrides"), [("basic", ["hydra/sweeper=mlxp"])])
class TestJobs(LauncherTestSuite):
    """Hydra's own suite of sweeps."""


@pytest.mark.program
@pytest.mark.parametrize(
    ("launcher_name", "overrides"), [("basic", ["hydra/sweeper=mlxp", "hydra.sweeper.max_batch_size=2"])]
)
class TestBatches(BatchedSweeperTestSuite):
    """Hydra's own suite of batches."""


@pytest.mark.program
@pytest.mark.parametrize(
    ("task_launcher_cfg", "extra_flags"), [({}, ["-m", "hydra/launcher=basic", "hydra/sweeper=mlxp"])]
)
class TestPrograms(IntegrationTestSuite):
    """Hydra's own suite of programs."""


class Swept:
    """A program with Hydra's basic launcher, which says what it runs."""

    def __init__(self, project: Project) -> None:
        self.project = project
        project.write(
            **{"conf/optimizer/adam.yaml": "lr: 0.5\nbetas: [1, 2]\n", "conf/optimizer/sgd.yaml": "lr: 0.1\nold: 1\n"}
        )

    def __call__(self, *arguments: str, code: int = 0) -> list[str]:
        """The overrides of each job that runs."""
        done = self.project.run("-m", "hydra/sweeper=mlxp", "hydra/callbacks=mlxp", *arguments, code=code)
        self.said = done.stdout + done.stderr
        return [line.split(" : ", 1)[1] for line in done.stdout.splitlines() if re.search(r"\t#\d+ : ", line)]

    def refused(self, *arguments: str) -> str:
        """What is said of arguments that cannot be used."""
        assert self(*arguments, code=1) == []
        assert "Traceback" not in self.said
        return self.said


@pytest.fixture
def swept(project: Project) -> Swept:
    return Swept(project)


# what Hydra's own tests of its basic sweeper have, written anew: arguments, and the jobs
BASIC = [
    ([], [""]),
    (["seed=10"], ["seed=10"]),
    (["seed=1,2", "msg=a,b"], ["seed=1 msg=a", "seed=1 msg=b", "seed=2 msg=a", "seed=2 msg=b"]),
    (["seed=range(1,4)"], ["seed=1", "seed=2", "seed=3"]),
    (["seed=range(0,1,step=0.5)"], ["seed=0.0", "seed=0.5"]),
    (["seed=choice(3,1)"], ["seed=3", "seed=1"]),
    (["seed=sort(3,1,2,reverse=true)"], ["seed=3", "seed=2", "seed=1"]),
    (["optimizer=glob(*)"], ["optimizer=adam", "optimizer=sgd"]),
    (["optimizer=glob(*,exclude=a*)"], ["optimizer=sgd"]),
    (["msg='a,b','c d'"], ["msg='a,b'", "msg='c d'"]),
    (["+new={a:10},{a:20}"], ["+new={a:10}", "+new={a:20}"]),
    (["~optimizer.old", "+x=[1,2],[3]"], ["~optimizer.old +x=[1,2]", "~optimizer.old +x=[3]"]),
    (["seed=1,2", "seed=3"], ["seed=3"]),
    (["+x=1", "x=2,3"], ["+x=1 x=2", "+x=1 x=3"]),
    (
        ["hydra.sweeper.params={seed:'1,2',msg:x}", "msg=y,z"],
        ["seed=1 msg=y", "seed=1 msg=z", "seed=2 msg=y", "seed=2 msg=z"],
    ),
]


def test_what_hydras_own_sweeper_takes(swept: Swept) -> None:
    """Bug: a sweep that comes to other jobs, or to the same in another order, once our sweeper is chosen."""
    for arguments, jobs in BASIC:
        assert swept(*arguments) == jobs, arguments


def test_keys_of_several_types_are_keys(swept: Swept) -> None:
    """Bug: a configuration that Hydra takes, and that cannot be submitted, for 0 and "default" have no order."""
    swept.project.write(**{"conf/optimizer/adam.yaml": "lr: 1\nweights: {0: 1.0, default: 2.0, true: 3.0}\n"})
    assert swept("optimizer=adam", "seed=1,1,2", "hydra.sweeper.dedupe=true") == [
        "optimizer=adam seed=1",
        "optimizer=adam seed=2",
    ]


def test_shuffled_values_are_all_there(swept: Swept) -> None:
    """Bug: shuffle() that is not understood."""
    assert sorted(swept("seed=shuffle(1,2,3)")) == ["seed=1", "seed=2", "seed=3"]


def test_an_interval_is_refused(swept: Swept) -> None:
    """Bug: an interval run as one value."""
    assert "does not support sweep type : INTERVAL_SWEEP (seed=interval(0,1))" in swept.refused("seed=interval(0,1)")


def test_lists_are_walked_together_repeated_and_filtered(swept: Swept) -> None:
    """Bug: all combinations instead of pairs; a query that asks another field; a seed that is not counted from 0."""
    jobs = swept(
        "optimizer.lr=1,2,3",
        "msg=a,b,c",
        "optimizer=sgd,adam",
        "hydra.sweeper.zip=[optimizer.lr,msg]",
        "hydra.sweeper.exclude=\"optimizer == 'sgd' & config.optimizer.lr >= 2\"",
        "hydra.sweeper.include=[\"config.msg != 'a'\"]",
        "hydra.sweeper.repeat={seed:2}",
    )
    assert jobs == [
        "optimizer.lr=2 msg=b optimizer=adam seed=0",
        "optimizer.lr=2 msg=b optimizer=adam seed=1",
        "optimizer.lr=3 msg=c optimizer=adam seed=0",
        "optimizer.lr=3 msg=c optimizer=adam seed=1",
    ]
    assert "left out 2 of 6 jobs: hydra.sweeper.include: config.msg != 'a'" in swept.said


def test_points_are_given_inline_or_in_a_file(swept: Swept, tmp_path: Path) -> None:
    """Bug: text of a YAML file read as a number, or 1e-3 as text; an empty cell set to nothing; a list cut in two."""
    (tmp_path / "points.yaml").write_text("- {seed: 1e-3, msg: '1'}\n- ['seed=2', '+x={a: [1, null]}']\n")
    (tmp_path / "points.csv").write_text('seed, +x\n5, "[1,2]"\n6,\n')
    assert swept(f"hydra.sweeper.points='{tmp_path}/points.yaml'", "optimizer=adam,sgd") == [
        "optimizer=adam seed=0.001 msg='1'",
        "optimizer=adam seed=2 +x={a: [1, null]}",
        "optimizer=sgd seed=0.001 msg='1'",
        "optimizer=sgd seed=2 +x={a: [1, null]}",
    ]
    assert swept(f"hydra.sweeper.points='{tmp_path}/points.csv'") == ["seed=5 +x=[1,2]", "seed=6"]
    assert swept("hydra.sweeper.points=[{seed:1},{seed:1},{msg:b}]", "hydra.sweeper.dedupe=true") == ["seed=1", "msg=b"]
    assert "left out 1 of 3 jobs, whose configuration another one has" in swept.said


def test_a_sample_is_the_same_each_time(swept: Swept) -> None:
    """Bug: another sample, so that the same command runs other jobs."""
    arguments = ("seed=range(100)", "hydra.sweeper.sample=3")
    first = swept(*arguments)
    assert len(set(first)) == 3
    assert swept(*arguments) == first
    assert swept(*arguments, "hydra.sweeper.sample_seed=1") != first


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("hydra.sweeper.zip=[seed,msg]", "hydra.sweeper.zip: msg has one value, msg=x"),
        ("hydra.sweeper.zip=[seed,other]", "hydra.sweeper.zip: other is not swept; there is seed"),
        ("hydra.sweeper.zip=[seed,seed]", "names a key twice: leave it out once"),
        ("hydra.sweeper.include=3", "hydra.sweeper.include=3 is neither a query nor a list of queries"),
        ("hydra.sweeper.zip=[seed,[msg]]", "is neither a list of keys, such as [lr,wd], nor a list of such lists"),
        ("hydra.sweeper.zip=seed", "hydra.sweeper.zip=seed is neither a list of keys"),
        ("hydra.sweeper.points=none.csv", "none.csv (hydra.sweeper.points) cannot be read"),
        ("hydra.sweeper.points=none.txt", "a file of points is a .yaml or a .csv"),
        ("hydra.sweeper.points=[3]", "hydra.sweeper.points, point 1 is neither a mapping nor a list of overrides: 3"),
        ("hydra.sweeper.points=[['do=1,2']]", "do=1,2 has several values"),
        ("hydra.sweeper.points=[{seed:1}]", "params) and in hydra.sweeper.points: leave it out in one place"),
        (
            "hydra.sweeper.repeat={seed:2}",
            "params) and in hydra.sweeper.repeat: leave it out in one place",
        ),
        ("hydra.sweeper.repeat={do:0}", "a job is run once at least"),
        ('hydra.sweeper.include="config.sed > 1"', "did you mean 'config.seed'"),
        ("hydra.sweeper.skip=[DONE]", "'DONE' is none of PENDING, RUNNING, COMPLETE"),
        ("hydra.sweeper.skip=5", "5 is none of PENDING, RUNNING, COMPLETE"),
        ("hydra.sweeper.resume=true", "hydra.sweeper.resume needs one of the launchers mlxp_*"),
        ("hydra.sweeper.sample=0", "at least one job must be left"),
        ("hydra.sweeper.sample=x", "hydra.sweeper.sample=x: Value 'x' of type 'str'"),
        ("hydra.sweeper.max_batch_size=0", "a batch has one job at least"),
        ("nothing=1", "Key 'nothing' is not in struct"),
    ],
)
def test_what_cannot_be_used_is_said(swept: Swept, argument: str, said: str) -> None:
    """Bug: a sweep of something else, or a stack trace."""
    assert said in swept.refused("seed=1,2", "msg=x", argument)
    assert not (swept.project.logs / "1").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("do,do\n1,2\n", "has 'do' twice in its first row"),
        ("do,\n1,2\n", "has a column without a name in its first row"),
        ("do;optimizer\n1;adam\n", "must be separated by commas"),
        ("do,optimizer\n1,adam\n2\n", "points.csv, line 3: another number of cells than in the first row: ['2']"),
        ("do\na=b\n", "points.csv, point 1: "),
    ],
)
def test_what_is_wrong_with_a_table_of_points_is_said_with_its_place(swept: Swept, text: str, said: str) -> None:
    """Bug: the first of two columns is dropped; a stack trace, or what the parser says without file and line."""
    swept.project.write(**{"points.csv": text})
    assert said in swept.refused("hydra.sweeper.points=points.csv")


def launched(project: Project, *arguments: str, code: int = 0) -> str:
    done = project.run("-m", "hydra/sweeper=mlxp", "hydra/launcher=mlxp_local", *arguments, code=code)
    return done.stdout + done.stderr


SAME = ("seed=range(12)", "hydra.sweeper.skip=[COMPLETE]", "hydra.sweeper.resume=true", "hydra.launcher.wait=true")
FAILING = """\
import os
import hydra

@hydra.main(version_base=None, config_path="conf", config_name="config")
def main(cfg):
    assert cfg.seed % 4 or os.path.exists(FLAG)

if __name__ == "__main__":
    main()
"""


def test_the_same_command_completes_a_sweep_with_failures(project: Project, tmp_path: Path) -> None:
    """Bug: what is complete run again, or what failed run in a new folder or not at all."""
    flag = tmp_path / "flag"
    project.write(**{"main.py": FAILING.replace("FLAG", repr(str(flag)))})
    project.commit()
    launched(project, *SAME, code=1)
    names = [str(number) for number in range(1, 13)]
    assert project.runs() == names
    failed = ["1", "5", "9"]
    assert [name for name in names if project.status(name) == "FAILED"] == failed
    flag.touch()
    said = launched(project, *SAME)
    assert "skipped 9 jobs, for there is a run that is COMPLETE: run 2-4, 6-8, 10-12" in said
    assert "run again, in the folders of their unfinished runs: run 1, 5, 9" in said
    assert "0 of 12 jobs new" in said
    assert project.runs() == names
    assert [project.info(name)["attempt"] for name in names] == [2 if name in failed else 1 for name in names]
    assert {project.status(name) for name in names} == {"COMPLETE"}
    assert "skipped 12 jobs" in launched(project, *SAME)
    # more of the same sweep: only what is new
    said = launched(project, "seed=range(14)", *SAME[1:])
    assert "2 of 14 jobs new" in said
    assert project.runs() == [*names, "13", "14"]
    # another version of the code is another experiment
    project.write(**{"more.py": "x = 1"})
    project.commit()
    said = launched(project, "seed=2", *SAME[1:])
    assert "run anew although there is a run of the same configuration" in said
    assert project.runs() == [*names, "13", "14", "15"]
    assert "skipped 1 job" in launched(project, "seed=3", *SAME[1:], "hydra.sweeper.skip_any_code=true")


SLOW = """\
import time
from pathlib import Path

import hydra

@hydra.main(version_base=None, config_path="conf", config_name="config")
def main(cfg):
    assert cfg.seed == 1
    began = Path(FLAG)
    if not began.exists():
        began.touch()
        raise ValueError("the first attempt")
    limit = time.monotonic() + 60
    while "FAILED" not in Path(OTHER).read_text() and time.monotonic() < limit:
        time.sleep(0.05)
    time.sleep(1)

if __name__ == "__main__":
    main()
"""


def test_runs_that_run_again_are_waited_for_where_a_new_one_fails(project: Project, tmp_path: Path) -> None:
    """Bug: a launch that waits leaves with the first failure of the new jobs, and nobody hears of the others."""
    other = project.logs / "2/metadata/info.yaml"
    project.write(**{"main.py": SLOW.replace("FLAG", repr(str(tmp_path / "flag"))).replace("OTHER", repr(str(other)))})
    project.commit()
    launched(project, "seed=1", *SAME[1:], code=1)
    launched(project, "seed=1,2", *SAME[1:], code=1)
    assert [project.status(run) for run in (1, 2)] == ["COMPLETE", "FAILED"]
    assert project.info(1)["attempt"] == 2


# each job begins and ends by the code that records a job, in one program: 750 of Python and Hydra would take minutes
JOBS = """\
import sys
from pathlib import Path

import yaml

from mlxp_core.runs.layout import RunDir
from mlxp_core.recording.lifecycle import start_recording, end_recording

failing = range(int(sys.argv[2]))
for line in Path(sys.argv[1], "manifest").read_text().splitlines():
    run = RunDir(Path(line))
    seed = yaml.safe_load(run.config.read_text())["seed"]
    end_recording(start_recording(run, config=None), RuntimeError("no luck") if seed in failing else None)
"""
SBATCH = """\
#!/bin/bash
dirname "${@: -1}" >>"$0.noted"
wc -l <"$0.noted"
"""


def test_a_sweep_of_720_jobs_with_30_failures_is_completed_by_the_same_command(
    project: Project, tmp_path: Path
) -> None:
    """Bug: at full size something else than the 30: all of them, none, or 30 new runs beside the failed ones."""
    sbatch = tmp_path / "bin" / "sbatch"
    sbatch.parent.mkdir()
    sbatch.write_text(SBATCH)
    sbatch.chmod(0o755)
    path = f"{sbatch.parent}{os.pathsep}{project.environment['PATH']}"
    swept = ("optimizer=adam,sgd", "optimizer.lr=0.1,0.2,0.3,0.4,0.5", "seed=range(72)")
    same = (*swept, "hydra/sweeper=mlxp", "hydra/launcher=mlxp_slurm", *SAME[1:3])

    def night(failing: int) -> tuple[list[str], str]:
        """Give the command, and run what is submitted: the names of these runs, and what the command says."""
        noted = sbatch.with_name("sbatch.noted")
        before = noted.read_text().splitlines() if noted.exists() else []
        said = project.run("-m", *same, PATH=path).stdout
        folders = noted.read_text().splitlines()[len(before) :]
        for folder in folders:
            subprocess.run([project.command[0], "-c", JOBS, folder, str(failing)], check=True, env=project.environment)
        lines = [line for folder in folders for line in Path(folder, "manifest").read_text().splitlines()]
        return [Path(line).name for line in lines], said

    names = [str(number) for number in range(1, 721)]
    assert night(failing=3)[0] == names
    # the seed is the fastest: the first three of each 72
    failed = [str(72 * block + seed) for block in range(10) for seed in (1, 2, 3)]
    assert len(failed) == 30
    assert [name for name in names if project.status(name) == "FAILED"] == failed
    ran, said = night(failing=0)
    assert ran == failed
    assert "skipped 690 jobs, for there is a run that is COMPLETE: run 4-72, 76-144, " in said
    assert "run again, in the folders of their unfinished runs: run 1-3, 73-75, " in said
    assert "0 of 720 jobs new" in said
    assert project.runs() == names
    infos = [project.info(name) for name in names]
    assert [(info["status"], info["attempt"]) for info in infos] == [
        ("COMPLETE", 2 if name in failed else 1) for name in names
    ]
    ran, said = night(failing=0)
    assert ran == []
    assert "skipped 720 jobs, for there is a run that is COMPLETE: run 1-720" in said


def test_what_runs_is_left_alone_and_what_no_launcher_made_is_run_anew(project: Project, tmp_path: Path) -> None:
    """Bug: a job submitted twice; a run that cannot run again stops the whole sweep."""
    flag = tmp_path / "flag"
    flags = ("do=hold", f"flag='{flag}'")
    launched(project, *flags)
    until(lambda: project.status(1) == "RUNNING")
    said = launched(project, *flags, *SAME[1:3])
    assert "skipped 1 job, for there is a run that is RUNNING: run 1" in said
    flag.touch()
    project.wait_for_end(1)
    # a run of the callback alone, which nobody can submit again
    project.run("-m", "hydra/sweeper=mlxp", "hydra/callbacks=mlxp", "do=raise", code=1)
    assert project.status(2) == "FAILED"
    said = launched(project, "do=raise", *SAME[1:], code=1)
    assert "run anew, in a new folder, instead of run 2: " in said
    assert project.status(3) == "FAILED"
    launched(project, "do=raise", *SAME[1:], code=1)
    assert project.info(3)["attempt"] == 2
    # files that may be any when a job starts are no version: such a run is not taken for one of the commit
    no_code = ("hydra.launcher.snapshot=none", "hydra.sweeper.skip_any_code=true")
    said = launched(project, "do=raise", *SAME[1:], *no_code, code=1)
    assert "not run again in their own folders" in said
    launched(project, "do=raise", *SAME[1:], *no_code, code=1)
    assert project.info(4)["attempt"] == 2
    assert project.runs() == ["1", "2", "3", "4"]


def test_runs_of_other_launchers_have_a_version_too(swept: Swept) -> None:
    """Bug: complete runs of Hydra's own launcher run again, or results of edited code taken for those of the new."""
    skip = "hydra.sweeper.skip=COMPLETE"
    unrecorded = swept.project.run("-m", "hydra/sweeper=mlxp", "seed=1", skip, code=1)  # the program logs metrics
    assert "these jobs are not: add hydra/callbacks=mlxp" in unrecorded.stdout
    assert swept("seed=1,2", skip) == ["seed=1", "seed=2"]  # the files are not committed: a captured version
    assert swept("seed=1,2,3", skip) == ["seed=3"]
    assert "skipped 2 jobs, for there is a run that is COMPLETE: run 1-2" in swept.said
    assert launched(swept.project, "seed=2", skip).count("0 of 1 job new") == 1
    swept.project.write(**{"more.py": "x = 1"})
    assert swept("seed=1,2", skip) == ["seed=1", "seed=2"]
    assert swept("seed=1,2", skip) == []
    assert "run anew" not in swept.said


def test_batches_are_composed_once_and_number_their_jobs(project: Project) -> None:
    """Bug: job numbers that start again with each batch; a run folder too many."""
    project.write(**{"conf/config.yaml": "optimizer: {lr: 1}\nseed: 0\nmsg: ${hydra:job.num}\ndo: null\nflag: null\n"})
    project.commit()
    launched(project, "seed=1,2,3", "hydra.sweeper.max_batch_size=2", "hydra.launcher.wait=true")
    assert [project.said(number)["msg"] for number in (1, 2, 3)] == [0, 1, 2]
    assert project.submission(1)["job_id"] != project.submission(3)["job_id"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (0.1, "0.1"),
        ("resnet/50-a", "resnet/50-a"),
        ("true", "'true'"),
        ("1", "'1'"),
        ("it's", "'it\\'s'"),
        ("", "''"),
        ([1, "a b"], "[1,'a b']"),
        ({"a": {"b": None}}, "{a:{b:null}}"),
    ],
)
def test_plain_values_in_hydras_grammar(value: Any, text: str) -> None:
    """Bug: text that becomes a number, a truth or nothing."""
    assert in_grammar(value) == text

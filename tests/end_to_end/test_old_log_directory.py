"""A log directory, and a user's code, of version 0.1.0: what later versions must still understand, for ever.

tests/recorded/make_log_directory.py says how the runs came about. Nothing here names a module that is not public.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from old_log_directory import lay_out
from support import Mlxp, Project, read_yaml, stop_local_queues
from warm_python import warm_python

from mlxp_core.reader import Reader, scan_metrics, scan_runs

SKIP = ("hydra.sweeper.skip=[COMPLETE]", "hydra.sweeper.resume=true")
JOB = """\
#!/bin/bash
#LOCAL --job-name=x
echo ${{MLXP_SUB:+set}} ${{MLXP_SUB_AT-none}} $(test "$MLXP_SUB" = in-a-job; echo $?) >>{seen}
python main.py lr=11
"""
# status, job, attempt, exit code, reason, overrides; as `mlxp status` of version 0.1.0 had them, but for run 7, of
# which it gave the status once more as the reason
RUNS = {
    "1": ("COMPLETE", "local 1_1", 1, 0, "", ["lr=0.5"]),
    "2": ("COMPLETE", "local 1_2", 1, 0, "", ["lr=0.25"]),
    "3": (
        "FAILED",
        "local 2",
        1,
        1,
        "FileNotFoundError: there is no data/of_3 yet",
        ["lr=0.125", "needs=data/of_3"],
    ),
    "4": ("COMPLETE", "local 4", 2, 0, "", ["lr=1", "needs=data/of_4"]),
    "5": ("COMPLETE", "local 5_1", 1, 0, "", ["lr=2", "needs=data/of_5", "wait=True"]),
    "6": ("CANCELLED", "local 5_2", 1, None, "", ["lr=4", "needs=data/of_5", "wait=True"]),
    "7": ("LOST", "local 6", 1, None, "", ["lr=16", "needs=data/of_7", "wait=True"]),
    "8": ("PENDING", None, 1, None, "not submitted", ["lr=3"]),
    "9": ("PENDING", None, 1, None, "not submitted", ["lr=6"]),
    "10": (
        "FAILED",
        "local 7",
        1,
        1,
        "FileNotFoundError: there is no data/of_10 yet",
        ["lr=0.375", "needs=data/of_10"],
    ),
    "11": ("COMPLETE", "local 8", 1, 0, "", ["lr=0.75"]),
    "12": ("COMPLETE", None, 1, None, "", ["lr=1.5"]),
    "13": ("COMPLETE", None, 1, None, "", []),
    "14": ("COMPLETE", "local 9", 1, 0, "", ["lr=32"]),
    "15": ("COMPLETE", "local 10", 1, 0, "", ["lr=64"]),
    "16": ("COMPLETE", "local 11", 1, 0, "", ["lr=128"]),
    "17": ("COMPLETE", "local 12", 1, 0, "", ["lr=128"]),
}
# lr, and what was logged of the three steps 3 lr, 2 lr, lr; the pair of a program with two main functions logs nothing
LOSSES = {
    1: (0.5, [1.5, 1.0, 0.5]),
    2: (0.25, [0.75, 0.5, 0.25]),
    3: (0.125, [0.375]),
    4: (1.0, [3.0, 2.0, 1.0]),
    5: (2.0, [6.0, 4.0, 2.0]),
    6: (4.0, None),
    7: (16.0, [48.0]),
    8: (3.0, None),
    9: (6.0, None),
    10: (0.375, [1.125]),
    11: (0.75, [2.25, 1.5, 0.75]),
    12: (1.5, [4.5, 3.0, 1.5]),
    13: (8.0, [float("inf"), 8.0]),
    14: (32.0, [96.0, 64.0, 32.0]),
    15: (64.0, [192.0, 128.0, 64.0]),
    16: (128.0, None),
    17: (128.0, None),
}
NAMES = {
    "mlxp_core": ["Run", "__version__", "current_run", "start_run"],
    "mlxp_core.artifacts": ["register_artifact_type"],
    "mlxp_core.reader": [
        "Aggregation",
        "Artifact",
        "AvgStd",
        "Best",
        "GroupedRuns",
        "Last",
        "MeanCI",
        "Median",
        "Problem",
        "Quantiles",
        "Reader",
        "Reduction",
        "Run",
        "Runs",
        "compile_query",
        "scan_metrics",
        "scan_runs",
    ],
    "hydra_plugins.mlxp.callback": ["MlxpCallback"],
    "hydra_plugins.mlxp.config": ["resolve"],  # in pickles of task functions: the resolver that the settings use
    "hydra_plugins.mlxp.launcher": ["MlxpLauncher"],
    "hydra_plugins.mlxp.sweeper": ["MlxpSweeper"],
}
# a pickle of Hydra's state and of functions: for the Python, Hydra and OmegaConf that made it
READS_PICKLE = (sys.version_info[:2], version("hydra-core")[:4], version("omegaconf")[:4]) == ((3, 11), "1.3.", "2.3.")


def variables(folder: Path) -> dict[str, str]:
    """A user's shell, as the fixture ``environment`` has it; `mlxp` and `python` are those of the tests."""
    kept = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "HYDRA_FULL_ERROR"}}
    return {
        **kept,
        "MLXP_LOCAL_SPOOL": str(folder / "spool"),
        "PATH": f"{warm_python().bin}:{Path(sys.executable).parent}:{kept['PATH']}",
        "PYTHONWARNINGS": "ignore",
    }


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Mlxp:
    """The command, in an old project that no test changes."""
    folder = tmp_path_factory.mktemp("old")
    return Mlxp(Project(lay_out(folder), variables(folder)), folder / "cache")


@pytest.fixture
def old(tmp_path: Path) -> Iterator[Mlxp]:
    """The command, in an old project that is the test's own."""
    project = Project(lay_out(tmp_path), variables(tmp_path))
    yield Mlxp(project, tmp_path / "cache")
    stop_local_queues(project.environment)


def losses(run: Path) -> list[float]:
    """As the metric file of a run, or of an attempt, has them."""
    return [json.loads(line)["loss"] for line in (run / "metrics/train.json").read_text().splitlines()]


def code_in(folder: Path) -> str:
    """Which version of the program lies there."""
    (line,) = (line for line in (folder / "main.py").read_text().splitlines() if line.startswith("CODE"))
    return line


def by_hand(project: Project, script: Path, code: int = 0, **environment: str) -> str:
    """Run a script, from another folder; give what it prints."""
    command = ["bash", str(script)]
    done = subprocess.run(
        command,
        cwd=project.dir.parent,
        env={**project.environment, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stdout


@pytest.mark.parametrize(("module", "name"), [(module, name) for module, names in NAMES.items() for name in names])
def test_a_name_that_users_import_is_there(module: str, name: str) -> None:
    """Bug: a module is moved or a name changed, and every user's script, configuration or pickle breaks."""
    assert hasattr(importlib.import_module(module), name)


def test_the_reader_exports_no_less_than_it_did() -> None:
    """Bug: `from mlxp_core.reader import *` gives less than before."""
    assert set(NAMES["mlxp_core.reader"]) <= set(importlib.import_module("mlxp_core.reader").__all__)


def test_the_launcher_that_a_run_names_is_there(kept: Mlxp) -> None:
    """Bug: the `_target_` in mlxp.yaml of old runs leads nowhere."""
    target = read_yaml(kept.project.logs / "1/metadata/mlxp.yaml")["launcher"]["_target_"]
    module, _, name = target.rpartition(".")
    assert hasattr(importlib.import_module(module), name)


def test_the_reader_has_configurations_metrics_and_statuses(kept: Mlxp) -> None:
    """Bug: an old field, metric file or digest is passed over, or read as something else."""
    runs = scan_runs(kept.project.logs).collect()
    rows = runs.select("id", "config.lr", "train.loss").rows()
    assert rows == [(run, lr, values) for run, (lr, values) in LOSSES.items()]
    assert runs["config.same"].to_list() == [None if run == 13 else lr for run, (lr, _) in LOSSES.items()]
    assert runs["config.words"].to_list() == [["a", "b"] if run == 13 else None for run in LOSSES]
    assert runs["info.status"].to_list() == [row[0] for row in RUNS.values()]
    assert runs["info.attempt"].to_list() == [row[2] for row in RUNS.values()]
    assert runs["info.logger.log_id"].to_list() == list(LOSSES)
    assert runs["info.hydra.overrides"].to_list() == [None if run == "13" else row[5] for run, row in RUNS.items()]
    assert [(row["id"], row["info.error.type"]) for row in runs.to_dicts() if row["info.error.type"]] == [
        (3, "FileNotFoundError"),
        (10, "FileNotFoundError"),
    ]


def test_the_reader_reads_old_yaml_without_the_digest(tmp_path: Path) -> None:
    """Bug: fields of info.yaml and config.yaml are understood in the digest alone."""
    project = lay_out(tmp_path)
    with_digest = scan_runs(project / "logs").collect().rows()
    for digest in project.glob("logs/*/metadata/digest.jsonl"):
        digest.unlink()
    assert scan_runs(project / "logs").collect().rows() == with_digest


def test_the_reader_finds_old_runs_by_queries_and_loads_what_they_left(kept: Mlxp) -> None:
    """Bug: the columns of old runs have other names, so users' queries and notebooks find nothing."""
    reader = Reader(kept.project.logs)
    assert reader.problems == []
    found = reader.filter("info.status == 'COMPLETE' & config.lr < 1 & info.version_manager.snapshot == 'worktree'")
    (run,) = found
    assert (run["id"], run["train.loss"]) == (11, [2.25, 1.5, 0.75])
    assert run["artifact.json.result"].load() == {"lr": 0.75, "code": "uncommitted"}
    assert run["artifact.pickle.checkpoint"].load() == 3
    lines = scan_metrics(kept.project.logs, "train").collect()
    assert lines.filter(lines["id"] == 4).select("step", "loss").rows() == [(0, 3.0), (1, 2.0), (2, 1.0)]


def test_status_is_what_it_was(kept: Mlxp) -> None:
    """Bug: an old run that failed, was lost or waits to be submitted has another status, or reason."""
    fields = ("status", "job", "attempt", "exit_code", "reason", "overrides")
    rows = kept.rows(MLXP_LOG_DIR="logs")
    assert {run: tuple(row[field] for field in fields) for run, row in rows.items()} == RUNS
    assert not any(row["last_known"] for row in rows.values())


def test_logs_shows_each_attempt(kept: Mlxp) -> None:
    """Bug: what an earlier attempt printed, in metadata/attempts, is not found."""
    assert kept("logs", "4", "--stdout").stdout == "code first, attempt 2, from step 1\n"
    assert kept("logs", "4", "--stdout", "--attempt", "1").stdout == "code first, attempt 1, from step 0\n"
    assert "FileNotFoundError: there is no data/of_4 yet" in kept("logs", "4", "--attempt", "1").stdout
    assert "its output went to the terminal" in kept("logs", "13").stderr


@pytest.mark.parametrize(("run", "name"), [(3, "first"), (5, "second"), (11, "uncommitted"), (12, "second")])
def test_checkout_gives_the_code_of_a_run(kept: Mlxp, tmp_path: Path, run: int, name: str) -> None:
    """Bug: version_manager of old runs, or the refs that hold what was not committed, are looked for elsewhere."""
    kept("checkout", str(run), str(tmp_path / "code"))
    assert code_in(tmp_path / "code") == f'CODE = "{name}"'
    assert (tmp_path / "code/notes.txt").exists() == (run == 11)


def test_runs_that_did_not_complete_run_again_from_where_they_were(old: Mlxp) -> None:
    """Bug: script.sh calls what has another name now; an attempt starts anew, or is taken for another one."""
    project = old.project
    for number in (3, 5, 7):
        (project.dir / f"data/of_{number}").touch()
    by_hand(project, project.logs / "3/script.sh", code=1)  # the copy of its code is not there: an attempt, too
    assert old.rows("3")["3"]["attempt"] == 2
    old("rerun", "3", "6-9", "--wait")
    rows = old.rows("3", "6-9")
    assert {run: (row["status"], row["attempt"]) for run, row in rows.items()} == {
        "3": ("COMPLETE", 3),
        "6": ("COMPLETE", 1),
        "7": ("COMPLETE", 2),
        "8": ("COMPLETE", 1),
        "9": ("COMPLETE", 1),
    }
    runs = [project.logs / run for run in rows]
    assert [(run / "log.stdout").read_text() for run in runs] == [
        "code first, attempt 3, from step 1\n",
        "code second, attempt 1, from step 0\n",
        "code second, attempt 2, from step 1\n",
        "code second, attempt 1, from step 0\n",
        "code second, attempt 1, from step 0\n",
    ]
    assert list(map(losses, runs)) == [[3 * lr, 2 * lr, lr] for lr in (0.125, 4, 16, 3, 6)]
    assert losses(project.logs / "3/metadata/attempts/1") == [0.375]
    # of the launch that was killed before it could submit 8 and 9
    assert list((project.logs / ".mlxp/launches").iterdir()) == []
    old("rerun", "4", "--complete", "--wait")
    assert old.rows("4")["4"]["attempt"] == 3
    assert losses(project.logs / "4/metadata/attempts/1") == [3.0]
    assert losses(project.logs / "4/metadata/attempts/2") == losses(project.logs / "4") == [3.0, 2.0, 1.0]


@pytest.mark.skipif(not READS_PICKLE, reason="the pickle is of Python 3.11, Hydra 1.3 and OmegaConf 2.3")
def test_a_task_function_that_is_no_program_runs_again(old: Mlxp) -> None:
    """Bug: `python -m hydra_plugins.mlxp._payload`, or what its pickles name, has another name now."""
    (old.project.dir / "data/of_10").touch()
    old("rerun", "10", "--wait")
    assert old.rows("10")["10"]["attempt"] == 2
    assert (old.project.logs / "10/log.stdout").read_text() == "code second, attempt 2, from step 1\n"
    assert losses(old.project.logs / "10") == [1.125, 0.75, 0.375]


def test_scripts_in_the_queue_run(old: Mlxp) -> None:
    """Bug: a job that was submitted before an update fails after it: a variable of its scripts has another name."""
    project = old.project
    of_6 = read_yaml(project.logs / "6/metadata/submission.yaml")
    job = {"MLXP_LOCAL_JOB_ID": of_6["job_id"], "MLXP_LOCAL_TASK_ID": str(of_6["array_index"])}
    (project.dir / "data/of_5").touch()
    by_hand(project, Path(of_6["script"]), **job)
    assert (project.logs / "6/log.stdout").read_text() == "code second, attempt 1, from step 0\n"
    assert losses(project.logs / "6") == [12, 8, 4]
    assert by_hand(project, project.logs / "8/script.sh") == "code second, attempt 1, from step 0\n"
    assert losses(project.logs / "8") == [9, 6, 3]
    assert by_hand(project, project.logs / "15/script.sh") == "code second, attempt 2, from step 3\n"
    # MLXP_MAIN: of a program with two main functions
    assert [by_hand(project, project.logs / f"{run}/script.sh") for run in (16, 17)] == ["one\n", "two\n"]
    assert old.statuses("6", "8", "15-17") == ["COMPLETE"] * 5
    assert [row["attempt"] for row in old.rows("6", "8", "15-17").values()] == [1, 1, 2, 2, 2]


def test_variables_that_users_scripts_see_are_there(old: Mlxp, tmp_path: Path) -> None:
    """Bug: a template or a job script looks at a variable that has another name now."""
    seen, template, script = tmp_path / "seen", tmp_path / "template.sh", tmp_path / "job.sh"
    names = ("MLXP_LOCAL_JOB_ID", "MLXP_LOCAL_TASK_ID", "MLXP_ATTEMPT", "MLXP_PACKED")
    look = f"echo {' '.join(f'${{{name}-none}}' for name in names)} >>{seen}\n"
    template.write_text(f"#!/bin/bash\n{look}")
    options = ("hydra.launcher.pack=2", "hydra.launcher.wait=true", f"hydra.launcher.template={template}")
    old.project.run("-m", "hydra/launcher=mlxp_local", "lr=5,7,9", *options)
    assert sorted(seen.read_text().splitlines()) == ["1 1 1 1", "1 1 1 1", "1 2 1 1"]
    seen.unlink()
    script.write_text(JOB.format(seen=seen))
    mlxpsub = Path(sys.executable).with_name("mlxpsub")
    old.project.popen_and_end([str(mlxpsub), str(script)])
    old.project.wait_for_end(21)
    assert seen.read_text().splitlines() == ["set 0 1", "set none 0"]  # under mlxpsub, and in the job


def test_prune_keeps_what_waits_and_what_it_removes_is_made_again(old: Mlxp) -> None:
    """Bug: the copies of old runs are not found, or one that an unsubmitted run needs goes; or cannot be made again."""
    rows = [json.loads(line) for line in old("snapshots", "--json").stdout.splitlines()]
    assert sorted((row["snapshot"], row["runs"], row["needed_by"], row["problem"]) for row in rows) == [
        ("commit", ["5", "6", "7", "8", "9", "10", "14", "15", "16", "17"], ["8", "9"], ""),
        ("worktree", ["11"], [], ""),
    ]
    copies = {row["snapshot"]: Path(row["path"]) for row in rows}
    assert "run 8-9 needs it" in old("snapshots", "prune").stdout
    assert (copies["commit"].is_dir(), copies["worktree"].exists()) == (True, False)
    old("rerun", "11", "--complete", "--wait")
    assert code_in(copies["worktree"]) == 'CODE = "uncommitted"'
    assert (old.project.logs / "11/log.stdout").read_text() == "code uncommitted, attempt 2, from step 3\n"
    assert losses(old.project.logs / "11") == [2.25, 1.5, 0.75]


def test_the_sweeper_knows_old_runs(old: Mlxp) -> None:
    """Bug: every point of an old sweep runs once more, or its unfinished runs are left for ever."""
    sweep = ("-m", "hydra/launcher=mlxp_local", "hydra/sweeper=mlxp", "hydra.launcher.wait=true", *SKIP)
    said = old.project.run(*sweep, "lr=32,0.5,3,5")
    text = said.stdout + said.stderr
    assert "skipped 1 job, for there is a run that is COMPLETE: run 14" in text
    assert "its code is another version or not known (hydra.sweeper.skip_any_code=true takes it): run 1" in text
    assert "run again, in the folders of their unfinished runs: run 8" in text
    assert "2 of 4 jobs new" in text
    assert old.statuses("8", "18-19") == ["COMPLETE"] * 3
    configs = [read_yaml(old.project.logs / f"{run}/metadata/config.yaml")["lr"] for run in (18, 19)]
    assert configs == [0.5, 5]

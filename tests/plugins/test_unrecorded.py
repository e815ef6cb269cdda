"""hydra/callbacks=mlxp_off and MLXP_MODE=off: the same program, with nothing recorded."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from support import Project

OFF = "hydra/callbacks=mlxp_off"
PROGRAM = """\
import hydra
from mlxp_core import current_run


@hydra.main(version_base=None, config_path="conf", config_name="config")
def main(cfg):
    run = current_run()
    run.log_metrics({"loss": 1.0}, log_name="train")
    run.log_checkpoint(1)
    print(run, run.config["seed"], run.original_path("x"))


if __name__ == "__main__":
    main()
"""


@pytest.fixture
def program(project: Project) -> Project:
    project.write(**{"main.py": PROGRAM})
    project.commit()
    return project


def folders(project: Project, top: str) -> list[str]:
    """Folders of runs that Hydra has made, with digits as 0."""
    paths = sorted(project.dir.glob(f"{top}/**/.hydra"))
    return [re.sub(r"\d", "0", str(path.parent.relative_to(project.dir))) for path in paths]


@pytest.mark.parametrize(("arguments", "mode"), [([OFF], "on"), (["hydra/callbacks=mlxp"], "off"), ([], "off")])
def test_a_run_is_not_recorded_and_lies_where_hydra_puts_it(program: Project, arguments: list[str], mode: str) -> None:
    """Bug: a program with current_run() cannot run plainly; or a folder called `{log_dir}` in the place of outputs."""
    program.environment["MLXP_MODE"] = mode
    done = program.run(*arguments, "seed=3") if arguments else program.run(OFF, "seed=3")
    assert done.stdout == f"<NullRun: keeps nothing> 3 {program.dir / 'x'}\n"
    assert done.stderr == ""
    assert folders(program, "outputs") == ["outputs/0000-00-00/00-00-00"]
    assert {path.name for path in program.dir.iterdir()} == {".git", ".gitignore", "conf", "main.py", "outputs"}


@pytest.mark.parametrize("launcher", ["basic", "joblib"])
@pytest.mark.parametrize(("callback", "mode"), [("mlxp_off", "on"), ("mlxp", "off")])
def test_the_jobs_of_a_multirun_are_not_recorded(program: Project, callback: str, mode: str, launcher: str) -> None:
    """Bug: as above, of a sweep: all jobs in one folder, or the second recorded."""
    program.environment["MLXP_MODE"] = mode
    program.run("-m", f"hydra/callbacks={callback}", f"hydra/launcher={launcher}", "seed=3,4")
    assert folders(program, "multirun") == ["multirun/0000-00-00/00-00-00/0"] * 2
    assert not program.logs.exists()


def test_folders_of_the_users_own_stay(program: Project) -> None:
    """Bug: what is not recorded is put where nobody asked for it."""
    program.environment["MLXP_MODE"] = "off"
    program.run("hydra/callbacks=mlxp", "hydra.run.dir=mine")
    program.run("-m", "hydra/callbacks=mlxp", "hydra.sweep.dir=ours", "hydra.sweep.subdir='s${seed}'", "seed=3,4")
    assert folders(program, "mine") == ["mine"]
    assert sorted(path for path in os.listdir(program.dir / "ours") if path != "multirun.yaml") == ["s3", "s4"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["-m", OFF, "hydra/launcher=mlxp_local", "seed=3,4"],
        [OFF, "hydra/launcher=mlxp_local", "hydra.launcher.single=submit"],
    ],
)
def test_a_launcher_of_ours_does_not_submit_what_nobody_records(program: Project, arguments: list[str]) -> None:
    """Bug: jobs that train for a day on the cluster, COMPLETE, without a metric."""
    done = program.run(*arguments, code=1)
    assert done.stderr.startswith("ConfigurationError: a launcher of this pack keeps")
    assert not program.logs.exists()


def test_a_job_that_was_submitted_is_recorded_whatever_the_node_says(program: Project) -> None:
    """Bug: MLXP_MODE=off in the shell start-up of a node empties the runs of it."""
    template = "export MLXP_MODE=off\npython main.py\n"
    program.write(**{"job.sh": template})
    program.run(
        "-m", "hydra/launcher=mlxp_local", "hydra.launcher.template=job.sh", "hydra.launcher.wait=true", "seed=3"
    )
    assert json.loads((program.logs / "1" / "metrics" / "train.json").read_text()) == {"loss": 1.0}


def test_a_word_that_means_nothing_ends_the_program(program: Project) -> None:
    """Bug: Hydra's warning of a callback, and a program that runs without a record by a typing error."""
    program.environment["MLXP_MODE"] = "none"
    done = program.run("hydra/callbacks=mlxp", code=1)
    assert "ConfigurationError: MLXP_MODE=none means nothing" in done.stderr


def test_nothing_to_record_leaves_no_temporary_folder(program: Project, tmp_path: Path) -> None:
    """Bug: /tmp fills with the folders of runs that keep nothing."""
    program.environment["TMPDIR"] = str(tmp_path)
    program.run(OFF)
    assert not list(tmp_path.glob("mlxp-off-*"))

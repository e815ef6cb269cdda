"""hydra/callbacks=mlxp: how every kind of run starts and ends, in programs run as a user runs them."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf
from support import PATIENCE, Project, read_yaml, until

from hydra_plugins.mlxp._callbacks import take_values_over
from mlxp_core.runs.layout import RunDir

CALLBACK = "hydra/callbacks=mlxp"


def test_a_run_gets_a_number_and_a_folder_that_explains_it(project: Project) -> None:
    """Bug: a missing field, a path of another run, a configuration that is not the one that ran."""
    project.run(CALLBACK, "seed=3", "optimizer=adam")
    info = project.info(1)
    assert info["status"] == "COMPLETE"
    assert info["start_time"] < info["end_time"]
    assert info["logger"] == {"log_id": 1, "log_dir": str(project.logs / "1")}
    assert info["hostname"] == socket.gethostname()
    assert info["command"] == [*project.command, CALLBACK, "seed=3", "optimizer=adam"]
    assert info["work_dir"] == str(project.dir)
    assert info["current_file_path"] == str(project.dir / "main.py")
    assert info["hydra"] == {"job_name": "main", "overrides": ["seed=3", "optimizer=adam"]}
    metadata = project.logs / "1" / "metadata"
    assert read_yaml(metadata / "config.yaml") == {
        "optimizer": {"lr": 0.01, "betas": [0.9, 0.99]},
        "seed": 3,
        "msg": "hello",
        "do": None,
        "flag": None,
    }
    assert read_yaml(metadata / "environment.yaml")["executable"] == project.command[0]
    assert (project.logs / "1" / ".hydra" / "config.yaml").exists()
    lines = (project.logs / "1" / "metrics" / "train.json").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"loss": 3.0, "step": 0},
        {"loss": 3.01, "step": 1},
        {"loss": 3.02, "step": 2},
    ]


@pytest.mark.parametrize(
    ("do", "code", "status", "kind", "message"),
    [
        ("exit0", 0, "COMPLETE", None, None),
        ("exit3", 3, "FAILED", "SystemExit", "3"),
        ("raise", 1, "FAILED", "ValueError", "no luck"),
    ],
)
def test_the_end_of_a_run_is_recorded_and_its_exit_code_is_its_own(
    project: Project, do: str, code: int, status: str, kind: str | None, message: str | None
) -> None:
    """Bug: Hydra 1.3 tells no callback of sys.exit: RUNNING for ever; or 0 for a failure."""
    project.run(CALLBACK, f"do={do}", code=code)
    info = project.info(1)
    error = info.get("error", {})
    assert (info["status"], error.get("type"), error.get("message")) == (status, kind, message)
    if kind:
        assert "main.py" in error["traceback"]


@pytest.mark.parametrize(
    ("number", "kind"), [(signal.SIGINT, "KeyboardInterrupt"), (signal.SIGTERM, "SIGTERM")], ids=["Ctrl-C", "SIGTERM"]
)
def test_a_run_that_is_stopped_says_so_and_dies_of_the_signal(
    project: Project, tmp_path: Path, number: int, kind: str
) -> None:
    """Bug of MLXP 1.0.5: its SIGTERM handler exits with 0, and the run is RUNNING for ever."""
    flag = tmp_path / "flag"
    process = project.start(CALLBACK, "do=wait", f"flag='{flag}'")
    until(flag.exists)
    assert project.info(1)["status"] == "RUNNING"
    process.send_signal(number)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == -number
    info = project.info(1)
    assert (info["status"], info["error"]["type"]) == ("CANCELLED", kind)


@pytest.mark.parametrize("message", ["os.fsdecode(b'caf\\xe9')", "type('E', (), {'__str__': None})()"])
def test_an_error_that_cannot_be_written_as_it_is_is_still_recorded(project: Project, message: str) -> None:
    """Bug: a file name that is no UTF-8 in the message: the status stays RUNNING."""
    main = (project.dir / "main.py").read_text()
    project.write(**{"main.py": main.replace('ValueError("no luck")', f"ValueError({message})")})
    project.run(CALLBACK, "do=raise", code=1)
    assert (project.info(1)["status"], project.info(1)["error"]["type"]) == ("FAILED", "ValueError")


def test_a_forked_child_that_raises_does_not_end_its_parents_run(project: Project) -> None:
    """Bug: FAILED, by a worker, while the training goes on."""
    main = (project.dir / "main.py").read_text()
    fork = "    if os.fork() == 0:\n        raise ValueError('child')\n    os.wait()\n"
    show = "    print(open(run.layout.info).read())\n"
    project.write(**{"main.py": main.replace("    if cfg.do ==", f"{fork}{show}    if cfg.do ==", 1)})
    done = project.run(CALLBACK)
    assert "status: RUNNING" in done.stdout
    assert project.info(1)["status"] == "COMPLETE"


def test_a_multirun_with_hydras_own_launcher_is_a_run_a_job(project: Project) -> None:
    """Bug: ids allocated twice (resolved again), jobs in one folder, or a folder for the multirun itself."""
    project.run("-m", CALLBACK, "optimizer.lr=1,2", "seed=5,6")
    assert project.runs() == ["1", "2", "3", "4"]
    configs = [read_yaml(project.logs / name / "metadata" / "config.yaml") for name in project.runs()]
    assert [(config["optimizer"]["lr"], config["seed"]) for config in configs] == [(1, 5), (1, 6), (2, 5), (2, 6)]
    assert [project.info(name)["status"] for name in project.runs()] == ["COMPLETE"] * 4
    hydra = read_yaml(project.logs / "3" / ".hydra" / "hydra.yaml")["hydra"]
    assert (hydra["sweep"]["subdir"], hydra["runtime"]["output_dir"]) == ("3", str(project.logs / "3"))


def test_a_multirun_in_joblibs_processes_is_recorded_in_each(project: Project) -> None:
    """Bug: the callback arrives as a pickle, in a process that has not registered the resolver."""
    project.run("-m", CALLBACK, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "seed=1,2,3,4,5")
    assert project.runs() == ["1", "2", "3", "4", "5"]
    seeds = [read_yaml(project.logs / name / "metadata" / "config.yaml")["seed"] for name in project.runs()]
    assert sorted(seeds) == [1, 2, 3, 4, 5]
    assert {project.info(name)["status"] for name in project.runs()} == {"COMPLETE"}


def test_a_job_of_joblib_that_exits_is_recorded(project: Project) -> None:
    """Bug: the hook for SystemExit is set in the launching process only."""
    process = project.start("-m", CALLBACK, "hydra/launcher=joblib", "hydra.launcher.n_jobs=1", "do=exit3")
    process.communicate(timeout=PATIENCE)
    assert process.returncode != 0
    assert (project.info(1)["status"], project.info(1)["error"]["message"]) == ("FAILED", "3")


def test_ctrl_c_cancels_the_runs_of_joblibs_workers_even_of_one_that_was_killed_first(project: Project) -> None:
    """Bug: joblib kills its workers on Ctrl-C, now and then before one has written that it was interrupted.

    The second worker is killed here by the test, so that it never writes.
    """
    arguments = ("-m", CALLBACK, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "do=wait", "seed=1,2")
    with project.start(*arguments, "flag=flag-${seed}", new_session=True) as process:
        until(lambda: all((project.dir / f"flag-{seed}").exists() for seed in (1, 2)))
        os.kill(project.info(2)["process_id"], signal.SIGSTOP)  # it cannot see the interrupt, only be killed
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=PATIENCE)
    assert process.returncode == -signal.SIGINT
    assert [project.info(name)["status"] for name in project.runs()] == ["CANCELLED", "CANCELLED"]
    assert project.info(2)["error"]["type"] == "KeyboardInterrupt"


def test_a_failing_job_of_a_multirun_leaves_the_others_as_they_are(project: Project) -> None:
    """Bug: a status of one job written into another's folder."""
    project.run("-m", CALLBACK, "do=null,raise", code=1)
    assert [project.info(name)["status"] for name in project.runs()] == ["COMPLETE", "FAILED"]


def test_a_run_dir_of_the_users_own_wins(project: Project) -> None:
    """Bug: hydra.run.dir overridden, or a number allocated beside it."""
    project.run(CALLBACK, "hydra.run.dir=my/place")
    assert not project.logs.exists()
    info = read_yaml(project.dir / "my" / "place" / "metadata" / "info.yaml")
    assert info["status"] == "COMPLETE"
    assert info["logger"] == {"log_id": "place", "log_dir": str(project.dir / "my" / "place")}


def test_hydras_own_numbers_of_jobs_are_ids_from_0_on(project: Project) -> None:
    """Bug: the first job of `hydra.sweep.subdir=${hydra.job.num}`, Hydra's default, has no id, and sorts last."""
    main = (project.dir / "main.py").read_text()
    project.write(**{"main.py": main.replace("    if cfg.do ==", "    print('id', run.id)\n    if cfg.do ==", 1)})
    done = project.run("-m", CALLBACK, "seed=5,6", "hydra.sweep.dir=sweep", "hydra.sweep.subdir=${hydra.job.num}")
    assert [line for line in done.stdout.splitlines() if line.startswith("id ")] == ["id 0", "id 1"]
    logged = [read_yaml(project.dir / "sweep" / name / "metadata" / "info.yaml")["logger"]["log_id"] for name in "01"]
    assert logged == [0, 1]
    rows = project.run("-m", CALLBACK, "seed=7", "hydra.sweep.dir=sweep")
    assert rows.returncode == 0
    assert sorted(path.name for path in (project.dir / "sweep").iterdir() if path.name.isdigit()) == ["0", "1", "2"]


def test_a_second_run_in_the_users_own_folder_puts_the_first_aside(project: Project) -> None:
    """Bug: a run disappears under the next one, their metrics mixed."""
    project.run(CALLBACK, "hydra.run.dir=place", "seed=1")
    project.run(CALLBACK, "hydra.run.dir=place", "seed=2")
    place = project.dir / "place"
    assert read_yaml(place / "metadata" / "info.yaml")["attempt"] == 2
    assert json.loads((place / "metrics" / "train.json").read_text().splitlines()[0])["loss"] == 2.0
    earlier = place / "metadata" / "attempts" / "1"
    assert json.loads((earlier / "metrics" / "train.json").read_text().splitlines()[0])["loss"] == 1.0
    assert read_yaml(earlier / "metadata" / "config.yaml")["seed"] == 1


def test_the_log_directory_can_be_chosen(project: Project) -> None:
    """Bug: log_dir that only one of run.dir and sweep.dir follows."""
    project.run(CALLBACK, "hydra.callbacks.mlxp.log_dir=elsewhere/deep")
    project.run("-m", CALLBACK, "hydra.callbacks.mlxp.log_dir=elsewhere/deep", "seed=1,2")
    project.run("-m", CALLBACK, "hydra.sweep.dir=elsewhere/deep", "seed=1")
    assert {"1", "2", "3", "4"} <= set(os.listdir(project.dir / "elsewhere" / "deep"))


def test_the_jobs_of_hydras_own_launcher_go_where_their_configuration_says(project: Project) -> None:
    """Bug: hydra.sweep.dir as the multirun's own configuration has it, for all of its jobs."""
    project.run("-m", CALLBACK, "hydra.sweep.dir='{log_dir}/lr-${optimizer.lr}'", "optimizer.lr=1.5,2.5,1.5")
    for place, lr in (("lr-1.5/1", 1.5), ("lr-2.5/1", 2.5), ("lr-1.5/2", 1.5)):
        assert read_yaml(project.logs / place / "metadata" / "config.yaml")["optimizer"]["lr"] == lr


def test_a_folder_of_the_users_own_may_have_numbers_as_well(project: Project) -> None:
    """Bug: {id} taken for a name."""
    project.run(CALLBACK, "hydra.run.dir='mine/{id}'")
    project.run(CALLBACK, "hydra.run.dir='mine/{id}'")
    assert [read_yaml(project.dir / "mine" / name / "metadata" / "info.yaml")["status"] for name in "12"] == [
        "COMPLETE"
    ] * 2


def test_hydras_change_of_directory_is_kept(project: Project) -> None:
    """Bug: run folder relative to the directory that Hydra has changed into."""
    done = project.run(CALLBACK, "hydra.job.chdir=true")
    assert json.loads(done.stdout)["cwd"] == str(project.logs / "1")
    assert project.info(1)["status"] == "COMPLETE"


def test_a_launcher_without_multirun_is_said_to_submit_nothing(project: Project) -> None:
    """Bug: a training on the login node by somebody who forgot -m."""
    done = project.run("hydra/launcher=mlxp_slurm")
    assert "without -m (--multirun) nothing is submitted: hydra/launcher=mlxp_slurm is not used" in done.stdout
    assert project.info(1)["status"] == "COMPLETE"


@pytest.mark.parametrize(
    "arguments", [("--cfg", "hydra", "--resolve"), ("--cfg", "all"), ("--info", "config"), ("--help",)]
)
def test_looking_at_the_configuration_makes_no_run(project: Project, arguments: tuple[str, ...]) -> None:
    """Bug: an id is allocated whenever the interpolation is resolved."""
    project.run(CALLBACK, *arguments)
    assert not project.logs.exists()


def test_where_nothing_can_be_recorded_the_program_ends_and_says_why(project: Project) -> None:
    """Bug: `no run is being recorded`, with the callback on."""
    project.write(logs="a file")
    for arguments in ((CALLBACK,), ("-m", CALLBACK, "seed=1,2")):
        done = project.run(*arguments, code=1)
        assert f"StoreError: no runs can be recorded in the log directory {project.logs}" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_program_without_the_callback_is_told_how_to_switch_it_on(project: Project) -> None:
    """Bug: AttributeError on None in the user's own line."""
    process = project.start()
    _, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "NoActiveRunError" in stderr
    assert CALLBACK in stderr


def test_a_killed_run_is_lost_and_not_running(project: Project, tmp_path: Path) -> None:
    """Bug: RUNNING for ever after SIGKILL. Told by the reader, which asks for the process on its own host."""
    from mlxp_core.runs.layout import RunDir
    from mlxp_core.runs.state import load_status

    flag = tmp_path / "flag"
    process = project.start(CALLBACK, "do=wait", f"flag='{flag}'")
    until(flag.exists)
    assert load_status(RunDir(project.logs / "1")) == "RUNNING"
    process.kill()
    process.communicate(timeout=PATIENCE)
    assert load_status(RunDir(project.logs / "1")) == "LOST"


def test_the_callback_loads_nothing_heavy(project: Project) -> None:
    """Bug: an import at module level that every run pays for."""
    program = (project.dir / "main.py").read_text()
    heavy = ("polars", "pandas", "git", "numpy", "torch", "lark", "mlxp_core.reader")
    extra = (
        f'import sys\n    loaded = [name for name in {heavy!r} if name in sys.modules]\n    print("loaded", loaded)\n'
    )
    project.write(**{"main.py": program.replace("    run = current_run()\n", f"    run = current_run()\n    {extra}")})
    done = subprocess.run(
        [sys.executable, "main.py", CALLBACK],
        cwd=project.dir,
        env=project.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "loaded []" in done.stdout


@pytest.mark.parametrize(
    ("lr", "told"), [(0.1, []), (0.2, ["as at the submission, and not as they would be resolved now: lr"])]
)
def test_a_job_has_the_values_that_were_submitted_and_says_which_would_be_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, lr: float, told: list[str]
) -> None:
    """Bug: an empty line in each job's log; or a value that changed since, and nobody can find out why it counts."""
    run = RunDir(tmp_path)
    run.metadata.mkdir()
    run.config.write_text(yaml.safe_dump({"lr": lr, "seed": 3}))
    monkeypatch.setenv("LR", "0.1")
    config = OmegaConf.create({"lr": "${oc.decode:${oc.env:LR}}", "seed": 3})
    with caplog.at_level(logging.DEBUG):
        take_values_over(config, run)
    assert config == {"lr": lr, "seed": 3}
    assert [record.getMessage() for record in caplog.records] == told

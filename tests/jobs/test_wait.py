"""A launch that waits: for a sweeper that goes by what jobs return, for somebody at a terminal, for a notebook."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import hydra
import numpy
import pytest
from support import Project, Terminal, read_yaml, until

from mlxp_core.recording import lifecycle
from mlxp_core.runs import return_value
from mlxp_core.runs.layout import RunDir

SEARCHED = """\
import hydra


@hydra.main(version_base=None, config_path="conf", config_name="config")
def main(cfg):
    if cfg.do == "fail" and cfg.seed > 2:
        raise ValueError("no luck")
    return (cfg.seed - 2) ** 2 + 0.5


if __name__ == "__main__":
    main()
"""
# by Python's and NumPy's generators, so that the same seeds are tried each time, some of them twice
SEARCH = (
    *("-m", "hydra/sweeper=optuna", "hydra/sweeper/sampler=random", "hydra.sweeper.sampler.seed=1"),
    *("hydra.sweeper.n_trials=8", "hydra.sweeper.n_jobs=4", "seed=range(0,5)"),
)


def tried(project: Project) -> dict[int, str]:
    """The runs' statuses by what was tried."""
    folders = [project.logs / name for name in project.runs()]
    return {
        read_yaml(folder / "metadata/config.yaml")["seed"]: read_yaml(folder / "metadata/info.yaml")["status"]
        for folder in folders
    }


ZEN = """\
from hydra_zen import launch, make_config

LOCAL = ("hydra/launcher=mlxp_local", "hydra.launcher.wait=true")


def square(cfg):
    return cfg.x**2


def started(*overrides, **more):
    return launch(make_config(x=1), square, overrides=[*overrides], version_base="1.3", **more)


if __name__ == "__main__":
    (many,) = started("x=1,2,3", *LOCAL, multirun=True)
    one = started("x=5", *LOCAL, "hydra.launcher.single=submit")
    here = started("x=6")
    (swept,) = started("x=4,5", *LOCAL, "hydra/sweeper=mlxp", multirun=True)
    print([job.return_value for job in many], one.return_value, here.return_value, [job.return_value for job in swept])
"""

# the plugin is one for 1.3: on 1.4 it gets its sampler as a configuration, with any launcher
needs_optuna = pytest.mark.skipif(not hydra.__version__.startswith("1.3."), reason="hydra-optuna-sweeper is for 1.3")


@needs_optuna
@pytest.mark.parametrize("launcher", ["mlxp_local", pytest.param("mlxp_slurm", marks=pytest.mark.slurm)])
def test_optuna_finds_the_minimum_of_what_jobs_return(project: Project, launcher: str) -> None:
    """Bug: handles instead of values; the values of other jobs; a launch that leaves before there are any."""
    project.write(**{"main.py": SEARCHED})
    project.commit()
    project.run(*SEARCH, f"hydra/launcher={launcher}")
    expected = {0: 4.5, 1: 1.5, 2: 0.5, 3: 1.5, 4: 4.5}
    for name in project.runs():
        seed = read_yaml(project.logs / name / "metadata/config.yaml")["seed"]
        assert json.loads((project.logs / name / "metadata/return_value.json").read_text()) == {"value": expected[seed]}
    assert len(project.runs()) == 8
    found = read_yaml(project.logs / "optimization_results.yaml")
    assert found["best_value"] == min(expected[seed] for seed in tried(project))
    assert expected[found["best_params"]["seed"]] == found["best_value"]


@needs_optuna
def test_a_trial_that_fails_is_one_for_optuna_too(project: Project) -> None:
    """Bug: one job that fails ends the search; or counts as a value."""
    project.write(**{"main.py": SEARCHED})
    project.commit()
    command = (*SEARCH, "hydra/launcher=mlxp_local", "do=fail")
    project.run(*command, "hydra.sweeper.max_failure_rate=0.9")
    statuses = tried(project)
    assert statuses == {seed: "FAILED" if seed > 2 else "COMPLETE" for seed in statuses}
    assert set(statuses.values()) == {"FAILED", "COMPLETE"}
    best = min((seed - 2) ** 2 + 0.5 for seed in statuses if seed <= 2)
    assert read_yaml(project.logs / "optimization_results.yaml")["best_value"] == best
    assert " is FAILED (ValueError: no luck). What it printed: " in project.run(*command, code=1).stderr


def test_a_launch_leaves_unless_its_sweeper_needs_values(project: Project, tmp_path: Path) -> None:
    """Bug: `auto` that waits for what nobody asks; or a value of another type that is taken for true."""
    flag = tmp_path / "flag"
    for sweeper in ("basic", "mlxp"):
        project.run("-m", "hydra/launcher=mlxp_local", f"hydra/sweeper={sweeper}", "do=hold", f"flag='{flag}'")
    done = project.run("-m", "hydra/launcher=mlxp_local", "hydra.launcher.wait=perhaps", code=1)
    assert "hydra.launcher.wait=perhaps is none of auto, true, false" in done.stderr
    flag.touch()
    for run in (1, 2):
        project.wait_for_end(run)


def test_ctrl_c_asks_and_the_jobs_are_cancelled(project: Project, tmp_path: Path) -> None:
    """Bug: jobs that go on although their user said no; a stack trace of forty lines after that."""
    terminal = Terminal(project, *_HOLD, f"flag='{tmp_path / 'flag'}'")
    terminal.answer("2 RUNNING, of 2 runs", "\x03")
    terminal.answer("(l) ", "c\n")
    terminal.answer("cancelled: 2 jobs", "")
    code, shown = terminal.end()
    assert code == -signal.SIGINT  # else a loop of the shell's around the program would go on
    assert "Traceback" not in shown
    for run in (1, 2):
        until(lambda run=run: project.status(run) == "CANCELLED")


def test_ctrl_c_asks_and_goes_on_or_leaves(project: Project, tmp_path: Path) -> None:
    """Bug: Ctrl-C that ends the jobs of the night; one that ends the wait although the answer is to go on."""
    terminal = Terminal(project, *_HOLD, f"flag='{tmp_path / 'flag'}'")
    terminal.answer("2 RUNNING, of 2 runs", "\x03")
    terminal.answer("(l) ", "w\n")
    terminal.answer("2 RUNNING, of 2 runs", "\x03")
    terminal.answer("(l) ", "\n")
    code, shown = terminal.end()
    assert "the jobs go on" in shown
    assert "Traceback" not in shown
    assert code == -signal.SIGINT
    assert [project.status(run) for run in (1, 2)] == ["RUNNING", "RUNNING"]
    (tmp_path / "flag").touch()
    for run in (1, 2):
        project.wait_for_end(run)
        assert project.status(run) == "COMPLETE"


_HOLD = ("-m", "hydra/launcher=mlxp_local", "hydra.launcher.wait=true", "do=hold", "seed=1,2")

NOTEBOOK = """\
import sys

from hydra._internal.hydra import Hydra
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from mlxp_core import current_run

sys.path.insert(0, "{library}")
import amounts

factor = 10
OmegaConf.register_new_resolver("twice", lambda number: 2 * number)
ConfigStore.instance().store("schema", {{"x": 1, "y": "${{twice:${{x}}}}", "now": "${{now:%f}}"}})
hydra = Hydra.create_main_hydra_file_or_module(None, "hydra.test_utils.a_module", None, "notebook")


def train(cfg):
    current_run().log_metrics({{"y": cfg.y}}, log_name="train")
    print(cfg.now)
    return {{"y": factor * cfg.y + amounts.ONE, "seen": [cfg.x, None, "a"]}}


(results,) = hydra.multirun(
    config_name="schema", task_function=train, overrides=["x=3,4", "hydra/launcher=mlxp_local", *sys.argv[1:]]
)
for job in results:
    print(job.return_value)
"""


def test_a_value_that_cannot_be_kept_is_said(project: Project) -> None:
    """Bug: handles where values were expected, and no word of why."""
    project.write(**{"lib/amounts.py": "ONE = 1\n"})
    project.commit()
    code = NOTEBOOK.format(library=project.dir / "lib").replace('return {"y"', 'return {1} or {"y"')
    done = project.popen_and_end([project.command[0], "-c", code, "hydra.launcher.wait=true"])
    assert "not kept, of run 1-2: builtins.set: a set is no plain value. Return numbers" in done
    assert done.splitlines()[-1].startswith("<SubmittedJob run 2, local job ")
    assert done.splitlines()[-1].endswith("; what it returned was not kept: builtins.set: a set is no plain value>")


@pytest.mark.parametrize("snapshot", ["auto", "none"])
def test_a_task_function_without_a_program_travels(project: Project, snapshot: str) -> None:
    """Bug: a closure, a resolver, a module of the notebook's sys.path, or a value of the launch that gets lost."""
    project.write(**{"lib/amounts.py": "ONE = 1\n"})
    project.commit()
    code = NOTEBOOK.format(library=project.dir / "lib")
    options = ["hydra.launcher.wait=true", f"hydra.launcher.snapshot={snapshot}"]
    done = project.popen_and_end([project.command[0], "-c", code, *options])
    assert done.splitlines()[-2:] == ["{'y': 61, 'seen': [3, None, 'a']}", "{'y': 81, 'seen': [4, None, 'a']}"]
    for name, value in (("1", 6), ("2", 8)):
        folder = project.logs / name
        assert json.loads((folder / "metrics/train.json").read_text())["y"] == value
        # as at the submission
        assert (folder / "log.stdout").read_text().strip() == read_yaml(folder / "metadata/config.yaml")["now"]
        assert ("copy" in project.info(int(name))["version_manager"]) == (snapshot == "auto")


def test_a_notebooks_function_that_was_changed_is_other_code(project: Project) -> None:
    """Bug: results of the function before the change, for the commit is the same; and none, for a line was put in."""
    project.write(**{"lib/amounts.py": "ONE = 1\n"})
    project.commit()
    code = NOTEBOOK.format(library=project.dir / "lib")
    options = ["hydra.launcher.wait=true", "hydra/sweeper=mlxp", "hydra.sweeper.skip=[COMPLETE]"]
    code = code.replace("(results,) = ", "").replace("in results:", "in []:")
    changed = code.replace("factor * cfg.y", "factor - cfg.y")
    assert changed != code
    for text, runs in ((code, "12"), ("# a line more\n" + code, "12"), (changed, "1234")):
        project.popen_and_end([project.command[0], "-c", text, *options])
        assert project.runs() == list(runs)


def test_what_cannot_be_pickled_is_said_before_anything_is_written(project: Project) -> None:
    """Bug: a stack trace of pickle; run folders without jobs."""
    code = NOTEBOOK.format(library=project.dir).replace("import amounts", "amounts = __import__('threading').Lock()")
    done = project.popen_and_end([project.command[0], "-c", code, "hydra.launcher.snapshot=none"], code=1)
    assert "the task function cannot be sent to a job" in done
    assert project.runs() == []


def test_what_hydra_zen_launches_is_submitted(project: Project) -> None:
    """Bug: single=submit that runs here, in a folder named {log_dir}: hydra-zen does not start runs as Hydra does."""
    project.write(**{"main.py": ZEN})
    project.commit()
    done = project.run()
    assert done.stdout.splitlines()[-1] == "[1, 4, 9] 25 36 [16, 25]"
    squares = [
        json.loads((project.logs / name / "metadata/return_value.json").read_text())["value"] for name in project.runs()
    ]
    assert squares == [1, 4, 9, 25, 16, 25]
    assert not (project.dir / "{log_dir}").exists()


def test_a_payload_of_another_user_is_not_loaded(project: Project, as_root: None) -> None:
    """Bug: whoever may write into a log directory runs programs as others."""
    project.write(**{"lib/amounts.py": "ONE = 1\n"})
    project.commit()
    code = NOTEBOOK.format(library=project.dir / "lib")
    project.popen_and_end([project.command[0], "-c", code, "hydra.launcher.wait=true"])
    os.chown(project.logs / "1/metadata/payload.pkl", 65534, -1)
    command = project.info(1)["command"]
    done = project.popen_and_end([project.command[0], "-m", "hydra_plugins.mlxp._payload", command[-1]], code=1)
    assert "belongs to user 65534" in done


class Opaque:
    """No plain value."""


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.25, '{"value": 0.25}'),
        (float("nan"), '{"value": "NaN"}'),
        ({"a": (1, "b", None, True)}, '{"value": {"a": [1, "b", null, true]}}'),
        (numpy.float32(0.5), '{"value": 0.5}'),
        (numpy.array(3), '{"value": 3}'),
    ],
)
def test_what_is_plain_is_kept(tmp_path: Path, value: object, text: str) -> None:
    """Bug: a number of NumPy that is no number; a tuple that fails."""
    run = RunDir(tmp_path)
    run.metadata.mkdir()
    return_value.save_return_value(run, value)
    assert run.return_value.read_text() == text
    return_value.save_return_value(run, None)
    assert not run.return_value.exists()
    assert return_value.load_return_value(run) is None


@pytest.mark.parametrize("value", [Opaque(), {1: 2}, "x" * (1 << 20), numpy.zeros(2)], ids=type)
def test_of_what_is_not_plain_it_is_said_what_it_was(tmp_path: Path, value: object) -> None:
    """Bug: a pickle in the log directory; a job that fails for what it returns."""
    run = RunDir(tmp_path)
    run.metadata.mkdir()
    return_value.save_return_value(run, value)
    with pytest.raises(return_value.ReturnValueNotStoredError, match=type(value).__name__):
        return_value.load_return_value(run)


def test_a_value_that_cannot_be_written_keeps_no_run_from_being_complete(tmp_path: Path) -> None:
    """Bug: RUNNING for ever, for a disk that was full."""
    run = lifecycle.start_recording(RunDir(tmp_path / "1"), config={})
    run.layout.return_value.mkdir()
    lifecycle.end_recording(run, None, 5)
    assert read_yaml(run.layout.info)["status"] == "COMPLETE"

"""The folders of runs, in process: what stands for them in Hydra's configuration, and what it becomes."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from hydra_plugins.mlxp import _run_dirs
from hydra_plugins.mlxp._names import LAUNCHER, RUN_ID
from mlxp_core.errors import ConfigurationError
from mlxp_core.runs.layout import LogDir


def config(folder: Path, **hydra: Any) -> DictConfig:
    """A composed configuration, which nobody may change, as Hydra's."""
    usual = {
        "runtime": {"cwd": str(folder)},
        "run": {"dir": "{log_dir}/{id}"},
        "sweep": {"dir": "{log_dir}", "subdir": "{id}"},
        "job": {"num": "???"},
        "callbacks": {"mlxp": {"log_dir": "logs"}},
        "launcher": {"_target_": "basic"},
        "overrides": {"hydra": ["hydra.mode=MULTIRUN"]},
    }
    made = OmegaConf.create({"hydra": {**usual, **hydra}})
    OmegaConf.set_readonly(made, value=True)
    OmegaConf.set_struct(made, value=True)
    return made


OUR_LAUNCHER = {"_target_": LAUNCHER, "log_dir": "elsewhere"}


@pytest.mark.parametrize(
    ("hydra", "folder"),
    [
        ({}, "logs/1"),
        ({"callbacks": {"mlxp": {"log_dir": "out"}}}, "out/1"),
        ({"callbacks": {"mlxp": {"log_dir": None}}}, "logs/1"),
        ({"callbacks": None}, "logs/1"),
        ({"launcher": OUR_LAUNCHER}, "elsewhere/1"),
        ({"launcher": OUR_LAUNCHER, "callbacks": {"mlxp": {"log_dir": "out"}}}, "out/1"),
        ({"launcher": {"log_dir": "elsewhere"}}, "logs/1"),
        ({"run": {"dir": "a/{id}"}}, "a/1"),
        ({"run": {"dir": "{log_dir}/a/{id}"}}, "logs/a/1"),
        ({"run": {"dir": "/abs/{log_dir}/x"}}, "/abs/logs/x"),
        ({"run": {"dir": "my runs/b"}}, "my runs/b"),
        ({"run": {"dir": "${hydra.launcher._target_}/b"}}, "basic/b"),
        ({"run": {"dir": "{id}/b"}}, "{id}/b"),
    ],
)
def test_a_single_runs_folder_is_a_number_of_its_own_or_what_its_user_says(
    tmp_path: Path, hydra: dict[str, Any], folder: str
) -> None:
    """Bug: runs of one program in two log directories; a number beside the folder that the user named."""
    composed = config(tmp_path, **hydra)
    chosen = _run_dirs.choose_run_dir(composed)
    assert chosen == tmp_path / folder
    assert composed.hydra.run.dir == str(chosen)  # where Hydra puts it, from wherever it asks
    assert chosen.is_dir() is (chosen.name == "1")


def test_the_next_run_has_the_next_number(tmp_path: Path) -> None:
    """Bug: two runs in one folder."""
    assert [_run_dirs.choose_run_dir(config(tmp_path)).name for _ in range(3)] == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("directory", "overrides"),
    [
        ("{log_dir}/{id}", []),
        ("my runs/x", ["hydra.sweep.dir='{cwd}/my runs'", "hydra.sweep.subdir='x'"]),
        ("a/../b/./x", ["hydra.sweep.dir='{cwd}/b'", "hydra.sweep.subdir='x'"]),
        ("/abs/x", ["hydra.sweep.dir='/abs'", "hydra.sweep.subdir='x'"]),
        ("{log_dir}/it's", ["hydra.sweep.dir='{cwd}/logs'", r"hydra.sweep.subdir='it\'s'"]),
    ],
)
def test_a_folder_of_the_users_own_is_the_one_jobs_of_a_multirun(
    tmp_path: Path, directory: str, overrides: list[str]
) -> None:
    """Bug: a run that is submitted lies in another folder than the same run here."""
    composed = config(tmp_path, run={"dir": directory})
    assert _run_dirs.sweep_overrides(composed) == [line.replace("{cwd}", str(tmp_path)) for line in overrides]
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("override", "lines"),
    [
        ("hydra.run.dir=a/b/c", ["hydra.sweep.dir='a/b'", "hydra.sweep.subdir='c'"]),
        ("hydra.run.dir=a/b/c//", ["hydra.sweep.dir='a/b'", "hydra.sweep.subdir='c'"]),
        ("+hydra.run.dir='a b/c'", ["hydra.sweep.dir='a b'", "hydra.sweep.subdir='c'"]),
        ('++hydra.run.dir="a/c"', ["hydra.sweep.dir='a'", "hydra.sweep.subdir='c'"]),
        ("hydra.run.dir=c", ["hydra.sweep.dir='.'", "hydra.sweep.subdir='c'"]),
        ("hydra.run.dir=/c", ["hydra.sweep.dir='/'", "hydra.sweep.subdir='c'"]),
        ("hydra.run.dir='out/{id}'", ["hydra.sweep.dir='out'"]),
        ("hydra.run.dirs=a", ["hydra.run.dirs=a"]),
        ("xhydra.run.dir=a", ["xhydra.run.dir=a"]),
        ("x='hydra.run.dir=a'", ["x='hydra.run.dir=a'"]),
    ],
)
def test_under_mlxpsub_a_folder_of_the_users_own_is_what_a_multirun_has(override: str, lines: list[str]) -> None:
    """Bug: hydra.run.dir that a multirun does not look at; the overrides after it lost."""
    given = ["a=1", override, "b=2"]
    overrides, parsed = list(given), OverridesParser.create().parse_overrides(given)
    _run_dirs.rewrite_run_dir(overrides, parsed)
    assert overrides == ["a=1", *lines, "b=2"]
    assert [one.input_line for one in parsed] == overrides  # Hydra 1.4 goes by these


def test_the_parsed_overrides_may_be_none_or_others(tmp_path: Path) -> None:
    """Bug: Hydra 1.3, which has no list of them, ends by an error; or another list is cut in the wrong place."""
    for parsed in (None, [], ["x"], ("a", "b")):
        before = list(parsed) if parsed is not None else None
        overrides = ["a=1", "hydra.run.dir=x/y"]
        _run_dirs.rewrite_run_dir(overrides, parsed)
        assert overrides == ["a=1", "hydra.sweep.dir='x'", "hydra.sweep.subdir='y'"]
        assert (list(parsed) if parsed is not None else None) == before
    for nothing in (None, "hydra.run.dir=x"):
        _run_dirs.rewrite_run_dir(nothing, None)


@pytest.mark.parametrize(
    "override", ["hydra.run.dir=a/${x}", "+hydra.run.dir=a/${x}", "hydra.run.dir=", """hydra.run.dir='it"s'"""]
)
def test_a_folder_that_is_known_only_later_is_refused_under_mlxpsub(override: str) -> None:
    """Bug: all runs in a folder that is called ${x}."""
    with pytest.raises(
        SystemExit, match=r"^ConfigurationError: .*hydra\.run\.dir=.*under mlxpsub a program is a multirun"
    ):
        _run_dirs.rewrite_run_dir(["a=1", override], None)


@pytest.mark.parametrize(
    ("sweep", "resolved", "added"),
    [
        (
            {"dir": "{log_dir}", "subdir": "{id}"},
            {"dir": "logs", "subdir": RUN_ID},
            ["hydra.sweep.dir='logs'", f"hydra.sweep.subdir={RUN_ID}"],
        ),
        (
            {"dir": "{log_dir}/a b/${hydra.job.name}", "subdir": "x"},
            {"dir": "logs/a b/${hydra.job.name}", "subdir": "x"},
            ["hydra.sweep.dir='logs/a b/${hydra.job.name}'"],
        ),
        (
            {"dir": "${hydra.mine}/a", "subdir": "${hydra.job.num}"},
            {"dir": "logs/b/a", "subdir": "${hydra.job.num}"},
            ["hydra.sweep.dir='logs/b/a'"],
        ),
        (
            {"dir": "mine/${hydra.job.name}", "subdir": "{id}x"},
            {"dir": "mine/${hydra.job.name}", "subdir": "{id}x"},
            [],
        ),
        ({"dir": "mine", "subdir": "{id}"}, {"dir": "mine", "subdir": RUN_ID}, [f"hydra.sweep.subdir={RUN_ID}"]),
    ],
)
def test_jobs_of_a_multirun_are_told_of_the_folders_by_its_overrides(
    tmp_path: Path, sweep: dict[str, str], resolved: dict[str, str], added: list[str]
) -> None:
    """Bug: jobs in `{log_dir}`, literally; an interpolation that each job resolves for itself, resolved for all."""
    composed = config(tmp_path, sweep=sweep, mine="{log_dir}/b", job={"name": "main"})
    _run_dirs.resolve_sweep_dir(composed)
    assert OmegaConf.to_container(composed)["hydra"]["sweep"] == resolved
    given = OmegaConf.to_container(composed)["hydra"]["overrides"]["hydra"]
    assert given == ["hydra.mode=MULTIRUN", *added]
    _run_dirs.resolve_sweep_dir(composed)  # by callback and launcher: the second finds nothing to do
    assert len(composed.hydra.overrides.hydra) == len(given)


def job(directory: str) -> Any:
    return SimpleNamespace(hydra=lambda _: directory, raw=lambda _: "out/${x}")


def test_jobs_of_a_sweep_lie_in_one_log_directory(tmp_path: Path) -> None:
    """Bug: the runs of half of the jobs are looked for where they are not."""
    composed = config(tmp_path, sweep={"dir": "of the multirun"})
    assert _run_dirs.log_dir_of(composed, [job("a"), job("a")]) == LogDir(tmp_path / "a")
    assert _run_dirs.log_dir_of(composed, [job("/abs")]) == LogDir(Path("/abs"))
    assert _run_dirs.log_dir_of(composed, []) == LogDir(tmp_path / "of the multirun")
    with pytest.raises(ConfigurationError) as caught:
        _run_dirs.log_dir_of(composed, [job("a"), job("a"), job("b")])
    assert str(caught.value).startswith("hydra.sweep.dir=out/${x} is a for one job of this sweep, and b for another,")


def test_a_job_of_a_multirun_has_one_number_from_when_it_starts(tmp_path: Path) -> None:
    """Bug: a folder for each look at the configuration, or two for one job."""
    waiting = config(tmp_path, sweep={"dir": "out", "subdir": RUN_ID})
    assert _run_dirs.run_id_of(waiting) == "{id}"
    assert os.listdir(tmp_path) == []
    for number in ("1", "2"):
        starting = config(tmp_path, sweep={"dir": "out", "subdir": RUN_ID}, job={"num": 0})
        assert _run_dirs.run_id_of(starting) == number
        assert starting.hydra.sweep.subdir == number
    assert sorted(name for name in os.listdir(tmp_path / "out") if name.isdigit()) == ["1", "2"]

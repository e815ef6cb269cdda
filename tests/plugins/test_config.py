"""Composed configurations: taken apart, compared, pinned; and what can be set."""

from __future__ import annotations

import itertools
import warnings
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf, base

from hydra_plugins.mlxp import _omegaconf
from hydra_plugins.mlxp._command_line import Program, job_overrides
from hydra_plugins.mlxp._omegaconf import (
    as_resolved,
    defer_to_jobs,
    differences,
    pin,
    resolved,
    restore_deferred,
    unresolved,
)
from hydra_plugins.mlxp._options import checked
from hydra_plugins.mlxp._run_dirs import quote
from hydra_plugins.mlxp.config import LauncherConf, SweeperConf
from mlxp_core.errors import ConfigurationError
from mlxp_core.plain_values import to_builtins
from mlxp_core.runs.layout import RunDir
from mlxp_core.scheduler.variables import is_of_a_job
from mlxp_core.sweeps.interpolation import job_dependent_paths


class Colour(Enum):
    RED = 1


def config(text: str) -> DictConfig:
    made = OmegaConf.create(text)
    assert isinstance(made, DictConfig)
    return made


def test_the_application_is_resolved_without_hydras_node() -> None:
    """Bug: hydra's node, or unresolved text, in config.yaml."""
    made = config("a: 1\nb: ${a}\nc: {d: ['${b}', x]}\nhydra: {run: {dir: y}}")
    assert resolved(made) == {"a": 1, "b": 1, "c": {"d": [1, "x"]}}
    assert unresolved(made) == {"a": 1, "b": "${a}", "c": {"d": ["${b}", "x"]}}


def test_what_cannot_be_resolved_here_keeps_its_text_and_the_rest_is_resolved() -> None:
    """Bug: a variable that only the job has (SLURM_JOB_ID) stops the launch, or all of the configuration stays raw."""
    made = config("a: 1\nb: ${a}\nj: ${oc.env:NO_SUCH_VARIABLE}\nl: ['${a}', '${oc.env:NO_SUCH_VARIABLE}']\nm: ???")
    text = "${oc.env:NO_SUCH_VARIABLE}"
    assert resolved(made) == {"a": 1, "b": 1, "j": text, "l": [1, text], "m": "???"}


def test_values_that_depend_on_a_job_keep_their_text() -> None:
    """Bug: the default of a job's variable, or a value made of it, frozen for all jobs."""
    made = config(
        "id: ${oc.env:SLURM_JOB_ID,none}\nuser: ${oc.env:USER,none}\n"
        "n: {dir: '/scratch/${id}', beside: '${.dir}/a', top: '${user}'}\nother: ${n.top}"
    )
    left = as_resolved(made, job_dependent_paths(OmegaConf.to_container(made), is_of_a_job))
    assert left["id"] == "${oc.env:SLURM_JOB_ID,none}"
    assert left["n"]["beside"] == "${.dir}/a"
    assert left["other"] == left["user"] != "${user}"


def test_enums_paths_and_odd_keys_become_plain() -> None:
    """Bug: `cannot represent an object` when the YAML is written."""
    made = OmegaConf.create({"c": Colour.RED, "p": Path("/x"), 3: {True: None}, "b": b"x"})
    assert resolved(made) == {"c": "RED", "p": "/x", 3: {True: None}, "b": "b'x'"}


def test_what_a_resolver_gives_is_a_value_and_the_same_in_the_job() -> None:
    """Bug: a configuration in which an array is text without its middle, and a set is another one in the job."""
    import numpy as np

    gives = {"array": np.arange(3000), "set": {"b", "a", 1}, "seed": np.int64(5), "masked": np.ma.masked}
    for name, value in gives.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # OmegaConf 2.4 would have another name of it, which 2.3 has for another
            OmegaConf.register_new_resolver(f"mlxp_test_{name}", lambda value=value: value)
    try:
        made = OmegaConf.create({name: f"${{mlxp_test_{name}:}}" for name in gives})
        submitted = resolved(made)
        assert submitted == {"array": [*range(3000)], "set": [1, "a", "b"], "seed": 5, "masked": None}
        assert pin(made, submitted) == []
    finally:
        for name in gives:
            OmegaConf.clear_resolver(f"mlxp_test_{name}")


def test_an_interpolation_has_the_value_that_it_had_at_submission(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: a seed from the submitting shell's environment, another one, or none, in the job."""
    text = "seed: ${oc.env:MLXP_TEST_SEED,0}\nn: {x: ['${oc.env:MLXP_TEST_SEED,0}']}\nplain: 7\nname: run-${seed}"
    monkeypatch.setenv("MLXP_TEST_SEED", "5")
    submitted = resolved(config(text))
    monkeypatch.delenv("MLXP_TEST_SEED")
    made = config(text)
    OmegaConf.set_struct(made, value=True)
    OmegaConf.set_readonly(made, value=True)
    assert pin(made, submitted) == ["seed", "n.x.0", "name"]
    assert OmegaConf.to_container(made, resolve=True) == {"seed": "5", "n": {"x": ["5"]}, "plain": 7, "name": "run-5"}


def test_what_only_the_job_has_is_resolved_in_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: the text `${oc.env:…}` as a value."""
    made = config("j: ${oc.env:MLXP_TEST_JOB}")
    submitted = resolved(made)
    monkeypatch.setenv("MLXP_TEST_JOB", "42")
    assert pin(made, submitted) == []
    assert made.j == "42"


@pytest.mark.parametrize(
    ("before", "after", "lines"),
    [
        ({"a": {"b": 1}}, {"a": {"b": 1}}, []),
        ({"a": {"b": 1}}, {"a": {"b": 2}}, ["a.b: 1 -> 2"]),
        ({"a": 1}, {}, ["a: 1 -> (not there)"]),
        ({}, {"a": None}, ["a: (not there) -> None"]),
        ({"a": [1, 2]}, {"a": [1]}, ["a.1: 2 -> (not there)"]),
        ({"a": 1}, {"a": "1"}, ["a: 1 -> '1'"]),
        ({"a": 1}, {"a": True}, ["a: 1 -> True"]),
        ({"a": {}}, {"a": []}, ["a: {} -> []"]),
        ({"a": float("nan")}, {"a": float("nan")}, []),
    ],
)
def test_differences_are_named(before: dict[str, Any], after: dict[str, Any], lines: list[str]) -> None:
    """Bug: 1 == True == 1.0, or a missing key that equals None."""
    assert differences(before, after) == lines


def test_subclasses_of_plain_types_become_the_plain_type() -> None:
    """Bug: PyYAML refuses a str enum or numpy's float64."""
    import numpy as np

    plain = to_builtins({"f": np.float64(0.5), "t": (1, {2}), "c": Colour.RED})
    assert plain == {"f": 0.5, "t": [1, [2]], "c": "Colour.RED"}
    assert type(plain["f"]) is float


def test_a_job_is_told_its_folder_and_not_how_it_was_launched() -> None:
    """Bug: the job submits itself again, or hydra.sweep.dir of the launch is relative to the job's directory."""
    hydra = [
        "hydra/launcher=mlxp_slurm",
        "hydra.launcher.template=job.sh",
        "+hydra.launcher.x=1",
        "hydra.mode=MULTIRUN",
    ]
    hydra += ["hydra.sweep.dir=x", "hydra.job.num=3", "hydra.job.name=n", "hydra.run.dir=y", "hydra.verbose=true"]
    assert job_overrides(hydra, ["a=1", "+b='x y'"], run=RunDir(Path("/lo gs/12")), number=4) == [
        "hydra/launcher=mlxp_slurm",
        "hydra.job.name=n",
        "hydra.verbose=true",
        "a=1",
        "+b='x y'",
        "hydra.mode=RUN",
        "hydra.run.dir='/lo gs/12'",
        "hydra.sweep.dir='/lo gs'",
        "hydra.sweep.subdir=12",
        "hydra.job.num=4",
        "hydra.job.id=12",
    ]


@pytest.mark.parametrize(
    "text", ["/plain/1", "/a b", "/it's", '/say "x"', "/back\\", "/${x}", "/{a}", "/a,b", "", "1e5", "ünï"]
)
def test_a_quoted_string_is_what_hydra_reads(text: str) -> None:
    """Bug: a folder whose name Hydra's grammar reads as something else."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    override = OverridesParser.create().parse_override(f"x={quote(text)}")
    assert OmegaConf.create({"x": override.value()}).x == text


def test_the_command_of_a_job_starts_as_the_launching_one_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: -O or -m lost; --config-dir left pointing into the work tree."""
    monkeypatch.chdir(tmp_path)
    place = {tmp_path / "main.py": Path("/copy/main.py"), tmp_path / "extra": Path("/copy/extra")}.__getitem__
    script = Program(("-O",), tmp_path / "main.py", None, (("--config-name", "a"), ("--config-dir", "extra")))
    assert script.words("/py", place) == [
        *("/py", "-O", "/copy/main.py", "--config-name", "a", "--config-dir", "/copy/extra"),
    ]
    module = Program((), tmp_path / "pkg" / "app.py", "pkg.app", (("--config-path", "conf"),))
    assert module.words("/py", place) == ["/py", "-m", "pkg.app", "--config-path", "conf"]
    assert (script.called, module.called) == ("main.py", "pkg.app")


def test_what_jobs_resolve_stays_with_its_own_multirun() -> None:
    """Bug: a multirun whose launcher was never made leaves its header to the next one of the process."""
    first = config("launcher: {header: '${gpu}', setup: ['${gpu}', x]}")
    defer_to_jobs(first, "launcher", ("header", "setup"))
    assert first == {"launcher": {"header": None, "setup": []}}
    second = config("launcher: {header: 'plain', setup: []}")
    defer_to_jobs(second, "launcher", ("header", "setup"))
    restore_deferred(second, "launcher")
    assert second == {"launcher": {"header": "plain", "setup": []}}
    restore_deferred(first, "launcher")
    assert OmegaConf.to_container(first) == {"launcher": {"header": "${gpu}", "setup": ["${gpu}", "x"]}}


@pytest.mark.parametrize(
    ("cls", "given", "message"),
    [
        (LauncherConf, {"pack": "two"}, "key.pack=two: Value 'two' of type 'str' could not be converted to Integer"),
        (LauncherConf, {"setup": [None]}, "key.setup=[None]: Invalid type assigned"),
        (SweeperConf, {"repeat": {"seed": "x"}}, "key.repeat={'seed': 'x'}: Value 'x' of type 'str'"),
        (SweeperConf, {"batch": 1}, "key.batch=1: Key 'batch' not in 'SweeperConf'"),
    ],
)
def test_an_option_of_another_type_is_named_with_its_value(cls: type, given: dict[str, Any], message: str) -> None:
    """Bug: hydra.launcher.setup[0]=None; OmegaConf's own lines about object types."""
    with pytest.raises(ConfigurationError) as caught:
        checked(cls, given, "key")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_the_last_of_several_threads_gives_omegaconf_its_parser_back() -> None:
    """Bug: the first to enter leaves last, or first: another program's interpolations go through ours for good."""
    parser = base.parse
    for leave in itertools.permutations(range(3)):
        threads = [_omegaconf._parsed_once() for _ in range(3)]
        for thread in threads:
            thread.__enter__()
        for place in leave:
            assert base.parse is not parser
            threads[place].__exit__(None, None, None)
        assert base.parse is parser

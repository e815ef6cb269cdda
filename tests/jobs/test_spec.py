"""How a run is submitted, as its folder keeps it: read as it was written, and refused where nobody of us wrote it."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import read_yaml

from mlxp_core.errors import ConfigurationError
from mlxp_core.jobs.spec import SubmitSpec, load_specs, validate
from mlxp_core.runs.layout import RunDir
from mlxp_core.yaml_io import write_yaml

SPEC = SubmitSpec(
    scheduler="slurm",
    name="main",
    shebang="#!/bin/bash",
    header=("#SBATCH --time=1", "#SBATCH\t--mem=4G   # as text"),
    directory="/a b",
    array=False,
    max_parallel=3,
    pack=2,
    command_timeout=7.5,
    submit_timeout=11,
)

BAD: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("scheduler", "name", "shebang", "directory"), (None, 3, True, ["x"], {"a": 1})),
    "header": (None, 3, [3], [None], ["#SBATCH", ["x"]]),
    "array": (None, 1, "yes", [True]),
    "max_parallel": (0, -1, 1.5, "2", True, [2]),
    "pack": (None, 0, -1, 1.5, "2", True, [2]),
    **dict.fromkeys(("command_timeout", "submit_timeout"), (None, 0, -1.0, "5", True, [5])),
}


def kept(folder: Path, order: Any) -> RunDir:
    run = RunDir(folder)
    run.metadata.mkdir(parents=True, exist_ok=True)
    run.settings.write_text(yaml.safe_dump({"version": "0.1", "order": order}))
    return run


def test_a_spec_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Bug: a rerun without the throttle, the pack or a directive of the launch."""
    run = kept(tmp_path, {})
    write_yaml(run.settings, {"order": SPEC.plain})
    assert SubmitSpec.load(run) == SPEC
    assert read_yaml(run.settings)["order"]["header"] == list(SPEC.header)
    few = {key: SPEC.plain[key] for key in ("scheduler", "name", "shebang", "header", "directory")}
    loaded = SubmitSpec.load(kept(tmp_path, few))
    assert (loaded.array, loaded.max_parallel, loaded.pack) == (True, None, 1)
    assert (loaded.command_timeout, loaded.submit_timeout) == (60.0, 300.0)


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in BAD.items() for value in values])
def test_each_field_is_checked(tmp_path: Path, key: str, value: Any) -> None:
    """Bug: a stack trace of `mlxp rerun`, or a job that is not what was submitted, after an edit of one line."""
    run = kept(tmp_path, {**SPEC.plain, key: value})
    with pytest.raises(ConfigurationError, match=r"the order in .*mlxp\.yaml cannot be used"):
        SubmitSpec.load(run)


def test_every_field_has_bad_values_here() -> None:
    """Bug: a new field that nobody has thought to check."""
    assert set(BAD) == {item.name for item in fields(SubmitSpec)}


@pytest.mark.parametrize("key", ["scheduler", "name", "shebang", "header", "directory"])
def test_a_field_that_is_missing_is_an_error_of_the_file(tmp_path: Path, key: str) -> None:
    """Bug: KeyError: 'header'."""
    order = {name: value for name, value in SPEC.plain.items() if name != key}
    with pytest.raises(ConfigurationError, match=rf"cannot be used: .*{key}"):
        SubmitSpec.load(kept(tmp_path, order))


@pytest.mark.parametrize("order", [None, [], "x", 3])
def test_a_run_without_an_order_was_not_made_by_a_launcher(tmp_path: Path, order: Any) -> None:
    """Bug: TypeError for the run of a program that was started by hand."""
    with pytest.raises(ConfigurationError, match="was not made by a launcher"):
        SubmitSpec.load(kept(tmp_path, order))
    with pytest.raises(ConfigurationError, match="was not made by a launcher"):
        SubmitSpec.load(RunDir(tmp_path / "none"))


def test_of_several_runs_each_has_its_own(tmp_path: Path) -> None:
    """Bug: all runs are submitted as the first one, since files are compared to spare the parsing."""
    other = replace(SPEC, header=("#SBATCH --time=2",))
    runs = [kept(tmp_path / str(number), spec.plain) for number, spec in enumerate((SPEC, other, SPEC, other))]
    specs = load_specs(runs)
    assert specs == [SPEC, other, SPEC, other]
    assert specs[0] is specs[2]
    with pytest.raises(ConfigurationError, match="was not made by a launcher"):
        load_specs([*runs, RunDir(tmp_path / "none")])


FREE = replace(SPEC, array=True, max_parallel=None, pack=1, header=())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, None),
        ({"max_parallel": 1}, None),
        ({"array": False}, None),
        ({"pack": 1, "array": False}, None),
        ({"pack": 0}, r"pack=0: at least one"),
        ({"max_parallel": 2, "array": False}, r"max_parallel=2 is the throttle of an array"),
        ({"max_parallel": 2, "scheduler": "oar"}, r"oar cannot limit how many"),
        ({"scheduler": "oar"}, None),
        ({"header": ("#SBATCH -t 1", "#SBATCH --array=1-3")}, r"sets --array or -a itself"),
        ({"scheduler": "sge", "header": ("#$ -t 1-3",)}, r"sets -t itself"),
        ({"scheduler": "lsf", "header": ("#BSUB -J mine",)}, None),
        ({"scheduler": "lsf", "header": ("#BSUB -J 'mine[1-3]'",)}, r"sets -J itself"),
        ({"scheduler": "lsf", "header": ('#BSUB -J "mine[1-3]%2"',)}, r"sets -J itself"),
        ({"scheduler": "lsf", "header": ("#BSUB -J mine", "#BSUB -R 'span[hosts=1]'")}, None),
        ({"scheduler": "flux"}, None),
        ({"scheduler": "novel"}, r"there is no scheduler 'novel'"),
    ],
)
def test_what_cannot_be_submitted_is_found_out_before_anything_is_written(
    change: dict[str, Any], said: str | None
) -> None:
    """Bug: a thousand folders, and then a refusal; or a header refused that has no array."""
    if said is None:
        validate(replace(FREE, **change))
    else:
        with pytest.raises(ConfigurationError, match=said):
            validate(replace(FREE, **change))

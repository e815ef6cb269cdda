"""The number by which a run folder of a later version of the package is known, and left alone with a true message."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mlxp_core.runs.info import FORMAT, newer_format, pending_info, running_info
from mlxp_core.runs.layout import LogDir, RunDir
from mlxp_core.runs.state import RunState
from mlxp_core.versioning.copies import list_copies
from mlxp_core.yaml_io import write_yaml


@pytest.mark.parametrize("info", [{}, {"format": 1}, {"format": None}, {"format": "two"}, {"format": FORMAT}])
def test_folders_of_this_version_and_of_earlier_ones_are_understood(info: dict[str, Any]) -> None:
    """Bug: a folder from before there was a number is refused; or one that was edited by hand."""
    assert newer_format(info) == ""


def test_a_later_versions_folder_is_said_to_be_one(tmp_path: Path) -> None:
    """Bug: a rerun by rules that the folder no longer follows; its code pruned as nobody's."""
    run = RunDir(tmp_path / "1")
    run.metadata.mkdir(parents=True)
    copy = LogDir(tmp_path).code / ("c" * 40)
    copy.mkdir(parents=True)
    write_yaml(run.info, {"status": "COMPLETE", "format": 2})
    state = RunState.load(run)
    assert state.status == "COMPLETE"
    assert state.reason.startswith("a newer version of hydra-mlxp wrote it (format 2, and this version knows 1)")
    (found,) = list_copies(LogDir(tmp_path), [state]).copies
    assert found.needed == (run,)


def test_each_stage_writes_the_number(tmp_path: Path) -> None:
    """Bug: a job of this version goes on in a folder that says it is of an earlier one, which it no longer is."""
    run = RunDir(tmp_path / "1")
    assert pending_info(run, {}, 1)["format"] == 1
    assert running_info(run, {"format": 0}, 1, {}, {})["format"] == 1

"""A run that is not recorded: nothing but its folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlxp_core.recording.run import Run
from mlxp_core.runs.layout import RunDir


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(RunDir(tmp_path / "1"))

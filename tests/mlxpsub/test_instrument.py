"""A script that tells which of its commands runs: text in, text out, and what a shell makes of it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from scripts import parsed

from mlxp_core.mlxpsub.instrument import instrument, parallel_launchers

SCRIPT = """\
#!/bin/sh
#SBATCH --time=5
A=1
for s in 1 2; do
  echo $s
done
"""


def test_commands_are_announced_on_their_own_lines() -> None:
    """Bug: an error message whose line number is none of the user's file."""
    lines = instrument(parsed(SCRIPT), "/usr/bin/env", {}).split("\n")
    assert lines[:2] == ["", "#SBATCH --time=5"]
    assert lines[2].startswith("mlxp_env=/usr/bin/env; . ")
    assert lines[2].endswith(f"; mlxp_stand_in {' '.join(parallel_launchers())}; mlxp_at 0 && :; A=1")
    assert lines[3:] == ["mlxp_at 1 && :; for s in 1 2; do", "  echo $s", "done", ""]


@pytest.mark.parametrize("shell", [["bash"], ["dash"], ["bash", "-eu"], ["dash", "-eu"]])
def test_what_is_announced_changes_nothing(tmp_path: Path, shell: list[str]) -> None:
    """Bug: $? of a line of ours, `set -e` that ends at one, an export that is not noted, a launcher that allocates."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "srun").write_text('#!/bin/sh\necho stand-in "$@"\n')
    (tmp_path / "bin" / "srun").chmod(0o755)
    text = "#SBATCH --time=5\n! true\necho $?\nexport A='a b'\nPATH=$PATH\nsrun -n 2 'a  b'\necho $MLXP_SUB_AT\n"
    environment = {**os.environ, "MLXP_SUB": str(tmp_path)}
    command = [*shell, "-c", instrument(parsed(text), "/usr/bin/env", {})]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("1\nstand-in -n 2 a  b\n5\n", "")
    exported = [(tmp_path / f"variables.{number}").read_text().split("\0") for number in range(6)]
    assert ["A=a b" in names for names in exported] == [False, False, False, True, True, True]

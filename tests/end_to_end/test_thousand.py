"""A thousand jobs in one array, on a real Slurm and a real Grid Engine: submitted at once, run, asked after, read.

The programs are stand-ins of a few milliseconds, which leave what a logger leaves; a thousand with Python and Hydra
would take two cores 7 minutes. What submits, starts, records exit codes, follows and reads is the real thing.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import polars as pl
import pytest
from composed_runs import plan
from support import until

from mlxp_core.jobs import cancel, refresh, write
from mlxp_core.jobs import submit as submission
from mlxp_core.reader import scan_runs
from mlxp_core.runs.allocation import RunAllocator
from mlxp_core.runs.layout import LogDir
from mlxp_core.runs.state import RunState

COUNT = 1000
STAND_IN = """\
mkdir "$1/metrics"
echo "{\\"loss\\": $2}" >"$1/metrics/train.json"
sed 's/^status: PENDING$/status: COMPLETE/' "$1/metadata/info.yaml" >"$1/metadata/.info"
mv "$1/metadata/.info" "$1/metadata/info.yaml"
echo "seed $2"
"""


class Counted:
    """Commands of a scheduler, each of which is noted and then run."""

    def __init__(self, folder: Path, *names: str) -> None:
        self.noted = folder / "calls"
        folder.mkdir()
        self.noted.touch()
        for name in names:
            real = shutil.which(name)
            assert real, f"no {name}; start the schedulers with tests/run.sh --clusters"
            (folder / name).write_text(f'#!/bin/sh\necho {name} >>"{self.noted}"\nexec {real} "$@"\n')
            (folder / name).chmod(0o755)

    def take(self) -> list[str]:
        """The commands since the last time, in order."""
        names = self.noted.read_text().split()
        self.noted.write_text("")
        return names


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("scheduler", "submit", "others"),
    [
        pytest.param("slurm", "sbatch", ("squeue", "sacct", "scontrol"), marks=pytest.mark.slurm, id="slurm"),
        pytest.param("sge", "qsub", ("qstat", "qacct", "qconf"), marks=pytest.mark.sge, id="sge"),
    ],
)
def test_a_thousand_jobs_are_one_array_one_question_and_a_complete_table(
    scheduler: str, submit: str, others: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: a command for each job or each status; the last index of an array missed; a run that nobody started."""
    counted = Counted(tmp_path / "bin", submit, *others)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    program = tmp_path / "program.sh"
    program.write_text(STAND_IN)
    log_dir = LogDir(tmp_path / "logs")
    with RunAllocator(log_dir.path) as store:
        runs = store.allocate_block(COUNT)
    write.write_runs(plan(runs, scheduler, ("/bin/sh", str(program)), tmp_path))
    submitted = submission.submit(runs, log_dir)
    try:
        assert counted.take() == [submit]
        assert [one.array_index for one in submitted] == list(range(1, COUNT + 1))
        assert len({one.job_id for one in submitted}) == 1
        assert refresh.refresh_runs(runs) == []
        asked = counted.take()
        assert asked[0] == others[0]
        assert len(asked) == len(set(asked))  # sacct or qacct, too, for tasks that have ended already
        until(lambda: all(run.exit_code.exists() for run in runs), 360)
    finally:
        cancel.cancel_runs(runs)
    assert [RunState.load(run).status.value for run in runs] == ["COMPLETE"] * COUNT
    table = scan_runs(log_dir.path).select("config.seed", "info.status", "train.loss").sort("config.seed").collect()
    expected = pl.DataFrame(
        {
            "config.seed": range(COUNT),
            "info.status": ["COMPLETE"] * COUNT,
            "train.loss": [[float(seed)] for seed in range(COUNT)],
        }
    )
    assert table.equals(expected), table

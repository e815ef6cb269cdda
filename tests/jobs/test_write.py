"""The folders of runs that are about to be submitted: each with its own, and no run before it is whole."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from support import read_yaml

from mlxp_core import atomic_files
from mlxp_core.jobs.run_script import RunScriptSpec
from mlxp_core.jobs.spec import SubmitSpec
from mlxp_core.jobs.template import Template
from mlxp_core.jobs.write import PreparedRun, write_runs
from mlxp_core.runs.layout import LogDir, RunDir
from mlxp_core.runs.listing import list_runs

SPEC = SubmitSpec("slurm", "main", "#!/bin/bash", ("#SBATCH --time=1",), "/launch")


@pytest.fixture
def log_dir(tmp_path: Path) -> LogDir:
    (tmp_path / "logs").mkdir()
    return LogDir(tmp_path / "logs")


def prepared(log_dir: LogDir, number: int, **change: Any) -> PreparedRun:
    run = log_dir.run(number)
    config = {"lr": number}
    usual = PreparedRun(
        job=RunScriptSpec(run, f"n-{number}", ("python", "main.py", f"lr={number}"), "/copy", {}),
        template=Template(header=SPEC.header),
        spec=SPEC,
        config=config,
        config_unresolved=config,
        facts={"command": ["python", "main.py", f"lr={number}"]},
        settings={"version": "0.1", "launcher": {"wait": "auto"}},
    )
    return replace(usual, **change)


def test_each_run_has_its_own_although_what_is_alike_is_written_once(log_dir: LogDir) -> None:
    """Bug: the order of the run before, or its configuration, as these are not put into words anew."""
    other = replace(SPEC, header=("#SBATCH --time=2",), pack=2)
    write_runs(
        [
            prepared(log_dir, 1),
            prepared(log_dir, 2, spec=other, config_unresolved={"lr": "${x}"}),
            prepared(log_dir, 3, settings={"version": "0.1", "launcher": {"wait": True}}),
            prepared(log_dir, 4),
        ]
    )
    runs = [log_dir.run(number) for number in (1, 2, 3, 4)]
    settings = [read_yaml(run.settings) for run in runs]
    assert [kept["order"]["header"] for kept in settings] == [["#SBATCH --time=1"], ["#SBATCH --time=2"]] + [
        ["#SBATCH --time=1"]
    ] * 2
    assert [kept["order"]["pack"] for kept in settings] == [1, 2, 1, 1]
    assert [kept["launcher"]["wait"] for kept in settings] == ["auto", "auto", True, "auto"]
    assert [read_yaml(run.config) for run in runs] == [{"lr": number} for number in (1, 2, 3, 4)]
    assert [read_yaml(run.config_unresolved) for run in runs] == [{"lr": 1}, {"lr": "${x}"}, {"lr": 3}, {"lr": 4}]
    for number, run in enumerate(runs, start=1):
        info = read_yaml(run.info)
        assert (info["status"], info["attempt"], info["logger"]["log_id"]) == ("PENDING", 1, number)
        assert info["command"] == ["python", "main.py", f"lr={number}"]
        assert abs(datetime.fromisoformat(info["submit_time"]).timestamp() - time.time()) < 60
        assert f"exec python main.py lr={number}\n" in run.script.read_text()
        assert os.access(run.script, os.X_OK)


def test_a_run_that_has_started_before_waits_for_its_next_attempt(log_dir: LogDir) -> None:
    """Bug: PENDING as attempt 1, which has ended long ago."""
    run = log_dir.run(1)
    run.metadata.mkdir(parents=True)
    run.starts.write_text("a\nb\n")
    write_runs([prepared(log_dir, 1), prepared(log_dir, 2)])
    assert [read_yaml(log_dir.run(number).info)["attempt"] for number in (1, 2)] == [3, 1]


def whole(run: RunDir) -> bool:
    files = (run.config, run.config_unresolved, run.settings, run.script, run.digest)
    return all(file.exists() for file in files)


@pytest.mark.parametrize("written", [0, 1, 2, 3, 4, 6, 7, 8, 9, 10])  # 5 and 11: the digest, a cache, comes last
def test_a_run_is_none_before_all_of_it_is_there(
    log_dir: LogDir, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    """Bug: killed between two files: half a run is listed, is PENDING for ever, or is submitted without a script."""
    count = iter(range(99))
    write = atomic_files._write

    def full(temporary: Path, data: bytes, path: Path, *mode: int) -> None:
        if next(count) == written:
            write(temporary, data[: len(data) // 2], path, *mode)
            raise OSError(28, "No space left on device", str(path))
        write(temporary, data, path, *mode)

    with monkeypatch.context() as patched:
        patched.setattr(atomic_files, "_write", full)
        with pytest.raises(OSError, match="No space left"):
            write_runs([prepared(log_dir, 1), prepared(log_dir, 2)])
    listed = list_runs(log_dir)
    assert listed == ([log_dir.run(1)] if written > 5 else [])
    assert all(whole(run) for run in listed)
    left = [path.name for path in log_dir.path.rglob(".*") if path.is_file()]
    assert left == []
    write_runs([prepared(log_dir, 1), prepared(log_dir, 2)])
    assert list_runs(log_dir) == [log_dir.run(1), log_dir.run(2)]
    assert all(whole(run) for run in list_runs(log_dir))
    assert [json.loads(line) for line in log_dir.run(2).digest.read_text().splitlines()]

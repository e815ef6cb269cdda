"""Which runs are submitted again, and which are left; also in a log directory that others write to."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlxp_core.errors import ConfigurationError
from mlxp_core.jobs import resubmit as resubmit_module
from mlxp_core.jobs.launch_journal import resume_launch, runs_being_launched
from mlxp_core.jobs.resubmit import resubmit
from mlxp_core.jobs.spec import SubmitSpec
from mlxp_core.runs.layout import LogDir, RunDir
from mlxp_core.runs.process import current_user, this_process

ORDER = {"scheduler": "slurm", "name": "n", "shebang": "#!/bin/bash", "header": ["#SBATCH --time=1"], "directory": "/"}
SQUEUE = "#!/bin/sh\necho '7|N/A|RUNNING|None|/x/job.sh'\n"
SBATCH = "#!/bin/sh\necho 8\n"


@pytest.fixture
def log_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LogDir:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in (("squeue", SQUEUE), ("sbatch", SBATCH), ("sacct", "#!/bin/sh\n")):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return LogDir(tmp_path / "logs")


def now() -> str:
    return datetime.now().astimezone().isoformat()


def write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content))


def made(log_dir: LogDir, info: dict[str, Any], note: dict[str, Any], order: dict[str, Any] | None = None) -> RunDir:
    run = log_dir.run(1)
    write(run.info, {"attempt": 1, "logger": {"log_dir": str(log_dir.path)}, **info})
    common = {"scheduler": "slurm", "script": "/x/job.sh", "user": current_user(), "time": now(), "attempt": 1}
    write(run.submission, {**common, **note})
    write(run.settings, {"order": ORDER if order is None else order})
    run.script.write_text("#!/bin/bash\n")
    return run


def test_a_preempted_run_whose_job_has_not_ended_is_left_alone(log_dir: LogDir) -> None:
    """Bug: while script.sh copies results and then requeues the job, a second job of the same run is submitted."""
    run = made(log_dir, {"status": "PREEMPTED"}, {"job_id": "7"})
    run.starts.write_text("a start\n")
    result = resubmit(log_dir, [run], dry_run=True)
    assert list(result.skipped) == [run]
    assert "its job has not ended" in result.skipped[run]
    run.exit_code.write_text("75 1\n")
    assert resubmit(log_dir, [run], dry_run=True).runs == (run,)


def test_what_another_user_was_submitting_is_not_submitted_from_here(log_dir: LogDir) -> None:
    """Bug: this user's queue does not show the other one's job, which is taken for: it was not submitted."""
    run = made(log_dir, {"status": "PENDING"}, {"job_id": None, "user": "another", "time": "2026-01-01T00:00:00+00:00"})
    result = resubmit(log_dir, [run], dry_run=True)
    assert list(result.blocked) == [run]
    assert "submitted by another" in result.blocked[run]


def test_a_script_of_another_user_is_not_run(log_dir: LogDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: in a shared log directory `mlxp rerun` runs what somebody else has put there."""
    run = made(log_dir, {"status": "FAILED", "error": {"type": "x"}}, {"job_id": "5"})
    run.exit_code.write_text("1 1\n")
    assert resubmit(log_dir, [run], dry_run=True).runs == (run,)
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    assert "would run as you" in resubmit(log_dir, [run], dry_run=True).blocked[run]


@pytest.mark.parametrize(
    "change",
    [{"header": 3}, {"header": [3]}, {"name": None}, {"pack": "x"}, {"pack": 0}, {"more": 1}, {"max_parallel": -1}],
)
def test_an_order_that_no_launcher_wrote_is_refused_by_its_file(log_dir: LogDir, change: dict[str, Any]) -> None:
    """Bug: a stack trace of `mlxp rerun`."""
    run = made(log_dir, {"status": "FAILED"}, {"job_id": "5"}, {**ORDER, **change})
    with pytest.raises(ConfigurationError, match=r"mlxp\.yaml cannot be used"):
        SubmitSpec.load(run)
    write(run.settings, {"order": {"scheduler": "slurm"}})
    with pytest.raises(ConfigurationError, match=r"mlxp\.yaml cannot be used"):
        SubmitSpec.load(run)


def launch(log_dir: LogDir, number: int, **change: Any) -> None:
    run = log_dir.run(number)
    run.path.mkdir(parents=True, exist_ok=True)
    note = {"identity": "i", "time": now(), "process": {**this_process(), "process_start": 1}, "runs": [str(run.path)]}
    write(log_dir.launches / str(number) / "launch.yaml", {**note, **change})


def test_a_launch_that_ends_while_another_looks_is_no_error(log_dir: LogDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: its note is listed, and gone when the time of the file is asked for: the other launch fails."""
    launch(log_dir, 1)
    gone = log_dir.launches / "2"
    listed = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda path: iter([*listed(path), gone]))
    found = resume_launch(log_dir, "i")
    assert found is not None
    assert found.runs == (log_dir.run(1),)


@pytest.mark.parametrize(
    "change", [{"runs": ["/etc"]}, {"runs": 3}, {"process": 3}, {"time": None}, {"time": "2026-01-01"}, {"runs": [3]}]
)
def test_a_note_of_a_launch_that_cannot_be_used_is_passed_over(log_dir: LogDir, change: dict[str, Any]) -> None:
    """Bug: a launch writes its runs where somebody else's note leads; a stack trace of `mlxp rerun`."""
    launch(log_dir, 1, **change)
    assert resume_launch(log_dir, "i") is None
    assert runs_being_launched(log_dir) == {}


def test_the_longest_of_several_limits_is_waited_for(log_dir: LogDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: the shortest: a submit command that may still be at it is not waited for, and its job comes twice."""
    limits: list[float] = []
    monkeypatch.setattr(resubmit_module, "find_queued", lambda _, *, limit: limits.append(limit))
    note = {"job_id": None, "script": "/y/job.sh"}  # which no queue shows
    first = made(log_dir, {"status": "PENDING"}, note, {**ORDER, "command_timeout": 5.0})
    runs = [first]
    for number, timeout in ((2, 90.0), (3, 7.0)):
        run = log_dir.run(number)
        for path in (first.info, first.submission, first.settings, first.script):
            (run.path / path.relative_to(first.path)).parent.mkdir(parents=True, exist_ok=True)
            (run.path / path.relative_to(first.path)).write_text(path.read_text())
        write(run.settings, {"order": {**ORDER, "command_timeout": timeout}})
        runs.append(run)
    resubmit(log_dir, runs, dry_run=True)
    assert limits == [90.0]
    write(log_dir.run(2).settings, {"order": 3})  # its limit is not known: the usual one
    resubmit(log_dir, runs, dry_run=True)
    assert limits == [90.0, 60.0]

"""A run that takes every call and keeps nothing: current_run(optional=True), MLXP_MODE=off."""

from __future__ import annotations

import inspect
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mlxp_core import Run, current_run, start_run
from mlxp_core.errors import ArtifactNotFoundError, ConfigurationError, MetricsError, NoActiveRunError
from mlxp_core.recording import current
from mlxp_core.recording.null_run import NullRun

# the public API, each method called as a user calls it; what is no method is read
CALLS: dict[str, Callable[[Any], Any]] = {
    "as_arguments": lambda run: run.as_arguments(),
    "close": lambda run: run.close(),
    "finish": lambda run: run.finish(ValueError("no luck")),
    "load_artifacts": lambda run: run.load_artifacts("weights", "json"),
    "load_checkpoint": lambda run: run.load_checkpoint(),
    "log_artifacts": lambda run: run.log_artifacts(object(), "weights", "json"),
    "log_checkpoint": lambda run: run.log_checkpoint(lambda: 1),
    "log_metrics": lambda run: run.log_metrics({"loss": object()}, log_name="train"),
    "metrics": lambda run: run.metrics("train"),
    "open": lambda run: run.open(),
    "original_path": lambda run: run.original_path("data/train.bin"),
    "register_artifact_type": lambda run: run.register_artifact_type("null", lambda *_: None, lambda _: None),
    "resume_metrics": lambda run: run.resume_metrics(step=3),
}
MISSING = {"load_artifacts": ArtifactNotFoundError, "load_checkpoint": ArtifactNotFoundError, "metrics": MetricsError}


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory in which nothing may appear; signals are the process's again."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    current._null_run().finish()
    current._null_run.cache_clear()
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL


def public() -> list[str]:
    return [name for name in dir(Run) if not name.startswith("_")]


@pytest.mark.parametrize("name", public())
def test_every_public_name_of_a_run_is_there_and_keeps_nothing(nowhere: Path, name: str) -> None:
    """Bug: a new method of Run that a program without a run inherits, and that fails in it or writes a file."""
    assert name in vars(NullRun), f"what Run.{name} does in a run that keeps nothing is not said"
    run = current_run(optional=True)
    own, real = inspect.getattr_static(run, name), inspect.getattr_static(Run, name)
    if inspect.isfunction(real):
        assert inspect.signature(own) == inspect.signature(real)
        with pytest.raises(MISSING[name]) if name in MISSING else _no_error():
            CALLS[name](NullRun())
    else:
        getattr(run, name)
    assert os.listdir(nowhere) == []
    assert os.listdir(run.dir) == []


def _no_error() -> Any:
    from contextlib import nullcontext

    return nullcontext()


def test_what_calls_return_is_what_those_of_a_run_return(nowhere: Path) -> None:
    """Bug: None in the place of a path, or of a number that the program computes with."""
    run = NullRun({"lr": 0.1}, nowhere)
    assert (run.id, run.attempt, run.config) == (None, 1, {"lr": 0.1})
    assert run.log_artifacts([1], "a", "json") == run.dir / "artifacts" / "json" / "a"
    assert run.log_checkpoint(1, "last") == run.dir / "artifacts" / "pickle" / "last"
    assert run.original_path("data") == nowhere / "data"
    assert run.stop_requested is False
    (run.dir / "own file").write_text("x")
    with run as entered:
        assert entered is run
    with pytest.raises(FileNotFoundError, match=r"NullRun.*no checkpoint 'checkpoint'.*mlxp_off"):
        run.load_checkpoint()


def test_what_another_run_has_saved_is_loaded(nowhere: Path) -> None:
    """Bug: a program that starts from another run's weights cannot be tried without being recorded."""
    with start_run(nowhere / "logs") as run:
        run.log_checkpoint({"step": 3})
        run.log_artifacts([1.5], "a", "json")
    off = current_run(optional=True)
    assert off.load_checkpoint(root=run.dir) == {"step": 3}
    assert off.load_artifacts("a", root=run.dir) == [1.5]


def test_a_run_that_is_recorded_goes_before(nowhere: Path) -> None:
    """Bug: metrics of a recorded run are dropped for the word `optional`."""
    with start_run(nowhere / "logs") as run:
        assert current_run(optional=True) is run
    assert current_run(optional=True) is current_run(optional=True)
    with pytest.raises(NoActiveRunError, match=r"optional=True.*mlxp_off.*MLXP_MODE=off"):
        current_run()


def test_a_recording_that_has_failed_is_no_run_that_is_not_wanted(nowhere: Path) -> None:
    """Bug: the disk is full, and the program trains for a day into nothing."""
    current.remember_failure(OSError("full"))
    try:
        with pytest.raises(OSError, match="full"):
            current_run(optional=True)
    finally:
        current.remember_failure(None)


def test_mode_off_needs_no_word_in_the_program(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: start_run records what MLXP_MODE=off was to keep from being recorded, or current_run() fails in it."""
    monkeypatch.setenv("MLXP_MODE", "off")
    assert current_run().keeps_nothing
    with start_run("logs", {"seed": 3}) as run:
        assert current_run() is run
        assert run.config == {"seed": 3}
        run.log_metrics({"loss": 1.0}, log_name="train")
    assert current_run() is not run
    started = start_run("logs")
    started.finish()
    assert os.listdir(nowhere) == []


@pytest.mark.parametrize(("mode", "message"), [("offf", "MLXP_MODE=offf means nothing"), ("0", "MLXP_MODE=0 ")])
def test_a_mode_that_means_nothing_is_refused(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch, mode: str, message: str
) -> None:
    """Bug: a typing error, and a sweep that was to be tried is recorded, or one that was to be recorded is not."""
    monkeypatch.setenv("MLXP_MODE", mode)
    with pytest.raises(ConfigurationError, match=message):
        start_run("logs")


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_worker_processes_have_it_too(nowhere: Path, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """Bug: a DataLoader's worker of a program that is not recorded dies of NoActiveRunError."""
    monkeypatch.setenv("MLXP_MODE", "off")
    with start_run("logs"):
        monkeypatch.delenv("MLXP_MODE")
        with multiprocessing.get_context(method).Pool(1) as pool:
            assert pool.apply(_is_off) == "<NullRun: keeps nothing>"


def _is_off() -> str:
    run = current_run()
    run.log_metrics({"loss": 1.0}, log_name="train")
    return repr(run)


def test_a_pickled_one_becomes_the_run_that_is_resumed(nowhere: Path) -> None:
    """Bug: a trainer that was saved while nothing was recorded goes on to log into nothing in a recorded run."""
    off = NullRun({"lr": 1})
    assert pickle.loads(pickle.dumps(off)).config == {"lr": 1}
    with start_run(nowhere / "logs") as run:
        run.log_checkpoint({"run": off})
        assert run.load_checkpoint()["run"] is run


def test_it_is_told_to_stop_as_a_run_is(nowhere: Path) -> None:
    """Bug: a program that is tried without being recorded dies of the signal that it was to be tried with."""
    program = """
import os, signal
from mlxp_core import current_run
run = current_run(optional=True)
before = run.stop_requested
os.kill(os.getpid(), signal.SIGUSR1)
print(before, run.stop_requested, run.dir, end="")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=nowhere)
    before, after, folder = done.stdout.split()
    assert (before, after) == ("False", "True")
    assert not os.path.exists(folder)

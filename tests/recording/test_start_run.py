"""Runs of start_run, in scripts and notebooks: with a block and without one, finished and forgotten."""

from __future__ import annotations

import asyncio
import gc
import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support import read_yaml

from mlxp_core import Run, current_run, start_run
from mlxp_core.errors import MetricsError, NoActiveRunError, RunError
from mlxp_core.recording import lifecycle
from mlxp_core.recording.lifecycle import finish, start_recording
from mlxp_core.runs.layout import RunDir


def ended(run: Run | Path) -> tuple[str, str | None]:
    """Status and type of the error, as recorded."""
    info = read_yaml((run.dir if isinstance(run, Run) else run) / "metadata" / "info.yaml")
    return info["status"], info.get("error", {}).get("type")


def test_a_run_is_started_in_one_cell_and_finished_in_another(tmp_path: Path) -> None:
    """Bug: `'_GeneratorContextManager' object has no attribute 'log_metrics'`."""
    run = start_run(tmp_path, {"lr": 0.1})
    assert (ended(run), current_run()) == (("RUNNING", None), run)
    run.log_metrics({"loss": 0.5}, log_name="train")
    run.finish()
    assert ended(run) == ("COMPLETE", None)
    run.finish()  # the cell is executed again
    run.finish(ValueError())
    assert ended(run) == ("COMPLETE", None)
    with pytest.raises(NoActiveRunError):
        current_run()
    failed = start_run(tmp_path)
    failed.finish(ZeroDivisionError("division by zero"))
    assert ended(failed) == ("FAILED", "ZeroDivisionError")


def test_a_run_that_its_block_has_finished_stays_as_it_is(tmp_path: Path) -> None:
    """Bug: what comes after finish() in the block, or in a stack of blocks, ends the run a second time."""
    runs = []
    with pytest.raises(KeyError), start_run(tmp_path) as run:
        raise runs.append(run) or run.finish() or KeyError
    with ExitStack() as stack:
        runs.append(stack.enter_context(start_run(tmp_path)))
    assert list(map(ended, runs)) == [("COMPLETE", None)] * 2


def test_a_run_that_was_started_again_under_its_name_is_ended_at_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Bug: a cell that is executed again leaves a run that is RUNNING as long as the kernel, and current afterwards."""
    run = start_run(tmp_path)
    run = start_run(tmp_path)
    assert ended(tmp_path / "1") == ("CANCELLED", "NotFinished")
    message = read_yaml(tmp_path / "1" / "metadata" / "info.yaml")["error"]["message"]
    assert message.startswith("another run was started in its place before run.finish() was called")
    assert "1 was not finished" in caplog.text
    assert (run.id, current_run()) == (2, run)
    run.finish()
    with pytest.raises(NoActiveRunError):
        current_run()


def test_runs_side_by_side_stay_as_long_as_the_program_refers_to_them(tmp_path: Path) -> None:
    """Bug: of several seeds that are trained at once, all but the last are ended."""
    runs = [start_run(tmp_path, {"seed": seed}) for seed in range(3)]
    for run in runs:
        run.log_metrics({"seed": run.config["seed"]}, log_name="train")
    for run in reversed(runs):
        assert current_run() is run
        run.finish()
    assert [ended(run) for run in runs] == [("COMPLETE", None)] * 3
    assert [run.metrics("train") for run in runs] == [{"seed": [seed]} for seed in range(3)]


def test_a_run_of_no_name_is_the_current_one_until_another_is_started(tmp_path: Path) -> None:
    """Bug: `start_run("logs")` alone in a cell ends where it began."""
    start_run(tmp_path)
    gc.collect()
    current_run().log_metrics({"a": 1}, log_name="train")
    with start_run(tmp_path) as inner:
        assert current_run() is inner
    assert ended(tmp_path / "1") == ("CANCELLED", "NotFinished")


def test_a_run_in_its_block_is_not_dropped_by_another(tmp_path: Path) -> None:
    """Bug: `with start_run(…):` without a name, and a second run within."""
    with start_run(tmp_path):
        inner = start_run(tmp_path)
        gc.collect()
        inner.finish()
        assert current_run().id == 1
    assert ended(tmp_path / "1") == ("COMPLETE", None)


class Interpreter:
    """How a program is about to end, for what is called then."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._set = monkeypatch.setattr
        for name in ("last_value", "ps1"):
            monkeypatch.delattr(sys, name, raising=False)

    def ends(self, **variables: object) -> None:
        for name, value in variables.items():
            self._set(sys, name, value, raising=False)
        lifecycle._end_unfinished()


@pytest.fixture
def interpreter(monkeypatch: pytest.MonkeyPatch) -> Interpreter:
    return Interpreter(monkeypatch)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, ("CANCELLED", "NotFinished")),  # with whatever exit code: Python does not tell it
        ({"last_value": KeyError("x")}, ("FAILED", "KeyError")),
        ({"last_value": KeyboardInterrupt()}, ("CANCELLED", "KeyboardInterrupt")),
        ({"last_value": KeyError("in an earlier cell"), "ps1": "In [1]: "}, ("CANCELLED", "NotFinished")),
    ],
    ids=["end", "exception", "Ctrl-C", "kernel"],
)
def test_a_run_that_was_never_finished_says_so_at_the_end_of_the_program(
    tmp_path: Path, interpreter: Interpreter, variables: dict[str, object], expected: tuple[str, str]
) -> None:
    """Bug: `GeneratorExit` of an error, or RUNNING, or COMPLETE, which nobody has said."""
    run = start_run(tmp_path)
    interpreter.ends(**variables)
    assert ended(run) == expected
    interpreter.ends(last_value=ValueError())
    assert ended(run) == expected


def test_a_run_that_the_program_left_because_it_was_asked_to_is_preempted(
    tmp_path: Path, interpreter: Interpreter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: CANCELLED, of a run that a requeue is to take up again."""
    monkeypatch.setattr(lifecycle.signals, "observed_stop_signal", lambda _: "SIGUSR1")
    run = start_run(tmp_path)
    interpreter.ends()
    assert ended(run) == ("PREEMPTED", None)


def test_runs_of_hydra_and_of_other_processes_are_left_to_these(tmp_path: Path, interpreter: Interpreter) -> None:
    """Bug: a job, or a child of it, ends a run before its own end does."""
    hydra = start_recording(RunDir(tmp_path / "hydra"), config={})
    parents = start_run(tmp_path)
    parents.pid += 1
    interpreter.ends()
    assert (ended(hydra), ended(parents)) == (("RUNNING", None), ("RUNNING", None))
    parents.pid -= 1
    parents.finish()
    finish(hydra, "COMPLETE")


def test_a_folder_that_is_gone_is_no_error_at_the_end(
    tmp_path: Path, interpreter: Interpreter, caplog: pytest.LogCaptureFixture
) -> None:
    """Bug: "attempt None has taken over", of a log directory that a cell has removed."""
    run = start_run(tmp_path / "logs")
    run.close()
    (tmp_path / "logs").rename(tmp_path / "moved")
    interpreter.ends()
    assert "is gone, and with it what the run has recorded" in caplog.text
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize(
    ("program", "code", "expected"),
    [
        ("", 0, ("CANCELLED", "NotFinished")),
        ("sys.exit(3)", 3, ("CANCELLED", "NotFinished")),
        ("raise KeyError", 1, ("FAILED", "KeyError")),
        ("os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM, ("CANCELLED", "SIGTERM")),
        ("run.finish()", 0, ("COMPLETE", None)),
        ("run = start_run('logs'); run.finish()", 0, ("CANCELLED", "NotFinished")),
        ("os.fork() or sys.exit(); os.wait(); run.finish()", 0, ("COMPLETE", None)),
    ],
)
def test_a_program_that_ends_leaves_no_run_running(
    tmp_path: Path, program: str, code: int, expected: tuple[str, str | None]
) -> None:
    """Bug: the end of a program or of a kernel is a GeneratorExit, or nothing at all; or noise on stderr."""
    start = "import os, signal, sys\nfrom mlxp_core import start_run\nrun = start_run('logs')\n"
    done = subprocess.run(
        [sys.executable, "-c", start + program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, ended(tmp_path / "logs" / "1")) == (code, expected)
    assert "mlxp_core" not in done.stderr


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_a_worker_that_ends_leaves_no_run_of_its_own_running(tmp_path: Path, method: str) -> None:
    """Bug: forked workers end by os._exit, so that nothing is called at their end."""
    program = f"""
import multiprocessing, sys
from mlxp_core import start_run

def work(fails):
    run = start_run("logs")
    sys.exit() if fails is None else 1 / fails

if __name__ == "__main__":
    with start_run("logs"):
        for fails in (1, 0, None):
            worker = multiprocessing.get_context("{method}").Process(target=work, args=(fails,))
            worker.start()
            worker.join()
"""
    (tmp_path / "main.py").write_text(program)
    subprocess.run([sys.executable, "main.py"], cwd=tmp_path, check=True, stderr=subprocess.PIPE)
    not_finished = ("CANCELLED", "NotFinished")
    # from Python 3.13 a worker forgets the exception that it died of before anything is called at its end
    failed = ("FAILED", "ZeroDivisionError") if sys.version_info < (3, 13) else not_finished
    expected = [("COMPLETE", None), not_finished, failed, not_finished]
    assert [ended(tmp_path / "logs" / name) for name in "1234"] == expected


def test_a_run_that_a_suspended_function_holds_has_one_end(tmp_path: Path, interpreter: Interpreter) -> None:
    """Bug: GeneratorExit over the reason, when the interpreter closes what is left."""

    def steps() -> Iterator[int]:
        with start_run(tmp_path):
            yield 1

    generator = steps()
    next(generator)
    interpreter.ends()
    generator.close()
    assert ended(tmp_path / "1") == ("CANCELLED", "NotFinished")


def test_an_end_that_could_not_be_written_may_be_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: the disk was full, and run.finish() says nothing any more."""
    run = start_run(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(lifecycle.digest, "write_info", lambda *_, **__: os.close(-1))
        with pytest.raises(OSError, match="descriptor"):
            run.finish()
    assert ended(run) == ("RUNNING", None)
    run.finish()
    assert ended(run) == ("COMPLETE", None)


def test_runs_leave_no_descriptors(tmp_path: Path) -> None:
    """Bug: Too many open files, of a notebook that has had some hundreds of runs."""
    counts = []
    for _ in range(3):
        run = start_run(tmp_path)
        run.log_metrics({"a": 1}, log_name="train")
        run.finish()
        counts.append(len(os.listdir("/dev/fd")))
    assert counts == counts[:1] * 3


def test_what_is_cancelled_from_outside_has_not_failed(tmp_path: Path) -> None:
    """Bug: FAILED, of an asyncio task that was cancelled or a generator that was closed."""

    async def main() -> None:
        async def train() -> None:
            with start_run(tmp_path):
                await asyncio.Event().wait()

        task = asyncio.create_task(train())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())

    def steps() -> Iterator[int]:
        with start_run(tmp_path):
            yield 1

    generator = steps()
    next(generator)
    generator.close()
    assert ended(tmp_path / "1") == ("CANCELLED", "asyncio.exceptions.CancelledError")
    assert ended(tmp_path / "2") == ("CANCELLED", "GeneratorExit")


def test_the_run_of_a_hydra_job_is_not_the_users_to_end(tmp_path: Path) -> None:
    """Bug: COMPLETE in the midst of a job, whatever becomes of it."""
    run = start_recording(RunDir(tmp_path / "1"), config={})
    with pytest.raises(RunError, match="ends with its job"):
        run.finish()
    with pytest.raises(RunError, match="Leave out `with`"), run:
        pass
    assert ended(run) == ("RUNNING", None)
    finish(run, "COMPLETE")


def test_a_handle_gives_back_its_configuration_and_its_metrics(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Bug: a reader of the whole log directory is needed to plot what was logged in the cell before."""
    with start_run(tmp_path, {"optimizer": {"lr": 0.1}, "layers": [1, 2]}) as run:
        assert run.config == {"optimizer": {"lr": 0.1}, "layers": [1, 2]}
        run.log_metrics({"loss": 0.5, "step": 1}, log_name="train")
        assert run.metrics("train") == {"loss": [0.5], "step": [1]}
        run.log_metrics({"loss": math.inf, "note": "ünï\n\u2028", "big": 2**70}, log_name="train")
        run.log_metrics({"loss": -math.inf, "step": None, "list": [1, math.nan]}, log_name="train")
        with pytest.raises(MetricsError, match=r"has no log 'trian'; it has train$"):
            run.metrics("trian")
        with run.layout.metric_file("train").open("a") as file:
            file.write('{"loss": \n{"loss": 3}\n{"loss": 4')  # cut short, whole, being written
        read = run.metrics("train")
    assert "no JSON objects are left out: 1" in caplog.text
    nan = read["list"][2].pop()
    assert math.isnan(nan)
    assert read == {
        "loss": [0.5, math.inf, -math.inf, 3],
        "step": [1, None, None, None],
        "note": [None, "ünï\n\u2028", None, None],
        "big": [None, 2**70, None, None],
        "list": [None, None, [1], None],
    }
    with start_run(tmp_path) as empty, pytest.raises(MetricsError, match="it has none"):
        empty.metrics("train")

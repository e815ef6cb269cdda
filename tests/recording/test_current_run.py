"""current_run() in threads, in asyncio tasks, in worker processes: each has the run that it works for."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mlxp_core import Run, current_run, start_run
from mlxp_core.errors import NoActiveRunError
from mlxp_core.runs.layout import RunDir


def in_thread(function: Callable[[], object]) -> object:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


def seeds(log_dir: Path) -> list[list[object]]:
    """The seeds in the log of each run, by id."""
    return [values(log_dir / name, "seed") for name in sorted(os.listdir(log_dir)) if name.isdigit()]


def values(run: Path, key: str) -> list[object]:
    return [json.loads(line)[key] for line in RunDir(run).metric_file("train").read_text().splitlines()]


def test_runs_in_a_thread_pool_log_each_to_their_own(tmp_path: Path) -> None:
    """Bug: current_run() is that which another thread has started last: three runs in one, and two empty."""
    together = threading.Barrier(3)

    def train(seed: int) -> int | None:
        with start_run(tmp_path, {"seed": seed}) as run:
            for _ in range(3):
                together.wait()
                current_run().log_metrics({"seed": run.config["seed"]}, log_name="train")
            together.wait()
            assert current_run() is run
        return run.id

    with ThreadPoolExecutor(3) as pool:
        ids = dict(zip((7, 8, 9), pool.map(train, (7, 8, 9)), strict=True))
    assert sorted(ids.values()) == [1, 2, 3]
    assert seeds(tmp_path) == [[seed] * 3 for seed, _ in sorted(ids.items(), key=lambda item: item[1])]


def test_runs_in_asyncio_tasks_log_each_to_their_own(tmp_path: Path) -> None:
    """Bug: the same in tasks, and in what they hand to threads; the end of one run makes another's current."""

    async def train(seed: int, steps: int) -> None:
        with start_run(tmp_path, {"seed": seed}) as run:
            for _ in range(steps):
                await asyncio.sleep(0)
                current_run().log_metrics({"seed": seed}, log_name="train")
                assert await asyncio.to_thread(current_run) is run
                assert await asyncio.create_task(find()) is run
        with pytest.raises(NoActiveRunError):
            current_run()

    async def find() -> Run:
        return current_run()

    async def main() -> None:
        await asyncio.gather(*(train(seed, seed) for seed in (1, 2, 3)))

    asyncio.run(main())
    assert seeds(tmp_path) == [[1], [2, 2], [3, 3, 3]]


def test_a_thread_of_no_run_has_that_of_the_main_thread(tmp_path: Path) -> None:
    """Bug: a callback in a thread of the framework's finds no run in a job that has one."""
    with start_run(tmp_path) as outer:
        assert in_thread(current_run) is outer
        with start_run(tmp_path) as inner:
            assert (current_run(), in_thread(current_run)) == (inner, inner)
        assert (current_run(), in_thread(current_run)) == (outer, outer)


def test_a_run_of_a_thread_is_not_that_of_others_and_the_error_names_it(tmp_path: Path) -> None:
    """Bug: a thread that has no run writes into another thread's, by chance."""
    up, done = threading.Event(), threading.Event()

    def train() -> None:
        with start_run(tmp_path):
            up.set()
            done.wait()

    thread = threading.Thread(target=train)
    thread.start()
    up.wait()
    try:
        for find in (current_run, lambda: in_thread(current_run)):
            with pytest.raises(NoActiveRunError, match=r"which of <Run 1: .*> it works for.*copy_context"):
                find()
        with start_run(tmp_path) as run:
            assert (current_run(), in_thread(current_run)) == (run, run)
    finally:
        done.set()
        thread.join()


def test_a_thread_that_a_task_has_started_has_a_run_where_there_is_only_one(tmp_path: Path) -> None:
    """Bug: run_in_executor, which knows nothing of contexts, finds no run; or of two the newer."""

    async def main(count: int) -> object:
        loop, asked = asyncio.get_running_loop(), asyncio.Event()
        answers: list[object] = []

        async def train() -> None:
            with start_run(tmp_path) as run:
                await asyncio.sleep(0)  # the others start theirs
                try:
                    answers.append(await loop.run_in_executor(None, current_run) is run)
                except NoActiveRunError:
                    answers.append("refused")
                if len(answers) == count:
                    asked.set()
                await asked.wait()

        await asyncio.gather(*(train() for _ in range(count)))
        return answers

    assert asyncio.run(main(1)) == [True]
    assert asyncio.run(main(2)) == ["refused"] * 2


def test_a_run_that_a_task_has_left_on_is_the_process_s(tmp_path: Path) -> None:
    """Bug: each cell of a notebook is a task, with a context of its own: the next one finds no run."""

    async def cell() -> Run:
        return start_run(tmp_path)

    run = asyncio.run(cell())
    assert (current_run(), in_thread(current_run)) == (run, run)

    async def next_cell() -> Run:
        return current_run()

    assert asyncio.run(next_cell()) is run
    run.finish()


WORKERS = """
import multiprocessing, os, subprocess, sys
from concurrent.futures import ProcessPoolExecutor
from mlxp_core import current_run, start_run

def work(number):
    run = current_run()
    run.log_metrics({"number": number}, log_name="train")
    return run.dir.name

def grandchild(number):
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.map(work, [number])[0]

def no_run(_):
    try:
        return current_run().dir.name
    except RuntimeError as error:
        return str(error)

def other_program():
    program = "import main; from multiprocessing import get_context as get\\n"
    program += "if __name__ == '__main__': print(main.no_run(0)); print(get('spawn').Pool(1).map(main.no_run, [0])[0])"
    with open("other.py", "w") as file:
        file.write(program)
    done = subprocess.run([sys.executable, "other.py"], capture_output=True, text=True, check=True)
    return [line for line in done.stdout.splitlines() if line]

if __name__ == "__main__":
    before = dict(os.environ)
    multiprocessing.get_context("forkserver").Pool(1).map(no_run, [0])  # the server begins before there is any run
    for method in ("spawn", "forkserver", "fork"):
        for _ in range(2):
            with start_run("logs") as run:
                with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
                    print(method, run.dir.name, *pool.map(work, [1, 2]))
    with start_run("logs") as run:
        print("grandchild", run.dir.name, grandchild(1), grandchild(2))
        assert dict(os.environ) == before
        print(*other_program(), sep="\\n")
        kept = [multiprocessing.get_context(method).Pool(1) for method in ("spawn", "forkserver", "fork")]
        print("kept", run.dir.name, *(pool.map(work, [1])[0] for pool in kept))
    for pool in kept:
        print(pool.map(no_run, [0])[0])
    with start_run("logs") as run:
        print("kept", run.dir.name, *(pool.map(work, [1])[0] for pool in kept))
    with start_run("logs"), start_run("logs"):
        print(kept[0].map(no_run, [0])[0])
"""


def worked(log_dir: Path, run_id: int) -> list[object]:
    return values(log_dir / str(run_id), "number")


def test_workers_have_the_run_that_they_were_started_for_and_other_programs_have_not(tmp_path: Path) -> None:
    """Bug: `no run is being recorded` in a spawned worker, and in one of the fork server, the default of Python 3.14.

    Or they have the run before, since the fork server is older; or a program that the job starts has the job's.
    """
    (tmp_path / "main.py").write_text(WORKERS)
    done = subprocess.run([sys.executable, "main.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    out = done.stdout.splitlines()
    expected = ["spawn 1 1 1", "spawn 2 2 2", "forkserver 3 3 3", "forkserver 4 4 4", "fork 5 5 5", "fork 6 6 6"]
    assert out[:7] == [*expected, "grandchild 7 7 7"]
    for refused in out[7:9]:
        assert refused.startswith("no run is being recorded")
        assert "A child process that was not started by multiprocessing" in refused
    # a pool that outlives its run has that of its parent at the time; where there is none, or two, it says so
    assert out[9] == "kept 7 7 7 7"
    assert all(
        "was started for <Run 7:" in line and "its parent records none now: pass it" in line for line in out[10:13]
    )
    assert out[13] == "kept 8 8 8 8"
    assert "its parent records 2 now" in out[14]
    assert (worked(tmp_path / "logs", 1), worked(tmp_path / "logs", 8)) == ([1, 2], [1, 1, 1])


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_so_have_those_of_a_program_that_imports_multiprocessing_late(tmp_path: Path, method: str) -> None:
    """Bug: the run begins before there is a place to leave word of it; a worker that is a parent passes nothing on."""
    program = f"""
import sys
from mlxp_core import current_run, start_run

def work(depth):
    current_run().log_metrics({{"number": depth}}, log_name="train")
    if depth:
        start(depth - 1)

def start(depth):
    from multiprocessing import get_context
    worker = get_context("{method}").Process(target=work, args=(depth,))
    worker.start()
    worker.join()
    sys.exit(worker.exitcode)

if __name__ == "__main__":
    with start_run("logs"):
        assert "multiprocessing" not in sys.modules
        start(1)
"""
    (tmp_path / "main.py").write_text(program)
    subprocess.run([sys.executable, "main.py"], cwd=tmp_path, check=True)
    assert worked(tmp_path / "logs", 1) == [1, 0]


def test_a_worker_of_joblib_has_the_run_of_the_job(tmp_path: Path) -> None:
    """Bug: GridSearchCV(n_jobs=2) scores in processes that know of no run."""
    if importlib.util.find_spec("joblib") is None:  # its import changes variables
        pytest.skip("there is no joblib")
    program = """
from joblib import Parallel, delayed
from mlxp_core import current_run, start_run

def score(number):
    current_run().log_metrics({"number": number}, log_name="train")

if __name__ == "__main__":
    with start_run("logs"):
        Parallel(n_jobs=2)(delayed(score)(number) for number in range(4))
"""
    (tmp_path / "main.py").write_text(program)
    subprocess.run([sys.executable, "main.py"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert set(values(tmp_path / "logs" / "1", "number")) == {0, 1, 2, 3}


def test_start_run_is_refused_while_a_worker_imports_the_program(tmp_path: Path) -> None:
    """Bug: a run for each worker, of a program without `if __name__ == "__main__":`."""
    program = """
import multiprocessing
from mlxp_core import start_run

with start_run("logs"):
    if __name__ == "__main__":
        process = multiprocessing.get_context("spawn").Process(target=print)
        process.start()
        process.join()
"""
    (tmp_path / "main.py").write_text(program)
    done = subprocess.run([sys.executable, "main.py"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "RunError: start_run was called while a worker process imports the program" in done.stderr
    assert [name for name in os.listdir(tmp_path / "logs") if name.isdigit()] == ["1"]

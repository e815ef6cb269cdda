"""Run ids from 4 processes at once, side by side with what is the least: creating the folders.

    python tests/benchmarks/run_ids.py [ids] [processes] [folder]

bare: each process makes folders that no other wants. ours: RunAllocator.allocate. Shown: wall and CPU seconds, the
slowest call, the median ratio of wall times, and whether every id came once. The two take turns.
"""

import multiprocessing
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from mlxp_core.runs.allocation import RunAllocator

ROUNDS = 7


def bare(folder: str, worker: int, count: int) -> tuple[list[int], float]:
    """Make folders of this worker's own."""
    slowest, made = 0.0, []
    for number in range(worker * count + 1, (worker + 1) * count + 1):
        start = time.perf_counter()
        os.mkdir(f"{folder}/{number}")
        slowest = max(slowest, time.perf_counter() - start)
        made.append(number)
    return made, slowest


def ours(folder: str, worker: int, count: int) -> tuple[list[int], float]:
    """Allocate ids."""
    slowest, made = 0.0, []
    with RunAllocator(folder) as store:
        for _ in range(count):
            start = time.perf_counter()
            made.append(store.allocate().id or 0)
            slowest = max(slowest, time.perf_counter() - start)
    return made, slowest


def measure(way, ids: int, processes: int, parent: str | None) -> tuple[float, float, float, bool]:
    """Wall seconds, CPU seconds, slowest call, whether the ids are 1 to `ids`."""
    folder = tempfile.mkdtemp(dir=parent)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    barrier = multiprocessing.Barrier(processes + 1)
    answers = multiprocessing.SimpleQueue()

    def work(worker: int) -> None:
        barrier.wait()
        answers.put(way(folder, worker, ids // processes))

    workers = [multiprocessing.Process(target=work, args=(worker,)) for worker in range(processes)]
    for process in workers:
        process.start()
    barrier.wait()
    start = time.perf_counter()
    got = [answers.get() for _ in workers]
    wall = time.perf_counter() - start
    for process in workers:
        process.join()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    shutil.rmtree(folder)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    numbers = sorted(number for made, _ in got for number in made)
    return wall, cpu, max(slowest for _, slowest in got), numbers == list(range(1, ids + 1))


def main() -> None:
    """Measure and print."""
    multiprocessing.set_start_method("fork")
    ids = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    processes = int(sys.argv[2]) if len(sys.argv) > 2 else 4
    parent = str(Path(sys.argv[3])) if len(sys.argv) > 3 else None
    seen = {"bare": [], "ours": []}
    for _ in range(ROUNDS):
        for name, way in (("bare", bare), ("ours", ours)):
            seen[name].append(measure(way, ids, processes, parent))
    for name, rounds in seen.items():
        wall = statistics.median(wall for wall, *_ in rounds)
        cpu = statistics.median(cpu for _, cpu, *_ in rounds)
        slowest = max(slowest for *_, slowest, _ in rounds)
        whole = all(whole for *_, whole in rounds)
        # what a file system takes for the same work varies by a factor of three here: only neighbours are compared
        ratio = statistics.median(one[0] / other[0] for one, other in zip(rounds, seen["bare"], strict=True))
        print(f"{name}: {ids} ids, {processes} processes: {wall:.2f} s wall, {cpu:.2f} s CPU, ratio {ratio:.2f},")
        print(f"      slowest call {slowest * 1000:.1f} ms, every id once: {whole}")


if __name__ == "__main__":
    main()

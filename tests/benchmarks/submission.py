"""What submitting to Slurm costs beyond composition, beside sbatch itself; needs a Slurm (tests/run.sh --clusters).

    python tests/benchmarks/submission.py [runs] [rounds]

ours: run folders, their files, and one array by mlxp_core.jobs.submit. files: the same files, written with nothing
else, which is what the layout costs at least. array: one sbatch --array of the very same script. singles: 100 times
sbatch of it. All jobs are held, and cancelled outside of what is measured; the ways take turns. Shown: wall and CPU
seconds, sbatch's own included, the median ratio of neighbours to one array and to both (files and array), and where our
time goes. Then, with jobs that run: from the start of a submission to the first line that its first job writes. And
`mlxp status` of as many runs.

Seen on 2 busy cores (load 9 to 19, Slurm 22.05 on the same machine, ext4), 1,000 runs: ours 0.92 s
CPU and 3.8 s, of it 0.04 s in its one sbatch; files 0.17 s CPU and 0.68 s; one array 0.005 s CPU and 0.03 s;
100 singles 0.32 s CPU and 1.1 s. `mlxp status` 0.98 s CPU asking, 0.48 s afterwards.
First line of one job 0.9 s, by sbatch 0.7 s.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))

from composed_runs import plan

from mlxp_core.jobs import submit, write
from mlxp_core.runs.allocation import RunAllocator
from mlxp_core.runs.layout import LogDir
from mlxp_core.runs.submission_record import QueuedJob
from mlxp_core.scheduler import client

SINGLES = 100
FILES: list[tuple[float, float]] = []
PARTS: dict[str, list[float]] = defaultdict(list)


def cpu() -> float:
    """CPU seconds of this process and of those that it waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def timed(what: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds."""
    wall, used = time.perf_counter(), cpu()
    what()
    return time.perf_counter() - wall, cpu() - used


def ours(folder: Path, count: int, command: list[str], header: tuple[str, ...]) -> list[QueuedJob]:
    """Submit so many runs as one array; note what the parts of it took."""
    started = time.perf_counter()
    log_dir = LogDir(folder / "logs")
    with RunAllocator(log_dir.path) as store:
        runs = store.allocate_block(count)
    PARTS["folders"].append(time.perf_counter() - started)
    planned = plan(runs, "slurm", command, folder, header)
    started = time.perf_counter()
    write.write_runs(planned)
    PARTS["write_runs"].append(time.perf_counter() - started)
    spent = 0.0
    ask = client.run_command

    def watched(*given, **more):
        nonlocal spent
        began = time.perf_counter()
        answer = ask(*given, **more)
        spent += time.perf_counter() - began
        return answer

    client.run_command = watched
    started = time.perf_counter()
    try:
        submitted = submit.submit(runs, log_dir)
    finally:
        client.run_command = ask
    PARTS["sbatch"].append(spent)
    PARTS["notes"].append(time.perf_counter() - started - spent)
    return submitted


def copy_files(source: Path, folder: Path) -> None:
    """Write the files of run folders anew: read beforehand, so that only the writing is measured."""
    files = {path.relative_to(source): path.read_bytes() for path in source.glob("[0-9]*/**/*") if path.is_file()}
    started, used = time.perf_counter(), cpu()
    for path, content in files.items():
        place = f"{folder}/{path}"
        os.makedirs(os.path.dirname(place), exist_ok=True)
        with open(place, "wb") as file:
            file.write(content)
    FILES.append((time.perf_counter() - started, cpu() - used))


def sbatch(*arguments: str) -> str:
    done = subprocess.run(["sbatch", "--parsable", *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def cancel() -> None:
    """All jobs of these submissions, and no others of this user's."""
    subprocess.run(["scancel", "--name", "benchmark"], check=False)


def compare(folder: Path, count: int, rounds: int) -> Path:
    """Print the cost of each way; give a log directory with the last round's runs."""
    seen: dict[str, list[tuple[float, float]]] = defaultdict(list)
    header = ("--hold", "--job-name=benchmark")
    for number in range(rounds + 1):
        place = folder / str(number)
        place.mkdir()
        (place / "files").mkdir()
        made = timed(lambda place=place: ours(place, count, ["/bin/true"], header))
        cancel()
        copy_files(place / "logs", place / "files")
        script = str(place / "logs" / ".mlxp" / "submissions" / "1" / "job.sh")
        array = timed(lambda script=script: sbatch(script))
        cancel()
        singles = timed(lambda script=script: [sbatch("--array=1", script) for _ in range(SINGLES)])
        cancel()
        if number:  # the first warms up
            for way, cost in (("ours", made), ("files", FILES[-1]), ("array", array), ("singles", singles)):
                seen[way].append(cost)
        else:
            PARTS.clear()
    for way, costs in seen.items():
        wall, used = (statistics.median(values) for values in zip(*costs, strict=True))
        bare = [array[0] for array in seen["array"]]
        least = [array[0] + files[0] for array, files in zip(seen["array"], seen["files"], strict=True)]
        to_array, to_least = (
            statistics.median(one[0] / other for one, other in zip(costs, others, strict=True))
            for others in (bare, least)
        )
        print(
            f"{way:8} {wall:7.3f} s  {used:6.3f} s CPU {to_array:6.1f} times array, {to_least:5.2f} times files + array"
        )
    print("of ours: " + ", ".join(f"{part} {statistics.median(took):.3f} s" for part, took in PARTS.items()))
    return place / "logs"


def latency(folder: Path, count: int, rounds: int) -> None:
    """Print the time from the start of a submission to the first line of its first job."""
    seen: dict[str, list[float]] = defaultdict(list)
    first = "[ -e first ] || date +%s.%N >first"
    header = ("--job-name=benchmark",)
    for number in range(rounds):
        for way in ("ours", "sbatch"):
            place = folder / f"first-of-{count}-{way}-{number}"
            place.mkdir()
            started = time.time()
            if way == "ours":
                ours(place, count, ["/bin/sh", "-c", first], header)
            else:
                array = f"--array=1-{count}" if count > 1 else "--output=/dev/null"
                options = ["--output=/dev/null", "--job-name=benchmark", f"--chdir={place}", array]
                sbatch(*options, "--wrap", first)
            while not (place / "first").exists() or not (place / "first").read_text().strip():
                time.sleep(0.01)
            seen[way].append(float((place / "first").read_text()) - started)
            cancel()
            while subprocess.run(["squeue", "-h", "-n", "benchmark"], capture_output=True, check=True).stdout:
                time.sleep(0.1)
    for way, times in seen.items():
        print(f"first line of {count} job{'s' * (count > 1)} by {way:6} after {statistics.median(times):6.3f} s")


def status(log_dir: Path) -> None:
    """Print what the command costs when it asks the scheduler, and right afterwards."""
    program = str(Path(sys.executable).with_name("mlxp"))
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "XDG_CACHE_HOME": cache}
        command = [program, "status", "--log-dir", str(log_dir)]
        for when in ("asking", "again"):
            wall, used = timed(lambda: subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL))
            print(f"mlxp status, {when:6} {wall:7.3f} s  {used:6.3f} s CPU")


def main() -> None:
    """Measure and print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            log_dir = compare(folder, count, rounds)
            status(log_dir)
            for number in (1, count):
                latency(folder, number, rounds)
        finally:
            cancel()


if __name__ == "__main__":
    main()

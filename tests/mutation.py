"""Mutation testing: how many small faults, put into the product at random, the suite notices.

    .venv/bin/python tests/mutation.py --map [tests/jobs …]   which tests reach which lines; again for new tests
    .venv/bin/python tests/mutation.py --count 150 --seed 1   put in 150 faults, one by one; goes on where it ended
    .venv/bin/python tests/mutation.py --list | --report      the sample; what has become of it
    .venv/bin/python tests/mutation.py --number 7             one of the sample, again; --again: all that survived

helpers/mutants.py says which faults. A fault is put into a copy of the tree, with an environment of its own; then the
tests that reach its line run, short ones and those of its own package first, until one fails or --budget seconds are
over. A test counts that fails with the fault, fails with it once more if it is no short one, and passes without. Lines
that run at import have all tests of their module's package and of what starts it. What no test reaches has survived.

Faults that change nothing that anybody could notice are no gaps: mutation_equivalents.yaml names them, each with its
reason, and they are counted apart. Map and results lie in build/mutation/. Tests that need a cluster are left out.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import math
import queue
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
HOME = ROOT / "build" / "mutation"
EQUIVALENTS = Path(__file__).with_name("mutation_equivalents.yaml")
PRODUCT = ("mlxp_core", "hydra_plugins/mlxp")
SHORT = 1.0  # seconds; what is shorter starts no processes and does not fail by chance
COVERAGE = """\
[run]
data_file = {folder}/data
parallel = true
source_dirs =
    {tree}/mlxp_core
    {tree}/hydra_plugins/mlxp
core = ctrace
patch = _exit, execv
context = ${{COVERAGE_TEST-}}
disable_warnings = no-data-collected, module-not-imported, module-not-measured
"""

sys.path.insert(0, str(ROOT / "tests" / "helpers"))
from mutants import Mutant, sample  # noqa: E402
from tree_copy import Ran, TreeCopy  # noqa: E402


def digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.exists() else ""


def map_file(copy: TreeCopy, file: str) -> None:
    """Run a file of tests, and keep which lines each test reaches, in all processes that it starts."""
    import coverage

    folder = copy.folder / "coverage"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    rc = folder / "rc"
    rc.write_text(COVERAGE.format(folder=folder, tree=copy.tree))
    ran = copy.run(None, 3600, files=[file], COVERAGE_PROCESS_START=str(rc))
    seconds: Counter[str] = Counter()
    for outcome in ran.outcomes:
        seconds[outcome.test] += outcome.seconds
    tests = {test: number for number, test in enumerate(seconds)}
    measured = coverage.Coverage(data_file=str(folder / "data"), config_file=str(rc))
    with contextlib.suppress(coverage.exceptions.NoDataError):
        measured.combine([str(folder)])
    data, lines, hashes = measured.get_data(), {}, {}
    for name in data.measured_files():
        path = str(Path(name).relative_to(copy.tree))
        reached = data.contexts_by_lineno(name)
        lines[path] = {line: [tests[name] for name in reached[line] if name in tests] for line in reached}
        hashes[path] = digest_of(ROOT / path)
    part = {
        "file": file,
        "digest": digest_of(ROOT / file),
        "tests": list(seconds.items()),
        "lines": lines,
        "hashes": hashes,
        "failed": sorted(set(ran.failed)),
    }
    (HOME / "map").mkdir(parents=True, exist_ok=True)
    (HOME / "map" / (file.replace("/", "-") + ".json")).write_text(json.dumps(part))
    print(
        f"{file}: {len(tests)} tests, {sum(seconds.values()):.0f} s, {len(part['failed'])} failed under the tracer",
        flush=True,
    )


class Reach:
    """Which tests reach a fault."""

    def __init__(self) -> None:
        self._parts = [json.loads(path.read_text()) for path in sorted((HOME / "map").glob("*.json"))]
        if not self._parts:
            sys.exit("no map yet: tests/mutation.py --map")
        self.seconds: dict[str, float] = {test: it for part in self._parts for test, it in part["tests"]}
        unchanged = [part for part in self._parts if part["digest"] == digest_of(ROOT / part["file"])]
        passed = {test for part in unchanged for test, _ in part["tests"] if test not in part["failed"]}
        # that these pass without a fault need not be seen once more
        self.steady = {test for test in passed if self.seconds[test] <= SHORT}

    def tests(self, mutant: Mutant) -> list[str]:
        """Tests to run, the most promising first: short ones, and those of the package."""
        home = "tests/plugins/" if mutant.path.startswith("hydra_plugins") else "tests/ground/"
        if mutant.path.count("/") > 1 and mutant.path.startswith("mlxp_core"):
            home = f"tests/{mutant.path.split('/')[1]}/"
        cost: dict[str, float] = {}
        for part in self._parts:
            reached = {int(line): found for line, found in part["lines"].get(mutant.path, {}).items()}
            own = part["file"].startswith(home)
            if mutant.at_import or part["hashes"].get(mutant.path, "") != digest_of(ROOT / mutant.path):
                numbers = {number for found in reached.values() for number in found}
                numbers |= set(range(len(part["tests"]))) if own and mutant.at_import else set()
            else:
                lines = range(mutant.statement, mutant.last + 1)
                numbers = {number for line in lines for number in reached.get(line, ())}
            for number in numbers:
                test, seconds = part["tests"][number]
                cost[test] = (seconds + 0.01) * (1 if own else 3)
        return sorted(cost, key=lambda test: cost[test])


class Judge:
    """Puts in faults, and finds out whether a test notices."""

    def __init__(self, copy: TreeCopy, reach: Reach, budget: float) -> None:
        self._copy, self._reach, self._budget = copy, reach, budget
        self._sound: dict[str, bool] = {}

    def judge(self, mutant: Mutant) -> dict[str, Any]:
        """Run what reaches a fault until it is caught, all has run, or the time is over."""
        tests = self._reach.tests(mutant)
        began, count, untrusted = time.monotonic(), 0, []
        result: dict[str, Any] = {"status": "survived" if tests else "not reached", "reached_by": len(tests)}
        try:
            while tests and (left := self._budget - (time.monotonic() - began)) > 0:
                portion = self._portion(tests, 5 if not count else 40)
                ran = self._run(mutant, portion, max(left, 15))
                if by := self._proof(mutant, ran, portion):
                    result |= {"status": "caught", "by": by}
                    break
                untrusted += ran.failed
                done = {outcome.test for outcome in ran.outcomes}
                count += len(done)
                tests = [test for test in tests if test not in (done or portion)]  # or what is not there any more
        finally:
            self._copy.put(None, mutant.path)
        return result | {"ran": count, "seconds": round(time.monotonic() - began), "untrusted": untrusted}

    def _portion(self, tests: list[str], seconds: float) -> list[str]:
        """The next tests, as many as take about so long; those of one file together, for what they share."""
        chosen: list[str] = []
        for test in tests:
            if chosen and seconds < 0:
                break
            chosen.append(test)
            seconds -= self._reach.seconds.get(test, 0)
        files = list(dict.fromkeys(test.split("::")[0] for test in chosen))
        return sorted(chosen, key=lambda test: files.index(test.split("::")[0]))

    def _run(self, mutant: Mutant | None, tests: list[str], seconds: float) -> Ran:
        if mutant:
            self._copy.put(mutant, mutant.path)
        limits = {test: 30 + 5 * self._reach.seconds.get(test, 0) for test in tests}
        return self._copy.run(tests, seconds, limits)

    def _proof(self, mutant: Mutant, ran: Ran, tests: list[str]) -> str:
        """Tell by what a fault was caught: not by chance, nor by what is so without it; empty text where it was not."""
        if ran.fault:
            return ran.fault if self._is_sound(mutant, tests) else ""
        if not ran.failed:
            return ""
        (test,) = ran.failed[:1]  # or a file that cannot be collected
        tests = [test] if "::" in test else [it for it in tests if it.startswith(f"{test}::")][:1]
        if self._reach.seconds.get(test, 0) > SHORT:
            again = self._run(mutant, tests, 600)
            if not again.fault and not again.failed:
                return ""
        return test if self._is_sound(mutant, tests) else ""

    def _is_sound(self, mutant: Mutant, tests: list[str]) -> bool:
        """Whether tests pass without the fault."""
        if self._reach.steady.issuperset(tests):
            return True
        name = " ".join(tests)
        if name not in self._sound:
            self._copy.put(None, mutant.path)
            ran = self._run(None, tests, 600)
            self._sound[name] = bool(ran.outcomes) and not ran.fault and not ran.failed
        return self._sound[name]


def wilson(hits: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share."""
    if not count:
        return 0.0, 1.0
    z, share = 1.96, hits / count
    middle, width = (
        share + z * z / (2 * count),
        z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count)),
    )
    return (middle - width) / (1 + z * z / count), (middle + width) / (1 + z * z / count)


def load_equivalents() -> dict[str, str]:
    """Why each of these faults is none, by key."""
    entries = yaml.safe_load(EQUIVALENTS.read_text(encoding="utf-8")) or []
    return {f"{entry['at']}: {entry['line']} -> {entry['mutant']}": entry["reason"] for entry in entries}


def load_results(path: Path) -> dict[str, dict[str, Any]]:
    """The last result of each fault."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {result["key"]: result for result in map(json.loads, lines)}


def report(chosen: list[Mutant], results: dict[str, dict[str, Any]]) -> None:
    """Print the share that was caught, also by package and operator, and what was not."""
    equivalents = load_equivalents()
    rows: dict[str, Counter[str]] = {}
    for mutant in chosen:
        status = results.get(mutant.key, {"status": "not run"})["status"]
        status = "equivalent" if mutant.key in equivalents and status != "caught" else status
        package = mutant.path.removeprefix("mlxp_core/").split("/")[0] if mutant.path.count("/") > 1 else "ground"
        for row in ("all", package, f"[{mutant.operator}]"):
            rows.setdefault(row, Counter())[status] += 1
    print(f"\n{'':24}{'caught':>7}{'survived':>9}{'not reached':>12}{'equivalent':>11}{'not run':>8}")
    for row in sorted(rows, key=lambda row: (row != "all", row.startswith("["), row)):
        count = rows[row]
        judged = count["caught"] + count["survived"] + count["not reached"]
        low, high = wilson(count["caught"], judged)
        share = f"   {count['caught'] / judged:4.0%} ({low:.0%} to {high:.0%})" if judged else ""
        numbers = zip((7, 9, 12, 11, 8), ("caught", "survived", "not reached", "equivalent", "not run"), strict=True)
        print(f"{row:24}" + "".join(f"{count[name]:>{width}}" for width, name in numbers) + share)
    for number, mutant in enumerate(chosen):
        result = results.get(mutant.key, {})
        if result.get("status") in {"survived", "not reached"} and mutant.key not in equivalents:
            what = (
                f"survived {result['ran']} of {result['reached_by']} tests" if result["ran"] else "no test reaches it"
            )
            print(f"\n{number}: {mutant.path}:{mutant.statement} {mutant.where} [{mutant.operator}] {what}")
            print(f"- {mutant.line}\n+ {mutant.mutated}")


def work(jobs: list[Any], workers: int, do: Any) -> None:
    """Have workers do jobs, each in its own copy."""
    waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
    for job in jobs:
        waiting.put(job)

    def serve(folder: str) -> None:
        copy = TreeCopy(Path(folder))
        with contextlib.suppress(queue.Empty):
            while True:
                do(copy, waiting.get_nowait())

    with tempfile.TemporaryDirectory(prefix="mlxp-mutation-", ignore_cleanup_errors=True) as top:
        folders = [f"{top}/{number}" for number in range(min(workers, len(jobs)))]
        threads = [threading.Thread(target=serve, args=(folder,), daemon=True) for folder in folders]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def test_files(given: list[str]) -> Iterator[str]:
    for name in given or ["tests"]:
        path = (ROOT / name).resolve()
        found = [path] if path.is_file() else sorted(path.rglob("test_*.py"))
        yield from (str(file.relative_to(ROOT)) for file in found)


def judge_all(chosen: list[Mutant], options: argparse.Namespace) -> None:
    """Judge the mutants that are not yet, or are to be again."""
    results, equivalents, reach = load_results(options.results), load_equivalents(), Reach()
    again = {"survived", "not reached"} if options.again else set()
    jobs = [m for m in chosen if m.key not in results or results[m.key]["status"] in again]
    jobs = [m for m in jobs if m.key not in equivalents]
    random.Random(options.seed).shuffle(jobs)  # so that what has run so far is a sample, too
    if options.number is not None:
        jobs = [chosen[number] for number in options.number]
    options.results.parent.mkdir(parents=True, exist_ok=True)

    judges: dict[TreeCopy, Judge] = {}

    def judge(copy: TreeCopy, mutant: Mutant) -> None:
        judges.setdefault(copy, Judge(copy, reach, options.budget))
        result = {"key": mutant.key, **judges[copy].judge(mutant)}
        with open(options.results, "a", encoding="utf-8") as file:
            file.write(json.dumps(result, ensure_ascii=False) + "\n")
        print(f"{result['status']:12} {result['seconds']:4} s {mutant.key} {result.get('by', '')}", flush=True)

    work(jobs, options.workers, judge)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--map", nargs="*", metavar="PATH", help="measure which tests reach what")
    parser.add_argument("--count", type=int, default=150)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="+", default=PRODUCT, metavar="PATH", help="faults in these files alone")
    parser.add_argument("--list", action="store_true", help="show the sample")
    parser.add_argument("--report", action="store_true", help="show the results")
    parser.add_argument("--number", type=int, nargs="+", help="these of the sample alone, and again")
    parser.add_argument("--again", action="store_true", help="also those that survived")
    parser.add_argument("--budget", type=float, default=120, help="seconds of tests for a fault")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--results", type=Path, default=HOME / "results.jsonl")
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it is ignored, and tests are about it
    if options.map is not None:
        work(list(test_files(options.map)), options.workers, map_file)
        return 0
    paths = sorted(
        {file for name in options.only for file in ([ROOT / name], (ROOT / name).rglob("*.py"))[(ROOT / name).is_dir()]}
    )
    chosen = sample({str(path.relative_to(ROOT)): path.read_bytes() for path in paths}, options.count, options.seed)
    if options.list:
        for number, mutant in enumerate(chosen):
            print(f"{number:4} [{mutant.operator}] {mutant.key}")
        return 0
    if not options.report:
        judge_all(chosen, options)
    report(chosen, load_results(options.results))
    return 0


if __name__ == "__main__":
    sys.exit(main())

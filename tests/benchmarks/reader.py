"""The reader, side by side with Polars by hand and, where one is given, MLXP's reader, on the same directories.

    python tests/benchmarks/reader.py [--runs 100 1000] [--repeat 3] [--mlxp PYTHON]

N runs of 20 configuration keys and 3 metric files of 100 lines, once as this package writes them and once as MLXP 1.0
does. PYTHON is the interpreter of an environment with mlxp. Each way is a process of its own: CPU seconds (user and
system, without the imports), peak memory; the best of ``repeat`` processes, of MLXP the only one. By hand means: no
query language, no status, no look for what has changed. The index by hand is one stat call a run folder, which misses
most changes, and a Parquet file; below it the five stat calls that this reader makes, and the same file.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import yaml

from mlxp_core.runs import digest
from mlxp_core.runs.layout import RunDir

LOGS = ("train", "val", "test")
QUERY = "info.status == 'COMPLETE' & config.optimizer.lr <= 0.1"
QUERIES = [
    "",
    QUERY,
    "config.seed == 1",
    "config.seed != 1",
    "config.seed < 3",
    "config.seed <= 3",
    "config.seed > 3",
    "config.seed >= 3",
    "config.seed in [1, 2]",
    "~(config.seed in [1, 2])",
    "config.name == 'sgd'",
    "config.name == 'sgd' & config.seed == 2",
    "config.name == 'sgd' | config.seed == 2",
    "~(config.name == 'sgd') & config.seed == 2",
    "~config.name == 'sgd'",
    "config.name == 'adam' | config.name == 'sgd' & config.seed == 1",
    "(config.name == 'adam' | config.name == 'sgd') & config.seed == 1",
    "config.optimizer.lr == 0.1",
    "config.optimizer.lr > 0.01 & config.optimizer.lr < 1.0",
    "info.status in ['FAILED', 'COMPLETE']",
]


def config_of(number: int) -> dict[str, object]:
    rest = {f"option_{place}": place * 0.5 for place in range(16)}
    lr = (0.01, 0.1, 1.0)[number % 3]
    return {"seed": number % 5, "name": ("sgd", "adam")[number % 2], "optimizer": {"lr": lr, "momentum": 0.9}, **rest}


def info_of(number: int, run: Path, theirs: bool) -> dict[str, object]:
    times = {"start_date": "25/11/2026", "end_date": "25/11/2026"} if theirs else {"attempt": 1, "process_start": 123}
    folders = {f"{name}_dir": str(run / name) for name in ("metrics", "metadata", "artifacts")} if theirs else {}
    return {
        "status": "COMPLETE" if number % 7 else "FAILED",
        "executable": "/usr/bin/python",
        "current_file_path": "/work/main.py",
        "hostname": "node1",
        "process_id": 1000 + number,
        "start_time": "2026-11-25T18:46:14.000000+00:00",
        "end_time": "2026-11-25T18:46:15.000000+00:00",
        "work_dir": "/work",
        **times,
        "logger": {"log_id": number, "log_dir": str(run), **folders},
    }


def write(logs: Path, count: int, *, theirs: bool) -> None:
    """Write a log directory, and beside it the least that a reader could be given: the metadata as JSON."""
    for number in range(1, count + 1):
        run = logs / str(number)
        (run / "metadata").mkdir(parents=True)
        (run / "metrics/.keys").mkdir(parents=True)
        config, info = config_of(number), info_of(number, run, theirs)
        bare = logs.with_name(f"{logs.name}.json") / str(number)
        bare.mkdir(parents=True)
        (bare / "metadata.json").write_text(json.dumps({"config": config, "info": info}))
        for name in LOGS:
            lines = [{"loss": number / (step + 1), "acc": step / 100, "step": step} for step in range(100)]
            (run / f"metrics/{name}.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
            if theirs:
                (run / f"metrics/.keys/{name}.yaml").write_text("acc: ''\nloss: ''\nstep: ''\n")
            else:
                keys = "".join(json.dumps([key, "number"]) + "\n" for key in lines[0])
                (run / f"metrics/.keys/{name}.json").write_text(keys)
        if theirs:
            (run / "metadata/config.yaml").write_text(yaml.dump(config, Dumper=yaml.CSafeDumper, sort_keys=False))
            (run / "metadata/info.yaml").write_text(yaml.dump(info, Dumper=yaml.CSafeDumper, sort_keys=False))
        else:  # as jobs do
            layout = RunDir(run)
            digest.write_info(layout, info, config=digest.write_config(layout, config), ended=True)
    time.sleep(2.1)  # nothing has just been written, as a rule


# --- the ways; each prints a JSON object of CPU seconds and peak memory ----------------------------------------------


class Timed:
    """CPU seconds by name."""

    def __init__(self) -> None:
        self.seen: dict[str, float] = {}

    def __call__(self, name, work, repeat=1):
        best = None
        for _ in range(repeat):
            start = time.process_time()
            result = work()
            took = time.process_time() - start
            best = took if best is None else min(best, took)
        self.seen[name] = best
        return result

    def end(self) -> None:
        self.seen["peak MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(self.seen))


def ours(logs: str) -> None:
    from mlxp_core.reader import AvgStd, Reader

    timed = Timed()

    def metadata():
        return Reader(logs).filter().metadata

    timed("open", metadata)
    timed("open again", metadata, 3)
    timed("filter", lambda: len(Reader(logs).filter(QUERY)), 3)
    groups = lambda: Reader(logs).filter(QUERY).group_by("config.optimizer.lr")  # noqa: E731
    timed("group and average", lambda: groups().aggregate([AvgStd("train.loss")]).collect())
    timed("full table", lambda: Reader(logs).filter().collect())
    timed.end()


def queries(logs: str) -> None:
    from mlxp_core.reader import Reader

    reader = Reader(logs)
    print(json.dumps([reader.filter(query).lazy().select("id").collect()["id"].to_list() for query in QUERIES]))


def _flat(prefix, value, into):
    for key, one in value.items():
        if isinstance(one, dict):
            _flat(f"{prefix}{key}.", one, into)
        else:
            into[prefix + key] = one
    return into


def _metrics(frame, logs: str, name: str):
    """One read_ndjson over the joined bytes of the files, and lists again."""
    import polars as pl

    pieces, ids = [], []
    for number in frame["info.logger.log_id"]:
        content = Path(logs, str(number), "metrics", f"{name}.json").read_bytes()
        pieces.append(content)
        ids += [number] * content.count(b"\n")
    lines = pl.read_ndjson(b"".join(pieces))
    return lines.with_columns(pl.Series("info.logger.log_id", ids))


def by_hand(logs: str, kind: str) -> None:  # noqa: C901  (four small ways side by side)
    import polars as pl

    from mlxp_core.reader.cache import run_cache

    timed = Timed()

    def from_yaml():
        rows = []
        for name in os.listdir(logs):
            if name.startswith("."):  # our index
                continue
            parts = {}
            for part in ("config", "info"):
                with open(f"{logs}/{name}/metadata/{part}.yaml") as file:
                    parts[part] = yaml.load(file, Loader=yaml.CSafeLoader)
            rows.append(_flat("", parts, {}))
        return pl.from_dicts(rows, infer_schema_length=None)

    def from_json():
        rows = []
        for name in os.listdir(logs + ".json"):
            with open(f"{logs}.json/{name}/metadata.json") as file:
                rows.append(_flat("", json.load(file), {}))
        return pl.from_dicts(rows, infer_schema_length=None)

    table = timed("open", from_yaml if kind == "yaml" else from_json)
    if kind == "index":
        with tempfile.TemporaryDirectory() as folder:
            table.write_parquet(f"{folder}/index.parquet")

            def stat_pass(*paths):
                for name in os.listdir(logs):
                    for path in paths:
                        with suppress(FileNotFoundError):
                            os.stat(f"{logs}/{name}{path}")
                return pl.read_parquet(f"{folder}/index.parquet")

            timed("open again", lambda: stat_pass(""), 3)
            timed("five stats", lambda: stat_pass(*run_cache.COMPARED_PATHS), 3)
    condition = (pl.col("info.status") == "COMPLETE") & (pl.col("config.optimizer.lr") <= 0.1)
    chosen = timed("filter", lambda: table.filter(condition), 3)

    def average():
        lines = _metrics(chosen, logs, "train").select("loss", "info.logger.log_id")
        lines = lines.with_columns(pl.int_range(pl.len()).over("info.logger.log_id").alias("at"))
        joined = lines.join(chosen.select("info.logger.log_id", "config.optimizer.lr"), on="info.logger.log_id")
        steps = joined.group_by("config.optimizer.lr", "at").agg(
            pl.col("loss").mean().alias("avg"), pl.col("loss").std().alias("std"), pl.len().alias("n")
        )
        return steps.sort("at").group_by("config.optimizer.lr").agg("avg", "std", "n")

    timed("group and average", average)

    def everything():
        full = table
        for name in LOGS:
            lists = _metrics(table, logs, name).group_by("info.logger.log_id", maintain_order=True).agg(pl.all())
            full = full.join(lists, on="info.logger.log_id", suffix=f"_{name}")
        return full

    timed("full table", everything)
    timed.end()


MLXP = """
import contextlib, io, json, resource, sys, time
import mlxp, numpy as np
logs, query, queries = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
seen = {}
def timed(name, work):
    start = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        result = work()
    seen[name] = time.process_time() - start
    return result
timed("open", lambda: mlxp.Reader(logs))
reader = timed("open again", lambda: mlxp.Reader(logs, refresh=False))
runs = timed("filter", lambda: reader.filter(query))
mean = lambda x: np.mean(np.array(x), axis=0)
std = lambda x: np.std(np.array(x), axis=0, ddof=1)
timed("group and average", lambda: runs.groupby(["config.optimizer.lr"]).aggregate(
    [(mean, "train.loss", "avg"), (std, "train.loss", "std")]))
timed("full table", lambda: reader.filter("", result_format="pandas"))
seen["peak MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
with contextlib.redirect_stdout(io.StringIO()):
    ids = [sorted(run["info.logger.log_id"] for run in reader.filter(one)) for one in queries]
print(json.dumps({"seen": seen, "ids": ids}))
"""


def process(*arguments: str, cache: str) -> dict[str, float]:
    environment = {**os.environ, "XDG_CACHE_HOME": cache}
    done = subprocess.run(
        [sys.executable, __file__, *arguments], check=True, capture_output=True, text=True, env=environment
    )
    return json.loads(done.stdout)


def best(repeat: int, ways: dict[str, Callable[[], dict[str, float]]]) -> dict[str, dict[str, float]]:
    """The least of each number; in turns, for a machine may be half as fast a minute later."""
    rounds = [{name: way() for name, way in ways.items()} for _ in range(repeat)]
    return {name: {key: min(one[name][key] for one in rounds) for key in rounds[0][name]} for name in ways}


def forget(logs: Path, cache: str) -> None:
    """Delete the indexes of this reader."""
    shutil.rmtree(logs / ".mlxp", ignore_errors=True)
    shutil.rmtree(cache, ignore_errors=True)


def show(title: str, ways: dict[str, dict[str, float]], base: str) -> None:
    names = ["open", "open again", "filter", "group and average", "full table", "peak MB"]
    print(f"\n{title}\n| | {' | '.join(names)} |\n|---|{'---:|' * len(names)}")
    for way, seen in ways.items():
        cells = []
        for name in names:
            if name not in seen:
                cells.append("")
                continue
            of = ways[base].get(name)
            ratio = f" ({seen[name] / of:.2f})" if of and way != base else ""
            cells.append((f"{seen[name]:.0f}" if name == "peak MB" else f"{seen[name]:.4f}") + ratio)
        print(f"| {way} | {' | '.join(cells)} |")


def main() -> None:
    """Measure and print."""
    if len(sys.argv) > 2 and sys.argv[1] == "way":
        {"ours": ours, "queries": queries}[sys.argv[2]](sys.argv[3]) if len(sys.argv) == 4 else by_hand(*sys.argv[3:])
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", nargs="+", type=int, default=[100, 1000])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--mlxp", default="")
    options = parser.parse_args()
    print("CPU seconds; in brackets the ratio to the first row")
    for count in options.runs:
        for theirs in (False, True):
            with tempfile.TemporaryDirectory() as folder:
                logs, cache = Path(folder, "logs"), f"{folder}/cache"
                logs.mkdir()
                write(logs, count, theirs=theirs)
                floor = "yaml" if theirs else "json"

                def hand(index: str, logs: Path = logs, cache: str = cache) -> dict[str, float]:
                    return process("way", "hand", str(logs), index, cache=cache)

                def ours_again(logs: Path = logs, cache: str = cache) -> dict[str, float]:
                    return process("way", "ours", str(logs), cache=cache)

                def ours_first(logs: Path = logs, cache: str = cache) -> dict[str, float]:
                    forget(logs, cache)
                    return ours_again(logs, cache)

                ways = best(
                    options.repeat,
                    {
                        f"by hand, {floor}": partial(hand, floor),
                        "this reader, first process": ours_first,
                        "this reader, later process": ours_again,
                        "by hand, Parquet index": partial(hand, "index"),
                    },
                )
                index = ways["by hand, Parquet index"]
                ways["five stat calls a run and the index"] = {"open again": index.pop("five stats")}
                if theirs and options.mlxp:
                    command = [options.mlxp, "-c", MLXP, str(logs), QUERY, json.dumps(QUERIES)]
                    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
                    ways["MLXP"] = found["seen"]
                    same = found["ids"] == process("way", "queries", str(logs), cache=cache)
                    print(f"the same run ids for {len(QUERIES)} queries: {same}")
                show(f"{count} runs, {'written by MLXP' if theirs else 'ours'}", ways, f"by hand, {floor}")


if __name__ == "__main__":
    main()

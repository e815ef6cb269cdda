"""The public API as users write it, for mypy alone; never run.

Right uses have the type named here, and wrong ones are errors: an ignore that is not needed is an error as well
(``warn_unused_ignores``), so each ``# type: ignore`` asserts that mypy refuses its line. tests/run.sh checks this file
beside the sources, end_to_end/test_packaging.py against the installed wheel. Bugs that it finds: a signature that
becomes Any or another one, and a name that is no longer public.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import polars as pl
from typing_extensions import assert_type

import mlxp_core
from hydra_plugins.mlxp.config import CallbackConf, LauncherConf, SweeperConf
from mlxp_core import Run, current_run, start_run
from mlxp_core.artifacts import register_artifact_type
from mlxp_core.errors import ArtifactNotFoundError, MlxpError, QueryError
from mlxp_core.reader import (
    Aggregation,
    Artifact,
    AvgStd,
    Best,
    GroupedRuns,
    Last,
    MeanCI,
    Median,
    Problem,
    Quantiles,
    Reader,
    Reduction,
    Runs,
    StatisticsWarning,
    compile_query,
    scan_metrics,
    scan_runs,
)
from mlxp_core.reader import Run as FinishedRun

assert_type(mlxp_core.__version__, str)


class Model:
    """An object of the user's, of a type that this package knows nothing of."""


def save_model(model: Any, path: str) -> None:
    Path(path).write_text(repr(model))


def load_model(path: str) -> Model:
    return Model()


def train(epochs: int) -> None:
    run = current_run()
    assert_type(run, Run)
    assert_type(run.id, int | None)
    assert_type(run.dir, Path)
    assert_type(run.attempt, int)
    assert_type(run.original_path("data/train.bin"), Path)
    assert_type(run.original_path(Path("data")), Path)

    start = 0
    try:
        model, start = run.load_checkpoint()  # Any: what a pickle holds is the user's
    except ArtifactNotFoundError:
        model = Model()
    for epoch in range(start, epochs):
        run.log_metrics({"loss": 0.5, "epoch": epoch, "note": "warm", "nothing": None}, log_name="train")
        assert_type(run.log_checkpoint((model, epoch + 1)), Path)
        assert_type(run.log_checkpoint(model, log_name="best"), Path)
        assert_type(run.stop_requested, bool)
        if run.stop_requested:
            return

    register_artifact_type("model", save_model, load_model)
    run.register_artifact_type("model", save_model, load_model)
    assert_type(run.log_artifacts(model, "final"), Path)
    assert_type(run.log_artifacts({"weight": 1.0}, "weights", "json"), Path)
    assert_type(run.log_artifacts(model, artifact_name="final", artifact_type="model"), Path)
    assert_type(run.load_artifacts("weights"), Any)
    assert_type(run.load_artifacts("weights", artifact_type="json", root=run.dir), Any)
    assert_type(run.load_artifacts("weights", mmap_mode="r"), Any)
    assert_type(run.load_checkpoint("best", root="logs/3"), Any)
    assert_type(run.load_checkpoint(map_location="cpu"), Any)
    run.resume_metrics(step=35)
    run.resume_metrics(step=0.5)


def outside_of_hydra(config: Mapping[str, Any]) -> None:
    with start_run("logs", config) as run:
        assert_type(run, Run)
    with start_run(Path("logs")) as run:
        run.log_metrics({"loss": 1.0}, "train")
    run = start_run("logs", config)
    assert_type(run.config, dict[str, Any])
    assert_type(run.metrics("train"), dict[str, list[Any]])
    run.finish()
    run.finish(ValueError("it diverged"))


def wrong_logging(run: Run) -> None:
    run.log_metrics({"loss": 0.1})  # type: ignore[call-arg]
    run.log_metrics(0.1, "train")  # type: ignore[arg-type]
    run.log_artifacts({"weight": 1.0})  # type: ignore[call-arg]
    run.log_artifacts({"weight": 1.0}, 3)  # type: ignore[arg-type]
    run.log_artifact({"weight": 1.0}, "weights")  # type: ignore[attr-defined]
    run.load_artifacts(3)  # type: ignore[arg-type]
    run.load_checkpoint(root=3)  # type: ignore[arg-type]
    run.resume_metrics(35)
    run.resume_metrics(step="35")  # type: ignore[arg-type]
    run.original_path(3)  # type: ignore[arg-type]
    run.id = 3  # type: ignore[misc]
    run.dir = Path()  # type: ignore[misc]
    run.stop_requested = True  # type: ignore[misc]
    run.config = {}  # type: ignore[misc]
    run.finish("FAILED")  # type: ignore[arg-type]
    run.metrics()  # type: ignore[call-arg]
    run.stop_requested()  # type: ignore[operator]
    run.dir + "/metrics"  # type: ignore[operator]
    register_artifact_type("model", load_model, save_model)  # type: ignore[arg-type]
    start_run()  # type: ignore[call-arg]
    start_run("logs", ["lr=1"])  # type: ignore[arg-type]
    current_run("logs")  # type: ignore[call-arg, arg-type]
    assert_type(current_run(optional=True), Run)
    mlxp_core.curent_run()  # type: ignore[attr-defined]


def scan() -> None:
    runs = scan_runs("logs")
    assert_type(runs, pl.LazyFrame)
    assert_type(scan_runs(Path("logs")), pl.LazyFrame)
    assert_type(scan_metrics("logs", "train"), pl.LazyFrame)
    condition = compile_query("config.seed == 1", runs.collect_schema())
    assert_type(condition, pl.Expr)
    assert_type(compile_query("", {"config.seed": pl.Int64()}, untyped=["config.note"]), pl.Expr)
    assert_type(runs.filter(condition).collect(), pl.DataFrame)


def read() -> None:
    reader = Reader("logs")
    Reader(Path("logs"))
    assert_type(len(reader), int)
    assert_type(reader.fields, pl.DataFrame)
    assert_type(reader.searchable, pl.DataFrame)
    assert_type(reader.problems, list[Problem])
    assert_type(reader.problems[0].path, str)
    assert_type(reader.problems[0].what, str)
    try:
        assert_type(reader.filter("info.status == 'COMPLETE'"), Runs)
    except QueryError as error:
        as_ours: MlxpError = error
        as_builtin: ValueError = error
        print(as_ours, as_builtin)
    category: type[UserWarning] = StatisticsWarning
    print(category)

    runs = reader.filter()
    assert_type(len(runs), int)
    assert_type(runs.columns, list[str])
    assert_type(runs.schema, pl.Schema)
    assert_type(runs.metadata, pl.DataFrame)
    assert_type(runs.lazy(), pl.LazyFrame)
    assert_type(runs.collect(), pl.DataFrame)
    assert_type(runs.to_pandas(use_pyarrow_extension_array=True), Any)
    assert_type(runs.diff(), dict[str, list[Any]])
    assert_type(runs.diff("info"), dict[str, list[Any]])
    assert_type(runs.select("id", ["config.seed"]), Runs)
    assert_type(runs.sort("config.seed"), Runs)
    assert_type(runs.sort(["config.seed", "id"], descending=[True, False]), Runs)
    assert_type(runs.where(pl.col("config.seed") > 1), Runs)
    assert_type(runs.latest(), Runs)
    assert_type(runs.best("val.acc", mode="max"), FinishedRun)
    assert_type(runs.best(Last("val.acc")), FinishedRun)
    assert_type(runs[0], FinishedRun)
    assert_type(runs[-5:], Runs)
    for run in runs:
        assert_type(run, FinishedRun)
        assert_type(run["train.loss"], Any)
        assert_type(dict(run), dict[str, Any])
    artifact: Artifact = runs[0]["artifact.json.weights"]
    assert_type(artifact.type, str)
    assert_type(artifact.name, str)
    assert_type(artifact.path, str)
    assert_type(artifact.load(), Any)


class Spread:
    """An aggregation of the user's own, which derives from nothing."""

    columns: Sequence[str] = ("spread",)

    def over_groups(self, runs: pl.LazyFrame, keys: Sequence[str], schema: Mapping[str, pl.DataType]) -> pl.LazyFrame:
        value = pl.col("info.duration")
        return runs.group_by(keys).agg((value.max() - value.min()).alias("spread"))


class First:
    """A reduction of the user's own."""

    numbers: Sequence[str] = ("first",)

    def per_run(self, schema: Mapping[str, pl.DataType]) -> list[pl.Expr]:
        return [pl.col("train.loss").list.first().alias("first")]


def aggregate(runs: Runs, mode: Literal["min", "max"]) -> None:
    groups = runs.group_by(["config.optimizer.lr"])
    assert_type(groups, GroupedRuns)
    assert_type(runs.group_by("config.seed"), GroupedRuns)
    assert_type(runs.groupby("config.seed"), GroupedRuns)
    assert_type(runs.groupBy("config.seed"), GroupedRuns)
    assert_type(list(groups), list[tuple[Any, ...]])
    assert_type(groups[0.1], Runs)
    assert_type(groups[0.1,], Runs)
    assert_type(groups.select(pl.DataFrame({"config.optimizer.lr": [0.1]})), GroupedRuns)
    assert_type(groups.select([0.1, 0.2]), GroupedRuns)
    assert_type(groups.best(First(), mode=mode, per="config.optimizer.lr"), GroupedRuns)
    assert_type(groups.best("val.acc", per=["config.optimizer.lr"]), GroupedRuns)
    for values, members in groups.items():
        assert_type(values, tuple[Any, ...])
        assert_type(members, Runs)

    best = Best("val.acc", mode=mode, also=["test.acc"])
    aggregations: list[Aggregation] = [
        AvgStd("train.loss", ddof=0, ragged="truncate"),
        AvgStd("train.loss", by="step", fill="interpolate"),
        Best("val.acc", by="epoch", also=["test.acc"]),
        Last("val.acc", by="epoch"),
        MeanCI("train.loss", method="bootstrap", force=True),
        AvgStd(Best("val.acc", mode="max", also="test.acc")),
        AvgStd(pl.col("config.seed") * 2),
        AvgStd(First()),
        Median("train.loss"),
        Quantiles("train.loss", [0.1, 0.9]),
        MeanCI(Last("train.loss"), level=0.9, method="bootstrap", resamples=100, seed=1),
        best,
        Last("train.loss"),
        Spread(),
    ]
    reductions: list[Reduction] = [best, Last("train.loss"), First()]
    assert_type(groups.aggregate(aggregations), pl.LazyFrame)
    assert_type(groups.aggregate(AvgStd("train.loss")), pl.LazyFrame)
    assert_type(groups.aggregate([AvgStd("train.loss"), Last("test.loss")]), pl.LazyFrame)
    assert_type(runs.aggregate([AvgStd(reduction) for reduction in reductions]), pl.LazyFrame)
    assert_type(AvgStd("train.loss").columns, list[str])
    assert_type(best.columns, list[str])
    assert_type(best.numbers, list[str])


def wrong_reading(reader: Reader, runs: Runs, groups: GroupedRuns) -> None:
    Reader()  # type: ignore[call-arg]
    reader.filter(pl.col("config.seed") == 1)  # type: ignore[arg-type]
    reader.fields = pl.DataFrame()  # type: ignore[misc]
    scan_runs(["logs", 3])  # type: ignore[list-item]
    scan_metrics("logs")  # type: ignore[call-arg]
    compile_query("config.seed == 1")  # type: ignore[call-arg]
    runs["train.loss"]  # type: ignore[call-overload]
    runs.where("config.seed == 1")  # type: ignore[arg-type]
    runs.best("val.acc", mode="most")  # type: ignore[arg-type]
    AvgStd("train.loss", by="step", fill="nearest")  # type: ignore[arg-type]
    runs.sort("id", True)  # type: ignore[call-arg]
    runs.select(pl.col("id"))  # type: ignore[arg-type]
    runs.group_by(3)  # type: ignore[arg-type]
    runs.collect().loss  # type: ignore[attr-defined]  # noqa: B018
    groups.aggregate("train.loss")  # type: ignore[arg-type]
    groups.aggregate([Median])  # type: ignore[list-item]
    groups.aggregate([First()])  # type: ignore[list-item]
    AvgStd(3)  # type: ignore[arg-type]
    AvgStd("train.loss", ragged="longest")  # type: ignore[arg-type]
    AvgStd(Spread())  # type: ignore[arg-type]
    Best("val.acc", mode="most")  # type: ignore[arg-type]
    MeanCI("val.acc", method="normal")  # type: ignore[arg-type]
    Quantiles("val.acc", ["0.5"])  # type: ignore[list-item]
    AvgStd("train.loss").ddof = 0  # type: ignore[misc]


def configure() -> None:
    launcher = LauncherConf(scheduler="slurm", header="#SBATCH --mem=4G", setup=["module load cuda"], wait=True, pack=2)
    assert_type(launcher.template, str | None)
    assert_type(launcher.max_parallel, int | None)
    assert_type(CallbackConf(snapshot="none").log_dir, str)
    assert_type(SweeperConf(repeat={"seed": 5}, resume=True).repeat, dict[str, int] | None)
    LauncherConf(walltime=60)  # type: ignore[call-arg]
    LauncherConf(setup="module load cuda")  # type: ignore[arg-type]

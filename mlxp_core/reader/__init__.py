"""Read a log directory with Polars: everything that a user of the reader imports.

>>> from mlxp_core.reader import AvgStd, Reader, scan_runs
>>> runs = Reader("logs").filter("info.status == 'COMPLETE' & config.optimizer.lr <= 1.")
>>> runs.group_by(["config.optimizer.lr"]).aggregate([AvgStd("train.loss")]).collect()

Needs the log directory and nothing else: no Hydra, no git, no scheduler. Never writes into it.
"""

from __future__ import annotations

from mlxp_core.reader.aggregate import Aggregation, AvgStd, MeanCI, Median, Quantiles
from mlxp_core.reader.longform import scan_metrics
from mlxp_core.reader.problem import Problem
from mlxp_core.reader.query import compile_query
from mlxp_core.reader.reader import Reader
from mlxp_core.reader.reductions import Best, Last, Reduction
from mlxp_core.reader.references import Artifact
from mlxp_core.reader.runs import GroupedRuns, Run, Runs
from mlxp_core.reader.scan import scan_runs

__all__ = [
    "Aggregation",
    "Artifact",
    "AvgStd",
    "Best",
    "GroupedRuns",
    "Last",
    "MeanCI",
    "Median",
    "Problem",
    "Quantiles",
    "Reader",
    "Reduction",
    "Run",
    "Runs",
    "compile_query",
    "scan_metrics",
    "scan_runs",
]

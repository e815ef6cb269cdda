"""Read a log directory with Polars. What users import is here.

>>> from mlxp_core.reader import AvgStd, Reader, scan_runs
>>> runs = Reader("logs").filter("info.status == 'COMPLETE' & config.optimizer.lr <= 1.").latest()
>>> runs.group_by(["config.optimizer.lr"]).aggregate([AvgStd("train.loss")]).collect()

Needs the log directory and nothing else: no Hydra, no git, no scheduler. Never writes into it.
"""

from __future__ import annotations

from mlxp_core.errors import StatisticsWarning
from mlxp_core.reader.frame.artifact import Artifact
from mlxp_core.reader.frame.runs import GroupedRuns, Runs
from mlxp_core.reader.frame.runs import RunView as Run
from mlxp_core.reader.frame.scan_metrics import scan_metrics
from mlxp_core.reader.frame.scan_runs import scan_runs
from mlxp_core.reader.load.problem import Problem
from mlxp_core.reader.query.compiler import compile_query
from mlxp_core.reader.reader import Reader
from mlxp_core.reader.statistics.aggregations import Aggregation, AvgStd, MeanCI, Median, Quantiles
from mlxp_core.reader.statistics.reductions import Best, Last, Reduction

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
    "StatisticsWarning",
    "compile_query",
    "scan_metrics",
    "scan_runs",
]

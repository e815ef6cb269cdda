"""Print mean and standard deviation over the seeds: python read.py [log directory]."""

import sys

import polars as pl

from mlxp_core.reader import AvgStd, Reader

# of a seed that was trained twice, the newer run
runs = Reader(sys.argv[1] if len(sys.argv) > 1 else "logs").filter("info.status == 'COMPLETE'").latest()
table = (
    runs.group_by(["config.optimizer.lr"])
    .aggregate([AvgStd("train.loss"), AvgStd("test.loss"), AvgStd("test.accuracy")])
    # lists along the epochs; of each the last one
    .with_columns(pl.exclude("config.optimizer.lr").list.last())
    .collect()
)
with pl.Config(tbl_cols=-1, tbl_rows=-1, tbl_hide_column_data_types=True, float_precision=4, tbl_width_chars=200):
    print(f"{len(runs)} complete runs, after the last epoch:")
    print(table)

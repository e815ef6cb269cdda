"""Run a job script with multirun arguments: what `mlxpsub` does."""

from mlxp_core import start_run

with start_run("logs", {"lr": 8.0, "words": ["a", "b"]}) as run:
    run.log_metrics({"loss": float("inf")}, log_name="train")
    run.log_metrics({"loss": 8.0}, log_name="train")

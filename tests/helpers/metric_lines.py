"""Metric files as a strict JSON reader has them."""

from __future__ import annotations

import json

from mlxp_core.recording.run import Run
from mlxp_core.runs.layout import RunDir


def lines(run: Run, log_name: str = "train") -> list[object]:
    """Metric lines, by a strict reader: Python's own takes NaN for JSON."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    text = (run.dir / "metrics" / f"{log_name}.json").read_text(encoding="utf-8")
    return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


def steps(layout: RunDir, log_name: str = "train") -> list[int]:
    """The step of each line."""
    return [json.loads(line)["step"] for line in layout.metric_file(log_name).read_text().splitlines()]

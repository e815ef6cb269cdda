"""One log_metrics call, side by side with the least that could be done: json.dumps and one write on an open file.

    python tests/benchmarks/log_metrics.py [calls]

CPU time per call, the two taking turns; and the ratio of the medians. Ours are by orjson where that is installed.
"""

import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from mlxp_core.recording.metrics import encode_line, line_encoder
from mlxp_core.recording.run import Run
from mlxp_core.runs.layout import RunDir

ROUNDS = 9


def main() -> None:
    """Measure and print."""
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as name:
        run = Run(RunDir(Path(name, "1")))
        bare = os.open(Path(name, "bare.json"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        seen: dict[str, list[float]] = {"bare": [], "ours": []}
        for _ in range(ROUNDS):
            start = time.process_time()
            for step in range(calls):
                os.write(
                    bare, (json.dumps({"loss": 0.123456 + step, "accuracy": 0.9876, "step": step}) + "\n").encode()
                )
            seen["bare"].append((time.process_time() - start) / calls)
            start = time.process_time()
            for step in range(calls):
                run.log_metrics({"loss": 0.123456 + step, "accuracy": 0.9876, "step": step}, log_name="train")
            seen["ours"].append((time.process_time() - start) / calls)
        run.close()
        written, expected = run.layout.metric_file("train").read_bytes(), Path(name, "bare.json").read_bytes()
        same = [json.loads(line) for line in written.splitlines()] == [json.loads(one) for one in expected.splitlines()]
    base = statistics.median(seen["bare"])
    for way, values in seen.items():
        print(
            f"{way}: {statistics.median(values) * 1e6:.2f} µs CPU a call, ratio {statistics.median(values) / base:.2f}"
        )
    by = "json" if line_encoder() is encode_line else "orjson"
    print(f"written by {by}; the same values: {same}")


if __name__ == "__main__":
    main()

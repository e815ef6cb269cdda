"""20 queries, the log directory that they are put to, and the run ids that MLXP 1.0.5's own reader gave for them.

`PYTHON tests/helpers/mlxp_queries.py`, with an interpreter that has mlxp 1.0.5, asks its reader again and prints the
answers, which are those below (recorded on 2026-11-26, with Python 3.11 and tinydb 4.9).
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from pathlib import Path

ANSWERS = {
    "": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24],
    "info.status == 'COMPLETE' & config.optimizer.lr <= 1.": [2, 6, 8, 12, 14, 18, 20, 24],
    "config.seed == 1": [2, 7, 12, 17, 22],
    "config.seed != 1": [1, 3, 4, 5, 6, 8, 9, 10, 11, 13, 14, 15, 16, 18, 19, 20, 21, 23, 24],
    "config.seed < 0": [5, 10, 15, 20],
    "config.seed >= 1": [2, 3, 4, 7, 8, 9, 12, 13, 14, 17, 18, 19, 22, 23, 24],
    "config.seed > -2 & config.seed < 2": [1, 2, 5, 6, 7, 10, 11, 12, 15, 16, 17, 20, 21, 22],
    "config.seed in [1, 2, 9]": [2, 3, 7, 8, 12, 13, 17, 18, 22, 23],
    "~(config.seed in [1, 2])": [1, 4, 5, 6, 9, 10, 11, 14, 15, 16, 19, 20, 21, 24],
    "config.name == 'sgd'": [2, 7, 12, 17, 22],
    "config.name != 'sgd'": [1, 3, 4, 6, 8, 9, 11, 13, 14, 16, 18, 19, 21, 23, 24],
    "config.name in ['adam', 'lamb']": [1, 3, 6, 8, 11, 13, 16, 18, 21, 23],
    "~config.name == 'sgd'": [1, 3, 4, 5, 6, 8, 9, 10, 11, 13, 14, 15, 16, 18, 19, 20, 21, 23, 24],
    "config.name == 'adam' | config.name == 'sgd' & config.seed == 1": [1, 2, 6, 7, 11, 12, 16, 17, 21, 22],
    "(config.name == 'adam' | config.name == 'sgd') & config.seed == 1": [2, 7, 12, 17, 22],
    "~(config.name == 'sgd') & config.seed == 2 | config.optimizer.lr > 1": [3, 4, 8, 10, 13, 16, 18, 22, 23],
    "config.optimizer.lr == 1": [2, 3, 8, 9, 14, 15, 20, 21],
    "config.optimizer.lr > 0.01 & config.optimizer.lr < 1.0": [1, 7, 13, 19],
    "config.late >= 0": [7, 14, 21],
    "~config.late >= 0 & info.status in ['FAILED', 'LOST']": [1, 5, 9, 13, 17],
}

STATUSES = ("COMPLETE", "FAILED", "COMPLETE", "RUNNING")
NAMES = ("sgd", "adam", "sgd", "lamb", "SGD")
RATES = ("0.01", "0.1", "1.0", "1", "10.0", "-1.0e-3")


def write(logs: Path) -> None:
    """Write 24 runs as MLXP does; every fifth has no name, every seventh has a field that the others lack."""
    for number in range(1, 25):
        run = logs / str(number)
        (run / "metadata").mkdir(parents=True)
        (run / "metrics/.keys").mkdir(parents=True)
        name = f"name: {NAMES[number % 5]}\n" if number % 5 else ""
        late = f"late: {number % 2}\n" if number % 7 == 0 else ""
        config = f"seed: {number % 5 - 1}\n{name}{late}optimizer:\n  lr: {RATES[number % 6]}\n"
        (run / "metadata/config.yaml").write_text(config)
        (run / "metadata/info.yaml").write_text(
            f"status: {STATUSES[number % 4]}\nhostname: elsewhere\nprocess_id: {number}\n"
            f"logger:\n  log_dir: /logs/{number}\n  log_id: {number}\n"
        )
        (run / "metrics/train.json").write_text('{"loss": 1.0}\n')
        (run / "metrics/.keys/train.yaml").write_text("loss: ''\n")


def ask_mlxp() -> None:
    """Print what MLXP's reader answers."""
    import mlxp

    with tempfile.TemporaryDirectory() as folder:
        logs = Path(folder, "logs")
        write(logs)
        with contextlib.redirect_stdout(io.StringIO()):
            reader = mlxp.Reader(str(logs))
            answers = {
                query: sorted(run["info.logger.log_id"] for run in reader.filter(query_string=query))
                for query in ANSWERS
            }
    for query, ids in answers.items():
        print(f"    {query!r}: {ids},")


if __name__ == "__main__":
    ask_mlxp()

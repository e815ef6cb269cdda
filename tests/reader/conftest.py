"""Log directories made by hand, file by file, and a record of the files that were opened."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from mlxp_core.reader import scan_runs

_records: list[list[str]] = []


def _record(event, arguments):
    if event == "open" and isinstance(arguments[0], str):
        for record in _records:
            record.append(arguments[0])


# never removed (Python has no way to), so it does nothing unless a test records
sys.addaudithook(_record)


class Logs:
    """A log directory under construction."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()

    def run(self, name, config=None, info=None, metrics=None, *, keys=True) -> Path:
        """Write a run. ``metrics``: log name -> lines, each a mapping (written as JSON) or text (written as it is)."""
        run = self.path / str(name)
        (run / "metadata").mkdir(parents=True)
        (run / "metadata/config.yaml").write_text(yaml.safe_dump(config or {}, sort_keys=False), encoding="utf-8")
        info = {"status": "COMPLETE"} if info is None else info
        (run / "metadata/info.yaml").write_text(yaml.safe_dump(info, sort_keys=False), encoding="utf-8")
        for log_name, lines in (metrics or {}).items():
            self.log(run, log_name, lines, keys=keys)
        return run

    @staticmethod
    def log(run: Path, log_name, lines, *, keys=True) -> None:
        """Write a metric file and, with ``keys``, the list of its keys."""
        (run / "metrics/.keys").mkdir(parents=True, exist_ok=True)
        text = "".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines)
        (run / f"metrics/{log_name}.json").write_text(text, encoding="utf-8")
        if keys:
            types = {}
            for line in lines:
                for key, value in line.items() if isinstance(line, dict) else ():
                    if value is None:  # as the writer does: the key is learnt with its first value
                        continue
                    number = isinstance(value, int | float) or value in ("NaN", "Infinity", "-Infinity")
                    types[key, "number" if number else "other"] = None
            text = "".join(json.dumps(pair) + "\n" for pair in types)
            (run / f"metrics/.keys/{log_name}.json").write_text(text, encoding="utf-8")

    def column(self, name) -> list:
        """Read a column of all runs."""
        return scan_runs(self.path).select(name).collect()[name].to_list()

    @contextlib.contextmanager
    def files_opened(self) -> Iterator[list[str]]:
        """List all files and folders in the log directory that are opened meanwhile; complete only afterwards."""
        record: list[str] = []
        opened: list[str] = []
        _records.append(record)
        try:
            yield opened
        finally:
            _records.remove(record)
            home = str(self.path)
            for name in record:
                if name == home or name.startswith(f"{home}/"):
                    opened.append(name[len(home) + 1 :])
                elif not name.startswith("/") and Path(home, name).exists():  # relative to the directory as it is open
                    opened.append(name)

    @contextlib.contextmanager
    def metric_files_opened(self) -> Iterator[list[str]]:
        """List the metric files, as ``run/log``, that are opened meanwhile; complete only afterwards."""
        record: list[str] = []
        opened: list[str] = []
        _records.append(record)
        try:
            yield opened
        finally:
            _records.remove(record)
            for name in record:
                relative = os.path.relpath(name, self.path)
                parts = Path(relative).parts
                if len(parts) == 3 and parts[1] == "metrics":
                    opened.append(f"{parts[0]}/{parts[2].removesuffix('.json')}")


@pytest.fixture
def logs(tmp_path) -> Logs:
    return Logs(tmp_path / "logs")


@pytest.fixture(scope="session")
def new_logs(tmp_path_factory) -> Callable[[], Logs]:
    """Make one log directory after another, for tests that need many."""
    return lambda: Logs(tmp_path_factory.mktemp("reader") / "logs")

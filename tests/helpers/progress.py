"""What a run of the tests says, and how many of them run side by side. A plugin of pytest, for xdist and without it.

A failure is shown when it happens. In CI there is a line for each package in the place of a dot for each test. The end
says what was not run, and why.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest

# the markers of what needs a real cluster
CLUSTERS = {"slurm": "Slurm", "sge": "Grid Engine", "oar": "OAR", "torque": "TORQUE's commands"}
THOROUGH = "thorough"  # the marker of what takes long
PROGRAM = "program"  # the marker of what starts a project's programs
MARKERS = (*CLUSTERS, THOROUGH, PROGRAM)
SECONDS = "hydra-mlxp/seconds"  # in pytest's cache: how long each test took when it last ran
WORKERS = 4  # most tests wait for other processes
WORTH = 10.0  # seconds of tests for which workers are started: the start of each costs one of CPU


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Choose for ``-n auto``: none for what took little time when it last ran."""
    path = config.rootpath / config.getini("cache_dir") / "v" / SECONDS
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return WORKERS
    chosen = [os.path.relpath(argument, config.rootpath) for argument in config.args]
    seconds = [time for test, time in known.items() if any(_is_in(test, part) for part in chosen)]
    return 0 if seconds and sum(seconds) < WORTH else WORKERS


def _is_in(test: str, part: str) -> bool:
    """Whether a test is this one, of this file, or in this folder."""
    return part in {".", test} or test.startswith((f"{part}/", f"{part}::", f"{part}["))


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if hasattr(config, "workerinput") or terminal is None:
        config.pluginmanager.register(LeftOut(config))
        return
    config.pluginmanager.register(FailuresAtOnce(terminal))
    config.pluginmanager.register(NotRun(config, terminal))
    config.pluginmanager.register(Seconds(config))
    if os.environ.get("CI") == "true":
        config.pluginmanager.register(LinePerPackage(terminal))


class FailuresAtOnce:
    """Shows the end of a failure when it happens: the whole report comes after the last test, minutes later."""

    def __init__(self, terminal: Any) -> None:
        self._terminal = terminal

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            lines = report.longreprtext.splitlines()[-8:]
            self._terminal.write_line("")
            self._terminal.write_line(f"{report.nodeid} failed in its {report.when}:", red=True)
            for line in lines:
                self._terminal.write_line(f"  {line}")
            self._terminal.flush()


class LinePerPackage:
    """Says of each package, once its last test has ended, what became of its tests; of a test nothing but a failure."""

    def __init__(self, terminal: Any) -> None:
        self._terminal = terminal
        self._left: Counter[str] = Counter()
        self._outcomes: dict[str, Counter[str]] = {}
        self._seconds: Counter[str] = Counter()

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._expect([item.nodeid for item in session.items])

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        if not self._left:  # each worker has the same
            self._expect(ids)

    @pytest.hookimpl(wrapper=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> Any:
        category, _, _ = yield
        if category:
            self._outcomes.setdefault(_package(report.nodeid), Counter())[category] += 1
        return category, "", ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._seconds[_package(report.nodeid)] += report.duration

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        package = _package(nodeid)
        self._left[package] -= 1
        if not self._left[package]:
            self._say(package)

    def pytest_terminal_summary(self) -> None:
        """Say it also of what was cut short."""
        for package in [package for package, left in self._left.items() if left > 0 and package in self._outcomes]:
            self._say(package, f", {self._left[package]} not ended")

    def _expect(self, ids: Iterable[str]) -> None:
        self._left.update(_package(one) for one in ids)

    def _say(self, package: str, more: str = "") -> None:
        counts = self._outcomes.get(package, {})
        outcomes = ", ".join(f"{counts[outcome]} {outcome}" for outcome in sorted(counts, key=_gravest_last))
        seconds = self._seconds[package]
        self._terminal.write_line(f"{package:<18} {outcomes}{more}, {seconds:.0f} s of tests")
        self._terminal.flush()


def _gravest_last(outcome: str) -> tuple[bool, bool, str]:
    return outcome in {"failed", "error"}, outcome != "passed", outcome


def _package(nodeid: str) -> str:
    """The folder of tests/ that a test lies in, or its file."""
    return nodeid.partition("::")[0].removeprefix("tests/").partition("/")[0]


class LeftOut:
    """In each process that collects: counts what was left out: for want of a cluster, or as what takes long."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._names = {name for name in MARKERS if f"not {name}" in config.option.markexpr}
        self._by_name = bool(config.option.keyword)  # pytest goes by -k first, and then by -m
        self.counts: Counter[str] = Counter()

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        if not self._by_name:
            found = [next((name for name in MARKERS if item.get_closest_marker(name)), "") for item in items]
            self.counts.update(name for name in found if name in self._names)
        self._by_name = False

    def pytest_sessionfinish(self) -> None:
        output = getattr(self._config, "workeroutput", None)
        if output is not None:
            output["left_out"] = dict(self.counts)


class NotRun(LeftOut):
    """Says at the end what was not run, and why."""

    def __init__(self, config: pytest.Config, terminal: Any) -> None:
        super().__init__(config)
        self._terminal = terminal

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        self.counts = Counter(getattr(node, "workeroutput", {}).get("left_out", {})) or self.counts

    def pytest_terminal_summary(self) -> None:
        reasons = Counter(_reason(report) for report in self._terminal.stats.get("skipped", []))
        if not self.counts and not reasons:
            return
        self._terminal.write_sep("-", "not run")
        if count := self.counts.pop(THOROUGH, 0):
            self._terminal.write_line(f"{count}: no --thorough (what takes long and seldom breaks; CI runs it)")
        if count := self.counts.pop(PROGRAM, 0):
            self._terminal.write_line(f"{count}: they start programs (tests/run.sh without PACKAGE runs them)")
        if self.counts:
            clusters = ", ".join(f"{count} of {CLUSTERS[name]}" for name, count in self.counts.items())
            self._terminal.write_line(f"{self.counts.total()}: no --clusters ({clusters})")
        for reason, count in reasons.most_common():
            self._terminal.write_line(f"{count}: {reason}")


def _reason(report: pytest.TestReport) -> str:
    return report.longrepr[2].removeprefix("Skipped: ") if isinstance(report.longrepr, tuple) else str(report.longrepr)


class Seconds:
    """Keeps how long each test took."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._seconds: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._seconds[report.nodeid] += report.duration

    def pytest_sessionfinish(self) -> None:
        cache = getattr(self._config, "cache", None)
        if cache is not None and self._seconds:
            rounded = {test: round(seconds, 2) for test, seconds in self._seconds.items()}
            cache.set(SECONDS, {**cache.get(SECONDS, {}), **rounded})

"""A copy of the tree with an environment of its own, in which tests run while something in it is another than here.

As a program it runs tests: tree_copy.py ORDER, a file that TreeCopy.run() has written.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from mutants import Mutant
from support import ROOT

WITHOUT_CLUSTERS = "not slurm and not sge and not oar and not torque"


class Selected:
    """Plugin of pytest: runs some tests in a given order, within a time, and writes down what became of them."""

    def __init__(self, tests: list[str] | None, seconds: float, limits: dict[str, float], report: str) -> None:
        self._rank = None if tests is None else {test: rank for rank, test in enumerate(tests)}
        self._end, self._limits, self._report = time.monotonic() + seconds, limits, report

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        if (rank := self._rank) is not None:
            items[:] = sorted((item for item in items if item.nodeid in rank), key=lambda item: rank[item.nodeid])
        for item in items:
            if item.nodeid in self._limits:
                item.add_marker(pytest.mark.timeout(self._limits[item.nodeid]))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> None:
        if time.monotonic() > self._end:
            item.session.shouldstop = "time is over"
        if "COVERAGE_PROCESS_START" in os.environ:
            import coverage

            if (measured := coverage.Coverage.current()) is not None:
                measured.switch_context(item.nodeid)
            # tells processes whose they are; and a process that stands ready for several tests that it may not
            os.environ["COVERAGE_TEST"] = item.nodeid

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._write(report.nodeid, report.outcome, report.duration)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._write(report.nodeid, "failed", 0)

    def _write(self, test: str, outcome: str, seconds: float) -> None:
        with open(self._report, "a", encoding="utf-8") as file:
            file.write(json.dumps([test, outcome, seconds]) + "\n")


def run_selected(order: dict[str, Any]) -> int:
    """Run tests in this process, which TreeCopy.run() has started in its copy."""
    resource.setrlimit(resource.RLIMIT_DATA, (8 << 30, 8 << 30))  # a loop without end is not to take the machine down
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, 1 << 30))
    files = list(dict.fromkeys(test.split("::")[0] for test in order["tests"] or order["files"]))
    plugin = Selected(order["tests"], order["seconds"], order["limits"], order["report"])
    options = ["-q", "--tb=short", "-m", WITHOUT_CLUSTERS, f"--basetemp={order['folder']}/t"]
    options += ["-o", f"cache_dir={order['folder']}/cache"]
    return int(pytest.main([*options, *(["-x"] if order["tests"] else []), *files], plugins=[plugin]))


class Outcome(NamedTuple):
    """What became of a test, or of one of set-up, call and teardown."""

    test: str
    word: str
    seconds: float


class Ran(NamedTuple):
    """What became of some tests, and the exit code of pytest; None where its end was waited for in vain."""

    outcomes: list[Outcome]
    code: int | None

    @property
    def failed(self) -> list[str]:
        return [outcome.test for outcome in self.outcomes if outcome.word == "failed"]

    @property
    def fault(self) -> str:
        """Why it ended as pytest does not end."""
        usual = {
            pytest.ExitCode.OK,
            pytest.ExitCode.TESTS_FAILED,
            pytest.ExitCode.INTERRUPTED,
            pytest.ExitCode.NO_TESTS_COLLECTED,
        }
        return "time" if self.code is None else "" if self.code in usual else f"exit code {self.code}"


@functools.cache
def isolation() -> list[str]:
    """A prefix for commands: with processes of their own, which end with them, and that can harm no others."""
    prefix = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    possible = (
        shutil.which("unshare") and not subprocess.run([*prefix, "true"], check=False, capture_output=True).returncode
    )
    return [*prefix, "bash", "-c", '"$@"; exit $?', "init"] if possible else []  # bash, as init, buries orphans


class TreeCopy:
    """A copy of the tree, with an environment that runs it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tree, self.python = self.folder / "tree", self.folder / "venv" / "bin" / "python"
        listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        for name in subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0"):
            if name and (ROOT / name).is_file():
                (self.tree / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, self.tree / name)
        identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
        for command in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-qm", "copy"]):
            subprocess.run(["git", *command], cwd=self.tree, check=True)
        self._make_venv()
        # byte code that is checked against the source by its contents: by time and size a fault may look like none
        hashed = ["--invalidation-mode", "checked-hash"]
        command = [self.python, "-m", "compileall", "-q", *hashed, "mlxp_core", "hydra_plugins"]
        subprocess.run(command, cwd=self.tree, check=True)

    def _make_venv(self) -> None:
        """All of the environment that this script runs in, but for the product, which is the copy."""
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", self.python.parents[1]], check=True)
        (site,) = self.python.parents[1].glob("lib/python*/site-packages")
        ours = [entry for entry in sys.path if entry.endswith("site-packages")]
        site.joinpath("copy.pth").write_text("\n".join([str(self.tree), *ours]) + "\n")  # nothing is read of their .pth
        # a process that becomes another program hands on its settings, and with them the name of another test
        site.joinpath("measure.pth").write_text(
            "import os; os.getenv('COVERAGE_PROCESS_START') and (os.environ.pop('COVERAGE_PROCESS_CONFIG', None), "
            "__import__('coverage').process_startup())\n"
        )
        for program in Path(sys.executable).parent.iterdir():
            own = self.python.with_name(program.name)
            if own.exists() or not program.is_file():
                continue
            shebang, rest = (program.read_bytes() + b"\n").split(b"\n", 1)
            if shebang.startswith(b"#!") and bytes(Path(sys.executable).parent) in shebang:
                own.write_bytes(f"#!{self.python}\n".encode() + rest)
                own.chmod(0o755)
            else:
                own.symlink_to(program)

    def run(self, tests: list[str] | None, seconds: float, limits: dict[str, float] | None = None, **more: Any) -> Ran:
        """Run tests up to the first that fails."""
        report = self.folder / "report"
        report.write_text("")
        order = {"tests": tests, "seconds": seconds, "limits": limits or {}, "report": str(report)}
        order |= {"folder": str(self.folder), "files": more.pop("files", None)}
        (self.folder / "order").write_text(json.dumps(order))
        dropped = ("PYTHONPATH", "PYTEST_ADDOPTS", "VIRTUAL_ENV")
        environment = {name: value for name, value in os.environ.items() if name not in dropped} | more
        command = [*isolation(), self.python, "tests/helpers/tree_copy.py", self.folder / "order"]
        with open(self.folder / "output", "w", encoding="utf-8") as out, open(os.devnull, encoding="utf-8") as null:
            process = subprocess.Popen(
                command, cwd=self.tree, env=environment, start_new_session=True, stdin=null, stdout=out, stderr=out
            )
            code = None
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = process.wait(seconds + 120 + max((limits or {}).values(), default=600))
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        return Ran([Outcome(*json.loads(line)) for line in report.read_text().splitlines()], code)

    def put(self, mutant: Mutant | None, path: str) -> None:
        """Put a fault into the copy, or take it back."""
        source = (ROOT / path).read_bytes()
        (self.tree / path).write_bytes(mutant.apply(source) if mutant else source)


if __name__ == "__main__":
    sys.exit(run_selected(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))

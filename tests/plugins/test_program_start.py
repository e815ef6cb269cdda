"""How a program was started, from what the interpreter has kept of it: its jobs are started the same way."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hydra_plugins.mlxp._command_line import Program, _split_options, find_program, job_overrides
from mlxp_core.runs.layout import RunDir


class Start:
    """This process as if it had been started otherwise, in a folder with main.py and a package app."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self._monkeypatch = folder, monkeypatch
        (folder / "main.py").touch()
        (folder / "app_of_test").mkdir()
        for name in ("__init__", "__main__", "train"):
            (folder / "app_of_test" / f"{name}.py").touch()
        monkeypatch.chdir(folder)
        monkeypatch.syspath_prepend(str(folder))

    def __call__(
        self,
        head: str,
        *arguments: str,
        file: str | None = "main.py",
        module: str | None = None,
        overrides: list[str] | None = None,
        argv: list[str] | None = None,
    ) -> Program | None:
        """Find the program of ``python HEAD ARGUMENTS``."""
        spec = SimpleNamespace(name=module) if module else None
        main = SimpleNamespace(__spec__=spec, **({"__file__": file} if file else {}))
        self._monkeypatch.setitem(sys.modules, "__main__", main)
        self._monkeypatch.setattr(sys, "orig_argv", ["/usr/bin/python", *head.split(), *arguments])
        self._monkeypatch.setattr(sys, "argv", [str(file), *(arguments if argv is None else argv)])
        return find_program([one for one in arguments if "=" in one] if overrides is None else overrides)


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    yield Start(tmp_path, monkeypatch)
    sys.modules.pop("app_of_test", None)


def test_a_script_with_its_options_and_flags(start: Start) -> None:
    """Bug: a job without -O, or without --config-name: it runs something else than was launched."""
    assert start("main.py") == Program((), start.folder / "main.py", None, ())
    found = start(
        "-u -W error -Xdev main.py", "-m", "a=1", "--config-name", "x", "-cd", "conf", "--config-path=p", "b=2"
    )
    assert found == Program(
        ("-u", "-W", "error", "-Xdev"),
        start.folder / "main.py",
        None,
        (("--config-path", "p"), ("--config-name", "x"), ("--config-dir", "conf")),
    )
    assert (Program.function_hash, Program.environment(3)) == (None, {"MLXP_MAIN": "3"})


def test_a_folder_with_a_main_is_a_script_of_its_own(start: Start) -> None:
    """Bug: `python experiment/ -m` has no program, or jobs that run a folder."""
    found = start("app_of_test", "a=1", file="app_of_test/__main__.py")
    assert found == Program((), start.folder / "app_of_test" / "__main__.py", None, ())


def test_a_jobs_arguments_are_its_overrides_and_its_folder() -> None:
    """Bug: all jobs run with the overrides, or the number, of one."""
    job: Any = SimpleNamespace(overrides=["a=1"], number=4)
    given = Program((), Path("/main.py"), None, ()).arguments(["hydra.verbose=true"], job, RunDir(Path("/logs/7")))
    assert given[:3] == ["hydra.verbose=true", "a=1", "hydra.mode=RUN"]
    assert given[3:] == [
        *(
            "hydra.run.dir=/logs/7",
            "hydra.sweep.dir=/logs",
            "hydra.sweep.subdir=7",
            "hydra.job.num=4",
            "hydra.job.id=7",
        ),
    ]


def test_what_hydra_and_the_callback_add_is_not_what_the_program_was_given(start: Start) -> None:
    """Bug: no program of its own is found for any multirun, for its overrides have hydra.mode=MULTIRUN."""
    added = ["a=1", "hydra.mode=MULTIRUN", "hydra.sweep.dir='logs'", "hydra.sweep.subdir=${mlxp:run_id}"]
    assert start("main.py", "a=1", "-m", overrides=added) is not None


@pytest.mark.parametrize(
    ("head", "module", "name"),
    [
        ("-m app_of_test.train", "app_of_test.train", "app_of_test.train"),
        ("-mapp_of_test.train", "app_of_test.train", "app_of_test.train"),
        ("-m app_of_test", "app_of_test.__main__", "app_of_test"),
    ],
)
def test_a_module_is_started_as_a_module(start: Start, head: str, module: str, name: str) -> None:
    """Bug: the file of a package's module run as a script: its relative imports fail in the job."""
    found = start(head, "a=1", file="/p/file.py", module=module)
    assert found == Program((), Path("/p/file.py"), name, ())
    assert found.called == name


@pytest.mark.parametrize(
    ("head", "options", "rest"),
    [
        ("main.py x", (), ["main.py", "x"]),
        ("-u main.py -x", ("-u",), ["main.py", "-x"]),
        ("-W error main.py", ("-W", "error"), ["main.py"]),
        ("-X dev main.py", ("-X", "dev"), ["main.py"]),
        ("--check-hash-based-pycs never main.py", ("--check-hash-based-pycs", "never"), ["main.py"]),
        ("-Werror main.py", ("-Werror",), ["main.py"]),
        ("-um app", ("-u",), ["-m", "app"]),
        ("-mapp x", (), ["-m", "app", "x"]),
        ("-OBmapp x", ("-OB",), ["-m", "app", "x"]),
        ("-u -m app -m x", ("-u",), ["-m", "app", "-m", "x"]),
        ("-W", ("-W",), []),
        ("-", ("-",), []),
        ("", (), []),
    ],
)
def test_the_interpreters_options_end_where_the_program_begins(
    head: str, options: tuple[str, ...], rest: list[str]
) -> None:
    """Bug: `error` of `-W error` for the program; -m in a word with another option not seen."""
    assert _split_options(head.split()) == (options, rest)


@pytest.mark.parametrize(
    ("head", "target", "runner"),
    [
        ("-m cProfile -o out main.py", "main.py", "python main.py`, without -m cProfile -o out"),
        ("kernprof.py main.py", "main.py", "python main.py`, without kernprof.py"),
        (
            "-m coverage run -m app_of_test.train",
            "app_of_test/train.py",
            "-m app_of_test.train`, without -m coverage run",
        ),
        ("tool.py -m app_of_test.train", "app_of_test/train.py", "-m app_of_test.train`, without tool.py"),
    ],
)
def test_a_profiler_before_the_program_is_left_out_and_said_so(
    start: Start, head: str, target: str, runner: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Bug: a thousand jobs under a debugger, which waits for its user; or the profiler's module as the program."""
    found = start(head, "a=1", file="/p/cProfile.py", module="cProfile")
    assert found is not None
    assert (found.file, found.module) == (start.folder / target, "app_of_test.train" if "app" in target else None)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert runner in record.getMessage()


def test_of_a_plain_start_nothing_is_said(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    """Bug: a warning at every launch."""
    start("-u main.py")
    start("-m app_of_test", module="app_of_test.__main__")
    assert caplog.records == []


@pytest.mark.parametrize(
    ("head", "more"),
    [
        ("-c code", {"file": None}),  # python -c; a notebook
        ("-m ipykernel_launcher", {"file": None, "module": "ipykernel_launcher"}),
        ("-m app_of_test", {"module": None}),
        ("", {"file": None}),  # standard input
        ("kernprof.py no_such.py", {}),
        ("kernprof.py -m no_such_module_of_test", {}),
        ("main.py", {"overrides": ["b=1"]}),  # compose() in a test, which the command line does not have
        ("main.py", {"argv": ["b=1"]}),  # it has changed sys.argv
        ("main.py", {"argv": ["b=1"], "overrides": ["b=1"]}),
        ("main.py", {"argv": ["a=1", "b=1", "c=1", "d=1", "e=1"]}),
        ("-W error main.py", {"argv": ["a=1", "b=1", "c=1"]}),
    ],
)
def test_what_is_no_program_of_its_own_is_none(start: Start, head: str, more: dict[str, Any]) -> None:
    """Bug: jobs that run pytest, or the kernel of the notebook, in the place of the function."""
    assert start(head, "a=1", **{"overrides": ["a=1"], **more}) is None


@pytest.mark.parametrize(
    ("override", "is_kept"),
    [
        ("hydra.launcher.pack=2", False),
        ("hydra.launcher={a:1}", False),
        ("~hydra.sweeper", False),
        ("++hydra.sweep.dir=x", False),
        ("hydra.run.dir=x", False),
        ("hydra.mode=MULTIRUN", False),
        ("hydra.job.num=1", False),
        ("hydra.job.id=1", False),
        ("hydra.launcher@p=x", False),
        ("hydra.job.number=1", True),
        ("hydra.run.directory=x", True),
        ("hydra.sweeps=1", True),
        ("hydra/sweeper=mlxp", True),
        ("my.hydra.mode=x", True),
    ],
)
def test_what_the_submission_has_decided_is_not_passed_on(override: str, is_kept: bool) -> None:
    """Bug: a job that sweeps, or that lies in the folder of the multirun; a setting of Hydra's that is lost."""
    given = job_overrides([override], [], run=RunDir(Path("/logs/1")), number=0)
    assert (given[0] == override) is is_kept
    assert len(given) == 6 + is_kept


@pytest.mark.parametrize(
    ("path", "folder", "name"),
    [
        ("/a-b/c_d.e+f/12", "/a-b/c_d.e+f", "12"),
        ("/a/012", "/a", "'012'"),
        ("/a/x", "/a", "'x'"),
        ("/a,b/1", "'/a,b'", "1"),
        ("relative/1", "'relative'", "1"),
        ("/ü/1", "'/ü'", "1"),
    ],
)
def test_folders_that_hydras_grammar_would_misread_are_quoted(path: str, folder: str, name: str) -> None:
    """Bug: a run in a folder called 12 instead of 012; a path with a comma is a sweep."""
    given = dict(one.split("=", 1) for one in job_overrides([], [], run=RunDir(Path(path)), number=7))
    assert (given["hydra.sweep.dir"], given["hydra.sweep.subdir"], given["hydra.job.id"]) == (folder, name, name)
    assert (given["hydra.mode"], given["hydra.job.num"]) == ("RUN", "7")

"""The command line that started this program, and the one that starts a job of it."""

from __future__ import annotations

import importlib.util
import logging
import re
import shlex
import site
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from hydra._internal.utils import get_args_parser

from hydra_plugins.mlxp._names import MAIN
from hydra_plugins.mlxp._run_dirs import quote
from mlxp_core.runs.layout import RunDir, is_run_id

if TYPE_CHECKING:
    from hydra_plugins.mlxp._job import Job

log = logging.getLogger(__name__)

_WITH_A_VALUE = frozenset({"-W", "-X", "--check-hash-based-pycs"})  # of the interpreter's options, in the next word
# decided at the submission: given anew on a job's command line, or of no meaning there
_NOT_PASSED_ON = re.compile(r"[+~]*hydra\.(launcher|sweeper|sweep|run\.dir|mode|job\.num|job\.id)(?=[.=@]|$)")


@dataclass(frozen=True)
class Program:
    """The command line of a Hydra program."""

    options: tuple[str, ...]  # the interpreter's, such as -u or -W error
    file: Path  # absolute, of the script or the module
    module: str | None  # of `python -m`; None for a script
    flags: tuple[tuple[str, str], ...]  # --config-name, --config-path, --config-dir
    main_file: Path | None = None  # of its main function, where the file is a console script that imports it
    function_hash: ClassVar[None] = None  # its files say what it does

    @property
    def code_file(self) -> Path:
        """The file by which its repository is found."""
        return self.main_file or self.file

    @property
    def called(self) -> str:
        """Its word on a command line: the script's file name, or the module's name."""
        return self.module or self.file.name

    def words(self, python: str, map_path: Callable[[Path], Path]) -> list[str]:
        """The command up to the overrides; ``map_path`` says where a file lies in the code that the job runs."""
        # no repository has the script of an installed command
        target = ["-m", self.module] if self.module else [str(self.file if self.main_file else map_path(self.file))]
        flags = []
        for flag, value in self.flags:
            path = Path(value)
            if flag == "--config-dir":
                path = Path.cwd() / path  # relative to the launch directory
            flags += [flag, str(map_path(path)) if path.is_absolute() else value]
        return [python, *self.options, *target, *flags]

    def arguments(self, given: Sequence[str], job: Job, run: RunDir) -> list[str]:
        """The overrides of one job; ``given`` are those of Hydra's own configuration."""
        return job_overrides(given, job.overrides, run=run, number=job.number)

    @staticmethod
    def environment(main: int) -> dict[str, str]:
        """Variables by which a job runs the ``main``th main function alone of those that the program calls."""
        return {MAIN: str(main)}


def find_program(overrides: Sequence[str]) -> Program | None:
    """Tell how this Hydra program was started, from the interpreter's own record.

    None where it was not started as a program of its own: a notebook, a test, ``python -c``.
    """
    arguments = sys.argv[1:]
    head = sys.orig_argv[1 : len(sys.orig_argv) - len(arguments)]
    added = ("hydra.mode=", "hydra.sweep.")  # by Hydra for -m, and by our callback
    given = {override for override in overrides if not override.startswith(added)}
    is_whole = sys.orig_argv[len(sys.orig_argv) - len(arguments) :] == arguments and given <= set(arguments)
    options, rest = _split_options(head)
    target = _file_and_module(rest)
    if target is None or not is_whole:
        return None
    file, module = target
    runner = rest[: -2 if module else -1]
    if runner:
        log.warning("the jobs run `python %s`, without %s", f"-m {module}" if module else rest[-1], shlex.join(runner))
    known, _ = get_args_parser().parse_known_args(arguments)
    flags = [
        ("--config-path", known.config_path),
        ("--config-name", known.config_name),
        ("--config-dir", known.config_dir),
    ]
    return Program(options, file, module, tuple((flag, value) for flag, value in flags if value is not None))


def is_console_script(file: Path) -> bool:
    """Tell if a file is one that pip or uv has made, to import a package and call its main function."""
    return file.parent in {Path(sys.executable).parent, Path(sys.prefix, "bin"), Path(site.USER_BASE or "-", "bin")}


def _split_options(head: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """Split off the interpreter's own options; in the rest, ``-m`` is a word of its own."""
    options: list[str] = []
    rest = list(head)
    while rest and rest[0].startswith("-"):
        word = rest.pop(0)
        if match := re.fullmatch(r"-(\w*?)m(.*)", word):
            options += [f"-{match[1]}"] if match[1] else []
            return tuple(options), ["-m", *([match[2]] if match[2] else []), *rest]
        options.append(word)
        if word in _WITH_A_VALUE and rest:
            options.append(rest.pop(0))
    return tuple(options), rest


def _file_and_module(rest: Sequence[str]) -> tuple[Path, str | None] | None:
    """The program's file, and its name where it was started as a module.

    The last words say so. Others before them are those of a profiler, a debugger or the like, in this very process.
    """
    main = sys.modules["__main__"]
    file, spec = getattr(main, "__file__", None), getattr(main, "__spec__", None)
    if len(rest) == 1:
        return (Path(file).absolute(), None) if file else None
    if len(rest) == 2 and rest[0] == "-m":  # noqa: PLR2004
        # `python -m pkg` runs pkg.__main__
        return (Path(file).absolute(), spec.name.removesuffix(".__main__")) if file and spec else None
    if rest[-2:-1] == ["-m"]:
        origin = getattr(importlib.util.find_spec(rest[-1]), "origin", None)
        return (Path(origin), rest[-1]) if origin else None
    return (Path(rest[-1]).absolute(), None) if rest and Path(rest[-1]).is_file() else None


def job_overrides(
    hydra_overrides: Iterable[str], task_overrides: Iterable[str], *, run: RunDir, number: int
) -> list[str]:
    """The overrides of one job's command line, in RUN mode, in the folder that is its own."""
    log_dir, name = run.path.parent, run.path.name
    return [
        *(override for override in hydra_overrides if not _NOT_PASSED_ON.match(override)),
        *task_overrides,
        "hydra.mode=RUN",
        f"hydra.run.dir={_quote(str(run.path))}",
        f"hydra.sweep.dir={_quote(str(log_dir))}",
        f"hydra.sweep.subdir={_quote(name)}",
        f"hydra.job.num={number}",
        f"hydra.job.id={_quote(name)}",
    ]


def _quote(text: str) -> str:
    return text if re.fullmatch(r"/[A-Za-z0-9_./+-]+", text) or is_run_id(text) else quote(text)

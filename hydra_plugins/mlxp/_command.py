"""The command line that started this program, and the one that starts a job of it."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from hydra._internal.utils import get_args_parser

from hydra_plugins.mlxp._folders import quote
from mlxp_core.layout import RunDir, is_run_id

if TYPE_CHECKING:
    from hydra_plugins.mlxp._compose import Job

# decided at the submission, and said anew on a job's command line or of no meaning there
_NOT_PASSED_ON = re.compile(r"[+~]*hydra\.(launcher|sweeper|sweep|run\.dir|mode|job\.num|job\.id)(?=[.=@]|$)")


@dataclass(frozen=True)
class Program:
    """How a Hydra program was started."""

    options: tuple[str, ...]  # the interpreter's, such as -u or -W error
    file: Path  # absolute, of the script or the module
    module: str | None  # of `python -m`; None for a script
    flags: tuple[tuple[str, str], ...]  # --config-name, --config-path, --config-dir
    function_hash: ClassVar[None] = None  # what it does is a matter of its files

    @property
    def called(self) -> str:
        """What stands on a command line for it: the script's file name, or the module's name."""
        return self.module or self.file.name

    def words(self, python: str, place: Callable[[Path], Path]) -> list[str]:
        """The command up to the overrides; ``place`` says where a file lies in the code that the job runs."""
        what = ["-m", self.module] if self.module else [str(place(self.file))]
        flags = []
        for flag, value in self.flags:
            path = Path(value)
            if flag == "--config-dir":
                path = Path.cwd() / path  # relative to the launch directory
            flags += [flag, str(place(path)) if path.is_absolute() else value]
        return [python, *self.options, *what, *flags]

    def arguments(self, given: Sequence[str], job: Job, run: RunDir) -> list[str]:
        """The overrides of one job; ``given`` are those of Hydra's own configuration."""
        return job_overrides(given, job.overrides, run=run, number=job.number)


def find_program(overrides: Sequence[str]) -> Program | None:
    """Tell how this Hydra program was started, from the interpreter's own record.

    None where it was not started as a program of its own: a notebook, a test, ``python -c``.
    """
    arguments = sys.argv[1:]
    head = sys.orig_argv[1 : len(sys.orig_argv) - len(arguments)]
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    file = getattr(main, "__file__", None)
    added = ("hydra.mode=", "hydra.sweep.")  # by Hydra for -m, and by our callback
    given = {override for override in overrides if not override.startswith(added)}
    whole = sys.orig_argv[len(sys.orig_argv) - len(arguments) :] == arguments and given <= set(arguments)
    if not head or file is None or not whole:
        return None
    known, _ = get_args_parser().parse_known_args(arguments)
    flags = [
        ("--config-path", known.config_path),
        ("--config-name", known.config_name),
        ("--config-dir", known.config_dir),
    ]
    said = tuple((flag, value) for flag, value in flags if value is not None)
    if spec is not None:
        # `python -m pkg` runs pkg.__main__; the words before are options and the -m, which may end a group: -um
        return Program(_before_module(head), Path(file).absolute(), spec.name.removesuffix(".__main__"), said)
    return Program(tuple(head[:-1]), Path(file).absolute(), None, said)


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


def _before_module(head: Sequence[str]) -> tuple[str, ...]:
    options = list(head[:-1])  # the last is the module
    last = options.pop() if options else ""
    if len(last) > len("-m"):
        options.append(last[:-1])  # -um -> -u
    return tuple(options)

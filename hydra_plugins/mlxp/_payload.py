"""A task function that is no program of its own: a notebook's, a test's, hydra-zen's. It travels as a pickle.

What all jobs of a launch share is pickled once, by cloudpickle, which takes functions that no module holds by value;
each job's run folder has its configuration beside. The job is ``python -m hydra_plugins.mlxp._payload RUN_FOLDER``.
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import read_write

from mlxp_core.atomic_files import write_atomic
from mlxp_core.errors import ConfigurationError
from mlxp_core.runs.layout import LogDir, RunDir

if TYPE_CHECKING:
    from hydra_plugins.mlxp._job import Job

_MODULE = "hydra_plugins.mlxp._payload"


class PickledTask:
    """A pickled task function, with the interface of a Program."""

    module, called = _MODULE, _MODULE

    def __init__(self, function: TaskFunction, context: HydraContext, launch_dir: Path) -> None:
        """Pickle the function. Raises ConfigurationError where that cannot be done."""
        from hydra_plugins.mlxp._callbacks import program_file  # noqa: PLC0415

        self._function = _pickled(function, "the task function")
        self.function_hash: str = _hash_of(function)
        loader: Any = context.config_loader
        self._shared = _pickled(
            {
                "function": self._function,
                "state": Singleton.get_state(),
                "context": HydraContext(config_loader=getattr(loader, "original", loader), callbacks=context.callbacks),
            },
            "what Hydra knows, such as a resolver or a callback,",
        )
        file = program_file(function, launch_dir)
        # by which its repository is found: a notebook's, where it is a package's function or has no file at all
        self.file = file if any((folder / ".git").exists() for folder in file.parents) and file.exists() else launch_dir

    def words(self, python: str, _: Callable[[Path], Path]) -> list[str]:
        """The command up to the run's folder. With the function's hash for an interpreter: by what launches differ."""
        return [python or self.function_hash, "-m", _MODULE]

    def arguments(self, _given: Sequence[str], _job: Job, run: RunDir) -> list[str]:
        """The rest of the command of one job."""
        return [str(run.path)]

    @staticmethod
    def environment(_: int) -> dict[str, str]:
        """No variable: such a job runs its function alone."""
        return {}

    def write(self, jobs: Sequence[tuple[Job, RunDir]], log_dir: LogDir, map_path: Callable[[Path], Path]) -> None:
        """Write what the jobs need, into their folders; ``map_path`` says where a file lies in the code they run."""
        path = [str(map_path(Path(entry or Path.cwd()))) for entry in sys.path]
        name = f"{hashlib.sha256(self._shared).hexdigest()[:32]}.pkl"
        log_dir.payloads.mkdir(parents=True, exist_ok=True)
        if not (log_dir.payloads / name).exists():
            write_atomic(log_dir.payloads / name, self._shared)
        for job, run in jobs:
            config = job.config()
            with read_write(config.hydra):
                config.hydra.sweep.dir = str(run.path.parent)
            payload = {"config": _pickled(config, "the configuration"), "shared": name, "path": path}
            write_atomic(run.payload, pickle.dumps(payload))


def _pickled(value: Any, name: str) -> bytes:
    import cloudpickle  # noqa: PLC0415  (for those that need it)

    try:
        data: bytes = cloudpickle.dumps(value)
    except Exception as error:
        raise ConfigurationError(
            f"{name} cannot be sent to a job, because cloudpickle cannot pickle it: {type(error).__name__}: {error}. "
            "Open files, locks and connections in the task function, or start the application as a program of its own, "
            "`python main.py -m …`, whose jobs are command lines."
        ) from error
    return data


def _hash_of(function: Any) -> str:
    """The same in another session for a function that does the same: not by the cell or the line where it was written.

    A function of a module is known by its name; what it does is a matter of the code's version.
    """
    import cloudpickle  # noqa: PLC0415

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        def reducer_override(self, value: Any) -> Any:
            if isinstance(value, CodeType):
                return str, (_described(value),)
            return super().reducer_override(value)

    file = io.BytesIO()
    Pickler(file).dump(function)
    # cloudpickle gives each class of a notebook an id of the session
    return hashlib.sha256(re.sub(rb"[0-9a-f]{32}", b"", file.getvalue())).hexdigest()


def _described(code: CodeType) -> str:
    """A code object as text that is the same in another process."""
    constants = [
        _described(value)
        if isinstance(value, CodeType)
        else sorted(map(repr, value))
        if isinstance(value, frozenset)
        else value
        for value in code.co_consts
    ]
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
    return repr((code.co_name, code.co_code, constants, names, counts))


def main() -> None:
    """Run a job: load what was sent, and do what Hydra does for a job of a multirun."""
    run = RunDir(Path(sys.argv[1]))
    payload = pickle.loads(_own(run.payload))  # noqa: S301  (of this very job, and of its user)
    sys.path += [entry for entry in payload["path"] if entry not in sys.path]
    shared = pickle.loads(_own(LogDir(run.path.parent).payloads / payload["shared"]))  # noqa: S301
    setup_globals()
    Singleton.set_state(shared["state"])
    config = pickle.loads(payload["config"])  # noqa: S301
    function = pickle.loads(shared["function"])  # noqa: S301
    from hydra_plugins.mlxp._callbacks import take_values_over  # noqa: PLC0415

    HydraConfig.instance().set_config(config)
    take_values_over(config, run)
    result = run_job(
        hydra_context=shared["context"],
        task_function=function,
        config=config,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )
    _ = result.return_value  # raises what the function has raised


def _own(path: Path) -> bytes:
    """Read a pickle of the user's own: it can run anything, so another user's is not loaded."""
    with path.open("rb") as file:
        owner = os.fstat(file.fileno()).st_uid
        if owner != os.geteuid():
            sys.exit(f"{path} belongs to user {owner}, and what is in it would run as you: it is not loaded")
        return file.read()


if __name__ == "__main__":
    main()

"""A task function that is no program of its own: a notebook's, a test's, hydra-zen's. It travels as a pickle.

What all jobs of a launch share is pickled once, by cloudpickle, which takes functions that no module holds by value;
each job's run folder has its configuration beside. The job is ``python -m hydra_plugins.mlxp._payload RUN_FOLDER``.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import read_write

from hydra_plugins.mlxp._task_function import hash_function, program_file
from mlxp_core.atomic_files import write_atomic
from mlxp_core.errors import ConfigurationError
from mlxp_core.recording.packages import installed_package
from mlxp_core.runs.layout import LogDir, RunDir

if TYPE_CHECKING:
    from hydra_plugins.mlxp._job import Job

_MODULE = "hydra_plugins.mlxp._payload"


class PickledTask:
    """A pickled task function, with the interface of a Program."""

    module, called = _MODULE, _MODULE

    def __init__(self, function: TaskFunction, context: HydraContext, launch_dir: Path) -> None:
        """Pickle the function. Raises ConfigurationError where that cannot be done."""
        self._function = _pickled(function, "the task function")
        self.function_hash: str = hash_function(function)
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
        if installed_package(file):
            file = launch_dir
        # by which its repository is found: a notebook's, where it is a package's function or has no file at all
        self.file = file if any((folder / ".git").exists() for folder in file.parents) and file.exists() else launch_dir

    @property
    def code_file(self) -> Path:
        """The file by which its repository is found."""
        return self.file

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

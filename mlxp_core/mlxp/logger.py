"""``ctx.logger``: MLXP's names for what a run logs."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mlxp_core.mlxp.data_structures.artifacts import Artifact
from mlxp_core.mlxp.errors import InvalidArtifactError, InvalidKeyError
from mlxp_core.recording import current, lifecycle
from mlxp_core.recording.run import Run
from mlxp_core.runs import artifacts
from mlxp_core.runs.layout import RunDir

_TAKEN = ("info", "config", "mlxp", "artifacts")


class Logger:
    """The run that is being recorded; without one it starts a run in ``parent_log_dir``.

    ``run`` is the run itself, with all that it can do besides.
    """

    def __init__(
        self,
        parent_log_dir: str | os.PathLike[str],
        forced_log_id: int = -1,
        log_streams_to_file: bool = False,  # noqa: FBT001, FBT002, ARG002  (the callback does)
    ) -> None:
        """``forced_log_id`` from 0 on is the number of the run that is started."""
        run = current.recorded_run()
        if run is None and forced_log_id >= 0:
            layout = RunDir(Path(parent_log_dir).absolute() / str(forced_log_id))
            run = lifecycle.start_recording(layout, config={}, end=lifecycle.end_recording)
        self.run: Run = lifecycle.start_run(parent_log_dir) if run is None else run
        self.forced_log_id = forced_log_id

    @property
    def log_id(self) -> int | None:
        """The number of the run."""
        return self.run.id

    @property
    def log_dir(self) -> str:
        """The run's folder."""
        return str(self.run.dir)

    @property
    def parent_log_dir(self) -> str:
        """The folder that the runs lie in."""
        return str(self.run.dir.parent)

    @property
    def metrics_dir(self) -> str:
        """The folder of the metrics."""
        return str(self.run.layout.metrics)

    @property
    def metadata_dir(self) -> str:
        """The folder of the metadata."""
        return str(self.run.layout.metadata)

    @property
    def artifacts_dir(self) -> str:
        """The folder of the artifacts."""
        return str(self.run.layout.artifacts)

    def get_info(self) -> dict[str, Any]:
        """Give number and folders."""
        return logger_info(self.run.layout)

    def log_metrics(self, metrics_dict: Mapping[str, Any], log_name: str) -> None:
        """Append a line to ``metrics/<log_name>.json``. Raises InvalidKeyError for a name that is taken."""
        if log_name in _TAKEN:
            raise InvalidKeyError(f"a log cannot be called {log_name!r}: {', '.join(_TAKEN)} are taken")
        self.run.log_metrics(dict(metrics_dict), log_name)

    def log_artifacts(self, artifact: object, artifact_name: str, artifact_type: str) -> None:
        """Save an object as ``artifacts/<artifact_type>/<artifact_name>``; see ``Run.log_artifacts``."""
        if artifact_type not in artifacts.ARTIFACT_TYPES:
            raise InvalidArtifactError(
                f"there is no artifact type {artifact_type!r}, but {', '.join(artifacts.ARTIFACT_TYPES)}; "
                "logger.register_artifact_type adds one"
            )
        self.run.log_artifacts(artifact, artifact_name, artifact_type)

    def load_artifacts(
        self, artifact_name: str, artifact_type: str | None = None, root: str | os.PathLike[str] | None = None
    ) -> Any:
        """Load an artifact of this run, or of the run whose folder is ``root``."""
        return self.run.load_artifacts(artifact_name, artifact_type, root)

    def log_artifact(self, artifact: Artifact, log_name: str) -> None:
        """Save an artifact that knows how, as ``artifacts/<its class>/<log_name><its ext>``: MLXP before 1.0."""
        kind, ending = type(artifact).__name__, artifact.ext
        self.run.register_artifact_type(kind, lambda known, path: known._save(path.removesuffix(ending)), _no_loader)  # noqa: SLF001  (MLXP's name for it)
        self.run.log_artifacts(artifact, f"{log_name}{ending}", kind)

    def register_artifact_type(self, name: str, save: Callable[[Any, str], None], load: Callable[[str], Any]) -> None:
        """Add a type of artifact for this process; one that is there stays."""
        if name not in artifacts.ARTIFACT_TYPES:
            self.run.register_artifact_type(name, save, load)


class DefaultLogger(Logger):
    """A logger with checkpoints."""

    def log_checkpoint(self, checkpoint: Any, log_name: str = "checkpoint") -> None:
        """Save a checkpoint, in place of the earlier one of that name."""
        self.run.log_checkpoint(checkpoint, log_name)

    def load_checkpoint(self, log_name: str = "checkpoint", root: str | os.PathLike[str] | None = None) -> Any:
        """Load a checkpoint of this run, a file of the folder ``root``, or that of the run whose folder ``root`` is.

        Raises FileNotFoundError where there is none.
        """
        if root is not None and Path(root, log_name).is_file():
            return artifacts.artifact_type("pickle").load(str(Path(root, log_name)))
        return self.run.load_checkpoint(log_name, root)


def logger_info(layout: RunDir) -> dict[str, Any]:
    """Give what MLXP's info.yaml says of a run's logger."""
    folders = {"log_dir": layout.path, "metrics_dir": layout.metrics, "metadata_dir": layout.metadata}
    folders["artifacts_dir"] = layout.artifacts
    return {"log_id": layout.id, **{name: str(path) for name, path in folders.items()}}


def _no_loader(path: str) -> Any:
    raise InvalidArtifactError(f"{path} was saved by a class that says nothing of loading: read the file itself")

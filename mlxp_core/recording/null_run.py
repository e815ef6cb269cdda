"""A run that takes every call and keeps nothing, for programs that are to run without being recorded."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from mlxp_core.errors import ArtifactNotFoundError, MetricsError
from mlxp_core.recording import signals
from mlxp_core.recording.metrics import Metrics
from mlxp_core.recording.run import Run, resuming_run
from mlxp_core.runs.layout import RunDir

_NOWHERE = "it is not recorded (optional=True, hydra/callbacks=mlxp_off or MLXP_MODE=off), so that it keeps nothing"


class NullRun(Run):
    """A run that is not recorded: whatever is logged to it is gone, and nothing that was logged can be loaded.

    ``id`` is None. ``dir`` is an empty temporary folder, made when a program first asks for it and removed when that
    ends, so that what writes beside the metrics works as well. Artifacts and checkpoints of other runs, by ``root``,
    load as ever, and ``stop_requested`` tells of signals.
    """

    keeps_nothing = True

    def __init__(
        self,
        config: Mapping[str, Any] | None = None,
        launch_dir: Path | None = None,
        *,
        end: Callable[[Run, BaseException | None], None] | None = None,
    ) -> None:
        """``config`` is the configuration as plain values, where it is known; ``end`` is what ``finish`` calls."""
        # not Run's: there is no folder, by which a handle of the run would be known
        self.attempt = 1
        self.pid = os.getpid()
        self.has_ended = False
        self._config = dict(config or {})
        self._launch_dir = launch_dir or Path.cwd()
        self._end = end
        self._folder_path: Path | None = None
        self._watches = False

    def __reduce__(self) -> tuple[Callable[..., Run], tuple[Any, ...]]:
        """Pickle what becomes another such run, or the one whose checkpoint it is found in."""
        return take_up, (self._config, os.fspath(self._launch_dir))

    def __enter__(self) -> Run:
        """Allow ``with start_run(...) as run``."""
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        """End the run, of which nothing is written."""
        self.finish(error)

    def __repr__(self) -> str:
        """Say what it is."""
        return "<NullRun: keeps nothing>"

    @property
    def layout(self) -> RunDir:  # type: ignore[override]
        """The places of files that nobody writes."""
        return RunDir(self.dir)

    @property
    def id(self) -> int | None:
        """None: it has no number."""
        return None

    @property
    def dir(self) -> Path:
        """An empty temporary folder, removed at the end of the process that has asked first."""
        if self._folder_path is None:
            self._folder_path = Path(tempfile.mkdtemp(prefix="mlxp-off-"))
            atexit.register(_remove, self._folder_path, os.getpid())
        return self._folder_path

    @property
    def config(self) -> dict[str, Any]:
        """The configuration as plain values; empty where it is not known."""
        return self._config

    def metrics(self, log_name: str) -> dict[str, list[Any]]:
        """Raise MetricsError, as for a run that has logged nothing."""
        raise MetricsError(f"{self!r} has no log {log_name!r}; it has none: {_NOWHERE}")

    def finish(self, error: BaseException | None = None) -> None:
        """End it; called as often as one likes, also where a recorded run would refuse."""
        if self._end is not None:
            self._end(self, error)
        self.has_ended = True
        signals.remove(self)

    @property
    def is_finishable(self) -> bool:
        """False: nothing is left open."""
        return False

    @property
    def may_be_dropped(self) -> bool:
        """False, as above."""
        return False

    @property
    def is_recorded(self) -> bool:
        """True until it ends: its workers have it, too."""
        return not self.has_ended

    def as_arguments(self) -> tuple[str, int, str]:
        """What a worker is told: that there is no folder, by which it knows such a run."""
        return "", self.attempt, os.fspath(self._launch_dir)

    def original_path(self, path: str | os.PathLike[str]) -> Path:
        """An absolute path for one that is relative to the directory of the command line."""
        return self._launch_dir / path

    @property
    def stop_requested(self) -> bool:
        """True once the program should leave, as of a recorded run; signals are watched from the first look on."""
        if not self._watches and self.pid == os.getpid():
            self._watches = True
            signals.install(self, lambda _: None, self.as_arguments())
        return signals.stop_signal(self) is not None

    def log_metrics(self, metrics_dict: Metrics, log_name: str) -> None:
        """Keep nothing."""

    def log_artifacts(self, artifact: Any, artifact_name: str, artifact_type: str = "pickle") -> Path:  # noqa: ARG002
        """Keep nothing; give the path that it would have had."""
        return self.layout.artifact_file(artifact_type, artifact_name)

    def load_artifacts(
        self,
        artifact_name: str,
        artifact_type: str | None = None,
        root: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> Any:
        """Load an artifact of another run, whose folder is ``root``; ArtifactNotFoundError without that."""
        if root is not None:
            return super().load_artifacts(artifact_name, artifact_type, root, **options)
        raise ArtifactNotFoundError(f"{self!r} has no artifact {artifact_name!r}: {_NOWHERE}")

    def register_artifact_type(self, name: str, save: Callable[[Any, str], None], load: Callable[[str], Any]) -> None:
        """Add a type of artifact for this process, by which those of other runs are loaded."""
        super().register_artifact_type(name, save, load)

    def log_checkpoint(self, checkpoint: Any, log_name: str = "checkpoint") -> Path:  # noqa: ARG002
        """Keep nothing; give the path that it would have had."""
        return self.layout.artifact_file("pickle", log_name)

    def load_checkpoint(
        self, log_name: str = "checkpoint", root: str | os.PathLike[str] | None = None, *, map_location: Any = None
    ) -> Any:
        """Load a checkpoint of another run, whose folder is ``root``; ArtifactNotFoundError without that."""
        if root is not None:
            return super().load_checkpoint(log_name, root, map_location=map_location)
        raise ArtifactNotFoundError(f"{self!r} has no checkpoint {log_name!r}: {_NOWHERE}")

    def resume_metrics(self, step: float) -> None:
        """Keep nothing, and so continue nothing."""

    def open(self) -> None:
        """Open nothing."""

    def close(self) -> None:
        """Close nothing."""


def take_up(config: Mapping[str, Any], launch_dir: str) -> Run:
    """Give what a pickled one becomes: in a checkpoint the run that is resumed from it, else one that keeps nothing."""
    return resuming_run() or NullRun(config, Path(launch_dir))


def _remove(folder: Path, pid: int) -> None:
    if pid == os.getpid():  # a forked child that ends by sys.exit runs what its parent has registered
        shutil.rmtree(folder, ignore_errors=True)

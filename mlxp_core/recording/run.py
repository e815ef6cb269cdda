"""A run being written, as the user's script sees it: ``current_run().log_metrics(...)``."""

from __future__ import annotations

import json
import logging
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlxp_core.atomic_files import atomic_path
from mlxp_core.errors import ArtifactError, ArtifactNotFoundError, SupersededError
from mlxp_core.recording import signals
from mlxp_core.recording.metrics import Metrics, MetricsFile, MetricsFolder
from mlxp_core.runs.layout import RunDir
from mlxp_core.yaml_io import load_yaml_or_empty

log = logging.getLogger(__name__)

_OPEN_LOGS = 64  # a program has 1,024 descriptors as a rule, 256 on macOS, and files of its own
_CHECKPOINTS = "pickle"  # the artifact type that checkpoints are kept under


class Run:
    """One run being written. Made by the callback, the launchers' jobs and start_run, not by hand."""

    def __init__(self, layout: RunDir, attempt: int = 1, launch_dir: Path | None = None) -> None:
        """Attempt 1 is the first; a requeued job is the next attempt of the same run, in the same folder."""
        self.layout = layout
        self.attempt = attempt
        self._launch_dir = launch_dir or Path.cwd()
        self.pid = os.getpid()  # the process whose run it is; a forked child may log to it, not end it
        self._folder: MetricsFolder | None = None
        self._files: dict[str, MetricsFile] = {}
        self._has_warned = False

    def __repr__(self) -> str:
        """Name the folder."""
        return f"<Run {self.id}: {self.dir}>"

    @property
    def id(self) -> int | None:
        """The run's id; None where the user's own ``hydra.run.dir`` names a folder that is no number."""
        return self.layout.id

    @property
    def dir(self) -> Path:
        """The run's folder, an absolute path."""
        return self.layout.path

    def original_path(self, path: str | os.PathLike[str]) -> Path:
        """An absolute path for one that is relative to the directory of the command line, such as ``data/train.bin``.

        A launched job starts in a frozen copy of its code, where data that git does not know is not.
        """
        return self._launch_dir / path

    @property
    def stop_requested(self) -> bool:
        """True once the job should leave: a time limit is near, or its place is needed (SIGUSR1, SIGUSR2, SIGTERM).

        A loop that looks at it once for each step or epoch saves a checkpoint when it is True, and returns. The run is
        then PREEMPTED, and resumed where the scheduler requeues it. From the first look on, the first of these signals
        does not end the program. Only a run that is recorded in the main thread is told.
        """
        name = signals.stop_signal(self)
        if name is not None and not self._has_warned:
            self._has_warned = True
            log.warning("%r: %s asks it to stop; stop_requested is True from now on", self, name)
        return name is not None

    def log_metrics(self, metrics_dict: Metrics, log_name: str) -> None:
        """Append one line to ``metrics/<log_name>.json``.

        ``metrics_dict`` maps names to numbers or strings: one step, epoch or evaluation. NaN and infinities are kept.
        When this returns the line outlives the process. A reader sees one list per name, along the calls.
        Raises MetricsError or TypeError for what cannot be written.
        """
        file = self._files.get(log_name)
        if file is None or (os.getpid() != self.pid and file.replaced()):
            file = self._open_log(log_name)
        file.append(metrics_dict)

    def log_artifacts(self, artifact: Any, artifact_name: str, artifact_type: str = "pickle") -> Path:
        """Save an object as ``artifacts/<artifact_type>/<artifact_name>``, whole or not at all; give its path.

        Types: pickle, json, text, numpy (an array, or a dict of arrays), torch, image (a matplotlib figure), and
        those added with ``register_artifact_type``. An artifact of the same type and name is replaced.
        Raises SupersededError where a later attempt of the run has taken over.
        """
        from mlxp_core.runs import artifacts  # noqa: PLC0415  (every run imports this module, few have artifacts)

        kind = artifacts.artifact_type(artifact_type)
        path = self._artifact_file(artifact_type, artifact_name)
        self._check_current()
        artifacts.save_artifact(kind, artifact, path)
        return path

    def load_artifacts(
        self, artifact_name: str, artifact_type: str | None = None, root: str | os.PathLike[str] | None = None
    ) -> Any:
        """Load an artifact of this run, or of the run whose folder is ``root``.

        The type may be left out where only one type has that name. Loading a pickle runs what its writer put there.
        Raises ArtifactNotFoundError with what there is.
        """
        from mlxp_core.runs import artifacts  # noqa: PLC0415

        layout = self.layout if root is None else RunDir(Path(root))
        if artifact_type is None:
            artifact_type = _only_type(layout, artifact_name)
        kind = artifacts.artifact_type(artifact_type)
        path = layout.artifact_file(artifact_type, artifact_name)
        if not path.exists():
            raise ArtifactNotFoundError(f"there is no artifact {path}; {_listed(layout)}")
        return kind.load(str(path))

    def register_artifact_type(self, name: str, save: Callable[[Any, str], None], load: Callable[[str], Any]) -> None:
        """Add a type of artifact for this process: ``save(object, path)`` makes the file, ``load(path)`` reads it."""
        from mlxp_core.runs import artifacts  # noqa: PLC0415

        artifacts.register_artifact_type(name, save, load)

    def log_checkpoint(self, checkpoint: Any, log_name: str = "checkpoint") -> Path:
        """Save a checkpoint, and where the metrics stand now; the earlier one is replaced when this one is whole.

        A later attempt of the run that loads it continues its metrics from that place.
        Raises SupersededError where a later attempt has taken over already.
        """
        path = self._artifact_file(_CHECKPOINTS, log_name)
        # pickle stops reading at its own end, so what follows can be added without a second file to keep in step
        position = {"attempt": self.attempt, "metrics": self._metrics().sizes()}
        self._check_current()
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path, durable=True) as temporary:
            with temporary.open("wb") as stream:
                pickle.dump(checkpoint, stream, protocol=4)
                stream.write(b"\n" + json.dumps(position).encode())
            self._check_current()  # a large one takes its time
        return path

    def load_checkpoint(self, log_name: str = "checkpoint", root: str | os.PathLike[str] | None = None) -> Any:
        """Load a checkpoint of this run, or of the run whose folder is ``root``.

        In a later attempt of a run, its metrics continue from where they stood when the checkpoint was made: each
        step is there once. Raises ArtifactNotFoundError (a FileNotFoundError) where there is none yet.
        """
        layout = self.layout if root is None else RunDir(Path(root))
        path = layout.artifact_file(_CHECKPOINTS, log_name)
        try:
            with path.open("rb") as stream:
                checkpoint = pickle.load(stream)  # noqa: S301  (asked for by name, by a caller who trusts the run)
                position = stream.read()
        except FileNotFoundError:
            raise ArtifactNotFoundError(f"there is no checkpoint {path} yet") from None
        if root is None and position:
            self._continue_metrics(json.loads(position))
        return checkpoint

    def open(self) -> None:
        """Take hold of the metrics folder, while it is this attempt's."""
        self._folder = MetricsFolder(self.layout)

    def close(self) -> None:
        """Close the metric files; every line is on disk already."""
        self._files.clear()
        self._folder = None

    def _open_log(self, log_name: str) -> MetricsFile:
        """Open a log, and close the one that has been open for longest where there are many."""
        self._files.pop(log_name, None)  # a file that another one has replaced
        for oldest in list(self._files)[: max(0, len(self._files) - _OPEN_LOGS + 1)]:
            self._files.pop(oldest, None)
        file = self._files[log_name] = self._metrics().open(log_name)
        return file

    def _metrics(self) -> MetricsFolder:
        if self._folder is None:  # a run that has been closed, and is logged to again
            self._check_current()
            self._folder = MetricsFolder(self.layout)
        return self._folder

    def _check_current(self) -> None:
        info = load_yaml_or_empty(self.layout.info)
        latest = info.get("attempt")
        if isinstance(latest, int) and latest > self.attempt:
            raise SupersededError(
                f"attempt {latest} has taken over {self!r}, on {info.get('hostname')} at {info.get('start_time')}; "
                f"this is attempt {self.attempt}, perhaps on a node that was believed dead: it saves nothing more, so "
                "that it does not overwrite what the later one saves. End it."
            )

    def _continue_metrics(self, position: dict[str, Any]) -> None:
        """Put the lines that the checkpoint knows of before those of this attempt."""
        attempt = position["attempt"]
        if attempt == self.attempt:
            return  # a checkpoint of this very attempt: the metrics are where they are
        self._files.clear()  # others come in their place
        try:
            self._metrics().continue_from(self.layout.attempt_dir(attempt), attempt, position["metrics"])
        except FileNotFoundError as error:
            # not raised: it would say to the caller that there is no checkpoint
            log.warning("%r: its metrics up to the checkpoint are not there (%s); they begin here", self, error)

    def _artifact_file(self, artifact_type: str, name: str) -> Path:
        path = self.layout.artifact_file(artifact_type, name)
        if not name or self.layout.artifacts / artifact_type not in Path(os.path.normpath(path)).parents:
            raise ArtifactError(f"artifact_name={name!r} lies outside of the run: give a name or a relative path")
        return path


def _only_type(layout: RunDir, name: str) -> str:
    types = [folder.name for folder in _type_folders(layout) if (folder / name).exists()]
    if len(types) == 1:
        return types[0]
    if types:
        raise ArtifactError(f"several artifacts are called {name!r}: say artifact_type, one of {', '.join(types)}")
    raise ArtifactNotFoundError(f"there is no artifact {name!r} in {layout.artifacts}; {_listed(layout)}")


def _listed(layout: RunDir) -> str:
    names = [f"{path.parent.name}/{path.name}" for folder in _type_folders(layout) for path in sorted(folder.iterdir())]
    return "there are: " + ", ".join(names) if names else "the run has none"


def _type_folders(layout: RunDir) -> list[Path]:
    return sorted(path for path in layout.artifacts.glob("*") if path.is_dir())

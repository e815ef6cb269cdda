"""References to artifacts, which are loaded only when a caller asks for it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlxp_core.errors import ArtifactError, ArtifactNotFoundError
from mlxp_core.runs.artifact_place import stored_at
from mlxp_core.runs.artifacts import artifact_type


@dataclass(frozen=True)
class Artifact:
    """A file or a folder that a run saved as an artifact: type, name, absolute path. Only ``load`` opens it."""

    type: str
    name: str
    path: str

    def load(self, **options: Any) -> Any:
        """Load the artifact as its type is loaded. A pickle can run its writer's code: trust the run first.

        ``options`` are keywords of its type: ``map_location`` for torch and pickle (else tensors whose device is not
        here come to the CPU), ``mmap_mode`` for numpy, what your own ``load`` takes.

        The log directory never says how a type of your own is loaded: register it first, with
        ``mlxp_core.artifacts.register_artifact_type``. Raises ArtifactError, and ArtifactNotFoundError (a
        FileNotFoundError) where it is gone; other errors of the loader as they are.
        """
        artifact_kind = artifact_type(self.type)
        path = stored_at(Path(self.path))
        if not os.path.lexists(path):
            raise ArtifactNotFoundError(f"there is no artifact {self.path} any more")
        try:
            return artifact_kind.load(str(path), **options)
        except ImportError as error:
            raise ArtifactError(f"{self.path} cannot be loaded: {error}; install what its writer had") from error

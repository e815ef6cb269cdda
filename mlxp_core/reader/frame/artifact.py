"""References to artifacts: where they are, and how to load one when somebody asks for it. Loads nothing by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mlxp_core.errors import ArtifactError, ArtifactNotFoundError
from mlxp_core.runs.artifacts import artifact_type


@dataclass(frozen=True)
class Artifact:
    """One file that a run left. ``load`` opens it; nothing else does."""

    type: str
    name: str
    path: str

    def load(self) -> Any:
        """Load it, in the way of its type. Loading a pickle runs what its writer put there: only if you trust the run.

        How a type of your own is loaded never comes from the log directory: register it first, with
        ``mlxp_core.artifacts.register_artifact_type``. Raises ArtifactError, and ArtifactNotFoundError (a
        FileNotFoundError) where the file is gone.
        """
        kind = artifact_type(self.type)
        try:
            return kind.load(self.path)
        except FileNotFoundError as error:
            raise ArtifactNotFoundError(f"there is no artifact {self.path} any more") from error
        except ImportError as error:
            raise ArtifactError(f"{self.path} cannot be loaded: {error}; install what its writer had") from error

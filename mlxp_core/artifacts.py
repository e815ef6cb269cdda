"""Artifact types of the user's own: the public door to `mlxp_core.runs.artifacts`."""

from __future__ import annotations

from mlxp_core.runs.artifacts import register_artifact_type

__all__ = ["register_artifact_type"]

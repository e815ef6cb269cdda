"""api.py, which mypy checks, uses every public name: one that is missing there may become Any unseen."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import mlxp_core
from mlxp_core import artifacts, reader

USES = ast.parse(Path(__file__).with_name("api.py").read_text(encoding="utf-8"))


def test_every_public_name_is_used_with_its_type() -> None:
    """Bug: a name is added to __all__, and nothing says what it returns."""
    imported = {
        (node.module, alias.name) for node in ast.walk(USES) if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    modules = (artifacts, mlxp_core, reader)
    public = {(module.__name__, name) for module in modules for name in module.__all__}
    assert public - imported == {("mlxp_core", "__version__")}  # used as an attribute


@pytest.mark.parametrize("kind", [reader.Reader, reader.Runs, reader.GroupedRuns, reader.Artifact, reader.Problem])
def test_every_public_method_is_used_with_its_type(kind: type) -> None:
    """Bug: as above, of a method."""
    used = {node.attr for node in ast.walk(USES) if isinstance(node, ast.Attribute)}
    assert [name for name in vars(kind) if not name.startswith("_") and name not in used] == []

"""Move what an attempt has written into a folder of its own, so that the next one loses and overwrites nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mlxp_core.runs.layout import RunDir
from mlxp_core.yaml_io import write_yaml


def archive(
    run: RunDir, attempt: int, paths: Iterable[Path], *, info: Mapping[str, Any] | None = None, replace: bool = False
) -> None:
    """Move these files and folders of a run, as far as they are there, to the same places below its attempt's folder.

    What an archiving that was killed has moved stays, unless ``replace``. ``info`` is written there as info.yaml; the
    run's own stays until the next attempt's replaces it.
    """
    earlier = run.attempt_dir(attempt)
    earlier.metadata.mkdir(parents=True, exist_ok=True)
    if info is not None:
        write_yaml(earlier.info, info)
    for path in paths:
        archived = earlier.path / path.relative_to(run.path)
        if path.exists() and (replace or not archived.exists()):
            path.replace(archived)

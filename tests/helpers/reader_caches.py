"""Empty what a process's readers keep, as in a new one."""

from __future__ import annotations

from mlxp_core.reader.cache import run_cache
from mlxp_core.reader.load import metrics
from mlxp_core.reader.load import run as folders


def forget() -> None:
    """Empty all caches of the process, as in a new one."""
    run_cache._caches.clear()
    for cache in (folders._info_files, folders._config_files, folders._submission_files, metrics._keys_files):
        cache._values.clear()  # type: ignore[attr-defined]

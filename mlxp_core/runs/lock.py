"""The lock of a log directory: one process at a time submits its runs again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mlxp_core.errors import StoreError
from mlxp_core.runs.layout import LogDir

_PATIENCE = 300.0  # seconds that another one's submission of the same directory may take


@contextmanager
def exclusive(log_dir: LogDir) -> Iterator[None]:
    """Be the only one that submits runs of a log directory again. Raises StoreError where another one goes on."""
    from filelock import FileLock, Timeout  # noqa: PLC0415

    log_dir.internal.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(log_dir.lock, timeout=_PATIENCE):
            yield
    except Timeout as error:
        raise StoreError(
            f"another process has been submitting runs of {log_dir.path} for {_PATIENCE:g} s; try again when it has "
            f"ended (it holds {log_dir.lock})"
        ) from error

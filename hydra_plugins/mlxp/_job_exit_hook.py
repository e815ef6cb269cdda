"""A hook that tells the callback of jobs that end by SystemExit or KeyboardInterrupt under Hydra 1.3.

Hydra 1.3 calls on_job_end when a job returns or raises an Exception, and for nothing else (1.4 always calls it). All
of a job, on_job_start and the task function, runs inside of one context manager of hydra.core.utils; what passes
through it is a job's end that nobody else is told of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import hydra
from hydra.core import utils


def watch_endings(on_end: Callable[[BaseException], None]) -> None:
    """Call ``on_end`` with every such exception, once for each, while it propagates."""
    if not hydra.__version__.startswith("1.3."):
        return
    original = utils.env_override
    if hasattr(original, "mlxp_on_end"):
        original.mlxp_on_end = on_end
        return

    @contextmanager
    def env_override(env: Any) -> Iterator[None]:
        with original(env):
            try:
                yield
            except BaseException as error:
                env_override.mlxp_on_end(error)  # type: ignore[attr-defined]
                raise

    env_override.mlxp_on_end = on_end  # type: ignore[attr-defined]
    utils.env_override = env_override

"""Replace a run that Hydra has announced, and is about to start, by something else."""

from __future__ import annotations

import sys
from collections.abc import Callable

from hydra.core import utils
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

Replacement = Callable[[TaskFunction, HydraContext], JobReturn]


def replace_run(announced: DictConfig, do: Replacement) -> None:
    """Call ``do`` for the run of this very configuration; it gives what Hydra's run would give."""
    run_job = utils.run_job
    # whoever starts a run has it by name: Hydra itself, hydra-zen's launch
    spaces = [getattr(module, "__dict__", {}) for module in [*sys.modules.values()]]
    holders = [space for space in spaces if space.get("run_job") is run_job]

    def once(  # noqa: PLR0917  (Hydra's)
        task_function: TaskFunction,
        config: DictConfig,
        job_dir_key: str,
        job_subdir_key: str | None,
        hydra_context: HydraContext,
        configure_logging: bool = True,  # noqa: FBT001, FBT002
    ) -> JobReturn:
        for holder in holders:
            holder["run_job"] = run_job
        if config is announced:
            return do(task_function, hydra_context)
        # the run that was announced did not come to this
        return run_job(task_function, config, job_dir_key, job_subdir_key, hydra_context, configure_logging)

    for holder in holders:
        holder["run_job"] = once


def skip(announced: DictConfig) -> None:
    """Skip a run; its function returns None, as of a multirun."""
    replace_run(announced, lambda *_: JobReturn(status=JobStatus.COMPLETED))

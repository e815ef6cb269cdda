"""Submits the one job of a program that was started without -m: ``hydra.launcher.single=submit``."""

from __future__ import annotations

from typing import Any

from hydra._internal import hydra as hydras
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.types import HydraContext, RunMode, TaskFunction
from omegaconf import DictConfig

from hydra_plugins.mlxp import _config
from hydra_plugins.mlxp._folders import run_dir_as_sweep


def submit_single(config_name: str | None) -> None:
    """Have the run that is about to start submitted: once, the next of Hydra's runs in this process is."""
    replaced: Any = hydras
    run_job = replaced.run_job

    def submit(task_function: TaskFunction, config: DictConfig, **_: Any) -> JobReturn:
        replaced.run_job = run_job
        return _submit(task_function, config, config_name)

    replaced.run_job = submit


def _submit(task_function: TaskFunction, config: DictConfig, config_name: str | None) -> JobReturn:
    """Launch one job, without a sweeper, which might make several of it; give what Hydra's run gives."""
    hydra = GlobalHydra.instance().hydra
    if hydra is None:
        raise RuntimeError("there is no Hydra whose program this is")
    task = [*_config.overrides(config, "task")]
    given = [one for one in _config.overrides(config, "hydra") if not one.startswith("hydra.mode=")]
    multi = hydra.compose_config(
        config_name=config_name,
        overrides=[*given, *run_dir_as_sweep(config), *task, "hydra.mode=MULTIRUN"],
        with_log_configuration=True,
        run_mode=RunMode.MULTIRUN,
    )
    callbacks = Callbacks(multi)
    callbacks.on_multirun_start(config=multi, config_name=config_name)
    context = HydraContext(config_loader=hydra.config_loader, callbacks=callbacks)
    launcher = Plugins.instance().instantiate_launcher(hydra_context=context, task_function=task_function, config=multi)
    (result,) = launcher.launch([task], initial_job_idx=0)
    callbacks.on_multirun_end(config=multi, config_name=config_name)
    return result

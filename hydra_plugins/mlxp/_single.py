"""Submits the one job of a program that was started without -m: ``hydra.launcher.single=submit``."""

from __future__ import annotations

import os
import sys
from typing import Any, NoReturn

from hydra._internal.callbacks import Callbacks
from hydra._internal.utils import run_and_report
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig

from hydra_plugins.mlxp import _config


def submit_single(config: DictConfig, config_name: str | None) -> NoReturn:
    """Submit what is about to run, and end the program; without a sweeper, which might make several jobs of it."""
    run_and_report(lambda: _submit(config, config_name))
    sys.stdout.flush()
    sys.exit(os.EX_OK)


def _submit(config: DictConfig, config_name: str | None) -> None:
    hydra = GlobalHydra.instance().hydra
    if hydra is None:
        raise RuntimeError("there is no Hydra whose program this is")
    task = [*_config.overrides(config, "task")]
    given = [one for one in _config.overrides(config, "hydra") if not one.startswith("hydra.mode=")]
    multi = hydra.compose_config(
        config_name=config_name,
        overrides=[*given, *task, "hydra.mode=MULTIRUN"],
        with_log_configuration=True,
        run_mode=RunMode.MULTIRUN,
    )
    callbacks = Callbacks(multi)
    callbacks.on_multirun_start(config=multi, config_name=config_name)
    context = HydraContext(config_loader=hydra.config_loader, callbacks=callbacks)
    launcher = Plugins.instance().instantiate_launcher(hydra_context=context, task_function=_never, config=multi)
    for result in launcher.launch([task], initial_job_idx=0):
        _ = result.return_value  # raises where the job was waited for and did not complete
    callbacks.on_multirun_end(config=multi, config_name=config_name)


def _never(_: Any) -> None:
    """What the task function would be: jobs are command lines."""

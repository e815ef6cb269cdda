"""Submit the one job of a program that was started without -m: ``hydra.launcher.single=submit``."""

from __future__ import annotations

from dataclasses import replace

from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.types import HydraContext, RunMode, TaskFunction
from omegaconf import DictConfig

from hydra_plugins.mlxp import _omegaconf
from hydra_plugins.mlxp._replace_run import replace_run
from hydra_plugins.mlxp._run_dirs import sweep_overrides


def submit_single(single: DictConfig, config_name: str | None) -> None:
    """Have the run of this configuration, which is about to start, submitted instead."""
    replace_run(single, lambda task_function, context: _submit(task_function, single, config_name, context))


def _submit(
    task_function: TaskFunction, config: DictConfig, config_name: str | None, context: HydraContext
) -> JobReturn:
    """Launch one job, without a sweeper, which might make several of it; give what Hydra's run gives."""
    hydra = GlobalHydra.instance().hydra
    if hydra is None:
        raise RuntimeError("there is no Hydra whose program this is")
    task = [*_omegaconf.overrides(config, "task")]
    given = [line for line in _omegaconf.overrides(config, "hydra") if not line.startswith("hydra.mode=")]
    multi = hydra.compose_config(
        config_name=config_name,
        overrides=[*given, *sweep_overrides(config), *task, "hydra.mode=MULTIRUN"],
        with_log_configuration=True,
        run_mode=RunMode.MULTIRUN,
    )
    callbacks = Callbacks(multi)
    callbacks.on_multirun_start(config=multi, config_name=config_name)
    context = replace(context, callbacks=callbacks)  # and what else a later Hydra passes on with it
    launcher = Plugins.instance().instantiate_launcher(hydra_context=context, task_function=task_function, config=multi)
    (result,) = launcher.launch([task], initial_job_idx=0)
    callbacks.on_multirun_end(config=multi, config_name=config_name)
    return result

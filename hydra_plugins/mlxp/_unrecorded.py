"""Runs that are not recorded, by ``hydra/callbacks=mlxp_off`` or MLXP_MODE=off, which lie where Hydra puts them."""

from __future__ import annotations

from datetime import datetime

from omegaconf import DictConfig, OmegaConf, read_write

from hydra_plugins.mlxp._names import ID, LAUNCHER, LOG_DIR
from hydra_plugins.mlxp._omegaconf import raw
from mlxp_core.errors import ConfigurationError
from mlxp_core.recording.current import is_off

_OURS = (LOG_DIR, ID)


def is_unrecorded(*, record: bool) -> bool:
    """Tell whether a run is not to be recorded; ``record`` is the callback's option."""
    try:
        return not record or is_off()
    except ConfigurationError as error:  # which Hydra would make a warning of
        raise SystemExit(f"ConfigurationError: {error}") from error


def give_hydras_run_dir(config: DictConfig) -> None:
    """Put Hydra's default in the place of a numbered folder; a ``hydra.run.dir`` of the user's own stays."""
    if any(mark in raw(config, "hydra.run", "dir") for mark in _OURS):
        with read_write(config.hydra):
            config.hydra.run.dir = f"{datetime.now():outputs/%Y-%m-%d/%H-%M-%S}"  # noqa: DTZ005  (as Hydra's ${now:})


def give_hydras_sweep_dir(config: DictConfig) -> None:
    """Put Hydra's defaults in the place of numbered folders. Raises SystemExit for a launcher of ours."""
    if config.hydra.launcher.get("_target_") == LAUNCHER:
        refuse_to_submit()
    values = {}
    if any(mark in raw(config, "hydra.sweep", "dir") for mark in _OURS):
        values["dir"] = f"{datetime.now():multirun/%Y-%m-%d/%H-%M-%S}"  # noqa: DTZ005
    if raw(config, "hydra.sweep", "subdir") == ID:
        values["subdir"] = "${hydra.job.num}"
    with read_write(config.hydra):
        for key, value in values.items():
            OmegaConf.update(config.hydra.sweep, key, value)
            config.hydra.overrides.hydra.append(f"hydra.sweep.{key}={value}")


def refuse_to_submit() -> None:
    """End a launch whose jobs would have no folder to run in."""
    raise SystemExit(
        "ConfigurationError: a launcher of this pack keeps a job's script, configuration and outcome in a run folder, "
        "so its jobs are recorded: take away hydra/callbacks=mlxp_off or MLXP_MODE=off, or the launcher"
    )

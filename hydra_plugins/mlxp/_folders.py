"""Which folder a run without a launcher of ours gets. The work behind ``${mlxp_run_id:}``."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig, OmegaConf, flag_override

from hydra_plugins.mlxp._config import raw
from hydra_plugins.mlxp.config import RUN_ID
from mlxp_core.layout import RunDir
from mlxp_core.store import RunStore


def run_id_of(config: DictConfig) -> str:
    """The id of a job of a multirun, from its composed configuration, whose ``hydra.sweep.subdir`` it becomes.

    Hydra asks for it once a job is about to start, when ``hydra.job.num`` is known; before that, and for
    ``--cfg hydra --resolve``, no run is made.
    """
    if OmegaConf.is_missing(config.hydra.job, "num"):
        return "{id}"
    run = _allocate(config, str(config.hydra.sweep.dir))
    with flag_override(config.hydra, ["struct", "readonly"], [False, False]):
        config.hydra.sweep.subdir = run.path.name  # asked again, it is the same
    return run.path.name


def choose_run_dir(config: DictConfig) -> Path:
    """Settle ``hydra.run.dir`` of a single run: a new id, unless the user's own run.dir says where."""
    pattern = raw(config, "hydra.run", "dir")
    if isinstance(pattern, str) and RUN_ID in pattern:
        with flag_override(config.hydra, ["struct", "readonly"], [False, False]):
            config.hydra.run.dir = pattern.replace(RUN_ID, "")
            config.hydra.run.dir = str(_allocate(config, str(config.hydra.run.dir)).path)
    return Path(config.hydra.runtime.cwd, str(config.hydra.run.dir))


def _allocate(config: DictConfig, log_dir: str) -> RunDir:
    with RunStore(Path(config.hydra.runtime.cwd, log_dir)) as store:
        return store.allocate()

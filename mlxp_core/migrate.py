"""What each setting of MLXP becomes here, and which of a project's would be ignored.

MLXP's settings stand in ``configs/mlxp.yaml`` and in overrides such as ``+mlxp.logger.parent_log_dir=…``. A program
that has ``import mlxp_core.mlxp as mlxp`` has them heeded; one that was ported to ``@hydra.main`` says the new names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

SCHEDULERS = {
    "SLURMScheduler": "mlxp_slurm",
    "OARScheduler": "mlxp_oar",
    "PBSScheduler": "mlxp_torque",
    "SGEScheduler": "mlxp_sge",
    "MWMScheduler": "mlxp_mwm",
    "LSFScheduler": "mlxp_lsf",
}


class Setting(NamedTuple):
    """One setting of MLXP: what to say here in its place, and its default there."""

    becomes: str  # {value} is the user's
    default: Any
    # for values with which something else happens here than there, where results or jobs would be missed
    matters: Callable[[Any], bool] = lambda _: False


SETTINGS: dict[str, Setting] = {
    "logger.name": Setting("nothing: current_run() is the logger", default="mlxp.DefaultLogger"),
    "logger.parent_log_dir": Setting("hydra.callbacks.mlxp.log_dir={value}", default="./logs", matters=lambda _: True),
    "logger.forced_log_id": Setting(
        "hydra.run.dir=logs/{value}", default=-1, matters=lambda value: isinstance(value, int) and value >= 0
    ),
    "logger.log_streams_to_file": Setting("hydra.callbacks.mlxp.log_streams=true, the default", default=False),
    "version_manager.name": Setting("nothing: each run has its code version", default="mlxp.GitVM"),
    "version_manager.parent_work_dir": Setting("hydra.launcher.code_dir={value}", default="./.work_dir"),
    "version_manager.compute_requirements": Setting("nothing: each run has the packages it loaded", default=False),
    "scheduler.name": Setting("hydra/launcher={launcher}", default="NoScheduler"),
    "scheduler.shell_path": Setting("the first line of hydra.launcher.template", default=""),
    "scheduler.shell_config_cmd": Setting("a line of hydra.launcher.setup: {value}", default=""),
    "scheduler.env_cmd": Setting("a line of hydra.launcher.setup: {value}", default=""),
    "scheduler.cleanup_cmd": Setting("a line of hydra.launcher.setup: {value}", default=""),
    "scheduler.option_cmd": Setting("hydra.launcher.header, a directive a line: {value}", default=()),
    "use_version_manager": Setting(
        "nothing: hydra.launcher.snapshot and hydra.callbacks.mlxp.snapshot are auto", default=False
    ),
    "use_scheduler": Setting("hydra/launcher={launcher}", default=False, matters=lambda value: value is True),
    "use_logger": Setting("hydra/callbacks=mlxp_off", default=True, matters=lambda value: value is False),
    "interactive_mode": Setting("hydra.launcher.on_changes=ask, or capture for false", default=True),
    "resolve": Setting("nothing: OmegaConf.resolve(cfg) in the program", default=True),
    "as_ConfigDict": Setting("nothing: cfg is OmegaConf's DictConfig", default=True),
}
_GROUPS = frozenset(name.partition(".")[0] for name in SETTINGS)


class Finding(NamedTuple):
    """A setting of MLXP that a project has, and what to say in its place."""

    name: str
    value: Any
    becomes: str
    matters: bool  # without it results lie elsewhere, or are not what was asked for


def says_nothing(text: str) -> bool:
    """Tell whether all of an mlxp.yaml is commented out, which is no mapping, and is read by MLXP."""
    return all(line.strip() in {"", "---"} or line.lstrip().startswith("#") for line in text.splitlines())


def findings(settings: Mapping[Any, Any]) -> list[Finding]:
    """Give the settings of MLXP among these; what is none of its own is somebody else's, and left out."""
    if not isinstance(settings, Mapping) or not _GROUPS.issuperset(map(str, settings)):
        return []
    found = dict(_flat(settings))
    launcher = SCHEDULERS.get(str(found.get("scheduler.name")).rpartition(".")[2], "mlxp_slurm (or mlxp_oar, …)")
    return [
        Finding(name, value, setting.becomes.format(value=value, launcher=launcher), setting.matters(value))
        for name, value in found.items()
        if (setting := SETTINGS.get(name)) is not None
    ]


def table() -> str:
    """Give all settings with what they become, a line each."""
    width = max(map(len, SETTINGS))
    rows = (f"{name:{width}}  {setting.becomes}" for name, setting in SETTINGS.items())
    return "\n".join(rows).replace("{value}", "…").replace("{launcher}", "mlxp_slurm (or mlxp_oar, …)")


def defaults() -> dict[str, Any]:
    """Give MLXP's settings, nested, without those of its schedulers."""
    nested: dict[str, Any] = {}
    for name, setting in SETTINGS.items():
        if not name.startswith("scheduler."):
            put(nested, name, setting.default)
    return nested


def put(settings: dict[str, Any], name: str, value: Any) -> None:
    """Set what a dotted name stands for."""
    *groups, key = name.split(".")
    for group in groups:
        if not isinstance(settings.get(group), dict):
            settings[group] = {}
        settings = settings[group]
    settings[key] = value


def flat(settings: Mapping[Any, Any]) -> dict[str, Any]:
    """Give settings by their dotted names."""
    return dict(_flat(settings))


def _flat(settings: Mapping[Any, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value

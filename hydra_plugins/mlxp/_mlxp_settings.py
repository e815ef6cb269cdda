"""MLXP's settings in a project that was ported: they would be ignored, and results lie where nobody looks for them."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from hydra_plugins.mlxp._names import LAUNCHER
from hydra_plugins.mlxp._run_dirs import chosen_log_dir

if TYPE_CHECKING:
    from mlxp_core.migrate import Finding

log = logging.getLogger(__name__)

_HEEDED = "MLXP_SETTINGS"  # set by mlxp_core.mlxp, which goes by them
_PLACES = ("hydra.callbacks.mlxp.log_dir=", "hydra.launcher.log_dir=")


def check_settings(config: DictConfig, node: str) -> None:
    """Say the new name of each setting of MLXP that there is; ``node`` is ``run`` or ``sweep``.

    Raises SystemExit for those without which results would lie elsewhere, or jobs run here.
    """
    is_heeded = (config.hydra.job.get("env_set") or {}).get(_HEEDED) is not None
    sources = [] if is_heeded else _sources(config)
    if not sources:
        return
    from mlxp_core.migrate import SETTINGS, findings  # noqa: PLC0415  (of projects that were MLXP's)

    found = [(where, finding) for where, settings in sources for finding in findings(settings)]
    refused = [(where, finding) for where, finding in found if finding.matters and _differs(config, node, finding)]
    if refused:
        raise SystemExit(
            "ConfigurationError: these settings of MLXP's are not read here, and what they say would not happen:\n"
            + "\n".join(_line(where, finding) for where, finding in refused)
            + "\nSay that on the command line, and take the setting away."
        )
    told = [(where, finding) for where, finding in found if finding.value != SETTINGS[finding.name].default]
    if told:
        log.warning("settings of MLXP's are not read here:\n%s", "\n".join(_line(*each) for each in told))


def _line(where: str, finding: Finding) -> str:
    return f"  {where}: mlxp.{finding.name}={finding.value} -> {finding.becomes}"


def _sources(config: DictConfig) -> list[tuple[str, Any]]:
    """Give where settings are, and what they are; a file is looked for beside the program's configuration alone."""
    sources: list[tuple[str, Any]] = []
    if "mlxp" in config and isinstance(config.mlxp, DictConfig):
        sources.append(("the configuration", OmegaConf.to_container(config.mlxp, resolve=False)))
    for source in config.hydra.runtime.get("config_sources") or ():
        path = f"{source.path}/mlxp.yaml"
        if source.schema == "file" and source.provider == "main" and os.path.isfile(path):  # noqa: PTH113  (each start)
            from mlxp_core.migrate import says_nothing  # noqa: PLC0415  (of projects that were MLXP's)
            from mlxp_core.yaml_io import read_yaml  # noqa: PLC0415

            try:
                text = Path(path).read_text(encoding="utf-8")
                if not says_nothing(text):
                    sources.append((path, read_yaml(text, Path(path))))
            except (OSError, ValueError) as error:  # perhaps a file of somebody else's
                log.warning("settings of MLXP's, if there are any, are not read here: %s", error)
    return sources


def _differs(config: DictConfig, node: str, finding: Finding) -> bool:
    """Tell whether what a setting asks for does not happen anyway, and was not decided otherwise."""
    if finding.name == "use_scheduler":
        return bool(config.hydra.launcher.get("_target_") != LAUNCHER)
    if finding.name == "use_logger":
        return True
    log_dir = chosen_log_dir(config, node)
    if log_dir is None:  # a hydra.run.dir or hydra.sweep.dir of the user's own
        return False
    if finding.name == "logger.parent_log_dir":
        said = any(override.lstrip("+").startswith(_PLACES) for override in config.hydra.overrides.hydra)
        asked = os.path.abspath(Path(config.hydra.runtime.cwd, str(finding.value)))  # noqa: PTH100  (no links)
        return not said and asked != os.path.abspath(log_dir)  # noqa: PTH100
    return True

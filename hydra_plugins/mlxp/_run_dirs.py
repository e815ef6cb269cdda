"""The folders of runs: what ``{log_dir}`` and ``{id}`` stand for in hydra.run.dir, hydra.sweep.dir and subdir."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import DictConfig, OmegaConf, read_write

from hydra_plugins.mlxp._names import ID, LAUNCHER, LOG_DIR, RUN_ID
from hydra_plugins.mlxp._omegaconf import raw
from mlxp_core.errors import ConfigurationError
from mlxp_core.runs.allocation import RunAllocator
from mlxp_core.runs.layout import LogDir, RunDir

if TYPE_CHECKING:
    from hydra_plugins.mlxp._job import Job


def choose_run_dir(config: DictConfig) -> Path:
    """Resolve ``hydra.run.dir`` of a single run: a new id where it ends in ``{id}``, else where the user says."""
    path = Path(config.hydra.runtime.cwd, _with_log_dir(config, str(config.hydra.run.dir)))
    if path.name == ID:
        path = _allocate(path.parent).path
    with read_write(config.hydra):
        config.hydra.run.dir = str(path)
    return path


def sweep_overrides(config: DictConfig) -> list[str]:
    """A ``hydra.run.dir`` of the user's own as overrides that give the one job of a multirun that folder."""
    if raw(config, "hydra.run", "dir") == f"{LOG_DIR}/{ID}":
        return []
    path = Path(os.path.abspath(Path(config.hydra.runtime.cwd, _with_log_dir(config, str(config.hydra.run.dir)))))  # noqa: PTH100  (no links)
    return [f"hydra.sweep.dir={quote(str(path.parent))}", f"hydra.sweep.subdir={quote(path.name)}"]


def rewrite_run_dir(overrides: Any, parsed: Any) -> None:
    """Replace ``hydra.run.dir``, which a multirun has no use for, by what it has, in the lists that Hydra goes by.

    Hydra 1.4 has ``parsed``, too, in step with the other.
    """
    for index, override in enumerate(overrides if isinstance(overrides, list) else ()):
        match = re.fullmatch(r"\+{0,2}hydra\.run\.dir=(['\"]?)([^'\"]+)\1", override)
        if match and "${" not in match[2]:
            parent, _, name = match[2].rstrip("/").rpartition("/")
            parent = parent or ("/" if match[2].startswith("/") else ".")
            lines = [f"hydra.sweep.dir={quote(parent)}", *([] if name == ID else [f"hydra.sweep.subdir={quote(name)}"])]
            if isinstance(parsed, list) and len(parsed) == len(overrides):
                parsed[index : index + 1] = OverridesParser.create().parse_overrides(lines)
            overrides[index : index + 1] = lines
        elif override.lstrip("+").startswith("hydra.run.dir="):
            raise SystemExit(
                f"ConfigurationError: {override}: under mlxpsub a program is a multirun, whose runs lie in "
                "hydra.sweep.dir, in hydra.sweep.subdir each: say these"
            )


def resolve_sweep_dir(config: DictConfig) -> None:
    """Resolve ``hydra.sweep.dir`` of a multirun, and have each of its jobs ask for an id when it starts.

    A job's configuration is composed anew, from the overrides of the multirun's, so the values are added to these.
    """
    values = {}
    directory = raw(config, "hydra.sweep", "dir")
    if LOG_DIR not in directory:  # so that interpolations stay, which may come to something else in each job
        directory = str(config.hydra.sweep.dir)
    if LOG_DIR in directory:
        values["dir"] = _with_log_dir(config, directory)
    if raw(config, "hydra.sweep", "subdir") == ID:
        values["subdir"] = RUN_ID
    with read_write(config.hydra):
        for key, value in values.items():
            config.hydra.sweep[key] = value
            text = value if value == RUN_ID else QuotedString(text=value, quote=Quote.single).with_quotes()
            config.hydra.overrides.hydra.append(f"hydra.sweep.{key}={text}")


def log_dir_of(config: DictConfig, jobs: Sequence[Job]) -> LogDir:
    """The log directory of a multirun. Raises ConfigurationError where its jobs do not agree on it."""
    directories = dict.fromkeys(str(job.hydra("sweep.dir")) for job in jobs) or {str(config.hydra.sweep.dir): None}
    if len(directories) > 1:
        one, other, *_ = directories
        raise ConfigurationError(
            f"hydra.sweep.dir={jobs[0].raw('sweep.dir')} is {one} for one job of this sweep, and {other} for another, "
            "but the runs of a sweep are in one log directory. Take what differs out of it (what a run's "
            "configuration is, the reader tells), or start a sweep for each."
        )
    return LogDir(Path(config.hydra.runtime.cwd, *directories))


def run_id_of(config: DictConfig) -> str:
    """The id of a job of a multirun, from its composed configuration, whose ``hydra.sweep.subdir`` it becomes.

    Hydra asks for it once a job is about to start, when ``hydra.job.num`` is known; asked before, no run is made.
    """
    if OmegaConf.is_missing(config.hydra.job, "num"):
        return ID
    run = _allocate(Path(config.hydra.runtime.cwd, str(config.hydra.sweep.dir)))
    with read_write(config.hydra):
        config.hydra.sweep.subdir = run.path.name  # asked again, it is the same
    return run.path.name


def quote(text: str) -> str:
    """A string as Hydra's override grammar takes it, whatever it holds."""
    quoted: str = QuotedString(text=text.replace("${", "\\${"), quote=Quote.single).with_quotes()
    return quoted


def chosen_log_dir(config: DictConfig, node: str) -> Path | None:
    """The log directory of ``hydra.run`` or ``hydra.sweep``; None where their ``dir`` is of the user's own."""
    if LOG_DIR not in raw(config, f"hydra.{node}", "dir"):
        return None
    return Path(config.hydra.runtime.cwd, _with_log_dir(config, LOG_DIR))


def _with_log_dir(config: DictConfig, path: str) -> str:
    if LOG_DIR not in path:
        return path
    chosen = str(OmegaConf.select(config, "hydra.callbacks.mlxp.log_dir") or "logs")
    launcher = config.hydra.launcher
    if launcher.get("_target_") == LAUNCHER and chosen == "logs":
        chosen = str(launcher.log_dir)  # either says it, with the callback's group chosen beside the launcher's
    return path.replace(LOG_DIR, chosen)


def _allocate(log_dir: Path) -> RunDir:
    with RunAllocator(log_dir) as allocator:
        return allocator.allocate()

"""One job of a multirun: its overrides, and the configuration that they compose to."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, flag_override

from hydra_plugins.mlxp import _omegaconf
from hydra_plugins.mlxp._omegaconf import Plain, interpolates
from mlxp_core.nested import value_at
from mlxp_core.sweeps.interpolation import environment_paths, job_dependent_paths

ConfigFactory = Callable[[], DictConfig]  # makes a copy of its own each time


@dataclass
class Job:
    """One job's configuration. What is large is made anew each time that it is asked for, so that thousands fit."""

    overrides: list[str]
    unresolved: Plain  # the application's part, with its interpolations
    number: int = 0  # of the job in its sweep
    late_values: dict[str, Any] = field(default_factory=dict)  # of Hydra's node, decided after composition: "job.id"

    _make: ConfigFactory = field(kw_only=True)  # gives all of it
    _application: ConfigFactory = field(kw_only=True)  # gives the application's part
    _hydra: Plain = field(kw_only=True)  # Hydra's node, with its interpolations
    _is_job_variable: Callable[[str], bool] = field(kw_only=True)  # an environment variable that only the job has
    _resolved: Plain | None = field(kw_only=True, default=None)  # the application's part, where no resolver is asked

    def config(self) -> DictConfig:
        """All of it, as Hydra composes it: a copy of its own."""
        config = self._make()
        with flag_override(config.hydra, ["struct", "readonly"], [False, False]):
            for path, value in self.late_values.items():
                OmegaConf.update(config.hydra, path, value)
        return config

    def application(self) -> DictConfig:
        """The application's part: a copy of its own."""
        return self._application()

    def raw(self, path: str) -> Any:
        """The value of Hydra's node at a path, which may be an interpolation: ``raw("sweep.subdir")``."""
        return self.late_values[path] if path in self.late_values else value_at(self._hydra, path.split("."))

    def hydra(self, path: str) -> Any:
        """The value of Hydra's node at a path, resolved."""
        value = self.raw(path)
        if interpolates(value) or value == "???":
            with self.as_current() as config:
                value = OmegaConf.select(config.hydra, path, throw_on_missing=True)
                return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
        return copy.copy(value)

    def resolved(self) -> Plain:
        """The application's part with its interpolations resolved, as far as they can be here.

        Text that asks for a variable of a job stays, also where it has a default, or this process is in a job itself.
        """
        if self._resolved is not None:
            return self._resolved
        for_job = job_dependent_paths(self.unresolved, self._is_job_variable)
        with self.as_current():
            return _omegaconf.as_resolved(self.application(), for_job)

    def environment_values(self) -> list[Any]:
        """The values that it has from the environment, and not from its job."""
        paths = [] if self._resolved is not None else environment_paths(self.unresolved)
        resolved = self.resolved() if paths else {}
        return [value_at(resolved, path) for path in paths]

    @contextmanager
    def as_current(self) -> Iterator[DictConfig]:
        """Let ``${hydra:…}`` find this configuration, as it does while the job runs."""
        before, config = HydraConfig.instance().cfg, self.config()
        HydraConfig.instance().cfg = cast("Any", config)
        try:
            yield config
        finally:
            HydraConfig.instance().cfg = before

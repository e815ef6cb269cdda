"""Composes the jobs of a sweep: each distinct choice of config groups once, by Hydra; values on copies of that.

The result is the one of Hydra's ``load_sweep_config``. Fast are ``key=value``, ``+key=value``, ``++key=value`` and
``~key`` for dotted keys of the application's configuration. Overrides of config groups and of ``hydra.*`` are left to
Hydra, once for each distinct choice of them. Anything else is composed by Hydra as a whole: keys in brackets, keys
that lie in one another, values that are merged into or read from interpolations, whatever raises, a search path that
a job changes, Hydra's own settings that interpolate, a config loader that is not Hydra's.
"""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from hydra._internal import config_loader_impl
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, flag_override

from hydra_plugins.mlxp import _omegaconf
from hydra_plugins.mlxp._job import ConfigFactory, Job
from hydra_plugins.mlxp._omegaconf import Plain, interpolates
from mlxp_core.nested import value_at

_SIMPLE_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*", re.ASCII)
# where the configurations are, and what composition writes itself
_COMPOSITIONS_OWN = re.compile(r"[+~]*hydra\.(searchpath|overrides|runtime)(?=[.=@\[]|$)")
_MOST_BASES = 64  # kept; each takes as much memory as a configuration
# of Hydra's node, what composition itself reads
_READ = ("job.name", "job.env_copy", "job.env_set", "job.config", "aliases", "overrides", "runtime")
_SETS_WHAT_IS_READ = re.compile(r"[+~]*hydra(\.(job|aliases|overrides|runtime)(?=[.=@\[]|$)|=|\[)")
_CALLS_A_RESOLVER = re.compile(r"\$\{[^}]*:")  # which may ask for Hydra's configuration
_PLAIN_TYPES = {"CHANGE", "ADD", "FORCE_ADD", "DEL"}  # of overrides


class Composer:
    """Composes jobs of one multirun. Jobs composed before they are launched are remembered until they are taken."""

    def __init__(self, loader: ConfigLoader, master: DictConfig, is_job_variable: Callable[[str], bool]) -> None:
        """Take Hydra's loader, the configuration of the multirun, and how environment variables of a job are told."""
        self._loader, self._master, self._is_job_variable = loader, master, is_job_variable
        self._bases: dict[tuple[str, ...], _Base | None] = {}
        self._parsed: dict[str, Override | None] = {}
        self._groups: dict[str, bool] = {}
        self._remembered: dict[tuple[str, ...], Job] = {}
        self._hydra_node: Any = master.hydra.overrides.hydra
        self._hydra_lines: list[str] = []

    def compose(self, overrides: Sequence[str]) -> Job:
        """Compose one job. Raises what Hydra raises."""
        return self._compose_fast(list(overrides)) or self._compose_with_hydra(list(overrides))

    def remember(self, overrides: Sequence[str]) -> Job:
        """Compose one job, and keep it for ``take``."""
        key = self._key(overrides)
        if key not in self._remembered:
            self._remembered[key] = self.compose(overrides)
        return self._remembered[key]

    def take(self, overrides: Sequence[str], number: int) -> Job:
        """Give a job that is about to be launched, composed now if it was not before."""
        job = self._remembered.pop(self._key(overrides), None) or self.compose(overrides)
        job.number, job.late_values["job.num"] = number, number
        return job

    def _key(self, overrides: Sequence[str]) -> tuple[str, ...]:
        return (*self._hydra_overrides(), "", *overrides)

    def _hydra_overrides(self) -> list[str]:
        if len(self._hydra_lines) != len(self._hydra_node):  # to which resolve_sweep_dir adds
            self._hydra_lines = _omegaconf.overrides(self._master, "hydra")
        return self._hydra_lines

    def _compose_with_hydra(self, overrides: list[str]) -> Job:
        config = self._loader.load_sweep_config(self._master, overrides)
        return Job(
            overrides,
            _omegaconf.unresolved(config),
            _make=lambda: copy.deepcopy(config),
            _application=lambda: _omegaconf.application(config),
            _hydra=_omegaconf.container(config.hydra),
            _is_job_variable=self._is_job_variable,
        )

    def _compose_fast(self, overrides: list[str]) -> Job | None:
        """Compose on a copy of what Hydra has composed before; None where only Hydra can tell."""
        variation = self._variation(overrides)
        if variation is None:
            return None
        try:
            part = variation.application()
            unresolved = _omegaconf.as_plain(part)
            calls = _CALLS_A_RESOLVER.search(str(unresolved))
            resolved = None if calls else _omegaconf.as_resolved(part) if interpolates(unresolved) else unresolved
        except Exception:  # noqa: BLE001  (Hydra says it in its own words)
            return None
        return Job(
            overrides,
            unresolved,
            late_values={} if variation.dirname is None else {"job.override_dirname": variation.dirname},
            _make=variation.everything,
            _application=variation.application,
            _hydra=variation.hydra(),
            _is_job_variable=self._is_job_variable,
            _resolved=resolved,
        )

    def _variation(self, overrides: list[str]) -> _Variation | None:
        if type(self._loader) is not ConfigLoaderImpl or any(map(_COMPOSITIONS_OWN.match, overrides)):
            return None
        parsed = [override for line in overrides if (override := self._parse(line)) is not None]
        for_hydra = [override for override in parsed if self._needs_hydra(override)]
        if len(parsed) < len(overrides) or any(isinstance(override.value(), dict) for override in for_hydra):
            return None  # a mapping is a value also where its key is a group's
        values = [override for override in parsed if not self._needs_hydra(override)]
        base = self._base(tuple(override.input_line or "" for override in for_hydra))
        if base is None or not base.accepts(values):
            return None
        task = [override for override in parsed if not override.is_hydra_override()]
        lines = [override.input_line for override in task]
        return _Variation(base, self._master, values, lines, base.override_dirname(task))

    def _parse(self, line: str) -> Override | None:
        """Parse an override, once; None for any but a plain one of a single value."""
        if line not in self._parsed:
            self._parsed[line] = None
            try:
                (override,) = OverridesParser.create().parse_overrides([line])
            except Exception:  # noqa: BLE001  (Hydra says it in its own words)
                return None
            is_plain = override.type is not None and override.type.name in _PLAIN_TYPES
            if is_plain and not override.is_sweep_override():
                self._parsed[line] = override
        return self._parsed[line]

    def _needs_hydra(self, override: Override) -> bool:
        """Tell whether an override chooses a config group, or is of Hydra's own node."""
        key = override.key_or_group
        if key not in self._groups:
            self._groups[key] = self._repository.group_exists(key)
        return override.is_hydra_override() or self._groups[key]

    @cached_property
    def _repository(self) -> Any:
        """Its own, which takes 10 ms to make: the search path may be extended by the primary configuration."""
        loader: Any = self._loader
        _, repository = loader._parse_overrides_and_create_caching_repo(  # noqa: SLF001
            self._master.hydra.job.config_name, self._hydra_overrides()
        )
        return repository

    def _base(self, lines: tuple[str, ...]) -> _Base | None:
        key = (*self._hydra_overrides(), "", *lines)
        if key not in self._bases:
            if len(self._bases) >= _MOST_BASES:
                self._bases.pop(next(iter(self._bases)))
            self._bases[key] = self._compose_base(list(lines))
        return self._bases[key]

    def _compose_base(self, lines: list[str]) -> _Base | None:
        loader = _ProbingLoader(self._loader)
        try:
            config = loader.load_sweep_config(self._master, lines)
            all_lines = [*self._hydra_overrides(), *lines]
            sets = any("${" in line and _SETS_WHAT_IS_READ.match(line) for line in all_lines)
            return None if loader.reads_interpolations or sets else _Base.of(config)
        except Exception:  # noqa: BLE001  (with the values it may compose; if not, Hydra says why)
            return None


class CachingLoader:
    """Hydra's loader for a sweeper that composes each job to see whether it can be, before the launcher does."""

    def __init__(self, loader: ConfigLoader, composer: Composer, master: DictConfig) -> None:
        """Stand in for ``loader``."""
        self.original, self._composer, self._own_master = loader, composer, master

    def __getattr__(self, name: str) -> Any:
        """All else is the loader's."""
        return getattr(self.original, name)

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """As Hydra's."""
        if master_config is not self._own_master:
            return self.original.load_sweep_config(master_config, sweep_overrides)
        return self._composer.remember(sweep_overrides).config()


@dataclass(frozen=True)
class _Base:
    """A configuration as composed from a choice of config groups, to be copied."""

    everything: ConfigFactory
    application: ConfigFactory
    plain: Plain  # of the application's part
    hydra: Plain  # Hydra's node

    @classmethod
    def of(cls, config: DictConfig) -> _Base:
        everything = _copier(config)
        application = everything()
        with flag_override(application, ["struct", "readonly"], [False, False]):
            del application["hydra"]
        return cls(
            everything, _copier(application), _omegaconf.container(application), _omegaconf.container(config.hydra)
        )

    def accepts(self, values: Sequence[Override]) -> bool:
        """Tell whether these overrides have the same effect here, without Hydra's node."""
        keys = [override.key_or_group for override in values]
        disjoint = len(keys) < 2 or not any(  # noqa: PLR2004
            after == before or after.startswith(f"{before}.") for before, after in _neighbours(sorted(keys))
        )
        return disjoint and all(self._accepts(override) for override in values)

    def _accepts(self, override: Override) -> bool:
        key = override.key_or_group
        if override.package is not None or not _SIMPLE_KEY.fullmatch(key) or key.split(".", 1)[0] == "hydra":
            return False
        target: Any = self.plain
        *parents, last = key.split(".")
        for parent in parents:
            target = target.get(parent) if isinstance(target, dict) else None
            if isinstance(target, (str, list)):  # an interpolation, perhaps; an element of a list
                return False
        target = target.get(last) if isinstance(target, dict) else None
        value = override.value()
        if isinstance(value, (dict, list)):  # merged into the target
            return not interpolates(target) and not interpolates(value)
        # these read the target
        return not ((override.is_add() or override.is_delete()) and interpolates(target))

    def override_dirname(self, overrides: list[Override]) -> str | None:
        """The value of hydra.job.override_dirname; None where Hydra has none (1.4)."""
        compose: Any = getattr(config_loader_impl, "get_overrides_dirname", None)
        if compose is None:
            return None
        settings = self.hydra["job"]["config"]["override_dirname"]
        name: str = compose(
            overrides=overrides,
            kv_sep=settings["kv_sep"],
            item_sep=settings["item_sep"],
            exclude_keys=settings["exclude_keys"],
        )
        return name


@dataclass(frozen=True)
class _Variation:
    """A base with the values of one job."""

    base: _Base
    master: DictConfig
    values: list[Override]
    task: list[str | None]  # all overrides of the application's configuration, as they were given
    dirname: str | None

    def application(self) -> DictConfig:
        config = self.base.application()
        _apply(self.values, config)
        OmegaConf.copy_cache(from_config=self.master, to_config=config)
        return config

    def everything(self) -> DictConfig:
        config = self.base.everything()
        _apply(self.values, config)
        node = config.hydra
        with flag_override(node, ["struct", "readonly"], [False, False]):
            node.overrides.task.clear()
            node.overrides.task.extend(self.task)
            if self.dirname is not None:
                node.job.override_dirname = self.dirname
        OmegaConf.copy_cache(from_config=self.master, to_config=config)
        return config

    def hydra(self) -> Plain:
        return self.base.hydra | {"overrides": {**self.base.hydra["overrides"], "task": self.task}}


class _ProbingLoader(ConfigLoaderImpl):
    """Hydra's loader, that notices where composition itself depends on what an override may change."""

    def __init__(self, loader: ConfigLoader) -> None:
        self.__dict__.update(vars(loader))
        self.reads_interpolations = False

    def _compose_config_from_defaults_list(self, *args: Any, **named: Any) -> DictConfig:
        config = super()._compose_config_from_defaults_list(*args, **named)
        hydra = _omegaconf.container(config.hydra)
        read = [value_at(hydra, path.split(".")) for path in _READ]
        self.reads_interpolations = any(map(interpolates, read)) or bool(hydra.get("aliases"))
        return config


def _copier(config: DictConfig) -> ConfigFactory:
    """Make copies of a configuration. A pickle takes a third of the time of a deep copy."""
    try:
        data = pickle.dumps(config, protocol=pickle.HIGHEST_PROTOCOL)
        pickle.loads(data)  # noqa: S301  (our own)
    except Exception:  # noqa: BLE001  (a schema that is local to a function, an object that pickles in its own way)
        return lambda: copy.deepcopy(config)

    def copied() -> DictConfig:
        config: DictConfig = pickle.loads(data)  # noqa: S301
        return config

    return copied


def _apply(values: list[Override], config: DictConfig) -> None:
    ConfigLoaderImpl._apply_overrides_to_config(values, config)  # noqa: SLF001  (Hydra's own way)


def _neighbours(keys: Sequence[str]) -> Iterator[tuple[str, str]]:
    for number, before in enumerate(keys):
        for after in keys[number + 1 :]:
            if not after.startswith(before):
                break
            yield before, after

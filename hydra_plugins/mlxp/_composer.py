"""Composes the jobs of a sweep: each distinct choice of config groups once, by Hydra; values on copies of that.

The result is the one of Hydra's ``load_sweep_config``. Fast are ``key=value``, ``+key=value``, ``++key=value`` and
``~key`` for dotted keys of the application's configuration. Overrides of config groups and of ``hydra.*`` are left to
Hydra, once for each distinct choice of them. What else there is goes Hydra's way as a whole: keys in brackets, keys
that lie in one another, values that are merged into or read from interpolations, whatever raises, a search path that
a job changes, Hydra's own settings that interpolate, a config loader that is not Hydra's.
"""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from hydra._internal import config_loader_impl
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, flag_override

from hydra_plugins.mlxp import _mlxpsub_program, _omegaconf
from hydra_plugins.mlxp._omegaconf import Plain
from mlxp_core import nested
from mlxp_core.sweeps import interpolation

_SIMPLE_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*", re.ASCII)
# where the configurations are, and what composition writes itself
_HYDRAS_OWN = re.compile(r"[+~]*hydra\.(searchpath|overrides|runtime)(?=[.=@\[]|$)")
_MOST_BASES = 64  # kept; each takes as much memory as a configuration
# of Hydra's node, what composition itself looks at
_LOOKED_AT = ("job.name", "job.env_copy", "job.env_set", "job.config", "aliases", "overrides", "runtime")
_LOOKED_AT_BY_OVERRIDE = re.compile(r"[+~]*hydra(\.(job|aliases|overrides|runtime)(?=[.=@\[]|$)|=|\[)")
_CALLS_A_RESOLVER = re.compile(r"\$\{[^}]*:")  # which may ask for Hydra's configuration

Copy = Callable[[], DictConfig]


@dataclass
class Job:
    """One job's configuration. What is large is made anew each time that it is asked for, so that thousands fit."""

    overrides: list[str]
    unresolved: Plain  # the application's part, with its interpolations
    number: int = 0  # of the job in its sweep
    settled: dict[str, Any] = field(default_factory=dict)  # values of Hydra's node that are decided later: "job.id"

    _make: Copy = field(kw_only=True)  # gives all of it
    _application: Copy = field(kw_only=True)  # gives the application's part
    _hydra: Plain = field(kw_only=True)  # Hydra's node, with its interpolations
    _resolved: Plain | None = field(kw_only=True, default=None)  # the application's part, where no resolver is asked

    def config(self) -> DictConfig:
        """All of it, as Hydra composes it: a copy of its own."""
        config = self._make()
        with flag_override(config.hydra, ["struct", "readonly"], [False, False]):
            for path, value in self.settled.items():
                OmegaConf.update(config.hydra, path, value)
        return config

    def application(self) -> DictConfig:
        """The application's part: a copy of its own."""
        return self._application()

    def raw(self, path: str) -> Any:
        """What Hydra's node holds there, which may be an interpolation: ``raw("sweep.subdir")``."""
        return self.settled[path] if path in self.settled else _at(self._hydra, path)

    def hydra(self, path: str) -> Any:
        """What Hydra's node holds there, resolved."""
        value = self.raw(path)
        if _interpolates(value) or value == "???":
            with self.as_current() as config:
                value = OmegaConf.select(config.hydra, path, throw_on_missing=True)
                return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
        return copy.copy(value)

    def resolved(self) -> Plain:
        """The application's part with its interpolations resolved, as far as they can be here.

        What asks for a variable of a job is left, also where it has a default, or this process is in a job of its own.
        """
        if self._resolved is not None:
            return self._resolved
        left = interpolation.job_dependent_paths(self.unresolved, _mlxpsub_program.is_of_a_job)
        with self.as_current():
            return _omegaconf.as_resolved(self.application(), left)

    def of_the_environment(self) -> list[Any]:
        """The values that it has from the environment, and not from its job."""
        places = [] if self._resolved is not None else interpolation.environment_paths(self.unresolved)
        here = self.resolved() if places else {}
        return [nested.value_at(here, place) for place in places]

    @contextmanager
    def as_current(self) -> Iterator[DictConfig]:
        """Let ``${hydra:…}`` find this configuration, as it does while the job runs."""
        before, config = HydraConfig.instance().cfg, self.config()
        HydraConfig.instance().cfg = cast("Any", config)
        try:
            yield config
        finally:
            HydraConfig.instance().cfg = before


class Composer:
    """Composes jobs of one multirun. Jobs composed before they are launched are remembered until they are taken."""

    def __init__(self, loader: ConfigLoader, master: DictConfig) -> None:
        """Take Hydra's loader and the configuration of the multirun."""
        self._loader, self._master = loader, master
        self._bases: dict[tuple[str, ...], _Base | None] = {}
        self._parsed: dict[str, Override | None] = {}
        self._groups: dict[str, bool] = {}
        self._remembered: dict[tuple[str, ...], Job] = {}
        self._given: Any = master.hydra.overrides.hydra
        self._of_hydra: list[str] = []

    def compose(self, overrides: Sequence[str]) -> Job:
        """Compose one job. Raises what Hydra raises."""
        return self._quickly(list(overrides)) or self._hydras_way(list(overrides))

    def remember(self, overrides: Sequence[str]) -> Job:
        """Compose one job, and keep it for ``take``."""
        key = self._key(overrides)
        if key not in self._remembered:
            self._remembered[key] = self.compose(overrides)
        return self._remembered[key]

    def take(self, overrides: Sequence[str], number: int) -> Job:
        """Give a job that is about to be launched, composed now if it was not before."""
        job = self._remembered.pop(self._key(overrides), None) or self.compose(overrides)
        job.number, job.settled["job.num"] = number, number
        return job

    def _key(self, overrides: Sequence[str]) -> tuple[str, ...]:
        return (*self._hydra_overrides(), "", *overrides)

    def _hydra_overrides(self) -> list[str]:
        if len(self._of_hydra) != len(self._given):  # to which resolve_sweep_dir adds
            self._of_hydra = _omegaconf.overrides(self._master, "hydra")
        return self._of_hydra

    def _hydras_way(self, overrides: list[str]) -> Job:
        config = self._loader.load_sweep_config(self._master, overrides)
        return Job(
            overrides,
            _omegaconf.unresolved(config),
            _make=lambda: copy.deepcopy(config),
            _application=lambda: _omegaconf.application(config),
            _hydra=_omegaconf.container(config.hydra),
        )

    def _quickly(self, overrides: list[str]) -> Job | None:
        """Compose on a copy of what Hydra has composed before; None where only Hydra can tell."""
        if type(self._loader) is not ConfigLoaderImpl or any(map(_HYDRAS_OWN.match, overrides)):
            return None
        parsed = [one for line in overrides if (one := self._parse(line)) is not None]
        left = [one for one in parsed if self._is_hydras(one)]
        if len(parsed) < len(overrides) or any(isinstance(one.value(), dict) for one in left):
            return None  # a mapping is a value also where its key is a group's
        values = [one for one in parsed if not self._is_hydras(one)]
        base = self._base(tuple(one.input_line or "" for one in left))
        if base is None or not base.takes(values):
            return None
        tasks = [one for one in parsed if not one.is_hydra_override()]
        task, dirname = [one.input_line for one in tasks], base.dirname(tasks)

        def application() -> DictConfig:
            config = base.application()
            _apply(values, config)
            OmegaConf.copy_cache(from_config=self._master, to_config=config)
            return config

        def make() -> DictConfig:
            config = base.everything()
            _apply(values, config)
            node = config.hydra
            with flag_override(node, ["struct", "readonly"], [False, False]):
                node.overrides.task.clear()
                node.overrides.task.extend(task)
                if dirname is not None:
                    node.job.override_dirname = dirname
            OmegaConf.copy_cache(from_config=self._master, to_config=config)
            return config

        try:
            part = application()
            unresolved = _omegaconf.as_plain(part)
            calls = _CALLS_A_RESOLVER.search(str(unresolved))
            resolved = None if calls else _omegaconf.as_resolved(part) if _interpolates(unresolved) else unresolved
        except Exception:  # noqa: BLE001  (Hydra says it in its own words)
            return None
        settled = {} if dirname is None else {"job.override_dirname": dirname}
        hydra = base.hydra | {"overrides": {**base.hydra["overrides"], "task": task}}
        return Job(
            overrides,
            unresolved,
            settled=settled,
            _make=make,
            _application=application,
            _hydra=hydra,
            _resolved=resolved,
        )

    def _parse(self, line: str) -> Override | None:
        """Parse an override, once; None for what is no plain one of a single value."""
        if line not in self._parsed:
            parsed = None
            try:
                (parsed,) = OverridesParser.create().parse_overrides([line])
            except Exception:  # noqa: BLE001  (Hydra says it in its own words)
                self._parsed[line] = None
            usual = parsed is not None and (
                parsed.type is not None and parsed.type.name in {"CHANGE", "ADD", "FORCE_ADD", "DEL"}
            )
            self._parsed[line] = parsed if usual and parsed is not None and not parsed.is_sweep_override() else None
        return self._parsed[line]

    def _is_hydras(self, override: Override) -> bool:
        """Whether an override chooses a config group, or is of Hydra's own node."""
        key = override.key_or_group
        if key not in self._groups:
            # its own repository: the search path may be extended by the primary configuration
            loader: Any = self._loader
            _, repository = loader._parse_overrides_and_create_caching_repo(  # noqa: SLF001
                self._master.hydra.job.config_name, self._hydra_overrides()
            )
            self._groups[key] = repository.group_exists(key)
        return override.is_hydra_override() or self._groups[key]

    def _base(self, left: tuple[str, ...]) -> _Base | None:
        key = (*self._hydra_overrides(), "", *left)
        if key not in self._bases:
            if len(self._bases) >= _MOST_BASES:
                self._bases.pop(next(iter(self._bases)))
            self._bases[key] = self._compose_base(list(left))
        return self._bases[key]

    def _compose_base(self, left: list[str]) -> _Base | None:
        loader = _Watching(self._loader)
        try:
            config = loader.load_sweep_config(self._master, left)
            lines = [*self._hydra_overrides(), *left]
            interpolates = any("${" in line and _LOOKED_AT_BY_OVERRIDE.match(line) for line in lines)
            return None if loader.looks_elsewhere or interpolates else _Base.of(config)
        except Exception:  # noqa: BLE001  (with the values it may compose; if not, Hydra says why)
            return None


class CachingLoader:
    """Hydra's loader for a sweeper that composes each job to see whether it can be, before the launcher does."""

    def __init__(self, loader: ConfigLoader, composer: Composer, master: DictConfig) -> None:
        """Stand in for ``loader``."""
        self.hydras, self._composer, self._own_master = loader, composer, master

    def __getattr__(self, name: str) -> Any:
        """All else is the loader's."""
        return getattr(self.hydras, name)

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """As Hydra's."""
        if master_config is not self._own_master:
            return self.hydras.load_sweep_config(master_config, sweep_overrides)
        return self._composer.remember(sweep_overrides).config()


@dataclass(frozen=True)
class _Base:
    """A configuration as composed from a choice of config groups, to be copied."""

    everything: Copy
    application: Copy
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

    def takes(self, values: Sequence[Override]) -> bool:
        """Whether these overrides come to the same here, without Hydra's node."""
        keys = [value.key_or_group for value in values]
        apart = len(keys) < 2 or not any(  # noqa: PLR2004
            after == before or after.startswith(f"{before}.") for before, after in _neighbours(sorted(keys))
        )
        return apart and all(self._takes(value) for value in values)

    def _takes(self, override: Override) -> bool:
        key = override.key_or_group
        if override.package is not None or not _SIMPLE_KEY.fullmatch(key) or key.split(".", 1)[0] == "hydra":
            return False
        target: Any = self.plain
        *way, last = key.split(".")
        for part in way:
            target = target.get(part) if isinstance(target, dict) else None
            if isinstance(target, (str, list)):  # an interpolation, perhaps; an element of a list
                return False
        target = target.get(last) if isinstance(target, dict) else None
        value = override.value()
        if isinstance(value, (dict, list)):  # merged into what is there
            return not _interpolates(target) and not _interpolates(value)
        # these read what is there
        return not ((override.is_add() or override.is_delete()) and _interpolates(target))

    def dirname(self, overrides: list[Override]) -> str | None:
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


class _Watching(ConfigLoaderImpl):
    """Hydra's loader, that notices where composition itself depends on what an override may change."""

    def __init__(self, loader: ConfigLoader) -> None:
        self.__dict__.update(vars(loader))
        self.looks_elsewhere = False

    def _compose_config_from_defaults_list(self, *given: Any, **named: Any) -> DictConfig:
        config = super()._compose_config_from_defaults_list(*given, **named)
        hydra = _omegaconf.container(config.hydra)
        self.looks_elsewhere = any(_interpolates(_at(hydra, path)) for path in _LOOKED_AT) or bool(hydra.get("aliases"))
        return config


def _copier(config: DictConfig) -> Copy:
    """Make copies of a configuration. A pickle takes a third of the time of a deep copy."""
    try:
        text = pickle.dumps(config, protocol=pickle.HIGHEST_PROTOCOL)
        pickle.loads(text)  # noqa: S301  (our own)
    except Exception:  # noqa: BLE001  (a schema that is local to a function, an object that pickles in its own way)
        return lambda: copy.deepcopy(config)

    def copied() -> DictConfig:
        made: DictConfig = pickle.loads(text)  # noqa: S301
        return made

    return copied


def _apply(values: list[Override], config: DictConfig) -> None:
    ConfigLoaderImpl._apply_overrides_to_config(values, config)  # noqa: SLF001  (Hydra's own way)


def _neighbours(keys: Sequence[str]) -> Iterator[tuple[str, str]]:
    for number, before in enumerate(keys):
        for after in keys[number + 1 :]:
            if not after.startswith(before):
                break
            yield before, after


def _interpolates(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_interpolates(key) or _interpolates(item) for key, item in value.items())
    if isinstance(value, list):
        return any(map(_interpolates, value))
    return isinstance(value, str) and "${" in value


def _at(values: Any, path: str) -> Any:
    for part in path.split("."):
        values = values.get(part) if isinstance(values, dict) else None
    return values

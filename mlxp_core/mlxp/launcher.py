"""``@mlxp.launch``: a Hydra program whose function is given a context. The one module of the core that calls Hydra."""

from __future__ import annotations

import functools
import importlib
import json
import logging
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import DictConfig, OmegaConf

from mlxp_core import migrate
from mlxp_core.errors import ConfigurationError
from mlxp_core.mlxp.data_structures.config_dict import ConfigDict, convert_dict
from mlxp_core.mlxp.errors import InvalidConfigFileError, InvalidSchedulerError, MissingFieldError
from mlxp_core.mlxp.logger import DefaultLogger, Logger, logger_info
from mlxp_core.recording.current import current_run
from mlxp_core.recording.lifecycle import start_run
from mlxp_core.recording.run import Run
from mlxp_core.runs.times import parse_time
from mlxp_core.yaml_io import load_yaml_or_empty, read_yaml

log = logging.getLogger(__name__)

_SETTINGS = "MLXP_SETTINGS"  # for a job: those that the command line and mlxp.yaml have, as JSON
_OVERRIDE = re.compile(r"\+{0,2}mlxp(\.|=)")
_OWN_LOGGERS = {"mlxp.DefaultLogger", "DefaultLogger", "mlxp.logger.DefaultLogger"}


class _Section(ConfigDict):
    """Settings below the name of their section, as MLXP has them, and without it, as its manual has."""

    def __missing__(self, name: str) -> Any:
        for inner in list(self.values())[:1]:
            if isinstance(inner, ConfigDict) and name in inner:
                return inner[name]
        raise KeyError(name)


@dataclass
class Context:
    """What the function of ``@mlxp.launch`` is given.

    ``config``: the configuration, a ConfigDict (with ``as_ConfigDict=False`` OmegaConf's DictConfig). ``mlxp``: MLXP's
    settings. ``info``: what info.yaml said when the run began. ``logger``: None with ``use_logger=False``.
    """

    config: Any = None
    mlxp: Any = None
    info: Any = None
    logger: DefaultLogger | None = None


def launch(
    config_path: str = "configs", seeding_function: Callable[[Any], Any] | None = None
) -> Callable[[Callable[[Context], Any]], Callable[..., Any]]:
    """Make a Hydra program of a function that takes a Context.

    ``config_path``: the folder with config.yaml and mlxp.yaml, relative to the program's file. ``seeding_function`` is
    called with ``config.seed`` first. Every call is a multirun, recorded by ``hydra/callbacks=mlxp`` in MLXP's
    ``logger.parent_log_dir``, which is relative to the program's file, too. Overrides and options are Hydra's, with
    ``+mlxp.…`` for MLXP's settings. Raises ConfigurationError for a setting that has no meaning here.
    """

    def decorate(function: Callable[[Context], Any]) -> Callable[..., Any]:
        home = Path(function.__code__.co_filename).absolute().parent

        @functools.wraps(function)
        def job(config: DictConfig) -> None:
            _run(function, config, seeding_function)

        @functools.wraps(function)
        def main(config: DictConfig | None = None) -> None:
            folder = home / config_path
            if config is not None:  # composed by the caller
                settings = _settings(folder, ())
                with start_run(home / settings["logger"]["parent_log_dir"], _plain(config)), _told(settings):
                    job(config)
                return
            program = hydra.main(
                version_base=None,
                config_path=str(folder) if folder.is_dir() else None,
                config_name="config" if (folder / "config.yaml").is_file() else None,
            )
            with _command_line(home, folder):
                program(job)()

        return main

    return decorate


def instantiate(class_name: str) -> Any:
    """Import what ``module.name`` stands for. Raises ImportError and AttributeError."""
    module, _, name = class_name.rpartition(".")
    return getattr(importlib.import_module(module), name)


def instance_from_dict(class_name: str, arguments: Mapping[str, Any]) -> Any:
    """Call what ``module.name`` stands for with these arguments."""
    return instantiate(class_name)(**arguments)


def _instance_from_config(config: Mapping[str, Any], *args: Any, **more: Any) -> Any:
    """Call what ``config["name"]`` stands for with the rest of the configuration: MLXP before 1.0."""
    arguments = {**config, **more}
    return instantiate(arguments.pop("name"))(*args, **arguments)


def _run(function: Callable[[Context], Any], config: DictConfig, seeding_function: Callable[[Any], Any] | None) -> None:
    """Run one job."""
    settings = migrate.defaults()
    _merge(settings, json.loads(os.environ.get(_SETTINGS, "{}")))
    run = current_run(optional=True)
    logger = _logger(settings["logger"]) if settings["use_logger"] else None
    if seeding_function is not None:
        if "seed" not in config:
            raise MissingFieldError("the configuration has no `seed`, which seeding_function is called with")
        seeding_function(config.seed)
    given: Any = config
    if settings["as_ConfigDict"]:
        given = convert_dict(_plain(config))
    elif settings["resolve"]:
        OmegaConf.resolve(given)
    sections = (_Section({"mlxp": convert_dict(settings)}), _Section({"info": convert_dict(_info(run))}))
    sys.path.insert(0, str(Path.cwd()))
    try:
        function(Context(given, *sections, logger))
    finally:
        sys.path.remove(str(Path.cwd()))


def _plain(config: DictConfig) -> dict[str, Any]:
    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    return plain


def _logger(settings: Mapping[str, Any]) -> Any:
    name = settings["name"]
    kind = DefaultLogger if name in _OWN_LOGGERS else instantiate(name)
    if not (isinstance(kind, type) and issubclass(kind, Logger)):
        raise ConfigurationError(f"mlxp.logger.name={name} is no class of loggers: derive it from mlxp.DefaultLogger")
    return kind(**{key: value for key, value in settings.items() if key != "name"})


def _info(run: Run) -> dict[str, Any]:
    """Give info.yaml with the names that MLXP has for what is in it."""
    info = {} if run.keeps_nothing else load_yaml_or_empty(run.layout.info)
    times = {}
    if "start_time" in info:
        started = parse_time(str(info["start_time"])).astimezone()
        times = {"start_date": f"{started:%d/%m/%Y}", "start_time": f"{started:%H:%M:%S}"}
    return {"scheduler": None, "version_manager": None, **info, **times, "logger": logger_info(run.layout)}


@contextmanager
def _command_line(home: Path, folder: Path) -> Iterator[None]:
    """Have Hydra see the command line in which MLXP's settings and habits are said in its own words."""
    before, original = sys.argv, sys.orig_argv
    arguments = before[1:]
    with tempfile.TemporaryDirectory(prefix="mlxp-") as nowhere:
        words = _in_hydras_words(arguments, _settings(folder, arguments), home, nowhere)
        # what starts this program again, for the jobs of a launcher
        head = (
            original[: len(original) - len(arguments)]
            if original[len(original) - len(arguments) :] == arguments
            else []
        )
        sys.argv, sys.orig_argv = [before[0], *words], [*head, *words] if head else original
        try:
            yield
        finally:
            sys.argv, sys.orig_argv = before, original


def _in_hydras_words(arguments: Sequence[str], settings: Mapping[str, Any], home: Path, nowhere: str) -> list[str]:
    words = [argument for argument in arguments if not _OVERRIDE.match(argument)]
    known, _ = get_args_parser().parse_known_args(words)
    given = {word.lstrip("+").partition("=")[0] for word in words}
    added: dict[str, str] = {"hydra/job_logging": "disabled"}
    if "hydra/launcher" not in given and "MLXP_SUB" not in os.environ:  # which say what they submit
        added["hydra/hydra_logging"] = "disabled"
        _refuse_scheduler(settings)
    if not (known.run or known.multirun or known.cfg or known.info or known.shell_completion or known.hydra_help):
        added["hydra.mode"] = "MULTIRUN"
    parent = str(home / settings["logger"]["parent_log_dir"])
    if not settings["use_logger"]:
        added |= {"hydra/callbacks": "mlxp_off", "hydra.output_subdir": "null", "hydra.sweep.dir": _quoted(nowhere)}
    else:
        added |= {"hydra/callbacks": "mlxp", "hydra.callbacks.mlxp.log_dir": _quoted(parent)}
        if (number := settings["logger"]["forced_log_id"]) >= 0:
            added |= {"hydra.sweep.dir": _quoted(parent), "hydra.sweep.subdir": str(number)}
            added["hydra.run.dir"] = _quoted(f"{parent}/{number}")
    said: dict[str, Any] = {}
    for name, value in migrate.flat(settings).items():
        if value != migrate.SETTINGS[name].default:
            migrate.put(said, name, value)
    added[f"+hydra.job.env_set.{_SETTINGS}"] = _quoted(json.dumps(said))
    return [*words, *(f"{key}={value}" for key, value in added.items() if key.lstrip("+") not in given)]


def _quoted(text: str) -> str:
    quoted: str = QuotedString(text=text.replace("${", "\\${"), quote=Quote.single).with_quotes()
    return quoted


def _refuse_scheduler(settings: Mapping[str, Any]) -> None:
    if settings["use_scheduler"]:
        found = {finding.name: finding.becomes for finding in migrate.findings(settings)}
        raise InvalidSchedulerError(
            f"mlxp.use_scheduler=True: jobs are submitted by Hydra's launcher: say {found['use_scheduler']} on the "
            "command line, with your directives in hydra.launcher.header or hydra.launcher.template"
        )


def _settings(folder: Path, arguments: Sequence[str]) -> dict[str, Any]:
    """Give MLXP's settings: its defaults, those of mlxp.yaml, those of the command line."""
    settings = migrate.defaults()
    path = folder / "mlxp.yaml"
    if path.is_file():
        text = path.read_text(encoding="utf-8")
        _take(settings, {} if migrate.says_nothing(text) else read_yaml(text, path), str(path))
    for text in filter(_OVERRIDE.match, arguments):
        override = OverridesParser.create().parse_override(text)
        if override.is_sweep_override():
            raise InvalidConfigFileError(f"{text}: MLXP's settings are those of all jobs of a sweep: give one value")
        _, _, name = str(override.key_or_group).partition(".")
        value = override.value()
        given: dict[str, Any] = {}
        if name:
            migrate.put(given, name, value)
        else:
            given = value if isinstance(value, dict) else {}
        _take(settings, given, text)
    return settings


def _take(settings: dict[str, Any], given: Mapping[str, Any], where: str) -> None:
    if unknown := [name for name in migrate.flat(given) if name not in migrate.SETTINGS]:
        raise InvalidConfigFileError(
            f"{where}: MLXP has no setting {', '.join(unknown)}; it has these:\n{migrate.table()}"
        )
    _merge(settings, given)


def _merge(settings: dict[str, Any], given: Mapping[str, Any]) -> None:
    for name, value in migrate.flat(given).items():
        migrate.put(settings, name, value)


@contextmanager
def _told(settings: Mapping[str, Any]) -> Iterator[None]:
    """Have a job that is called here find its settings where one of Hydra's does."""
    before = os.environ.get(_SETTINGS)
    os.environ[_SETTINGS] = json.dumps(settings)
    try:
        yield
    finally:
        os.environ.pop(_SETTINGS)
        if before is not None:
            os.environ[_SETTINGS] = before

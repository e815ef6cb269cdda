"""Composed configurations as plain values, resolved, compared and pinned."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from functools import lru_cache
from typing import Any

from omegaconf import DictConfig, OmegaConf, base, flag_override, grammar_parser
from omegaconf.errors import OmegaConfBaseException

from mlxp_core.nested import KeyPath, interpolations, leaves, value_at
from mlxp_core.plain_values import to_builtins

Plain = dict[str, Any]
_ABSENT = object()
# an attribute of a multirun's configuration, outside of its nodes: what its jobs will resolve
_DEFERRED = "_mlxp_deferred"


def application(config: DictConfig) -> DictConfig:
    """The application's part of a composed configuration: all but the node ``hydra``."""
    keys: list[Any] = [key for key in config if key != "hydra"]
    part = OmegaConf.masked_copy(config, keys)
    OmegaConf.copy_cache(from_config=config, to_config=part)  # one value of ${now:} for a whole sweep
    return part


def unresolved(config: DictConfig) -> Plain:
    """The application's part with its interpolations, as plain values."""
    return as_plain(application(config))


def as_plain(part: DictConfig) -> Plain:
    """A configuration with its interpolations, as plain values."""
    plain: Plain = to_builtins(container(part))
    return plain


def resolved(config: DictConfig) -> Plain:
    """The application's part with every interpolation that can be resolved here; the others keep their text."""
    return as_resolved(application(config))


def as_resolved(part: DictConfig, for_job: Collection[KeyPath] = ()) -> Plain:
    """A configuration with every interpolation that can be resolved in it; the others keep their text.

    So do those at the places ``for_job``.
    """
    values = container(part)
    texts = {path: text for path, text in _interpolations(values) if path in for_job}
    with _parsed_once():
        try:
            for path, _ in _interpolations(values):  # few, while OmegaConf would look at each value
                if path not in texts:
                    _holder(values, path)[path[-1]] = _resolved_at(part, path)
        except OmegaConfBaseException:  # no value, or a key that is an enum, and only its name in `values`
            values = _resolved_where_possible(part)
            for path, text in texts.items():
                _holder(values, path)[path[-1]] = text
    plain: Plain = to_builtins(values)
    return plain


def _resolved_where_possible(part: DictConfig) -> Any:
    try:
        return OmegaConf.to_container(part, resolve=True, enum_to_str=True)
    except OmegaConfBaseException:
        values = container(part)
        for path, text in _interpolations(values):
            _holder(values, path)[path[-1]] = _resolve(part, path, text)
        return values


def pin(config: DictConfig, submitted: Plain) -> list[str]:
    """Give interpolations the values that they had at submission; name those that would have had another one now.

    What was decided then is not decided again: the time, a random number, a variable of the submitting shell. What
    could not be resolved then, such as a variable that only the job has, is resolved here.
    """
    part = application(config)
    changed = []
    for path, text in _interpolations(container(part)):
        value = value_at(submitted, path, _ABSENT)
        was_resolved = value is not _ABSENT and not (isinstance(value, str) and "${" in value)
        if was_resolved and to_builtins(_resolve(part, path, text)) != value:
            holder = _holder(config, path)
            with flag_override(holder, ["struct", "readonly"], [False, False]):
                holder[path[-1]] = value
            changed.append(_dotted(path))
    return changed


def raw(config: DictConfig, holder: str, key: str) -> Any:
    """The value of a node, which may be an interpolation: ``raw(config, "hydra.run", "dir")``."""
    return container(OmegaConf.select(config, holder))[key]


def defer_to_jobs(config: DictConfig, holder: str, keys: Sequence[str]) -> None:
    """Take out of a multirun's configuration what cannot be resolved in it, because its jobs choose the group.

    Hydra resolves all of a launcher before it makes it. A job's configuration is composed anew, and has it.
    """
    node = OmegaConf.select(config, holder)
    deferred = vars(config).setdefault(_DEFERRED, {})
    for key in keys:
        try:
            OmegaConf.to_container(OmegaConf.create([node[key]]), resolve=True)
        except OmegaConfBaseException:
            deferred[key] = container(node)[key]
            _set(node, key, None if key == "header" else [])


def restore_deferred(config: DictConfig, holder: str) -> None:
    """Put it in again, once the launcher is made: Hydra 1.4 refuses a job with another launcher than the multirun."""
    for key, text in vars(config).pop(_DEFERRED, {}).items():
        _set(OmegaConf.select(config, holder), key, text)


def _set(node: DictConfig, key: str, value: Any) -> None:
    with flag_override(node, ["struct", "readonly"], [False, False]):
        node[key] = value


def overrides(config: DictConfig, kind: str) -> list[str]:
    """The overrides that a configuration was composed with, ``task`` or ``hydra``, as they were given."""
    given: list[str] = raw(config, "hydra.overrides", kind)
    return given


def differences(before: Plain, after: Plain) -> list[str]:
    """The differences of two configurations, a line each: ``optimizer.lr: 0.1 -> 0.2``."""
    first, second = dict(leaves(before)), dict(leaves(after))
    lines = []
    for path in [*first, *(path for path in second if path not in first)]:
        old, new = first.get(path, _ABSENT), second.get(path, _ABSENT)
        same = type(old) is type(new) and (old == new or (old != old and new != new))  # noqa: PLR0124  (NaN)
        if not same:
            lines.append(f"{_dotted(path)}: {_show(old)} -> {_show(new)}")
    return lines


@contextmanager
def _parsed_once() -> Iterator[None]:
    """Have OmegaConf parse each text once: that takes a millisecond, and the jobs of a sweep have the same texts.

    Several threads may be in here: the last that leaves gives OmegaConf its own parser back, which is the first there.
    """
    with _parsers_lock:
        _parsers.append(base.parse)  # type: ignore[attr-defined]
        base.parse = _parse  # type: ignore[attr-defined]
    try:
        yield
    finally:
        with _parsers_lock:
            before = _parsers.pop()
            if not _parsers:
                base.parse = before  # type: ignore[attr-defined]


_parsers: list[Any] = []
_parsers_lock = threading.Lock()


@lru_cache(maxsize=4096)
def _parse(value: str, *how: str) -> Any:
    return grammar_parser.parse(value, *how)


def container(config: Any) -> Any:
    """A node with its interpolations, in Python's own containers."""
    return OmegaConf.to_container(config, resolve=False, enum_to_str=True)


def _resolve(config: DictConfig, path: KeyPath, text: str) -> Any:
    """Resolve one node; give its text where that cannot be done."""
    try:
        return _resolved_at(config, path)
    except OmegaConfBaseException:
        return text


def _resolved_at(config: DictConfig, path: KeyPath) -> Any:
    value = _holder(config, path)[path[-1]]
    if OmegaConf.is_config(value):
        return OmegaConf.to_container(value, resolve=True, enum_to_str=True)
    return value.name if isinstance(value, Enum) else value


def _holder(values: Any, path: KeyPath) -> Any:
    for part in path[:-1]:
        values = values[part]
    return values


def _interpolations(values: Any) -> list[tuple[KeyPath, str]]:
    return [*interpolations(values)]


def interpolates(value: Any) -> bool:
    """Tell whether there is an interpolation in a plain value, also in a key."""
    if isinstance(value, dict):
        return any(interpolates(key) or interpolates(item) for key, item in value.items())
    if isinstance(value, list):
        return any(map(interpolates, value))
    return isinstance(value, str) and "${" in value


def _dotted(path: KeyPath) -> str:
    return ".".join(str(part) for part in path)


def _show(value: Any) -> str:
    return "(not there)" if value is _ABSENT else repr(value)

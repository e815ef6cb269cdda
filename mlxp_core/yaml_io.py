"""YAML mappings of plain values: read safely, written whole."""

from __future__ import annotations

import marshal
import re
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from mlxp_core.atomic_files import write_atomic

# libyaml where PyYAML was built with it: ten times faster, same output
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# text that OmegaConf, a reader of YAML 1.2 or one by the letter of YAML 1.1 takes for a number, a date or a bool, where
# PyYAML's own rules have text and put no quotes: 1e-3, 008, 0o17, -.5, 1.2.3, 2026-1-2, y
_NUMBER_ELSEWHERE = re.compile(
    r"""[-+]?(?:
        _*[0-9][0-9_]*(?:\.[0-9_.]*)?(?:[eE][-+]?[0-9_]+)?
      | \.[_.]*[0-9][0-9_.]*(?:[eE][-+]?[0-9_]+)?
      | 0[bB][01_]+ | 0[oO]?[0-7_]+ | 0[xX][0-9a-fA-F_]+
      | [0-9_]+(?::[0-5]?[0-9])+(?:\.[0-9_]*)?
      | \.(?:inf|Inf|INF|nan|NaN|NAN)
    )$ | [0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:$|[Tt\ \t])""",
    re.VERBOSE,
)
_BOOL_ELSEWHERE = re.compile(r"[yYnN]$")


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """Quotes text that any reader would take for something else."""


# asked after PyYAML's own, so that what is a number keeps its tag
_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", _NUMBER_ELSEWHERE, list("-+.0123456789"))
_Dumper.add_implicit_resolver("tag:yaml.org,2002:bool", _BOOL_ELSEWHERE, list("yYnN"))


def write_yaml(path: Path, content: Mapping[str, Any]) -> None:
    """Write a mapping of plain values as YAML, whole or not at all."""
    write_atomic(path, dump_yaml(content))


def dump_yaml(content: Mapping[str, Any]) -> str:
    """Plain values as YAML text, keys in the order given."""
    try:
        return _dump(dict(content))
    except UnicodeEncodeError:  # file names that are no UTF-8 come as lone surrogates, in messages for example
        return _dump(_escaped(content))


def _dump(content: Mapping[str, Any]) -> str:
    """Put what stands under each key into words, which is slow, once: the runs of a sweep have most of it in common."""
    try:
        # format 2 has no references: equal values, of the same types, give the same bytes
        sections = [marshal.dumps((key, value), 2) for key, value in content.items()]
    except ValueError:  # no plain value: the YAML library says what is wrong with it
        return _in_words(content)
    return "".join(map(_section, sections)) or _in_words({})


@lru_cache(maxsize=512)
def _section(marshalled: bytes) -> str:
    key, value = marshal.loads(marshalled)  # noqa: S302  (of this process)
    return _in_words({key: value})


def _in_words(content: Mapping[str, Any]) -> str:
    text: str = yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)
    return text


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, Mapping):
        return {_escaped(key): _escaped(item) for key, item in value.items()}
    return [_escaped(item) for item in value] if isinstance(value, list) else value


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping of plain values; nothing in it is executed.

    Raises FileNotFoundError, or ValueError when the file holds no mapping.
    """
    return read_yaml(path.read_text(encoding="utf-8"), path)


def read_yaml(text: str, path: Path) -> dict[str, Any]:
    """Read a YAML mapping that stood in ``path``. Raises ValueError where the text is none."""
    try:
        content = yaml.load(text, Loader=_Loader)  # noqa: S506  (a safe loader)
    # what the conversions of PyYAML's safe constructors raise for `!!bool x`, `!!timestamp x`, `!!int ''`
    except (yaml.YAMLError, KeyError, AttributeError, IndexError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is no YAML: {error!r}" if not str(error) else f"{path} is no YAML: {error}"
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no mapping but {type(content).__name__}")  # noqa: TRY004
    return content


def duplicate_keys(text: str) -> list[str]:
    """Keys that a YAML mapping gives more than once, where the last one counts; text that was read as YAML."""
    twice: dict[str, None] = {}
    left = [yaml.compose(text, Loader=_Loader)]
    seen: set[int] = set()
    while left:
        node = left.pop()
        if id(node) in seen:  # an alias
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            left += node.value
        elif isinstance(node, yaml.MappingNode):
            keys = Counter((key.tag, key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode))
            twice |= {str(key): None for (_, key), count in keys.items() if count > 1 and key != "<<"}
            left += [value for _, value in node.value]
    return list(twice)


def load_yaml_or_empty(path: Path) -> dict[str, Any]:
    """As load_yaml; an empty mapping where there is no file."""
    try:
        return load_yaml(path)
    except FileNotFoundError:
        return {}

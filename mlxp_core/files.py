"""Files that are whole or absent. The only module that writes whole files into a log directory.

A file is written beside its place and renamed onto it, so a reader sees the old or the new one, never a half.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

# libyaml where PyYAML was built with it: ten times faster, same output
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def beside(path: Path) -> Path:
    """A name in the same folder that no other process uses and no reader looks at."""
    return path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")


def write_whole(path: Path, content: str | bytes, *, durable: bool = False) -> None:
    """Put ``content`` at ``path``, whole or not at all.

    ``durable`` waits until the disk has it: for what a power cut must not take, such as a checkpoint.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = beside(path)
    try:
        with temporary.open("wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
        if durable:
            _sync_folder(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _sync_folder(folder: Path) -> None:
    """Wait until the disk has the names in a folder: a rename is an entry of it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_yaml(path: Path, content: Mapping[str, Any]) -> None:
    """Write a mapping of plain values as YAML, whole or not at all."""
    write_whole(path, dump_yaml(content))


def dump_yaml(content: Mapping[str, Any]) -> str:
    """Plain values as YAML text, keys in the order given."""
    text: str = yaml.dump(dict(content), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)
    return text


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping of plain values; nothing in it is executed.

    Raises FileNotFoundError, or ValueError when the file holds no mapping.
    """
    text = path.read_text(encoding="utf-8")
    try:
        content = yaml.load(text, Loader=_Loader)  # noqa: S506  (a safe loader)
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is no YAML: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no mapping but {type(content).__name__}")  # noqa: TRY004
    return content


def load_yaml_if_there(path: Path) -> dict[str, Any]:
    """As load_yaml; an empty mapping where there is no file."""
    try:
        return load_yaml(path)
    except FileNotFoundError:
        return {}

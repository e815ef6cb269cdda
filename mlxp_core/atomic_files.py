"""Files that are whole or absent. The only module that writes whole files into a log directory.

A file is written beside its place and renamed onto it, so a reader sees the old or the new one, never a half.
"""

from __future__ import annotations

import hashlib
import marshal
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

# libyaml where PyYAML was built with it: ten times faster, same output
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


# ctime, size and inode: as long as these stay, so does what a file holds, or which names a folder has
Stamp = tuple[int, int, int]
NOT_THERE: Stamp = (0, 0, 0)


def stamp_of(status: os.stat_result) -> Stamp:
    """How a file or a folder stands."""
    return status.st_ctime_ns, status.st_size, status.st_ino


def stamp_at(path: str | Path) -> Stamp:
    """How what is at ``path`` stands. Raises OSError for what cannot be known."""
    try:
        return stamp_of(os.stat(path))  # noqa: PTH116  (not all callers have a Path: for every run)
    except (FileNotFoundError, NotADirectoryError):
        return NOT_THERE


def checksum(content: bytes) -> str:
    """By what the content of a file is known again, wherever it has been copied to."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def load_bytes(path: str, *, folder: int | None = None, most: int | None = None) -> bytes:
    """Read a file, or the first bytes of it; ``path`` may be relative to the directory that is open as ``folder``.

    In a third of the time that a file object takes, for those who read thousands; and no pipe is waited for.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=folder)
    try:
        pieces = []
        left = most
        while piece := os.read(descriptor, 1 << 16 if left is None else min(left, 1 << 16)):
            pieces.append(piece)
            if left is not None:
                left -= len(piece)
        return b"".join(pieces)
    finally:
        os.close(descriptor)


def write_whole(path: Path, content: str | bytes, *, private: bool = False) -> None:
    """Put ``content`` at ``path``, whole or not at all; ``private``: for nobody else to read."""
    # a script may name files that are no UTF-8: their bytes go through as they are
    data = content.encode(errors="surrogateescape") if isinstance(content, str) else content
    with whole(path) as temporary:
        _write(temporary, data, path, 0o600 if private else 0o666)


def write_stamped(path: Path, content: bytes) -> Stamp:
    """As write_whole; give the stamp of what was put there, even if something else is there by now."""
    with ExitStack() as stack:
        with whole(path) as temporary:
            _write(temporary, content, path)
            # held open, so that its inode is not another file's; a renaming changes the ctime
            descriptor = os.open(temporary, os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, descriptor)
        return stamp_of(os.fstat(descriptor))


def _write(temporary: Path, data: bytes, path: Path, mode: int = 0o666) -> None:
    # a file object would ask the system five things more, and a launch makes eight files for each of thousands of runs
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(descriptor, left) :]
        finally:
            os.close(descriptor)  # before it is renamed: NFS shows other machines the content from then on
    except OSError as error:  # of a write, such as a full disk's, does not say where
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextmanager
def whole(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Give a place to make a file at, which then becomes ``path``; nothing is left of it if the block raises.

    The place has the suffix of ``path``, by which some writers choose the format. ``durable`` waits until the disk has
    the file: for what a power cut must not take, such as a checkpoint.
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.{os.urandom(4).hex()}{path.suffix}")
    try:
        yield temporary
        if durable:
            _sync(temporary)
        temporary.replace(path)
        if durable:
            _sync(path.parent)  # a rename is an entry of the folder
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_yaml(path: Path, content: Mapping[str, Any]) -> None:
    """Write a mapping of plain values as YAML, whole or not at all."""
    write_whole(path, dump_yaml(content))


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


def keys_given_twice(text: str) -> list[str]:
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


def load_yaml_if_there(path: Path) -> dict[str, Any]:
    """As load_yaml; an empty mapping where there is no file."""
    try:
        return load_yaml(path)
    except FileNotFoundError:
        return {}

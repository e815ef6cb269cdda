"""List the files of the user's code that this process has loaded, and tell what they held when they were loaded.

A file may have been edited since. Python keeps no source, so what was loaded is known where the file has not changed
since the process began or was last looked at, or where the module still runs what the file says now.
"""

from __future__ import annotations

import ast
import functools
import os
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from types import CodeType, FunctionType
from typing import Any, NamedTuple

from mlxp_core.runs.code_files import read_from_archive
from mlxp_core.runs.process import start_time

_OURS = ("mlxp_core", "hydra_plugins.mlxp")
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
_MOST = 64 << 20  # bytes of a file that is read to be hashed; above that it is no code
# of the 20 ms by which the clock of a file system may run behind
_CLOCK_STEP = 20_000_000


class LoadedFile(NamedTuple):
    """A file that a module was loaded from."""

    module: Any
    path: str  # with links resolved; one within a zip file as Python names it
    inner: str  # of an installed copy or a zip file: its path from there, as the source may have it, too; else empty


class _Look(NamedTuple):
    spec: Any  # another object after importlib.reload
    stamp: tuple[int, ...]
    content: bytes | None  # as it was loaded; None: not known
    is_current: bool


_looks: dict[str, _Look] = {}  # by path: what this process has seen


def loaded_files(local: Collection[str], package: str = "") -> Iterator[LoadedFile]:
    """Files of modules that are no part of Python, of this package, or of a distribution that an index has.

    ``local``: modules whose distribution was installed from a folder of this machine. ``package``: of the
    program, where that is installed itself.
    """
    standard, scripts = f"{os.path.dirname(os.__file__)}{os.sep}", _script_folders()  # noqa: PTH120
    for name, module in list(sys.modules.items()):
        file = _file(module)
        if file is None or _is_ours(name):
            continue
        place = next((place for place in _INSTALLED if place in file), None)
        if place is not None:
            inner = file.rpartition(place)[2]  # not by its name: `python -m` calls it __main__
            dotted = inner.removesuffix(".py").replace(os.sep, ".")
            top, _, rest = dotted.partition(".")
            if top == package or top in local or f"{top}.{rest.partition('.')[0]}" in local:
                yield LoadedFile(module, os.path.realpath(file), inner)
        elif not file.startswith((standard, *scripts)):
            archive = getattr(getattr(module, "__loader__", None), "archive", None)
            inner = file[len(archive) + 1 :] if isinstance(archive, str) and file.startswith(archive) else ""
            yield LoadedFile(module, file if inner else os.path.realpath(file), inner)


def _is_ours(name: str) -> bool:
    return name.startswith(_OURS) and any(name == ours or name.startswith(f"{ours}.") for ours in _OURS)


def _script_folders() -> list[str]:
    """Where pip puts console scripts, which hold nothing but an import."""
    user = getattr(sys.modules.get("site"), "USER_BASE", None)
    return [f"{folder}{os.sep}" for folder in (os.path.dirname(sys.executable), user and f"{user}/bin") if folder]  # noqa: PTH120


def _file(module: Any) -> str | None:
    """The file of a module, without waking one that loads itself when it is first touched."""
    names = getattr(module, "__dict__", None)
    if not isinstance(names, Mapping):
        return None
    file = names.get("__file__")
    if not isinstance(file, str):
        spec = names.get("__spec__")
        file = getattr(spec, "origin", None) if getattr(spec, "has_location", False) else None
    return os.path.abspath(file) if isinstance(file, str) else None  # noqa: PTH100  (thousands)


def content_as_loaded(file: LoadedFile, *candidates: bytes) -> bytes | None:
    """Give what a file held when its module was loaded; None where that is not known.

    ``candidates``: other contents of it, for one that was edited since.
    """
    spec = getattr(file.module, "__spec__", None)
    before = _looks.get(file.path)
    stamp = _stamp(file)
    if before is not None and before.spec is spec and before.stamp == stamp and before.is_current:
        return before.content
    now = _read(file)
    content = _decide(file, before if before is not None and before.spec is spec else None, now, stamp)
    if content is None:
        content = next((other for other in candidates if _runs(file.module, other, at_least=1)), None)
    _looks[file.path] = _Look(spec, stamp, content, content is not None and content == now)
    return content


def _decide(file: LoadedFile, before: _Look | None, now: bytes | None, stamp: tuple[int, ...]) -> bytes | None:
    if now is None:
        return before.content if before else None
    if before is None:
        is_old = stamp[1] + _CLOCK_STEP < _process_start()
        return now if is_old or _runs(file.module, now) else None
    # edited after it was looked at, and not reloaded, unless by IPython, which can put the new functions into it
    if before.content == now or (_runs(file.module, now, at_least=1) and not _runs(file.module, before.content)):
        return now
    return before.content


def _stamp(file: LoadedFile) -> tuple[int, ...]:
    try:
        status = os.stat(file.path if not file.inner or os.path.isfile(file.path) else _archive(file))  # noqa: PTH113, PTH116
    except OSError:
        return (0, sys.maxsize)
    return (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)


def _archive(file: LoadedFile) -> str:
    return file.path[: -len(file.inner) - 1]


def _read(file: LoadedFile) -> bytes | None:
    try:
        with open(file.path, "rb") as opened:  # noqa: PTH123  (many)
            content = opened.read(_MOST + 1)
            return content if len(content) <= _MOST else None
    except OSError:
        return read_from_archive(file.path)


@functools.cache
def _process_start() -> int:
    """When this process began, in ns since 1970; where that is not known, when this was first asked."""
    started = start_time(os.getpid())
    if started is None or not hasattr(time, "CLOCK_BOOTTIME"):
        return time.time_ns()
    since = time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK")
    return time.time_ns() - int(since * 1e9)


def _runs(module: Any, content: bytes | None, *, at_least: int = 0) -> bool:
    """Tell if a module has the functions and the constants that this source gives it, as far as both have them.

    ``at_least``: how many of them must be there to be compared.
    """
    if content is None:
        return False
    try:
        tree = ast.parse(content)
        code = compile(content, "-", "exec", dont_inherit=True)
    except (SyntaxError, ValueError):  # no source
        return at_least == 0
    names = vars(module)
    pairs = [(value, names[name]) for name, value in _constants(tree) if name in names]
    pairs += [(_comparable(one), _comparable(other)) for one, other in _functions(code, names)]
    return len(pairs) >= at_least and all(type(one) is type(other) and one == other for one, other in pairs)


def _constants(tree: ast.Module) -> Iterator[tuple[str, Any]]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            yield from ((target.id, node.value.value) for target in node.targets if isinstance(target, ast.Name))


def _functions(code: CodeType, names: Mapping[str, Any]) -> Iterator[tuple[CodeType, CodeType]]:
    """The code of each function and method in a source, and in the module."""
    for constant in code.co_consts:
        if not isinstance(constant, CodeType):
            continue
        value: Any = names.get(constant.co_name)
        while hasattr(value, "__wrapped__"):
            value = value.__wrapped__
        if isinstance(value, FunctionType):
            yield constant, value.__code__
        elif isinstance(value, type):
            yield from _functions(constant, vars(value))


def _comparable(code: CodeType) -> tuple[Any, ...]:
    constants = tuple(_comparable(one) if isinstance(one, CodeType) else repr(one) for one in code.co_consts)
    return (code.co_name, code.co_firstlineno, code.co_code, constants, code.co_names, code.co_varnames)

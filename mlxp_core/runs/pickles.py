"""Pickles that another program can load: functions and classes of the program that wrote them travel along.

cloudpickle writes what no module holds (a local function, a class of ``__main__``) by value; everything else is a plain
pickle, at its speed. What comes out of one takes the program's own classes again: a checkpoint that is resumed by the
program that made it must pass ``isinstance``, and run the code as it is now.

Loading a pickle runs what its writer put there. This is the only module that does it for artifacts.
"""

from __future__ import annotations

import io
import logging
import os
import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from types import CodeType, FunctionType
from typing import IO, Any

from mlxp_core.errors import ArtifactError, ArtifactTypeError

log = logging.getLogger(__name__)

_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
_PROTOCOL = 5  # arrays are written from where they lie; protocol 4 copies each of them first
_LARGE = 50_000_000  # bytes
_PROGRAM = ("__main__", "__mp_main__")  # the second is what a spawned worker calls the first
_CLOUDPICKLE = "cloudpickle.cloudpickle"
_STORAGE = ("torch.storage", "_load_from_bytes")  # what pickle makes of a tensor's numbers
_DILLS = {("__builtin__", "__main__"), ("__builtin__", "NoneType")}  # modules of no Python 3, which dill alone knows


def dump(artifact: Any, stream: IO[bytes], path: str | os.PathLike[str]) -> None:
    """Write a pickle at the place where ``stream`` stands; ``path`` is what errors call it.

    Where cloudpickle refuses and pickle does not, because a class of ``__main__`` uses a module-level value that cannot
    be pickled, that class is written by name. Raises ArtifactTypeError for what both refuse.
    """
    start = stream.tell()
    try:
        with _worker_by_value():
            _pickler()(stream, protocol=_PROTOCOL).dump(artifact)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001  (objects refuse by errors of all classes)
        refusal = error
    else:
        return
    stream.seek(start)
    stream.truncate()
    try:
        pickle.dump(artifact, stream, protocol=_PROTOCOL)
    except (pickle.PicklingError, TypeError, AttributeError):
        raise ArtifactTypeError(
            f"{path} cannot be saved as a pickle: {type(refusal).__name__}: {refusal}. Save what it takes to make that "
            "again (a state_dict, a path, numbers), or give its class a __reduce__."
        ) from refusal
    _warn_once(f"only a program that defines its classes can load {path}: {type(refusal).__name__}: {refusal}")


def load(stream: IO[bytes], path: str | os.PathLike[str], *, map_location: Any = None) -> Any:
    """Load a pickle and leave the stream at its end. It can run its writer's code: trust that first.

    ``map_location``: where torch puts its tensors, as for ``torch.load``; else where they were, or on the CPU where
    that device is not there. Raises ArtifactError for dill's pickles where dill is missing, and for classes of
    ``__main__`` that were written by name and are not in this program.
    """
    start = stream.tell()
    try:
        return _Unpickler(stream, path, map_location).load()
    except _WrittenByDillError as error:
        name = str(error)
    stream.seek(start)
    return _load_by_dill(stream, path, name, map_location)


def _load_by_dill(stream: IO[bytes], path: str | os.PathLike[str], name: str, map_location: Any) -> Any:
    try:
        import dill  # noqa: PLC0415
    except ImportError as error:
        raise ArtifactError(
            f"{path} was written by dill, as MLXP 1.0 does, and names {name}: `pip install dill` loads it here"
        ) from error

    class Unpickler(dill.Unpickler):  # type: ignore[misc]
        def find_class(self, module: str, name: str) -> Any:
            if (module, name) == _STORAGE:
                return partial(_load_storage, map_location)
            return super().find_class(module, name)

    return Unpickler(stream).load()


@cache
def _pickler() -> type[pickle.Pickler]:
    """Give the class that writes pickles. Called with the first and not at the start of a run: it imports."""
    import cloudpickle  # noqa: PLC0415

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        def reducer_override(self, obj: Any) -> Any:
            kind = type(obj)
            if kind is not FunctionType and not issubclass(kind, type):
                return NotImplemented  # as super() does, for every object of a checkpoint
            reduced = super().reducer_override(obj)
            if reduced is NotImplemented:
                return reduced
            if kind is FunctionType:
                _warn_of_large_values(obj, reduced[2][1].get("__globals__", {}))
            return (reduced[0], _labelled(obj, *reduced[:2]), *reduced[2:])

    return Pickler


def _warn_of_large_values(function: Any, values: dict[str, Any]) -> None:
    """Say so where a function takes a dataset at the top of main.py along, into every checkpoint."""
    for name, value in values.items():
        size = getattr(value, "nbytes", 0)  # of arrays and tensors
        if isinstance(size, int) and size > _LARGE:
            _warn_once(
                f"{function.__qualname__} is saved with {name} of its module, which it uses: {size / 1e6:,.0f} MB in "
                "each pickle that holds it. Pass it as an argument to leave it out"
            )


def _labelled(made: Any, maker: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Add to what cloudpickle makes a class or function of: its name, its program, the version of Python.

    In places that its makers fill or pass over, so that pickle and cloudpickle alone load it as well.
    """
    if maker.__name__ == "_make_function":  # code, globals, name (which a state replaces), defaults, closure
        return (*arguments[:2], f"{made.__qualname__}@{_PYTHON}", *arguments[3:])
    if maker.__name__ == "_make_skeleton_class":  # type, name, bases, namespace, id, extra
        namespace = {**arguments[3], "__qualname__": made.__qualname__}
        return (*arguments[:3], namespace, arguments[4], {"program": _program_file()})
    if maker.__name__ == "_make_skeleton_enum":  # bases, name, qualname, members, module, id, extra
        return (*arguments[:-1], {"program": _program_file()})
    return arguments


def _program_file() -> str:
    """Name the file of this program; empty in a notebook. Its folder is another one in each copy of the code."""
    return os.path.basename(getattr(sys.modules.get("__main__"), "__file__", None) or "")  # noqa: PTH119


@contextmanager
def _worker_by_value() -> Iterator[None]:
    """Have cloudpickle take what a spawned worker calls ``__mp_main__`` for the program that it is."""
    import cloudpickle  # noqa: PLC0415

    worker = sys.modules.get("__mp_main__")
    if worker is None or worker.__name__ in cloudpickle.list_registry_pickle_by_value():
        yield
        return
    cloudpickle.register_pickle_by_value(worker)
    try:
        yield
    finally:
        cloudpickle.unregister_pickle_by_value(worker)


@cache
def _warn_once(sentence: str) -> None:
    log.warning("%s", sentence)


class _WrittenByDillError(Exception):
    """What dill alone can load has come up."""


class _Unpickler(pickle.Unpickler):
    """Loads what ``dump`` writes, and pickles of others."""

    def __init__(self, stream: IO[bytes], path: str | os.PathLike[str], map_location: Any) -> None:
        super().__init__(stream)
        self._path = path
        self._map_location = map_location
        self._makers = _Makers()

    def find_class(self, module: str, name: str) -> Any:
        """Find what the pickle names."""
        if module.partition(".")[0] == "dill" or (module, name) in _DILLS:
            raise _WrittenByDillError(f"{module}.{name}")
        if (module, name) == _STORAGE:
            return partial(_load_storage, self._map_location)
        if module == _CLOUDPICKLE and (maker := self._makers.maker(name)):
            return maker
        module = "__main__" if module in _PROGRAM else module
        try:
            return super().find_class(module, name)
        except AttributeError as error:
            if module != "__main__":
                raise
            raise ArtifactError(
                f"{self._path} names {name} of the program that wrote it, and this program has none: import it into "
                "__main__, or define it there, before you load"
            ) from error


class _Makers:
    """What cloudpickle's pickles call to make classes and functions, with this program's own in their place.

    Those which were in ``__main__`` by a name that ``__main__`` has here, in a program whose file is called the same,
    and classes that this process has written or loaded before. They stay as they are.
    """

    def __init__(self) -> None:
        self._own: list[Any] = []

    def maker(self, name: str) -> Callable[..., Any] | None:
        """Give what is called in the place of a function of cloudpickle's, or None."""
        makers: dict[str, Callable[..., Any]] = {
            "_builtin_type": self._type,
            "_make_function": self._function,
            "_make_skeleton_class": self._class,
            "_make_skeleton_enum": self._enum,
            "_function_setstate": partial(self._set_state, name),
            "_class_setstate": partial(self._set_state, name),
        }
        return makers.get(name)

    def _type(self, name: str) -> Any:
        return _code if name == "CodeType" else _cloudpickles("_builtin_type")(name)

    def _function(self, code: Any, scope: dict[str, Any], name: str | None, *others: Any) -> Any:
        qualname, _, version = (name or "").rpartition("@")
        program = os.path.basename(scope.get("__file__") or "")  # noqa: PTH119
        own = self._find(scope.get("__name__"), qualname, program, FunctionType)
        if own is not None:
            return own
        if version not in {"", _PYTHON}:
            return self._keep(_OtherPythons(qualname, version))
        return _cloudpickles("_make_function")(code, scope, name, *others)

    def _class(self, *arguments: Any) -> Any:
        _, _, _, namespace, tracker, extra = arguments
        own = self._find(namespace.get("__module__"), namespace.get("__qualname__"), _program(extra), type)
        own = self._known(tracker) if own is None else own
        return _cloudpickles("_make_skeleton_class")(*arguments) if own is None else own

    def _enum(self, *arguments: Any) -> Any:
        _, _, qualname, _, module, tracker, extra = arguments
        own = self._find(module, qualname, _program(extra), type)
        own = self._known(tracker) if own is None else own
        return _cloudpickles("_make_skeleton_enum")(*arguments) if own is None else own

    def _set_state(self, setter: str, made: Any, state: Any) -> Any:
        if any(made is own for own in self._own):
            return made
        return _cloudpickles(setter)(made, state)

    def _known(self, tracker: Any) -> Any:
        """Give the class of this process that the pickle was written from, or that an earlier one brought."""
        return self._keep(_cloudpickles("_DYNAMIC_CLASS_TRACKER_BY_ID").get(tracker))

    def _find(self, module: str | None, qualname: str | None, program: str | None, kind: type) -> Any:
        if module not in _PROGRAM or not qualname or program != _program_file():
            return None
        found: Any = sys.modules.get("__main__")
        for part in qualname.split("."):  # that of a local function has <locals> in it, which nothing is called
            found = getattr(found, part, None)
        return self._keep(found if isinstance(found, kind) and getattr(found, "__qualname__", "") == qualname else None)

    def _keep(self, own: Any) -> Any:
        if own is not None:
            self._own.append(own)
        return own


class _OtherPythons:
    """Stands for a function whose byte code is that of another Python, where running it may end the process."""

    def __init__(self, qualname: str, version: str) -> None:
        self._sentence = (
            f"{qualname} was saved by Python {version} as byte code, which {_PYTHON} cannot run: load it there, "
            "or in the program that defines it"
        )

    def __call__(self, *_: Any, **__: Any) -> Any:
        raise ArtifactError(self._sentence)


def _code(*arguments: Any) -> Any:
    """Make a code object, or None of what another Python has written: no function is made of that."""
    try:
        return CodeType(*arguments)
    except (TypeError, ValueError):
        return None


def _program(extra: Any) -> str | None:
    return extra.get("program") if isinstance(extra, dict) else None


def _cloudpickles(name: str) -> Any:
    from cloudpickle import cloudpickle  # noqa: PLC0415

    return getattr(cloudpickle, name)


def _load_storage(map_location: Any, data: bytes) -> Any:
    """Load the numbers of a tensor that pickle has written, as ``torch.storage._load_from_bytes`` does."""
    import torch  # noqa: PLC0415

    return torch.load(io.BytesIO(data), map_location=map_location or here_or_cpu, weights_only=False)


def here_or_cpu(storage: Any, location: str) -> Any:
    """Put a torch storage, which is on the CPU, on the device where it was saved; it stays where that is not there."""
    import torch  # noqa: PLC0415

    try:
        return torch.serialization.default_restore_location(storage, location)
    except Exception as error:
        if isinstance(error, getattr(torch, "OutOfMemoryError", ())):
            raise
        # each device's module says in its own way that it is not there
        _warn_once(f"tensors that were saved on {location}, which is not here, are on the CPU now")
        return storage

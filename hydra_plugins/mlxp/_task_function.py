"""The task function: the file that it is in, and the hash of one that no file has."""

from __future__ import annotations

import hashlib
import inspect
import io
import logging
import re
from collections.abc import Callable
from pathlib import Path
from types import CodeType
from typing import Any

from mlxp_core.runs.code_version import UNKNOWN

log = logging.getLogger(__name__)


def program_file(task_function: Callable[..., Any] | None, launch_dir: Path) -> Path:
    """The file of the program, in a worker of another launcher too, where __main__ is the worker's.

    Of a console script that is its package's; of a zipapp the archive; of a notebook a name in the launch directory.
    """
    function = inspect.unwrap(task_function) if task_function is not None else None
    code = getattr(function, "__code__", None)
    file = Path(code.co_filename).absolute() if code is not None else launch_dir / "-"
    return next((path for path in (file, *file.parents) if path.is_file()), launch_dir / "-")


def function_hash(task_function: Callable[..., Any] | None) -> str | None:
    """The hash of a task function that no file has: one that was written in a cell, or with `python -c`."""
    if task_function is None or program_file(task_function, Path("-")).is_file():
        return None
    try:
        return hash_function(task_function)
    except Exception as error:  # noqa: BLE001  (whatever its globals raise when they are pickled)
        log.warning("the task function is in no file, and cannot be hashed: its version is not known: %s", error)
        return UNKNOWN


def hash_function(function: Any) -> str:
    """The same in another session for a function that does the same: not by the cell or the line where it was written.

    A function of a module is known by its name; what it does is a matter of the code's version.
    """
    import cloudpickle  # noqa: PLC0415

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        def reducer_override(self, value: Any) -> Any:
            if isinstance(value, CodeType):
                return str, (_described(value),)
            return super().reducer_override(value)

    file = io.BytesIO()
    Pickler(file).dump(function)
    # cloudpickle gives each class of a notebook an id of the session
    return hashlib.sha256(re.sub(rb"[0-9a-f]{32}", b"", file.getvalue())).hexdigest()


def _described(code: CodeType) -> str:
    """A code object as text that is the same in another process."""
    constants = [
        _described(value)
        if isinstance(value, CodeType)
        else sorted(map(repr, value))
        if isinstance(value, frozenset)
        else value
        for value in code.co_consts
    ]
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
    return repr((code.co_name, code.co_code, constants, names, counts))

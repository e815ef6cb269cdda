"""Artifacts: of finished runs, to be loaded; and of MLXP before 1.0, objects that know how they are saved."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any


class Artifact:
    """An object that a run has saved, or is to save.

    The reader gives it with ``name``, ``path`` (its folder) and ``load()``. With ``obj`` and ``ext`` it is what
    ``logger.log_artifact`` of MLXP before 1.0 takes: a subclass has ``_save(path)``, which writes ``path + ext``.
    """

    ext = ""

    def __init__(
        self,
        name: str | None = None,
        path: str | os.PathLike[str] | None = None,
        load: Callable[[str], Any] | None = None,
        save: Callable[[Any, str], None] | None = None,
        *,
        obj: Any = None,
        ext: str | None = None,
    ) -> None:
        """Take what either kind has."""
        self.name, self.path, self.obj = name, path, obj
        self._load, self._saved_by = load, save
        if ext is not None:
            self.ext = ext

    def load(self) -> Any:
        """Load it; a pickle can run its writer's code."""
        if self._load is None or self.path is None or self.name is None:
            raise TypeError(f"{self!r} is to be saved: it is loaded by what reads its format")
        return self._load(os.path.join(self.path, self.name))  # noqa: PTH118  (text, as MLXP gives)

    def _save(self, path: str) -> None:
        raise NotImplementedError(f"{type(self).__name__} has no _save({path!r}), which writes it")

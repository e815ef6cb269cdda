"""Gives a folder a path that every scheduler takes: by a link, where its own path holds blanks, quotes and the like.

Most schedulers cannot be told such a path at all, or send it through a shell; a quote in it has OAR take its node for
broken (seen on 2.5.9).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

from mlxp_core.errors import ConfigurationError
from mlxp_core.scheduler.base import plain_path
from mlxp_core.user_dirs import cache_dir


def shell_safe_alias(folder: Path) -> Path:
    """The folder itself, or a link to its parent and the folder in it.

    The link lies among the user's caches, so in a home that the nodes of a cluster see as well. Raises
    ConfigurationError where that path is not plain either, or cannot be written.
    """
    if plain_path(str(folder), ""):
        return folder
    cache = cache_dir()
    if cache is None:
        raise ConfigurationError(f"{_why(folder)}, and you have no home in which a link to it could lie")
    links = cache / "links"
    link = links / hashlib.sha256(os.fsencode(folder.parent)).hexdigest()[:16]
    try:
        links.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            link.symlink_to(folder.parent, target_is_directory=True)
        leads_there = link.resolve() == folder.parent.resolve()
    except OSError as error:
        raise ConfigurationError(f"{_why(folder)}, and the link {link} to it cannot be made: {error}") from error
    if not leads_there or not plain_path(str(link), ""):
        raise ConfigurationError(f"{_why(folder)}, and {link} cannot stand for it")
    return link / folder.name


def _why(folder: Path) -> str:
    return (
        f"the path {folder} holds characters that the scheduler does not take (a log directory with letters, digits "
        "and _ . / - alone would do: hydra.launcher.log_dir)"
    )

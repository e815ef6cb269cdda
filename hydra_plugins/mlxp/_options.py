"""The options of a plugin, checked against the types of their fields."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar, cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mlxp_core.errors import ConfigurationError

T = TypeVar("T")


def checked(cls: type[T], given: Mapping[str, Any], prefix: str) -> T:
    """Make options of this class; ``prefix`` is the key of the plugin in the configuration.

    Raises ConfigurationError for a value of another type than its field's.
    """
    try:
        return cast("T", OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(cls), given)))
    except OmegaConfBaseException as error:
        key = re.split(r"[.\[]", error.full_key or "?", maxsplit=1)[0]
        reason = str(error.msg).splitlines()[0]
        raise ConfigurationError(f"{prefix}.{key}={given.get(key)}: {reason}") from error

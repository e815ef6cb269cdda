"""Store what a task function returned, for a launch that waits: plain values, as JSON, which executes nothing.

Written before the run is COMPLETE, so that whoever sees that finds it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mlxp_core.atomic_files import write_atomic
from mlxp_core.plain_values import unwrap
from mlxp_core.runs.layout import RunDir

_LARGEST = 1 << 20  # bytes; a log directory is no place for data, which artifacts are


class ReturnValueNotStoredError(TypeError):
    """A value that is not plain, or too large."""


def save_return_value(run: RunDir, value: Any) -> None:
    """Keep what a task function returned; of a value that is not plain only what it was."""
    if value is None:
        run.return_value.unlink(missing_ok=True)  # an earlier attempt's
        return
    from mlxp_core.runs import strict_json  # noqa: PLC0415  (few programs return anything)

    try:
        kept = {"value": _plain(value)}
        text = strict_json.strict(json.dumps(kept))
        if len(text) > _LARGEST:
            raise ReturnValueNotStoredError(f"{len(text):,} bytes of JSON, more than {_LARGEST:,}")
    except (TypeError, ValueError, RecursionError) as error:
        text = json.dumps({"not_kept": f"{type(value).__module__}.{type(value).__qualname__}: {error}"})
    write_atomic(run.return_value, text)


def load_return_value(run: RunDir) -> Any:
    """What a COMPLETE run returned. Raises ReturnValueNotStoredError where that is no plain value."""
    from mlxp_core.runs import strict_json  # noqa: PLC0415

    try:
        found = strict_json.loads(run.return_value.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ReturnValueNotStoredError(f"{run.return_value} cannot be read: {error}") from error
    if not isinstance(found, dict) or "value" not in found:
        raise ReturnValueNotStoredError(
            found.get("not_kept") if isinstance(found, dict) else f"{run.return_value} is not as written"
        )
    return found["value"]


def _plain(value: Any) -> Any:
    """As JSON has it: tuples become lists. A number of NumPy, PyTorch or JAX is the number."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise ReturnValueNotStoredError("a mapping with keys that are no strings")
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if getattr(value, "ndim", None) == 0:
        return _plain(unwrap(value))
    raise ReturnValueNotStoredError(f"a {type(value).__qualname__} is no plain value")

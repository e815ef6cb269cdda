"""Names under which logs count their steps. Pure."""

from __future__ import annotations

from collections.abc import Iterable

# the finest first: where a log has several, that is the one to align it by
STEP_KEYS = (
    "global_step",
    "step",
    "total_timesteps",
    "timestep",
    "training_iteration",
    "iteration",
    "iter",
    "epoch",
)


def step_keys(keys: Iterable[str]) -> list[str]:
    """Give those of a log's keys that count its steps, the finest first.

    Whatever their case and the group before their name, as loggers write them: ``_step`` (wandb),
    ``trainer/global_step`` (Lightning), ``Epoch``.
    """
    found = [(_rank(key), position, key) for position, key in enumerate(keys)]
    return [key for rank, _, key in sorted(found) if rank < len(STEP_KEYS)]


def _rank(key: str) -> int:
    name = key.rpartition("/")[2].strip("_").lower()
    return STEP_KEYS.index(name) if name in STEP_KEYS else len(STEP_KEYS)

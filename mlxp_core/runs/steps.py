"""Names under which logs count their steps. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

# As users, Lightning, Keras, Stable-Baselines3, RLlib and wandb call them; the finest first: where a log has several,
# that is the one to align it by. Not any key that ends in _step or _epoch: Lightning's train_loss_step is a loss. A
# batch comes last, for its number begins again with each epoch
_STEP_KEYS = (
    "global_steps?",
    "steps?|(train|training|current|env|num|total)_steps?",
    "((total|num)_)?timesteps?",
    "training_iterations?",
    "iterations?|(num_)?iters?",
    "updates?|round|episodes?",
    "(current_)?epoch",
    "batch|batch_idx",
)


def step_keys(keys: Iterable[str]) -> list[str]:
    """Give those of a log's keys that count its steps, the finest first.

    Whatever their case and the group before their name, as loggers write them: ``_step`` (wandb),
    ``trainer/global_step`` (Lightning), ``Epoch``.
    """
    found = [(_rank(key), position, key) for position, key in enumerate(keys)]
    return [key for rank, _, key in sorted(found) if rank < len(_STEP_KEYS)]


@cache
def _rank(key: str) -> int:
    name = key.rpartition("/")[2].strip("_").lower()
    return next((rank for rank, names in enumerate(_STEP_KEYS) if re.fullmatch(names, name)), len(_STEP_KEYS))

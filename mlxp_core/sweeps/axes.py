"""Make the jobs of a sweep: axes multiplied, zipped, repeated, sampled. Pure: lists of overrides in and out."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlxp_core.errors import ConfigurationError

Overrides = list[str]


@dataclass(frozen=True)
class Axis:
    """A dimension of a sweep: the keys that it sets, and their overrides at each step."""

    keys: tuple[str, ...]
    steps: tuple[tuple[str, ...], ...]
    source: str = "on the command line (or in hydra.sweeper.params)"


def zip_axes(axes: Sequence[Axis], groups: Sequence[Sequence[str]]) -> list[Axis]:
    """Join the axes of these keys, so that their lists are walked side by side.

    Raises ConfigurationError for a key that is not swept, that is in two groups, or for lists of different lengths.
    """
    joined = list(axes)
    for group in groups:
        if len(set(group)) < len(group):
            raise ConfigurationError(f"hydra.sweeper.zip={list(group)} names a key twice: leave it out once")
        parts = [_find(joined, key) for key in group]
        lengths = {len(part.steps) for part in parts}
        if len(lengths) > 1:
            shown = ", ".join(f"{part.keys[0]} has {len(part.steps)}" for part in parts)
            raise ConfigurationError(f"hydra.sweeper.zip={list(group)} needs lists of the same length: {shown}")
        keys = tuple(key for part in parts for key in part.keys)
        steps = tuple(tuple(itertools.chain(*step)) for step in zip(*(part.steps for part in parts), strict=True))
        joined[joined.index(parts[0])] = Axis(keys, steps)
        for part in parts[1:]:
            joined.remove(part)
    return joined


def check_keys(axes: Sequence[Axis]) -> None:
    """Raise ConfigurationError for a key that is given in two places."""
    places: dict[str, str] = {}
    for axis in axes:
        for key in map(_bare, axis.keys):
            # of one place they are as the user wrote them: `+x=1 x=2,3` is for Hydra to apply
            if places.setdefault(key, axis.source) != axis.source:
                raise ConfigurationError(
                    f"{key} is given twice, {places[key]} and {axis.source}: leave it out in one place"
                )


def product(axes: Sequence[Axis]) -> list[Overrides]:
    """Every combination of the axes' steps, the last axis fastest."""
    return [list(itertools.chain(*steps)) for steps in itertools.product(*(axis.steps for axis in axes))]


def repeat_axes(repeat: Mapping[str, int]) -> list[Axis]:
    """Make an axis for each key, of numbers from 0: ``{seed: 3}`` is ``seed=0``, ``seed=1``, ``seed=2``."""
    for key, count in repeat.items():
        if count < 1:
            raise ConfigurationError(f"hydra.sweeper.repeat={{{key}: {count}}}: a job is run once at least")
    return [
        Axis((key,), tuple((f"{key}={number}",) for number in range(count)), "in hydra.sweeper.repeat")
        for key, count in repeat.items()
    ]


def sample(jobs: Sequence[Overrides], count: int, seed: int) -> list[Overrides]:
    """Draw ``count`` of the jobs at random, kept in their order; the same ones for the same seed and jobs."""
    if count < 1:
        raise ConfigurationError(f"hydra.sweeper.sample={count}: at least one job must be left")
    if count >= len(jobs):
        return list(jobs)
    return [jobs[index] for index in sorted(random.Random(seed).sample(range(len(jobs)), count))]  # noqa: S311


def _find(axes: Sequence[Axis], key: str) -> Axis:
    for axis in axes:
        if any(key in {axis_key, _bare(axis_key)} for axis_key in axis.keys):
            if len(axis.steps) > 1 and len(axis.keys) == 1:
                return axis
            problem = "is walked with others already" if len(axis.keys) > 1 else f"has one value, {axis.steps[0][0]}"
            raise ConfigurationError(f"hydra.sweeper.zip: {key} {problem}")
    swept = ", ".join(axis.keys[0] for axis in axes if len(axis.steps) > 1)
    raise ConfigurationError(f"hydra.sweeper.zip: {key} is not swept; there is {swept or 'nothing that is'}")


def _bare(key: str) -> str:
    return key.lstrip("+~")

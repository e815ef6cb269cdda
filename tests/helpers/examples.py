"""How many examples a property is tried with: all of them in CI, a fifth elsewhere, ten times as many in a hunt."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

_FACTOR = float(os.environ.get("MLXP_EXAMPLES") or (1 if os.environ.get("MLXP_THOROUGH") else 0.2))


def examples(count: int) -> settings:
    """Settings of a property that is worth this many examples in CI.

    They are the same in each run, so that whoever changes something else meets no failure of them; with more than those
    of CI (``MLXP_EXAMPLES=10``) they are new each time.
    """
    return settings(
        max_examples=max(10, round(count * _FACTOR)),
        derandomize=_FACTOR <= 1,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )

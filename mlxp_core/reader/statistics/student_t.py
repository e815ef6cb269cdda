"""Quantiles of Student's t distribution. Pure.

Source: Abramowitz and Stegun, Handbook of Mathematical Functions (1964), 26.7.3 and 26.7.4: for a whole number of
degrees of freedom the distribution function is a finite sum of sines and cosines, exact for each of them.
"""

from __future__ import annotations

import math
from functools import lru_cache


def probability_within(angle: float, freedom: int) -> float:
    """Give the probability that ``|t|`` is at most ``sqrt(freedom) * tan(angle)``."""
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term = cosine if odd else 1.0
    total = 0.0
    for power in range(odd + 2, freedom + 1, 2):  # the exponents of the cosine, two by two
        total += term
        term *= (power - 1) / power * cosine * cosine
    return 2 / math.pi * (angle + sine * total) if odd else sine * total


@lru_cache(maxsize=4096)
def two_sided(level: float, freedom: int) -> float:
    """Give the t that ``|t|`` stays below with probability ``level``, by bisection to the precision of a float."""
    low, high = 0.0, math.pi / 2
    while low < (middle := (low + high) / 2) < high:
        if probability_within(middle, freedom) < level:
            low = middle
        else:
            high = middle
    return math.sqrt(freedom) * math.tan(low)

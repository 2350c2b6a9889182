"""The few statistics that every table prints, in closed form."""

import math
from collections.abc import Sequence
from functools import cache
from statistics import NormalDist


def wilson(correct: float, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the Wilson score interval of a proportion (Wilson, JASA 1927), as fractions in [0, 1].

    `correct` may be fractional: the mean count of several seeds on the same `total` images.

    Raises:
        ValueError: `total` is not positive, or `correct` is not within [0, total].
    """
    if total <= 0 or not 0 <= correct <= total:
        raise ValueError(f"no interval for {correct} correct out of {total}")
    z = _quantile(confidence)
    share = correct / total
    centre = share + z * z / (2 * total)
    half = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    low = 0.0 if correct == 0 else max(0.0, (centre - half) / scale)
    high = 1.0 if correct == total else min(1.0, (centre + half) / scale)
    return low, high


def mean(values: Sequence[float]) -> float:
    """Return the mean of one or more numbers; exactly theirs where all are equal, and finite where they are."""
    first = values[0]
    return first + math.fsum((value - first) / len(values) for value in values)


def deviation(values: Sequence[float]) -> float | None:
    """Return the sample standard deviation (n - 1), or None for a single number."""
    if len(values) < 2:
        return None
    centre = mean(values)
    return math.hypot(*(value - centre for value in values)) / math.sqrt(len(values) - 1)


@cache
def _quantile(confidence: float) -> float:
    return NormalDist().inv_cdf((1 + confidence) / 2)

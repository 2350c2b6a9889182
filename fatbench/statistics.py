"""The few statistics that every table prints, in closed form: no table waits for scipy to be imported."""

import math
from collections.abc import Sequence
from functools import cache
from statistics import NormalDist

CONFIDENCE = 0.95


def wilson(correct: float, total: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
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


def student(values: Sequence[float], confidence: float = CONFIDENCE, least: float = 0.0) -> tuple[float, float]:
    """Return the t-interval of the mean of a normal population ("Student", Biometrika 1908), given a sample of it.

    No sample counts as spreading by less than `least`: values that were rounded may tie by chance.

    Raises:
        ValueError: fewer than two values, which say nothing about their spread.
    """
    spread = deviation(values)
    if spread is None:
        raise ValueError("one value has no t-interval")
    half = _t_quantile(confidence, len(values) - 1) * max(spread, least) / math.sqrt(len(values))
    centre = mean(values)
    return centre - half, centre + half


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


@cache
def _t_quantile(confidence: float, freedom: int) -> float:
    """The t with P(|T| < t) = confidence, by bisection of the angle arctan(t / sqrt(freedom))."""
    low, high = 0.0, math.pi / 2
    while low < (angle := (low + high) / 2) < high:
        low, high = (angle, high) if _t_within(angle, freedom) < confidence else (low, angle)
    return math.sqrt(freedom) * math.tan(low)


def _t_within(angle: float, freedom: int) -> float:
    """P(|T| < sqrt(freedom) tan(angle)): a finite sum (Abramowitz & Stegun, 26.7.3 and 26.7.4)."""
    square = math.cos(angle) ** 2
    odd = freedom % 2
    term = math.sin(angle) * (math.cos(angle) if odd else 1.0)
    terms = []
    for k in range(1 + odd, freedom, 2):
        terms.append(term)
        term *= square * k / (k + 1)
    total = math.fsum(terms)
    return 2 / math.pi * (angle + total) if odd else total

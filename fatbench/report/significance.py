"""Whether two accuracies on the same test images differ: exact for two models, and for two methods over their seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from fatbench.statistics import CONFIDENCE, deviation, mean, wilson

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RESAMPLES = 9_999
Test = Literal["mcnemar", "bootstrap and t"]


class Difference(NamedTuple):
    """How much more accurate the first is than the second, with its 95% interval (fractions), and p."""

    value: float
    low: float
    high: float
    p: float
    test: Test


class SeedSpread(NamedTuple):
    """How much accuracies differ between seeds of one row: the pooled standard deviation of several rows."""

    deviation: float
    freedom: int  # degrees of; at least 1


def seed_spread(rows: Sequence[Sequence[float]]) -> SeedSpread | None:
    """Return the spread of rows of accuracies, seed by seed; None where no row has two seeds."""
    several = [seeds for seeds in rows if len(seeds) > 1]
    freedom = sum(len(seeds) - 1 for seeds in several)
    if not freedom:
        return None
    squares = sum((len(seeds) - 1) * (deviation(seeds) or 0.0) ** 2 for seeds in several)
    return SeedSpread(math.sqrt(squares / freedom), freedom)


def difference(first: NDArray[np.bool_], second: NDArray[np.bool_], spread: SeedSpread | None) -> Difference:
    """Return the difference between (runs, n) outcomes on the same n > 0 images: whether each stood, seed by seed.

    One seed each: the exact McNemar test, which is about these two models, and the hull of Newcombe's interval and the
    exact one, so that interval and test agree.

    Else it is about the methods, and two questions must both be answered yes: would it hold on other test images (a
    bootstrap over images of the difference between means over seeds), and would it hold for other seeds (a t-test on
    their accuracies, with the `spread` between seeds that all rows of the table show). The p of "both" is the larger
    one (intersection-union test: Berger, Technometrics 1982); the interval is the hull of the two.
    """
    if len(first) == len(second) == 1 or spread is None:
        return _of_models(first[0], second[0])
    low, high, p = _over_images(first, second)
    ours, theirs = ([float(share) for share in one.mean(axis=1)] for one in (first, second))
    other_low, other_high, other_p = _over_seeds(ours, theirs, spread, least=1 / first.shape[1])
    bounds = max(-1.0, min(low, other_low)), min(1.0, max(high, other_high))
    return Difference(mean(ours) - mean(theirs), *bounds, max(p, other_p), "bootstrap and t")


def mcnemar(first_only: int, second_only: int) -> float:
    """Return the two-sided exact p (McNemar, Psychometrika 1947) of so many images that only one of two got right."""
    discordant, fewer = first_only + second_only, min(first_only, second_only)
    ways = total = 1
    for k in range(fewer):
        ways = ways * (discordant - k) // (k + 1)
        total += ways
    return min(1.0, 2 * total / (1 << discordant))


def newcombe(both: int, first_only: int, second_only: int, neither: int) -> tuple[float, float]:
    """Return the 95% interval of a difference of paired proportions (Newcombe, Stat. Med. 1998, his method 10)."""
    n = both + first_only + second_only + neither
    p1, p2 = (both + first_only) / n, (both + second_only) / n
    (low1, high1), (low2, high2) = wilson(both + first_only, n), wilson(both + second_only, n)
    agreement = both * neither - first_only * second_only
    corrected = max(agreement - n / 2, 0.0) if agreement > 0 else float(agreement)
    margins = (both + first_only) * (both + second_only) * (neither + first_only) * (neither + second_only)
    phi = corrected / math.sqrt(margins) if margins else 0.0

    def apart(one: float, other: float) -> float:
        return math.sqrt(max(0.0, one * one - 2 * phi * one * other + other * other))

    return p1 - p2 - apart(p1 - low1, high2 - p2), p1 - p2 + apart(high1 - p1, p2 - low2)


def exact_interval(first_only: int, second_only: int, n: int) -> tuple[float, float]:
    """Return the 95% interval that leaves out 0 exactly where McNemar's p is below 5%.

    It is that of Clopper & Pearson (Biometrika 1934) for the first one's share of the images that only one got right,
    given how many these are; beside Newcombe's, which is closer but may contradict the exact test.
    """
    from scipy.special import betaincinv

    tail = (1 - CONFIDENCE) / 2
    low = float(betaincinv(first_only, second_only + 1, tail)) if first_only else 0.0
    high = float(betaincinv(first_only + 1, second_only, 1 - tail)) if second_only else 1.0
    discordant = (first_only + second_only) / n
    return discordant * (2 * low - 1), discordant * (2 * high - 1)


def holm(ps: Sequence[float]) -> list[float]:
    """Return each p adjusted for there being several (Holm, Scand. J. Statist. 1979)."""
    adjusted, largest = [0.0] * len(ps), 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=lambda k: ps[k])):
        largest = max(largest, min(1.0, (len(ps) - rank) * ps[index]))
        adjusted[index] = largest
    return adjusted


def _of_models(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> Difference:
    both, first_only, second_only = (int(one.sum()) for one in (first & second, first & ~second, second & ~first))
    neither = len(first) - both - first_only - second_only
    found = (first_only - second_only) / len(first)
    low, high = newcombe(both, first_only, second_only, neither)
    exact_low, exact_high = (
        exact_interval(first_only, second_only, len(first)) if first_only + second_only else (low, high)
    )
    return Difference(found, min(low, exact_low), max(high, exact_high), mcnemar(first_only, second_only), "mcnemar")


def _over_images(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> tuple[float, float, float]:
    """The percentile interval and p of a bootstrap over images (Efron & Tibshirani 1993).

    Few values are possible for an image, so how often a resample holds each of them is drawn instead of its n images:
    the same distribution as scipy.stats.bootstrap's, for less work. p is no less than the best that a sign-flip test
    could do on as many images that differ: a handful of them proves nothing, though no resample may disagree.
    """
    import numpy as np

    scale = len(first) * len(second)
    differences = first.sum(axis=0) * len(second) - second.sum(axis=0) * len(first)  # integers: times `scale`
    values, counts = np.unique(differences, return_counts=True)
    n = len(differences)
    totals = np.random.default_rng(0).multinomial(n, counts / n, size=RESAMPLES) @ values
    low, high = (
        float(bound) for bound in np.quantile(totals / (n * scale), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    )
    against = min(int((totals <= 0).sum()), int((totals >= 0).sum()))
    least = 2.0 ** (1 - min(int((differences != 0).sum()), 1000))
    return low, high, min(1.0, max(2 * (against + 1) / (RESAMPLES + 1), least))


def _over_seeds(
    first: Sequence[float], second: Sequence[float], spread: SeedSpread, least: float
) -> tuple[float, float, float]:
    """The interval and p of a t-test on the accuracies of seeds.

    Three seeds know little of their own spread, so it is taken from all rows of the table, as in an analysis of
    variance, or from the row's own seeds where they spread more. It is no less than `least`, one image: accuracies are
    whole images, so seeds may tie, and a spread of 0 would prove any difference.
    """
    from scipy.special import stdtr, stdtrit

    found = mean(first) - mean(second)
    spreads = [max(spread.deviation, deviation(seeds) or 0.0, least) for seeds in (first, second)]
    error = math.hypot(*(one / math.sqrt(len(seeds)) for one, seeds in zip(spreads, (first, second), strict=True)))
    half = float(stdtrit(spread.freedom, (1 + CONFIDENCE) / 2)) * error
    return found - half, found + half, float(2 * stdtr(spread.freedom, -abs(found) / error))

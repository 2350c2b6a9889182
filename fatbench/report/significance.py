"""Whether accuracies on the same test images differ: exact for two models; for two methods over images and seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING, Literal, NamedTuple

from fatbench.report.seed_variance import values, within
from fatbench.statistics import CONFIDENCE, wilson

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Test = Literal["mcnemar", "crossed random effects"]
_POWER = 0.8  # with which what is `needed` would find a difference as large as the one seen
_MOST = 1_000  # times the seeds or images: beyond it there is no difference to speak of


class Components(NamedTuple):
    """What the variance of a difference consists of; of `s` seeds a row and n images it is a/n + b/(n s) + c/s."""

    image: float  # a: how differently images fare under the two
    run: float  # b: how differently they fare with another seed, both rows together
    seed: float  # c: how much seeds differ on all images alike, both rows together


class Difference(NamedTuple):
    """How much more accurate the first is than the second, with its 95% interval (fractions), and p."""

    value: float
    low: float
    high: float
    p: float
    test: Test
    components: Components
    seeds: tuple[int, int]
    images: int


class Needed(NamedTuple):
    """What would tell two rows apart: so many seeds of each, or so many images; None where these alone would not."""

    seeds: int | None
    images: int | None
    jointly: bool = False  # seeds and images


def difference(
    first: NDArray[np.bool_],
    second: NDArray[np.bool_],
    variances: tuple[NDArray[np.float64], NDArray[np.float64]] | None,
) -> Difference:
    """Return the difference between (runs, n) outcomes on the same n > 0 images: whether each stood, seed by seed.

    One seed each: the exact McNemar test, which is about these two models, and the hull of Newcombe's interval and the
    exact one, so that interval and test agree.

    Else it is about the methods: images and seeds are both drawn from more of their kind (crossed random effects). The
    variance over images, after two more of which each side alone gets one right (Bonett & Price, J. Educ. Behav. Stat.
    2012), holds what seeds make of single images. What seeds make of all images alike comes on top. It is known badly,
    so p is the mean over what it may be, and the interval holds the differences whose p is at least 5%.

    Args:
        variances: between seeds of each side, as `seed_variance.moderated` returns them; None where no row has two.
    """
    if len(first) == len(second) == 1 or variances is None:
        return _of_models(first[0], second[0])
    n, sizes = first.shape[1], (len(first), len(second))
    total, over_images = _over_images(first, second)
    centre = total / (n + 2)
    (ours, theirs), (few, others) = variances, sizes
    squares = (over_images + values()[:, None] / few + values() / others).ravel()
    weights = (ours[:, None] * theirs).ravel()
    half = _half_width(squares, weights)
    runs = [within(side) for side in (first, second)]
    per_image = n * over_images - sum(run / size for run, size in zip(runs, sizes, strict=True))
    components = Components(max(0.0, per_image), sum(runs), float((ours + theirs) @ values()))
    low, high = max(-1.0, centre - half), min(1.0, centre + half)
    p = _two_sided(abs(centre), squares, weights)
    return Difference(total / n, low, high, p, "crossed random effects", components, sizes, n)


def least_p(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Return what p of `difference` is at least, over several seeds: that of images alone, if seeds were alike."""
    total, over_images = _over_images(first, second)
    return 2 * NormalDist().cdf(-abs(total) / (first.shape[1] + 2) / math.sqrt(over_images))


def needed(found: Difference, level: float) -> Needed | None:
    """Return what would tell the two apart at this `level`, with a power of 80%, if the difference is as large as seen.

    None where it is told already, or so small that nothing would.
    """
    normal = NormalDist()
    seen = -normal.inv_cdf(found.p / 2) if found.p else math.inf
    wanted = normal.inv_cdf(_POWER) - normal.inv_cdf(level / 2)
    if found.p < level or wanted**2 > _MOST * seen**2:
        return None
    times = (wanted / seen) ** 2
    a, b, c = found.components
    n, size = found.images, 2 / sum(1 / seeds for seeds in found.seeds)  # both rows' seeds: the harmonic mean
    goal = (a / n + b / (n * size) + c / size) / times
    seeds = (b / n + c) / (goal - a / n) if goal > a / n else math.inf
    images = (a + b / size) / (goal - c / size) if goal > c / size else math.inf
    if found.test == "mcnemar":
        return Needed(None, math.ceil(images))
    if min(seeds, images) == math.inf:
        return Needed(math.ceil(times * size), math.ceil(times * n), jointly=True)
    return Needed(_count(seeds), _count(images))


def _count(number: float) -> int | None:
    return math.ceil(number) if number < math.inf else None


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
    n = len(first)
    neither = n - both - first_only - second_only
    value = (first_only - second_only) / n
    low, high = newcombe(both, first_only, second_only, neither)
    exact_low, exact_high = exact_interval(first_only, second_only, n) if first_only + second_only else (low, high)
    p = mcnemar(first_only, second_only)
    components = Components((first_only + second_only) / n - value**2, 0.0, 0.0)
    return Difference(value, min(low, exact_low), max(high, exact_high), p, "mcnemar", components, (1, 1), n)


def _over_images(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> tuple[float, float]:
    """The sum over images of the difference, and the variance of its mean: with two more images, one for each side."""
    n = first.shape[1]
    each = first.mean(axis=0) - second.mean(axis=0)
    total = float(each.sum())
    return total, ((float(each @ each) + 2) / (n + 2) - (total / (n + 2)) ** 2) / (n + 2)


def _two_sided(distance: float, squares: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """How likely a difference of 0 is to be seen as `distance` or more, either way."""
    import numpy as np
    from scipy.special import ndtr

    return min(1.0, 2 * float(weights @ ndtr(-distance / np.sqrt(squares))))


def _half_width(squares: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """The distance whose p is 5%, by bisection; no difference of accuracies is more than 2."""
    low, high = 0.0, 2.0
    while low < (middle := (low + high) / 2) < high and high - low > 1e-7:
        low, high = (low, middle) if _two_sided(middle, squares, weights) < 1 - CONFIDENCE else (middle, high)
    return high

"""How much accuracy varies between seeds of one row: three seeds say little, so the table's other rows help."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_LEAST, _MOST, _VALUES = 0.001, 0.5, 28  # standard deviations between seeds that are thought possible, and how many
_ITERATIONS = 5  # of EM; more would make a few atoms of the prior
_ANYTHING = 16.0  # over the square of the number of rows: what the flat prior weighs beside them, in rows


class Observed(NamedTuple):
    """What the seeds of one row show."""

    variance: float  # of their accuracies, sample variance; anything for one seed
    freedom: int  # seeds - 1
    noise: float  # the part of the variance that is due to the number of images
    sound: bool = True  # whether it may speak for other rows


def observe(outcomes: NDArray[np.bool_], *, sound: bool = True) -> Observed:
    """Return what (seeds, n) outcomes show: whether each image stood, seed by seed."""
    seeds, n = outcomes.shape
    variance = float(outcomes.mean(axis=1).var(ddof=1)) if seeds > 1 else 0.0
    return Observed(variance, seeds - 1, within(outcomes) / max(1, n), sound)


def within(outcomes: NDArray[np.bool_]) -> float:
    """Return the variance of an image's outcome between seeds, the mean over images, of (seeds, n) outcomes.

    Over n it is the part of the variance of accuracies that more images would take away; 0 of a single seed.
    """
    seeds = len(outcomes)
    if seeds < 2:
        return 0.0
    shares = outcomes.mean(axis=0)
    return float((shares * (1 - shares)).mean()) * seeds / (seeds - 1)


def moderated(rows: Sequence[Observed]) -> list[NDArray[np.float64]] | None:
    """Return for each row how likely each of the `values` is as its variance; None where no row has two seeds.

    Empirical Bayes, as in limma's moderated variances (Smyth, Stat. Appl. Genet. Mol. Biol. 2004): what the other sound
    rows show is a row's prior, and its own seeds its likelihood. The prior has no shape of its own, since rows that
    hardly vary stand beside rows that vary much: it is a few steps of EM from a flat one (Laird & Louis, Comput. Stat.
    Data Anal. 1991). No row shapes it alone, and anything remains possible, the more so the fewer rows there are.
    """
    import numpy as np

    speaking = [row.sound and row.freedom > 0 for row in rows]
    if not any(speaking):
        speaking = [row.freedom > 0 for row in rows]
    if not any(speaking):
        return None
    likelihoods = np.stack([_likelihood(row) for row in rows])
    flat = np.full(_VALUES, 1 / _VALUES)
    anything = _ANYTHING / sum(speaking) ** 2 * flat
    prior = flat
    for _ in range(_ITERATIONS):
        shown = _normalised(likelihoods[speaking] * prior)
        prior = shown.sum(axis=0) + anything
    every = np.zeros_like(likelihoods)
    every[speaking] = shown
    return list(_normalised(likelihoods * (every.sum(axis=0) - every + anything)))


@cache
def values() -> NDArray[np.float64]:
    """Return the variances between seeds that are thought possible."""
    import numpy as np

    return np.geomspace(_LEAST, _MOST, _VALUES) ** 2


def _likelihood(row: Observed) -> NDArray[np.float64]:
    """Of each of the values: the sample variance is a scaled chi-square."""
    import numpy as np

    total = values() + row.noise
    logs = -row.freedom / 2 * (np.log(total) + row.variance / total)
    likelihood: NDArray[np.float64] = np.exp(logs - logs.max())
    return likelihood


def _normalised(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    normalised: NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True)
    return normalised

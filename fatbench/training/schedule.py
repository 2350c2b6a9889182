"""Learning-rate schedules: the fraction of the peak rate as a function of the budget's progress in [0, 1)."""

import math
from collections.abc import Sequence

from fatbench.config.spec import Schedule


def piecewise(progress: float, milestones: Sequence[float] = (0.5, 0.75)) -> float:
    """The peak at first, a tenth of it from the first milestone on, a hundredth from the second, and so on.

    Milestones are fractions of the budget; by default those of Rice et al. (2020).
    """
    return float(10.0 ** -sum(progress >= milestone for milestone in milestones))


def cyclic(progress: float, peak: float = 0.5) -> float:
    """A triangle: from 0 up to the peak and back (Wong et al., 2020: at half of the budget), momentum constant."""
    return 1.0 - abs(progress - peak) / (peak if progress < peak else 1.0 - peak)


def onecycle(progress: float, peak: float = 0.3) -> float:
    """A cosine from 1/25 up to the peak, another down to 1/250,000: torch's OneCycleLR, momentum constant."""
    first, last = 1 / 25, 1 / 250_000
    if progress < peak:
        return _cosine(first, 1.0, progress / peak)
    return _cosine(1.0, last, (progress - peak) / (1 - peak))


def cosine(progress: float) -> float:
    """Half a cosine from the peak to 0."""
    return _cosine(1.0, 0.0, progress)


def fraction_of_peak(
    schedule: Schedule, progress: float, milestones: Sequence[float] = (0.5, 0.75), peak: float | None = None
) -> float:
    """Return the fraction of the peak rate that `schedule` wants at `progress`.

    Args:
        schedule: which.
        progress: fraction of the budget spent.
        milestones: where piecewise drops.
        peak: where cyclic and onecycle have theirs; None: each where it usually has.
    """
    match schedule:
        case "piecewise":
            return piecewise(progress, milestones)
        case "cyclic":
            return cyclic(progress) if peak is None else cyclic(progress, peak)
        case "onecycle":
            return onecycle(progress) if peak is None else onecycle(progress, peak)
        case "cosine":
            return cosine(progress)
        case "constant":
            return 1.0


def _cosine(start: float, end: float, fraction: float) -> float:
    return end + (start - end) * (1.0 + math.cos(math.pi * fraction)) / 2.0

"""Learning-rate schedules: the fraction of the peak rate as a function of the budget's progress in [0, 1)."""

import math

from fatbench.spec import Schedule


def piecewise(progress: float) -> float:
    """The peak until half of the budget, a tenth until three quarters, a hundredth after (Rice et al., 2020)."""
    return 1.0 if progress < 0.5 else 0.1 if progress < 0.75 else 0.01


def cyclic(progress: float) -> float:
    """A triangle: from 0 up to the peak at half of the budget and back (Wong et al., 2020), momentum constant."""
    return 1.0 - abs(2.0 * progress - 1.0)


def onecycle(progress: float) -> float:
    """A cosine from 1/25 up to the peak at 30%, another down to 1/250,000: torch's OneCycleLR, momentum constant."""
    warm_up, first, last = 0.3, 1 / 25, 1 / 250_000
    if progress < warm_up:
        return _cosine(first, 1.0, progress / warm_up)
    return _cosine(1.0, last, (progress - warm_up) / (1 - warm_up))


def cosine(progress: float) -> float:
    """Half a cosine from the peak to 0."""
    return _cosine(1.0, 0.0, progress)


def constant(progress: float) -> float:
    """The peak throughout."""
    return 1.0


def fraction_of_peak(schedule: Schedule, progress: float) -> float:
    """Return the fraction of the peak rate that `schedule` wants at `progress`."""
    return _SCHEDULES[schedule](progress)


def _cosine(start: float, end: float, fraction: float) -> float:
    return end + (start - end) * (1.0 + math.cos(math.pi * fraction)) / 2.0


_SCHEDULES = {
    "piecewise": piecewise,
    "cyclic": cyclic,
    "onecycle": onecycle,
    "cosine": cosine,
    "constant": constant,
}

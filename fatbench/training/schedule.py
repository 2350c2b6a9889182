"""Budgets, and learning-rate schedules: the fraction of the peak rate as a function of the budget's progress."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from fatbench.config.spec import Schedule

_JUST_BELOW_ONE = 1.0 - 2.0**-24  # progress stays in [0, 1), in float32 too


@dataclass(frozen=True)
class Budget:
    """How long to train: optimiser steps, or seconds of training; one of the two is set."""

    steps: int | None = None
    seconds: float | None = None

    def progress(self, steps: int, seconds: float) -> float:
        """The fraction spent after `steps` optimiser steps and `seconds` of training, in [0, 1)."""
        spent = steps / self.steps if self.steps is not None else seconds / (self.seconds or 1.0)
        return min(spent, _JUST_BELOW_ONE)

    def spent(self, steps: int, seconds: float) -> bool:
        """Whether nothing is left."""
        return steps >= self.steps if self.steps is not None else seconds >= (self.seconds or 0.0)

    def leaves(self, more: int, steps: int) -> bool:
        """Whether `more` optimiser steps may follow `steps`; a budget of time is looked at between batches."""
        return self.steps is None or steps + more <= self.steps

    @property
    def kind(self) -> Literal["epochs", "time"]:
        """What bounds the run: "epochs" or "time"."""
        return "epochs" if self.steps is not None else "time"


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
    """Return the fraction of the peak rate that `schedule` wants at `progress`."""
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

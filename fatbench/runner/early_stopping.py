"""Early stopping: at a target accuracy, or on catastrophic overfitting. Both are seen by the probes of every epoch."""

from fractions import Fraction

from fatbench.config.parsing import parse_target
from fatbench.config.spec import RunSpec
from fatbench.record.parts import OVERFITTING, Event, Probe, TargetInfo

PROBES = ("clean", "fgsm", "pgd-10")  # on the validation images, every epoch, off the clock
_WEAK, _STRONG = "fgsm", "pgd-10"  # of every probe
_FALL = Fraction(15, 100)  # of the validation images, below the best so far
_WIDER = Fraction(10, 100)  # likewise: so much more must PGD have fallen than FGSM


class EarlyStopping:
    """A run's target, if it has one, and when it was reached."""

    def __init__(self, spec: RunSpec) -> None:
        self._target = None if spec.training.target is None else parse_target(spec.training.target)
        self._reached_at: float | None = None
        wanted = () if self._target is None else (self._target.evaluation,)
        self.probes = tuple(dict.fromkeys([*PROBES, *wanted, spec.training.select_on]))  # evaluations of each probe

    def reached(self, probe: Probe) -> bool:
        """Whether the run may end with this probe."""
        if self._target is None or probe.scores[self._target.evaluation].accuracy < self._target.accuracy:
            return False
        self._reached_at = probe.train_seconds
        return True

    @property
    def info(self) -> TargetInfo | None:
        """What the record says of it."""
        if self._target is None:
            return None
        return TargetInfo(
            target=str(self._target), reached=self._reached_at is not None, train_seconds=self._reached_at
        )


class OverfittingDetector:
    """Detects catastrophic overfitting in the probes of a run."""

    def __init__(self) -> None:
        self._best, self._weak_then = Fraction(0), Fraction(0)  # PGD's best accuracy so far, and FGSM's with it
        self.overfitted = False  # at the last probe
        self.events: list[Event] = []  # one for each time it began

    def update(self, probe: Probe) -> bool:
        """Whether it is overfitted: PGD has fallen by more than 15 points, and FGSM has not.

        FGSM is compared with what it was when PGD was best. Both waver where the rate is high, so PGD must also have
        fallen by 10 points more. Once overfitted, a model is until PGD is back within 15 points of its best.
        """
        weak, strong = (Fraction(probe.scores[name].correct, probe.scores[name].total) for name in (_WEAK, _STRONG))
        if strong >= self._best:
            self._best, self._weak_then = strong, weak
        fall, fall_of_weak = self._best - strong, self._weak_then - weak
        collapsed = fall > _FALL and fall_of_weak <= _FALL and fall - fall_of_weak > _WIDER
        before, self.overfitted = self.overfitted, fall > _FALL and (collapsed or self.overfitted)
        if self.overfitted and not before:
            self.events.append(_event(probe, self._best))
        return self.overfitted


def _event(probe: Probe, best: Fraction) -> Event:
    weak, strong = probe.scores[_WEAK], probe.scores[_STRONG]
    return Event(
        kind=OVERFITTING,
        step=probe.step,
        epoch=probe.epoch,
        train_seconds=probe.train_seconds,
        detail=f"pgd-10 fell from {float(best):.1%} to {strong.accuracy:.1%} of {strong.total} validation images, "
        f"fgsm stands at {weak.accuracy:.1%}",
    )

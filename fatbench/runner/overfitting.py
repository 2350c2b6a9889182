"""Catastrophic overfitting: a model learns to stand single-step attacks alone (Wong et al., ICLR 2020).

Within an epoch or so its accuracy under PGD collapses while that under FGSM does not, or rises. Methods that train on
single steps are prone to it, and peers average such runs into their tables unseen.
"""

from fractions import Fraction

from fatbench.record import Event, Probe

KIND = "catastrophic-overfitting"
_WEAK, _STRONG = "fgsm", "pgd-10"  # of every probe
_FALL = Fraction(15, 100)  # of the validation images, below the best so far


class Sentinel:
    """Hears every probe of a run, and tells when the model has overfitted."""

    def __init__(self) -> None:
        self._best = {_WEAK: Fraction(0), _STRONG: Fraction(0)}
        self.overfitted = False  # at the last probe
        self.events: list[Event] = []  # one for each time it began

    def look(self, probe: Probe) -> bool:
        """Whether it is overfitted: PGD has fallen by more than 15 points, and FGSM by less than a quarter of that."""
        accuracy = {name: Fraction(probe.scores[name].correct, probe.scores[name].total) for name in self._best}
        self._best = {name: max(best, accuracy[name]) for name, best in self._best.items()}
        fall = {name: best - accuracy[name] for name, best in self._best.items()}
        before, self.overfitted = self.overfitted, fall[_STRONG] > _FALL and 4 * fall[_WEAK] < fall[_STRONG]
        if self.overfitted and not before:
            self.events.append(_event(probe, self._best[_STRONG]))
        return self.overfitted


def _event(probe: Probe, best: Fraction) -> Event:
    weak, strong = probe.scores[_WEAK], probe.scores[_STRONG]
    return Event(
        kind=KIND,
        step=probe.step,
        epoch=probe.epoch,
        train_seconds=probe.train_seconds,
        detail=f"pgd-10 fell from {float(best):.1%} to {strong.accuracy:.1%} of {strong.total} validation images, "
        f"fgsm stands at {weak.accuracy:.1%}",
    )

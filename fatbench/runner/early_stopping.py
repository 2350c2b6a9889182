"""The validation accuracy that ends a run."""

from fatbench.config.parsing import parse_target
from fatbench.config.spec import RunSpec
from fatbench.record import Probe, TargetInfo

PROBES = ("clean", "fgsm", "pgd-10")  # on the validation images, every epoch, off the clock


class EarlyStopping:
    """A run's target, if it has one, and when it was reached."""

    def __init__(self, spec: RunSpec) -> None:
        self._target = None if spec.training.target is None else parse_target(spec.training.target)
        self._reached_at: float | None = None
        wanted = () if self._target is None else (self._target.evaluation,)
        self.probes = tuple(
            dict.fromkeys([*PROBES, *wanted, spec.training.select_on])
        )  # the evaluations of every probe

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

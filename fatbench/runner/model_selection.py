"""Model selection: which weights of a run are scored, the last, the best or the last healthy ones."""

from typing import Literal

from torch import Tensor, nn

from fatbench.config.spec import RunSpec
from fatbench.errors import UsageError
from fatbench.record.parts import Probe, Selection
from fatbench.training.state import check_alike

StateDict = dict[str, Tensor]


class ModelSelector:
    """Copies, in main memory, of the weights that a run's policy may go back to: the best, or the last healthy ones.

    Only validation images choose. Of equally good probes the later one counts, as its learning rate was lower.
    """

    def __init__(self, model: nn.Module, spec: RunSpec) -> None:
        self._model = model
        self._spec = spec
        self._kept: tuple[Probe, StateDict] | None = None
        self._last: Probe | None = None
        self._last_healthy = True

    def update(self, probe: Probe, *, overfitted: bool) -> None:
        """Take note of a probe, and of the weights if they may be wanted."""
        self._last, self._last_healthy = probe, not overfitted
        if self._spec.training.select == "best":
            wanted = self._kept is None or self._accuracy(probe) >= self._accuracy(self._kept[0])
        else:
            wanted = self._spec.training.on_overfitting == "restore" and not overfitted
        if wanted:
            self._kept = probe, weights_of(self._model)

    @property
    def kept(self) -> tuple[Probe, StateDict] | None:
        """The weights that may be gone back to, and the probe that saw them."""
        return self._kept

    def check(self, kept: StateDict) -> None:
        """Check that these could be weights of the model.

        Raises:
            UsageError: they could not.
        """
        try:
            check_alike(self._model.state_dict(), kept)
        except ValueError as error:
            raise UsageError(f"what it keeps are weights of another model ({error})") from None

    def resume_from(self, last: Probe | None, kept: tuple[Probe, StateDict] | None, *, overfitted: bool) -> None:
        """Go on from what an earlier process kept; its last probe saw an overfitted model or not."""
        self._last, self._kept, self._last_healthy = last, kept, not overfitted

    def choose(self) -> tuple[Selection, StateDict] | None:
        """Which weights are to be scored, and they; None for the last ones, which the model has."""
        if self._kept is None or self._last is None or self._kept[0].step == self._last.step:
            return None
        probe, weights = self._kept
        best = self._spec.training.select == "best"
        if not best and self._last_healthy:
            return None
        on = self._spec.training.select_on if best else None
        return _selection("best" if best else "restored", on, probe), weights

    def last(self) -> Selection | None:
        """What there is to say of the last weights, if they are scored."""
        if self._last is None:
            return None
        best = self._spec.training.select == "best"  # they turned out to be the best ones
        return _selection("best" if best else "last", self._spec.training.select_on if best else None, self._last)

    def _accuracy(self, probe: Probe) -> float:
        return probe.scores[self._spec.training.select_on].accuracy


def weights_of(model: nn.Module) -> StateDict:
    """A copy, in main memory, of the model's parameters and buffers by name."""
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in model.state_dict().items()}


def _selection(policy: Literal["last", "best", "restored"], on: str | None, probe: Probe) -> Selection:
    return Selection(policy=policy, on=on, epoch=probe.epoch, step=probe.step, train_seconds=probe.train_seconds)

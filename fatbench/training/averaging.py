"""Averages of the weights that training passes through, which generalise better than the last ones."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fatbench.config.spec import TrainSpec
from fatbench.data.loader import Loader
from fatbench.ops import evaluating


class WeightAverage:
    """An average of a model's parameters; buffers are never averaged, batch norm's statistics least of all.

    `ema`: exponential, taken after every optimiser step: average <- t average + (1 - t) parameters, where t grows as
    (1 + n) / (10 + n) over the steps n up to `ema`, so that the random weights of the beginning are soon forgotten.
    Batch norm's statistics are those of the model, in which training keeps them.
    `swa`: of equal weight, taken at the end of every epoch from the fraction `swa` of the budget on (Izmailov et al.,
    UAI 2018). Batch norm's statistics are measured anew on the training images, as those of no model fit the average.
    """

    def __init__(self, model: nn.Module, *, ema: float | None = None, swa: float | None = None) -> None:
        self._model, self._ema, self._swa = model, ema, swa
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._average = [parameter.detach().clone() for parameter in self._parameters]
        self._taken = torch.zeros((), device=self._average[0].device)

    def state(self) -> dict[str, Tensor]:
        """The tensors of which it consists, changed in place."""
        return {"taken": self._taken, **{str(index): one for index, one in enumerate(self._average)}}

    @torch.no_grad()
    def after_step(self) -> None:
        """Take the parameters of this step into an exponential average; nothing waits for the device."""
        if self._ema is not None:
            keep = ((1 + self._taken) / (10 + self._taken)).clamp(max=self._ema)
            self._taken.add_(1)
            self._approach(1 - keep)

    @torch.no_grad()
    def after_epoch(self, progress: float) -> None:
        """Take the parameters at the end of an epoch, at this fraction of the budget, into a stochastic average."""
        if self._swa is not None and progress >= self._swa:
            self._taken.add_(1)
            self._approach(1 / self._taken)

    @contextmanager
    def swapped_in(self, loader: Loader) -> Iterator[None]:
        """Let the model have the average inside, if there is one yet, and its own weights and statistics afterwards."""
        tensors = [*self._parameters, *self._model.buffers()]
        own = [tensor.detach().clone() for tensor in tensors]
        self.swap_in(loader)
        try:
            yield
        finally:
            _copy(own, tensors)

    def swap_in(self, loader: Loader) -> None:
        """Let the model have the average, if there is one yet."""
        if not self._taken.item():
            return
        _copy(self._average, self._parameters)
        if self._swa is not None:
            _measure_statistics(self._model, loader)

    def _approach(self, share: Tensor) -> None:
        """Move the average by `share` of the way to the parameters."""
        ways = torch._foreach_sub([parameter.detach() for parameter in self._parameters], self._average)
        torch._foreach_mul_(ways, share.to(ways[0].dtype))
        torch._foreach_add_(self._average, ways)


def make_average(model: nn.Module, train: TrainSpec) -> WeightAverage | None:
    """Return the average that the spec asks for, or None."""
    if train.ema is None and train.swa is None:
        return None
    return WeightAverage(model, ema=train.ema, swa=train.swa)


@torch.no_grad()
def _measure_statistics(model: nn.Module, loader: Loader) -> None:
    """Set batch norm's running statistics to the mean over one pass through the training images, as they are drawn."""
    norms = [one for one in model.modules() if isinstance(one, _BatchNorm) and one.track_running_stats and one.training]
    momenta = [norm.momentum for norm in norms]
    with evaluating(model):  # no dropout, which would draw random numbers
        for norm in norms:
            norm.train()
            norm.reset_running_stats()
            norm.momentum = None  # a plain mean
        for index in range(len(loader) if norms else 0):
            model(loader.batch(index).x)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


@torch.no_grad()
def _copy(sources: Sequence[Tensor], targets: Sequence[Tensor]) -> None:
    for source, target in zip(sources, targets, strict=True):
        target.copy_(source)

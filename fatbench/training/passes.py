"""Counting what a method really costs: samples sent forward, back to the input, and back to the weights."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fatbench.errors import InvalidRunError
from fatbench.interface import Batch, Context
from fatbench.methods import Method
from fatbench.record.parts import Passes


@dataclass(frozen=True)
class BatchCost:
    """The cost of one batch under a method."""

    passes: Passes  # samples
    updates: int  # optimiser steps that the batch is worth

    def times(self, updates: int) -> Passes:
        """The cost of `updates` optimiser steps."""
        share = updates / self.updates
        return Passes(**{name: round(samples * share) for name, samples in self.passes.model_dump().items()})


class PassCounter(nn.Module):
    """A model that counts. It answers as the wrapped one does, bit for bit.

    One parameter is led through a tap whose backward runs only when weight gradients are asked for, and the logits
    through another: so an attack that lets autograd prune the weight gradients is not charged for them. To go back
    through a backward pass to the inputs is to go forward again, through the same layers linearised, and to compute a
    weight gradient in each.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.forward_samples = self.input_backward_samples = self.weight_backward_samples = 0
        tapped = next(name for name, parameter in model.named_parameters() if parameter.requires_grad)
        path, _, self._name = tapped.rpartition(".")
        self._owner = model.get_submodule(path)

    def forward(self, x: Tensor) -> Tensor:
        """(B, K) logits of the wrapped model."""
        samples = len(x)
        self.forward_samples += samples

        def weight_backward() -> None:
            self.weight_backward_samples += samples

        def input_backward() -> None:
            self.input_backward_samples += samples

        def backward_again() -> None:
            self.forward_samples += samples
            self.weight_backward_samples += samples

        parameters: dict[str, Any] = self._owner._parameters
        parameter = parameters[self._name]
        parameters[self._name] = _tap(parameter, weight_backward)
        try:
            logits = self.model(x)
        finally:
            parameters[self._name] = parameter
        return _tap(logits, input_backward, backward_again)

    @property
    def passes(self) -> Passes:
        """What has been counted so far."""
        return Passes(
            forward=self.forward_samples,
            input_backward=self.input_backward_samples,
            weight_backward=self.weight_backward_samples,
        )


def count_passes(model: nn.Module, method: Method, batch: Batch, ctx: Context) -> BatchCost:
    """Return the cost of one batch, measured by running it without optimiser steps.

    The model's buffers and gradients are as before afterwards; `ctx` should be a throw-away, and random generators are
    the caller's to protect. It doubles as the warm-up of kernels and allocator.
    """
    counter = PassCounter(model)
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    updates = 0
    for loss in method(counter, batch, ctx):
        if not isinstance(loss, Tensor) or loss.ndim or not loss.requires_grad:
            what = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"type {type(loss).__name__}"
            raise InvalidRunError(f"{method.name} yields a loss of {what}, not a scalar tensor with a graph")
        loss.backward()  # type: ignore[no-untyped-call]
        updates += 1
    if not updates:
        raise InvalidRunError(f"{method.name} yields no loss: nothing would be trained")
    for name, buffer in model.named_buffers():
        buffer.copy_(buffers[name])
    for parameter in model.parameters():
        parameter.grad = None
    return BatchCost(counter.passes, updates)


class _Tap(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, notify: Callable[[], None], again: Callable[[], None] | None) -> Tensor:
        ctx.notify, ctx.again = notify, again
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        ctx.notify()
        (gradient,) = gradients
        if ctx.again is not None and gradient.requires_grad:  # this pass is recorded, to be differentiated itself
            gradient = _tap(gradient, ctx.again)
        return gradient, None, None


def _tap(tensor: Tensor, notify: Callable[[], None], again: Callable[[], None] | None = None) -> Tensor:
    """Return `tensor` with a backward that calls `notify`, once for each time that a gradient flows through it.

    `again` is called when a gradient flows back through that backward.
    """
    tapped: Tensor = _Tap.apply(tensor, notify, again)
    return tapped

"""Counting what a method really costs: samples sent forward, back to the input, and back to the weights."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
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

    Parameters are led through taps whose backward runs only when weight gradients are asked for, and the logits through
    another: so an attack that lets autograd prune the weight gradients is not charged for them. All parameters, as the
    logits need not depend on each (auxiliary heads); the one that is reached most often tells. To go back
    through a backward pass to the inputs is to go forward again, through the same layers linearised, and to compute a
    weight gradient in each.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.forward_samples = self.input_backward_samples = 0
        self._weights_again = 0
        self._reached: list[tuple[int, Counter[str]]] = []  # of each forward: its samples, and how often a weight was

    def forward(self, x: Tensor) -> Tensor:
        """(B, K) logits of the wrapped model."""
        samples, reached = len(x), Counter[str]()
        self.forward_samples += samples
        self._reached.append((samples, reached))

        def input_backward() -> None:
            self.input_backward_samples += samples

        def backward_again() -> None:
            self.forward_samples += samples
            self._weights_again += samples

        with self._tapped(reached):
            logits = self.model(x)
        return _tap(logits, input_backward, backward_again)

    @contextmanager
    def _tapped(self, reached: Counter[str]) -> Iterator[None]:
        """Count how often a backward reaches each of the weights that are read inside."""
        own = [(module._parameters, path, dict(module._parameters)) for path, module in self.model.named_modules()]
        try:
            for parameters, path, kept in own:
                for name, parameter in kept.items():
                    if parameter is not None and parameter.requires_grad:
                        tap: Any = _tap(parameter, partial(reached.update, [f"{path}.{name}"]))
                        parameters[name] = tap
            yield
        finally:
            for parameters, _, kept in own:
                parameters.update(kept)

    @property
    def weight_backward_samples(self) -> int:
        """Samples sent back to the weights so far."""
        first = sum(samples * max(reached.values(), default=0) for samples, reached in self._reached)
        return first + self._weights_again

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

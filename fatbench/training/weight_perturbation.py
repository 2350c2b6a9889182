"""AWP: a method's every loss taken where the weights, too, are moved against it (Wu, Xia & Wang, NeurIPS 2020)."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fatbench.errors import UsageError
from fatbench.interface import Batch, Context, Losses
from fatbench.methods import Method
from fatbench.ops import AttackReplay, in_input_gradient, replaying_attacks, weights_constant
from fatbench.rng import rng_state, set_rng_state

_WHY_NOT_CAPTURABLE = "--awp takes each loss twice, with the random numbers of the first time"


def perturbed(method: Method, gamma: float) -> Method:
    """Return `method` with every loss taken at weights perturbed by `gamma` of their length, layer by layer.

    The attack is made once, at the weights as they are. The direction is that of the gradient there of the loss that
    trains; the loss is then taken again where the weights have moved, its gradient is stepped on, and the perturbation
    taken back. Only the second loss counts in batch norm's running statistics, so an attack in eval mode that comes
    after a forward of the loss (gat, nuat) sees those of before it. Biases and batch norm's own parameters stay put.
    Costs the forwards and the backward of the loss once more, the attack's not.

    Raises:
        UsageError: on use, if the method makes several updates of a batch: their attack is not apart from their losses.
    """

    def losses(model: nn.Module, batch: Batch, ctx: Context, **hyper: Any) -> Losses:
        device = batch.x.device
        replay = AttackReplay(lambda: rng_state(device), lambda state: set_rng_state(state, device))
        moved = _moved(_directions(_rehearsal(method, model, batch, ctx, replay), model), gamma)
        replay.replay()
        again = method(_Replayed(model, replay), batch, ctx)
        try:
            with replaying_attacks(replay):
                loss = next(again)
            yield loss
        finally:  # the trainer may end here, between the last step of its budget and what follows it
            with torch.no_grad():
                for weight, offset in moved:
                    weight.sub_(offset)
        if next(again, None) is not None:
            raise UsageError(f"--awp goes with methods that take one step per batch; {method.name} takes several")

    constants = {**method.description.constants, "NOT_CAPTURABLE": _WHY_NOT_CAPTURABLE}
    return replace(method, description=replace(method.description, constants=constants), function=losses)


def _rehearsal(method: Method, model: nn.Module, batch: Batch, ctx: Context, replay: AttackReplay) -> Tensor:
    """Return the loss at the weights as they are, the attack's input gradients recorded on `replay`."""
    with replaying_attacks(replay):
        return next(method(_Replayed(model, replay), batch, ctx))


def _directions(loss: Tensor, model: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """Return each weight that is perturbed, and the loss's gradient there."""
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad and parameter.ndim > 1]
    return list(zip(weights, torch.autograd.grad(loss, weights, materialize_grads=True), strict=True))


@torch.no_grad()
def _moved(directions: list[tuple[Tensor, Tensor]], gamma: float) -> list[tuple[Tensor, Tensor]]:
    """Move each weight by `gamma` of its length along its direction, and return by what it was moved."""
    moved = []
    for weight, direction in directions:
        length = direction.norm().clamp_min(torch.finfo(direction.dtype).tiny)  # no gradient, no direction
        offset = gamma * weight.norm() / length * direction
        weight.add_(offset)
        moved.append((weight, offset))
    return moved


class _Replayed(nn.Module):
    """The model, asked the first time what its answers to an attack are, which stand the second time.

    An attack is what runs where nobody wants gradients of weights. The first time, the rest leaves batch norm's running
    statistics alone.
    """

    def __init__(self, model: nn.Module, replay: AttackReplay) -> None:
        super().__init__()
        self.model, self._replay = model, replay
        self.training = model.training

    def forward(self, x: Tensor) -> Tensor:
        """(B, K) logits of the model."""
        if weights_constant() and not in_input_gradient() and self._replay.replaying:
            found: Tensor = self._replay.next()
            return found
        first_loss = not weights_constant() and not self._replay.replaying
        with _without_statistics(self.model) if first_loss else nullcontext():
            logits: Tensor = self.model(x)
        if weights_constant() and not in_input_gradient():
            self._replay.record(logits)
        return logits


@contextmanager
def _without_statistics(model: nn.Module) -> Iterator[None]:
    """Let batch norm in train mode normalise by the batch and remember nothing of it."""
    norms = [one for one in model.modules() if isinstance(one, _BatchNorm) and one.training and one.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True

"""What a loss wants the model to say, read off the loss itself."""

import torch
from torch import Tensor, nn

from fatbench.interface import Batch, Context
from fatbench.methods import Method


def linear_net(classes: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(36, classes)).double()


def target_of(method: Method, model: nn.Module, batch: Batch, ctx: Context) -> Tensor:
    """Return the probabilities (B, K) from which the first loss, a cross-entropy of the last logits, is counted.

    The gradient of a mean cross-entropy at the logits is (softmax - target) / B.
    """
    seen: list[Tensor] = []
    handle = model.register_forward_hook(lambda _module, _inputs, logits: seen.append(logits))
    loss = next(method(model, batch, ctx))
    handle.remove()
    (gradient,) = torch.autograd.grad(loss, seen[-1])
    return seen[-1].softmax(1).detach() - len(batch.y) * gradient

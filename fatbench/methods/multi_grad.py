import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fatbench.interface import Batch, Context, Losses
from fatbench.ops import input_gradient

# The attack runs in train mode.
PASSES = {"forward": "starts + 1", "inputs": "starts + 1", "weights": 1, "batch_norm": "starts + 1"}


def multi_grad(model: nn.Module, batch: Batch, ctx: Context, *, starts: int = 3, alpha: float = 2.0) -> Losses:
    """MultiGrad: step only where several random starts agree on the direction (Golgooni et al., arXiv 2103.15476).

    A pixel whose gradient changes sign within the ball says nothing about where the loss grows; it is left as it is.
    The step begins at the image itself, so every pixel moves by alpha eps (at most eps), or not at all.

    Args:
        starts: random starts whose gradients are compared.
        alpha: step size, in units of eps, before projection: all from 1 on are the same.

    Differences: the authors' flag for all starts in one forward, whose batch norm sees them together, is off in their
        commands and does not exist here. They compute weight gradients in the attack and discard them.
    """
    x, y, _ = batch

    def loss(z: Tensor) -> Tensor:
        return F.cross_entropy(model(z), y, reduction="sum")

    votes = torch.zeros_like(x)
    for _ in range(starts):
        start = ctx.ball.project(x + ctx.ball.sample(x), x)
        votes += input_gradient(loss, start).sign()
    agreed = votes.masked_fill(votes.abs() < starts, 0.0)
    x_adv = ctx.ball.step(x, agreed, alpha, x)
    yield F.cross_entropy(model(x_adv), y, label_smoothing=ctx.smoothing)

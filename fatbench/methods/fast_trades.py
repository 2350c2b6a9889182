import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fatbench.interface import Batch, Context, Losses
from fatbench.ops import evaluating, input_gradient, kl

NORMS = ("linf", "l2")
LEAVES_BOX = "the start x + noise is not clamped, as in the authors' code"
# Batch norm is updated by: clean, adversarial.
PASSES = {"forward": "steps + 3", "inputs": "steps + 2", "weights": 2, "batch_norm": 2}


def fast_trades(
    model: nn.Module, batch: Batch, ctx: Context, *, steps: int = 1, alpha: float = 1.0, beta: float = 6.0
) -> Losses:
    """Fast TRADES: TRADES with one or two full steps from a random start (Chen et al., AAAI 2022).

    The baseline of the backward-smoothing paper: what random initialisation alone buys TRADES.

    Args:
        steps: gradient steps of the attack; the paper studies 1 and 2.
        alpha: step size, in units of eps, whatever the number of steps (the authors' argparse default).
        beta: weight of the divergence.

    Differences: the forward that the authors' script adds after the attack for its log is left out. L2 is our
        extension: noise of uniform direction and length, and steps along the gradient's direction.
    """
    x, y, _ = batch
    x_adv = x + ctx.ball.sample(x)
    with evaluating(model):
        with torch.no_grad():
            target = model(x)

        def divergence(z: Tensor) -> Tensor:
            return kl(target, model(z)).sum()

        for _ in range(steps):
            x_adv = ctx.ball.step(x_adv, input_gradient(divergence, x_adv), alpha, x)

    logits = model(x)
    yield F.cross_entropy(logits, y, label_smoothing=ctx.smoothing) + beta * kl(logits, model(x_adv)).mean()

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fatbench.interface import Batch, Context, Losses
from fatbench.ops import evaluating, input_gradient, kl

NORMS = ("linf", "l2")
LEAVES_BOX = "the start x + noise is not clamped, as in the authors' code"
# Batch norm is updated by: clean, adversarial.
PASSES = {"forward": "steps + 3", "inputs": "steps + 2", "weights": 2, "batch_norm": 2}


def trades(
    model: nn.Module,
    batch: Batch,
    ctx: Context,
    *,
    steps: int = 10,
    alpha: float = 0.2258,
    beta: float = 6.0,
    noise: float = 0.0323,
) -> Losses:
    """TRADES: trade clean accuracy against a KL ball around each image (Zhang et al., ICML 2019).

    The attack maximises the divergence from the clean output; the loss pays for clean accuracy and divergence apart.

    Args:
        steps: gradient steps of the attack.
        alpha: step size, in units of eps (0.007 at eps 0.031).
        beta: weight of the divergence.
        noise: standard deviation of the Gaussian start, in units of eps (0.001 at eps 0.031).

    Differences: the authors recompute the clean output in every attack step, with the same result, and run a second
        clean train-mode forward in the loss, whose only effect is a third batch-norm update; both are left out. Under
        L2 the authors take SGD steps of 2 / steps on the normalised gradient; here it is `alpha`, in the same
        unit, and the start's deviation is `noise` eps per pixel (noise=0.002 is their 0.001 at eps 0.5).
    """
    x, y, _ = batch
    with evaluating(model):
        with torch.no_grad():
            clean = model(x)

        def divergence(z: Tensor) -> Tensor:
            return kl(clean, model(z)).sum()

        x_adv = x + noise * ctx.ball.eps * torch.randn_like(x)
        for _ in range(steps):
            x_adv = ctx.ball.step(x_adv, input_gradient(divergence, x_adv), alpha, x)

    logits = model(x)
    yield F.cross_entropy(logits, y, label_smoothing=ctx.smoothing) + beta * kl(logits, model(x_adv)).mean()

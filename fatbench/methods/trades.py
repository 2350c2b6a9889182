import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fatbench.interface import Batch, Context, Losses
from fatbench.ops import evaluating, input_gradient, kl, repeating_statistics

NORMS = ("linf", "l2")
LEAVES_BOX = "the start x + noise is not clamped, as in the authors' code"
# Batch norm is updated by: clean, adversarial, and once more by clean if so set.
PASSES = {"forward": "steps + 3", "inputs": "steps + 2", "weights": 2, "batch_norm": "2 + clean_twice"}


def trades(
    model: nn.Module,
    batch: Batch,
    ctx: Context,
    *,
    steps: int = 10,
    alpha: float = 0.2258,
    beta: float = 6.0,
    noise: float = 0.0323,
    clean_twice: bool = False,
) -> Losses:
    """TRADES: trade clean accuracy against a KL ball around each image (Zhang et al., ICML 2019).

    The attack maximises the divergence from the clean output; the loss pays for clean accuracy and divergence apart.

    Args:
        steps: gradient steps of the attack.
        alpha: step size, in units of eps (0.007 at eps 0.031).
        beta: weight of the divergence.
        noise: standard deviation of the Gaussian start, in units of eps (0.001 at eps 0.031).
        clean_twice: whether batch norm's running statistics count the clean images once more, after the adversarial
            ones, as a second forward in the authors' loss makes them. The next attack and every evaluation see it.

    Differences: the authors recompute the clean output in every attack step, with the same result. The second clean
        train-mode forward in their loss, with the same output and gradients, is left out; what it does to batch norm is
        `clean_twice`, at no pass: off by default, on in their recipe. Under L2 the authors take SGD steps of 2 / steps
        on the normalised gradient; here it is `alpha`, in the same unit, and the start's deviation is `noise` eps per
        pixel (noise=0.002 is their 0.001 at eps 0.5).
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

    with repeating_statistics(model, clean_twice) as repeat:
        logits = model(x)
    divergences = kl(logits, model(x_adv))
    repeat()
    yield F.cross_entropy(logits, y, label_smoothing=ctx.smoothing) + beta * divergences.mean()

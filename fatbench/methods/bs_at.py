import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fatbench.interface import Batch, Context, Losses
from fatbench.ops import evaluating, input_gradient, kl

NORMS = ("linf", "l2")
PASSES = {"forward": "steps + 2", "inputs": "steps + 2", "weights": 1, "batch_norm": 1}  # batch norm: adversarial


def bs_at(
    model: nn.Module, batch: Batch, ctx: Context, *, steps: int = 1, alpha: float = 1.0, gamma: float = 1.0
) -> Losses:
    """BS-AT (fatbench's own): adversarial training from the start that backward smoothing finds (no paper has it).

    Chen et al. (AAAI 2022, arXiv 2010.01278) use this start for TRADES (bs-trades). Here plain adversarial training
    has it: what is the start worth without TRADES' loss?

    Args:
        steps: gradient steps of the attack proper, after the initialising one.
        alpha: step size of both, in units of eps.
        gamma: radius of the uniform noise on the logits.

    Differences: our own combination, so there is no authors' code. The initialising step and eval mode during the
        attack are those of bs-trades; attack and loss are cross-entropy, the loss on adversarial images only.
        L2 is our extension too: both steps follow the gradient's direction.
    """
    x, y, _ = batch

    def nearness_to_smoothed(z: Tensor) -> Tensor:
        logits = model(z)
        smoothed = logits.detach() + gamma * torch.empty_like(logits).uniform_(-1.0, 1.0)
        return -kl(smoothed, logits).sum()

    def loss(z: Tensor) -> Tensor:
        return F.cross_entropy(model(z), y, reduction="sum")

    with evaluating(model):
        x_adv = ctx.ball.step(x, input_gradient(nearness_to_smoothed, x), alpha, x)
        for _ in range(steps):
            x_adv = ctx.ball.step(x_adv, input_gradient(loss, x_adv), alpha, x)
    yield F.cross_entropy(model(x_adv), y, label_smoothing=ctx.smoothing)

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fatbench.interface import Batch, Context, Losses
from fatbench.ops import evaluating, input_gradient, input_gradient_with, kl

NORMS = ("linf", "l2")
# Batch norm is updated by: clean, adversarial.
PASSES = {"forward": "steps + 3", "inputs": "steps + 3", "weights": 2, "batch_norm": 2}


def bs_trades(
    model: nn.Module,
    batch: Batch,
    ctx: Context,
    *,
    steps: int = 1,
    alpha: float = 1.0,
    beta: float = 10.0,
    gamma: float = 1.0,
) -> Losses:
    """Backward smoothing: start the attack from a randomly smoothed output (Chen et al., AAAI 2022, arXiv 2010.01278).

    Instead of adding noise to the image, perturb the output at random, step towards an image that has this output, and
    attack from there: a random start that knows the model.

    Args:
        steps: gradient steps of the attack proper, after the initialising one.
        alpha: step size of both, in units of eps.
        beta: weight of the divergence (10 in the authors' README command; 6 is their argparse default).
        gamma: radius of the uniform noise on the logits.

    Differences: the authors run the clean forward and the forward of the initialising step apart; input and mode are
        the same, so here they are one. Noise is drawn on the device, theirs on the CPU. eps is the run's, theirs 0.031.
        L2 is our extension: both steps follow the gradient's direction.
    """
    x, y, _ = batch
    with evaluating(model):

        def nearness_to_smoothed(z: Tensor) -> tuple[Tensor, Tensor]:
            logits = model(z)
            smoothed = logits.detach() + gamma * torch.empty_like(logits).uniform_(-1.0, 1.0)
            return -kl(smoothed, logits).sum(), logits

        gradient, clean = input_gradient_with(nearness_to_smoothed, x)
        x_adv = ctx.ball.step(x, gradient, alpha, x)

        def divergence(z: Tensor) -> Tensor:
            return kl(clean, model(z)).sum()

        for _ in range(steps):
            x_adv = ctx.ball.step(x_adv, input_gradient(divergence, x_adv), alpha, x)

    logits = model(x)
    yield F.cross_entropy(logits, y, label_smoothing=ctx.smoothing) + beta * kl(logits, model(x_adv)).mean()

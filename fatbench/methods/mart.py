import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fatbench.interface import Batch, Context, Losses
from fatbench.ops import evaluating, input_gradient, kl

NORMS = ("linf", "l2")
LEAVES_BOX = "the start x + noise is not clamped, as in the authors' code"
# Batch norm is updated by: clean, adversarial.
PASSES = {"forward": "steps + 2", "inputs": "steps + 2", "weights": 2, "batch_norm": 2}


def mart(
    model: nn.Module,
    batch: Batch,
    ctx: Context,
    *,
    steps: int = 10,
    alpha: float = 0.2258,
    beta: float = 5.0,
    noise: float = 0.0323,
) -> Losses:
    """MART: ask for most agreement where the clean image is misclassified (Wang et al., ICLR 2020).

    Adversarial cross-entropy with a margin to the best wrong class, and a divergence between clean and adversarial
    output that weighs each image by the probability that the clean output leaves to the wrong classes.

    Args:
        steps: gradient steps of the attack.
        alpha: step size, in units of eps (0.007 at eps 0.031).
        beta: weight of the divergence (5 in the authors' script for ResNet-18; 6 in that for WRN-34-10).
        noise: standard deviation of the Gaussian start, in units of eps (0.001 at eps 0.031).

    Differences: logarithms of probabilities come from log_softmax, where the authors add 1e-12 to the probability
        first. Label smoothing, if any, is of the cross-entropy, not of the margin. L2 is our extension: the steps
        follow the gradient's direction, and the start's deviation is `noise` eps per pixel. The authors' learning rate
        (0.01) and weight decay (3.5e-3) for ResNet-18 are the run's to set.
    """
    x, y, _ = batch

    def loss(z: Tensor) -> Tensor:
        return F.cross_entropy(model(z), y, reduction="sum")

    x_adv = x + noise * ctx.ball.eps * torch.randn_like(x)
    with evaluating(model):
        for _ in range(steps):
            x_adv = ctx.ball.step(x_adv, input_gradient(loss, x_adv), alpha, x)

    clean, adversarial = model(x), model(x_adv)
    true = y.unsqueeze(1)
    best_wrong = adversarial.softmax(1).scatter(1, true, 0.0).max(1).values
    margin = -torch.log(1.0001 - best_wrong).mean()
    boosted = F.cross_entropy(adversarial, y, label_smoothing=ctx.smoothing) + margin
    uncertainty = 1.0000001 - clean.softmax(1).gather(1, true).squeeze(1)
    yield boosted + beta * (uncertainty * kl(clean, adversarial)).mean()

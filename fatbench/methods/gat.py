import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fatbench.interface import Batch, Context, Losses
from fatbench.ops import evaluating, input_gradient

PASSES = {"forward": 3, "inputs": 3, "weights": 2, "batch_norm": 2}  # batch norm: clean, adversarial


def gat(
    model: nn.Module,
    batch: Batch,
    ctx: Context,
    *,
    alpha: float = 1.0,
    noise: float = 0.5,
    weight: float = 10.0,
    growth: float = 4.0,
    late: float = 0.85,
) -> Losses:
    """GAT: an attack guided away from the clean output, and a loss that pulls back (Sriramanan et al., NeurIPS 2020).

    The squared distance between the clean and the perturbed softmax is added to the attack's objective, in every other
    batch, and to the loss.

    Args:
        alpha: step size, in units of eps.
        noise: how far each pixel starts from the image, up or down at random, in units of eps.
        weight: of the distance, in attack and loss.
        growth: factor of `weight` towards the end.
        late: share of the training after which it applies, in [0, 1].

    Differences: the authors run the clean train-mode forward twice, before and after the attack. The weights are the
        same then and batch norm uses the batch's own statistics, so output and gradients are too, and here it is one;
        what is lost is that their running statistics are moved by the clean images once more, after the adversarial
        ones. Odd and even batches are told apart by their number in the run; they count anew in every epoch. Their
        weight grows after epoch 85 of 100, counted from 0, thus one epoch later than here.
    """
    x, y, _ = batch
    weight_now = weight * (1.0 + (growth - 1.0) * (ctx.progress >= late))
    guided = ctx.step % 2
    logits = model(x)
    clean = logits.detach().softmax(1)

    def objective(z: Tensor) -> Tensor:
        z_logits = model(z)
        distance: Tensor = guided * (clean - z_logits.softmax(1)).square().sum()
        return F.cross_entropy(z_logits, y, reduction="sum") + weight_now * distance

    start = ctx.ball.project(x + noise * ctx.ball.eps * (0.5 - torch.rand_like(x)).sign(), x)
    with evaluating(model):
        x_adv = ctx.ball.step(start, input_gradient(objective, start), alpha, x)

    distance = (logits.softmax(1) - model(x_adv).softmax(1)).square().sum(1).mean()
    yield F.cross_entropy(logits, y, label_smoothing=ctx.smoothing) + weight_now * distance

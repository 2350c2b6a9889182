import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fatbench.interface import Batch, Context, Losses
from fatbench.ops import evaluating, input_gradient, repeating_statistics

# Batch norm is updated by: clean, adversarial, and once more by clean if so set.
PASSES = {"forward": 3, "inputs": 3, "weights": 2, "batch_norm": "2 + clean_twice"}


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
    clean_twice: bool = False,
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
        clean_twice: whether batch norm's running statistics count the clean images once more, after the adversarial
            ones, as a second forward in the authors' loop makes them. Later attacks and every evaluation see it.

    Differences: the authors run the clean train-mode forward twice, before and after the attack. The weights are the
        same then and batch norm uses the batch's own statistics, so output and gradients are too, and here it is one;
        what the second does to the running statistics is `clean_twice`, off by default and on in their recipe. Odd and
        even batches are told apart by their number in the run; they count anew in every epoch. Their weight grows after
        epoch 85 of 100, counted from 0, thus one epoch later than here.
    """
    x, y, _ = batch
    weight_now = weight * (1.0 + (growth - 1.0) * (ctx.progress >= late))
    guided = ctx.step % 2
    with repeating_statistics(model, clean_twice) as repeat:
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
    repeat()
    yield F.cross_entropy(logits, y, label_smoothing=ctx.smoothing) + weight_now * distance

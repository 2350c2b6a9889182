import math

import torch.nn.functional as F
from torch import Tensor, nn

from fatbench.interface import Batch, Context, Losses
from fatbench.ops import input_gradient

PASSES = {"forward": 2, "inputs": 2, "weights": 1, "batch_norm": 2}  # the attack runs in train mode


def zero_grad(model: nn.Module, batch: Batch, ctx: Context, *, quantile: float = 0.35, alpha: float = 2.0) -> Losses:
    """ZeroGrad: a single step that leaves out the pixels with small gradients (Golgooni et al., arXiv 2103.15476).

    Tiny gradients have unreliable signs, and FGSM amplifies them to full steps: catastrophic overfitting feeds on them.
    Pixels under the quantile keep their random start.

    Args:
        quantile: fraction of each image's gradient entries, the smallest, that are left out, in [0, 1] (the authors
            set 0.35 for CIFAR-10, 0.45 for CIFAR-100, 0.7 for SVHN).
        alpha: step size, in units of eps.

    Differences: the authors' quantile lies between two of the sizes, and what is below it is what is below the upper
        one: that one is the threshold here, without torch.quantile's limit on the batch. They compute weight gradients
        in the attack and discard them.
    """
    x, y, _ = batch

    def loss(z: Tensor) -> Tensor:
        return F.cross_entropy(model(z), y, reduction="sum")

    start = ctx.ball.project(x + ctx.ball.sample(x), x)
    gradient = input_gradient(loss, start)
    sizes = gradient.abs().flatten(1)
    threshold = sizes.kthvalue(math.ceil(quantile * (sizes.shape[1] - 1)) + 1, dim=1).values
    large = gradient.masked_fill(gradient.abs() < threshold.view(-1, 1, 1, 1), 0.0)
    x_adv = ctx.ball.step(start, large, alpha, x)
    yield F.cross_entropy(model(x_adv), y, label_smoothing=ctx.smoothing)

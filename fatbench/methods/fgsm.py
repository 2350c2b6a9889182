import torch.nn.functional as F
from torch import Tensor, nn

from fatbench.interface import Batch, Context, Losses
from fatbench.ops import input_gradient

PASSES = {"forward": 2, "inputs": 2, "weights": 1, "batch_norm": 2}  # the attack runs in train mode


def fgsm(model: nn.Module, batch: Batch, ctx: Context, *, alpha: float = 1.0) -> Losses:
    """FGSM training: one full step from the clean image (Goodfellow et al., ICLR 2015).

    The canonical demonstrator of catastrophic overfitting: from a fixed start the model learns to bend its loss.

    Args:
        alpha: step size, in units of eps.

    Differences: the clean loss of the original mixture is left out, as every later paper does.
    """
    x, y, _ = batch

    def loss(z: Tensor) -> Tensor:
        return F.cross_entropy(model(z), y, reduction="sum")

    x_adv = ctx.ball.step(x, input_gradient(loss, x), alpha, x)
    yield F.cross_entropy(model(x_adv), y, label_smoothing=ctx.smoothing)

import torch.nn.functional as F
from torch import Tensor, nn

from fatbench.interface import Batch, Context, Losses
from fatbench.ops import input_gradient

NORMS = ("linf", "l2")
PASSES = {"forward": 2, "inputs": 2, "weights": 1, "batch_norm": 2}  # the attack runs in train mode


def fgsm_rs(model: nn.Module, batch: Batch, ctx: Context, *, alpha: float = 1.25) -> Losses:
    """FGSM-RS, "Fast AT": one step from a uniformly random start (Wong, Rice & Kolter, ICLR 2020).

    A random start inside the ball and a step a little too long keep single-step training from overfitting to FGSM,
    for a while.

    Args:
        alpha: step size, in units of eps (10/255 at eps 8/255 in the paper).

    Differences: the authors' script computes weight gradients in the attack and discards them; here they are not
        computed. The result is the same. L2 is our extension: noise of uniform direction and length, and a step along
        the gradient's direction.
    """
    x, y, _ = batch

    def loss(z: Tensor) -> Tensor:
        return F.cross_entropy(model(z), y, reduction="sum")

    start = ctx.ball.project(x + ctx.ball.sample(x), x)
    x_adv = ctx.ball.step(start, input_gradient(loss, start), alpha, x)
    yield F.cross_entropy(model(x_adv), y, label_smoothing=ctx.smoothing)

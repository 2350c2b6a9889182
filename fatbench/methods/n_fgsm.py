import torch.nn.functional as F
from torch import Tensor, nn

from fatbench.interface import Batch, Context, Losses
from fatbench.ops import input_gradient

NORMS = ("linf", "l2")
REACH = 3.0  # noise and step add up, and are not projected
PASSES = {"forward": 2, "inputs": 2, "weights": 1, "batch_norm": 2}  # the attack runs in train mode


def n_fgsm(
    model: nn.Module, batch: Batch, ctx: Context, *, noise: float = 2.0, alpha: float = 1.0, project: bool = False
) -> Losses:
    """N-FGSM: one step from much noise, with no projection (de Jorge et al., NeurIPS 2022, arXiv 2202.01181).

    The noise is an augmentation rather than part of the attack: larger than the ball, and never clipped off again. It
    keeps single-step training from overfitting to FGSM at radii where FGSM-RS does.

    Args:
        noise: radius of the uniform noise, in units of eps.
        alpha: step size, in units of eps.
        project: project into the ball after the step (the authors' --clip 1); with noise=0 this is fgsm.

    Differences: on SVHN the authors raise eps from 0 in the first 5 epochs, which is left out. L2 is our extension:
        noise of uniform direction and length, and a step along the gradient's direction.
    """
    x, y, _ = batch

    def loss(z: Tensor) -> Tensor:
        return F.cross_entropy(model(z), y, reduction="sum")

    start = (x + ctx.ball.sample(x, noise)).clamp(0.0, 1.0)
    x_adv = ctx.ball.move(start, input_gradient(loss, start), alpha).clamp(0.0, 1.0)
    if project:
        x_adv = ctx.ball.project(x_adv, x)
    yield F.cross_entropy(model(x_adv), y, label_smoothing=ctx.smoothing)

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fatbench.interface import Batch, Context, Losses
from fatbench.ops import differentiable_input_gradient, input_gradient

NOT_COMPILABLE = "torch.compile has no backward pass through a backward pass"
TRAINS_OUTSIDE = "x + noise, where the second gradient is taken, is not clamped, as in the authors' code"
# Going back through the second gradient's backward pass costs one of each.
PASSES = {"forward": 4, "inputs": 4, "weights": 3, "batch_norm": 3}  # batch norm: clean, adversarial, noisy


def grad_align(model: nn.Module, batch: Batch, ctx: Context, *, alpha: float = 1.25, weight: float = 0.2) -> Losses:
    """GradAlign: align the input gradients inside the ball (Andriushchenko & Flammarion, NeurIPS 2020).

    One step is a good attack where the loss is nearly linear, so gradients at the image and at a random point of its
    ball are pulled into line: 1 - their cosine is added to the loss of FGSM training.

    Args:
        alpha: step size, in units of eps; from the clean image anything from 1 on is a full step.
        weight: of the misalignment; the authors' for CIFAR-10 grows with eps: 0.027 at 1/255, 0.063 at 4/255, 0.2 at
            8/255, 0.632 at 12/255, 2 at 16/255.

    Differences: as in the authors' script, the gradient at the image is held constant. The start is the image itself,
        as in the commands of their results; their argparse default is a random one. The script clamps the image to the
        box by maximum and minimum, which halves the gradient that it aligns with at pixels of exactly 0 and 1; here it
        is whole. Gradients are of a sum, theirs of a mean, lest they vanish: a cosine does not notice. Images with a
        gradient of 0 are left out of the mean, as there; where that is all of them, theirs is not a number, here the
        regulariser is 0.
    """
    x, y, _ = batch

    def loss(z: Tensor) -> Tensor:
        return F.cross_entropy(model(z), y, reduction="sum")

    at_x = input_gradient(loss, x)
    x_adv = ctx.ball.step(x, at_x, alpha, x)
    adversarial = F.cross_entropy(model(x_adv), y, label_smoothing=ctx.smoothing)
    nearby = differentiable_input_gradient(loss, x + ctx.ball.sample(x))
    yield adversarial + weight * _misalignment(at_x, nearby)


def _misalignment(at_x: Tensor, nearby: Tensor) -> Tensor:
    """Return 1 - cosine, in [0, 2], its mean over the images that have two gradients; a scalar."""
    one, two = at_x.flatten(1), nearby.flatten(1)
    length_one, length_two = (torch.linalg.vector_norm(gradient, dim=1) for gradient in (one, two))
    both = (length_one > 0) & (length_two > 0)
    smallest = torch.finfo(one.dtype).tiny  # not their product, which may be 0 where they are not
    unit_one, unit_two = (v / n.clamp_min(smallest)[:, None] for v, n in ((one, length_one), (two, length_two)))
    apart = (1 - (unit_one * unit_two).sum(1)) * both
    mean: Tensor = apart.sum() / both.sum().clamp_min(1)
    return mean

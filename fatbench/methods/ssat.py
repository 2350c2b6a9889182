import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fatbench.interface import Batch, Context, Losses
from fatbench.ops import evaluating, input_gradient_with

PASSES = {"forward": "checkpoints + 1", "inputs": 2, "weights": 1, "batch_norm": 1}  # batch norm is updated by the loss


def ssat(model: nn.Module, batch: Batch, ctx: Context, *, checkpoints: int = 3, alpha: float = 1.25) -> Losses:
    """SSAT, "COAT": FGSM-RS, no stronger than it takes (Kim, Lee & Lee, AAAI 2021, arXiv 2010.01799).

    Single-step training can bend the loss so that a part of the step fools the model and the whole does not. So parts
    are tried, and each image is trained on with the smallest that fools.

    Args:
        checkpoints: into how many equal parts the perturbation is cut.
        alpha: step size, in units of eps (10/255 at eps 8/255 in the paper).

    Differences: the authors try an image's parts only while it is right, and images that the noisy start fools not at
        all; here every image is tried on every part, since an update's shapes are fixed, with the same outcome. Eval
        mode until the loss is theirs too: the torchattacks release that they name puts the model into it.
    """
    x, y, _ = batch

    def loss(z: Tensor) -> tuple[Tensor, Tensor]:
        logits = model(z)
        return F.cross_entropy(logits, y, reduction="sum"), logits

    def fooled(logits: Tensor) -> Tensor:
        return (logits.argmax(1) != y).view(-1, 1, 1, 1)

    def smallest_that_fools() -> Tensor:
        part = torch.ones_like(x[:, :1, :1, :1])  # the whole, if no other does
        for k in range(checkpoints - 1, 0, -1):
            part = part.masked_fill(fooled(model(x + k / checkpoints * delta)), k / checkpoints)
        return part.masked_fill(fooled(logits), 0.0)  # wrong under the noise already: the image as it is

    with evaluating(model):
        start = ctx.ball.project(x + ctx.ball.sample(x), x)
        gradient, logits = input_gradient_with(loss, start)
        delta = ctx.ball.step(start, gradient, alpha, x) - x
        with torch.no_grad():
            x_adv = x + smallest_that_fools() * delta
    yield F.cross_entropy(model(x_adv), y, label_smoothing=ctx.smoothing)
